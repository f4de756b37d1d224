"""A whole training run: the stages one after another, each from where it stopped."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from jaxcolor import config as configs
from jaxcolor.config import Config, StageConfig
from jaxcolor.data.photos import Source
from jaxcolor.data.pipeline import Loaded, train_batches
from jaxcolor.data.preprocess import Augment
from jaxcolor.data.sources import make_source
from jaxcolor.errors import UserError
from jaxcolor.models import dual_branch
from jaxcolor.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training.checkpoints import CheckpointError, Checkpoints, compare
from jaxcolor.training.logs import Logs
from jaxcolor.training.stages import STAGES, Stage, partition, stage_config, stages_of, starting_tree
from jaxcolor.training.step import Scalars, TrainState, learning_rate, make_optimizer, make_state, make_step
from jaxcolor.training.stopping import StopRequest, stop_requests
from jaxcolor.weights import released

WEIGHTS_FILE = "weights.safetensors"
SUMMARY_FILE = "summary.json"

Trees = dict[str, Any]


class TrainingError(UserError):
    """Training cannot go on; the message says where and why."""


def run(config: Config, workdir: Path) -> Trees:
    """Train the stages of a config; finished ones are taken from ``workdir``, a stopped one goes on.

    Writes checkpoints (``<stage>/``), ``scalars.jsonl``, ``tensorboard/``, ``config.json``, ``summary.json`` (seconds
    of each stage) and ``weights.safetensors`` (after each stage: the trees so far).

    Returns:
      The trees, host arrays.

    Raises:
      ConfigError, DataError, WeightsError: settings, photos or weights that cannot be used.
      CheckpointError: an earlier stage's result is missing, or ``workdir`` holds another run.
      TrainingError: a loss that is not finite.
      StoppedError: SIGINT or SIGTERM came; the state is saved.
    """
    todo = stages_of(config)
    for name in ("log_every", "checkpoint_every", "keep_checkpoints"):
        if getattr(config, name) < 1:
            raise configs.ConfigError(f"config.{name}: {getattr(config, name)} is less than 1")
    devices = Devices.local(config.mapping)
    for stage in todo:
        _check_stage(config, stage, devices)
    source = make_source(config.data, config.model.side)
    print(source.describe(), flush=True)
    workdir.mkdir(parents=True, exist_ok=True)
    with stop_requests() as stop:
        fresh = jax.device_get(dual_branch.init(config.model, config.seed))
        trees = _given_trees(config, todo, workdir, fresh)
        for stage in todo:
            stop.obey(f"before stage {stage.name}")
            trees[stage.name] = run_stage(config, stage, trees, fresh, source, workdir, devices, stop)
            note = f"{config.name or 'a run'}, after stage {stage.name}"
            released.save(workdir / WEIGHTS_FILE, config.model, trees, note=note)
    return trees


def _check_stage(config: Config, stage: Stage, devices: Devices) -> None:
    """What can be known of a stage's settings before anything is computed."""
    settings = stage_config(config, stage)
    if settings.batch_size % devices.count:
        raise configs.ConfigError(
            f"{stage.name}.batch_size: {settings.batch_size} photos cannot be split evenly over {devices.count} devices"
        )
    if settings.flip and config.data.source == "scenes":
        raise configs.ConfigError(f"{stage.name}.flip: a mirrored scene shows other classes in the same colours")


def _given_trees(config: Config, todo: list[Stage], workdir: Path, fresh: Trees) -> Trees:
    """Trees that the stages need and none of them makes: from ``start_from``, or from this workdir's stages."""
    trees: Trees = {}
    if config.start_from:
        start = released.load(Path(config.start_from))
        differences = compare(configs.to_dict(start.config), configs.to_dict(config.model))
        if differences:
            lines = "\n  ".join(differences)
            raise configs.ConfigError(f"start_from: {config.start_from} holds another model:\n  {lines}")
        # Later stages start from the stages before them, as ever, and not from what the file has of theirs.
        later = {stage.name for stage in todo[1:]}
        trees.update({name: tree for name, tree in start.variables.items() if name not in later})
    made = {stage.name for stage in todo}
    for name in sorted({name for stage in todo for name in stage.needs} - made - set(trees)):
        trees[name] = _finished_tree(config, STAGES[name], workdir, fresh)
    return trees


def _finished_tree(config: Config, stage: Stage, workdir: Path, fresh: Trees) -> Any:
    """The result of a stage that ran before."""
    steps = stage_config(config, stage).steps
    absent = f"{workdir}: stage {stage.name} has not run here; run it first, or give start_from"
    if not (workdir / stage.name).is_dir():
        raise CheckpointError(absent)
    with Checkpoints(workdir / stage.name) as checkpoints:
        if checkpoints.latest() is None:
            raise CheckpointError(absent)
        state = checkpoints.restore(_first_state(config, stage, fresh[stage.name]), _settings(config, stage))
    if int(state.step) < steps:
        raise CheckpointError(f"{workdir}: stage {stage.name} stopped at step {state.step} of {steps}; finish it first")
    return state.variables


def _settings(config: Config, stage: Stage) -> dict[str, Any]:
    """The part of a config that decides the numbers of a stage: what a resumed run must have in common."""
    values = configs.to_dict(config)
    common = ("seed", "sync_batch_norm", "low_chroma", "adam_b1", "adam_b2", "model")
    # How fast photos are read, and from where their sizes are known, changes no number.
    data = {k: v for k, v in values["data"].items() if k not in ("threads", "workers", "index_path")}
    return {"stage": stage.name, **{k: values[k] for k in common}, "data": data, stage.name: values[stage.name]}


def _first_state(config: Config, stage: Stage, tree: Any) -> TrainState:
    settings = stage_config(config, stage)
    return make_state(tree, make_optimizer(config, settings), settings)


def run_stage(
    config: Config,
    stage: Stage,
    trees: Trees,
    fresh: Trees,
    source: Source,
    workdir: Path,
    devices: Devices,
    stop: StopRequest,
) -> Any:
    """Train one stage to its last step, from its last checkpoint if there is one; returns its tree on the host."""
    settings = stage_config(config, stage)
    # What it started from belongs to a stage's own identity, but nobody who only takes its result needs to name it.
    identity = {**_settings(config, stage), "start_from": config.start_from}
    with Checkpoints(workdir / stage.name, config.keep_checkpoints) as checkpoints:
        state = _first_state(config, stage, starting_tree(stage, trees, fresh))
        if checkpoints.latest() is not None:
            state = checkpoints.restore(state, identity)
        # Only now is it known that this run belongs here.
        (workdir / "config.json").write_text(json.dumps(configs.to_dict(config), indent=2) + "\n")
        start = int(state.step)
        trained = sum(p.size for p in partition(state.variables["params"], settings.trained)[0].values())
        if not trained:
            raise configs.ConfigError(
                f"{stage.name}.trained: {settings.trained!r} leaves nothing to train in this model"
            )
        print(
            f"stage {stage.name}: steps {start} to {settings.steps}, {settings.batch_size} photos a step on "
            f"{devices.count} x {devices.kind}, {trained:,} of "
            f"{dual_branch.count_parameters(state.variables['params']):,} parameters trained",
            flush=True,
        )
        if start < settings.steps:
            began = time.monotonic()
            with Logs(workdir, stage.name, start) as logs:
                frozen = {tree: trees[tree] for tree in stage.frozen}
                state = _train(config, stage, state, frozen, source, checkpoints, identity, logs, devices, stop)
            _note_seconds(workdir, stage, time.monotonic() - began, resumed=start > 0)
    return state.variables


def _train(
    config: Config,
    stage: Stage,
    state: TrainState,
    frozen: Trees,
    source: Source,
    checkpoints: Checkpoints,
    identity: Mapping[str, Any],
    logs: Logs,
    devices: Devices,
    stop: StopRequest,
) -> TrainState:
    """The loop itself: from the host state given to the host state after the last step."""
    settings = stage_config(config, stage)
    step = devices.map(
        make_step(config, stage, make_optimizer(config, settings)),
        takes=(REPLICATED, REPLICATED, SPLIT),
        gives=(REPLICATED, REPLICATED),
        donate=(0,),
    )
    start = int(state.step)
    on_device, frozen = devices.replicate(state), devices.replicate(frozen)
    pending = _Pending(stage, settings, logs, devices)
    batches = train_batches(
        source,
        config.data,
        parts=stage.parts,
        side=config.model.side,
        batch_size=settings.batch_size,
        augment=Augment(settings.flip, settings.crop_area, settings.crop_aspect, settings.crop_visible),
        device_count=devices.count,
        start_step=start,
    )
    with (
        batches,
        tqdm(total=settings.steps, initial=start, desc=stage.name, unit="step", dynamic_ncols=True) as bar,
    ):
        ahead = devices.ahead(islice(batches, settings.steps - start), lambda loaded: loaded.batch)
        for number in range(start + 1, settings.steps + 1):
            loaded, batch = next(ahead)
            on_device, scalars = step(on_device, frozen, batch)
            pending.add(number, scalars, loaded)
            bar.update()
            last = number == settings.steps or bool(stop)
            if last or number % config.log_every == 0:
                bar.set_postfix_str(pending.write())
            if last or number % config.checkpoint_every == 0:
                pending.write()
                checkpoints.save(devices.fetch(on_device), identity)
            # After the very last step there is nothing left to stop.
            if number < settings.steps or stage.name != config.stages[-1]:
                stop.obey(f"in stage {stage.name} after step {number}")
    if pending.dropped_crops:
        print(
            f"  {pending.dropped_crops} crops of low score found no place: "
            f"data.budget_per_image is {config.data.budget_per_image}",
            flush=True,
        )
    if pending.gray_photos:
        print(f"  {pending.gray_photos} visits of gray photos; data.gray_photos 'skip' leaves them out", flush=True)
    return devices.fetch(on_device)


class _Pending:
    """Scalars of steps that may still be running; fetched together, so that the device is seldom waited for."""

    def __init__(self, stage: Stage, settings: StageConfig, logs: Logs, devices: Devices) -> None:
        self._stage, self._settings, self._logs, self._devices = stage, settings, logs, devices
        self._schedule = learning_rate(settings)
        self._rows: list[tuple[int, Scalars, dict[str, int]]] = []
        self._since = time.monotonic()
        self._line = ""
        self.dropped_crops = 0
        self.gray_photos = 0

    def add(self, number: int, scalars: Scalars, loaded: Loaded) -> None:
        self._rows.append((number, scalars, loaded.counts))
        self.dropped_crops += loaded.dropped_crops
        self.gray_photos += loaded.gray_photos

    def write(self) -> str:
        """Wait for the steps added since the last call and log them; returns a word for the progress bar.

        Raises:
          TrainingError: a loss is not finite.
        """
        if not self._rows:
            return self._line
        fetched = [self._devices.fetch(scalars) for _, scalars, _ in self._rows]
        seconds = time.monotonic() - self._since
        rate = len(self._rows) * self._settings.batch_size / seconds
        for (number, _, counts), scalars in zip(self._rows, fetched, strict=True):
            if not math.isfinite(scalars.loss):
                self._logs.flush()
                raise TrainingError(
                    f"stage {self._stage.name}, step {number}: the loss is {float(scalars.loss)}; "
                    "lower its learning_rate, or look at the photos"
                )
            self._logs.write(
                number,
                {
                    "loss": float(scalars.loss),
                    "grad_norm": float(scalars.grad_norm),
                    "learning_rate": float(self._schedule(number - 1)),
                    "valid_photos": float(scalars.valid),
                    **counts,
                    "photos_per_second": rate,
                },
            )
        self._logs.flush()
        mean = sum(float(s.loss) for s in fetched) / len(fetched)
        self._line = f"loss {mean:.4f}, {rate:.1f} photos/s"
        self._rows, self._since = [], time.monotonic()
        return self._line


def _note_seconds(workdir: Path, stage: Stage, seconds: float, resumed: bool) -> None:
    """Add a stage's seconds to ``summary.json``; a stage begun anew starts at 0."""
    path = workdir / SUMMARY_FILE
    summary = json.loads(path.read_text()) if path.exists() else {"train_seconds": {}}
    before = summary["train_seconds"].get(stage.name, 0.0) if resumed else 0.0
    summary["train_seconds"][stage.name] = round(before + seconds, 1)
    path.write_text(json.dumps(summary, indent=2) + "\n")

"""A whole training run: the stages one after another, each from where it stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from jaxcolor import config as configs
from jaxcolor.config import Config
from jaxcolor.data.sources.registry import make_source
from jaxcolor.data.types import Source
from jaxcolor.models import networks
from jaxcolor.models.backbone import backbone_class
from jaxcolor.runtime.atomic import write_text
from jaxcolor.runtime.parallel import Devices
from jaxcolor.training import workdirs
from jaxcolor.training.checkpoints import CheckpointError, Checkpoints, Keep, saved_steps
from jaxcolor.training.compatibility import reconcile_steps, tree_digests
from jaxcolor.training.epochs import resolve_epochs
from jaxcolor.training.logs import Logs
from jaxcolor.training.loop import Measure, train_loop
from jaxcolor.training.monitor import parse_profile_steps
from jaxcolor.training.optimizer import make_optimizer
from jaxcolor.training.param_table import param_table
from jaxcolor.training.preemption import StopRequest, stop_requests
from jaxcolor.training.provenance import provenance
from jaxcolor.training.stages import STAGES, Stage, partition, stage_config, stages_of, starting_tree
from jaxcolor.training.step import TrainState, eval_variables, make_state
from jaxcolor.weights import native, vgg16
from jaxcolor.weights.native import NativeWeights
from jaxcolor.weights.pretrained import load_pretrained

WEIGHTS_FILE = "weights.safetensors"
START_FILE = "start.safetensors"
SUMMARY_FILE = "summary.json"
CONFIG_FILE = workdirs.CONFIG_FILE

Trees = dict[str, Any]


def train(config: Config, workdir: Path, measure: Measure | None = None) -> Trees:
    """Train the stages of a config; finished ones are taken from ``workdir``, a stopped one goes on.

    Writes checkpoints (``<stage>/``), ``scalars.jsonl``, ``tensorboard/``, ``config.json``, ``summary.json`` (seconds
    of each stage), ``weights.safetensors`` (after each stage: the trees so far) and, for a run that starts from VGG16,
    ``start.safetensors``. Each file is there whole or not at all, so that a run killed at any moment goes on, bit for
    bit, from its last checkpoint.

    Args:
      config: of the run.
      workdir: its folder.
      measure: what ``config.eval_every`` asks for, see ``evaluation.run.DuringTraining``.

    Returns:
      The trees, host arrays.

    Raises:
      ConfigError, DataError, WeightsError: settings, photos or weights that cannot be used.
      CheckpointError: an earlier stage's result is missing, or ``workdir`` holds another run.
      WorkdirError: ``workdir`` cannot be written to, or is not what ``config.resume`` says.
      TrainingError: a loss that is not finite.
      StoppedError: SIGINT or SIGTERM came; the state is saved.
    """
    todo = stages_of(config)
    for name in ("log_every", "checkpoint_every", "keep_checkpoints"):
        if getattr(config, name) < 1:
            raise configs.ConfigError(f"config.{name}: {getattr(config, name)} is less than 1")
    for name in ("eval_every", "patience"):
        if getattr(config, name) < 0:
            raise configs.ConfigError(f"config.{name}: {getattr(config, name)} is negative; 0 is never")
    if config.keep_best and not config.eval_every:
        raise configs.ConfigError(f"config.keep_best: {config.keep_best!r} is measured nowhere; give eval_every too")
    if config.eval_every and measure is None:
        raise ValueError("config.eval_every asks for measurements, and there is no function to measure with")
    parse_profile_steps(config.profile_steps)  # what is wrong with them shows at once
    if config.keep_every < 0 or config.keep_every % config.checkpoint_every:
        raise configs.ConfigError(
            f"config.keep_every: {config.keep_every} is no multiple of checkpoint_every, {config.checkpoint_every}; "
            "only what is saved can be kept"
        )
    devices = Devices.all(config.mapping)
    if config.cuda_graphs and jax.default_backend() == "gpu" and devices.count > 1:
        # With two, XLA of jaxlib 0.11.2 aborted the program in the first step; docs/performance.md says more.
        raise configs.ConfigError(
            f"config.cuda_graphs: True is for one GPU, and here are {devices.count}; give False, or show the program "
            "one alone (CUDA_VISIBLE_DEVICES=0)"
        )
    for stage in todo:
        _check_stage(config, stage, devices)
    workdirs.check(workdir, config.resume, [stage.name for stage in todo])
    source = make_source(config.data, config.model.side)
    devices.say(source.describe())
    # Before anything reads steps: those of a stage that only gives its result are asked for, too.
    needed = {name for stage in todo for name in (stage.name, *stage.needs)}
    config, lines = resolve_epochs(config, [STAGES[name] for name in STAGES if name in needed], source)
    for line in lines:
        devices.say(line)
    if devices.is_first:
        workdirs.prepare(workdir)
    devices.gather(None)  # nobody goes on before the folder is there
    about = provenance(config, source)
    with stop_requests() as stop:
        fresh = jax.device_get(networks.init(config.model, config.seed))
        trees, from_file = _given_trees(config, todo, workdir, fresh, source, about, devices)
        for stage in todo:
            if devices.process_count > 1:
                stop.agree(devices)
            stop.obey(f"before stage {stage.name}")
            # Stage instance makes no photo that could be measured.
            measured = None if stage.name == "instance" else measure
            trees[stage.name] = run_stage(config, stage, trees, fresh, source, workdir, about, devices, stop, measured)
            note = f"{config.name or 'a run'}, after stage {stage.name}{from_file}"
            if devices.is_first:
                native.save(workdir / WEIGHTS_FILE, config.model, trees, note=note)
    return trees


def _check_stage(config: Config, stage: Stage, devices: Devices) -> None:
    """What can be known of a stage's settings before anything is computed."""
    settings = stage_config(config, stage)
    if settings.batch_size % (devices.count * settings.accumulate):
        parts = f", each in {settings.accumulate} parts (accumulate)" if settings.accumulate > 1 else ""
        raise configs.ConfigError(
            f"{stage.name}.batch_size: {settings.batch_size} photos cannot be split evenly over "
            f"{devices.count} devices{parts}"
        )
    if stage.name == "fusion" and config.model.fusion.strategy == "truth_mask" and not config.data.masks:
        raise configs.ConfigError(
            "model.fusion.strategy: 'truth_mask' weighs by annotated masks; set data.masks (and data.box_choice "
            "'ground_truth')"
        )
    if settings.flip and config.data.source == "scenes":
        raise configs.ConfigError(f"{stage.name}.flip: a mirrored scene shows other classes in the same colours")


def _given_trees(
    config: Config,
    todo: list[Stage],
    workdir: Path,
    fresh: Trees,
    source: Source,
    about: Mapping[str, Any],
    devices: Devices,
) -> tuple[Trees, str]:
    """Trees that the stages need and none of them makes: from ``start_from``, or from this workdir's stages.

    Also what is to be noted of where they are from.
    """
    trees: Trees = {}
    from_file = ""
    if config.start_from:
        start = _start(config, source, workdir, devices)
        devices.say(start.note)
        from_file = f"; {start.note}"
        # Later stages start from the stages before them, as ever, and not from what the file has of theirs.
        later = {stage.name for stage in todo[1:]}
        trees.update({name: tree for name, tree in start.variables.items() if name not in later})
    made = {stage.name for stage in todo}
    for name in sorted({name for stage in todo for name in stage.needs} - made - set(trees)):
        trees[name] = _finished_tree(config, STAGES[name], workdir, fresh, about)
    return trees, from_file


def _start(config: Config, source: Source, workdir: Path, devices: Devices) -> NativeWeights:
    """What ``start_from`` names.

    VGG16's norms are computed, and no two machines round alike: by one process, and once, so that a run that goes on
    finds the weights that it began with.
    """
    if not vgg16.is_named(config.start_from):
        return load_pretrained(config)
    vgg16.check(config)
    path = workdir / START_FILE
    if devices.is_first and not (path.exists() and saved_steps(workdir / "full")):
        start = load_pretrained(config, source)
        native.save(path, config.model, start.variables, note=start.note)
    devices.gather(None)  # nobody reads before it is there
    return native.load(path)


def _finished_tree(config: Config, stage: Stage, workdir: Path, fresh: Trees, about: Mapping[str, Any]) -> Any:
    """The result of a stage that ran before."""
    steps = stage_config(config, stage).steps
    absent = f"{workdir}: stage {stage.name} has not run here; run it first, or give start_from"
    if not (workdir / stage.name).is_dir():
        raise CheckpointError(absent)
    with Checkpoints(workdir / stage.name, origin=about) as checkpoints:
        if checkpoints.latest() is None:
            raise CheckpointError(absent)
        state = _restore(checkpoints, config, stage, _first_state(config, stage, fresh[stage.name]), {})
    if int(state.step) < steps:
        raise CheckpointError(f"{workdir}: stage {stage.name} stopped at step {state.step} of {steps}; finish it first")
    return eval_variables(state)


def _settings(config: Config, stage: Stage) -> dict[str, Any]:
    """The part of a config that decides the numbers of a stage: what a resumed run must have in common."""
    values = configs.to_dict(config)
    common = ("seed", "sync_batch_norm", "low_chroma", "optimizer", "model")
    # How fast photos are read, and from where their sizes are known, changes no number.
    data = {k: v for k, v in values["data"].items() if k not in ("threads", "workers", "index_path")}
    return {"stage": stage.name, **{k: values[k] for k in common}, "data": data, stage.name: values[stage.name]}


def _restore(
    checkpoints: Checkpoints, config: Config, stage: Stage, like: TrainState, more: Mapping[str, Any]
) -> TrainState:
    """The last checkpoint of a stage, if it is of this config and of ``more``; ``steps`` may differ (``past``)."""
    ours = {**_settings(config, stage), **more}
    return checkpoints.restore(
        like,
        ours,
        other_data=config.other_data == "accept",
        amend=lambda theirs, step: reconcile_steps(theirs, ours, stage, step, checkpoints.folder.parent),
    )


def _first_state(config: Config, stage: Stage, tree: Any) -> TrainState:
    settings = stage_config(config, stage)
    return make_state(tree, make_optimizer(config, settings), settings, backbone_class(config.model).output_layers)


def run_stage(
    config: Config,
    stage: Stage,
    trees: Trees,
    fresh: Trees,
    source: Source,
    workdir: Path,
    about: Mapping[str, Any],
    devices: Devices,
    stop: StopRequest,
    measure: Measure | None,
) -> Any:
    """Train one stage to its last step, from its last checkpoint if there is one; returns its tree on the host."""
    settings, backbone = stage_config(config, stage), backbone_class(config.model)
    # What it started from belongs to a stage's own identity, but nobody who only takes its result needs to name it.
    begun_from = tree_digests({name: tree for name, tree in trees.items() if name in (stage.name, *stage.needs)})
    begun = {"start_from": config.start_from, "begun_from": begun_from}
    identity = {**_settings(config, stage), **begun}
    keep = Keep(config.keep_checkpoints, config.keep_every, config.keep_best)
    with Checkpoints(workdir / stage.name, keep, about) as checkpoints:
        state = _first_state(config, stage, starting_tree(stage, trees, fresh))
        if checkpoints.latest() is not None:
            state = _restore(checkpoints, config, stage, state, begun)
        # Only now is it known that this run belongs here.
        if devices.is_first:
            write_text(workdir / CONFIG_FILE, json.dumps(configs.to_dict(config), indent=2) + "\n")
        start = int(state.step)
        if not partition(state.variables["params"], settings.trained, backbone.output_layers)[0]:
            raise configs.ConfigError(
                f"{stage.name}.trained: {settings.trained!r} leaves nothing to train in this model"
            )
        table = param_table(stage, {**trees, stage.name: state.variables}, settings, backbone)
        devices.say(
            f"stage {stage.name}: steps {start} to {settings.steps}, {settings.batch_size} photos a step on "
            f"{devices.count} x {devices.kind}\n" + table
        )
        if start < settings.steps:
            began = time.monotonic()
            with Logs(workdir, stage.name, start, write=devices.is_first) as logs:
                state = train_loop(
                    config, stage, state, trees, source, checkpoints, identity, logs, devices, stop, measure
                )
            if devices.is_first:
                _note_seconds(workdir, stage, time.monotonic() - began, resumed=start > 0)
        elif devices.is_first:  # a run killed between its last checkpoint and this has noted nothing
            _note_seconds(workdir, stage, 0.0, resumed=True)
    return eval_variables(state)


def _note_seconds(workdir: Path, stage: Stage, seconds: float, resumed: bool) -> None:
    """Add a stage's seconds to ``summary.json``; a stage begun anew starts at 0. Those of a killed run are lost."""
    path = workdir / SUMMARY_FILE
    summary = json.loads(path.read_text()) if path.exists() else {"train_seconds": {}}
    before = summary["train_seconds"].get(stage.name, 0.0) if resumed else 0.0
    summary["train_seconds"][stage.name] = round(before + seconds, 1)
    write_text(path, json.dumps(summary, indent=2) + "\n")

"""Running an ablation: the shared stages, then each variant: trained if need be, measured, and stored."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from flax import traverse_util

from jaxcolor.ablation.comparison import Comparison, compare_variants
from jaxcolor.ablation.cost import count_cost
from jaxcolor.ablation.outcome import Outcome, read_outcome, write_outcome
from jaxcolor.ablation.picture import draw
from jaxcolor.ablation.plan import FUSION_ALONE, SHARED, Ablation, Planned, identity, plan, trains
from jaxcolor.ablation.tables import latex, markdown
from jaxcolor.config import Config, ConfigError
from jaxcolor.data.types import DataError
from jaxcolor.evaluation.run import DuringTraining, eval_source, measure
from jaxcolor.models import networks
from jaxcolor.registries import import_parts
from jaxcolor.runtime.atomic import write_text
from jaxcolor.runtime.owner import owned_folder
from jaxcolor.runtime.text import duration
from jaxcolor.training import train
from jaxcolor.training.compatibility import tree_digests
from jaxcolor.training.preemption import stop_requests
from jaxcolor.training.stages import STAGES, starting_tree
from jaxcolor.weights import native
from jaxcolor.weights.pretrained import load_pretrained

START_FILE = "start.safetensors"
TABLE = "ablation"

Trees = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class _Run:
    """One variant with one seed."""

    variant: Planned
    seed: int
    folder: Path

    @property
    def config(self) -> Config:
        return self.variant.seeded(self.seed)

    @property
    def own_weights(self) -> bool:
        """Whether it trains, and no other variant does so for it."""
        return trains(self.config) and self.variant.weights_of == self.variant.name

    def __str__(self) -> str:
        return f"variant {self.variant.name}, seed {self.seed}"


def run_ablation(ablation: Ablation, workdir: Path) -> Comparison:
    """Train and measure what is not finished yet, and write the table.

    Below ``workdir``: ``shared/`` (the stages trained once, and ``start.safetensors``), ``<variant>/seed<k>/`` (a
    training's own files, then ``scores.npz`` and ``result.json``), and ``ablation.md``, ``.tex``, ``.json``, ``.png``.
    A run that was stopped is resumed; finished ones are left alone.

    Args:
      ablation: what to compare.
      workdir: its folder; made if it is not there.

    Returns:
      The comparison, as written.

    Raises:
      ConfigError: a variant that cannot be.
      AblationError: a finished run is of another config, or variants were measured on different photos.
      StoppedError: SIGINT or SIGTERM came; the same command resumes.
      FolderInUseError: another run is at work in ``workdir``.
      UserError: see ``training.train.train`` and ``evaluation.run.measure``.
    """
    with owned_folder(workdir, "--workdir"):
        return _run_ablation(ablation, workdir)


def _run_ablation(ablation: Ablation, workdir: Path) -> Comparison:
    variants = plan(ablation)
    for config in (ablation.base, *(variant.config for variant in variants)):
        import_parts(config.model)  # weights may then name them
    runs = [
        _Run(variant, seed, workdir / variant.name / f"seed{seed}")
        for seed in range(ablation.seeds)
        for variant in variants
        if seed == 0 or trains(variant.config)
    ]
    # Fails before anything is trained if a finished run is of another config.
    finished = {run.folder for run in runs if read_outcome(run.folder, identity(run.config)) is not None}
    todo = [run for run in runs if run.folder not in finished]
    _check_photos(todo)
    with stop_requests() as stop:
        start: Trees = {}
        if any(run.config.stages == FUSION_ALONE for run in todo):
            start = shared_start(ablation, workdir / SHARED)
        begun_from = tree_digests(start)
        clock = _Clock(todo)
        outcomes: dict[str, list[Outcome]] = {}
        for number, run in enumerate(runs, start=1):
            where = f"run {number} of {len(runs)}: {run}"
            kept = read_outcome(run.folder, identity(run.config), begun_from if _shares(run) and start else None)
            if kept is not None:
                print(f"{where}: finished before", flush=True)
            else:
                stop.obey(f"before {run}")
                print(f"{where}{clock.left()}", flush=True)
                with clock.timing(run):
                    kept = _run(run, start, workdir)
                    write_outcome(run.folder, kept, identity(run.config), begun_from if _shares(run) else {})
            outcomes.setdefault(run.variant.name, []).append(kept)
    comparison = compare_variants(ablation.name, ablation.baseline, outcomes, ablation.metrics)
    write_comparison(comparison, workdir)
    return comparison


def _check_photos(todo: Sequence[_Run]) -> None:
    """What is wrong with the photos to measure on shows before hours of training."""
    checked = []
    for run in todo:
        if run.config.eval.data not in checked:
            try:
                eval_source(run.config, run.config.model)
            except DataError as error:
                raise DataError(f"{run}: {error}") from error
            checked.append(run.config.eval.data)


def _shares(run: _Run) -> bool:
    return run.config.stages == FUSION_ALONE


def write_comparison(comparison: Comparison, workdir: Path) -> None:
    """The table as ``ablation.md``, ``.tex``, ``.json``, and its differences as ``.png``."""
    write_text(workdir / f"{TABLE}.md", markdown(comparison) + "\n")
    write_text(workdir / f"{TABLE}.tex", latex(comparison) + "\n")
    text = json.dumps(comparison.to_json(), indent=2, allow_nan=False, ensure_ascii=False)
    write_text(workdir / f"{TABLE}.json", text + "\n")
    draw(comparison, workdir / f"{TABLE}.png")


def shared_start(ablation: Ablation, folder: Path) -> Trees:
    """The trees that variants start from: trained here, or those of ``base.start_from``; kept in ``folder``.

    Raises:
      ConfigError: ``base.start_from`` has not both of ``full`` and ``instance``.
    """
    base = ablation.base
    if ablation.shared:
        print(f"shared by all variants: stages {' and '.join(ablation.shared)}", flush=True)
        config = dataclasses.replace(base, stages=ablation.shared)
        trees: Trees = train.train(config, folder, DuringTraining(config) if config.eval_every else None)
        trees = {name: trees[name] for name in ("full", "instance")}
    else:
        pretrained = load_pretrained(base)
        print("\n".join([pretrained.note, *pretrained.unused]), flush=True)
        trees = pretrained.variables
    missing = [name for name in ("full", "instance") if name not in trees]
    if missing:
        raise ConfigError(f"base.start_from: {base.start_from} has no tree {missing[0]}; shared=('full', 'instance')")
    folder.mkdir(parents=True, exist_ok=True)
    # Without a fusion tree, which would be continued where each variant is to start its own.
    backbones = {name: trees[name] for name in ("full", "instance")}
    native.save(folder / START_FILE, base.model, backbones, note=f"start of ablation {ablation.name}")
    return trees


def _run(run: _Run, start: Trees, workdir: Path) -> Outcome:
    """Weights, then numbers."""
    config = run.config
    trainer = run.folder
    if run.own_weights:
        if _shares(run):
            # Absolute: the same from wherever the command is given, since it is part of a checkpoint's identity.
            path = (workdir / SHARED / START_FILE).absolute()
            config = dataclasses.replace(config, start_from=str(path), start_form="auto")
        trees: Trees = train.train(config, run.folder, DuringTraining(config) if config.eval_every else None)
    elif trains(config):
        trainer = workdir / run.variant.weights_of / f"seed{run.seed}"
        trees = native.load(trainer / train.WEIGHTS_FILE).variables
    else:
        trees = untrained(config, start)
    results = measure(config, config.model, trees, controls=False)
    summary = trainer / train.SUMMARY_FILE
    seconds = json.loads(summary.read_text())["train_seconds"] if summary.exists() else {}
    cost = count_cost(
        config, trees, math.fsum(seconds.values()) if trains(config) else 0.0, float(results.boxes.mean())
    )
    weights_of = run.variant.weights_of if trainer != run.folder else ""
    return Outcome(results.names, results.scores, cost, weights_of)


def untrained(config: Config, start: Trees) -> Trees:
    """All three trees of a variant that trains nothing.

    Its fusion tree is that of the start, as far as the variant's model has its arrays; or, where the start has none,
    what training would start with: its trunk a copy of the full tree.

    Raises:
      ConfigError: the start's fusion tree lacks arrays that the variant's model has.
    """
    if "fusion" not in start:
        fresh = jax.device_get(networks.init(config.model, config.seed))
        return {**start, "fusion": starting_tree(STAGES["fusion"], start, fresh)}
    wanted = traverse_util.flatten_dict(networks.abstract(config.model)["fusion"])
    there = traverse_util.flatten_dict(dict(start["fusion"]))
    missing = ["/".join(path) for path, like in wanted.items() if path not in there or there[path].shape != like.shape]
    if missing:
        raise ConfigError(
            f"base.start_from: its fusion tree has not all that a variant without training needs: {missing[0]}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        )
    return {**start, "fusion": traverse_util.unflatten_dict({path: there[path] for path in wanted})}


class _Clock:
    """How long the rest will take, judged by what ran in this session."""

    def __init__(self, todo: list[_Run]) -> None:
        self._left = [run.own_weights for run in todo]
        self._taken: dict[bool, list[float]] = {True: [], False: []}
        self._since = 0.0
        self._kind = False

    def left(self) -> str:
        """In words; empty as long as there is nothing to judge by."""
        if not all(self._taken[kind] for kind in set(self._left)):
            return ""
        seconds = sum(math.fsum(self._taken[kind]) / len(self._taken[kind]) for kind in self._left)
        return f" (about {duration(seconds)} left for this and all after it)"

    def timing(self, run: _Run) -> _Clock:
        """A block that runs it."""
        self._kind = run.own_weights
        return self

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self._taken[self._kind].append(time.monotonic() - self._since)
            self._left.remove(self._kind)

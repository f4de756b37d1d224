"""A whole training run: the stages one after another, each resumed where it stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from jaxcolor.config import Config, ConfigError, StageConfig
from jaxcolor.config_io import to_dict
from jaxcolor.data.loader import photos_for
from jaxcolor.data.sources.registry import make_source
from jaxcolor.data.types import Source
from jaxcolor.models import networks
from jaxcolor.models.backbone import backbone_class
from jaxcolor.registries import TRACKERS, import_parts
from jaxcolor.runtime.main_guard import check_main_guard
from jaxcolor.runtime.owner import owned_folder
from jaxcolor.runtime.parallel import Devices
from jaxcolor.runtime.places import local_path
from jaxcolor.runtime.text import counted
from jaxcolor.training import distillation, prior, workdirs
from jaxcolor.training.checkpoints import CheckpointError, Checkpoints, Keep, saved_steps, set_damaged_aside
from jaxcolor.training.clock import Clock
from jaxcolor.training.compatibility import reconcile_steps, stage_settings, tree_digests
from jaxcolor.training.crop_budget import budget_line
from jaxcolor.training.logs import Logs
from jaxcolor.training.loop import Measure, Run, train_loop
from jaxcolor.training.monitor import parse_profile_steps
from jaxcolor.training.optimizer import make_optimizer
from jaxcolor.training.param_table import param_table
from jaxcolor.training.preemption import stop_requests
from jaxcolor.training.provenance import provenance
from jaxcolor.training.stages import (
    STAGES,
    Stage,
    check_stage,
    partition,
    resolve_epochs,
    stage_config,
    stages_of,
    starting_tree,
)
from jaxcolor.training.step import TrainState, eval_variables, make_state
from jaxcolor.weights import native, vgg16
from jaxcolor.weights.locate import WEIGHTS_FILE
from jaxcolor.weights.pretrained import Pretrained, load_pretrained

START_FILE = "start.safetensors"
SUMMARY_FILE = workdirs.SUMMARY_FILE
CONFIG_FILE = workdirs.CONFIG_FILE

Trees = dict[str, Any]


def train(config: Config, workdir: Path, measure: Measure | None = None) -> Trees:
    """Train the stages of a config; finished ones are read from ``workdir``, a stopped one is resumed.

    Writes checkpoints (``<stage>/``), ``scalars.jsonl``, ``tensorboard/``, ``config.json``, ``summary.json`` (seconds
    of each stage), ``weights.safetensors`` (with each checkpoint: the trees so far) and, for a run that starts from
    VGG16, ``start.safetensors``. Each file is written whole or not at all, so that a run killed at any moment resumes,
    bit for bit, from its last checkpoint.

    Args:
      config: of the run.
      workdir: its folder.
      measure: the evaluation that ``config.eval_every`` asks for, see ``evaluation.run.DuringTraining``.

    Returns:
      The trees, host arrays.

    Raises:
      ConfigError, DataError, WeightsError: settings, photos or weights that cannot be used.
      CheckpointError: an earlier stage's result is missing, or ``workdir`` holds another run.
      FolderInUseError: another run is at work in ``workdir``.
      WorkdirError: ``workdir`` cannot be written to, or is not what ``config.resume`` says.
      TrainingError: a loss that is not finite.
      StoppedError: SIGINT or SIGTERM came; the state is saved.
    """
    check_main_guard()
    stages = stages_of(config)
    workdir = Path(local_path(workdir, "--workdir"))
    devices = Devices.all(config.mapping)
    _check(config, stages, devices, measure)
    workdirs.check(workdir, config.resume, [stage.name for stage in stages])
    with owned_folder(workdir, "--workdir", devices):
        return _train(config, workdir, measure, stages, devices)


def _train(config: Config, workdir: Path, measure: Measure | None, stages: list[Stage], devices: Devices) -> Trees:
    """The run, in a folder of its own."""
    teacher = distillation.load(config)
    pretrained = _load_pretrained(config, stages)
    source = make_source(config.data, config.model.side)
    # Steps are needed also of those stages of which only the result is read.
    needed = {name for stage in stages for name in (stage.name, *stage.needs)}
    for stage in stages:
        photos_for(source, stage.parts)  # before hours of the stages before it
    config, lines = resolve_epochs(config, [STAGES[name] for name in STAGES if name in needed], source)
    steps = ", ".join(f"{stage.name} {_length(stage_config(config, stage))}" for stage in stages)
    devices.say(
        f"training on {devices.count} x {devices.kind}, {config.model.compute_dtype}: {counted(len(source), 'photo')}; "
        f"steps: {steps}; results go to {workdir}"
    )
    starts = [pretrained.note, "" if teacher is None else teacher.note]
    budgets = [budget_line(config, stage, source, devices.count) for stage in stages]
    for line in filter(None, (source.describe(), *starts, *pretrained.unused, *lines, *budgets)):
        devices.say(line)
    if devices.is_first:
        workdirs.prepare(workdir)
    devices.gather(None)  # a barrier: the folder exists
    if vgg16.is_named(config.start_from):
        pretrained = _from_vgg16(config, source, workdir, devices)
    with stop_requests() as stop:
        vgg = vgg16.parameters(config.objective.vgg16) if config.objective.perceptual else None
        origin = provenance(config, source)
        note = "; ".join(filter(None, [pretrained.note, "" if teacher is None else teacher.note]))
        run = Run(config, workdir, source, devices, stop, origin, measure, vgg, note, teacher)
        fresh = prior.with_class_weights(jax.device_get(networks.init(config.model, config.seed)), config)
        fresh = fresh if teacher is None else distillation.with_class_weights(fresh, teacher)
        trees = dict(pretrained.variables)
        for name in _missing_trees(stages, trees):
            trees[name] = _finished_tree(run, STAGES[name], fresh[name])
        for stage in stages:
            if devices.process_count > 1:
                stop.agree(devices)
            stop.obey(f"before stage {stage.name}")
            trees[stage.name] = _run_stage(run, stage, trees, fresh)
            if devices.is_first:
                run.write_weights(workdir / WEIGHTS_FILE, stage, trees)
    return trees


def _run_stage(run: Run, stage: Stage, trees: Trees, fresh: Trees) -> Any:
    """Train one stage to its last step, from its last checkpoint if there is one; returns its tree on the host."""
    config, workdir, devices = run.config, run.workdir, run.devices
    settings, backbone = stage_config(config, stage), backbone_class(config.model)
    # Part of the stage's own identity; a later stage that only reads its result need not know it.
    begun_from = tree_digests({name: tree for name, tree in trees.items() if name in (stage.name, *stage.needs)})
    if run.teacher is not None:
        begun_from |= tree_digests({"teacher": run.teacher.variables})
    started = {"begun_from": begun_from}
    keep = Keep(config.keep_checkpoints, config.keep_every, config.keep_best)
    _set_damaged_aside(run, stage)
    with Checkpoints(workdir / stage.name, keep, run.origin) as checkpoints:
        state = _first_state(config, stage, starting_tree(stage, trees, fresh))
        if checkpoints.latest() is not None:
            state = _restore(checkpoints, config, stage, state, started)
        if devices.is_first:  # only now is it known that this run belongs here
            workdirs.write_config(workdir, to_dict(config))
        done = int(state.step)
        clock = Clock(checkpoints.folder, settings, done, devices) if settings.minutes else None
        if not partition(state.variables["params"], settings.trained, backbone)[0]:
            raise ConfigError(f"{stage.name}.trained: {settings.trained!r} leaves nothing to train in this model")
        table = param_table(stage, {**trees, stage.name: state.variables}, settings, backbone, config.optimizer.rates)
        devices.say(
            f"stage {stage.name}: steps {done} to {_length(settings)}, batch size {settings.batch_size} on "
            f"{devices.count} x {devices.kind}\n{table}"
        )
        began = time.monotonic()
        if done < settings.steps if clock is None else done != clock.last_step:
            identity = {**stage_settings(config, stage), **started}
            with Logs(workdir, config, stage.name, done, write=devices.is_first) as logs:
                state = train_loop(run, stage, state, trees, checkpoints, identity, logs, clock)
        if devices.is_first:
            workdirs.add_seconds(workdir, stage.name, time.monotonic() - began, resumed=done > 0)
    return eval_variables(state)


def _check(config: Config, stages: list[Stage], devices: Devices, measure: Measure | None) -> None:
    """What can be known before anything is read or computed, beyond what ``Config`` itself checks."""
    if config.eval_every and measure is None:
        raise ValueError("config.eval_every asks for evaluations, and there is no function to measure with")
    parse_profile_steps(config.profile_steps)
    distillation.check(config)
    import_parts(config.model)
    for name in config.tracker_names:
        TRACKERS.get(name)
    if config.cuda_graphs and jax.default_backend() == "gpu" and devices.process_count > 1:
        # On two GPUs of one process graphs gave the same bits; of several nobody knows (docs/performance.md).
        raise ConfigError(
            f"config.cuda_graphs: True is for one process, and here are {devices.process_count}; give False, or train "
            "on one host, in one process"
        )
    for stage in stages:
        check_stage(config, stage, devices.count)


def _load_pretrained(config: Config, stages: list[Stage]) -> Pretrained:
    """The trees of ``start_from`` that this run uses; none without it."""
    if vgg16.is_named(config.start_from):
        vgg16.check(config)  # it is computed from photos, which are not there yet (_from_vgg16)
    if not config.start_from or vgg16.is_named(config.start_from):
        return Pretrained({}, "", ())
    found = load_pretrained(config)
    # Later stages start from the stages before them, and not from what the file has of theirs.
    later = {stage.name for stage in stages[1:]}
    return found._replace(variables={name: tree for name, tree in found.variables.items() if name not in later})


def _from_vgg16(config: Config, source: Source, workdir: Path, devices: Devices) -> Pretrained:
    """VGG16 as the start of stage full.

    Its norms are computed from photos, and no two machines round alike: by one process, and once, so that a resumed run
    finds the weights that it began with.
    """
    path = workdir / START_FILE
    if devices.is_first and not (path.exists() and saved_steps(workdir / "full")):
        start = load_pretrained(config, source)
        native.save(path, config.model, start.variables, note=start.note)
    devices.gather(None)  # nobody reads before it is there
    kept = native.load(path)
    devices.say(kept.note)
    return Pretrained(dict(kept.variables), kept.note, ())


def _missing_trees(stages: list[Stage], trees: Trees) -> list[str]:
    """Trees that the stages need, that none of them trains and that are not there yet."""
    needed = {name for stage in stages for name in stage.needs}
    return sorted(needed - {stage.name for stage in stages} - trees.keys())


def _finished_tree(run: Run, stage: Stage, fresh: Any) -> Any:
    """The result of a stage that was trained in this workdir before; ``fresh`` is a tree of the same structure."""
    config, workdir, settings = run.config, run.workdir, stage_config(run.config, stage)
    absent = f"{workdir}: stage {stage.name} has not run here; run it first, or give start_from"
    if not (workdir / stage.name).is_dir():
        raise CheckpointError(absent)
    _set_damaged_aside(run, stage)
    with Checkpoints(workdir / stage.name, origin=run.origin) as checkpoints:
        if checkpoints.latest() is None:
            raise CheckpointError(absent)
        state = _restore(checkpoints, config, stage, _first_state(config, stage, fresh), {})
    done = int(state.step)
    clock = Clock(workdir / stage.name, settings, done, run.devices) if settings.minutes else None
    if done < settings.steps if clock is None else done != clock.last_step:
        of = _length(settings)
        raise CheckpointError(f"{workdir}: stage {stage.name} stopped at step {done} of {of}; finish it first")
    return eval_variables(state)


def _length(settings: StageConfig) -> str:
    """How long a stage is: in steps, or in minutes."""
    return f"{settings.minutes:g} minutes" if settings.minutes else f"{settings.steps:,}"


def _set_damaged_aside(run: Run, stage: Stage) -> None:
    """As ``checkpoints.set_damaged_aside``, by the first process; all of them end where it cannot."""
    problem = ""
    if run.devices.is_first:
        try:
            for line in set_damaged_aside(run.workdir / stage.name):
                print(line, file=sys.stderr, flush=True)
        except CheckpointError as error:
            problem = str(error)
    if problem := run.devices.gather(problem)[0]:
        raise CheckpointError(problem)


def _first_state(config: Config, stage: Stage, tree: Any) -> TrainState:
    settings = stage_config(config, stage)
    return make_state(tree, make_optimizer(config, settings), settings, backbone_class(config.model))


def _restore(
    checkpoints: Checkpoints, config: Config, stage: Stage, like: TrainState, started: Mapping[str, Any]
) -> TrainState:
    """The last checkpoint of a stage, if it is of this config and of ``started``; ``steps`` may be reconciled."""
    ours, workdir = {**stage_settings(config, stage), **started}, checkpoints.folder.parent
    dependents = {
        name: workdir / name
        for name, other in STAGES.items()
        if stage.name in other.needs and saved_steps(workdir / name)
    }
    return checkpoints.restore(
        like,
        ours,
        other_data=config.other_data == "accept",
        reconcile=lambda theirs, step: reconcile_steps(theirs, ours, stage, step, dependents),
    )

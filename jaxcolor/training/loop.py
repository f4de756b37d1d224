"""The training loop of one stage: steps on the devices, logs, evaluation and checkpoints in between."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from jaxcolor.batch import Batch
from jaxcolor.config import Config
from jaxcolor.config_io import to_dict
from jaxcolor.data.loader import BatchIterator, LoadedBatch, train_batches
from jaxcolor.data.transforms import Augment
from jaxcolor.data.types import Source
from jaxcolor.models import networks
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.runtime.progress import bar_of_steps, on_terminal
from jaxcolor.runtime.text import counted, duration
from jaxcolor.training import device_cache
from jaxcolor.training.checkpoints import Checkpoints
from jaxcolor.training.clock import Clock
from jaxcolor.training.distillation import Teacher
from jaxcolor.training.flops import count_flops, peak_flops
from jaxcolor.training.logs import Logs
from jaxcolor.training.monitor import LoaderWait, PendingScalars, Profile, parse_profile_steps, warn_if_recompiled
from jaxcolor.training.nan_dump import dump_state, listed
from jaxcolor.training.optimizer import make_optimizer
from jaxcolor.training.preemption import StopRequest
from jaxcolor.training.stages import Stage, stage_config
from jaxcolor.training.step import (
    RATE,
    TEACHER,
    VGG16,
    Scalars,
    TrainState,
    eval_variables,
    make_cached_step,
    make_step,
)
from jaxcolor.weights import native

Measure = Callable[[Mapping[str, Any]], tuple[dict[str, float], Image.Image | None]]
"""(The trees so far, ``full`` alone or all three) -> metrics, and a contact sheet if there is one."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What the stages of a run have in common."""

    config: Config
    """With steps in place of epochs."""
    workdir: Path
    source: Source
    devices: Devices
    stop: StopRequest
    origin: Mapping[str, Any]
    """Provenance, recorded in each checkpoint."""
    measure: Measure | None
    """The evaluation, called every ``config.eval_every`` steps."""
    vgg16: Mapping[str, Any] | None = None
    """VGG16's parameters, where the objective has a perceptual loss."""
    started_from: str = ""
    """What the pretrained weights were, for the notes of those that are made of them."""
    teacher: Teacher | None = None
    """The network that the objective distills."""

    def write_weights(self, path: Path, stage: Stage, trees: Mapping[str, Any], step: int | None = None) -> None:
        """Write the trees so far as a weights file; ``step``: how far ``stage`` is, None: it is over."""
        when = f"after stage {stage.name}"
        if step is not None:
            steps = stage_config(self.config, stage).steps
            when = f"stage {stage.name}, step {step}" + (f" of {steps}" if steps else "")
        note = "; ".join(filter(None, [f"{self.config.name or 'a run'}, {when}", self.started_from]))
        native.save(path, self.config.model, trees, note=note)


def train_loop(
    run: Run,
    stage: Stage,
    state: TrainState,
    trees: Mapping[str, Any],
    checkpoints: Checkpoints,
    identity: Mapping[str, Any],
    logs: Logs,
    clock: Clock | None = None,
) -> TrainState:
    """Train a stage from the state given to its last step.

    Args:
      run: that the stage belongs to.
      stage: to train.
      state: on the host; its step is where the loop starts.
      trees: those of the stages before.
      checkpoints: of the stage.
      identity: settings to be saved with each checkpoint.
      logs: of the stage.
      clock: of a stage that is bounded by time.

    Returns:
      The state after the last step, on the host.

    Raises:
      TrainingError: a loss that is not finite.
      StoppedError: the run was asked to stop; the state is saved.
    """
    config, devices, stop = run.config, run.devices, run.stop
    settings = stage_config(config, stage)
    # Stage instance colors no photo that could be measured.
    measure = run.measure if config.eval_every and stage.name != "instance" else None
    cached = config.data.cache == "device"
    teacher = None if run.teacher is None else run.teacher.config
    step = devices.map(
        (make_cached_step if cached else make_step)(config, stage, make_optimizer(config, settings), teacher),
        in_specs=(REPLICATED, REPLICATED, SPLIT),
        out_specs=(REPLICATED, REPLICATED),
        donate=(0,),
        cuda_graphs=config.cuda_graphs,
    )
    done = int(state.step)
    last = settings.steps if clock is None else clock.last_step
    on_device = devices.replicate(state)
    read_only = {tree: trees[tree] for tree in stage.frozen}
    if run.vgg16 is not None:
        read_only[VGG16] = run.vgg16
    if run.teacher is not None:
        read_only[TEACHER] = run.teacher.variables
    frozen = devices.replicate_frozen(networks.frozen(read_only, config.model))

    def dump(number: int, scalars: Scalars) -> str:
        # The batch is read again, which gives the same one: to keep those of log_every steps could take gigabytes.
        loaded = _NOTHING_LOADED
        if not cached:
            with _batches(run, stage, number - 1) as again:
                loaded = next(again)
        folder = dump_state(run.workdir, stage.name, number, devices.fetch(on_device), loaded, scalars._asdict())
        return f"{listed(loaded.names)} (state and batch: {folder})"

    precise = jax.config.read("jax_enable_x64")  # of this thread, which need not be the one that writes

    def exporter(state: TrainState, over: bool) -> Callable[[Path], None]:
        def write(path: Path) -> None:
            with jax.enable_x64(precise):
                step = None if over else int(state.step)
                run.write_weights(path, stage, {**trees, stage.name: eval_variables(state)}, step)

        return write

    loader_wait = LoaderWait(config.patience)
    logs.text("config", f"```json\n{json.dumps(to_dict(config), indent=2)}\n```")
    with (
        nullcontext(iter(())) if cached else _batches(run, stage, done) as batches,
        Profile(parse_profile_steps(config.profile_steps), run.workdir / "profile" / stage.name) as profile,
        bar_of_steps(settings.steps or None, done, stage.name, shown=devices.is_first) as bar,
    ):
        pending = PendingScalars(stage.name, settings.batch_size, logs, devices, loader_wait, dump, bar.update)
        prefetched = (
            repeat((_NOTHING_LOADED, _held_photos(run, stage)))
            if cached
            else devices.ahead(islice(batches, None if last is None else last - done), lambda loaded: loaded.batch)
        )
        number = done
        while number != last:
            number += 1
            if clock is not None and (number == done + 1 or clock.has_moved(number - 1)):
                frozen = {
                    **frozen,
                    RATE: devices.replicate(np.asarray(clock.rate(number), jax.dtypes.canonicalize_dtype(float))),
                }
            with loader_wait.for_batch(number):
                loaded, batch = next(prefetched)
            if number == done + 1:
                bar.set_postfix_str("compiling …")
                if not on_terminal():
                    devices.say(f"{stage.name}: compiling …")
            if number == done + 1 and peak_flops(devices.kind) is not None:
                pending.flops = count_flops(step, on_device, frozen, batch)
            profile.before(number)
            with jax.transfer_guard("disallow"):  # what is not on the devices yet would be copied again in each step
                on_device, scalars = step(on_device, frozen, batch)
            profile.after(number, scalars)
            pending.add(number, scalars, loaded.counts)

            log_due = number % config.log_every == 0
            if clock is not None and log_due:
                clock.look(number)
                last = clock.last_step
            if log_due and devices.process_count > 1:
                stop.agree(devices)  # all processes must stop after the same step
            stop_now = bool(stop) and (log_due or devices.process_count == 1)
            at_end = number == last or stop_now
            if log_due or at_end:
                said = pending.flush()
                left = _seconds_left(pending, number, last, clock)
                said += f", about {duration(left)} left" if left and not at_end else ""
                bar.set_postfix_str(said)
                if not on_terminal():
                    of = f" of {last:,}" if last else f", {clock.share(number):.0%} of the time" if clock else ""
                    devices.say(f"{stage.name}: step {number:,}{of}, {said}")
                warn_if_recompiled(step, f"stage {stage.name}, step {number}")
            metrics = None
            if measure is not None and number % config.eval_every == 0:
                pending.flush()
                metrics, sheet = measure({**trees, stage.name: eval_variables(devices.fetch(on_device))})
                logs.write_metrics(number, metrics, sheet)
                pending.restart_clock()
            if at_end or number % config.checkpoint_every == 0 or (metrics is not None and config.keep_best):
                pending.flush()
                fetched = devices.fetch(on_device)
                checkpoints.save(fetched, identity, metrics, exporter(fetched, number == last))
                pending.restart_clock()
            # After the last step of the last stage there is nothing left to stop.
            if stop_now and (number != last or stage.name != config.stages[-1]):
                stop.obey(f"in stage {stage.name} after step {number}")
    _report_left_out(run, pending)
    return devices.fetch(on_device)


def _batches(run: Run, stage: Stage, start_step: int) -> BatchIterator:
    """This process's batches from the step after ``start_step`` on."""
    config, devices, settings = run.config, run.devices, stage_config(run.config, stage)
    return train_batches(
        run.source,
        config.data,
        parts=stage.parts,
        side=config.model.side,
        batch_size=settings.batch_size,
        augment=Augment(settings.flip, settings.crop_area, settings.crop_aspect, settings.crop_visible),
        context=config.model.context,
        device_count=devices.count * settings.accumulate,  # crops are packed part by part
        start_step=start_step,
        process_index=devices.process_index,
        process_count=devices.process_count,
    )


_NOTHING_LOADED = LoadedBatch(
    Batch(*(np.zeros(0, np.uint8),) * 2, *(np.zeros(0, np.int32),) * 2, np.zeros(0, bool)), (), 0, (), 0
)
"""In place of a batch where devices hold the photos."""


def _held_photos(run: Run, stage: Stage) -> Any:
    """All photos of the run, a share on each device."""
    config, devices = run.config, run.devices
    device_cache.check(config.data, stage.name, stage_config(config, stage))
    places = (devices.local_count, devices.process_index, devices.process_count)
    held = device_cache.load(run.source, config.data, stage.parts, config.model.side, *places)
    count, side = held.photos.shape[:2]
    devices.say(f"  {counted(count, 'photo')} of {side} x {side} are in the devices' memory")
    return devices.split(held)


def _seconds_left(pending: PendingScalars, number: int, last: int | None, clock: Clock | None) -> float | None:
    """Until the stage is over, after step ``number``; None: not known."""
    if last is not None:
        return pending.seconds_left(last - number)
    return None if clock is None else clock.seconds_left(number)


def _report_left_out(run: Run, pending: PendingScalars) -> None:
    """Print how many crops were dropped and how often gray photos were seen."""
    if pending.dropped_crops:
        run.devices.say(
            f"  dropped {counted(pending.dropped_crops, 'crop')} of low score: "
            f"data.max_crops_per_image is {run.config.data.max_crops_per_image}"
        )
    if pending.moved_crops:
        run.devices.say(
            f"  {pending.moved_crops} crops found no place at their own of data.crop_sides and were seen at another: "
            f"data.crop_shares is {run.config.data.crop_shares or 'empty, equal parts'}"
        )
    if pending.gray_photos:
        run.devices.say(
            f"  gray photos were seen {counted(pending.gray_photos, 'time')}; data.gray_photos 'skip' leaves them out"
        )

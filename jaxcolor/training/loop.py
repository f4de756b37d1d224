"""The steps of one stage: batches to devices, devices to logs and checkpoints, and measurements on the way."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import jax
from PIL import Image
from tqdm import tqdm

from jaxcolor.config import Config, StageConfig, to_dict
from jaxcolor.data.loader import BatchIterator, LoadedBatch, train_batches
from jaxcolor.data.transforms import Augment
from jaxcolor.data.types import Source
from jaxcolor.models import networks
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training.checkpoints import Checkpoints
from jaxcolor.training.flops import count_flops, peak_flops
from jaxcolor.training.logs import Logs
from jaxcolor.training.monitor import LoaderWait, Profile, memory_gb, parse_profile_steps, warn_if_recompiled
from jaxcolor.training.nan_dump import dump_state, listed
from jaxcolor.training.optimizer import make_optimizer
from jaxcolor.training.placement import Placement
from jaxcolor.training.preemption import StopRequest
from jaxcolor.training.stages import Stage, stage_config
from jaxcolor.training.step import Scalars, TrainState, eval_variables, make_step


class TrainingError(UserError):
    """Training cannot go on; the message says where and why."""


Measure = Callable[[Mapping[str, Any]], tuple[dict[str, float], Image.Image | None]]
"""Numbers, and a picture to look at, of the trees there are: ``full`` alone or all three."""


def train_loop(
    config: Config,
    stage: Stage,
    state: TrainState,
    trees: Mapping[str, Any],
    source: Source,
    checkpoints: Checkpoints,
    identity: Mapping[str, Any],
    logs: Logs,
    devices: Devices,
    stop: StopRequest,
    measure: Measure | None = None,
) -> TrainState:
    """The loop itself: from the host state given to the host state after the last step.

    Args:
      config: of the run.
      stage: to train.
      state: on the host; its step is where the loop begins.
      trees: those of the stages before.
      source: photos.
      checkpoints: of the stage.
      identity: settings to be kept with each checkpoint.
      logs: of the stage.
      devices: to run on.
      stop: whether somebody asked for an end.
      measure: called every ``config.eval_every`` steps.

    Raises:
      TrainingError: a loss that is not finite.
      StoppedError: somebody asked for an end; the state is saved.
    """
    settings = stage_config(config, stage)
    placement = Placement(devices, state, config.shard_optimizer)
    step = devices.map(
        make_step(config, stage, make_optimizer(config, settings)),
        in_specs=(placement.kinds, REPLICATED, SPLIT),
        out_specs=(placement.kinds, REPLICATED),
        donate=(0,),
        cuda_graphs=config.cuda_graphs,
    )
    start = int(state.step)
    on_device = placement.put(state)
    frozen = devices.replicate_frozen(networks.frozen({tree: trees[tree] for tree in stage.frozen}, config.model))

    def read(start_step: int) -> BatchIterator:
        return train_batches(
            source,
            config.data,
            parts=stage.parts,
            side=config.model.side,
            batch_size=settings.batch_size,
            augment=Augment(settings.flip, settings.crop_area, settings.crop_aspect, settings.crop_visible),
            device_count=devices.count * settings.accumulate,  # crops are packed part by part
            start_step=start_step,
            process_index=devices.process_index,
            process_count=devices.process_count,
        )

    def dump(number: int, scalars: Scalars) -> str:
        # The batch is read again, which gives the same one: to keep those of log_every steps could take gigabytes.
        with read(number - 1) as again:
            loaded = next(again)
        now = placement.fetch(on_device)
        folder = dump_state(checkpoints.folder.parent, stage.name, number, now, loaded, scalars._asdict())
        return f"{listed(loaded.names)} (state and batch: {folder})"

    def measured(number: int) -> dict[str, float]:
        assert measure is not None
        metrics, picture = measure({**trees, stage.name: eval_variables(placement.fetch(on_device))})
        logs.write_measured(number, metrics)
        if picture is not None:
            logs.show(number, "photos", picture)
        return metrics

    waiting = LoaderWait(config.patience)
    pending = _Pending(stage, settings, logs, devices, waiting, dump)
    logs.text("config", f"```json\n{json.dumps(to_dict(config), indent=2)}\n```")
    with (
        read(start) as batches,
        Profile(
            parse_profile_steps(config.profile_steps), checkpoints.folder.parent / "profile" / stage.name
        ) as profile,
        tqdm(
            total=settings.steps,
            initial=start,
            desc=stage.name,
            unit="step",
            dynamic_ncols=True,
            disable=not devices.is_first,
        ) as bar,
    ):
        ahead = devices.ahead(islice(batches, settings.steps - start), lambda loaded: loaded.batch)
        for number in range(start + 1, settings.steps + 1):
            with waiting.for_batch(number):
                loaded, batch = next(ahead)
            if number == start + 1 and peak_flops(devices.kind) is not None:
                pending.flops = count_flops(step, on_device, frozen, batch)
            profile.before(number)
            with jax.transfer_guard("disallow"):  # what is not on the devices yet would be copied anew for each step
                on_device, scalars = step(on_device, frozen, batch)
            profile.after(number, scalars)
            pending.add(number, scalars, loaded)
            bar.update()
            due = number % config.log_every == 0
            # Several processes must stop after the same step; they learn of each other's signals where they meet.
            if due and devices.process_count > 1:
                stop.agree(devices)
            stopping = bool(stop) and (due or devices.process_count == 1)
            last = number == settings.steps or stopping
            if last or due:
                bar.set_postfix_str(pending.write())
                warn_if_recompiled(step, f"stage {stage.name}, step {number}")
            metrics = None
            if measure is not None and config.eval_every and number % config.eval_every == 0:
                pending.write()
                metrics = measured(number)
                pending.pause()
            if last or number % config.checkpoint_every == 0 or (metrics is not None and config.keep_best):
                pending.write()
                checkpoints.save(placement.fetch(on_device), identity, metrics)
                pending.pause()
            # After the very last step there is nothing left to stop.
            if stopping and (number < settings.steps or stage.name != config.stages[-1]):
                stop.obey(f"in stage {stage.name} after step {number}")
    if pending.dropped_crops:
        devices.say(
            f"  {pending.dropped_crops} crops of low score found no place: "
            f"data.max_crops_per_image is {config.data.max_crops_per_image}"
        )
    if pending.gray_photos:
        devices.say(f"  {pending.gray_photos} visits of gray photos; data.gray_photos 'skip' leaves them out")
    return placement.fetch(on_device)


class _Pending:
    """Scalars of steps that may still be running; fetched together, so that the device is seldom waited for."""

    def __init__(
        self,
        stage: Stage,
        settings: StageConfig,
        logs: Logs,
        devices: Devices,
        waiting: LoaderWait,
        dump: Callable[[int, Scalars], str],
    ) -> None:
        self._stage, self._settings, self._logs, self._devices, self._dump = stage, settings, logs, devices, dump
        self._waiting = waiting
        self.flops = 0
        """Operations of a step on one device; 0: not counted."""
        self._rows: list[tuple[int, Scalars, dict[str, int]]] = []
        self._since = time.monotonic()
        self._line = ""
        self.dropped_crops = 0
        self.gray_photos = 0

    def add(self, number: int, scalars: Scalars, loaded: LoadedBatch) -> None:
        self._rows.append((number, scalars, loaded.counts))

    def pause(self) -> None:
        """What was done since the last write was no training: it does not count as time of steps."""
        self._since = time.monotonic()

    def write(self) -> str:
        """Wait for the steps added since the last call and log them; returns a word for the progress bar.

        Raises:
          TrainingError: a loss is not finite.
        """
        if not self._rows:
            return self._line
        # Counts are of this process's photos; everything else is the same everywhere.
        shares = self._devices.gather([counts for _, _, counts in self._rows])
        counted = [{k: sum(c[k] for c in step) for k in step[0]} for step in zip(*shares, strict=True)]
        self.dropped_crops += sum(counts["dropped_crops"] for counts in counted)
        self.gray_photos += sum(counts["gray_photos"] for counts in counted)
        fetched = [self._devices.fetch(scalars) for _, scalars, _ in self._rows]
        seconds = time.monotonic() - self._since
        rate = len(self._rows) * self._settings.batch_size / seconds
        speed = {
            "photos_per_second": rate,
            "step_seconds": seconds / len(self._rows),
            "waiting_seconds": self._waiting.take() / len(self._rows),
        }
        memory, peak = memory_gb(self._devices.devices), peak_flops(self._devices.kind)
        if memory is not None:
            speed["memory_gb"] = memory
        if self.flops and peak is not None:
            speed["mfu"] = self.flops / speed["step_seconds"] / peak
        for (number, _, _), counts, scalars in zip(self._rows, counted, fetched, strict=True):
            if not math.isfinite(scalars.loss):
                self._logs.flush()
                raise TrainingError(
                    f"stage {self._stage.name}, step {number}: the loss is {float(scalars.loss)}; "
                    f"lower its learning_rate, or look at the photos: {self._dump(number, scalars)}"
                )
            self._logs.write(
                number,
                {
                    "loss": float(scalars.loss),
                    "grad_norm": float(scalars.grad_norm),
                    "learning_rate": float(scalars.learning_rate),
                    "valid_photos": float(scalars.valid),
                    **counts,
                    **speed,
                },
            )
        self._logs.flush()
        mean = sum(float(s.loss) for s in fetched) / len(fetched)
        self._line = f"loss {mean:.4f}, {rate:.1f} photos/s"
        self._rows, self._since = [], time.monotonic()
        return self._line

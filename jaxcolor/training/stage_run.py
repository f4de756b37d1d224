"""The steps of one stage: batches to devices, devices to logs and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from tqdm import tqdm

from jaxcolor.config import Config, StageConfig
from jaxcolor.data.photos import Source
from jaxcolor.data.pipeline import Batches, Loaded, train_batches
from jaxcolor.data.preprocess import Augment
from jaxcolor.errors import UserError
from jaxcolor.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training.checkpoints import Checkpoints
from jaxcolor.training.dumps import dump_state, listed
from jaxcolor.training.logs import Logs
from jaxcolor.training.optimizer import make_optimizer
from jaxcolor.training.placement import Placement
from jaxcolor.training.stages import Stage, stage_config
from jaxcolor.training.step import Scalars, TrainState, make_step
from jaxcolor.training.stopping import StopRequest


class TrainingError(UserError):
    """Training cannot go on; the message says where and why."""


def train(
    config: Config,
    stage: Stage,
    state: TrainState,
    frozen: Mapping[str, Any],
    source: Source,
    checkpoints: Checkpoints,
    identity: Mapping[str, Any],
    logs: Logs,
    devices: Devices,
    stop: StopRequest,
) -> TrainState:
    """The loop itself: from the host state given to the host state after the last step."""
    settings = stage_config(config, stage)
    placement = Placement(devices, state, config.shard_optimizer)
    step = devices.map(
        make_step(config, stage, make_optimizer(config, settings)),
        takes=(placement.kinds, REPLICATED, SPLIT),
        gives=(placement.kinds, REPLICATED),
        donate=(0,),
    )
    start = int(state.step)
    on_device, frozen = placement.put(state), devices.replicate(frozen)

    def read(start_step: int) -> Batches:
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

    pending = _Pending(stage, settings, logs, devices, dump)
    with (
        read(start) as batches,
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
            loaded, batch = next(ahead)
            on_device, scalars = step(on_device, frozen, batch)
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
            if last or number % config.checkpoint_every == 0:
                pending.write()
                checkpoints.save(placement.fetch(on_device), identity)
            # After the very last step there is nothing left to stop.
            if stopping and (number < settings.steps or stage.name != config.stages[-1]):
                stop.obey(f"in stage {stage.name} after step {number}")
    if pending.dropped_crops:
        devices.say(
            f"  {pending.dropped_crops} crops of low score found no place: "
            f"data.budget_per_image is {config.data.budget_per_image}"
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
        dump: Callable[[int, Scalars], str],
    ) -> None:
        self._stage, self._settings, self._logs, self._devices, self._dump = stage, settings, logs, devices, dump
        self._rows: list[tuple[int, Scalars, dict[str, int]]] = []
        self._since = time.monotonic()
        self._line = ""
        self.dropped_crops = 0
        self.gray_photos = 0

    def add(self, number: int, scalars: Scalars, loaded: Loaded) -> None:
        self._rows.append((number, scalars, loaded.counts))

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
                    "photos_per_second": rate,
                },
            )
        self._logs.flush()
        mean = sum(float(s.loss) for s in fetched) / len(fetched)
        self._line = f"loss {mean:.4f}, {rate:.1f} photos/s"
        self._rows, self._since = [], time.monotonic()
        return self._line

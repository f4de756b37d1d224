"""Monitoring the steps of a run: scalars and speed, waiting for data, recompilation, profiler traces."""

from __future__ import annotations

import math
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import jax

from jaxcolor.config import ConfigError
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.parallel import Devices
from jaxcolor.runtime.progress import TimeLeft
from jaxcolor.training.flops import peak_flops
from jaxcolor.training.logs import Logs
from jaxcolor.training.step import Scalars


class TrainingError(UserError):
    """Training cannot continue; the message says where and why."""


class RecompilationWarning(UserWarning):
    """The step was compiled again after its first call: a batch had another shape or type."""


class LoaderWait:
    """Time spent waiting for the data loader; reports when it takes long."""

    def __init__(self, patience: float) -> None:
        """Starts at 0 seconds.

        Args:
          patience: seconds of waiting for one batch after which a line is printed on standard error, and again after
            as many more; 0: never.
        """
        self.seconds = 0.0
        self._patience = patience

    @contextmanager
    def for_batch(self, number: int) -> Iterator[None]:
        """Times the block that fetches the batch of step ``number``."""
        began = time.monotonic()
        over = threading.Event()
        if self._patience:
            threading.Thread(target=self._report, args=(number, began, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()
            self.seconds += time.monotonic() - began

    def _report(self, number: int, began: float, over: threading.Event) -> None:
        while not over.wait(self._patience):
            seconds = time.monotonic() - began
            print(
                f"\nstep {number}: waiting for photos for {seconds:.0f} s; is the disk or network slow, "
                "or are data.threads and data.workers too few?",
                file=sys.stderr,
                flush=True,
            )

    def take(self) -> float:
        """The seconds since the last call."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def warn_if_recompiled(step: Any, where: str) -> None:
    """Warn if a function of ``jax.jit`` was compiled for more than one shape; ``jax.pmap`` does not report it."""
    size = getattr(step, "_cache_size", None)
    if size is not None and size() > 1:
        warnings.warn(f"{where}: the step was compiled {size()} times", RecompilationWarning, stacklevel=2)


def memory_gb(devices: tuple[Any, ...]) -> float | None:
    """Peak memory, in GB, of this process's devices, the highest of them; None where it is not reported (CPU)."""
    reported = [d.memory_stats() for d in devices if d.process_index == jax.process_index()]
    peaks = [stats["peak_bytes_in_use"] for stats in reported if stats and "peak_bytes_in_use" in stats]
    return max(peaks) / 1e9 if peaks else None


def parse_profile_steps(text: str) -> tuple[int, int] | None:
    """First and last step of a trace, from ``10,20``; None from an empty text.

    Raises:
      ConfigError: it is neither.
    """
    if not text:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isdecimal() for part in parts) or not 0 < int(parts[0]) <= int(parts[1]):
        raise ConfigError(f"config.profile_steps: {text!r}; give the first and the last step, as in 10,20")
    return int(parts[0]), int(parts[1])


class Profile:
    """A profiler trace of some steps, for TensorBoard or Perfetto; use it in a ``with`` block."""

    def __init__(self, steps: tuple[int, int] | None, folder: Path) -> None:
        """Traces nothing yet.

        Args:
          steps: the first and the last, from 1; None: no trace.
          folder: of the trace.
        """
        self._steps = steps
        self._folder = folder
        self._tracing = False

    def __enter__(self) -> Profile:
        return self

    def before(self, number: int) -> None:
        """To be called before step ``number`` is started."""
        if self._steps is not None and not self._tracing and number == self._steps[0]:
            jax.profiler.start_trace(str(self._folder))
            self._tracing = True

    def after(self, number: int, result: Any) -> None:
        """To be called after it was started, with its result: the trace ends when that is computed."""
        if self._tracing and self._steps is not None and number >= self._steps[1]:
            jax.block_until_ready(result)
            self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._tracing = False
        print(f"  trace of steps {self._steps}: {self._folder}", flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tracing:
            self._stop()


class PendingScalars:
    """Scalars of steps that may still be running; fetched and logged together, so that devices are rarely waited for.

    Attributes:
      flops: operations of a step on one device, for the MFU; 0: not counted.
      dropped_crops: crops for which the batch had no room, in all steps logged so far.
      moved_crops: crops that found no place at their own of ``data.crop_sides``, likewise.
      gray_photos: gray photos seen, likewise.
    """

    def __init__(
        self,
        stage: str,
        batch_size: int,
        logs: Logs,
        devices: Devices,
        loader_wait: LoaderWait,
        dump: Callable[[int, Scalars], str],
        done: Callable[[], object] = lambda: None,
    ) -> None:
        """Nothing is pending yet, and the clock starts.

        Args:
          stage: its name.
          batch_size: photos in a step, over all devices.
          logs: of the stage.
          devices: that the steps run on.
          loader_wait: what was waited for batches.
          dump: writes what is known of a step whose loss is not finite; returns where, for the error message.
          done: called after each step that is over, and not only started.
        """
        self._stage, self._batch_size, self._logs, self._devices = stage, batch_size, logs, devices
        self._loader_wait, self._dump, self._done = loader_wait, dump, done
        self._time_left = TimeLeft()
        self.flops = 0
        self.dropped_crops = 0
        self.moved_crops = 0
        self.gray_photos = 0
        self._rows: list[tuple[int, Scalars, Mapping[str, int]]] = []
        self._since = time.monotonic()
        self._line = ""

    def add(self, step: int, scalars: Scalars, counts: Mapping[str, int]) -> None:
        """Note a step that was started.

        Args:
          step: its number, from 1.
          scalars: its result, on the devices.
          counts: of its batch: this process's photos.
        """
        self._rows.append((step, scalars, counts))

    def restart_clock(self) -> None:
        """Leave out the time since the last ``flush``: it was not spent on training."""
        now = time.monotonic()
        self._time_left.pause(now - self._since)
        self._since = now

    def seconds_left(self, steps: int) -> float | None:
        """How long so many more steps take, evaluations and checkpoints included; None: not known yet."""
        return self._time_left.seconds(steps)

    def flush(self) -> str:
        """Wait for the steps added since the last call and log them; returns loss and speed for the progress bar.

        Raises:
          TrainingError: a loss is not finite.
        """
        if not self._rows:
            return self._line
        counts = self._global_counts()
        fetched = []
        for _, scalars, _ in self._rows:
            fetched.append(self._devices.fetch(scalars))
            self._done()
        speed = self._speed()
        self._time_left.add(len(fetched), speed["step_seconds"] * len(fetched))
        for (step, _, _), scalars, counted in zip(self._rows, fetched, counts, strict=True):
            if not math.isfinite(scalars.loss):
                self._logs.flush()
                raise TrainingError(
                    f"stage {self._stage}, step {step}: the loss is {float(scalars.loss)}; "
                    f"lower its learning_rate, or look at the photos: {self._dump(step, scalars)}"
                )
            self._logs.write(
                step,
                {
                    "loss": float(scalars.loss),
                    "grad_norm": float(scalars.grad_norm),
                    "learning_rate": float(scalars.learning_rate),
                    "valid_photos": float(scalars.valid),
                    **counted,
                    **speed,
                },
            )
        self._logs.flush()
        mean = sum(float(scalars.loss) for scalars in fetched) / len(fetched)
        self._line = f"loss {mean:.4f}, {speed['photos_per_second']:.1f} photos/s"
        self._rows, self._since = [], time.monotonic()
        return self._line

    def _global_counts(self) -> list[dict[str, int]]:
        """Counts of each pending step, summed over the processes; everything else is the same in all of them."""
        shares = self._devices.gather([counts for _, _, counts in self._rows])
        totals = [{name: sum(share[name] for share in step) for name in step[0]} for step in zip(*shares, strict=True)]
        self.dropped_crops += sum(counts["dropped_crops"] for counts in totals)
        self.moved_crops += sum(counts.get("moved_crops", 0) for counts in totals)
        self.gray_photos += sum(counts["gray_photos"] for counts in totals)
        return totals

    def _speed(self) -> dict[str, float]:
        """Means over the pending steps; peak memory and MFU where they are known."""
        steps, seconds = len(self._rows), time.monotonic() - self._since
        speed = {
            "photos_per_second": steps * self._batch_size / seconds,
            "step_seconds": seconds / steps,
            "waiting_seconds": self._loader_wait.take() / steps,
        }
        memory, peak = memory_gb(self._devices.devices), peak_flops(self._devices.kind)
        if memory is not None:
            speed["memory_gb"] = memory
        if self.flops and peak is not None:
            speed["mfu"] = self.flops / speed["step_seconds"] / peak
        return speed

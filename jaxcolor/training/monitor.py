"""Keeping an eye on the steps of a run: where time goes, what is compiled again, what waits, traces on demand."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import jax

from jaxcolor.config import ConfigError


class RecompilationWarning(UserWarning):
    """The step was compiled again after its first call: some batch had another shape or type."""


class LoaderWait:
    """Time spent waiting for the data; tells when it takes long."""

    def __init__(self, patience: float) -> None:
        """Starts at 0 seconds.

        Args:
          patience: seconds of waiting for one batch after which a line on standard error says so, and again each time
            as long; 0: never.
        """
        self.seconds = 0.0
        self._patience = patience

    @contextmanager
    def for_batch(self, number: int) -> Iterator[None]:
        """Around the fetching of the batch of step ``number``."""
        began = time.monotonic()
        over = threading.Event()
        if self._patience:
            threading.Thread(target=self._tell, args=(number, began, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()
            self.seconds += time.monotonic() - began

    def _tell(self, number: int, began: float, over: threading.Event) -> None:
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
    """Warn if a function of ``jax.jit`` was compiled for more than one shape; those of ``jax.pmap`` do not tell."""
    size = getattr(step, "_cache_size", None)
    if size is not None and size() > 1:
        warnings.warn(f"{where}: the step was compiled {size()} times", RecompilationWarning, stacklevel=2)


def memory_gb(devices: tuple[Any, ...]) -> float | None:
    """The most memory, in GB, that any of this process's devices has held; None where they do not tell (CPU)."""
    told = [d.memory_stats() for d in devices if d.process_index == jax.process_index()]
    peaks = [stats["peak_bytes_in_use"] for stats in told if stats and "peak_bytes_in_use" in stats]
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
          steps: the first and the last; None: no trace.
          folder: where it goes.
        """
        self._steps = steps
        self._folder = folder
        self._tracing = False

    def __enter__(self) -> Profile:
        return self

    def before(self, number: int) -> None:
        """To be called before step ``number`` is begun."""
        if self._steps is not None and not self._tracing and number == self._steps[0]:
            jax.profiler.start_trace(str(self._folder))
            self._tracing = True

    def after(self, number: int, result: Any) -> None:
        """To be called after it was, with what it gives: the trace ends when that is there."""
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

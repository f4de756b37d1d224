"""Stages that are bounded by time: how far they are is read off a clock, written down, and repeated by a resumed run.

A step's learning rate depends on the time that was taken before it. The clock is looked at every ``log_every`` steps;
what it showed is in ``<stage>/clock.jsonl``, a line each. A run that goes on from a checkpoint reads there how far the
stage was at each step that it repeats, and which step was the last: it computes the same numbers.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import jax

from jaxcolor.config import StageConfig
from jaxcolor.runtime.parallel import Devices
from jaxcolor.training.optimizer import learning_rate

CLOCK_FILE = "clock.jsonl"

_FINE = 1_000_000
"""Steps that a schedule is cut into, to look it up by a share."""


class Clock:
    """How much of its time a stage has taken, by step."""

    def __init__(self, folder: Path, settings: StageConfig, done: int, devices: Devices) -> None:
        """Reads what was written down; of several processes the first one's clock counts.

        Args:
          folder: of the stage's checkpoints.
          settings: of the stage, with ``minutes``.
          done: steps that were taken before.
          devices: of all processes.
        """
        self._path = folder / CLOCK_FILE
        self._settings = settings
        self._devices = devices
        read = _read(self._path) if devices.is_first else {}
        self._seconds = {int(step): seconds for step, seconds in devices.gather(sorted(read.items()))[0]}
        self._seconds.setdefault(0, 0.0)
        self._last = (self._seconds[max(step for step in self._seconds if step <= done)], time.monotonic())

    @property
    def last_step(self) -> int | None:
        """The step with which the stage was over; None: it is not yet."""
        limit = 60 * self._settings.minutes
        return min((step for step, seconds in self._seconds.items() if seconds >= limit), default=None)

    def look(self, step: int) -> None:
        """To be called after step ``step``, by all processes: reads the clock, if that was not done there before."""
        now = time.monotonic()
        if step not in self._seconds:
            seconds = self._devices.gather(self._last[0] + now - self._last[1])[0]
            if self._devices.is_first:
                with self._path.open("a") as file:
                    file.write(json.dumps({"step": step, "seconds": seconds}) + "\n")
                    file.flush()
                    os.fsync(file.fileno())  # before anything is computed with it
            self._seconds[step] = seconds
        self._last = (self._seconds[step], now)

    def has_moved(self, step: int) -> bool:
        """Whether step ``step`` is one after which the clock was looked at, or a warm-up is under way."""
        return step in self._seconds or step <= self._settings.warmup_steps

    def share(self, step: int) -> float:
        """The share of the time that was over at the last look, at or before step ``step``."""
        before = max(looked for looked in self._seconds if looked <= step)
        return min(self._seconds[before] / (60 * self._settings.minutes), 1.0)

    def seconds_left(self, step: int) -> float:
        """Of the stage's time, after the last look at or before step ``step``."""
        return (1 - self.share(step)) * 60 * self._settings.minutes

    def rate(self, step: int) -> float:
        """The learning rate of step ``step``, from 1: that of the share of the time which was over before it."""
        share = self.share(step - 1)
        warmup = self._settings.warmup_steps
        whole = dataclasses.replace(self._settings, steps=_FINE, minutes=0.0, warmup_steps=0)
        rate = float(jax.device_get(learning_rate(whole)(round(share * _FINE))))
        return rate * min(step / warmup, 1.0) if warmup > 1 else rate


def _read(path: Path) -> dict[int, float]:
    """Step -> seconds; a line that a kill cut short ends the file."""
    if not path.exists():
        return {}
    found = {}
    whole = b""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            record = json.loads(line)
            found[int(record["step"])] = float(record["seconds"])
        except (ValueError, KeyError, TypeError):
            path.write_bytes(whole)
            break
        whole += line
    return found

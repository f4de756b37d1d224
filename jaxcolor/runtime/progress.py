"""How far a job is: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Never

from tqdm import tqdm

from jaxcolor.runtime.text import counted, duration

SECONDS = 30.0
"""Between two lines in a log."""


def on_terminal() -> bool:
    """Whether standard error is a terminal; in a log the thousands of states of a bar would be one endless line."""
    return sys.stderr.isatty()


class TimeLeft:
    """How long the rest of a job takes, by stretches of it that were timed.

    The first stretch does not count: things are compiled in it. The pace is the median of the others, so that a stretch
    that the disk held up moves nothing; what is done in between (evaluations, checkpoints) is spread over all steps.
    """

    def __init__(self) -> None:
        self._paces: list[float] = []
        self._steps = 0
        self._pauses = 0.0
        self._compiled = False

    def add(self, steps: int, seconds: float) -> None:
        """A stretch of steps, and how long it took."""
        if self._compiled:
            self._paces.append(seconds / steps)
            self._steps += steps
        self._compiled = True

    def pause(self, seconds: float) -> None:
        """Something else between two stretches."""
        if self._paces:
            self._pauses += seconds

    def seconds(self, steps: int) -> float | None:
        """For so many more steps; None: nothing is known yet."""
        if not self._paces:
            return None
        return steps * (statistics.median(self._paces) + self._pauses / self._steps)


def bar_of_steps(total: int | None, done: int, desc: str, *, shown: bool) -> tqdm[Never]:
    """A bar on a terminal, to be moved by ``update``; its postfix says speed and time left, of which tqdm's own swing.

    Args:
      total: steps of the whole job; None: not known.
      done: those that were taken before.
      desc: what is done.
      shown: False: nothing is.
    """
    place = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}" if total else "step {n_fmt}"
    return tqdm(
        total=total,
        initial=done,
        desc=desc,
        bar_format=f"{{desc}}: {place} [{{elapsed}}{{postfix}}]",
        dynamic_ncols=True,
        disable=not (shown and on_terminal()),
    )


@contextmanager
def progress(
    total: int,
    desc: str,
    unit: str,
    *,
    before: int = 0,
    shown: bool = True,
    leave: bool = True,
    silent: bool = False,
    every: float | None = None,
) -> Iterator[Callable[[int], object]]:
    """A function that is called with how many were done since the last call; what it shows goes to standard error.

    Args:
      total: how many there are.
      desc: what is done to them.
      unit: what they are, one of them.
      before: how many of them an earlier run did.
      shown: False: nothing is.
      leave: whether the bar stays when it is full.
      silent: no lines in a log; a terminal has its bar.
      every: seconds between two lines in a log; None: ``SECONDS``.
    """
    every = SECONDS if every is None else every
    if shown and on_terminal():
        with tqdm(
            total=total, initial=before, desc=desc, unit=unit, leave=leave, dynamic_ncols=True, smoothing=0
        ) as bar:
            yield bar.update
        return
    began = said = time.monotonic()
    done = before
    if shown and not silent and before:
        print(f"{desc}: {before:,} of {counted(total, unit)} done before", file=sys.stderr, flush=True)

    def note(count: int) -> None:
        nonlocal done, said
        done += count
        now = time.monotonic()
        if shown and not silent and now - said >= every and done < total:
            said = now
            speed = f"{(done - before) / (now - began):.3g} {unit}s/s"
            left = duration((total - done) * (now - began) / (done - before))
            line = f"{desc}: {done:,} of {counted(total, unit)}, {speed}, about {left} left"
            print(line, file=sys.stderr, flush=True)

    yield note

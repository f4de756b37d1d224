"""How far a job is: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

SECONDS = 30.0
"""Between two lines in a log."""


def on_terminal() -> bool:
    """Whether standard error is a terminal; in a log the thousands of states of a bar would be one endless line."""
    return sys.stderr.isatty()


@contextmanager
def progress(
    total: int, desc: str, unit: str, *, shown: bool = True, leave: bool = True
) -> Iterator[Callable[[int], object]]:
    """A function that is called with how many were done since the last call; what it shows goes to standard error.

    Args:
      total: how many there are.
      desc: what is done to them.
      unit: what they are, one of them.
      shown: False: nothing is.
      leave: whether the bar stays when it is full.
    """
    if shown and on_terminal():
        with tqdm(total=total, desc=desc, unit=unit, leave=leave, dynamic_ncols=True) as bar:
            yield bar.update
        return
    began = said = time.monotonic()
    done = 0

    def note(count: int) -> None:
        nonlocal done, said
        done += count
        now = time.monotonic()
        if shown and now - said >= SECONDS:
            said = now
            speed = f"{done / (now - began):.3g} {unit}s/s"
            print(f"{desc}: {done:,} of {total:,} {unit}s, {speed}", file=sys.stderr, flush=True)

    yield note

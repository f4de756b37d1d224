"""Asking a run to stop: SIGINT (Ctrl-C) and SIGTERM are noted, and obeyed where the state can be saved."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxcolor.runtime.errors import StoppedError
from jaxcolor.runtime.parallel import Devices


class StopRequest:
    """Whether the run was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def agree(self, devices: Devices) -> None:
        """Heed signals that came to other processes too; all of them must call it at the same place."""
        self.signal = next((number for number in devices.gather(self.signal) if number is not None), None)

    def obey(self, where: str) -> None:
        """End the run if it was asked to.

        Args:
          where: it stops, for the message: "in stage full after step 20".

        Raises:
          StoppedError: it was; the exit status is 0 after SIGTERM, which is how schedulers preempt, otherwise 130.
        """
        if self.signal is not None:
            status = 0 if self.signal == signal.SIGTERM else 130
            raise StoppedError(f"stopped {where}; the same command goes on from there", status)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note SIGINT and SIGTERM instead of dying of them; a second one ends the program at once.

    Not as an exception: one that comes while XLA compiles can crash the interpreter on its way out.
    """
    request = StopRequest()

    def note(number: int, frame: Any) -> None:
        request.signal = number
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        print("\nstopping as soon as the state can be saved; once more to quit at once", file=sys.stderr, flush=True)

    # Only the main thread may set handlers; elsewhere (a notebook's worker, say) signals keep their meaning.
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

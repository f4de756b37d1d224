"""Preemption: SIGINT (Ctrl-C) and SIGTERM are noted, and obeyed where the state can be saved."""

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
        """Take signals of other processes into account; all processes must call it at the same step."""
        self.signal = next((number for number in devices.gather(self.signal) if number is not None), None)

    def obey(self, where: str) -> None:
        """End the run if it was asked to.

        Args:
          where: for the message: "in stage full after step 20".

        Raises:
          StoppedError: it was; the exit status is 0 after SIGTERM, by which schedulers preempt, otherwise 130.
        """
        if self.signal is not None:
            status = 0 if self.signal == signal.SIGTERM else 130
            raise StoppedError(f"stopped {where}; the same command resumes from there", status)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note SIGINT and SIGTERM instead of ending the program; a second one ends it at once.

    Not as an exception: one that is raised while XLA compiles can crash the interpreter.
    """
    request = StopRequest()

    def note(number: int, frame: Any) -> None:
        request.signal = number
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        print("\nstopping as soon as the state can be saved; once more to quit at once", file=sys.stderr, flush=True)

    # Only the main thread may set handlers; elsewhere (a notebook's worker, say) signals are handled as before.
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

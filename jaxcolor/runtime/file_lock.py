"""One process at a time."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from jaxcolor.runtime.errors import UserError


@contextlib.contextmanager
def file_lock(lock: Path, message: str) -> Iterator[None]:
    """Keeps other processes from the same work; the lock ends with the process, however that ends.

    Args:
      lock: a file to lock; it is made, and removing it is for whoever holds it.
      message: of the error, which says that another process is at it.

    Raises:
      UserError: another process holds the lock.
    """
    import fcntl  # not on Windows, where there is no ArrayRecord either

    with lock.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network file systems have no locks: better to work without one than not at all.
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise UserError(message) from error
        try:
            same = os.fstat(file.fileno()).st_ino == lock.stat().st_ino
        except FileNotFoundError:
            same = False
        if not same:  # a process that just ended has removed this file
            raise UserError(message)
        yield

"""One process at a time."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from jaxcolor.runtime.errors import UserError

_TRIES = 20


@contextlib.contextmanager
def file_lock(lock: Path, message: str) -> Iterator[None]:
    """Keeps other processes from the same work; the lock ends with the process, however that ends.

    The file says who holds it: host, process, since when. What a process that was killed left there is stale, and does
    not count: the operating system knows who holds a lock.

    Args:
      lock: a file to lock; it is made, and removing it is for whoever holds it.
      message: of the error, which says that another process is at it; who that is is added.

    Raises:
      UserError: another process holds the lock.
    """
    with contextlib.ExitStack() as stack:
        for _ in range(_TRIES):
            file = stack.enter_context(open(lock, "a+b"))  # not truncated: another's name may be in it
            _take(file, lock, message)
            if _is_at(file, lock):
                break
            file.close()  # whoever held it has removed it since it was opened
        else:
            raise UserError(message)
        file.truncate(0)
        holder = {"host": platform.node(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        file.write(json.dumps(holder).encode())
        file.flush()
        yield


def _take(file: BinaryIO, lock: Path, message: str) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems have no locks: better to work without one than not at all.
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise UserError(f"{message}{_holder(lock)}") from error


def _is_at(file: BinaryIO, lock: Path) -> bool:
    try:
        found = lock.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(file.fileno())
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)


def _holder(lock: Path) -> str:
    """Who holds a lock, in brackets; empty where that is not known."""
    try:
        held = json.loads(lock.read_text(encoding="utf-8"))
        return f" (host {held['host']}, process {held['process']}, since {held['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""

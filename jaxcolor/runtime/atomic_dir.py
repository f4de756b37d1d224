"""Files and folders that appear under their name only when they are whole; one process at a time that makes them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from jaxcolor.data.tools.record_files import sync
from jaxcolor.data.types import DataError

_LOCK = "lock"


def unique_partial_path(path: Path) -> Path:
    """A name beside ``path``, hidden, that nobody else has: what several processes make at once stays apart."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


def put_folder(part: Path, path: Path, *, replace: bool) -> None:
    """Gives a finished folder its name.

    Args:
      part: the folder.
      path: its name.
      replace: whether a folder of that name goes; it steps aside until the new one has arrived.

    Raises:
      OSError: there is a folder of that name, without ``replace``.
    """
    if not (replace and path.exists()):
        part.rename(path)
        return
    old = unique_partial_path(path)
    path.rename(old)
    try:
        part.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def file_lock(lock: Path, told: str) -> Iterator[None]:
    """Keeps other processes from the same work; the lock goes with the process, however that ends.

    Args:
      lock: a file to lock; it is made, and removing it is for whoever holds it.
      told: that another process is at it.

    Raises:
      DataError: another process is at it.
    """
    import fcntl  # not on Windows, where there is no ArrayRecord either

    with lock.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network disks know no locks: better to go on there than not to work at all.
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise DataError(told) from error
        try:
            same = os.fstat(file.fileno()).st_ino == lock.stat().st_ino
        except FileNotFoundError:
            same = False
        if not same:  # a process that just ended has removed this one
            raise DataError(told)
        yield


def partial_path(output: Path) -> Path:
    """The folder in which ``output`` is made: beside it, hidden."""
    output = Path(os.path.abspath(output))  # "." has no name
    return output.with_name(f".{output.name}.part")


def refuse_existing(output: Path) -> None:
    """Whether there is room for ``output``.

    Raises:
      DataError: something of that name exists.
    """
    if os.path.lexists(output):
        raise DataError(f"{output}: exists; name another folder, or remove it")


@contextlib.contextmanager
def atomic_dir(output: Path, *, keep: bool) -> Iterator[Path]:
    """A folder to make ``output`` in; it gets that name when the block ends without an error.

    Args:
      output: a folder that is not there yet; folders above it are made.
      keep: whether what is made stays when the block ends by an error, so that the next run can go on with it. If
        not, and if a killed run left something, it is removed.

    Raises:
      DataError: ``output`` exists, or another process is making it.
    """
    refuse_existing(output)
    part = partial_path(output)
    part.mkdir(parents=True, exist_ok=True)
    if not (part / _LOCK).exists() and any(part.iterdir()):
        raise DataError(f"{part}: exists, and is not what jaxcolor leaves when it is killed; move it away")
    with file_lock(part / _LOCK, f"{output}: another process is making it (in {part})"):
        if not keep:
            _empty(part)
        try:
            yield part
            (part / _LOCK).unlink()
            sync(part)
            part.rename(output)
            sync(part.parent)
        except BaseException:
            if not keep:
                shutil.rmtree(part, ignore_errors=True)
            raise


def _empty(part: Path) -> None:
    for path in part.iterdir():
        if path.name != _LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def check_space(folder: Path, needed: int) -> None:
    """Whether the disk of a folder, which need not exist, has room.

    Raises:
      DataError: it has not.
    """
    place = Path(os.path.abspath(folder))
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise DataError(f"{folder}: needs {needed / 1e9:.1f} GB of disk; {place} has {free / 1e9:.1f} GB free")


def folder_size(folder: Path) -> int:
    """Bytes of the files in a folder, those of subfolders not counted."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())

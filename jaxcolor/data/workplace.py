"""Folders that appear under their name only when they are whole, and one process at a time that makes them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from jaxcolor.data.photos import DataError
from jaxcolor.data.record_files import sync

_LOCK = "lock"


def hidden(output: Path) -> Path:
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
def workplace(output: Path, *, keep: bool) -> Iterator[Path]:
    """A folder to make ``output`` in; it gets that name when the block ends without an error.

    Args:
      output: a folder that is not there yet; folders above it are made.
      keep: whether what is made stays when the block ends by an error, so that the next run can go on with it. If
        not, and if a killed run left something, it is removed.

    Raises:
      DataError: ``output`` exists, or another process is making it.
    """
    refuse_existing(output)
    part = hidden(output)
    part.mkdir(parents=True, exist_ok=True)
    if not (part / _LOCK).exists() and any(part.iterdir()):
        raise DataError(f"{part}: exists, and is not what jaxcolor leaves when it is killed; move it away")
    with _alone(part, output):
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


@contextlib.contextmanager
def _alone(part: Path, output: Path) -> Iterator[None]:
    import fcntl  # not on Windows, where there is no ArrayRecord either

    with (part / _LOCK).open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network disks know no locks: better to go on there than not to work at all.
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise DataError(f"{output}: another process is making it (in {part})") from error
        yield


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

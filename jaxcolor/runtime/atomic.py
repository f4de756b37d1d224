"""Writing files whole or not at all: a reader, or a run that was killed, never meets half of one."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX, _SUFFIX = ".jaxcolor-", ".tmp"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; moved to ``path`` when the block ends well, removed otherwise.

    Args:
      path: the file to be; one that is there is replaced. Its folder must exist.

    Raises:
      OSError: it is a folder, its folder does not exist, or nothing can be written there; ``path`` is named.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; give the name of a file", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent))
    temporary = path.with_name(f"{_PREFIX}{secrets.token_hex(4)}{_SUFFIX}")
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:  # named after the file that was asked for
        raise OSError(error.errno, f"cannot be written ({error.strerror})", str(path)) from error
    try:
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        os.chmod(temporary, mode)  # some writers make files that only their owner can read
        with temporary.open("rb") as written:  # a machine that goes down must not keep the name without the bytes
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, whole or not at all. Raises as ``atomic_write``."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left in a folder in which nobody else writes."""
    for left in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        left.unlink(missing_ok=True)

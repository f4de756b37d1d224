"""Writing files and folders atomically: a reader, or a run that was killed, never meets half of one.

``atomic_write`` makes a file, ``atomic_dir`` a folder that one process at a time works on; ``put_folder`` renames a
folder that was made beside its final place under a name of its own.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.file_lock import file_lock

_PREFIX, _SUFFIX = ".jaxcolor-", ".tmp"
_LOCK = "lock"


def sync(path: Path) -> None:
    """Flushes a file, or the names in a folder, to the disk: a name may not outlive its contents."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` to write to; renamed to ``path`` when the block ends well, removed otherwise.

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
        sync(temporary)  # a machine that crashes must not keep the name without the bytes
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, UTF-8, atomically. Raises as ``atomic_write``."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def atomic_link(source: Path, path: Path) -> None:
    """Makes ``path`` another name of a file, or a copy where the file system has no hard links. Raises as above."""
    with atomic_write(path) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files that killed writers left in a folder in which nobody else writes."""
    for left in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        left.unlink(missing_ok=True)


@contextmanager
def atomic_dir(output: Path, *, keep: bool) -> Iterator[Path]:
    """A folder to make ``output`` in; renamed to ``output`` when the block ends without an error.

    Args:
      output: a folder that is not there yet; folders above it are made.
      keep: whether what was made stays when the block ends by an error, so that the next run can resume it. If not, it
        is removed, also what a killed run left.

    Raises:
      UserError: ``output`` exists, or another process is making it.
    """
    refuse_existing(output)
    part = partial_path(output)
    part.mkdir(parents=True, exist_ok=True)
    if not (part / _LOCK).exists() and any(part.iterdir()):
        raise UserError(f"{part}: exists, and is not what jaxcolor leaves when it is killed; move it away")
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


def partial_path(output: Path) -> Path:
    """The folder in which ``output`` is made: beside it, hidden, the same for every run."""
    output = Path(os.path.abspath(output))  # "." has no name
    return output.with_name(f".{output.name}.part")


def unique_partial_path(path: Path) -> Path:
    """A hidden name beside ``path`` that nobody else has: what several processes make at once stays apart."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


def put_folder(part: Path, path: Path, *, replace: bool) -> None:
    """Renames a finished folder to its final name.

    Args:
      part: the folder.
      path: its final name.
      replace: whether a folder of that name is replaced; it steps aside until the new one has arrived.

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


def refuse_existing(output: Path) -> None:
    """Checks that nothing is called ``output``.

    Raises:
      UserError: something is.
    """
    if os.path.lexists(output):
        raise UserError(f"{output}: exists; name another folder, or remove it")


def check_space(folder: Path, needed: int) -> None:
    """Checks that the disk of a folder, which need not exist, has ``needed`` bytes free.

    Raises:
      UserError: it has not.
    """
    place = Path(os.path.abspath(folder))
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        sizes = [f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB" for n in (needed, free)]
        raise UserError(f"{folder}: needs {sizes[0]} of disk; {place} has {sizes[1]} free")


def folder_size(folder: Path) -> int:
    """Bytes of the files in a folder, those of subfolders not counted."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())

"""Zip files read without unpacking them."""

from __future__ import annotations

import lzma
import os
import weakref
import zipfile
import zlib
from pathlib import Path

from jaxcolor.data.types import DataError
from jaxcolor.runtime.errors import one_line
from jaxcolor.runtime.regular_file import check_regular, open_regular, read_regular

_READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
"""What zipfile raises on damaged, encrypted and unsupported members."""

MOST_BYTES = 512 << 20
"""Of a photo in an archive."""
_MOST_JSON = 4 << 30


class Archive:
    """A zip file whose members are read by several threads and processes.

    Pickled, it is its path; each process opens the file for itself.
    """

    def __init__(self, path: Path) -> None:
        """Opens it and reads its list of members.

        Raises:
          DataError: it is missing, no zip file, or cut off.
        """
        self.path = path
        self._opened: dict[int, zipfile.ZipFile] = {}
        self._zip()

    def members(self) -> list[zipfile.ZipInfo]:
        """Its members, folders among them, in the order of the file's own list."""
        return self._zip().infolist()

    def read(self, member: str, most: int | None = None, limit: int = MOST_BYTES) -> bytes:
        """What a member holds; its checksum is compared where it is read to its end.

        Args:
          member: its name.
          most: read this many bytes at most; None: all.
          limit: bytes of the largest member that is read whole: a few kilobytes can unfold to any number.

        Raises:
          DataError: there is no such member, it is too large, damaged or encrypted, or compressed as Python cannot
            read.
        """
        info = self.member(member)
        if most is None and info is not None and info.file_size > limit:
            size = f"{info.file_size >> 20:,} MiB; at most {limit >> 20:,} are read"
            raise DataError(f"{self.path}: cannot read {member} in it: it has {size}")
        try:
            with self._zip().open(member) as file:
                return file.read(-1 if most is None else most)
        except _READ_ERRORS as error:
            raise DataError(f"{self.path}: cannot read {member} in it: {one_line(error)}") from error

    def member(self, name: str) -> zipfile.ZipInfo | None:
        """What the list says of a member; None: there is none of that name."""
        return self._zip().NameToInfo.get(name)

    def __contains__(self, member: object) -> bool:
        return member in self._zip().NameToInfo

    def __getstate__(self) -> Path:
        return self.path

    def __setstate__(self, path: Path) -> None:
        # Not opened: a process that never reads a member need not read the list of all of them.
        self.path = path
        self._opened = {}

    def _zip(self) -> zipfile.ZipFile:
        # By process: parent and forked child would share one place in the file. No lock, which a fork could leave
        # locked: two threads may both open it, then one of the two is used by both.
        process = os.getpid()
        opened = self._opened.get(process)
        if opened is None:
            opened = _open(self.path)
            # Closed with this object, also where that is garbage in a circle, whose parts go in any order.
            weakref.finalize(self, opened.close)
            opened = self._opened.setdefault(process, opened)
        return opened


def _open(path: Path) -> zipfile.ZipFile:
    try:
        check_regular(path)
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: not a zip file, or its end is cut off: {one_line(error)}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot read this zip file: {error.strerror or error}") from error
    except _READ_ERRORS as error:
        raise DataError(f"{path}: cannot read this zip file: {one_line(error)}") from error


def inside_zip(path: Path) -> tuple[Path, str] | None:
    """Splits a path that continues inside a zip file, ``a.zip/b/c.json``, into the file and the member's name.

    Returns:
      None for any other path: one that exists, or has no zip file on its way.
    """
    if path.exists():
        return None
    for above in path.parents:
        if above.is_file() and above.suffix.lower() == ".zip":
            return above, path.relative_to(above).as_posix()
    return None


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """What is in the file at a path, or in the member of a zip file where the path continues inside one.

    Args:
      path: of the file or member.
      most: read this many bytes at most; None: all, of a file of up to 4 GiB (COCO's largest has 0.5).

    Raises:
      DataError: it cannot be read.
    """
    split = inside_zip(path)
    if split is None:
        try:
            if most is None:
                return read_regular(path, _MOST_JSON)
            with open_regular(path) as file:
                return file.read(most)
        except OSError as error:
            raise DataError(f"{path}: cannot read this file: {error.strerror or error}") from error
    archive, member = Archive(split[0]), split[1]
    if member not in archive:
        raise DataError(f"{split[0]}: has no member {member}; {_members_like(archive, member)}")
    return archive.read(member, most, _MOST_JSON)


def _members_like(archive: Archive, member: str) -> str:
    suffix = Path(member).suffix
    alike = [info.filename for info in archive.members() if info.filename.endswith(suffix) and not info.is_dir()]
    return f"{suffix or 'files'} in it: {', '.join(alike[:8]) or 'none'}{' …' if len(alike) > 8 else ''}"

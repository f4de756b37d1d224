"""Photos in a zip file, read where they lie."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from zipfile import ZipInfo

from jaxcolor.data.archive import Archive
from jaxcolor.data.boxes.base import photo_key
from jaxcolor.data.formats import PHOTO_SUFFIXES
from jaxcolor.data.sources.base import (
    Identity,
    check_listed,
    digest_of,
    is_photo,
    of_files,
    read_list,
    refuse_shared_keys,
    unread_photos,
)
from jaxcolor.data.types import DataError, Encoded, Entry, Names

_HEADER_BYTES = 1 << 16
"""Beginning of a JPEG in which its size nearly always is; where it is not, the whole is read."""
_SIZE_FIRST = (".jpg", ".jpeg", ".jpe", ".jfif")
"""Formats whose size and orientation both come before the pixels. PNG's orientation may follow them."""


class ZipSet:
    """The photos of a zip file wherever they lie in it, sorted by name; or those that a list names, in its order.

    What macOS adds (``__MACOSX/``, names that begin with a dot) is left out.
    """

    carries_detections = False
    carries_truth = False

    def __init__(self, path: Path, listed: Path | None = None, *, all_there: bool = True, below: str = "") -> None:
        """Reads the zip file's list of members; no member is read.

        Args:
          path: the zip file.
          listed: a text file, see ``base.read_list``; it names members.
          all_there: whether a photo of the list that is not there is an error now; otherwise when it is read.
          below: a folder of the zip file, ending in ``/``: only what is in it counts, and a list names its members
            by their place below it. If nothing is in it, it is the whole zip file.

        Raises:
          DataError: the zip file cannot be read, there is no photo, two have one stem, or the list cannot be used.
        """
        self.path = path
        self.where = str(path)
        self.name = path.resolve().name
        self.remarks = ""
        self._archive = Archive(path)
        members = [info for info in self._archive.members() if _is_seen(info)]
        if not any(info.filename.startswith(below) for info in members):
            below = ""
        members = [info for info in members if info.filename.startswith(below)]
        photos = sorted(info.filename for info in members if is_photo(info.filename))
        if listed is None:
            others = len(members) - len(photos)
            unread = unread_photos(info.filename for info in members)
            self.remarks = f"{others:,} other member{'s' * (others != 1)} not looked at" if others else ""
            self.remarks += f", {unread}" if unread else ""
            if not photos:
                seen = f"; {others:,} other members" if others else ""
                raise DataError(f"{path}: no photos in this zip file ({', '.join(PHOTO_SUFFIXES)}{seen})")
        else:
            photos = [below + name for name in read_list(listed)]
        keys = [photo_key(name) for name in photos]
        refuse_shared_keys(keys, lambda number: path / photos[number])
        if listed is not None:
            check_listed(listed, photos, self._archive.__contains__, lambda name: path / name, all_there=all_there)
        self._names = Names.of(photos)
        self._keys = Names.of(keys)

    def __len__(self) -> int:
        return len(self._names)

    def keys(self) -> Names:
        """Stems of the members."""
        return self._keys

    def entry(self, number: int) -> Entry:
        """The member, read whole."""
        name = self._names[number]
        return Entry(self._keys[number], self._encoded(name, self._archive.read(name)), PurePosixPath(name).name)

    def header(self, number: int) -> Encoded | None:
        """The first 64 KiB of a JPEG."""
        name = self._names[number]
        if not name.lower().endswith(_SIZE_FIRST):
            return None
        return self._encoded(name, self._archive.read(name, _HEADER_BYTES))

    def identity(self, *, sizes: bool = True) -> Identity:
        """Of the members' names, sizes and checksums."""
        return of_files("zip", self.where, self._names, self._sizes(range(len(self))) if sizes else b"")

    def state(self, numbers: range) -> str:
        """A digest of sizes and checksums."""
        return digest_of(self._sizes(numbers))

    def _sizes(self, numbers: range) -> bytes:
        infos = (self._archive.member(self._names[number]) for number in numbers)
        return b"".join(b"-" if info is None else f"{info.file_size} {info.CRC:08x};".encode() for info in infos)

    def _encoded(self, name: str, data: bytes) -> Encoded:
        return Encoded(str(self.path / name), data)


def _is_seen(info: ZipInfo) -> bool:
    place = PurePosixPath(info.filename)
    return not info.is_dir() and "__MACOSX" not in place.parts and not place.name.startswith(".")

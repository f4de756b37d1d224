"""Photos that are files of a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxcolor.data.boxes.base import photo_key
from jaxcolor.data.sources.base import Entry, Identity, digest_of, of_files
from jaxcolor.data.sources.names import Names, check_listed, is_photo, read_list, refuse_shared_keys
from jaxcolor.data.transforms import PHOTO_SUFFIXES
from jaxcolor.data.types import DataError


class FolderSet:
    """The photos of one folder, sorted by name; or those below it that a list names, in the list's order."""

    carries_detections = False
    carries_truth = False

    def __init__(self, path: Path, listed: Path | None = None, *, all_there: bool = True) -> None:
        """Lists the photos; opens none.

        Args:
          path: the folder. Without a list its subfolders are not searched.
          listed: a text file, see ``names.read_list``.
          all_there: whether a photo of the list that is not there is an error now; otherwise when it is read.

        Raises:
          DataError: there is no photo, two have one stem, or the list cannot be used.
        """
        self.path = path
        self.where = str(path)
        self.name = path.resolve().name
        self.remarks = ""
        if listed is None:
            names, others = _list_photos(path)
            self.remarks = f"{others:,} other file{'s' * (others != 1)} not looked at" if others else ""
        else:
            names = read_list(listed)
        keys = [photo_key(name) for name in names]
        refuse_shared_keys(keys, lambda number: path / names[number])
        if listed is not None and all_there:
            check_listed(listed, names, lambda name: (path / name).exists(), lambda name: path / name)
        self._names = Names.of(names)
        self._keys = Names.of(keys)

    def __len__(self) -> int:
        return len(self._names)

    def keys(self) -> Names:
        """Stems of the files."""
        return self._keys

    def entry(self, number: int) -> Entry:
        """The file; whether it is there shows when it is opened."""
        path = self.path / self._names[number]
        return Entry(self._keys[number], path, path.name)

    def header(self, number: int) -> None:
        """A file is read only as far as it must be in any case."""
        return None

    def identity(self, *, sizes: bool = True) -> Identity:
        """Of the names and sizes in bytes; a file that is not there has size -1."""
        return of_files("folder", self.where, self._names, self._sizes(range(len(self))) if sizes else b"")

    def state(self, numbers: range) -> str:
        """A digest of sizes in bytes."""
        return digest_of(self._sizes(numbers))

    def _sizes(self, numbers: range) -> bytes:
        return np.array([_size(self.path / self._names[number]) for number in numbers], "<i8").tobytes()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _list_photos(folder: Path) -> tuple[Sequence[str], int]:
    """Names of the photos, sorted, and how many other files there are; hidden ones are not counted."""
    names, others = [], 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):  # ._a.jpg is what macOS leaves on foreign disks
                continue
            if is_photo(entry.name):
                names.append(entry.name)
            elif not entry.is_dir():
                others += 1
    if not names:
        seen = f"; {others:,} other files" if others else ""
        raise DataError(
            f"{folder}: no photos in this folder ({', '.join(PHOTO_SUFFIXES)}; subfolders are not searched{seen})"
        )
    return sorted(names), others

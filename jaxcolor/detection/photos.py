"""The photos that a run goes through."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxcolor.data.box_stores.store import photo_key
from jaxcolor.data.photos import DataError
from jaxcolor.data.preprocess import PHOTO_SUFFIXES, PhotoFile


@runtime_checkable
class PhotoSet(Protocol):
    """Photos in a fixed order, each under the key of its boxes.

    Reading is safe from several threads. For Beam it must survive pickling, by which it should travel as the recipe to
    open it again: a list of a million photos is too big to be sent to every worker.
    """

    name: str
    """For the store's manifest."""

    def __len__(self) -> int:
        """How many photos there are."""
        ...

    def __getitem__(self, index: int) -> tuple[str, PhotoFile]:
        """Key and file of photo ``index``; raises ``DataError`` where the file cannot be had."""
        ...

    def keys(self) -> Iterator[str]:
        """The keys in the order of the photos, each once; no photo is read."""
        ...


class FolderPhotos:
    """The photos of one folder, sorted by name, as a folder source has them."""

    def __init__(self, path: Path) -> None:
        """Lists the folder.

        Raises:
          DataError: no folder, no photo in it, or two photos of one stem, which would share their boxes.
        """
        if not path.is_dir():
            raise DataError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}")
        self.path = path
        self.name = path.resolve().name
        with os.scandir(path) as entries:
            self._names = sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.name.lower().endswith(PHOTO_SUFFIXES)
            )
        if not self._names:
            raise DataError(
                f"{path}: no photos in this folder ({', '.join(PHOTO_SUFFIXES)}; subfolders are not searched)"
            )
        owners: dict[str, str] = {}
        for name in self._names:
            other = owners.setdefault(photo_key(name), name)
            if other != name:
                raise DataError(f"{path}: {other} and {name} have one stem, and so would share their boxes; rename one")

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[str, PhotoFile]:
        """Key and path of a photo."""
        name = self._names[index]
        return photo_key(name), self.path / name

    def keys(self) -> Iterator[str]:
        """The stems."""
        return map(photo_key, self._names)

    def __reduce__(self) -> tuple[type[FolderPhotos], tuple[Path]]:
        return FolderPhotos, (self.path,)


def keys_sha256(photos: PhotoSet) -> str:
    """Tells two sets of photos, or two orders of one, apart."""
    sha = hashlib.sha256()
    for key in photos.keys():  # noqa: SIM118  (a set of photos is no mapping)
        sha.update(key.encode("utf-8", "surrogateescape") + b"\0")
    return sha.hexdigest()

"""Folders with one box file for each photo; the reference's are ``<stem>.npz`` with ``bbox`` and ``scores``."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jaxcolor.data.boxes.base import MissingBoxesError, same_spelling
from jaxcolor.data.types import Boxes, DataError
from jaxcolor.runtime.errors import one_line
from jaxcolor.runtime.regular_file import DAMAGED, open_regular

_MOST_BYTES = 64 << 20
"""Of an array of boxes: four million of them."""


class FileStore:
    """A folder with one file for each photo, named after the photo's stem. Files are read when they are asked for."""

    note = ""

    def __init__(self, path: Path, kind: str, suffix: str, reader: Callable[[Path], Boxes]) -> None:
        """Looks at nothing yet.

        Args:
          path: the folder. If it is not there, no photo has an entry.
          kind: what ``reader`` reads.
          suffix: of its files, with the dot.
          reader: reads one file; raises DataError.
        """
        self.path = path
        self.kind = kind
        self._suffix = suffix
        self._reader = reader

    def _file(self, key: str) -> Path:
        path = self.path / f"{key}{self._suffix}"
        if not key.isascii() and not path.exists():  # keys are composed; on a disk from a Mac names may be decomposed
            decomposed = self.path / unicodedata.normalize("NFD", path.name)
            return decomposed if decomposed.exists() else path
        return path

    def _files(self) -> Iterator[Path]:
        if not self.path.is_dir():
            return iter(())
        # ._a.npz is what macOS leaves on foreign disks; it is no box file.
        return (p for p in self.path.iterdir() if p.suffix == self._suffix and not p.name.startswith("."))

    def __len__(self) -> int:
        return sum(1 for _ in self._files())

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._file(key).exists()

    def keys(self) -> Iterator[str]:
        """Stems of the files, sorted."""
        return iter(sorted(same_spelling(path.stem) for path in self._files()))

    def read(self, key: str) -> Boxes:
        """The boxes in the photo's file."""
        path = self._file(key)
        if not path.exists():
            raise MissingBoxesError(self.absent(key))
        return self._reader(path)

    def absent(self, key: str) -> str:
        """Names the file that is not there."""
        return f"{self._file(key)}: no such box file"


def npz_store(path: Path) -> FileStore:
    """A folder of the reference's box files, see ``read_npz``."""
    return FileStore(path, "npz", ".npz", read_npz)


def read_npz(path: Path) -> Boxes:
    """The boxes in a file.

    The file is a NumPy archive (``np.savez``) with floating-point arrays ``bbox`` (N, 4) and ``scores`` (N,); N may
    be 0. Further arrays are left unread. Pickled contents are refused.

    Raises:
      DataError: the file is missing, no such archive, or its arrays are missing or have another type or shape.
    """
    try:
        # Opened here, because np.load leaves a damaged archive open. allow_pickle=False: a box file from elsewhere
        # must not be able to run code.
        with open_regular(path) as file:
            boxes, scores = _arrays(path, np.load(file, allow_pickle=False))
    except DataError:
        raise
    except (OSError, *DAMAGED) as error:
        raise DataError(f"{path}: cannot read this box file: {_reason(error)}") from error
    _check(path, "bbox", boxes, (len(boxes) if boxes.ndim else 0, 4), "(N, 4)")
    _check(path, "scores", scores, (len(boxes),), f"({len(boxes)},), one for each box")
    with np.errstate(over="ignore"):  # what is too big for float32 becomes infinite and is dropped with its box
        return Boxes(boxes.astype(np.float32), scores.astype(np.float32))


def _arrays(path: Path, archive: object) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{path}: not a box file: one bare array, where an .npz with 'bbox' and 'scores' should be")
    with archive:
        missing = [key for key in ("bbox", "scores") if key not in archive.files]
        if missing:
            raise DataError(f"{path}: box file has no {missing[0]!r}; it has {', '.join(archive.files) or 'nothing'}")
        for key in ("bbox", "scores"):
            members = {} if archive.zip is None else archive.zip.NameToInfo
            size = members[f"{key}.npy"].file_size if f"{key}.npy" in members else 0
            if size > _MOST_BYTES:
                raise DataError(f"{path}: {key!r} has {size >> 20:,} MiB; no photo has so many boxes")
        found = tuple(archive[key] for key in ("bbox", "scores"))
        if not all(isinstance(array, np.ndarray) for array in found):  # NumPy hands out what is no array as bytes
            raise DataError(f"{path}: 'bbox' or 'scores' is no array of NumPy's")
        return found[0], found[1]


def _check(path: Path, key: str, array: np.ndarray, shape: tuple[int, ...], wanted: str) -> None:
    if array.shape != shape:
        raise DataError(f"{path}: {key!r} has shape {array.shape}; it must be {wanted}")
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{path}: {key!r} is of type {array.dtype}; it must be floating point")


def _reason(error: BaseException) -> str:
    text = one_line(error)
    return "it holds pickled data or is no NumPy archive" if "pickle" in text else text

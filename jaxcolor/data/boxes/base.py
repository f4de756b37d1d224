"""What every box store answers, and two simple ones: a folder with a file for each photo, and a table in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int

from jaxcolor.data.boxes.masks import Masks, draw
from jaxcolor.data.boxes.npz import Boxes, read_npz
from jaxcolor.data.transforms import PHOTO_SUFFIXES
from jaxcolor.data.types import DataError

StoreKind = Literal["npz", "coco_detections", "coco_instances", "voc", "packed"]
"""``npz``: folder of ``<stem>.npz``. ``coco_detections``, ``coco_instances``: a JSON file. ``voc``: folder of
``<stem>.xml``. ``packed``: a folder made by ``jaxcolor boxes pack``."""

STORE_KINDS: tuple[StoreKind, ...] = get_args(StoreKind)

_NAMED = 3
"""Photos named in a message about many."""


class MissingBoxesError(DataError):
    """A store has no entry for a photo: ``missing_boxes`` decides on it, not ``bad_photos``."""


@runtime_checkable
class BoxStore(Protocol):
    """Boxes by the key of their photo (``photo_key``). Reading is safe from several threads, and after pickling."""

    path: Path
    kind: StoreKind
    note: str
    """What was left out when the store was opened, for a person; empty if nothing was."""

    def __len__(self) -> int:
        """How many photos have an entry; an entry may hold no boxes."""
        ...

    def __contains__(self, key: object) -> bool:
        """Whether the photo has an entry."""
        ...

    def keys(self) -> Iterator[str]:
        """All keys, each once, in an order that depends on the store's contents alone."""
        ...

    def read(self, key: str) -> Boxes:
        """The photo's boxes, uncleaned.

        Raises:
          MissingBoxesError: the photo has no entry.
          DataError: the entry cannot be read.
        """
        ...

    def absent(self, key: str) -> str:
        """That a photo has no entry, in words that name the place where it would be."""
        ...


@runtime_checkable
class MaskedStore(BoxStore, Protocol):
    """A box store whose boxes have masks."""

    def masks(self, key: str, size: tuple[int, int]) -> list[Bool[np.ndarray, "H W"]]:
        """The pixels of each of the photo's boxes, in the order of ``read``; none for a photo without an entry.

        Args:
          key: of the photo.
          size: its width and height in pixels.

        Raises:
          DataError: a mask is that of a photo of another size.
        """
        ...


def photo_key(name: str | int) -> str:
    """The key under which a photo's boxes are kept.

    Args:
      name: the photo's file name, with or without folders and suffix, as TFDS's and COCO's ``file_name`` or a path give
        it; or COCO's image id, which names its file by 12 digits.

    Returns:
      The stem of the file's name: ``train/n01440764/n01440764_10026.JPEG`` becomes ``n01440764_10026``, 139 becomes
      ``000000000139``. Only the suffix of a photo is taken off, so that a stem with a dot in it stays whole.
    """
    if not isinstance(name, str):
        return f"{name:012d}"
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in PHOTO_SUFFIXES else path.name


def no_boxes() -> Boxes:
    """What a photo without boxes has."""
    return Boxes(np.zeros((0, 4), np.float32), np.zeros((0,), np.float32))


def boxes_of(store: BoxStore, key: str, may_lack: bool) -> Boxes:
    """A photo's boxes; with ``may_lack`` a photo without an entry has none.

    Raises:
      MissingBoxesError: the photo has no entry, without ``may_lack``.
      DataError: the entry cannot be read.
    """
    try:
        return store.read(key)
    except MissingBoxesError:
        if may_lack:
            return no_boxes()
        raise


def check_complete(store: BoxStore, keys: Sequence[str]) -> None:
    """Whether a store has an entry for every photo.

    Raises:
      MissingBoxesError: it has not; the message counts the photos, names the first few and says what to do.
    """
    refuse_missing(store, [key for key in keys if key not in store], len(keys))


def refuse_missing(store: BoxStore, missing: Sequence[str], photos: int) -> None:
    """Tells of photos without an entry, of ``photos`` in all; none are fine.

    Raises:
      MissingBoxesError: there are some; see ``check_complete``.
    """
    if not missing:
        return
    line = store.absent(missing[0])
    if len(missing) == 1:
        raise MissingBoxesError(f"{line}; missing_boxes 'none' takes its photo for one without boxes")
    named = ", ".join(missing[1 : 1 + _NAMED]) + (" …" if len(missing) > 1 + _NAMED else "")
    raise MissingBoxesError(
        f"{line}; the same for {len(missing) - 1:,} more of {photos:,} photos ({named}); "
        "missing_boxes 'none' takes them for photos without boxes"
    )


class FileStore:
    """A folder with one file for each photo, named after the photo's stem. Files are read when they are asked for."""

    note = ""

    def __init__(self, path: Path, kind: StoreKind, suffix: str, reader: Callable[[Path], Boxes]) -> None:
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
        return self.path / f"{key}{self._suffix}"

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
        return iter(sorted(path.stem for path in self._files()))

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
    """A folder of the reference's box files, see ``box_files.read_boxes``."""
    return FileStore(path, "npz", ".npz", read_npz)


class TableStore:
    """The boxes of all photos in memory, one after another; for what comes in a single file."""

    def __init__(
        self,
        path: Path,
        kind: StoreKind,
        keys: Sequence[str],
        owners: Int[np.ndarray, " N"],
        boxes: Float32[np.ndarray, "N 4"],
        scores: Float32[np.ndarray, " N"],
        note: str = "",
    ) -> None:
        """Sorts the boxes by photo; those of one photo keep their order.

        Args:
          path: the file that they were read from.
          kind: of that file.
          keys: the photos, each once.
          owners: of each box, the number of its photo in ``keys``.
          boxes: x0, y0, x1, y1 in pixels.
          scores: of the boxes.
          note: see ``BoxStore``.
        """
        order = np.argsort(owners, kind="stable")
        self.path = path
        self.kind = kind
        self.note = note
        self._numbers = {key: number for number, key in enumerate(keys)}
        self._boxes = boxes[order]
        self._scores = scores[order]
        self._order = order
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(keys)))])

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, key: object) -> bool:
        return key in self._numbers

    def keys(self) -> Iterator[str]:
        """The photos, sorted."""
        return iter(sorted(self._numbers))

    def read(self, key: str) -> Boxes:
        """The photo's boxes."""
        rows = self._rows(key)
        if rows is None:
            raise MissingBoxesError(self.absent(key))
        return Boxes(self._boxes[rows], self._scores[rows])

    def _rows(self, key: str) -> slice | None:
        """Where the photo's boxes are."""
        number = self._numbers.get(key)
        return None if number is None else slice(int(self._starts[number]), int(self._starts[number + 1]))

    def absent(self, key: str) -> str:
        """Names the file and the photo."""
        return f"{self.path}: no boxes for photo {key}"


class MaskedTable(TableStore):
    """A table whose boxes have masks."""

    def __init__(
        self,
        path: Path,
        kind: StoreKind,
        keys: Sequence[str],
        owners: Int[np.ndarray, " N"],
        boxes: Float32[np.ndarray, "N 4"],
        scores: Float32[np.ndarray, " N"],
        note: str,
        masks: Masks,
    ) -> None:
        """As ``TableStore``; ``masks`` in the order of the boxes given."""
        super().__init__(path, kind, keys, owners, boxes, scores, note)
        self._masks = masks

    def masks(self, key: str, size: tuple[int, int]) -> list[Bool[np.ndarray, "H W"]]:
        """See ``MaskedStore``."""
        rows = self._rows(key)
        found = () if rows is None else (self._masks[number] for number in self._order[rows].tolist())
        try:
            return [draw(mask, size) for mask in found]
        except ValueError as error:
            raise DataError(f"{self.path}: photo {key}: {error}") from error

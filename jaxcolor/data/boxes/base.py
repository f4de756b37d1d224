"""What every box store answers, and the errors about photos without an entry."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool

from jaxcolor.data.formats import PHOTO_SUFFIXES
from jaxcolor.data.types import Boxes, DataError

_NAMED = 3
"""Photos named in a message about many."""


class MissingBoxesError(DataError):
    """A store has no entry for a photo: ``missing_boxes`` decides on it, not ``bad_photos``."""


@runtime_checkable
class BoxStore(Protocol):
    """Boxes by the key of their photo (``photo_key``). Reading is safe from several threads, and after pickling."""

    path: Path
    kind: str
    """Its name in ``registries.BOX_STORES``, or the dotted path that it was opened by."""
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


@runtime_checkable
class SizedStore(Protocol):
    """A box store that may say of what size its photos are."""

    def photo_size(self, key: str) -> tuple[int, int] | None:
        """Width and height in pixels of the photo that the boxes were made for; None where that is not said."""
        ...


def fit_boxes(store: BoxStore, key: str, found: Boxes, size: tuple[int, int]) -> Boxes:
    """A photo's boxes in its own pixels: scaled where the store has them for another size of the same aspect.

    Args:
      store: where they are from.
      key: of the photo.
      found: the boxes as read.
      size: the photo's width and height in pixels.

    Raises:
      DataError: the store has them for a photo of another aspect: turned, or cropped.
    """
    # Not by isinstance: to ask a protocol takes longer than to read the boxes.
    size_of = getattr(store, "photo_size", None) if len(found.boxes) else None
    there: tuple[int, int] | None = None if size_of is None else size_of(key)
    if there is None or there == size:
        return found
    if abs(size[0] * there[1] - size[1] * there[0]) > max(there):  # what rounding to whole pixels can do
        raise DataError(
            f"{store.path}: has photo {key} with {there[0]} x {there[1]} pixels, but it is {size[0]} x {size[1]}: its "
            "boxes would lie elsewhere; export them for the photo as it is shown, upright and whole"
        )
    factors = np.array([*size, *size], np.float64) / np.array([*there, *there], np.float64)
    with np.errstate(over="ignore"):
        return Boxes((found.boxes * factors).astype(np.float32), found.scores)


def same_spelling(name: str) -> str:
    """A name in the one spelling that keys have: composed (NFC), since disks of Macs hold names decomposed."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def photo_key(name: str | int) -> str:
    """The key under which a photo's boxes are kept.

    Args:
      name: the photo's file name, with or without folders and suffix, as TFDS's and COCO's ``file_name`` or a path give
        it; or COCO's image id, which names its file by 12 digits.

    Returns:
      The stem of the file's name: ``train/n01440764/n01440764_10026.JPEG`` becomes ``n01440764_10026``, 139 becomes
      ``000000000139``. Folders may be separated as on Windows; letters are composed (NFC). Only the suffix of a photo
      is taken off, so that a stem with a dot in it stays whole.
    """
    if not isinstance(name, str):
        return f"{name:012d}"
    # Annotations and archives made on Windows separate folders by \, which no name of a file has there.
    path = PurePosixPath(same_spelling(name.replace("\\", "/")))
    return path.stem if path.suffix.lower() in PHOTO_SUFFIXES else path.name


def check_complete(store: BoxStore, keys: Sequence[str]) -> None:
    """Checks that a store has an entry for every photo.

    Raises:
      MissingBoxesError: it has not; the message counts the photos, names the first few and says what to do.
    """
    refuse_missing(store, [key for key in keys if key not in store], len(keys))


def names_in(store: BoxStore) -> str:
    """A name that a store has, in words that end a message: what it calls photos shows why one was not found."""
    try:
        first = next(iter(store.keys()), None)
    except DataError:
        return ""
    return "" if first is None else f" (it has boxes for {first}{' and others' if len(store) > 1 else ''})"


def refuse_missing(store: BoxStore, missing: Sequence[str], photos: int) -> None:
    """Raises an error that reports photos without an entry, of ``photos`` in all, unless there are none.

    Raises:
      MissingBoxesError: there are some; see ``check_complete``.
    """
    if not missing:
        return
    line = store.absent(missing[0])
    if len(missing) == 1:
        raise MissingBoxesError(f"{line}; missing_boxes 'none' takes its photo for one without boxes{names_in(store)}")
    named = ", ".join(missing[1 : 1 + _NAMED]) + (" …" if len(missing) > 1 + _NAMED else "")
    raise MissingBoxesError(
        f"{line}; the same for {len(missing) - 1:,} more of {photos:,} photos ({named}); "
        f"missing_boxes 'none' takes them for photos without boxes{names_in(store)}"
    )

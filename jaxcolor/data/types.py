"""What the parts of the data room hand to each other: photo files, photos with boxes, examples, sources."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, overload, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, UInt8
from PIL import Image

from jaxcolor.boxes import BoxChoice, DroppedBoxes, clean_boxes
from jaxcolor.runtime.errors import UserError


class DataError(UserError):
    """Photos, box files or data settings that cannot be used; one line that names the file or the field."""


class Boxes(NamedTuple):
    """Boxes of one photo as they were read, uncleaned."""

    boxes: Float32[np.ndarray, "N 4"]
    """x0, y0, x1, y1 in pixels of the photo as it is shown, that is after its EXIF orientation."""
    scores: Float32[np.ndarray, " N"]


def no_boxes() -> Boxes:
    """What a photo without boxes has."""
    return Boxes(np.zeros((0, 4), np.float32), np.zeros((0,), np.float32))


class Encoded(NamedTuple):
    """A photo's file as bytes: a member of an archive, a record."""

    where: str
    """Names it in messages."""
    data: bytes


PhotoFile = Path | Encoded


class Entry(NamedTuple):
    """One photo of a set, as it is kept there."""

    name: str
    """Its key, under which box stores know it."""
    file: PhotoFile
    file_name: str
    """The name that its file has or had; its key follows from it (``photo_key``)."""
    detections: Boxes | None = None
    """Boxes that lie with the photo, in its pixels; None where the set carries none."""
    truth_shares: Float32[np.ndarray, "K 4"] | None = None
    """Annotated boxes that lie with the photo: x0, y0, x1, y1 as shares of its width and height."""

    def truth(self, size: tuple[int, int]) -> Boxes | None:
        """The annotated boxes in pixels, each with score 1.

        Args:
          size: the photo's width and height in pixels.
        """
        if self.truth_shares is None:
            return None
        exact = self.truth_shares.astype(np.float64) * np.array([*size, *size], np.float64)
        # A share in float32 is off by up to 0.001 pixels for a side of 10,000. Cut to whole pixels later on, 9.9999
        # would be 9 where 10 was annotated; annotations have at most two decimals.
        with np.errstate(invalid="ignore", over="ignore"):
            boxes = np.round(exact, 2).astype(np.float32)
        return Boxes(boxes, np.ones(len(boxes), np.float32))


class Photo(NamedTuple):
    """One photo with the boxes of its objects, as they were read."""

    name: str
    """Its file's stem, or the scene's number; unique in a source."""
    image: Image.Image
    """SRGB (mode RGB), upright, at its original size; Pillow's, which crops and resizes without copying to and fro."""
    boxes: Float32[np.ndarray, "N 4"]
    """Detections: x0, y0, x1, y1 in pixels of the photo; anything may be wrong with them, see ``usable_boxes``."""
    scores: Float32[np.ndarray, " N"]
    truth_boxes: Float32[np.ndarray, "K 4"] | None = None
    """Ground-truth boxes, where there are annotations."""
    truth_masks: Sequence[Bool[np.ndarray, "H W"]] | None = None
    """The pixels of each ground-truth box's object, where masks are wanted and annotated."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.size

    @property
    def rgb(self) -> UInt8[np.ndarray, "H W 3"]:
        """The pixels."""
        return np.asarray(self.image)


class UsableBoxes(NamedTuple):
    """The boxes of a photo from which a choice can be made."""

    boxes: np.ndarray
    """x0, y0, x1, y1 in whole photo pixels, all with a crop: int32 (N, 4)."""
    scores: np.ndarray
    """float32 (N,); 1 for annotated boxes."""
    dropped: DroppedBoxes
    rows: np.ndarray
    """Which of the photo's boxes they are: int (N,)."""


def usable_boxes(photo: Photo, choice: BoxChoice) -> UsableBoxes:
    """The cleaned boxes of a photo: annotated ones for the choice ``ground_truth``, otherwise the detections.

    Raises:
      DataError: ``ground_truth`` for a photo of a source without annotated boxes.
    """
    boxes, scores = photo.boxes, photo.scores
    if choice == "ground_truth":
        if photo.truth_boxes is None:
            raise DataError(f"photo {photo.name}: no annotated boxes; box_choice 'ground_truth' needs truth_boxes_path")
        boxes, scores = photo.truth_boxes, np.ones(len(photo.truth_boxes), np.float32)
    clean = clean_boxes(boxes, scores, photo.size)
    return UsableBoxes(clean.boxes, scores[clean.kept], clean.dropped, clean.kept)


class Example(NamedTuple):
    """What one photo contributes to a batch."""

    full_rgb: UInt8[np.ndarray, "S S 3"] | None
    """The full image; None where a stage does not read it."""
    crop_rgb: Sequence[UInt8[np.ndarray, "_s _s 3"]]
    """Not one array: each crop is copied once, into the batch. With ``data.crop_sides`` each has the side that it is to
    be seen at, else S."""
    level_boxes: Int32[np.ndarray, "n L 4"]
    scores: Float32[np.ndarray, " n"]
    """By these ``collate`` decides which crops are dropped when there are too many."""
    crop_mask: Sequence[Bool[np.ndarray, "S S"]] = ()
    """The pixels of each crop that show its object; none without ``data.masks``."""


@runtime_checkable
class Source(Protocol):
    """Photos by number, in a fixed order. Reading must be safe from several threads."""

    def __len__(self) -> int:
        """How many photos there are."""
        ...

    def __getitem__(self, index: int) -> Photo:
        """Photo ``index``, from 0; raises ``DataError`` if it cannot be read and IndexError past the end."""
        ...

    def picture(self, index: int, least_side: int | None = None) -> Photo:
        """Photo ``index`` for its full image alone: its boxes are left out.

        With ``least_side``, a JPEG is decoded at a half, a quarter or an eighth of its size as long as both sides stay
        at least that many pixels. Raises as ``source[index]``.
        """
        ...

    def crop_count(self, index: int) -> int:
        """How many usable boxes photo ``index`` has."""
        ...

    def with_boxes(self) -> Sequence[int]:
        """Numbers of the photos with at least one usable box, ascending: the others have no instances."""
        ...

    def describe(self) -> str:
        """One line for a person: how many photos, how many with boxes, what was left out."""
        ...


class Names(Sequence[str]):
    """Strings in one contiguous buffer. A million of them pickle as two arrays, in milliseconds.

    A list of a million ``str`` takes ten times the memory in each worker process and a second to pickle.
    """

    def __init__(self, text: bytes, ends: Int[np.ndarray, " n"]) -> None:
        """Takes the strings as ``of`` packs them.

        Args:
          text: all of them, one after another, UTF-8.
          ends: where in ``text`` each ends, in bytes.

        Raises:
          ValueError: the ends are not those of strings in ``text``.
        """
        ends = np.asarray(ends, np.int64)
        if np.any(np.diff(ends, prepend=0) < 0) or (int(ends[-1]) if len(ends) else 0) != len(text):
            raise ValueError(f"{len(ends)} names do not fill {len(text)} bytes")
        self.text = text
        self.ends = ends

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """Packs strings."""
        # surrogateescape: names of files need not be UTF-8, and Python hands them out so.
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        return cls(b"".join(encoded), np.cumsum([len(name) for name in encoded], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Names: ...
    def __getitem__(self, index: int | slice) -> str | Names:
        """String ``index``; of a slice, those strings packed anew."""
        if isinstance(index, slice):
            return Names.of(self[i] for i in range(*index.indices(len(self))))
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"name {index} of {len(self)}")
        start = int(self.ends[index - 1]) if index else 0
        return self.text[start : int(self.ends[index])].decode("utf-8", "surrogateescape")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Names):
            return NotImplemented
        return self.text == other.text and np.array_equal(self.ends, other.ends)

    __hash__ = None  # type: ignore[assignment]

    def digest(self) -> str:
        """A hash of all strings and where each ends."""
        return hashlib.blake2b(self.text + self.ends.astype("<i8").tobytes(), digest_size=16).hexdigest()

"""What every source of photos hands out, and how anything wrong with it is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from jaxcolor.boxes import BoxChoice, DroppedBoxes, clean_boxes
from jaxcolor.runtime.errors import UserError


class DataError(UserError):
    """Photos, box files or data settings that cannot be used; one line that names the file or the field."""


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
    """Annotated boxes, where there are any to be had."""
    truth_masks: Sequence[Bool[np.ndarray, "H W"]] | None = None
    """The pixels of each annotated box's object, where they are wanted and to be had."""

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
        """Photo ``index`` for its full picture alone: its boxes are left out.

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

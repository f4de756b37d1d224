"""What people give, a photo with boxes and hints in any of their forms, made ready for the networks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, Int32, UInt8
from PIL import Image

from jaxcolor.boxes import DroppedBoxes, best_scores, clean_boxes
from jaxcolor.data.transforms import example, read_rgb, upright_rgb
from jaxcolor.data.types import Example
from jaxcolor.hints import Hint, PlacedHints, place_hints
from jaxcolor.runtime.errors import one_line
from jaxcolor.runtime.places import local_path

if TYPE_CHECKING:
    PhotoInput = str | os.PathLike[str] | Image.Image | np.ndarray | jax.Array
else:
    PhotoInput = object  # ``read_photo`` refuses all else, and says what is taken
"""A photo: its file, a picture of Pillow, or its pixels."""

TAKEN = "a path, a PIL image, or a NumPy or JAX array, (H, W) or (H, W, 3), of uint8 or uint16"


class DroppedBoxesWarning(UserWarning):
    """Boxes that cannot be used were left out."""


class Prepared(NamedTuple):
    """One photo, ready for the networks."""

    rgb: UInt8[np.ndarray, "H W 3"]
    boxes: Int32[np.ndarray, "N 4"]
    """The usable boxes, x0, y0, x1, y1 in whole pixels, in the order given."""
    rows: Int[np.ndarray, " N"]
    """Their rows among the boxes given."""
    used: Int[np.ndarray, " n"]
    """Which of the usable boxes are taken for objects, best first."""
    example: Example
    hints: PlacedHints
    given: int
    """How many boxes were given."""
    dropped: DroppedBoxes
    shares: bool
    """Whether the boxes look like shares of the photo in place of pixels."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]

    @property
    def crop_boxes(self) -> Int32[np.ndarray, "n 4"]:
        """The boxes that are cut out, in the order of the crops; none where the networks do not take any."""
        return self.boxes[self.used][: len(self.example.scores)]


def read_photo(photo: object) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of a photo in 8-bit sRGB, upright.

    Files and PIL images are read as ``data.transforms.read_image`` says, their EXIF orientation applied; arrays of 16
    bits are rounded to 8, gray ones get three equal channels.

    Raises:
      DataError: a file or picture that cannot be read.
      ValueError: nothing of what is taken; the message says what is.
    """
    if isinstance(photo, (str, os.PathLike)):
        return read_rgb(Path(local_path(photo, "photo")))
    if isinstance(photo, Image.Image):
        return np.asarray(upright_rgb(photo))
    if not isinstance(photo, (np.ndarray, jax.Array)):
        raise ValueError(f"a photo is {TAKEN}; not {type(photo).__name__}")
    pixels = np.asarray(photo)
    form = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if not (form and pixels.size and pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2):
        raise ValueError(f"a photo is {TAKEN}; not {pixels.shape} {pixels.dtype}")
    if pixels.dtype.itemsize == 2:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels


def check_photos(photos: object) -> None:
    """Checks that what is to be several photos is not one: an array of (H, W, 3) would be H photos of (W, 3).

    Raises:
      ValueError: it is one photo, or nothing of which there are several.
    """
    if isinstance(photos, (np.ndarray, jax.Array)):
        wrong = "" if photos.ndim == 4 else f"{photos.shape} {photos.dtype}"
    else:
        several = isinstance(photos, Sequence) and not isinstance(photos, (str, bytes))
        wrong = "" if several else type(photos).__name__
    if wrong:
        raise ValueError(
            f"photos are a list or another sequence, or an array (N, H, W, 3); each is {TAKEN}; not {wrong}"
        )


def prepare(
    photo: object,
    boxes: Any,
    scores: Any,
    hints: Sequence[Hint] | None,
    *,
    where: str,
    side: int,
    boxes_per_photo: int,
    with_crops: bool,
    crop_sides: Sequence[int] = (),
) -> Prepared:
    """One photo, ready for the networks.

    Args:
      photo: see ``read_photo``.
      boxes: x0, y0, x1, y1 in its pixels, (N, 4), or None. Anything may be wrong with single ones.
      scores: one a box, or None: then the first boxes are the best.
      hints: of the photo; the number of an object is a row of ``boxes``.
      where: names the photo in messages about hints.
      side: of the canvas.
      boxes_per_photo: the best boxes by score that are used.
      with_crops: whether they are cut out.
      crop_sides: at which they are seen, see ``data.transforms.example``.

    Raises:
      ValueError: a photo that is none, boxes or scores of another form, hints that cannot be placed.
    """
    rgb = read_photo(photo)
    size = (rgb.shape[1], rgb.shape[0])
    raw = _numbers(boxes, f"{where}: boxes are x0, y0, x1, y1, (N, 4)")
    raw = raw if raw.size else np.zeros((0, 4))
    if raw.ndim != 2 or raw.shape[1] != 4:
        raise ValueError(f"boxes are (N, 4), not {raw.shape}")
    order = -np.arange(len(raw), dtype=np.float64) if scores is None else _numbers(scores, f"{where}: scores are (N,)")
    if order.shape != (len(raw),):
        raise ValueError(f"{len(raw)} boxes but scores of shape {order.shape}")
    clean = clean_boxes(raw, order, size)
    kept = order[clean.kept].astype(np.float32)
    used = best_scores(kept, boxes_per_photo)
    cut = used if with_crops else used[:0]
    return Prepared(
        rgb,
        clean.boxes,
        clean.kept,
        used,
        example(Image.fromarray(rgb), clean.boxes[cut], kept[cut], side, crop_sides=crop_sides),
        place_hints(hints or (), size, raw, where),
        len(raw),
        clean.dropped,
        look_like_shares(raw, size),
    )


def _numbers(value: Any, form: str) -> Float[np.ndarray, ...]:
    """An array of what a caller gave, whatever it is."""
    try:
        return np.asarray(() if value is None else value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{form}, numbers; not {type(value).__name__}: {one_line(error)}") from error


def dropped_message(photos: Sequence[Prepared]) -> str | None:
    """What to say about boxes that cannot be used; None where all can."""
    dropped = sum((photo.dropped for photo in photos), DroppedBoxes())
    shares = sum(photo.shares for photo in photos)
    parts = []
    if dropped.total:
        parts.append(f"{dropped.total} of {sum(photo.given for photo in photos)} boxes cannot be used ({dropped})")
    if shares:
        count = f"those of {shares} of {len(photos)} photos are" if len(photos) > 1 else "they are"
        parts.append(f"boxes are in pixels; {count} between 0 and 1, like shares of the photo")
    return "; ".join(parts) or None


def look_like_shares(raw: Float[np.ndarray, "N 4"], size: tuple[int, int]) -> bool:
    """Whether boxes look like shares of a photo of that width and height in place of pixels."""
    return bool(len(raw)) and min(size) > 1 and bool(((raw >= 0) & (raw <= 1)).all())

"""What people give, a photo with boxes and hints in any of their forms, made ready for the networks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int32, UInt8, UInt16
from PIL import Image

from jaxcolor.boxes import CropContext, DroppedBoxes, best_scores, clean_boxes, crop_boxes, shared_windows
from jaxcolor.color import Bits, to_8_bits
from jaxcolor.data.transforms import example, read_rgb, read_wide_gray, upright_rgb
from jaxcolor.data.types import Boxes, Example
from jaxcolor.hints import Hint, PlacedHints, place_hints
from jaxcolor.runtime.errors import UserError, one_line
from jaxcolor.runtime.places import local_path

if TYPE_CHECKING:
    PhotoInput = str | os.PathLike[str] | Image.Image | np.ndarray | jax.Array
else:
    PhotoInput = object  # ``read_photo`` refuses all else, and says what is taken
"""A photo: its file, a picture of Pillow, or its pixels."""

AUTO = "auto"
"""In place of boxes: those that are found in the photo."""

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
    crop_boxes: Int32[np.ndarray, "c 4"]
    """What is cut out for these (``windows``), in the order of the crops; none where the networks take no crops."""
    example: Example
    hints: PlacedHints
    given: int
    """How many boxes were given."""
    dropped: DroppedBoxes
    shares: bool
    """Whether the boxes look like shares of the photo in place of pixels."""
    wide_gray: UInt16[np.ndarray, "H W"] | None = None
    """The gray in 16 bits, of a photo that has them, where results have them."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]


class OnCanvas(NamedTuple):
    """A photo and its colors before they are brought to its size."""

    photo: Prepared
    ab: Float[np.ndarray, "S S 2"]
    """Normalized, as strong as was asked for."""

    @property
    def canvas(self) -> UInt8[np.ndarray, "S S 3"]:
        """The photo as the networks see it, sRGB."""
        rgb = self.photo.example.full_rgb
        assert rgb is not None  # ``prepare`` makes it
        return rgb


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
    pixels = to_8_bits(pixels)
    return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels


def _wide_gray(photo: object) -> UInt16[np.ndarray, "H W"] | None:
    """The gray of a photo in 16 bits; None where it is not gray of more than 8."""
    if isinstance(photo, (str, os.PathLike)):
        return read_wide_gray(Path(local_path(photo, "photo")))
    if isinstance(photo, Image.Image):
        return read_wide_gray(photo)
    is_gray = isinstance(photo, (np.ndarray, jax.Array)) and photo.ndim == 2 and photo.dtype == np.uint16
    return np.asarray(photo) if is_gray else None


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
    context: CropContext,
    boxes_per_photo: int,
    with_crops: bool,
    bits: Bits = 8,
    crop_sides: Sequence[int] = (),
    share_crops: bool = False,
) -> Prepared:
    """One photo, ready for the networks.

    Args:
      photo: see ``read_photo``.
      boxes: x0, y0, x1, y1 in its pixels, (N, 4), or None. Anything may be wrong with single ones.
      scores: one a box, or None: then the first boxes are the best.
      hints: of the photo; the number of an object is a row of ``boxes``.
      where: names the photo in messages about hints.
      side: of the canvas.
      context: what crops show around their boxes.
      boxes_per_photo: the best boxes by score that are used.
      with_crops: whether they are cut out.
      bits: of results.
      crop_sides: at which they are seen, see ``data.transforms.example``.
      share_crops: see ``windows``.

    Raises:
      ValueError: a photo that is none, boxes or scores of another form, hints that cannot be placed.
    """
    wide_gray = _wide_gray(photo) if bits == 16 else None
    rgb = read_photo(photo if wide_gray is None else wide_gray)
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
    cut_out, scores_of = windows(clean.boxes[cut], kept[cut], size, context, share_crops)
    return Prepared(
        rgb,
        clean.boxes,
        clean.kept,
        used,
        cut_out,
        example(Image.fromarray(rgb), cut_out, scores_of, side, crop_sides=crop_sides),
        place_hints(hints or (), size, raw, where),
        len(raw),
        clean.dropped,
        look_like_shares(raw, size),
        wide_gray,
    )


def windows(
    boxes: Int32[np.ndarray, "n 4"],
    scores: Float32[np.ndarray, " n"],
    size: tuple[int, int],
    context: CropContext,
    share: bool,
) -> tuple[Int32[np.ndarray, "c 4"], Float32[np.ndarray, " c"]]:
    """What is cut out of a photo for objects, and the best score of those that it shows.

    Args:
      boxes: the objects', the best first.
      scores: of the boxes.
      size: of the photo.
      context: what crops show around their boxes.
      share: whether one crop may serve several boxes (``boxes.shared_windows``); else each has its own.
    """
    if not share:
        return crop_boxes(boxes, size, context), scores
    shared, window_of = shared_windows(boxes, size, context)
    return shared, scores[np.unique(window_of, return_index=True)[1]]


def prepare_all(
    photos: Sequence[PhotoInput],
    boxes: Sequence[Any] | None,
    scores: Sequence[Any] | None,
    hints: Sequence[Sequence[Hint] | None] | None,
    find: Callable[[Sequence[Any]], Sequence[Boxes]],
    **settings: Any,
) -> list[Prepared]:
    """Photos, ready for the networks; ``settings`` as of ``prepare``, but ``where``.

    Args:
      photos: see ``read_photo``.
      boxes: for each photo boxes, None or ``AUTO``; or ``AUTO``, or None, for all of them.
      scores: for each photo; None where its boxes are to be found.
      hints: for each photo, or None.
      find: the boxes of photos, given their pixels; called once at most.
      **settings: of ``prepare``.

    Raises:
      ValueError: see ``prepare``; what is not several photos, lists of different lengths, scores of no boxes.
    """
    check_photos(photos)
    if isinstance(boxes, str):
        boxes = [boxes] * len(photos)
    none = (None,) * len(photos)
    boxes, scores, hints = (list[Any](none if given is None else given) for given in (boxes, scores, hints))
    if not len(photos) == len(boxes) == len(scores) == len(hints):
        counts = f"{len(photos)} photos, {len(boxes)} sets of boxes, {len(scores)} of scores, {len(hints)} of hints"
        raise ValueError(f"{counts}: not the same")
    rows = [i for i, given in enumerate(boxes) if isinstance(given, str) and given == AUTO]
    if any(scores[i] is not None for i in rows):
        raise ValueError(f"scores belong to boxes that are given; those of boxes={AUTO!r} are found with them")
    found = find([read_photo(photos[i]) for i in rows]) if rows else []
    for i, of_photo in zip(rows, found, strict=True):
        boxes[i], scores[i] = of_photo
    return [
        prepare(*each, where=f"photo {number}" if len(photos) > 1 else "photo", **settings)
        for number, each in enumerate(zip(photos, boxes, scores, hints, strict=True))
    ]


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


def check_points(photo: Prepared, points: Any) -> Float64[np.ndarray, "N 2"]:
    """Points of a photo, x and y in its pixels.

    Raises:
      ValueError: they have another form.
      UserError: one lies outside of the photo.
    """
    at = np.asarray(points, np.float64) if np.size(points) else np.zeros((0, 2))
    if at.ndim != 2 or at.shape[1] != 2:
        raise ValueError(f"points are (N, 2), not {at.shape}")
    outside = np.flatnonzero(~((at >= 0) & (at < np.array(photo.size))).all(axis=1))
    if len(outside):
        x, y = at[outside[0]].tolist()
        width, height = photo.size
        raise UserError(f"point {outside[0]} at {x:g}, {y:g}: outside the photo, which is {width} x {height} pixels")
    return at

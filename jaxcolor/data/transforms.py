"""Transforms of one photo, from its file to the arrays of an example: decode, resize, crop, flip. NumPy and Pillow."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8
from PIL import Image, ImageOps

from jaxcolor.batch import LEVELS
from jaxcolor.boxes import level_boxes, mirror_boxes
from jaxcolor.data.types import DataError, Encoded, Example, PhotoFile
from jaxcolor.runtime.errors import one_line

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")

_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow raises on broken files, depending on the format and on where it breaks; a warning where those are errors.
"""

_ORIENTATION_TAG = 0x0112
_SIDEWAYS = (5, 6, 7, 8)


def _open(photo: PhotoFile) -> Image.Image:
    return Image.open(photo if isinstance(photo, Path) else io.BytesIO(photo.data))


def _unreadable(photo: PhotoFile, error: BaseException) -> DataError:
    where = photo if isinstance(photo, Path) else photo.where
    return DataError(f"{where}: cannot read this photo: {one_line(error)}")


def read_encoded(photo: PhotoFile) -> Encoded:
    """A photo's file in memory.

    Raises:
      DataError: it cannot be read.
    """
    if not isinstance(photo, Path):
        return photo
    try:
        return Encoded(str(photo), photo.read_bytes())
    except OSError as error:
        raise DataError(f"{photo}: cannot read this photo: {error.strerror or error}") from error


def read_image(photo: PhotoFile, least_side: int | None = None) -> Image.Image:
    """The photo in a file as a viewer shows it, in mode RGB.

    Its EXIF orientation is applied, gray, palettes and CMYK become RGB, 16-bit gray becomes 8-bit, transparent parts
    lie on white, and of an animation or of several pages the first picture is taken. What it is follows from its
    contents, not from its name. Color profiles are ignored: all is taken for sRGB, as by the reference. Above
    Pillow's limit for decompression bombs (179 million pixels) it is refused; above half of that Pillow warns.

    Args:
      photo: its file.
      least_side: let the JPEG decoder reduce the photo by 2, 4 or 8 as long as both sides stay at least this many
        pixels; None: the original size.

    Raises:
      DataError: the file is missing, no photo, or damaged.
    """
    try:
        with _open(photo) as image:
            if least_side is not None:
                image.draft(None, (least_side, least_side))  # does nothing for other formats
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except _DECODE_ERRORS as error:
        raise _unreadable(photo, error) from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """A picture that is in memory, or opened and not yet read, as ``read_image`` would give it; it is not changed.

    Raises:
      DataError: it is damaged, or its pixels have no known white.
    """
    try:
        return _to_rgb(ImageOps.exif_transpose(image))
    except _DECODE_ERRORS as error:
        raise DataError(f"this picture cannot be used: {one_line(error)}") from error


def read_rgb(photo: PhotoFile) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of the photo in a file, see ``read_image``."""
    return np.asarray(read_image(photo))


def read_size(photo: PhotoFile) -> tuple[int, int]:
    """Width and height of the photo in a file as a viewer shows it, from its header as far as possible.

    Raises:
      DataError: the file is missing, or its header is not that of a photo.
    """
    try:
        with _open(photo) as image:
            width, height = image.size
            # Pillow decodes a whole PNG to find its EXIF: the standard lets it follow the pixels.
            turned = image.getexif().get(_ORIENTATION_TAG) in _SIDEWAYS
    except _DECODE_ERRORS as error:
        raise _unreadable(photo, error) from error
    return (height, width) if turned else (width, height)


def check_header(photo: PhotoFile) -> None:
    """Checks that a file begins like a photo; cheaper than ``read_size``.

    Raises:
      DataError: it is missing, or does not.
    """
    try:
        with _open(photo):
            pass
    except _DECODE_ERRORS as error:
        raise _unreadable(photo, error) from error


class Augment(NamedTuple):
    """What is done at random to photos in training; the defaults do nothing."""

    flip: bool = False
    """Mirror half of them left to right."""
    area: float = 1.0
    """Smallest share of the photo's area that a random window keeps; 1: no window."""
    aspect: float = 1.0
    """The window's aspect is the photo's times a factor between 1 / this and this."""
    visible: float = 0.0
    """Boxes of which less than this share of the area lies in the window have no crop."""


class Window(NamedTuple):
    """A part of a photo, in shares of its width and height, so that it fits the photo at any size."""

    x0: float
    y0: float
    x1: float
    y1: float

    def pixels(self, photo_size: tuple[int, int]) -> Int32[np.ndarray, " 4"]:
        """x0, y0, x1, y1 in whole pixels of a photo of this width and height, at least one each way."""
        limit = np.array(photo_size)
        start = np.minimum(np.rint(np.array([self.x0, self.y0]) * limit), limit - 1)
        end = np.maximum(np.rint(np.array([self.x1, self.y1]) * limit), start + 1)
        return np.concatenate([start, end]).astype(np.int32)


WHOLE = Window(0.0, 0.0, 1.0, 1.0)


def random_window(augment: Augment, rng: np.random.Generator) -> Window:
    """A window as Inception's training takes it (Szegedy et al. 2015).

    Its share of the photo's area is uniform between ``augment.area`` and 1; the factor of its aspect is log-uniform,
    and what would stick out of the photo is cut off; its place is uniform.
    """
    if augment.area >= 1:
        return WHOLE
    share = rng.uniform(augment.area, 1.0)
    factor = augment.aspect ** (rng.uniform(-1.0, 1.0) / 2)
    width, height = min(1.0, math.sqrt(share) * factor), min(1.0, math.sqrt(share) / factor)
    x0, y0 = rng.uniform(0.0, 1.0 - width), rng.uniform(0.0, 1.0 - height)
    return Window(x0, y0, x0 + width, y0 + height)


GRAY_GRID = 64
"""Whether a photo is gray is looked up on a grid of at most about this many of its pixels a side."""


def is_gray(image: Image.Image, tolerance: int) -> bool:
    """Whether a photo has no color: the channels of no pixel of a regular grid differ by more than ``tolerance``.

    The tolerance is for gray photos that were saved in color: JPEG leaves traces of a few steps.
    """
    # Nearly every photo shows color on a grid of 8 x 8, which is looked at first.
    return all(_spread(image, grid) <= tolerance for grid in (8, GRAY_GRID))


def _spread(image: Image.Image, grid: int) -> int:
    """How far the channels of a pixel differ at most, on a grid of at most this many of a photo's pixels a side."""
    size = (min(image.width, grid), min(image.height, grid))
    pixels = np.asarray(image.resize(size, Image.Resampling.NEAREST))
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    highest = np.maximum(np.maximum(red, green), blue)
    lowest = np.minimum(np.minimum(red, green), blue)
    return int((highest - lowest).max())


def example(
    image: Image.Image,
    boxes: Int32[np.ndarray, "n 4"],
    scores: Float32[np.ndarray, " n"],
    side: int,
    *,
    mirrored: bool = False,
    with_full: bool = True,
    masks: Sequence[Bool[np.ndarray, "H W"]] = (),
) -> Example:
    """The full image, the crops and the level boxes of one photo, ready to be collated.

    Args:
      image: the photo at its original size, mode RGB.
      boxes: cleaned boxes, x0, y0, x1, y1 in whole pixels of ``image``; each is cut from the original, then resized.
      scores: of the boxes.
      side: S of the canvas.
      mirrored: whether all of it is shown mirrored left to right. Pictures are mirrored after resizing: resizing a
        mirrored photo could round differently in the last bit.
      with_full: whether the full image is wanted.
      masks: pixels of ``image`` that show each box's object, or none.
    """
    canvas = (side, side)
    full = np.asarray(image.resize(canvas, Image.Resampling.BILINEAR)) if with_full else None
    cut_out = (image.crop(tuple(box)) for box in boxes.tolist())
    crops = [np.asarray(crop.resize(canvas, Image.Resampling.BILINEAR)) for crop in cut_out]
    cut_masks = [_cut_mask(mask, box, canvas) for mask, box in zip(masks, boxes.tolist(), strict=bool(masks))]
    if mirrored:
        full = full[:, ::-1] if full is not None else None
        crops, boxes = [crop[:, ::-1] for crop in crops], mirror_boxes(boxes, image.width)
        cut_masks = [mask[:, ::-1] for mask in cut_masks]
    return Example(full, crops, level_boxes(boxes, image.size, side, LEVELS), scores, cut_masks)


def _cut_mask(mask: Bool[np.ndarray, "H W"], box: list[int], canvas: tuple[int, int]) -> Bool[np.ndarray, "S S"]:
    """A mask resized as its crop is: pixels of which it covers at least half."""
    x0, y0, x1, y1 = box
    part = Image.fromarray(np.where(mask[y0:y1, x0:x1], np.uint8(255), np.uint8(0)))
    return np.asarray(part.resize(canvas, Image.Resampling.BILINEAR)) >= 128


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit gray: Pillow's own conversion clips at 255 in place of scaling.
        wide = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.rint(np.clip(wide, 0, 65535) / 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose white is unknown")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")

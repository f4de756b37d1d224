"""Ground truth as an evaluation compares it: at the canvas size or at the photo's own, with annotated objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from jaxcolor.boxes import clean_boxes
from jaxcolor.data.types import Photo


class EvalSize(NamedTuple):
    """The size at which an evaluation compares pictures."""

    side: int
    """Of the canvas that a compared picture lies on."""
    native: bool
    """Each photo at its own size, as far as it fits; otherwise resized to ``side`` each way."""


class EvalTargets(NamedTuple):
    """The ground truth of B photos."""

    rgb: UInt8[np.ndarray, "B H W 3"]
    """Each in the upper left corner, black beyond it; the sides of all batches are the same."""
    size: Int32[np.ndarray, "B 2"]
    """Height and width of each."""
    objects: tuple[Int32[np.ndarray, "K 4"], ...]
    """Of each photo the annotated boxes that have a size: x0, y0, width, height in pixels of ``rgb``."""
    reduced: int
    """How many photos were larger than the canvas, and were reduced."""


class EvalTarget(NamedTuple):
    """The ground truth of one photo, not yet padded."""

    rgb: UInt8[np.ndarray, "h w 3"]
    objects: Int32[np.ndarray, "K 4"]
    reduced: bool


def eval_size(photo_size: tuple[int, int], side: int, native: bool) -> tuple[int, int]:
    """Width and height at which a photo is compared.

    Args:
      photo_size: its own width and height.
      side: the canvas, or what neither side may exceed.
      native: keep the photo's own size as far as that is possible; otherwise ``side`` each way.
    """
    if not native:
        return side, side
    longest = max(photo_size)
    if longest <= side:
        return photo_size
    width, height = (max(1, round(length * side / longest)) for length in photo_size)
    return width, height


def make_target(photo: Photo, side: int, native: bool) -> EvalTarget:
    """A photo at the size of the comparison (``eval_size``): Pillow's bilinear filter, antialiased."""
    size = eval_size(photo.size, side, native)
    image = photo.image if photo.size == size else photo.image.resize(size, Image.Resampling.BILINEAR)
    boxes = np.zeros((0, 4), np.float32) if photo.truth_boxes is None else photo.truth_boxes
    whole = clean_boxes(boxes, None, photo.size).boxes.astype(np.float64)
    scale = np.array([*size, *size]) / np.array([*photo.size, *photo.size])
    # Outwards, so that a thin object keeps at least one pixel each way.
    start = np.floor(whole[:, :2] * scale[:2] + 1e-6)
    end = np.ceil(whole[:, 2:] * scale[2:] - 1e-6)
    objects = np.concatenate([start, end - start], axis=1).astype(np.int32)
    return EvalTarget(np.asarray(image), objects, reduced=native and photo.size != size)


def stack(photos: Sequence[EvalTarget | None], side: int) -> EvalTargets:
    """Photos on canvases of ``side``; None, padding, is black and as large as the canvas."""
    rgb = np.zeros((len(photos), side, side, 3), np.uint8)
    size = np.full((len(photos), 2), side, np.int32)
    objects = []
    for row, photo in enumerate(photos):
        if photo is not None:
            height, width = photo.rgb.shape[:2]
            rgb[row, :height, :width] = photo.rgb
            size[row] = height, width
        objects.append(np.zeros((0, 4), np.int32) if photo is None else photo.objects)
    return EvalTargets(rgb, size, tuple(objects), sum(photo is not None and photo.reduced for photo in photos))

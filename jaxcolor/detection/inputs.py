"""What a detector sees: the gray photo, all that there is when coloring, on a canvas of the size that it takes."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, UInt8
from PIL import Image

Fit = Literal["letterbox", "stretch"]
"""``letterbox``: the photo keeps its aspect and lies in the middle of a gray canvas, as YOLO's are trained.
``stretch``: it fills the canvas."""

_PAPER = 114
"""Gray of the canvas around a letterboxed photo; Ultralytics' value."""

_Y_WEIGHTS = (0.212671, 0.715160, 0.072169)
"""Of linear red, green and blue; the row for y in ``color.py``. D65's y is 1."""


def _linear() -> np.ndarray:
    values = np.arange(256) / 255
    return np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)


_LINEAR = _linear()
_RED, _GREEN, _BLUE = (np.float32(weight) * _LINEAR.astype(np.float32) for weight in _Y_WEIGHTS)


def detector_gray(rgb: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """L* of CIE Lab in 8 bits, three times.

    The paper's code runs its detector on OpenCV's 8-bit L, stacked three times: L* from 0 to 100 becomes 0 to 255,
    rounded. Video gray (Pillow's ``L``, Rec. 601 luma) is another picture, and gives other boxes.

    A detector wants it from every pixel of every photo, so it is computed with a table and one cube root
    (``color.rgb_to_lab`` computes a and b too); it differs from the rounded L* of that by at most one step.
    """
    y = _RED[rgb[..., 0]]
    y += _GREEN[rgb[..., 1]]
    y += _BLUE[rgb[..., 2]]
    lightness = np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)
    gray = np.rint(np.clip(lightness * 2.55, 0, 255)).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=-1)


class Placement(NamedTuple):
    """Where a photo lies on a canvas."""

    photo_size: tuple[int, int]
    """Width and height in photo pixels."""
    left: int
    top: int
    width: int
    """On the canvas, in its pixels, as the next."""
    height: int

    def back(self, boxes: Float[np.ndarray, "N 4"]) -> Float64[np.ndarray, "N 4"]:
        """Boxes x0 y0 x1 y1 in pixels of the canvas, in pixels of the photo; they may lie outside of it."""
        origin = np.array([self.left, self.top] * 2)
        # Sides are rounded to whole pixels of the canvas, so each axis has a scale of its own.
        scale = np.array([self.photo_size[0] / self.width, self.photo_size[1] / self.height] * 2)
        return (boxes.astype(np.float64) - origin) * scale


def place(photo_size: tuple[int, int], canvas_size: tuple[int, int], fit: Fit) -> Placement:
    """Where a photo lies on the canvas; sizes are width, height in pixels. A letterboxed side has at least a pixel."""
    if fit == "stretch":
        return Placement(photo_size, 0, 0, *canvas_size)
    scale = min(canvas_size[0] / photo_size[0], canvas_size[1] / photo_size[1])
    width, height = (
        min(max(round(side * scale), 1), limit) for side, limit in zip(photo_size, canvas_size, strict=True)
    )
    return Placement(photo_size, (canvas_size[0] - width) // 2, (canvas_size[1] - height) // 2, width, height)


def paint(photo: UInt8[np.ndarray, "H W 3"], canvas_size: tuple[int, int], placed: Placement) -> np.ndarray:
    """The canvas with the photo, Pillow's bilinear filter: uint8 (height, width, 3)."""
    canvas = np.full((canvas_size[1], canvas_size[0], 3), _PAPER, np.uint8)
    resized = Image.fromarray(photo).resize((placed.width, placed.height), Image.Resampling.BILINEAR)
    canvas[placed.top : placed.top + placed.height, placed.left : placed.left + placed.width] = np.asarray(resized)
    return canvas

"""A photo on the canvas of a detector with a fixed input size, and boxes on the canvas back in the photo."""

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
    """Where a photo goes; sizes are width and height in pixels. A letterboxed photo has at least one pixel a side."""
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

"""Pictures of an evaluation: photos with their boxes, and the contact sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from jaxcolor.evaluation.predictors import SYSTEMS
from jaxcolor.evaluation.results import Shown
from jaxcolor.evaluation.tables import TITLES
from jaxcolor.runtime.contact_sheet import draw_boxes, tile_grid

PANEL = 192
"""Smallest side of a picture to look at, in pixels: smaller canvases are magnified by a whole number."""


def panel(rgb: UInt8[np.ndarray, "S S 3"], boxes: Int[np.ndarray, "N 4"] | None = None) -> Image.Image:
    """A picture magnified by a whole number to at least ``PANEL`` pixels, with boxes drawn where given.

    Args:
      rgb: sRGB.
      boxes: x0, y0, width, height on the picture's own grid.
    """
    factor = -(-PANEL // rgb.shape[0])
    # Nearest: what is judged are the canvas's own pixels.
    image = Image.fromarray(rgb).resize((rgb.shape[1] * factor, rgb.shape[0] * factor), Image.Resampling.NEAREST)
    if boxes is not None:
        draw_boxes(image, np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1) * factor)
    return image


def fitted(rgb: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """A picture in the upper left corner of a canvas, reduced or magnified to fit; unchanged if it is as large."""
    height, width = rgb.shape[:2]
    if height == width == side:
        return rgb
    canvas = Image.new("RGB", (side, side), (128, 128, 128))
    canvas.paste(Image.fromarray(rgb).resize(fitted_size(height, width, side), Image.Resampling.BILINEAR))
    return np.asarray(canvas)


def fitted_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Width and height of such a picture on the canvas."""
    longest = max(height, width)
    return max(1, round(width * side / longest)), max(1, round(height * side / longest))


def decibel(value: float) -> str:
    """A photo's PSNR for a caption."""
    return "identical" if np.isposinf(value) else f"{value:.1f} dB"


def columns(pictures: Sequence[Shown]) -> list[str]:
    """The systems of which there are pictures, and ``truth`` at the end."""
    return [*(s for s in SYSTEMS if s in pictures[0].panels), "truth"]


def contact_sheet(pictures: Sequence[Shown]) -> Image.Image:
    """A row for each photo: gray, full, fused (those there are) and the ground truth with the boxes, labeled.

    Each picture's PSNR stands under it, under the ground truth the photo's name.

    Raises:
      ValueError: there is no picture.
    """
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture")
    names = columns(pictures)
    tiles, captions = [], []
    for shown in pictures:
        tiles += [panel(shown.panels[name], shown.boxes if name == "truth" else None) for name in names]
        captions += [*(decibel(shown.psnr[name]) for name in names[:-1]), shown.name]
    return tile_grid(tiles, captions, columns=len(names), tile=tiles[0].size, headings=[TITLES[name] for name in names])

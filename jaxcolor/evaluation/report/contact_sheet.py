"""Pictures of an evaluation: photos with their boxes, and the contact sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageDraw, ImageFont

from jaxcolor.evaluation.predictors import SYSTEMS
from jaxcolor.evaluation.results import Shown
from jaxcolor.evaluation.tables import TITLES

PANEL = 192
"""Smallest side of a picture to look at, in pixels: smaller canvases are magnified by a whole number."""
_MARGIN = 12
_GAP = 8
_HEADER = 30
_CAPTION = 24
_PAPER = (250, 250, 249)
_INK = (28, 25, 23)
_FAINT = (120, 113, 108)
_BOX = (255, 255, 255)
_BOX_EDGE = (0, 0, 0)


def panel(rgb: UInt8[np.ndarray, "S S 3"], boxes: Int[np.ndarray, "N 4"] | None = None) -> Image.Image:
    """A picture magnified by a whole number to at least ``PANEL`` pixels, with boxes drawn where given.

    Args:
      rgb: sRGB.
      boxes: x0, y0, width, height on the picture's own grid.
    """
    factor = -(-PANEL // rgb.shape[0])
    # Nearest: what is judged are the canvas's own pixels.
    image = Image.fromarray(rgb).resize((rgb.shape[1] * factor, rgb.shape[0] * factor), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    for x0, y0, width, height in () if boxes is None else boxes * factor:
        corners = [int(x0), int(y0), int(x0 + width) - 1, int(y0 + height) - 1]
        # White on black: seen on any colour, of which there are all in these pictures.
        draw.rectangle(corners, outline=_BOX_EDGE, width=3)
        draw.rectangle([c + d for c, d in zip(corners, (1, 1, -1, -1), strict=True)], outline=_BOX, width=1)
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
    """The systems of which there are pictures, and ``truth``."""
    return [*(s for s in SYSTEMS if s in pictures[0].panels), "truth"]


def contact_sheet(pictures: Sequence[Shown]) -> Image.Image:
    """A row for each photo: gray, full, fused (those there are) and the truth with the boxes, labelled.

    Each picture's PSNR stands under it, under the truth the photo's name.

    Raises:
      ValueError: there is no picture.
    """
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture")
    names = columns(pictures)
    side = panel(pictures[0].panels["truth"]).width
    width = 2 * _MARGIN + len(names) * side + (len(names) - 1) * _GAP
    height = _HEADER + len(pictures) * (side + _CAPTION) + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    title, small = ImageFont.load_default(size=15), ImageFont.load_default(size=12)
    for column, name in enumerate(names):
        x = _MARGIN + column * (side + _GAP)
        draw.text((x, _HEADER / 2), TITLES[name], fill=_INK, font=title, anchor="lm")
        for row, shown in enumerate(pictures):
            y = _HEADER + row * (side + _CAPTION)
            sheet.paste(panel(shown.panels[name], shown.boxes if name == "truth" else None), (x, y))
            caption = _fitting(shown.name, side, draw, small) if name == "truth" else decibel(shown.psnr[name])
            draw.text((x, y + side + 3), caption, fill=_FAINT, font=small, anchor="la")
    return sheet


def _fitting(
    text: str, width: int, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """The text, its middle left out if it is wider than ``width``; line breaks in file names become spaces."""
    text = " ".join(text.split())
    short, keep = text, len(text)
    while keep > 2 and draw.textlength(short, font=font) > width:
        keep -= 1
        short = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
    return short

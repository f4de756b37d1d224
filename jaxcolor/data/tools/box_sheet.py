"""A contact sheet of photos with their boxes drawn, to look at what a detector found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from jaxcolor.data.types import UsableBoxes

TILE = 240
"""Longest side of a photo on the sheet, in pixels."""
COLUMNS = 4

_GAP = 12
_CAPTION = 20
_PAPER = (250, 250, 249)
_INK = (28, 25, 23)
_BOX = (255, 255, 255)
_BOX_EDGE = (0, 0, 0)


class Tile(NamedTuple):
    """One photo of the sheet."""

    picture: Image.Image
    caption: str


def draw_boxes(name: str, rgb: UInt8[np.ndarray, "H W 3"], found: UsableBoxes) -> Tile:
    """A photo made small, its boxes with their scores, under it its name and the number of boxes."""
    picture = Image.fromarray(rgb)
    picture.thumbnail((TILE, TILE), Image.Resampling.BILINEAR)
    scale = np.array([picture.width / rgb.shape[1], picture.height / rgb.shape[0]] * 2)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=11)
    # The best last, so that it lies on top.
    for box, score in list(zip(found.boxes * scale, found.scores, strict=True))[::-1]:
        x0, y0, x1, y1 = (round(c) for c in box.tolist())
        # A box can be narrower than a pixel here; Pillow refuses corners in the wrong order.
        corners = [x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)]
        # White on black: seen on any colour.
        draw.rectangle(corners, outline=_BOX_EDGE, width=3)
        draw.rectangle(corners, outline=_BOX, width=1)
        place = (x0 + 3, y0 + 1)
        draw.text(place, f"{score:.2f}", fill=_BOX, font=font, stroke_width=1, stroke_fill=_BOX_EDGE)
    count = len(found.boxes)
    return Tile(picture, f"{name}: {count or 'no'} box{'es' * (count != 1)}")


def sheet(tiles: Sequence[Tile]) -> Image.Image:
    """Tiles in rows of ``COLUMNS``, in their order.

    Raises:
      ValueError: there is none.
    """
    if not tiles:
        raise ValueError("a contact sheet needs at least one photo")
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    step_x, step_y = TILE + _GAP, TILE + _CAPTION + _GAP
    paper = Image.new("RGB", (_GAP + columns * step_x, _GAP + rows * step_y), _PAPER)
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(size=12)
    for number, (picture, caption) in enumerate(tiles):
        row, column = divmod(number, columns)
        x, y = _GAP + column * step_x, _GAP + row * step_y
        paper.paste(picture, (x + (TILE - picture.width) // 2, y + (TILE - picture.height) // 2))
        draw.text((x, y + TILE + 3), _fitting(caption, draw, font), fill=_INK, font=font)
    return paper


def _fitting(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, its beginning left out where it is too wide; line breaks in file names become spaces."""
    text = " ".join(text.split())
    short, keep = text, len(text)
    while keep > 2 and draw.textlength(short, font=font) > TILE:
        keep -= 1
        short = f"…{text[-keep:]}"
    return short

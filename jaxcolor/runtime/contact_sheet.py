"""Contact sheets: pictures in a grid, captions under them, boxes drawn on them. Pillow only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Real
from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

GAP = 12
"""Pixels around and between tiles."""
_CAPTION = 20
_HEADING = 24
_PAPER = (250, 250, 249)
_INK = (28, 25, 23)
_BOX = (255, 255, 255)
_BOX_EDGE = (0, 0, 0)


def fitting_text(text: str, width: int, font: Font) -> str:
    """A text on one line, its middle left out where it is too wide; line breaks in file names become spaces.

    Args:
      text: the whole text.
      width: what it may take in pixels.
      font: that it is drawn in.
    """
    text = " ".join(text.split())
    short, keep = text, len(text)
    while keep > 2 and font.getlength(short) > width:
        keep -= 1
        short = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
    return short


def draw_boxes(image: Image.Image, boxes: Real[np.ndarray, "N 4"], labels: Sequence[str] = ()) -> None:
    """Draws boxes on a picture, in place; the first ones lie on top.

    Args:
      image: mode RGB.
      boxes: x0, y0, x1, y1 in pixels of ``image``, x1 and y1 exclusive.
      labels: a text for the upper left corner of each box; none for none.
    """
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=11)
    texts = labels or [""] * len(boxes)
    for box, text in list(zip(boxes.tolist(), texts, strict=True))[::-1]:
        x0, y0, x1, y1 = map(round, box)
        # A box can be narrower than a pixel here; Pillow refuses corners in the wrong order.
        corners = [x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)]
        # White between black: visible on any color.
        draw.rectangle(corners, outline=_BOX_EDGE, width=3)
        inner = [x0 + 1, y0 + 1, max(x0 + 1, corners[2] - 1), max(y0 + 1, corners[3] - 1)]
        draw.rectangle(inner, outline=_BOX, width=1)
        if text:
            draw.text((x0 + 3, y0 + 1), text, fill=_BOX, font=font, stroke_width=1, stroke_fill=_BOX_EDGE)


def tile_grid(
    pictures: Sequence[Image.Image],
    captions: Sequence[str],
    *,
    columns: int,
    tile: tuple[int, int],
    headings: Sequence[str] = (),
) -> Image.Image:
    """Pictures in rows, each in the middle of its tile, its caption under it.

    Args:
      pictures: row after row; each fits into a tile.
      captions: of each picture; shortened where they are wider than a tile.
      columns: tiles in a row; no more than there are pictures.
      tile: width and height of a tile in pixels.
      headings: a title for each column; none for none.

    Raises:
      ValueError: there is no picture.
    """
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    width, height = tile
    step_x, step_y = width + GAP, height + _CAPTION + GAP
    top = GAP + (_HEADING if headings else 0)
    sheet = Image.new("RGB", (GAP + columns * step_x, top + rows * step_y), _PAPER)
    draw, font, bold = ImageDraw.Draw(sheet), ImageFont.load_default(size=12), ImageFont.load_default(size=15)
    for column, heading in enumerate(headings):
        draw.text(
            (GAP + column * step_x, top / 2), fitting_text(heading, width, bold), fill=_INK, font=bold, anchor="lm"
        )
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(number, columns)
        x, y = GAP + column * step_x, top + row * step_y
        sheet.paste(picture, (x + (width - picture.width) // 2, y + (height - picture.height) // 2))
        draw.text((x, y + height + 3), fitting_text(caption, width, font), fill=_INK, font=font)
    return sheet

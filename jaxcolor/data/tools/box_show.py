"""``jaxcolor boxes show``: what the boxes of photos are like."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from jaxcolor.config import DataConfig
from jaxcolor.data.sources.photo_source import PhotoSource
from jaxcolor.data.sources.registry import open_source
from jaxcolor.data.tools.box_statistics import best, measure, table
from jaxcolor.data.types import DataError, UsableBoxes, usable_boxes
from jaxcolor.runtime.atomic import atomic_write
from jaxcolor.runtime.contact_sheet import draw_boxes, tile_grid
from jaxcolor.runtime.progress import progress

TILE = 240
"""Longest side of a photo on the contact sheet, in pixels."""
COLUMNS = 4


def show(
    config: DataConfig,
    *,
    batch_size: int,
    sheet_path: Path | None,
    sheet_photos: int,
    page_path: Path | None = None,
    replace: bool,
) -> None:
    """Prints the statistics and writes the contact sheet and the page. A photo that cannot be read costs one line.

    Args:
      config: the photos, their boxes, and how many of a photo's are used.
      batch_size: photos on a device in a training step, for the proposed budget.
      sheet_path: PNG file to write; None: no sheet.
      sheet_photos: photos on it, evenly spaced over the photos.
      page_path: HTML file to write, with the statistics and the sheet in it; None: no page.
      replace: whether these files are replaced.

    Raises:
      DataError: settings that make no sense, a file that exists, and what ``PhotoSource`` raises.
    """
    boxes_per_photo = config.boxes_per_photo
    if boxes_per_photo < 1 or batch_size < 1 or sheet_photos < 1:
        raise DataError(
            f"--boxes-per-photo {boxes_per_photo}, --batch {batch_size}, --sheet-photos {sheet_photos}: "
            "all must be at least 1"
        )
    for path, suffix in ((sheet_path, ".png"), (page_path, ".html")):
        _check_place(path, suffix, replace)
    source = open_source(dataclasses.replace(config, bad_photos="skip"))
    with progress(len(source), "measure", "photo") as note:
        statistics = measure(source, boxes_per_photo, progress=lambda: note(1), left_out=_left_out)
    print(source.describe())
    print(table(statistics, boxes_per_photo, batch_size))
    if sheet_path is None and page_path is None:
        return
    pictures, captions = _tiles(source, boxes_per_photo, sheet_photos)
    picture = tile_grid(pictures, captions, columns=COLUMNS, tile=(TILE, TILE))
    if sheet_path is not None:
        with atomic_write(sheet_path) as part:
            picture.save(part, format="PNG")
        print(f"wrote {sheet_path}")
    if page_path is not None:
        from jaxcolor.data.tools.box_page import page  # jinja2, which the rest does without

        text = page(source.where, source.describe(), statistics, picture, boxes_per_photo, batch_size)
        with atomic_write(page_path) as part:
            # File names need not be UTF-8; a page must be.
            part.write_text(text, encoding="utf-8", errors="replace")
        print(f"wrote {page_path}")


def box_tile(name: str, rgb: UInt8[np.ndarray, "H W 3"], found: UsableBoxes) -> tuple[Image.Image, str]:
    """A photo reduced to a tile with its boxes and their scores drawn, and its caption: name and number of boxes."""
    picture = Image.fromarray(rgb)
    picture.thumbnail((TILE, TILE), Image.Resampling.BILINEAR)
    scale = np.array([picture.width / rgb.shape[1], picture.height / rgb.shape[0]] * 2)
    draw_boxes(picture, found.boxes * scale, [f"{score:.2f}" for score in found.scores])
    count = len(found.boxes)
    return picture, f"{name}: {count or 'no'} box{'es' * (count != 1)}"


def _tiles(source: PhotoSource, boxes_per_photo: int, count: int) -> tuple[list[Image.Image], list[str]]:
    """Pictures and captions of photos evenly spaced over the source."""
    chosen = np.unique(np.linspace(0, len(source) - 1, count).round().astype(int))
    pictures, captions = [], []
    for index in chosen.tolist():
        try:
            photo = source[index]
        except DataError as error:  # its header was fine
            _left_out(error)
            continue
        picture, caption = box_tile(photo.name, photo.rgb, best(usable_boxes(photo, "top_k"), boxes_per_photo))
        pictures.append(picture)
        captions.append(caption)
    if not pictures:
        raise DataError(f"{source.where}: not one of the photos for the contact sheet can be read")
    return pictures, captions


def _left_out(error: DataError) -> None:
    tqdm.write(f"left out: {error}", file=sys.stderr)


def _check_place(path: Path | None, suffix: str, replace: bool) -> None:
    if path is None:
        return
    if path.suffix.lower() != suffix:
        raise DataError(f"{path}: does not end in {suffix}")
    if path.exists() and not replace:
        raise DataError(f"{path}: exists; give --force to replace it")

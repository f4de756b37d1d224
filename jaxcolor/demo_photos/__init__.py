"""Four photographs of the public domain (``NOTICE.txt``) colored with the default weights, for the demo.

Of each: gray, ``safe``, ``vivid``, alternatives (``Colorizer.sample``), truth. None of them is in the training pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup
from PIL import Image

from jaxcolor import color
from jaxcolor.data.transforms import read_rgb
from jaxcolor.evaluation.diversity import psnr
from jaxcolor.evaluation.metrics.colors import colorfulness_hs
from jaxcolor.evaluation.report.page_data import picture_uri
from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.runtime.contact_sheet import tile_grid

FOLDER = Path(__file__).parent

BOXES: Mapping[str, tuple[tuple[int, int, int, int], ...]] = {
    "astronaut": ((22, 205, 362, 512), (152, 14, 300, 190), (278, 344, 512, 512), (0, 0, 95, 512)),
    "chelsea": ((0, 0, 390, 300),),
    "coffee": ((66, 14, 410, 335),),
    "rocket": ((242, 100, 272, 330),),
}
"""Photo -> x0, y0, x1, y1 of its objects in pixels, drawn by hand: what alternatives differ in."""

ALTERNATIVES = 3
_TILE = (256, 256)


class Colored(NamedTuple):
    """One photo and its results, all of its size."""

    name: str
    panels: dict[str, UInt8[np.ndarray, "H W 3"]]
    """gray, safe, vivid where the weights can, alternative 1 and on, truth; in this order."""

    def caption(self, panel: str) -> str:
        """PSNR against the truth and the colorfulness of one panel."""
        rgb, truth = self.panels[panel], self.panels["truth"]
        colorfulness = f"colorfulness {float(colorfulness_hs(jnp.asarray(rgb[None]))[0]):.0f}"
        if panel == "truth":
            return colorfulness
        return f"{float(psnr(rgb[None, None], truth[None])[0, 0]):.1f} dB, {colorfulness}"


def colorize(colorizer: Colorizer, photos: Sequence[str] = tuple(BOXES)) -> list[Colored]:
    """Color the photographs at their own size, each kind of result in one call.

    Args:
      colorizer: ``vivid`` is left out where it has no class head and no saturation curve, alternatives where it has no
        class head.
      photos: names of ``BOXES``.
    """
    truth = [read_rgb(FOLDER / f"{name}.jpg") for name in photos]
    gray = [np.repeat(color.without_color(rgb)[..., None], 3, axis=-1) for rgb in truth]
    boxes = [np.array(BOXES[name], np.float64) for name in photos]
    crops = boxes if colorizer.uses_boxes else None
    panels: dict[str, Sequence[np.ndarray]] = {"gray": gray, "safe": colorizer.many(gray, crops, vivid=0.0)}
    if colorizer.has_classes or colorizer.saturation_curve is not None:
        panels["vivid"] = colorizer.many(gray, crops, vivid=1.0)
    colored = [{name: of_all[i] for name, of_all in panels.items()} for i in range(len(photos))]
    if colorizer.has_classes:
        samples = colorizer.samples(gray, boxes, ALTERNATIVES, vivid=0.0)
        for row, found in zip(colored, samples, strict=True):
            row |= {f"alternative {number}": rgb for number, rgb in enumerate(found, start=1)}
    return [Colored(name, {**row, "truth": rgb}) for name, row, rgb in zip(photos, colored, truth, strict=True)]


def headings(rows: Sequence[Colored]) -> list[str]:
    """The panels of the photo that has most; another one can have fewer alternatives."""
    return max((list(row.panels) for row in rows), key=len)


def sheet(rows: Sequence[Colored]) -> Image.Image:
    """A row for each photo, a column for each kind of result."""
    names = headings(rows)
    tiles, captions = [], []
    for row in rows:
        for name in names:
            rgb = row.panels.get(name)
            tile = Image.new("RGB", (0, 0)) if rgb is None else Image.fromarray(rgb)
            tile.thumbnail(_TILE, Image.Resampling.LANCZOS)
            tiles.append(tile)
            captions.append("" if rgb is None else row.caption(name))
    return tile_grid(tiles, captions, columns=len(names), tile=_TILE, headings=names)


def section(rows: Sequence[Colored]) -> Markup:
    """The pictures at full size as a part of ``report.html``."""
    picture = Markup(
        '<figure><img src="{}" alt="{}, {}" loading="lazy"><figcaption>{}<small>{}</small></figcaption></figure>'
    )
    strip = Markup(
        '<figure class="card samples photographs"><figcaption>{}</figcaption><div class="strip">{}</div></figure>'
    )
    figures = [
        strip.format(
            row.name,
            Markup().join(
                picture.format(picture_uri(rgb), row.name, name, name, row.caption(name))
                for name, rgb in row.panels.items()
            ),
        )
        for row in rows
    ]
    return Markup(
        '<p class="lead">Photographs that training never saw: <em>safe</em> is the mean of what is plausible, '
        "<em>vivid</em> as strong as real colors, alternatives draw one plausible color for each object and for the "
        "background.</p>{}"
    ).format(Markup().join(figures))

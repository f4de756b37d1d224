"""``jaxcolor boxes show --page``: the statistics as one HTML file: no network, no JavaScript, light and dark."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num
from PIL import Image

from jaxcolor.data.tools.box_statistics import (
    Statistics,
    budget_rows,
    crops_distribution,
    quantile_heads,
    quantile_rows,
)
from jaxcolor.runtime.html import environment

WIDTH, HEIGHT = 320, 150
"""Of a chart's drawing area, in the units of its SVG."""

_BINS = 20
_GAP = 1.5
_TICKS = 5


class Bar(NamedTuple):
    """One bar of a chart, in the units of its SVG."""

    x: float
    y: float
    width: float
    height: float
    label: str
    """What a viewer shows when it is pointed at."""


class Tick(NamedTuple):
    """A mark under a chart."""

    x: float
    text: str


class Chart(NamedTuple):
    """A histogram, ready to be drawn."""

    title: str
    note: str
    bars: list[Bar]
    ticks: list[Tick]
    top: str
    """What the highest bar stands for."""


def page(
    title: str, summary: str, statistics: Statistics, sheet: Image.Image, boxes_per_photo: int, photos: int
) -> str:
    """The page as text.

    Args:
      title: heading, such as the photos' folder; may hold anything.
      summary: one line on the photos.
      statistics: of their boxes.
      sheet: the contact sheet, which becomes part of the page.
      boxes_per_photo: with which the statistics were made.
      photos: on a device in a training step, for the proposed budget.
    """
    s = statistics
    counts = s.used[s.used > 0]
    budgets = budget_rows(counts, photos) if len(counts) else []
    proposed = next((row for row in budgets if row.mark == "proposed"), None)
    return (
        environment("jaxcolor.data.tools")
        .get_template("boxes.html")
        .render(
            title=title,
            summary=summary,
            tiles=[
                ("photos", f"{len(s.used):,}", f"{len(counts):,} with usable boxes"),
                ("boxes", f"{int(s.usable.sum()):,}", f"{len(s.scores):,} used: the best {boxes_per_photo} of a photo"),
                ("boxes a photo", f"{s.usable.mean():.2f}", f"at most {s.usable.max()}"),
                (
                    "proposed budget",
                    f"{proposed.budget:g}" if proposed else "none",
                    f"crops a photo, {photos} photos a device" if proposed else "no photo has a usable box",
                ),
            ],
            charts=charts(s, photos),
            width=WIDTH,
            height=HEIGHT,
            heads=quantile_heads(),
            quantiles=quantile_rows(s),
            budgets=budgets,
            photos=photos,
            sheet=_data_uri(sheet),
            sheet_size=sheet.size,
        )
    )


def charts(statistics: Statistics, photos: int) -> list[Chart]:
    """The histograms; without boxes only that of their number.

    Args:
      statistics: of a source.
      photos: on a device in a training step.
    """
    s = statistics
    sizes = s.sides
    drawn = [_counts("Used boxes a photo", "photos", s.used)]
    if len(sizes):
        # The largest few would press all others into the first bins.
        end = _round_up(float(np.quantile(sizes, 0.99)))
        past = int((sizes > end).sum())
        note = "boxes, by the root of their area" + (f"; {past:,} larger ones not drawn" if past else "")
        drawn += [
            _histogram("Side, photo pixels", note, sizes[sizes <= end], end, "{:.0f}"),
            _histogram("Share of the photo", "boxes, by area", s.shares, 1.0, "{:.1f}"),
            _histogram("Score", "boxes", s.scores, 1.0, "{:.1f}"),
            _histogram("Part of the photo covered", "photos with boxes", s.coverage[s.used > 0], 1.0, "{:.1f}"),
            _crops(s.used[s.used > 0], photos),
        ]
    return drawn


def _counts(title: str, note: str, values: Int[np.ndarray, " n"]) -> Chart:
    numbers = np.bincount(values)
    labels = [f"{value}: {number:,} ({number / len(values):.1%})" for value, number in enumerate(numbers.tolist())]
    step = WIDTH / len(numbers)
    every = math.ceil(len(numbers) / 12)
    ticks = [Tick((value + 0.5) * step, str(value)) for value in range(0, len(numbers), every)]
    return Chart(title, note, _bars(numbers, labels), ticks, f"{numbers.max():,}")


def _crops(counts: Int[np.ndarray, " n"], photos: int) -> Chart:
    chances = crops_distribution(counts, photos)
    # Without the ends that hardly ever come; nearly all batches lie between.
    likely = np.flatnonzero(chances > chances.max() / 200)
    first, shown = int(likely[0]), chances[likely[0] : likely[-1] + 1]
    labels = [f"{first + i} crops: {chance:.1%}" for i, chance in enumerate(shown.tolist())]
    step = WIDTH / len(shown)
    every = math.ceil(len(shown) / 12)
    ticks = [Tick((i + 0.5) * step, str(first + i)) for i in range(0, len(shown), every)]
    note = f"batches of {photos} photos with boxes"
    return Chart("Crops a batch", note, _bars(shown, labels), ticks, f"{shown.max():.1%}")


def _histogram(title: str, note: str, values: Float[np.ndarray, " n"], end: float, form: str) -> Chart:
    numbers, edges = np.histogram(values, bins=_BINS, range=(0, end))
    labels = [
        f"{low:.3g} to {high:.3g}: {number:,}"
        for low, high, number in zip(edges[:-1], edges[1:], numbers.tolist(), strict=True)
    ]
    ticks = [Tick(i / _TICKS * WIDTH, form.format(i / _TICKS * end)) for i in range(_TICKS + 1)]
    return Chart(title, note, _bars(numbers, labels), ticks, f"{numbers.max():,}")


def _bars(numbers: Num[np.ndarray, " n"], labels: Sequence[str]) -> list[Bar]:
    step, highest = WIDTH / len(numbers), numbers.max() or 1
    width = round(max(step - _GAP, step / 2), 2)
    bars = []
    for i, (number, text) in enumerate(zip(numbers.tolist(), labels, strict=True)):
        height = round(number / highest * HEIGHT, 2)
        bars.append(Bar(round(i * step + _GAP / 2, 2), round(HEIGHT - height, 2), width, height, text))
    return bars


def _round_up(value: float) -> float:
    """To a round number that divides well by the number of ticks."""
    power = 10.0 ** math.floor(math.log10(max(value, 1)))
    return next(power * factor for factor in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7.5, 10) if power * factor >= value)


def _data_uri(picture: Image.Image) -> str:
    """As JPEG: a sheet of photos is a tenth of its PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

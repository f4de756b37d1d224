"""What the boxes of a source are like, and how many crops a device should hold for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int

from jaxcolor.boxes import choose
from jaxcolor.data.collate import crops_per_device
from jaxcolor.data.sources.photo_source import PhotoSource
from jaxcolor.data.types import DataError, UsableBoxes

BUDGET_STEP = 0.25
"""Proposed budgets are multiples of it: numbers that one types."""
MOST_DROPPED = 0.01
"""Share of crops for which a proposed budget may drop."""

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SHOWN_BUDGETS = (2.0, 3.0, 4.0)


class Statistics(NamedTuple):
    """Of the boxes that are used of each photo: the best k."""

    usable: Int[np.ndarray, " P"]
    """Usable boxes of each photo."""
    used: Int[np.ndarray, " P"]
    """Those of them that are used."""
    coverage: Float64[np.ndarray, " P"]
    """Share of each photo's area that lies in a used box."""
    sides: Float64[np.ndarray, " N"]
    """Of all used boxes the square root of their area, in photo pixels."""
    shares: Float64[np.ndarray, " N"]
    """Their area as a share of the photo's."""
    scores: Float64[np.ndarray, " N"]


class Cost(NamedTuple):
    """What a number of crops a device brings with it, expected over random batches."""

    dropped: float
    """Share of crops that find no place."""
    padding: float
    """Share of places that hold no crop."""


def measure(
    source: PhotoSource,
    boxes_per_photo: int,
    *,
    progress: Callable[[], object] = lambda: None,
    left_out: Callable[[DataError], object] | None = None,
) -> Statistics:
    """Reads the boxes and headers of all photos; no photo is decoded.

    Args:
      source: the photos.
      boxes_per_photo: k; the boxes with the k best scores are used.
      progress: called after each photo.
      left_out: called with the error of a photo whose size cannot be read, which is then left out (the source has not
        read it if the photo has no boxes); None: raised.

    Raises:
      DataError: ``boxes_per_photo`` is below 1; a photo's size cannot be read.
    """
    if boxes_per_photo < 1:
        raise DataError(f"boxes_per_photo: {boxes_per_photo} boxes are none; at least 1")
    usable, used, coverage, sides, shares, scores = [], [], [], [], [], []
    for index in range(len(source)):
        progress()
        try:
            size, found = source.usable(index)
        except DataError as error:
            if left_out is None:
                raise
            left_out(error)
            continue
        kept = best(found, boxes_per_photo)
        boxes = kept.boxes.astype(np.int64)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        usable.append(len(found.boxes))
        used.append(len(boxes))
        coverage.append(covered(boxes) / (size[0] * size[1]))
        sides.append(np.sqrt(areas))
        shares.append(areas / (size[0] * size[1]))
        scores.append(kept.scores.astype(np.float64))
    if not used:
        raise DataError(f"{source.where}: the size of not one photo can be read")
    joined = (np.concatenate(parts) for parts in (sides, shares, scores))
    return Statistics(np.array(usable), np.array(used), np.array(coverage, np.float64), *joined)


def best(found: UsableBoxes, boxes_per_photo: int) -> UsableBoxes:
    """The boxes with the best scores, best first."""
    rows = choose("top_k", found.scores, k=boxes_per_photo)
    return UsableBoxes(found.boxes[rows], found.scores[rows], found.dropped, found.rows[rows])


def covered(boxes: Int[np.ndarray, "N 4"]) -> int:
    """Pixels that lie in at least one of the boxes x0, y0, x1, y1."""
    if not len(boxes):
        return 0
    # On the grid of all corners each cell is inside or outside as a whole.
    x, y = np.unique(boxes[:, ::2]), np.unique(boxes[:, 1::2])
    inside = np.zeros((len(y) - 1, len(x) - 1), bool)
    for x0, y0, x1, y1 in boxes:
        inside[np.searchsorted(y, y0) : np.searchsorted(y, y1), np.searchsorted(x, x0) : np.searchsorted(x, x1)] = True
    return int((np.diff(y)[:, None] * np.diff(x) * inside).sum())


def crops_distribution(counts: Int[np.ndarray, " P"], photos: int) -> Float64[np.ndarray, " n"]:
    """How probable each number of crops is in a batch.

    Args:
      counts: crops of each photo, at least one photo.
      photos: in a batch, drawn at random with replacement: of a large set hardly other than without.

    Returns:
      The probability of 0, 1, 2 … crops in all.
    """
    one = np.bincount(counts) / len(counts)
    total = np.ones(1)
    for _ in range(photos):
        total = np.convolve(total, one)
    return total


def cost(distribution: Float64[np.ndarray, " n"], capacity: int) -> Cost:
    """What it costs to hold ``capacity`` crops where ``crops_distribution`` is this; some batch must have crops."""
    crops = np.arange(len(distribution))
    mean, held = (crops * distribution).sum(), (np.minimum(crops, capacity) * distribution).sum()
    return Cost(float(max(1 - held / mean, 0.0)), float(max(1 - held / capacity, 0.0)))


def propose_budget(counts: Int[np.ndarray, " P"], photos: int) -> float:
    """The lowest ``max_crops_per_image``, in steps of ``BUDGET_STEP``, that drops no more than ``MOST_DROPPED``.

    Args:
      counts: crops of each photo that takes part in training; each has at least one.
      photos: on a device.
    """
    distribution = crops_distribution(counts, photos)
    budget = BUDGET_STEP
    while cost(distribution, crops_per_device(photos, budget)).dropped > MOST_DROPPED:
        budget += BUDGET_STEP
    return budget


class BudgetRow(NamedTuple):
    """What one budget would mean."""

    budget: float
    """``max_crops_per_image``."""
    mark: str
    """``proposed``, ``holds all`` or nothing."""
    capacity: int
    """Crops that a device holds."""
    cost: Cost


def budget_rows(counts: Int[np.ndarray, " P"], photos: int) -> list[BudgetRow]:
    """Some budgets to compare, the proposed one among them, ascending.

    Args:
      counts: crops of each photo that takes part in training; each has at least one.
      photos: on a device.
    """
    distribution, proposed = crops_distribution(counts, photos), propose_budget(counts, photos)
    dense = float(counts.max())
    rows = []
    for budget in sorted({*_SHOWN_BUDGETS, proposed, dense}):
        capacity = crops_per_device(photos, budget)
        mark = "proposed" if budget == proposed else "holds all" if budget == dense else ""
        rows.append(BudgetRow(budget, mark, capacity, cost(distribution, capacity)))
    return rows


def quantile_rows(statistics: Statistics) -> list[tuple[str, list[str]]]:
    """What is summarized by quantiles: title, and the value at each of ``quantile_heads`` as text."""
    s = statistics
    return [
        (title, _quantiles(values, form))
        for title, values, form in (
            ("boxes: side, photo pixels", s.sides, "{:.0f}"),
            ("boxes: share of the photo", s.shares, "{:.3f}"),
            ("boxes: score", s.scores, "{:.2f}"),
            ("photos with boxes: part covered", s.coverage[s.used > 0], "{:.2f}"),
        )
    ]


def quantile_heads() -> list[str]:
    """The quantiles in per cent."""
    return [f"{round(100 * q)}%" for q in _QUANTILES]


def table(statistics: Statistics, boxes_per_photo: int, photos: int) -> str:
    """The statistics as lines of text.

    Args:
      statistics: of a source.
      boxes_per_photo: with which they were made.
      photos: on a device in a training step, for the proposed budget.
    """
    s = statistics
    lines = [f"boxes a photo: mean {s.usable.mean():.2f}, most {s.usable.max()}; used: the best {boxes_per_photo}"]
    lines += _histogram(s.used, len(s.used))
    lines += ["", _row("quantiles over", quantile_heads())]
    lines += [_row(title, cells) for title, cells in quantile_rows(s)]
    with_boxes = s.used > 0
    if not with_boxes.any():
        return "\n".join([*lines, "", "no photo has a usable box: there is no budget to propose"])
    lines += ["", _row(f"max_crops_per_image, {photos} photos a device", ["crops", "dropped", "padding"])]
    for budget, mark, capacity, (dropped, padding) in budget_rows(s.used[with_boxes], photos):
        title = f"{budget:g} ({mark})" if mark else f"{budget:g}"
        lines.append(_row(title, [str(capacity), f"{dropped:.1%}", f"{padding:.1%}"]))
    return "\n".join(lines)


def _histogram(counts: Int[np.ndarray, " P"], photos: int) -> list[str]:
    numbers = np.bincount(counts)
    return [
        _row("used boxes", ["photos", "share"]),
        *(_row(str(boxes), [str(number), f"{number / photos:.1%}"]) for boxes, number in enumerate(numbers) if number),
    ]


def _quantiles(values: Float[np.ndarray, " n"], form: str) -> list[str]:
    return [form.format(v) for v in np.quantile(values, _QUANTILES)] if len(values) else ["-"] * len(_QUANTILES)


def _row(title: str, cells: Sequence[str]) -> str:
    return f"{title:<36}" + "".join(f"{cell:>9}" for cell in cells)

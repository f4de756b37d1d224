"""How well boxes are found, whatever their class: recall by size, and average precision as COCO computes it.

Detections are matched to annotated boxes best score first, each to the free box that it overlaps most, if by at least
the threshold. Precision is made monotone and read at 101 recalls from 0 to 1 (Lin et al. 2014, pycocotools'
``COCOeval``); crowds, areas and classes play no part here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Num

from jaxcolor.boxes import best_scores
from jaxcolor.data.types import Boxes

THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""IoU from 0.5 to 0.95."""
RECALLS = np.linspace(0, 1, 101)
SIZES: dict[str, tuple[float, float]] = {
    "all": (0, np.inf),
    "below 32": (0, 32),
    "32 to 64": (32, 64),
    "above 64": (64, np.inf),
}
"""Of annotated boxes: the geometric mean of the sides in pixels of the photo, from and to."""
_AT_ONCE = 256
"""Photos: so that their overlaps fit in little memory."""


class Matches(NamedTuple):
    """Detections of a set of photos against its annotated boxes."""

    scores: Float[np.ndarray, " D"]
    """Of all detections, photo by photo, best first."""
    right: Bool[np.ndarray, "T D"]
    """By threshold, whether each has its annotated box."""
    found: Bool[np.ndarray, "T A"]
    """By threshold, whether each annotated box has its detection."""
    sides: Float64[np.ndarray, " A"]
    """Geometric mean of its sides, in pixels of the photo."""
    photo: np.ndarray
    """Number of its photo, int (A,)."""


class DetectionScores(NamedTuple):
    """What is reported of a detector."""

    photos: int
    detections: int
    average_precision_50: float
    """At IoU 0.5."""
    average_precision: float
    """Mean over IoU 0.5 to 0.95."""
    recall: dict[str, float]
    """At IoU 0.5, by size of the annotated box (``SIZES``); NaN where there is none."""
    objects: dict[str, int]
    """Annotated boxes of each size."""


def match(
    detections: Sequence[Boxes],
    truth: Sequence[Num[np.ndarray, "_ 4"]],
    thresholds: Sequence[float] = THRESHOLDS,
    most: int = 100,
) -> Matches:
    """Match detections to annotated boxes, photo by photo.

    Args:
      detections: of each photo, in any order.
      truth: annotated boxes x0, y0, x1, y1 of each photo, in the same pixels.
      thresholds: of IoU.
      most: detections of a photo that count: the best.

    Raises:
      ValueError: lists of different lengths.
    """
    if len(detections) != len(truth):
        raise ValueError(f"{len(detections)} photos with detections, {len(truth)} with annotated boxes: not the same")
    parts = [
        _match(detections[start : start + _AT_ONCE], truth[start : start + _AT_ONCE], np.array(thresholds), most)
        for start in range(0, len(truth), _AT_ONCE)
    ]
    boxes = np.concatenate([np.zeros((0, 4)), *(np.asarray(of_photo, np.float64).reshape(-1, 4) for of_photo in truth)])
    none = np.zeros((len(thresholds), 0), bool)
    return Matches(
        np.concatenate([np.zeros(0), *(scores for scores, _, _ in parts)]),
        np.concatenate([none, *(right for _, right, _ in parts)], axis=1),
        np.concatenate([none, *(found for _, _, found in parts)], axis=1),
        np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)),
        np.repeat(np.arange(len(truth)), [len(of_photo) for of_photo in truth]),
    )


def _match(
    detections: Sequence[Boxes], truth: Sequence[np.ndarray], thresholds: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (D,), right (T, D), found (T, A) of some photos, all of them at once, detection by detection."""
    ranked = [best_scores(boxes.scores, most) for boxes in detections]
    found, there = _padded([boxes.boxes[rows] for boxes, rows in zip(detections, ranked, strict=True)])
    annotated, annotated_there = _padded(truth)
    overlap = _overlaps(found, annotated)
    overlap[~(there[:, :, None] & annotated_there[:, None])] = -1
    right = np.zeros((len(thresholds), *there.shape), bool)
    taken = np.zeros((len(thresholds), *annotated_there.shape), bool)
    photos = np.arange(len(truth))
    for rank in range(there.shape[1] if annotated_there.shape[1] else 0):
        free = np.where(taken, -1, overlap[None, :, rank])
        best = free.argmax(axis=2)
        value = np.take_along_axis(free, best[..., None], axis=2)[..., 0]
        good = value >= thresholds[:, None]
        right[:, :, rank] = good
        level, photo = np.nonzero(good)
        taken[level, photos[photo], best[level, photo]] = True
    scores = np.concatenate([boxes.scores[rows] for boxes, rows in zip(detections, ranked, strict=True)])
    return scores, right[:, there], taken[:, annotated_there]


def _padded(boxes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (P, N, 4) and which there are (P, N)."""
    most = max((len(of_photo) for of_photo in boxes), default=0)
    there = np.arange(most) < np.array([len(of_photo) for of_photo in boxes], int)[:, None]
    padded = np.zeros((len(boxes), most, 4))
    padded[there] = np.concatenate([np.zeros((0, 4)), *(np.reshape(of_photo, (-1, 4)) for of_photo in boxes)])
    return padded, there


def _overlaps(a: Float64[np.ndarray, "P N 4"], b: Float64[np.ndarray, "P M 4"]) -> Float64[np.ndarray, "P N M"]:
    """IoU of each box of one with each of the other, photo by photo."""
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) for boxes in (a, b)]
    low = np.maximum(a[:, :, None, :2], b[:, None, :, :2])
    high = np.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
    both = np.prod(np.maximum(high - low, 0), axis=-1)
    return both / np.maximum(areas[0][:, :, None] + areas[1][:, None] - both, 1e-9)


def average_precision(scores: Float[np.ndarray, " D"], right: Bool[np.ndarray, " D"], objects: int) -> float:
    """COCO's 101-point interpolated average precision; NaN without annotated boxes.

    Args:
      scores: of the detections.
      right: which of them have an annotated box.
      objects: annotated boxes.
    """
    if not objects:
        return float("nan")
    ordered = right[np.argsort(-scores, kind="stable")]
    hits = np.cumsum(ordered)
    precision = hits / np.arange(1, len(hits) + 1)
    monotone = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / objects, RECALLS, side="left")
    return float(np.append(monotone, 0.0)[np.minimum(places, len(monotone))].mean())


def scores_of(matches: Matches, thresholds: Sequence[float] = THRESHOLDS) -> DetectionScores:
    """Average precision and recall of what ``match`` found with these thresholds, the first of which is 0.5."""
    count = len(matches.sides)
    by_threshold = [average_precision(matches.scores, right, count) for right in matches.right]
    of_size = {name: (matches.sides >= low) & (matches.sides < high) for name, (low, high) in SIZES.items()}
    return DetectionScores(
        photos=int(matches.photo.max(initial=-1)) + 1,
        detections=len(matches.scores),
        average_precision_50=by_threshold[0],
        average_precision=float(np.mean(by_threshold)),
        recall={
            name: float(matches.found[0, rows].mean()) if rows.any() else float("nan") for name, rows in of_size.items()
        },
        objects={name: int(rows.sum()) for name, rows in of_size.items()},
    )

"""Boxes of objects: cleaning them, choosing among them, mirroring them, and their place on the grid of each level.

Pure NumPy on the host. A box is x0, y0, x1, y1 in photo pixels with x1 and y1 exclusive: its crop is
``photo[y0:y1, x0:x1]``. Boxes come from detectors and annotators as floats; ``clean_boxes`` is the one gate that
turns them into the int32 boxes which everything after it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Float64, Int, Int32, Int64

from jaxcolor.batch import LEVELS, Array

BoxChoice = Literal["top_k", "random_k", "threshold", "all", "ground_truth"]
"""``DataConfig.box_choice``."""

_COUNTED_AT_ONCE = 1 << 18
"""Boxes: so that the memory it takes to look at them does not grow with their number."""


class DroppedBoxes(NamedTuple):
    """How many boxes were unusable, by the first reason that holds."""

    not_finite: int = 0
    """A corner or the score is NaN or infinite."""
    inverted: int = 0
    """x1 < x0 or y1 < y0."""
    outside: int = 0
    """Not one point of it lies in the photo."""
    no_size: int = 0
    """No width or no height in whole pixels of the photo: there is nothing to crop."""

    def __add__(self, other: object) -> DroppedBoxes:
        """Sums reason by reason (not a tuple's concatenation)."""
        if not isinstance(other, DroppedBoxes):
            return NotImplemented
        return DroppedBoxes(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def total(self) -> int:
        """Of all reasons."""
        return sum(self)

    def __str__(self) -> str:
        parts = [f"{count} {name.replace('_', ' ')}" for name, count in self._asdict().items() if count]
        return ", ".join(parts) or "none"


class CleanBoxes(NamedTuple):
    """Boxes that have a crop."""

    boxes: Int32[np.ndarray, "N 4"]
    """x0, y0, x1, y1 in whole photo pixels; 0 <= x0 < x1 <= width, 0 <= y0 < y1 <= height."""
    kept: Int[np.ndarray, " N"]
    """Their rows among the boxes given, ascending."""
    dropped: DroppedBoxes


def clean_boxes(
    boxes: Float[np.ndarray, "N 4"], scores: Float[np.ndarray, " N"] | None, photo_size: tuple[int, int]
) -> CleanBoxes:
    """Clips boxes to the photo, truncates them to whole pixels as the reference does, and drops those without a crop.

    Args:
      boxes: x0, y0, x1, y1 in photo pixels, as they were read: anything may be wrong with them.
      scores: their scores, or None for boxes without; a box whose score is no number is dropped.
      photo_size: width and height in pixels.

    Returns:
      The boxes kept, which rows they were, and how many were dropped for which reason.
    """
    _check_photo_size(photo_size)
    limit = np.array([*photo_size, *photo_size], dtype=np.float64)
    if np.isfinite(boxes).all() and (scores is None or np.isfinite(scores).all()):
        whole = np.minimum(np.maximum(boxes, 0), limit).astype(np.int32)
        if (whole[:, 2:] > whole[:, :2]).all():  # so with nearly every photo; then no reason holds against any
            return CleanBoxes(whole, np.arange(len(whole)), DroppedBoxes())
    whole, reasons = _whole(boxes, scores, limit)
    good = reasons < 0
    counts = np.bincount(reasons[~good], minlength=len(DroppedBoxes._fields))
    return CleanBoxes(whole[good], np.flatnonzero(good), DroppedBoxes(*counts.tolist()))


def count_usable(
    boxes: Float[np.ndarray, "N 4"],
    scores: Float[np.ndarray, " N"],
    per_photo: Int[np.ndarray, " P"],
    photo_sizes: Int[np.ndarray, "P 2"],
) -> Int64[np.ndarray, "P 5"]:
    """For each of many photos what ``clean_boxes`` would find, at once: a million photos take a second or two.

    Args:
      boxes: of all photos, those of one together, in the photos' order.
      scores: of the boxes.
      per_photo: how many of the boxes are each photo's.
      photo_sizes: width and height of each photo in pixels; of one without boxes it does not matter.

    Returns:
      For each photo the number of its usable boxes, then of those dropped, by reason as in ``DroppedBoxes``.
    """
    owners = np.repeat(np.arange(len(per_photo)), per_photo)
    if len(owners) and photo_sizes[owners].min() < 1:
        raise ValueError("a photo without pixels has no place for boxes")
    kinds = 1 + len(DroppedBoxes._fields)
    counts = np.zeros(len(per_photo) * kinds, np.int64)
    for start in range(0, len(boxes), _COUNTED_AT_ONCE):
        part = slice(start, start + _COUNTED_AT_ONCE)
        limits = np.tile(photo_sizes[owners[part]], 2).astype(np.float64)
        _, reasons = _whole(boxes[part], scores[part], limits)
        counts += np.bincount(owners[part] * kinds + reasons + 1, minlength=len(counts))
    return counts.reshape(-1, kinds)


def _whole(
    boxes: Float[np.ndarray, "N 4"], scores: Float[np.ndarray, " N"] | None, limit: Float64[np.ndarray, "*N 4"]
) -> tuple[Int32[np.ndarray, "N 4"], Int[np.ndarray, " N"]]:
    """Boxes clipped and cut to whole pixels, and of each the first reason against it (``DroppedBoxes``), or -1."""
    finite = np.isfinite(boxes).all(axis=1)
    if scores is not None:
        finite &= np.isfinite(scores)
    exact = np.where(finite[:, None], boxes.astype(np.float64), 0.0)
    inverted = (exact[:, 2:] < exact[:, :2]).any(axis=1)
    outside = ((exact[:, 2:] < 0) | (exact[:, :2] > limit[..., :2])).any(axis=1)
    whole = np.clip(exact, 0, limit).astype(np.int32)
    no_size = (whole[:, 2:] <= whole[:, :2]).any(axis=1)
    reasons = np.stack([~finite, inverted, outside, no_size], axis=1)
    return whole, np.where(reasons.any(axis=1), reasons.argmax(axis=1), -1)


def level_boxes(
    boxes: Int[np.ndarray, "N 4"], photo_size: tuple[int, int], side: int, levels: int = LEVELS
) -> Int32[np.ndarray, "N {levels} 4"]:
    """Where each box lies on the grid of each level, rounded as the reference code does.

    Start and end are truncated at each level for itself, in float64; what becomes narrower than one cell is grown
    to the right, or moved to the left where the grid ends. On a grid of one cell the reference then starts at -1;
    here a start is never below 0.

    Args:
      boxes: x0, y0, x1, y1 in whole photo pixels.
      photo_size: width and height in pixels.
      side: S, the side of level 0; level k has side ``side // 2**k``.
      levels: how many.

    Returns:
      x0, y0, width, height in cells, for each box and level.

    Raises:
      ValueError: the photo has no size, or the last level would have no cell.
    """
    _check_photo_size(photo_size)
    if side >> (levels - 1) < 1:
        raise ValueError(f"a canvas of side {side} has no {levels} levels: each halves the side of the one before")
    if not len(boxes):
        return np.zeros((0, levels, 4), np.int32)
    sides = np.array([side >> level for level in range(levels)], dtype=np.int32)[:, None]
    # The order of operations is the reference's: x / width * side rounds differently from x * side / width.
    shares = boxes.astype(np.float64) / np.array([*photo_size, *photo_size], dtype=np.float64)
    cells = (shares[:, None, :] * sides).astype(np.int32)
    start, end = cells[..., :2], cells[..., 2:]
    thin = end - start < 1
    start = np.where(thin & (sides - end <= 1), np.maximum(start - 1, 0), start)
    size = np.where(thin, 1, end - start)
    return np.concatenate([start, size], axis=-1).astype(np.int32)


def crop_sides(boxes: Int[np.ndarray, "N 4"], sides: Sequence[int]) -> Int[np.ndarray, " N"]:
    """The side at which each crop is seen: the smallest that holds it, at most the largest there is.

    A crop's own side is the geometric mean of its width and height: a square of that side has as many pixels.

    Args:
      boxes: what is cut out (``crop_boxes``): x0, y0, x1, y1 in whole photo pixels.
      sides: to choose from, ascending.
    """
    if len(sides) == 1:
        return np.full(len(boxes), sides[0])
    area = np.prod((boxes[:, 2:] - boxes[:, :2]).astype(np.int64), axis=1)
    squares = np.square(np.array(sides, np.int64))
    return np.array(sides)[np.minimum(np.searchsorted(squares, area), len(sides) - 1)]


class CropContext(NamedTuple):
    """How much of the scene around its box a crop shows (``ModelConfig.crop_context``, ``crop_least``)."""

    share: float = 0.0
    """Width and height of the crop are the box's times 1 + this."""
    least: float = 0.0
    """Least width and height of the crop, as shares of the photo's."""


def enlarge(
    start: Float[Array, "*n 2"], size: Float[Array, "*n 2"], limit: Float[Array, " 2"], context: CropContext
) -> tuple[Float[Array, "*n 2"], Float[Array, "*n 2"]]:
    """Start and size of the crops of boxes: around the box's center, moved where they would leave the photo.

    Args:
      start: x0, y0 of boxes that lie in the photo.
      size: their widths and heights.
      limit: width and height of the photo.
      context: how much larger.
    """
    xp = size.__array_namespace__()
    wanted = xp.minimum(limit, xp.maximum(size * (1 + context.share), limit * context.least))
    return xp.clip(start + size / 2 - wanted / 2, 0, limit - wanted), wanted


def crop_boxes(
    boxes: Int[np.ndarray, "N 4"], photo_size: tuple[int, int], context: CropContext
) -> Int32[np.ndarray, "N 4"]:
    """What is cut out for each box (x0, y0, x1, y1 in whole photo pixels): the box with its context."""
    if context == CropContext():
        return boxes.astype(np.int32)
    exact, limit = boxes.astype(np.float64), np.array(photo_size, np.float64)
    start, size = enlarge(exact[:, :2], exact[:, 2:] - exact[:, :2], limit, context)
    return np.floor(np.concatenate([start, start + size], axis=1) + 0.5).astype(np.int32)


_SHARED_CONTEXT = 0.5
"""What a window that is not a box's own must show around it, as ``CropContext.share``: half of the usual context."""
_SHARED_SCALE = 1.15
"""How much larger than the box's own such a window may be, in width and height together (geometric mean)."""


def shared_windows(
    boxes: Int[np.ndarray, "N 4"], photo_size: tuple[int, int], context: CropContext
) -> tuple[Int32[np.ndarray, "n 4"], Int[np.ndarray, " N"]]:
    """Fewer windows for boxes whose crops show much the same: one may serve several boxes.

    A window serves a box of which it shows enough surroundings, at nearly the scale of the box's own crop. Candidates
    are the boxes' own windows, and for each two boxes the smallest of at least their size that holds both with their
    surroundings; taken is, again and again, the one that serves most of the boxes that are left (the smallest of
    these). Boxes for which there is no other keep their own, as ``crop_boxes`` cuts it out.

    Returns:
      x0, y0, x1, y1 of the windows in whole photo pixels, n <= N, those of earlier boxes first; and the window of each
      box.
    """
    if not len(boxes):
        return np.zeros((0, 4), np.int32), np.zeros(0, np.int64)
    own, limit = crop_boxes(boxes, photo_size, context).astype(np.float64), np.array(photo_size, np.float64)
    needed = crop_boxes(boxes, photo_size, CropContext(min(_SHARED_CONTEXT, context.share))).astype(np.float64)
    a, b = np.triu_indices(len(boxes), 1)
    low, high = np.minimum(needed[a, :2], needed[b, :2]), np.maximum(needed[a, 2:], needed[b, 2:])
    sides = own[:, 2:] - own[:, :2]
    size = np.minimum(np.maximum(np.maximum(sides[a], sides[b]), high - low), limit)
    start = np.clip((low + high) / 2 - size / 2, 0, limit - size)
    windows = np.concatenate([own, np.floor(np.concatenate([start, start + size], axis=1) + 0.5)])
    area = np.prod(windows[:, 2:] - windows[:, :2], axis=1)
    holds = (windows[:, None, :2] <= needed[:, :2] + 1) & (windows[:, None, 2:] >= needed[:, 2:] - 1)
    serves = holds.all(axis=-1) & (area[:, None] <= _SHARED_SCALE**2 * np.prod(sides, axis=1) + 1)
    taken = np.full(len(boxes), -1)
    while (taken < 0).any():
        best = np.lexsort((area, -(serves & (taken < 0)).sum(axis=1)))[0]
        taken[serves[best] & (taken < 0)] = best
    chosen, first, window_of = np.unique(taken, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return windows[chosen[order]].astype(np.int32), np.argsort(order)[window_of]


def boxes_in_window(
    boxes: Int[np.ndarray, "N 4"], window: Int[np.ndarray, " 4"], least_share: float = 0.0
) -> tuple[Int32[np.ndarray, "n 4"], Int[np.ndarray, " n"]]:
    """The boxes' parts inside a window, in the window's own pixels: cropping them there cuts out the same pixels.

    Args:
      boxes: x0, y0, x1, y1 in whole photo pixels, with x0 < x1 and y0 < y1.
      window: x0, y0, x1, y1 in whole photo pixels.
      least_share: boxes of which less than this share of the area lies inside are left out; so are, in any case,
        those of which nothing does.

    Returns:
      The boxes that are left, and their rows among those given, ascending.
    """
    start, end = window[:2], window[2:]
    inside = np.concatenate([np.clip(boxes[:, :2], start, end), np.clip(boxes[:, 2:], start, end)], axis=1)
    area, kept_area = (np.prod((b[:, 2:] - b[:, :2]).astype(np.int64), axis=1) for b in (boxes, inside))
    kept = np.flatnonzero((kept_area > 0) & (kept_area >= least_share * area))
    return (inside[kept] - np.concatenate([start, start])).astype(np.int32), kept


def mirror_boxes(boxes: Int[np.ndarray, "N 4"], photo_width: int) -> Int[np.ndarray, "N 4"]:
    """The boxes' place in the photo mirrored left to right."""
    x0, y0, x1, y1 = boxes.T
    return np.stack([photo_width - x1, y0, photo_width - x0, y1], axis=1)


def choose(
    choice: BoxChoice,
    scores: Float[np.ndarray, " N"],
    *,
    k: int = 8,
    threshold: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Int[np.ndarray, " n"]:
    """Which of a photo's cleaned boxes are used.

    Args:
      choice: ``top_k``: the k best scores; ``random_k``: k at random; ``threshold``: scores of at least ``threshold``;
        ``all``, ``ground_truth``: every box (for the latter the caller hands in annotated boxes).
      scores: of the cleaned boxes.
      k: for ``top_k`` and ``random_k``.
      threshold: for ``threshold``.
      rng: for ``random_k``.

    Returns:
      Rows of the cleaned boxes; ``top_k`` best first (equal scores in the order given), the others ascending.

    Raises:
      ValueError: an unknown choice, or ``random_k`` without a generator.
    """
    count = len(scores)
    if choice == "top_k":
        return best_scores(scores, k)
    if choice == "random_k":
        if rng is None:
            raise ValueError("box choice 'random_k' needs a random generator (rng)")
        return np.sort(rng.permutation(count)[:k])
    if choice == "threshold":
        return np.flatnonzero(scores >= threshold)
    if choice in ("all", "ground_truth"):
        return np.arange(count)
    raise ValueError(f"box choice {choice!r} is none of {', '.join(get_args(BoxChoice))}")


def best_scores(scores: Float[np.ndarray, " N"], k: int) -> Int[np.ndarray, " n"]:
    """Rows of the k highest scores, highest first; equal scores in the order given."""
    return np.argsort(-scores, kind="stable")[:k]


def _check_photo_size(photo_size: tuple[int, int]) -> None:
    if min(photo_size) < 1:
        raise ValueError(f"a photo of {photo_size[0]} x {photo_size[1]} pixels has no place for boxes")

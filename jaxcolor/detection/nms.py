"""Greedy non-maximum suppression within classes, in NumPy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int


def nms(
    boxes: Float[np.ndarray, "N 4"],
    scores: Float[np.ndarray, " N"],
    classes: Int[np.ndarray, " N"],
    most_overlap: float,
) -> Int[np.ndarray, " n"]:
    """Which boxes stay: the best of all, then the best that overlaps none before it of its class too much, and so on.

    Classes are compared, not told apart by offsets added to the coordinates as torchvision's ``batched_nms`` does:
    offsets cost digits of the coordinates, and the comparison costs nothing to speak of.

    Args:
      boxes: x0, y0, x1, y1 in any unit, all finite.
      scores: of the boxes, all finite.
      classes: of the boxes.
      most_overlap: boxes of one class whose intersection over union is above it are one object.

    Returns:
      Their rows, best first; of equal scores the one given first.
    """
    exact = boxes.astype(np.float64)
    areas = np.maximum(exact[:, 2:] - exact[:, :2], 0).prod(axis=1)
    rest, kept = np.argsort(-scores, kind="stable"), []
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(int(best))
        overlap = _overlaps(exact[best], areas[best], exact[rest], areas[rest])
        rest = rest[(overlap <= most_overlap) | (classes[rest] != classes[best])]
    return np.array(kept, np.int64)


def _overlaps(
    box: Float64[np.ndarray, " 4"], area: float, others: Float64[np.ndarray, "N 4"], areas: Float64[np.ndarray, " N"]
) -> Float64[np.ndarray, " N"]:
    """Intersection over union of a box with others; 0 where both have no area."""
    inside = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.maximum(inside, 0).prod(axis=1)
    union = area + areas - shared
    return np.divide(shared, union, out=np.zeros_like(union), where=union > 0)

"""Boxes and hints of a film's frames, carried to the frames after them until the scene ends."""

from __future__ import annotations

import dataclasses
import json
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from jaxcolor.data.types import Boxes
from jaxcolor.hints import Hint
from jaxcolor.inference.jobs import Job

LEAST_OVERLAP = 0.3
"""Intersection over union, from which on a box is taken for the one before it."""


class Steering(NamedTuple):
    """What holds in a scene."""

    boxes: Boxes | None = None
    """Of the last frame that has an entry, perhaps without a box."""
    hints: tuple[Hint, ...] = ()
    """Of the last frame that the hints file names."""
    places: tuple[tuple[float, float, float, float] | None, ...] = ()
    """Of each hint for an object, where its box was last: x0, y0, x1, y1 in pixels."""

    def to_json(self) -> str:
        """As text, from which ``from_json`` makes the same."""
        boxes = None if self.boxes is None else [array.tolist() for array in self.boxes]
        hints = [dataclasses.asdict(hint) for hint in self.hints]
        return json.dumps({"boxes": boxes, "hints": hints, "places": self.places})

    @classmethod
    def from_json(cls, text: str) -> Steering:
        """The inverse of ``to_json``."""
        read = json.loads(text)
        boxes = read["boxes"]
        if boxes is not None:
            boxes = Boxes(np.array(boxes[0], np.float32).reshape(-1, 4), np.array(boxes[1], np.float32))
        places = tuple(None if place is None else tuple(place) for place in read["places"])
        return cls(boxes, tuple(Hint(**hint) for hint in read["hints"]), places)


def follow(before: Steering, job: Job, named: bool) -> tuple[Steering, Job]:
    """The next frame with the boxes and hints that hold in it.

    A hint for an object goes with the box of most overlap, and rests in frames where none overlaps by
    ``LEAST_OVERLAP``.

    Args:
      before: what held in the frame before; nothing where a scene begins.
      job: the frame with its own boxes and hints.
      named: whether the hints file names it: then its own hints hold, be there none.

    Returns:
      What holds from now on, and the frame.
    """
    boxes = before.boxes if job.boxes is None else job.boxes
    corners = np.zeros((0, 4), np.float32) if boxes is None else boxes.boxes
    if named:
        places = tuple(_place(corners, hint) for hint in job.hints)
        return Steering(boxes, job.hints, places), job._replace(boxes=boxes)
    if job.boxes is None:
        return before, job._replace(boxes=boxes, hints=_holding(before, corners))
    followed: list[tuple[Hint, tuple[float, float, float, float] | None]] = []
    for hint, place in zip(before.hints, before.places, strict=True):
        overlaps = np.zeros(0) if place is None else overlap(np.array(place), corners)
        found = int(overlaps.argmax()) if len(overlaps) and overlaps.max() >= LEAST_OVERLAP else None
        moved = hint if hint.object is None or found is None else dataclasses.replace(hint, object=found)
        followed.append((moved, place if found is None else _place(corners, moved)))
    after = Steering(boxes, tuple(hint for hint, _ in followed), tuple(place for _, place in followed))
    return after, job._replace(hints=_holding(after, corners))


def _place(corners: Float32[np.ndarray, "N 4"], hint: Hint) -> tuple[float, float, float, float] | None:
    """The box of a hint's object."""
    if hint.object is None or hint.object >= len(corners):  # the latter is refused when the frame is colored
        return None
    x0, y0, x1, y1 = corners[int(hint.object)].tolist()
    return x0, y0, x1, y1


def _holding(steering: Steering, corners: Float32[np.ndarray, "N 4"]) -> tuple[Hint, ...]:
    """The hints of points, and of objects that are among the boxes where they were last seen."""
    pairs = zip(steering.hints, steering.places, strict=True)
    return tuple(
        hint for hint, place in pairs if hint.object is None or (place is not None and _place(corners, hint) == place)
    )


def overlap(box: Float[np.ndarray, " 4"], others: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, " N"]:
    """Intersection over union of a box with others; 0 where one has no size."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    union = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - shared
    return np.where(union > 0, shared / np.where(union > 0, union, 1), 0.0)

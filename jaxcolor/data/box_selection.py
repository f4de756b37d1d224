"""Which of a photo's boxes are cut out, with their masks where fusion reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32

from jaxcolor.boxes import best_scores, boxes_in_window, choose
from jaxcolor.config import DataConfig
from jaxcolor.data.transforms import WHOLE, Window
from jaxcolor.data.types import DataError, Photo, usable_boxes


class SelectedBoxes(NamedTuple):
    """The boxes of a photo to cut out, in pixels of the window."""

    boxes: Int32[np.ndarray, "n 4"]
    scores: Float32[np.ndarray, " n"]
    masks: Sequence[Bool[np.ndarray, "h w"]] = ()
    """Of each box, over the whole window; none without ``data.masks``."""
    dropped: int = 0
    """How many more would have been cut out, had ``capacity`` allowed it."""


NOTHING_SELECTED = SelectedBoxes(np.zeros((0, 4), np.int32), np.zeros((0,), np.float32))


def random_box(photo: Photo, config: DataConfig, rng: np.random.Generator) -> SelectedBoxes:
    """One uniformly random box of all usable ones, as stage ``instance`` takes it.

    Raises:
      DataError: there is none.
    """
    usable = usable_boxes(photo, config.box_choice)
    if not len(usable.boxes):
        raise DataError(f"photo {photo.name}: no usable box any more; did its box file change?")
    rows = rng.integers(len(usable.boxes), size=1)
    return SelectedBoxes(usable.boxes[rows], usable.scores[rows])


def select_boxes(
    photo: Photo, config: DataConfig, capacity: int, window: Window, visible: float, rng: np.random.Generator
) -> SelectedBoxes:
    """Selects boxes by ``config.box_choice`` among those that a window shows.

    Args:
      photo: with its boxes, and annotated masks where ``config.masks`` asks for them.
      config: which boxes.
      capacity: the most boxes that are cut out; no device holds more.
      window: the part of the photo that is used.
      visible: boxes of which less than this share of the area lies in the window are left out.
      rng: for ``random_k``.

    Raises:
      DataError: there are no masks, and they are wanted.
    """
    boxes, scores, _, own = usable_boxes(photo, config.box_choice)
    part = np.array([0, 0, *photo.size], np.int32)
    if window != WHOLE:
        part = window.pixels(photo.size)
        boxes, kept = boxes_in_window(boxes, part, visible)
        scores, own = scores[kept], own[kept]
    rows = choose(config.box_choice, scores, k=config.boxes_per_photo, threshold=config.score_threshold, rng=rng)
    stay = rows if len(rows) <= capacity else rows[np.sort(best_scores(scores[rows], capacity))]
    return SelectedBoxes(boxes[stay], scores[stay], _masks(photo, config, own[stay], part), len(rows) - len(stay))


def _masks(
    photo: Photo, config: DataConfig, rows: np.ndarray, part: Int32[np.ndarray, " 4"]
) -> list[Bool[np.ndarray, "h w"]]:
    if not config.masks:
        return []
    if photo.truth_masks is None:
        raise DataError(f"photo {photo.name}: no annotated masks, which data.masks asks for")
    x0, y0, x1, y1 = part.tolist()
    return [photo.truth_masks[row][y0:y1, x0:x1] for row in rows.tolist()]

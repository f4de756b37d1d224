"""Collating: the crops of several photos are packed on one axis of a ``Batch``, up to what a device holds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from jaxcolor.batch import LEVELS, PADDING, Batch
from jaxcolor.boxes import best_scores
from jaxcolor.data.types import DataError, Example

_MOST_CROPS = 1000
"""A photo; far beyond what any memory holds."""


def photos_per_device(batch_size: int, device_count: int) -> int:
    """Photos of a batch on each device.

    Raises:
      DataError: the batch is empty or does not divide evenly.
    """
    if device_count < 1:
        raise DataError(f"device_count: {device_count} devices cannot hold a batch")
    if batch_size < 1 or batch_size % device_count:
        nearest = max(device_count, batch_size - batch_size % device_count)
        raise DataError(
            f"batch_size: {batch_size} photos do not divide evenly among {device_count} devices; "
            f"{nearest} or {nearest + device_count} would"
        )
    return batch_size // device_count


def crops_per_device(photos: int, max_crops_per_image: float) -> int:
    """M of one device: the photos on it times ``max_crops_per_image``, rounded up, at least 1.

    Raises:
      DataError: ``max_crops_per_image`` is not above 0, or more than there can be.
    """
    if not 0 < max_crops_per_image <= _MOST_CROPS:
        what = f"{max_crops_per_image} crops a photo; it must be above 0 and at most {_MOST_CROPS}"
        raise DataError(f"data.max_crops_per_image: {what}")
    # Rounded first: 30 x 0.1 is 3.0000000000000004 and must not become 4.
    return max(1, math.ceil(round(photos * max_crops_per_image, 6)))


def collate(
    examples: Sequence[Example | None],
    *,
    device_count: int,
    capacity: int,
    side: int,
    with_full: bool,
    with_masks: bool = False,
) -> tuple[Batch, int]:
    """Collates photos into a batch, device after device.

    Args:
      examples: of each photo of the batch, the first ones for the first device; None for padding,
        which becomes black and ``is_real`` False.
      device_count: devices; the photos divide evenly among them.
      capacity: crops each device holds. Where its photos have more, the lowest scores are dropped; of equal ones, as
        annotated boxes have, those that come last among their photo's, so that no photo loses all of its crops while
        another keeps many. Where they have fewer, padding follows. 0 for a stage without crops.
      side: S.
      with_full: whether the batch has full images; otherwise ``full_rgb`` has length 0.
      with_masks: whether the batch has masks, which every example then has; otherwise ``crop_mask`` has length 0.

    Returns:
      The batch (NumPy), and how many crops were dropped.
    """
    photos = len(examples) // device_count
    crops = np.zeros((device_count * capacity, side, side, 3), np.uint8)
    index = np.full(device_count * capacity, PADDING, np.int32)
    boxes = np.zeros((device_count * capacity, LEVELS, 4), np.int32)
    masks = np.zeros((device_count * capacity if with_masks else 0, side, side), bool)
    dropped = 0
    for device in range(device_count):
        group = examples[device * photos : (device + 1) * photos]
        places = slice(device * capacity, (device + 1) * capacity)
        dropped += _fill(group, crops[places], index[places], boxes[places], masks[places])
    full = _full_images(examples if with_full else (), side)
    return Batch(full, crops, index, boxes, _valid(examples), masks), dropped


def _fill(
    examples: Sequence[Example | None],
    crops: UInt8[np.ndarray, "M S S 3"],
    index: Int32[np.ndarray, " M"],
    boxes: Int32[np.ndarray, "M L 4"],
    masks: Bool[np.ndarray, "K S S"],
) -> int:
    """Writes the crops of one device's photos, and their masks where these are wanted, into its part of the batch.

    Returns:
      How many crops were dropped.
    """
    found = [(photo, e, row) for photo, e in enumerate(examples) if e is not None for row in range(len(e.scores))]
    scores = np.array([e.scores[row] for _, e, row in found], np.float32)
    by_rank = np.argsort(np.array([row for _, _, row in found], np.int64), kind="stable")
    kept = by_rank[best_scores(scores[by_rank], len(index))]
    # Crop by crop: each is copied once; with dozens of crops the copies dominate the time.
    for place, number in enumerate(np.sort(kept).tolist()):
        photo, example, row = found[number]
        crops[place] = example.crop_rgb[row]
        index[place] = photo
        boxes[place] = example.level_boxes[row]
        if len(masks):
            masks[place] = example.crop_mask[row]
    return max(0, len(found) - len(index))


def _full_images(examples: Sequence[Example | None], side: int) -> UInt8[np.ndarray, "B S S 3"]:
    full = np.zeros((len(examples), side, side, 3), np.uint8)
    for row, e in enumerate(examples):
        if e is not None and e.full_rgb is not None:
            full[row] = e.full_rgb
    return full


def _valid(examples: Sequence[Example | None]) -> Bool[np.ndarray, " B"]:
    return np.array([e is not None for e in examples], dtype=bool)

"""Collating: the crops of several photos are packed on one axis of a ``Batch``, up to what a device holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32, UInt8
from PIL import Image

from jaxcolor.batch import LEVELS, PADDING, Batch, split_by_side
from jaxcolor.boxes import best_scores
from jaxcolor.config import ConfigError, DataConfig, check_crop_sides
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


class CropPlaces(NamedTuple):
    """Places for crops of one side on each device."""

    side: int
    places: int


def crop_places(capacity: int, config: DataConfig, side: int) -> tuple[CropPlaces, ...]:
    """The places of a device dealt out among ``config.crop_sides``, the largest first.

    Args:
      capacity: places in all.
      config: with the sides and their shares.
      side: of the canvas, and of all crops where the config names none.

    Returns:
      Whole numbers nearest to the shares that sum to ``capacity``; sides without a place are left out.

    Raises:
      DataError: a side is larger than the canvas.
    """
    try:
        check_crop_sides(config.crop_sides, side)
    except ConfigError as error:
        raise DataError(f"data.{error}") from error
    sides = config.crop_sides or (side,)
    weights = np.array(config.crop_shares or [1.0] * len(sides))[::-1]
    ends = np.rint(np.cumsum(weights) / weights.sum() * capacity).astype(int)
    counts = np.diff(ends, prepend=0).tolist()
    places = [CropPlaces(*each) for each in zip(sorted(sides, reverse=True), counts, strict=True)]
    return tuple(of_side for of_side in places if of_side.places) or (CropPlaces(max(sides), 0),)


def crops_by_side(batch: Batch, places: Sequence[CropPlaces], device_count: int) -> tuple[tuple[int, int], ...]:
    """Each side and how many crops of a batch are seen at it; empty where there is one side alone."""
    if len(places) == 1:
        return ()
    owners = split_by_side(batch.crop_to_image, batch.crops, device_count)
    return tuple((of.side, int((own >= 0).sum())) for of, own in zip(places, owners, strict=True))


class Collated(NamedTuple):
    """A batch, and what did not fit."""

    batch: Batch
    """NumPy arrays."""
    dropped: int
    """Crops beyond the capacity."""
    moved: int
    """Crops that are seen at another side than their own."""


def collate(
    examples: Sequence[Example | None],
    *,
    device_count: int,
    capacity: int | Sequence[CropPlaces],
    side: int,
    with_full: bool,
    with_masks: bool = False,
) -> Collated:
    """Collates photos into a batch, device after device.

    Args:
      examples: of each photo of the batch, the first ones for the first device; None for padding,
        which becomes black and ``is_real`` False.
      device_count: devices; the photos divide evenly among them.
      capacity: crops each device holds. Where its photos have more, the lowest scores are dropped; of equal ones, as
        annotated boxes have, those that come last among their photo's, so that no photo loses all of its crops while
        another keeps many. Where they have fewer, padding follows. 0 for a stage without crops. Of crops of several
        sides the places of each, the largest first: what finds none at its own side takes one of the next larger side
        that has any, else of the next smaller, and is resized.
      side: S.
      with_full: whether the batch has full images; otherwise ``full_rgb`` has length 0.
      with_masks: whether the batch has masks, which every example then has; otherwise ``crop_mask`` has length 0.

    """
    photos = len(examples) // device_count
    places = (CropPlaces(side, capacity),) if isinstance(capacity, int) else tuple(capacity)
    total = sum(of_side.places for of_side in places)
    crops = [np.empty((device_count * count, own, own, 3), np.uint8) for own, count in places]
    index = np.full(device_count * total, PADDING, np.int32)
    boxes = np.zeros((device_count * total, LEVELS, 4), np.int32)
    masks = np.zeros((device_count * total if with_masks else 0, side, side), bool)
    dropped = moved = 0
    for device in range(device_count):
        group = examples[device * photos : (device + 1) * photos]
        own_crops = [
            of_side[device * count : (device + 1) * count] for of_side, (_, count) in zip(crops, places, strict=True)
        ]
        own = slice(device * total, (device + 1) * total)
        lost, resized = _fill(group, own_crops, index[own], boxes[own], masks[own])
        dropped, moved = dropped + lost, moved + resized
    full = _full_images(examples if with_full else (), side)
    batch = Batch(full, crops[0], index, boxes, _valid(examples), masks, tuple(crops[1:]))
    return Collated(batch, dropped, moved)


def _fill(
    examples: Sequence[Example | None],
    crops: Sequence[UInt8[np.ndarray, "_m _s _s 3"]],
    index: Int32[np.ndarray, " M"],
    boxes: Int32[np.ndarray, "M L 4"],
    masks: Bool[np.ndarray, "K S S"],
) -> tuple[int, int]:
    """Writes the crops of one device's photos, and their masks where these are wanted, into its part of the batch.

    All of ``crops`` is written, each place once: black where there is no crop.

    Returns:
      How many crops were dropped, and how many seen at another side than their own.
    """
    found = [(photo, e, row) for photo, e in enumerate(examples) if e is not None for row in range(len(e.scores))]
    scores = np.array([e.scores[row] for _, e, row in found], np.float32)
    by_rank = np.argsort(np.array([row for _, _, row in found], np.int64), kind="stable")
    kept = by_rank[best_scores(scores[by_rank], len(index))]
    chosen = [found[number] for number in np.sort(kept).tolist()]
    sides = np.array([len(example.crop_rgb[row]) for _, example, row in chosen], np.int64)
    areas = np.array([example.level_boxes[row][0, 2:].prod() for _, example, row in chosen], np.int64)
    at_side = _assigned(sides, areas, [CropPlaces(of_side.shape[1], len(of_side)) for of_side in crops])
    starts = np.cumsum([0, *map(len, crops)])
    taken, moved = [0] * len(crops), 0
    # Crop by crop: each is copied once; with dozens of crops the copies dominate the time.
    for (photo, example, row), k in zip(chosen, at_side.tolist(), strict=True):
        crop, of_side, side = example.crop_rgb[row], crops[k], crops[k].shape[1]
        if len(crop) != side:
            crop, moved = resized(crop, side), moved + 1
        of_side[taken[k]] = crop
        place = starts[k] + taken[k]
        taken[k] += 1
        index[place] = photo
        boxes[place] = example.level_boxes[row]
        if len(masks):
            masks[place] = example.crop_mask[row]
    for of_side, used in zip(crops, taken, strict=True):
        of_side[used:] = 0
    return max(0, len(found) - len(index)), moved


def _assigned(
    sides: Int[np.ndarray, " n"], areas: Int[np.ndarray, " n"], places: Sequence[CropPlaces]
) -> Int[np.ndarray, " n"]:
    """Which entry of ``places``, the largest first, each crop is seen at; they have room for all.

    Args:
      sides: at which each crop is to be seen.
      areas: of the boxes, by which, among crops of one side, the largest move to a larger side and the smallest to a
        smaller one.
      places: of one device.
    """
    ascending = places[::-1]
    last = len(places) - 1
    own = np.minimum(np.searchsorted([of_side.side for of_side in ascending], sides), last)
    counts = np.bincount(own, minlength=len(places))
    room = np.array([of_side.places for of_side in ascending])
    for k in range(last):  # what does not fit moves up,
        over = max(0, counts[k] - room[k])
        counts[k : k + 2] += [-over, over]
    for k in range(last, 0, -1):  # and what then does not fit at the largest moves down
        over = max(0, counts[k] - room[k])
        counts[k - 1 : k + 1] += [over, -over]
    found = np.empty(len(sides), np.int64)
    found[np.lexsort((areas, own))] = np.repeat(np.arange(len(places)), counts)
    return last - found


def resized(crop: UInt8[np.ndarray, "_s _s 3"], side: int) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """A crop at another side."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(crop)).resize((side, side), Image.Resampling.BILINEAR))


def _full_images(examples: Sequence[Example | None], side: int) -> UInt8[np.ndarray, "B S S 3"]:
    full = np.empty((len(examples), side, side, 3), np.uint8)
    for row, e in enumerate(examples):
        full[row] = 0 if e is None or e.full_rgb is None else e.full_rgb
    return full


def _valid(examples: Sequence[Example | None]) -> Bool[np.ndarray, " B"]:
    return np.array([e is not None for e in examples], dtype=bool)

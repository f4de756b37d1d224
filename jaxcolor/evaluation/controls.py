"""Controls of fusion: batches with another photo's crops; and which crop shows which object.

NumPy on the host. ``crop_to_image`` of a batch counts photos within their device, so the functions need to know on how
many devices the batch is laid out.
"""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxcolor.batch import PADDING, Batch, split_by_side
from jaxcolor.data.collate import resized

COVERS = 0.5
"""IoU from which a box stands for an annotated one."""


def photo_of_crop(batch: Batch, device_count: int) -> Int[np.ndarray, " M"]:
    """The photo of the whole batch that each crop belongs to; -1 for padding and for crops of filled-up places."""
    index = np.asarray(batch.crop_to_image)
    photos, crops = len(batch.full_rgb) // device_count, len(index) // device_count
    device = np.repeat(np.arange(device_count), crops)
    photo = np.where(index >= 0, index + device * photos, PADDING)
    return np.where(np.asarray(batch.is_real)[photo] & (photo >= 0), photo, PADDING)


def iou(first: Int[np.ndarray, "K 4"], second: Int[np.ndarray, "N 4"]) -> Float[np.ndarray, "K N"]:
    """Intersection over union of each box of the one with each of the other; x0, y0, width, height."""
    start = np.maximum(first[:, None, :2], second[None, :, :2])
    end = np.minimum((first[:, :2] + first[:, 2:])[:, None], (second[:, :2] + second[:, 2:])[None])
    common = np.clip(end - start, 0, None).prod(axis=-1)
    union = first[:, 2:].prod(axis=-1)[:, None] + second[:, 2:].prod(axis=-1)[None] - common
    return common / np.maximum(union, 1)


def crop_donors(batch: Batch, device_count: int) -> Int[np.ndarray, " M"]:
    """For each crop another photo's crop of the same batch, -1 where there is none (and for padding).

    Crops are ordered by photo and shifted by the largest number of crops that a photo has: a permutation without a
    fixed photo, the same for any device count. Where one photo holds more than half of the crops there is no such
    permutation, and each crop takes one of the others' in turn. Only a batch in which a single photo has crops has
    no donors.
    """
    photo = photo_of_crop(batch, device_count)
    donors = np.full(len(photo), PADDING)
    real = np.flatnonzero(photo >= 0)
    real = real[np.argsort(photo[real], kind="stable")]
    owner = photo[real]
    if len(np.unique(owner)) < 2:
        return donors
    largest = int(np.bincount(owner).max())
    if 2 * largest <= len(real):
        donors[real] = np.roll(real, -largest)
        return donors
    for position, crop in enumerate(real):
        others = real[owner != photo[crop]]
        donors[crop] = others[position % len(others)]
    return donors


def other_crops(batch: Batch, donors: Int[np.ndarray, " M"], device_count: int = 1) -> Batch:
    """The batch with the pixels of each crop taken from its donor (``crop_donors``); photos and boxes stay.

    Crops without a donor keep their own pixels; from a donor of another side they are resized.
    """
    source = np.where(donors >= 0, donors, np.arange(len(donors)))
    crops = [np.asarray(of_side) for of_side in batch.crops]
    rows = split_by_side(np.arange(len(donors)), crops, device_count)
    pixels = dict(zip(np.concatenate(rows).tolist(), itertools.chain(*crops), strict=True))
    changed = [np.empty_like(of_side) for of_side in crops]
    for of_side, own in zip(changed, rows, strict=True):
        for place, donor in enumerate(source[own].tolist()):
            given, side = pixels[donor], of_side.shape[1]
            of_side[place] = given if len(given) == side else resized(given, side)
    return batch._replace(crop_rgb=changed[0], smaller_crops=tuple(changed[1:]))


def exchanged_places(batch: Batch, donors: Int[np.ndarray, " M"]) -> Batch | None:
    """``other_crops`` the other way about: the crops stay, and each goes to the place of the one that it is given to.

    So nothing needs to be computed of crops again. None where it cannot be: a crop that is given twice, or to a crop of
    another side.

    Args:
      batch: of one device.
      donors: of ``crop_donors``.
    """
    rows = np.arange(len(donors))
    source = np.where(donors >= 0, donors, rows)
    sides = np.repeat(np.arange(len(batch.crops)), [len(of_side) for of_side in batch.crops])
    if len(np.unique(source)) < len(source) or (sides[source] != sides).any():
        return None
    taker = np.argsort(source)
    masks = np.asarray(batch.crop_mask)
    return batch._replace(
        crop_to_image=np.asarray(batch.crop_to_image)[taker],
        level_boxes=np.asarray(batch.level_boxes)[taker],
        crop_mask=masks[taker] if len(masks) else masks,
    )


def crop_of_object(
    objects: Int[np.ndarray, "K 4"], boxes: Int[np.ndarray, "M 4"], own: Bool[np.ndarray, " M"]
) -> Int[np.ndarray, " K"]:
    """The crop whose box overlaps an annotated object most, with an IoU of at least ``COVERS``; -1 where there is none.

    Args:
      objects: x0, y0, width, height.
      boxes: of the batch's crops, on the same grid.
      own: the crops of the objects' photo.
    """
    crops = np.flatnonzero(own)
    if not len(crops):
        return np.full(len(objects), PADDING)
    overlap = iou(objects, boxes[crops])
    best = overlap.argmax(axis=1)
    return np.where(overlap.max(axis=1) >= COVERS, crops[best], PADDING)

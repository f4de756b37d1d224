"""The one form in which photos and instances reach the networks. Its names are used everywhere."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int32, UInt8

if TYPE_CHECKING:
    Array = Any  # functions on either kind answer in kind, which a union cannot say
else:
    Array = jax.Array | np.ndarray

LEVELS = 4
"""Resolutions of the networks: sides S, S/2, S/4, S/8."""

PADDING = -1
"""``crop_to_image`` of a crop that is no crop."""

NO_MASKS = np.zeros((0, 1, 1), bool)
"""``crop_mask`` where nobody reads masks."""


class Batch(NamedTuple):
    """B photos and M instance crops of all of them, packed on one axis; devices one after another.

    Parts that a stage does not need have length 0: stage full reads no crops, stage instance no full pictures.
    """

    full_rgb: UInt8[Array, "B S S 3"]
    """Photos resized to the canvas, 0 to 255."""
    crop_rgb: UInt8[Array, "M S S 3"]
    """Each crop, a box with its context (``boxes.crop_boxes``), cut from the original photo and resized to the canvas;
    of several ``data.crop_sides`` to the largest."""
    crop_to_image: Int32[Array, " M"]
    """The photo, among those on the same device, that a crop belongs to; -1 marks padding."""
    level_boxes: Int32[Array, "M L 4"]
    """x0, y0, width, height of each crop on the grid of each level: the box and what ``crop_context`` adds."""
    is_real: Bool[Array, " B"]
    """False marks a photo that only fills up the last batch of an evaluation."""
    crop_mask: Bool[Array, "M S S"] = NO_MASKS
    """The annotated mask of each crop's object, cut out, resized to the canvas; of length 0 without ``data.masks``."""
    smaller_crops: tuple[UInt8[Array, "_m _s _s 3"], ...] = ()
    """Crops of each smaller side of ``data.crop_sides``, the larger first. On the axis M of the other arrays they
    follow those of ``crop_rgb``: on each device, and in each of its parts where gradients are accumulated."""

    @property
    def crops(self) -> tuple[Array, ...]:
        """The crops of every side, the largest first."""
        return (self.crop_rgb, *self.smaller_crops)


def split_by_side(values: Array, crops: Sequence[Array], parts: int = 1) -> tuple[Array, ...]:
    """The rows of an array of all crops that go with the crops of each side.

    Args:
      values: (M, ...).
      crops: arrays of the crops of each side, as ``Batch.crops``; only their lengths are read.
      parts: consecutive parts of the axis, each of which has crops of all sides: devices, or parts of an accumulation.
    """
    if len(crops) == 1:
        return (values,)
    by_part = values.reshape(parts, sum(map(len, crops)) // parts, *values.shape[1:])
    split, begin = [], 0
    for of_side in crops:
        end = begin + len(of_side) // parts
        split.append(by_part[:, begin:end].reshape(len(of_side), *values.shape[1:]))
        begin = end
    return tuple(split)

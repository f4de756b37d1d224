"""Which color each object of a result has, and the points at which that color is given as a hint; on the device.

A box's palette is that of its middle; its points lie where no smaller box lies on it. What no box covers, the
background, is one more object of its photo. One color of its palette is drawn for each, so results differ object by
object; the regression, given the points, makes each coherent.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jaxcolor import color
from jaxcolor.color import AB_SCALE
from jaxcolor.inference.palette import (
    background_masks,
    box_masks,
    draw_object_colors,
    grid_boxes,
    middle_weights,
    object_palettes,
)
from jaxcolor.models.outputs import ab_distribution

POINTS = 5
"""Hints on an object, at most."""

_SPREAD = 0.25
"""Standard deviation of the window around a box's center, as a share of its sides: corners are seldom object."""
_SPACING = 0.25
"""Least distance of an object's points, as a share of the root of its area."""
_LEAST_WEIGHT = 0.3
"""Least weight of a point as a share of the first one's: a few points where the color is plausible, not all five."""


class Alternatives(NamedTuple):
    """C results for each of B photos; N = M + B objects: those of the boxes, then each photo's background."""

    ab: Float[jax.Array, "C N 2"]
    """Normalized ab that was drawn."""
    cells: Int[jax.Array, "C N P 2"]
    """Column and row of each point on the grid of the logits."""
    shown: Bool[jax.Array, "C N P"]
    """Whether there is such a point."""
    valid: Bool[jax.Array, "C B"]
    """Whether a photo has so many different results."""


def alternatives(
    key: jax.Array,
    logits: Float[jax.Array, "B h w 529"],
    luminance: Float[jax.Array, "B h w"],
    boxes: Int[jax.Array, "M 4"],
    box_to_image: Int[jax.Array, " M"],
    side: int,
    count: int,
) -> Alternatives:
    """Different combinations of the objects' colors, the most probable first (``palette.draw_object_colors``).

    Args:
      key: from ``jax.random.key``.
      logits: of how frequent colors are.
      luminance: normalized L on the same grid.
      boxes: x0, y0, width, height in canvas pixels.
      box_to_image: the photo of each box; -1: padding.
      side: of the canvas, static.
      count: C, static.
    """
    images, cells = logits.shape[:2]
    on_grid = grid_boxes(boxes, side // cells)
    whole = box_masks(on_grid, cells)
    background = background_masks(whole, box_to_image, images)
    masks = jnp.concatenate([front_masks(whole, box_to_image), background])
    owner = jnp.concatenate([box_to_image, jnp.arange(images, dtype=box_to_image.dtype)])
    weights = jnp.concatenate([middle_weights(boxes, side, cells), background])
    palettes = object_palettes(logits, weights, owner, luminance)
    draws = draw_object_colors(key, palettes, owner, images, count)
    # A color that none of the object's pixels finds likely is put where the window wants it.
    support = color_support(logits, owner, palettes.ab) + 1e-6
    window = jnp.concatenate([_center_window(on_grid, cells), jnp.ones((images, cells, cells), jnp.float32)])
    weight = jnp.where((owner >= 0)[:, None, None, None], support * (masks * window)[:, None], 0)
    spacing = _SPACING * jnp.sqrt(masks.sum(axis=(1, 2)))
    points, shown = jax.vmap(jax.vmap(_spread_points, (0, None)))(weight, spacing)
    objects = jnp.arange(len(owner))
    shown = shown & palettes.valid[..., None]
    return Alternatives(draws.ab, points[objects, draws.choice], shown[objects, draws.choice], draws.valid)


def front_masks(masks: Float[jax.Array, "M h w"], crop_to_image: Int[jax.Array, " M"]) -> Float[jax.Array, "M h w"]:
    """Each box less the smaller ones of its photo, which most often lie in front; whole if nothing would be left."""
    area, number = masks.sum(axis=(1, 2)), jnp.arange(len(masks))
    first = (area[:, None] < area) | ((area[:, None] == area) & (number[:, None] < number))
    before = first & (crop_to_image[:, None] == crop_to_image)
    covered = jnp.einsum("mn,mhw->nhw", before.astype(masks.dtype), masks, precision="highest") > 0
    left = jnp.where(covered, 0, masks)
    return jnp.where(left.any(axis=(1, 2), keepdims=True), left, masks)


def color_support(
    logits: Float[jax.Array, "B h w 529"], crop_to_image: Int[jax.Array, " N"], ab: Float[jax.Array, "N K 2"]
) -> Float[jax.Array, "N K h w"]:
    """The probability, at each cell of an object's photo, of colors near each of the object's K colors.

    Near is half the least distance of two modes. Object by object, so that the distributions are never copied for all.
    """
    probability = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    centers = jnp.asarray(color.bin_centers(), jnp.float32)
    distance = AB_SCALE * jnp.sqrt(jnp.square(ab[:, :, None] - centers).sum(axis=-1))
    near = (distance <= ab_distribution.MODE_DISTANCE / 2).astype(jnp.float32)

    def of_object(item: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.einsum("hwq,kq->khw", probability[item[0]], item[1], precision="highest")

    return jax.lax.map(of_object, (jnp.maximum(crop_to_image, 0), near))


def _center_window(boxes: Int[jax.Array, "M 4"], side: int) -> Float[jax.Array, "M {side} {side}"]:
    """A Gaussian around the center of each box."""

    def along(axis: int) -> jax.Array:
        start, size = boxes[:, axis, None], jnp.maximum(boxes[:, axis + 2, None], 1)
        place = (jnp.arange(side) + 0.5 - start) / size - 0.5
        return jnp.exp(-jnp.square(place / _SPREAD) / 2)

    return along(1)[:, :, None] * along(0)[:, None, :]


def _spread_points(
    weight: Float[jax.Array, "h w"], spacing: Float[jax.Array, ""]
) -> tuple[Int[jax.Array, "P 2"], Bool[jax.Array, " P"]]:
    """The cells of most weight that keep their distance from those before them, and which of them are to be used."""
    height, width = weight.shape
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)

    def take(left: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        row, column = jnp.divmod(jnp.argmax(left), width)
        distance = jnp.sqrt(jnp.square(rows - row) + jnp.square(columns - column))
        taken = (distance < spacing) | (distance == 0)
        return jnp.where(taken, 0, left), (jnp.stack([column, row]), left[row, column])

    _, (cells, weights) = jax.lax.scan(take, weight, None, length=POINTS)
    return cells, (weights > 0) & (weights >= _LEAST_WEIGHT * weights[0])

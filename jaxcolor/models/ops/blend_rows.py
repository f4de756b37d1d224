"""``blend.box_blend`` row by row, for CPUs: what lies outside the boxes is not computed.

    fused[rows, columns of box] += instance_weight * resize(instance, box)    # for each crop, row by row

A loop over the crops and the rows of each box: two rows of the feature are mixed, a small matrix product resizes the
mixture along the row, and it is added where it belongs. A CPU does such steps one after another anyway.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxcolor import resample
from jaxcolor.models.ops.blend import with_gradient

Visit = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
"""(what is collected, photo, row, resized row (width, channels)) of a crop -> what is collected."""


def _over_rows(
    feature: jax.Array,
    crop_to_image: jax.Array,
    boxes: jax.Array,
    height: int,
    width: int,
    visit: Callable[[jax.Array], Visit],
    collected: jax.Array,
) -> jax.Array:
    """Visit every row of every box; ``visit`` is given the crop's number."""
    crops, in_height, in_width, _ = feature.shape
    real = jnp.promote_types(feature.dtype, jnp.float32)
    columns = resample.paste_map(boxes[:, 0], boxes[:, 2], width, in_width, feature.dtype)
    first, size = boxes[:, 1], boxes[:, 3]
    inside = jnp.arange(height, dtype=real) - first[:, None].astype(real) + 0.5
    position = jnp.clip(inside * (in_height / size[:, None].astype(real)) - 0.5, 0, in_height - 1)
    above = jnp.floor(position).astype(jnp.int32)
    below = jnp.minimum(above + 1, in_height - 1)
    share = (position - above).astype(feature.dtype)
    begin = jnp.maximum(first, 0)
    end = jnp.where(crop_to_image >= 0, jnp.minimum(first + size, height), begin)

    def of_crop(crop: jax.Array, collected: jax.Array) -> jax.Array:
        each = visit(crop)

        def of_row(row: jax.Array, collected: jax.Array) -> jax.Array:
            upper, lower = feature[crop, above[crop, row]], feature[crop, below[crop, row]]
            resized = columns[crop] @ (upper + (lower - upper) * share[crop, row])
            return each(collected, crop_to_image[crop], row, resized.astype(real))

        return jax.lax.fori_loop(begin[crop], end[crop], of_row, collected)

    return jax.lax.fori_loop(0, crops, of_crop, collected)


def _blend(
    full_feature: jax.Array,
    full_weight: jax.Array,
    instance_feature: jax.Array,
    instance_weight: jax.Array,
    crop_to_image: jax.Array,
    boxes: jax.Array,
) -> jax.Array:
    _, height, width, _ = full_feature.shape

    def visit(crop: jax.Array) -> Visit:
        return lambda blended, photo, row, values: blended.at[photo, row].add(
            values * instance_weight[crop, row][:, None]
        )

    blended = full_feature * full_weight[..., None]
    return _over_rows(instance_feature, crop_to_image, boxes, height, width, visit, blended).astype(full_feature.dtype)


def _weight_gradient(
    gradient: jax.Array, instance_feature: jax.Array, crop_to_image: jax.Array, boxes: jax.Array
) -> jax.Array:
    _, height, width, _ = gradient.shape
    real = jnp.promote_types(gradient.dtype, jnp.float32)

    def visit(crop: jax.Array) -> Visit:
        return lambda weights, photo, row, values: weights.at[crop, row].set(
            (values * gradient[photo, row]).sum(axis=-1)
        )

    weights = jnp.zeros((len(boxes), height, width), real)
    return _over_rows(instance_feature, crop_to_image, boxes, height, width, visit, weights)


box_blend = with_gradient(_blend, _weight_gradient)
"""``blend.box_blend``."""

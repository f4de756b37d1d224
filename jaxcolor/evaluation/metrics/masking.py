"""Which pixels of a canvas count: photos that are smaller than their canvas, and masks.

Photos of several sizes share one static canvas, each in its top-left corner; ``size`` (B, 2) gives their heights and
widths. What lies beyond a photo may hold anything: no metric reads it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

Size = Int[jax.Array, "B 2"]
"""Height and width of each photo in its canvas, in pixels."""


def extent_mask(size: Size, height: int, width: int) -> Bool[jax.Array, "B {height} {width}"]:
    """Whether a cell of a height x width grid lies within each extent; an extent below 1 holds none."""
    rows = jnp.arange(height) < size[:, :1]
    columns = jnp.arange(width) < size[:, 1:]
    return rows[:, :, None] & columns[:, None, :]


def whole_windows(size: Size, window: int) -> Size:
    """How many window x window squares fit, down and across: below 1 where a photo is smaller than the window."""
    return size - (window - 1)


def counted(
    mask: Bool[jax.Array, "B H W"] | None, size: Size | None, height: int, width: int
) -> Bool[jax.Array, "B {height} {width}"] | None:
    """The pixels that are both in the mask and in the photo; None: all of the canvas."""
    if size is None:
        return mask
    inside = extent_mask(size, height, width)
    return inside if mask is None else mask & inside


def masked_mean(values: Float[jax.Array, "B H W"], mask: Bool[jax.Array, "B H W"] | None) -> Float[jax.Array, " B"]:
    """Mean of each photo's values where its mask is set (None: everywhere); NaN for a photo whose mask is empty."""
    if mask is None:
        return values.mean(axis=(1, 2))
    count = mask.sum(axis=(1, 2)).astype(values.dtype)
    # 0 / 0 would do, but trips jax_debug_nans.
    mean = jnp.where(mask, values, 0).sum(axis=(1, 2)) / jnp.maximum(count, 1)
    return jnp.where(count > 0, mean, jnp.nan)

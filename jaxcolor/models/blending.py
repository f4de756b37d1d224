"""The blend itself: the full image's feature and those of its instances, each in its box, added up by their weights.

There are two ways to the same numbers. ``plain`` resizes every instance onto a canvas of its own with two matrix
products and adds the canvases up; it runs anywhere. ``blend_kernel`` does it in one pass on NVIDIA GPUs.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jaxcolor import resample


def membership(image_index: Int[jax.Array, " M"], images: int) -> Bool[jax.Array, "B M"]:
    """Which crops belong to which photo; padding belongs to none."""
    return jnp.arange(images)[:, None] == image_index[None, :]


def sum_per_image(values: Float[jax.Array, "M ..."], member: Bool[jax.Array, "B M"]) -> Float[jax.Array, "B ..."]:
    """Sum over each photo's crops, in an order that does not change from run to run (a scatter's does, on GPU)."""
    return jnp.einsum("bm,m...->b...", member.astype(values.dtype), values, precision="highest")


def blend(
    full_feature: Float[jax.Array, "B H W C"],
    full_weight: Float[jax.Array, "B H W"],
    instance_feature: Float[jax.Array, "M h w C"],
    instance_weight: Float[jax.Array, "M H W"],
    image_index: Int[jax.Array, " M"],
    boxes: Int[jax.Array, "M 4"],
) -> Float[jax.Array, "B H W C"]:
    """``full_weight`` x full feature + the sum over a photo's crops of ``instance_weight`` x feature in its box.

    Args:
      full_feature: of the photos.
      full_weight: its weight at every pixel, at least float32.
      instance_feature: of the crops; finite for padding too.
      instance_weight: of the crops, on the canvas; 0 for padding.
      image_index: the photo of each crop, -1 for padding.
      boxes: x0, y0, width, height of each crop on the canvas.
    """
    way = kernel_for(instance_feature) or plain
    return way(full_feature, full_weight, instance_feature, instance_weight, image_index, boxes)


def kernel_for(instance_feature: Float[jax.Array, "M h w C"]) -> Callable[..., jax.Array] | None:
    """The kernel, where there is one for such features: here it is chosen, and nowhere else."""
    if jax.default_backend() != "gpu" or instance_feature.dtype == jnp.float64 or instance_feature.size == 0:
        return None
    try:  # what it is written in is to leave JAX some day
        from jaxcolor.models import blend_kernel
    except ImportError:
        return None
    return blend_kernel.blend if blend_kernel.fits(instance_feature.shape[-1]) else None


def plain(
    full_feature: jax.Array,
    full_weight: jax.Array,
    instance_feature: jax.Array,
    instance_weight: jax.Array,
    image_index: jax.Array,
    boxes: jax.Array,
) -> jax.Array:
    """``blend`` by matrix products."""
    images, height, width, _ = full_feature.shape
    placed = resample.paste(instance_feature, boxes, height, width)
    weighted = sum_per_image(placed * instance_weight[..., None], membership(image_index, images))
    return (full_feature * full_weight[..., None] + weighted).astype(full_feature.dtype)

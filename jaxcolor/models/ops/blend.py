"""The blend: the full image's feature and those of its instances, each in its box, added up by their weights.

    fused = full_weight * full + sum over a photo's crops of instance_weight * paste(instance, box)

``plain`` resizes every instance onto a canvas of its own with two matrix products and adds the canvases up; it runs
anywhere. ``triton.blend`` does it in one pass on NVIDIA GPUs, ``blend_rows`` row by row on CPUs.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jaxcolor import resample
from jaxcolor.batch import Array, split_by_side
from jaxcolor.models.ops.implementation import select_implementation, triton_module


def membership(crop_to_image: Int[jax.Array, " M"], images: int) -> Bool[jax.Array, "B M"]:
    """Which crops belong to which photo; padding belongs to none."""
    return jnp.arange(images)[:, None] == crop_to_image[None, :]


def sum_per_image(values: Float[jax.Array, "M ..."], member: Bool[jax.Array, "B M"]) -> Float[jax.Array, "B ..."]:
    """Sum over each photo's crops, in an order that does not change from run to run (a scatter's does, on GPU)."""
    return jnp.einsum("bm,m...->b...", member.astype(values.dtype), values, precision="highest")


def of_own_image(values: Float[jax.Array, "B ..."], member: Bool[jax.Array, "B M"]) -> Float[jax.Array, "M ..."]:
    """Each crop's photo's values; 1 for padding. The gradient is a ``sum_per_image``.

    Values must be finite: those of one photo that are not spoil the crops of all.
    """
    own = jnp.einsum("bm,b...->m...", member.astype(values.dtype), values, precision="highest")
    return jnp.where(member.any(axis=0).reshape(-1, *[1] * (values.ndim - 1)), own, 1)


def box_blend(
    full_feature: Float[jax.Array, "B H W C"],
    full_weight: Float[jax.Array, "B H W"],
    instance_feature: tuple[Float[jax.Array, "_m _h _w C"], ...],
    instance_weight: Float[jax.Array, "M H W"],
    crop_to_image: Int[jax.Array, " M"],
    boxes: Int[jax.Array, "M 4"],
) -> Float[jax.Array, "B H W C"]:
    """``full_weight`` x full feature + the sum over a photo's crops of ``instance_weight`` x feature in its box.

    Args:
      full_feature: of the photos.
      full_weight: its weight at every pixel, at least float32.
      instance_feature: of the crops of each side, M in all; finite for padding too.
      instance_weight: of the crops, on the canvas; 0 for padding.
      crop_to_image: the photo of each crop, -1 for padding.
      boxes: x0, y0, width, height of each crop on the canvas.
    """
    if len(instance_feature) == 1:
        return _blended(full_feature, full_weight, instance_feature[0], instance_weight, crop_to_image, boxes)
    by_side = [split_by_side(values, instance_feature) for values in (instance_weight, crop_to_image, boxes)]
    # One side after another is added to what there is, which is rounded to the features' type at the end.
    blended, weight = full_feature.astype(jnp.promote_types(full_feature.dtype, jnp.float32)), full_weight
    for arguments in zip(instance_feature, *by_side, strict=True):
        blended, weight = _blended(blended, weight, *arguments), jnp.ones_like(full_weight)
    return blended.astype(full_feature.dtype)


def _blended(
    full_feature: jax.Array, full_weight: jax.Array, instance_feature: jax.Array, *rest: jax.Array
) -> jax.Array:
    return implementation_for(instance_feature)(full_feature, full_weight, instance_feature, *rest)


Blend = Callable[[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


def implementation_for(instance_feature: Float[Array, "M h w C"]) -> Blend:
    """How such features are blended here."""
    from jaxcolor.models.ops import blend_rows

    def gpu() -> Blend | None:
        kernels = triton_module("blend")
        fits = kernels and instance_feature.dtype != jnp.float64 and kernels.fits(instance_feature.shape[-1])
        return kernels.box_blend if fits else None

    return plain if not instance_feature.size else select_implementation(plain=plain, cpu=blend_rows.box_blend, gpu=gpu)


def plain(
    full_feature: jax.Array,
    full_weight: jax.Array,
    instance_feature: jax.Array,
    instance_weight: jax.Array,
    crop_to_image: jax.Array,
    boxes: jax.Array,
) -> jax.Array:
    """``blend`` by matrix products."""
    images, height, width, _ = full_feature.shape
    placed = resample.paste(instance_feature, boxes, height, width)
    weighted = sum_per_image(placed * instance_weight[..., None], membership(crop_to_image, images))
    return (full_feature * full_weight[..., None] + weighted).astype(full_feature.dtype)


def with_gradient(forward: Blend, weight_gradient: Callable[..., jax.Array]) -> Blend:
    """An implementation that is not written in what JAX can differentiate, made differentiable.

    Args:
      forward: the implementation.
      weight_gradient: (gradient of the result, instance features, crop_to_image, boxes) -> gradient of the instances'
        weights.
    """

    def begin(*given: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        return forward(*given), given

    def backward(given: tuple[jax.Array, ...], gradient: jax.Array) -> tuple[jax.Array | None, ...]:
        full_feature, full_weight, instance_feature, instance_weight, crop_to_image, boxes = given
        real = gradient.astype(full_weight.dtype)
        # Instances are frozen where fusion is trained: there this is not computed.
        (of_feature,) = jax.vjp(
            lambda f: plain(full_feature, full_weight, f, instance_weight, crop_to_image, boxes), instance_feature
        )[1](gradient)
        of_weight = weight_gradient(gradient, instance_feature, crop_to_image, boxes)
        return (
            (real * full_weight[..., None]).astype(full_feature.dtype),
            (real * full_feature).sum(axis=-1),
            of_feature,
            of_weight.astype(instance_weight.dtype),
            None,
            None,
        )

    differentiable = jax.custom_vjp(forward)
    differentiable.defvjp(begin, backward)
    return differentiable

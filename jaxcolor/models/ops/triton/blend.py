"""``blend.box_blend`` as a kernel for NVIDIA GPUs.

    fused[y, x] = full_weight * full[y, x] + sum over the crops around (y, x) of instance_weight * bilinear(instance)

It walks over the pixels of the photo, looks up the four neighbors of a pixel in each instance whose box covers it, and
writes the blended feature once. Canvases for 64 crops at the finest level would be 4 GB in float32, of which all but
the boxes are zeros. Written in Pallas for Triton, which JAX calls deprecated; Mosaic, which is to replace it, cannot
look up pixels at computed places.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jaxcolor.models.ops.blend import membership, with_gradient

PIXELS = 16
"""Neighbors of a row that a program of the kernel computes."""
CHANNELS = 128
"""Channels that a program computes, at most."""


def fits(channels: int) -> bool:
    """Whether the kernel computes features of so many channels."""
    return _channel_block(channels) >= 16


def _channel_block(channels: int) -> int:
    """Channels of a program: a power of two that divides them, as the compiler wants."""
    return min(CHANNELS, channels & -channels)


def _by_photo(crop_to_image: jax.Array, images: int) -> tuple[jax.Array, jax.Array]:
    """Crops ordered by photo, (M,), and where each photo's begin, (B + 1,); padding comes last."""
    order = jnp.argsort(jnp.where(crop_to_image >= 0, crop_to_image, images), stable=True)
    counts = membership(crop_to_image, images).sum(axis=1)
    return order.astype(jnp.int32), jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(counts).astype(jnp.int32)])


def _looked_up(feature: Any, boxes: Any, crop: Any, y: Any, x: Any, channels: Any) -> tuple[Any, Any]:
    """A crop's feature resized into its box at pixels x of row y, (pixels, channels) float32, and which lie in it.

    Half-pixel centers, edges clamped, as ``resample.paste``.
    """
    _, side_y, side_x, _ = feature.shape
    x0, y0, width, height = (boxes[crop, i] for i in range(4))
    inside = (x >= x0) & (x < x0 + width) & (y >= y0) & (y < y0 + height)

    def neighbors(pixel: Any, start: Any, size: Any, side: int) -> tuple[Any, Any, Any]:
        scale = side / size.astype(jnp.float32)
        at = jnp.clip(((pixel - start).astype(jnp.float32) + 0.5) * scale - 0.5, 0.0, side - 1.0)
        low = jnp.floor(at)
        index = low.astype(jnp.int32)
        return index, jnp.minimum(index + 1, side - 1), at - low

    top, bottom, down = neighbors(y, y0, height, side_y)
    left, right, across = neighbors(x, x0, width, side_x)

    def load(row: Any, column: Any) -> Any:
        place = feature.at[crop, row, column[:, None], channels[None, :]]
        return triton.load(place, mask=inside[:, None], other=0.0).astype(jnp.float32)

    def line(row: Any) -> Any:
        first = load(row, left)
        return first + (load(row, right) - first) * across[:, None]

    upper = line(top)
    return upper + (line(bottom) - upper) * down, inside


def _touches(boxes: Any, crop: Any, y: Any, first_x: Any) -> Any:
    """Whether a crop's box has any of the pixels from ``first_x`` on in row y."""
    x0, y0, width, height = (boxes[crop, i] for i in range(4))
    return (y >= y0) & (y < y0 + height) & (first_x < x0 + width) & (first_x + PIXELS > x0)


def _blend_kernel(
    full: Any, full_weight: Any, feature: Any, weight: Any, boxes: Any, order: Any, first: Any, out: Any, *, block: int
) -> None:
    image, y = pl.program_id(0), pl.program_id(1)
    blocks = full.shape[3] // block
    first_x = pl.program_id(2) // blocks * PIXELS
    x = first_x + jnp.arange(PIXELS)
    channels = pl.program_id(2) % blocks * block + jnp.arange(block)
    on_canvas = x < full.shape[2]

    def weights(ref: Any, row: Any) -> Any:
        return triton.load(ref.at[row, y, x], mask=on_canvas, other=0.0)[:, None]

    def add(place: Any, total: Any) -> Any:
        crop = order[place]

        def looked_up(total: Any) -> Any:
            values, _ = _looked_up(feature, boxes, crop, y, x, channels)
            return total + values * weights(weight, crop)

        return jax.lax.cond(_touches(boxes, crop, y, first_x), looked_up, lambda total: total, total)

    here = (image, y, x[:, None], channels[None, :])
    own = triton.load(full.at[here], mask=on_canvas[:, None], other=0.0).astype(jnp.float32)
    total = jax.lax.fori_loop(first[image], first[image + 1], add, own * weights(full_weight, image))
    triton.store(out.at[here], total.astype(out.dtype), mask=on_canvas[:, None])


def _weight_gradient_kernel(
    gradient: Any, feature: Any, boxes: Any, crop_to_image: Any, out: Any, *, block: int
) -> None:
    crop, y, first_x = pl.program_id(0), pl.program_id(1), pl.program_id(2) * PIXELS
    x = first_x + jnp.arange(PIXELS)
    image = crop_to_image[crop]

    def product(number: int) -> Any:
        channels = number * block + jnp.arange(block)
        values, inside = _looked_up(feature, boxes, crop, y, x, channels)
        place = gradient.at[image, y, x[:, None], channels[None, :]]
        flowing = triton.load(place, mask=inside[:, None], other=0.0).astype(jnp.float32)
        return (values * flowing).sum(axis=1)

    nothing = jnp.zeros(PIXELS, jnp.float32)
    touched = (image >= 0) & _touches(boxes, crop, y, first_x)
    total = jax.lax.cond(touched, lambda: sum(map(product, range(feature.shape[3] // block)), nothing), lambda: nothing)
    triton.store(out.at[crop, y, x], total, mask=x < gradient.shape[2])


def _call(kernel: Any, out_shape: Any, grid: tuple[int, ...], arguments: tuple[jax.Array, ...], block: int) -> Any:
    return pl.pallas_call(
        functools.partial(kernel, block=block),
        out_shape=out_shape,
        grid=grid,
        compiler_params=triton.CompilerParams(num_warps=4),
        interpret=jax.default_backend() != "gpu",  # for tests
    )(*arguments)


def _kernel(
    full_feature: jax.Array,
    full_weight: jax.Array,
    instance_feature: jax.Array,
    instance_weight: jax.Array,
    crop_to_image: jax.Array,
    boxes: jax.Array,
) -> jax.Array:
    images, height, width, channels = full_feature.shape
    block = _channel_block(channels)
    arguments = (full_feature, full_weight, instance_feature, instance_weight, boxes, *_by_photo(crop_to_image, images))
    grid = (images, height, -(-width // PIXELS) * (channels // block))
    like = jax.ShapeDtypeStruct(full_feature.shape, full_feature.dtype)
    return _call(_blend_kernel, like, grid, arguments, block)


def _weight_gradient(
    gradient: jax.Array, instance_feature: jax.Array, crop_to_image: jax.Array, boxes: jax.Array
) -> jax.Array:
    crops, (_, height, width, channels) = len(boxes), gradient.shape
    return _call(
        _weight_gradient_kernel,
        jax.ShapeDtypeStruct((crops, height, width), jnp.float32),
        (crops, height, -(-width // PIXELS)),
        (gradient, instance_feature, boxes, crop_to_image),
        _channel_block(channels),
    )


box_blend = with_gradient(_kernel, _weight_gradient)
"""``blend.box_blend``."""

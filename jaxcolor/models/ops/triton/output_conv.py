"""``output_conv.leaky_to_few`` as kernels for NVIDIA GPUs: the largest feature is read once, and its ReLU never stored.

    y = leaky_relu(x, slope) @ kernel    # and its gradients to x, to the bias that is in x, and to kernel

Written in Pallas for Triton, as ``blend``; XLA computes no ReLU with a matrix product that follows it.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Float

from jaxcolor.models.ops import implementation

PIXELS = 32
"""That a program computes at a time."""
PROGRAMS = 1024
"""About how many programs the backward pass has; each adds up its pixels' gradients, their sums are added after."""


def fits(shape: tuple[int, ...]) -> bool:
    """Whether the kernel computes features of such a shape (B, H, W, C)."""
    pixels, channels = math.prod(shape[:3]), shape[3]
    return channels >= 16 and channels & (channels - 1) == 0 and pixels > 0 and pixels % PIXELS == 0


def _forward(x: Any, weights: Any, out: Any, *, slope: float) -> None:
    pixel = pl.program_id(0) * PIXELS + jnp.arange(PIXELS)
    channel = jnp.arange(x.shape[1])
    wide = triton.load(x.at[pixel[:, None], channel[None, :]]).astype(jnp.float32)
    leaky = jnp.where(wide >= 0, wide, slope * wide)
    for feature in range(weights.shape[0]):
        weight = triton.load(weights.at[feature, channel]).astype(jnp.float32)
        triton.store(out.at[pixel, feature], (leaky * weight[None, :]).sum(axis=1).astype(out.dtype))


def forward(
    x: Float[jax.Array, "B H W C"], kernel: Float[jax.Array, "C F"], slope: float
) -> Float[jax.Array, "B H W F"]:
    """The leaky ReLU of ``x`` times ``kernel``."""
    *pixels, channels = x.shape
    features = kernel.shape[1]
    out = pl.pallas_call(
        functools.partial(_forward, slope=slope),
        out_shape=jax.ShapeDtypeStruct((math.prod(pixels), features), x.dtype),
        grid=(math.prod(pixels) // PIXELS,),
        compiler_params=triton.CompilerParams(num_warps=4),
        interpret=jax.default_backend() != "gpu",  # for tests
    )(x.reshape(-1, channels), kernel.T)
    return out.reshape(*pixels, features)


def _backward(x: Any, weights: Any, gradient: Any, to_x: Any, sums: Any, *, slope: float, turns: int) -> None:
    program, channel, features = pl.program_id(0), jnp.arange(x.shape[1]), range(weights.shape[0])
    weight = [triton.load(weights.at[f, channel]).astype(jnp.float32)[None, :] for f in features]

    def turn(number: Any, found: tuple[Any, ...]) -> tuple[Any, ...]:
        pixel = (program * turns + number) * PIXELS + jnp.arange(PIXELS)
        wide = triton.load(x.at[pixel[:, None], channel[None, :]]).astype(jnp.float32)
        flowing = [triton.load(gradient.at[pixel, f]).astype(jnp.float32)[:, None] for f in features]
        slopes = jnp.where(wide >= 0, 1.0, slope)
        own = slopes * sum(flowing[f] * weight[f] for f in features)
        triton.store(to_x.at[pixel[:, None], channel[None, :]], own.astype(to_x.dtype))
        # Pixel by pixel: what a loop adds up over them is added up over the pixels of a turn once, at its end.
        return (found[0] + own, *(found[1 + f] + slopes * wide * flowing[f] for f in features))

    nothing = jnp.zeros((PIXELS, x.shape[1]), jnp.float32)
    found = jax.lax.fori_loop(0, turns, turn, (nothing,) * (1 + len(features)))
    for i, part in enumerate(found):
        triton.store(sums.at[program, i, channel], part.sum(axis=0))


def backward(
    x: Float[jax.Array, "B H W C"],
    kernel: Float[jax.Array, "C F"],
    gradient: Float[jax.Array, "B H W F"],
    slope: float,
) -> tuple[Float[jax.Array, "B H W C"], Float[jax.Array, " C"], Float[jax.Array, "C F"]]:
    """Of ``forward``: the gradient to ``x``, its sum over the pixels and the gradient to ``kernel``, in float32."""
    channels, features = kernel.shape
    blocks = x.size // channels // PIXELS
    turns = implementation.blocks_per_program(blocks, PROGRAMS)
    to_x, sums = pl.pallas_call(
        functools.partial(_backward, slope=slope, turns=turns),
        out_shape=(
            jax.ShapeDtypeStruct((blocks * PIXELS, channels), x.dtype),
            jax.ShapeDtypeStruct((blocks // turns, 1 + features, channels), jnp.float32),
        ),
        grid=(blocks // turns,),
        compiler_params=triton.CompilerParams(num_warps=8),
        interpret=jax.default_backend() != "gpu",  # for tests
    )(x.reshape(-1, channels), kernel.T, gradient.reshape(-1, features))
    total = sums.sum(axis=0)
    return to_x.reshape(x.shape), total[0], total[1:].T

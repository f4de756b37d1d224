"""``few.leaky_to_few`` as a kernel for NVIDIA GPUs: the largest feature is read once, and its ReLU never stored.

Written in Pallas for Triton, as ``blend_kernel``; XLA computes no ReLU with a matrix product that follows it.
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

PIXELS = 32
"""That a program of the kernel computes."""


def fits(shape: tuple[int, ...]) -> bool:
    """Whether the kernel computes features of such a shape (B, H, W, C)."""
    pixels, channels = math.prod(shape[:3]), shape[3]
    return channels >= 16 and channels & (channels - 1) == 0 and pixels > 0 and pixels % PIXELS == 0


def _kernel(x: Any, weights: Any, out: Any, *, slope: float) -> None:
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
        functools.partial(_kernel, slope=slope),
        out_shape=jax.ShapeDtypeStruct((math.prod(pixels), features), x.dtype),
        grid=(math.prod(pixels) // PIXELS,),
        compiler_params=triton.CompilerParams(num_warps=4),
        interpret=jax.default_backend() != "gpu",  # for tests
    )(x.reshape(-1, channels), kernel.T)
    return out.reshape(*pixels, features)

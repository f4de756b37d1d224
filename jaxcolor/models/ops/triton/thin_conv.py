"""The backward pass of ``thin_conv.plain`` to kernel and bias, for few channels in, as a kernel for NVIDIA GPUs.

    flowing = gradient where y is not 0, else 0
    d_kernel[i, j] = shift(x, i, j).T @ flowing;  d_bias = flowing.sum()

What is as large as the feature is read, and the gradient of its ReLU never stored. Written in Pallas for Triton, as
``blend``.
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

PIXELS = 64
"""Neighbors of a row that a program computes at a time."""
PROGRAMS = 1024
"""About how many programs there are; each adds up its pixels' gradients, and their sums are added up after."""
LINE = 16
"""Columns of a matrix product for what a pixel sees of one row: three neighbors' channels, and a one for the bias."""
LINES = 4
"""Three rows, and one more of zeros: so the product is as wide as a GPU's matrix units are."""
FEATURES = range(16, 129)
"""How many a program can hold the sums of in registers; powers of two among them, as the compiler wants."""


def fits(shape: tuple[int, ...], features: int) -> bool:
    """Whether the kernel computes the backward pass of such a layer, of an input of such a shape (B, H, W, C)."""
    possible = features in FEATURES and features & (features - 1) == 0
    return possible and 3 * shape[3] < LINE and math.prod(shape) > 0 and shape[2] % PIXELS == 0


def _backward(x: Any, y: Any, gradient: Any, sums: Any, *, channels: int, turns: int) -> None:
    _, height, width, features = y.shape
    program, feature = pl.program_id(0), jnp.arange(features)[None, :]
    column = jnp.arange(LINES * LINE)[None, :]
    line, place = column // LINE, column % LINE

    def turn(number: Any, found: Any) -> Any:
        first = (program * turns + number) * PIXELS
        photo, row, pixel = first // (height * width), first // width % height, first % width + jnp.arange(PIXELS)
        here = photo, row, pixel[:, None], feature
        flowing = triton.load(gradient.at[here])
        flowing = jnp.where(triton.load(y.at[here]) != 0, flowing, jnp.zeros_like(flowing))
        # Three neighbors' channels lie side by side: from the left one's first on.
        around = ((row + line) * (width + 2) + pixel[:, None]) * channels + place
        seen = triton.load(x.at[photo, around], mask=(place < 3 * channels) & (line < 3), other=0.0)
        seen = jnp.where(column == 3 * channels, jnp.ones_like(seen), seen)
        over_pixels = (((0,), (0,)), ((), ()))
        return found + jax.lax.dot_general(seen, flowing, over_pixels, preferred_element_type=jnp.float32)

    found = jax.lax.fori_loop(0, turns, turn, jnp.zeros((LINES * LINE, features), jnp.float32))
    triton.store(sums.at[program, column.reshape(-1, 1), feature], found)


def backward(
    x: Float[jax.Array, "B H W C"], y: Float[jax.Array, "B H W F"], gradient: Float[jax.Array, "B H W F"]
) -> tuple[Float[jax.Array, "3 3 C F"], Float[jax.Array, " F"]]:
    """Of ``thin_conv.plain``, which made ``y`` of ``x``: the gradients to its kernel and to its bias, in float32."""
    batch, height, width, channels = x.shape
    features = y.shape[3]
    blocks = batch * height * width // PIXELS
    turns = implementation.blocks_per_program(blocks, PROGRAMS)
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(batch, -1)
    sums = pl.pallas_call(
        functools.partial(_backward, channels=channels, turns=turns),
        out_shape=jax.ShapeDtypeStruct((blocks // turns, LINES * LINE, features), jnp.float32),
        grid=(blocks // turns,),
        compiler_params=triton.CompilerParams(num_warps=4),
        interpret=jax.default_backend() != "gpu",  # for tests
    )(padded, y, gradient)
    total = sums.sum(axis=0).reshape(LINES, LINE, features)
    return total[:3, : 3 * channels].reshape(3, 3, channels, features), total[0, 3 * channels]

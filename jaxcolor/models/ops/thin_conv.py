"""A 3x3 convolution with few channels in or out, and its ReLU.

    y = relu(convolve(x, kernel) + bias)

With few channels, plain convolutions leave most of a GPU idle: its matrix units work on 64 channels and more at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxcolor.models.ops.activation import relu
from jaxcolor.models.ops.conv import add_bias, convolve
from jaxcolor.models.ops.implementation import select_implementation, triton_module

GROUP = 4
"""Neighbors of a row that ``grouped`` computes as one pixel."""
MATRIX_UNIT = 64
"""Channels that a GPU's matrix units work on at a time, at least."""

THIN = 16
"""Channels, in or out, up to which a layer is thin: the first layer, and those of weight heads."""

ConvRelu = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def implementation_for(x: Float[jax.Array, "B H W C"], features: int) -> ConvRelu:
    """How a layer with few channels in or out is computed here.

    On GPUs in bfloat16: with few channels in, four times the multiplications, three quarters of them by zeros, take a
    third of the time; with many in and few out, a third of the kernel at a time takes half; a single feature is best
    left to a matrix product. With very few in, the backward pass to kernel and bias is one kernel. Other devices, and
    float32, are as fast or faster without.
    """

    def gpu() -> ConvRelu | None:
        if x.dtype != jnp.bfloat16:
            return None
        if features == 1 and x.shape[3] < MATRIX_UNIT:
            return by_taps
        if x.shape[3] >= MATRIX_UNIT and 3 * features <= MATRIX_UNIT:
            return by_columns
        kernels = triton_module("thin_conv")
        if kernels and kernels.fits(x.shape, features):
            return from_few
        return grouped if x.shape[3] < MATRIX_UNIT and x.shape[2] % GROUP == 0 else None

    return select_implementation(plain=plain, gpu=gpu)


def plain(
    x: Float[jax.Array, "B H W C"], kernel: Float[jax.Array, "3 3 C F"], bias: Float[jax.Array, " F"]
) -> Float[jax.Array, "B H W F"]:
    """3x3, stride 1, zero padding, then ReLU."""
    return relu(add_bias(convolve(x, kernel, ((1, 1), (1, 1))), bias))


def by_columns(
    x: Float[jax.Array, "B H W C"], kernel: Float[jax.Array, "3 3 C F"], bias: Float[jax.Array, " F"]
) -> Float[jax.Array, "B H W F"]:
    """``plain`` with the three columns of the kernel as three times the features of one, added up where they meet."""
    columns = kernel.transpose(0, 2, 1, 3).reshape(3, 1, kernel.shape[2], 3 * kernel.shape[3])
    parts = jnp.split(convolve(x, columns, ((1, 1), (0, 0))), 3, axis=3)
    return _met([(0, 1 - i, part) for i, part in enumerate(parts)], bias)


def by_taps(
    x: Float[jax.Array, "B H W C"], kernel: Float[jax.Array, "3 3 C F"], bias: Float[jax.Array, " F"]
) -> Float[jax.Array, "B H W F"]:
    """``plain`` as a matrix product with the nine taps as nine times the features, added up where they meet."""
    # Tap by tap, not pixel by pixel: nine values of a pixel side by side are slow to write and to read. In bfloat16
    # each is rounded before they are added up: an error of 0.0024 of the result where ``plain`` has 0.0016.
    taps = jnp.einsum("ijcf,bhwc->ijbhwf", kernel, x).reshape(9, *x.shape[:3], kernel.shape[3])
    return _met([(1 - i // 3, 1 - i % 3, part[0]) for i, part in enumerate(jnp.split(taps, 9))], bias)


def _met(parts: Sequence[tuple[int, int, jax.Array]], bias: jax.Array) -> jax.Array:
    """The bias and the sum of all parts, each so many rows down and columns to the right of where it is, then ReLU.

    What the left column of a kernel gives belongs to the pixel to the right, and so on.
    """
    dtype = parts[0][2].dtype
    real = jnp.promote_types(dtype, jnp.float32)
    total = bias.astype(real)
    for down, right, part in parts:
        edges = ((0, 0, 0), (down, -down, 0), (right, -right, 0), (0, 0, 0))
        total += jax.lax.pad(part.astype(real), jnp.zeros((), real), edges)
    return relu(total.astype(dtype))


def grouped_kernel(kernel: Float[jax.Array, "3 3 C F"], group: int) -> Float[jax.Array, "3 3 {group}*C {group}*F"]:
    """The kernel on rows whose pixels are ``group`` neighbors each: the same weights, zeros elsewhere.

    Output neighbor ``o`` of a pixel sees input neighbor ``i`` of the pixel at ``d`` - 1 through the column of the
    kernel that lies where both are.
    """
    d, i, o, column = np.ogrid[:3, :group, :group, :3]
    seen = column == group * (d - 1) + i - o + 1
    spread = jnp.einsum("diok,hkcf->hdicof", seen.astype(kernel.dtype), kernel, precision="highest")
    return spread.reshape(3, 3, group * kernel.shape[2], group * kernel.shape[3])


def grouped(
    x: Float[jax.Array, "B H W C"],
    kernel: Float[jax.Array, "3 3 C F"],
    bias: Float[jax.Array, " F"],
    group: int = GROUP,
) -> Float[jax.Array, "B H W F"]:
    """``plain`` on ``group`` neighbors at a time; they must divide the width."""
    batch, height, width, channels = x.shape
    together = x.reshape(batch, height, width // group, group * channels)
    # Bias and ReLU before the reshape: XLA computes them with the convolution only where nothing lies between.
    y = plain(together, grouped_kernel(kernel, group), jnp.tile(bias, group))
    return y.reshape(batch, height, width, kernel.shape[3])


@jax.custom_vjp
def from_few(
    x: Float[jax.Array, "B H W C"], kernel: Float[jax.Array, "3 3 C F"], bias: Float[jax.Array, " F"]
) -> Float[jax.Array, "B H W F"]:
    """``grouped``, for very few channels in, on GPUs; its backward pass reads what is large once and stores nothing."""
    return grouped(x, kernel, bias)


def _from_few_forward(
    x: jax.Array, kernel: jax.Array, bias: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array, jax.Array]]:
    y = grouped(x, kernel, bias)
    return y, (x, kernel, bias, y)


def _from_few_backward(
    saved: tuple[jax.Array, jax.Array, jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    from jaxcolor.models.ops.triton import thin_conv as kernels

    x, kernel, bias, y = saved
    to_kernel, to_bias = kernels.backward(x, y, gradient)
    # Of a photo nobody asks the gradient: then XLA drops this.
    back = jax.linear_transpose(lambda x: convolve(x, kernel, ((1, 1), (1, 1))), x)
    (to_x,) = back(jnp.where(y != 0, gradient, 0))
    return to_x, to_kernel.astype(kernel.dtype), to_bias.astype(bias.dtype)


from_few.defvjp(_from_few_forward, _from_few_backward)

"""Layers with few channels that do not leave most of a GPU idle; their parameters are those of ``nn.Conv``."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxcolor.batch import Array
from jaxcolor.models.conv import add_bias
from jaxcolor.models.relu import leaky_relu, relu

GROUP = 4
"""Neighbours of a row that ``grouped`` computes as one pixel."""
MATRIX_UNIT = 64
"""Channels that a GPU's matrix units work on at a time, at least."""

Way = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def way_for(x: Float[Array, "B H W C"]) -> Way:
    """How a layer with few channels in or out is computed here: this is chosen in this function, and nowhere else.

    A GPU's matrix units work on 64 channels and more at a time. With few channels in, four times the multiplications,
    three quarters of them by zeros, take a third of the time; with many in and few out, a third of the kernel at a
    time takes half. Other devices, and float32, are as fast or faster without.
    """
    if jax.default_backend() != "gpu" or x.dtype != jnp.bfloat16:
        return plain
    if x.shape[3] >= MATRIX_UNIT:
        return by_columns
    return grouped if x.shape[2] % GROUP == 0 else plain


def plain(
    x: Float[jax.Array, "B H W C"], kernel: Float[jax.Array, "3 3 C F"], bias: Float[jax.Array, " F"]
) -> Float[jax.Array, "B H W F"]:
    """3x3, stride 1, zero padding, then ReLU."""
    return relu(add_bias(_convolve(x, kernel, padding=(1, 1)), bias))


def _convolve(x: jax.Array, kernel: jax.Array, padding: tuple[int, int]) -> jax.Array:
    """Stride 1; ``padding`` of rows and of columns, on both sides."""
    around = [(rows, rows) for rows in padding]
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), around, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def by_columns(
    x: Float[jax.Array, "B H W C"], kernel: Float[jax.Array, "3 3 C F"], bias: Float[jax.Array, " F"]
) -> Float[jax.Array, "B H W F"]:
    """``plain`` with the three columns of the kernel as three times the features of one, added up where they meet."""
    columns = kernel.transpose(0, 2, 1, 3).reshape(3, 1, kernel.shape[2], 3 * kernel.shape[3])
    real = jnp.promote_types(x.dtype, jnp.float32)
    total = bias.astype(real)
    for i, part in enumerate(jnp.split(_convolve(x, columns, padding=(1, 0)).astype(real), 3, axis=3)):
        # What the left column gives belongs to the pixel to the right, and so on.
        total += jax.lax.pad(part, jnp.zeros((), real), ((0, 0, 0), (0, 0, 0), (1 - i, i - 1, 0), (0, 0, 0)))
    return relu(total.astype(x.dtype))


def grouped_kernel(kernel: Float[jax.Array, "3 3 C F"], group: int) -> Float[jax.Array, "3 3 {group}*C {group}*F"]:
    """The kernel on rows whose pixels are ``group`` neighbours each: the same weights, zeros elsewhere.

    Output neighbour ``o`` of a pixel sees input neighbour ``i`` of the pixel at ``d`` - 1 through the column of the
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
    """``plain`` on ``group`` neighbours at a time; they must divide the width."""
    batch, height, width, channels = x.shape
    together = x.reshape(batch, height, width // group, group * channels)
    # Bias and ReLU before the way back: XLA computes them with the convolution only where nothing lies between.
    y = plain(together, grouped_kernel(kernel, group), jnp.tile(bias, group))
    return y.reshape(batch, height, width, kernel.shape[3])


class NarrowConv(nn.Module):
    """``nn.Conv(features, (3, 3), padding=1)`` and ReLU, for few channels in or out.

    Attributes:
      features: channels out.
      dtype: type of the computation.
      param_dtype: type of the parameters.
      kernel_init: initialiser of the kernel.
    """

    features: int
    dtype: Any
    param_dtype: Any
    kernel_init: Any

    @nn.compact
    def __call__(self, x: Float[jax.Array, "B H W C"]) -> Float[jax.Array, "B H W {self.features}"]:
        """The convolution and ReLU."""
        kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.features), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        x = x.astype(self.dtype)
        return way_for(x)(x, jnp.asarray(kernel, self.dtype), jnp.asarray(bias, self.dtype))


@jax.custom_vjp
def to_few(x: Float[jax.Array, "... C"], kernel: Float[jax.Array, "C F"]) -> Float[jax.Array, "... F"]:
    """``x @ kernel`` for very few features.

    Its gradient to ``x`` is written as a sum over the features: so compiled into the operation before, it is never
    stored, while a matrix product would write an array of the size of ``x``.
    """
    return jnp.dot(x, kernel)


def _to_few_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    real = jnp.promote_types(x.dtype, jnp.float32)
    wide, flowing = kernel.astype(real), gradient.astype(real)
    to_x = sum(flowing[..., f, None] * wide[:, f] for f in range(kernel.shape[1]))
    return jnp.asarray(to_x, x.dtype), jnp.einsum("...c,...f->cf", x, gradient)


to_few.defvjp(lambda x, kernel: (to_few(x, kernel), (x, kernel)), _to_few_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def leaky_to_few(
    x: Float[jax.Array, "B H W C"], kernel: Float[jax.Array, "C F"], slope: float
) -> Float[jax.Array, "B H W F"]:
    """``to_few(leaky_relu(x, slope), kernel)`` that stores nothing of the size of ``x``; on NVIDIA GPUs alone."""
    from jaxcolor.models import few_kernel

    return few_kernel.leaky_to_few(x, kernel, slope)


def _leaky_to_few_backward(
    slope: float, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    real = jnp.promote_types(x.dtype, jnp.float32)
    wide, weights, flowing = x.astype(real), kernel.astype(real), gradient.astype(real)
    slopes = jnp.where(wide >= 0, 1.0, slope).astype(real)
    features = range(kernel.shape[1])
    to_x = slopes * sum(flowing[..., f, None] * weights[:, f] for f in features)
    to_kernel = [(slopes * wide * flowing[..., f, None]).sum(axis=(0, 1, 2)) for f in features]
    return to_x.astype(x.dtype), jnp.stack(to_kernel, axis=1).astype(kernel.dtype)


leaky_to_few.defvjp(lambda x, kernel, slope: (leaky_to_few(x, kernel, slope), (x, kernel)), _leaky_to_few_backward)


def leaky_way_for(x: Float[Array, "B H W C"]) -> Callable[[jax.Array, jax.Array, float], jax.Array]:
    """How ``to_few`` of a leaky ReLU is computed here: this is chosen in this function, and nowhere else."""
    if jax.default_backend() == "gpu" and x.dtype == jnp.bfloat16:
        with contextlib.suppress(ImportError):  # what it is written in is to leave JAX some day
            from jaxcolor.models import few_kernel

            if few_kernel.fits(x.shape):
                return leaky_to_few
    return lambda x, kernel, slope: to_few(leaky_relu(x, slope), kernel)


class ToFew(nn.Module):
    """``nn.Conv(features, (1, 1))`` to very few features; attributes as those of ``NarrowConv``."""

    features: int
    dtype: Any
    param_dtype: Any
    kernel_init: Any

    @nn.compact
    def __call__(
        self, x: Float[jax.Array, "B H W C"], slope: float | None = None
    ) -> Float[jax.Array, "B H W {self.features}"]:
        """The features of ``x``, or, given a slope, of its leaky ReLU."""
        kernel = self.param("kernel", self.kernel_init, (1, 1, x.shape[-1], self.features), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        x, taps = x.astype(self.dtype), jnp.asarray(kernel[0, 0], self.dtype)
        few = to_few(x, taps) if slope is None else leaky_way_for(x)(x, taps, slope)
        return few + bias.astype(self.dtype)

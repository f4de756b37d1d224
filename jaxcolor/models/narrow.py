"""Layers with few channels that do not leave most of a GPU idle; their parameters are those of ``nn.Conv``."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxcolor.models.relu import relu

GROUP = 4
"""Neighbours of a row that are computed as one pixel of as many times the channels, where that is worth it."""


def group_for(x: jax.Array) -> int:
    """How many neighbours to take together: here it is chosen, and nowhere else.

    A GPU's matrix units work on 64 channels and more at a time: four times the multiplications, three quarters of them
    by zeros, take a third of the time. Other devices, and float32, are as fast or faster without.
    """
    worth_it = jax.default_backend() == "gpu" and x.dtype == jnp.bfloat16
    return GROUP if worth_it and x.shape[2] % GROUP == 0 else 1


def grouped_kernel(kernel: Float[jax.Array, "3 3 C F"], group: int) -> Float[jax.Array, "3 3 {group}*C {group}*F"]:
    """The kernel on rows whose pixels are ``group`` neighbours each: the same weights, zeros elsewhere.

    Output neighbour ``o`` of a pixel sees input neighbour ``i`` of the pixel at ``d`` - 1 through the column of the
    kernel that lies where both are.
    """
    d, i, o, column = np.ogrid[:3, :group, :group, :3]
    seen = column == group * (d - 1) + i - o + 1
    spread = jnp.einsum("diok,hkcf->hdicof", seen.astype(kernel.dtype), kernel, precision="highest")
    return spread.reshape(3, 3, group * kernel.shape[2], group * kernel.shape[3])


def narrow_conv(
    x: Float[jax.Array, "B H W C"], kernel: Float[jax.Array, "3 3 C F"], bias: Float[jax.Array, " F"], group: int
) -> Float[jax.Array, "B H W F"]:
    """3x3, stride 1, zero padding, then ReLU, on ``group`` neighbours at a time; they must divide the width."""
    batch, height, width, channels = x.shape
    if group > 1:
        kernel, bias = grouped_kernel(kernel, group), jnp.tile(bias, group)
    y = jax.lax.conv_general_dilated(
        x.reshape(batch, height, width // group, group * channels),
        kernel,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    # Bias and ReLU before the way back: XLA computes them with the convolution only where nothing lies between.
    return relu(y + bias).reshape(batch, height, width, y.shape[-1] // group)


class NarrowConv(nn.Module):
    """``nn.Conv(features, (3, 3), padding=1)`` and ReLU for few channels.

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
        return narrow_conv(x, jnp.asarray(kernel, self.dtype), jnp.asarray(bias, self.dtype), group_for(x))


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


class ToFew(nn.Module):
    """``nn.Conv(features, (1, 1))`` to very few features; attributes as those of ``NarrowConv``."""

    features: int
    dtype: Any
    param_dtype: Any
    kernel_init: Any

    @nn.compact
    def __call__(self, x: Float[jax.Array, "B H W C"]) -> Float[jax.Array, "B H W {self.features}"]:
        """The features."""
        kernel = self.param("kernel", self.kernel_init, (1, 1, x.shape[-1], self.features), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        return to_few(x.astype(self.dtype), jnp.asarray(kernel[0, 0], self.dtype)) + bias.astype(self.dtype)

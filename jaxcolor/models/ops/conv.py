"""Convolution as all layers call it, its bias, and the 3x3 convolution of the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float


def convolve(
    x: Float[jax.Array, "B H W C"],
    kernel: Float[jax.Array, "h w C F"],
    padding: Sequence[tuple[int, int]],
    *,
    dilation: int = 1,
    spread: int = 1,
) -> Float[jax.Array, "B _ _ F"]:
    """A convolution of stride 1.

    Args:
      x: what is convolved.
      kernel: what with.
      padding: of rows and of columns, before and after.
      dilation: of the kernel.
      spread: pixels of ``x`` are this far apart, with zeros between: a transposed convolution.
    """
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        padding,
        lhs_dilation=(spread, spread),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


SLOW_COLUMNS = 256
"""So many channels a GPU sums, pixel by pixel, at 60% of its memory's speed; (128, 2) of them at 80%."""


@jax.custom_vjp
def add_bias(x: Float[jax.Array, "B H W C"], bias: Float[jax.Array, " C"]) -> Float[jax.Array, "B H W C"]:
    """``x + bias``; the gradient of the bias is summed in at least float32."""
    return x + bias


def _add_bias_backward(bias: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    channels = gradient.shape[3]
    columns = (channels // 2, 2) if channels == SLOW_COLUMNS else (channels,)
    real = jnp.promote_types(gradient.dtype, jnp.float32)
    return gradient, gradient.reshape(-1, *columns).sum(axis=0, dtype=real).reshape(channels).astype(bias.dtype)


add_bias.defvjp(lambda x, bias: (x + bias, bias), _add_bias_backward)


class Layer(nn.Module):
    """What has a kernel and a bias, under these names.

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

    @nn.nowrap
    def kernel_and_bias(self, *shape: int) -> tuple[Any, Any]:
        """Both as they are kept; ``shape`` is the kernel's."""
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        return kernel, self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)


class Conv(Layer):
    """``nn.Conv(features, (3, 3), padding=dilation, kernel_dilation=dilation)``, with the same variables.

    Attributes:
      dilation: of the kernel; the others as those of ``Layer``.
    """

    dilation: int = 1

    def __call__(
        self, x: Float[jax.Array, "B H W C"], more_bias: Float[jax.Array, " F"] | float = 0.0
    ) -> Float[jax.Array, "B H W {self.features}"]:
        """The convolution; ``more_bias`` is added to its bias, before either is rounded to ``dtype``."""
        return add_bias(*self.apart(x, more_bias))

    @nn.compact
    def apart(
        self, x: Float[jax.Array, "B H W C"], more_bias: Float[jax.Array, " F"] | float = 0.0
    ) -> tuple[Float[jax.Array, "B H W {self.features}"], Float[jax.Array, " {self.features}"]]:
        """The convolution without its bias, and the bias, for a layer after it that computes both their gradients."""
        kernel, bias = self.kernel_and_bias(3, 3, x.shape[-1], self.features)
        around = (self.dilation, self.dilation)
        y = convolve(x.astype(self.dtype), jnp.asarray(kernel, self.dtype), (around, around), dilation=self.dilation)
        return y, jnp.asarray(bias + more_bias, self.dtype)

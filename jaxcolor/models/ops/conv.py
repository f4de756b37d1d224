"""The 3x3 convolution: stride 1, zero padding, bias, any dilation.

    y = convolve(x, kernel, padding=dilation, dilation=dilation) + bias

A layer returns its convolution *pending*: parameters and input, not yet computed. The op that follows (``relu``, a
sum, the output layer) computes it, together with itself where that is faster. ``value`` computes it alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxcolor.models.ops import tile_conv
from jaxcolor.models.ops.implementation import rounds_products, select_implementation


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
      x: the input.
      kernel: h x w, channels in, features out.
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


def to_phases(x: Float[jax.Array, "B H W C"], step: int) -> Float[jax.Array, "B*{step}*{step} H/{step} W/{step} C"]:
    """Every ``step``-th row and column as pictures of their own: there a dilated convolution is a plain one."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // step, step, width // step, step, channels).transpose(0, 2, 4, 1, 3, 5)
    return x.reshape(batch * step * step, height // step, width // step, channels)


def from_phases(x: jax.Array, step: int) -> jax.Array:
    """The inverse of ``to_phases``."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch // step**2, step, step, height, width, channels).transpose(0, 3, 1, 4, 2, 5)
    return x.reshape(batch // step**2, height * step, width * step, channels)


Feature = Any
"""An array (B, H, W, C), or one that is ``Pending``."""


class Pending:
    """A result that the op after it computes."""

    def value(self) -> jax.Array:
        """The result, computed alone."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Phased(Pending):
    """A feature that lies in phases (``to_phases``), for the next convolution of the same dilation to read."""

    phases: jax.Array
    step: int

    def value(self) -> jax.Array:
        """The feature."""
        return from_phases(self.phases, self.step)


@dataclasses.dataclass(frozen=True)
class Convolution(Pending):
    """A 3x3 convolution; parameters in their own type, rounded to ``dtype`` once they are used."""

    x: jax.Array | Phased
    kernel: jax.Array
    bias: jax.Array
    dtype: Any
    dilation: int = 1

    @property
    def step(self) -> int:
        """Of the phases in which it is computed; 1: in none."""
        return self.x.step if isinstance(self.x, Phased) else 1

    @property
    def rounded(self) -> bool:
        """Whether it is computed by ``tile_conv``."""
        x = self.x.phases if isinstance(self.x, Phased) else self.x
        dense = self.dilation == 1 or self.step > 1
        return dense and self.dtype == jnp.float32 and tile_conv.fits(x) and rounds_products()

    def activated(self, slope: float, more: jax.Array | float = 0.0) -> jax.Array:
        """Of one that is ``rounded``: as ``with_bias``, then a leaky ReLU; of slope 1: without."""
        x = self.x.phases if isinstance(self.x, Phased) else self.x
        return tile_conv.conv3x3(x, self.kernel, self.bias + more, slope)

    def without_bias(self) -> jax.Array:
        """The convolution alone; in phases where ``step`` is above 1."""
        x, dilation = (self.x.phases, 1) if isinstance(self.x, Phased) else (self.x, self.dilation)
        around = (dilation, dilation)
        kernel = jnp.asarray(self.kernel, self.dtype)
        return convolve(x.astype(self.dtype), kernel, (around, around), dilation=dilation)

    def with_bias(self, more: jax.Array | float = 0.0) -> jax.Array:
        """As ``without_bias``, with the bias and ``more``, which are added up before they are rounded."""
        if self.rounded:
            return self.activated(1.0, more)
        return add_bias(self.without_bias(), jnp.asarray(self.bias + more, self.dtype))

    def value(self) -> jax.Array:
        """The convolution and its bias."""
        y = self.with_bias()
        return y if self.step == 1 else from_phases(y, self.step)


class Layer(nn.Module):
    """What has a kernel and a bias, under these names.

    Attributes:
      features: channels out.
      dtype: type of the computation.
      param_dtype: type of the parameters.
      kernel_init: initializer of the kernel.
    """

    features: int
    dtype: Any
    param_dtype: Any
    kernel_init: Any

    @nn.nowrap
    def kernel_and_bias(self, *shape: int) -> tuple[Any, Any]:
        """Both as they are kept; ``shape`` is the kernel's."""
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        return jnp.asarray(kernel), jnp.asarray(bias)


class Conv3x3(Layer):
    """``nn.Conv(features, (3, 3), padding=dilation, kernel_dilation=dilation)``, with the same variables, pending.

    Attributes:
      dilation: of the kernel; the others as those of ``Layer``.
    """

    dilation: int = 1

    @nn.compact
    def __call__(self, x: Feature) -> Convolution:
        """The convolution of ``x``, to be computed by what follows."""
        if isinstance(x, Pending) and not (isinstance(x, Phased) and x.step == self.dilation):
            x = x.value()
        if not isinstance(x, Phased) and self.dilation > 1:
            x = select_implementation(plain=_as_it_is, fast=_phased)(x, self.dilation)
        channels = (x.phases if isinstance(x, Phased) else x).shape[-1]
        return Convolution(x, *self.kernel_and_bias(3, 3, channels, self.features), self.dtype, self.dilation)


def _as_it_is(x: jax.Array, step: int) -> jax.Array | Phased:
    return x


def _phased(x: jax.Array, step: int) -> jax.Array | Phased:
    divides = x.shape[1] % step == x.shape[2] % step == 0
    return Phased(to_phases(x, step), step) if divides else x

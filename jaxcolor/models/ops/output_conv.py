"""The 1x1 convolution to very few features, and the leaky ReLU before it.

    y = leaky_relu(x, slope) @ kernel + bias

Its gradient to ``x`` is a sum over the few features, which XLA fuses; on GPUs one kernel computes it with the ReLU's.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxcolor.models.ops.activation import leaky_relu
from jaxcolor.models.ops.conv import Convolution, Feature, Pending, add_bias
from jaxcolor.models.ops.implementation import select_implementation, triton_module


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


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def leaky_to_few(
    x: Float[jax.Array, "B H W C"], bias: Float[jax.Array, " C"], kernel: Float[jax.Array, "C F"], slope: float
) -> Float[jax.Array, "B H W F"]:
    """``to_few(leaky_relu(add_bias(x, bias), slope), kernel)``, whose ReLU is never stored; for GPUs.

    The backward pass reads what is as large as ``x`` once and writes it once.
    """
    return _leaky_to_few_forward(x, bias, kernel, slope)[0]


def _leaky_to_few_forward(
    x: jax.Array, bias: jax.Array, kernel: jax.Array, slope: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    from jaxcolor.models.ops.triton import output_conv as kernels

    biased = x + bias
    return kernels.forward(biased, kernel, slope), (biased, bias, kernel)


def _leaky_to_few_backward(
    slope: float, saved: tuple[jax.Array, jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    from jaxcolor.models.ops.triton import output_conv as kernels

    biased, bias, kernel = saved
    to_x, to_bias, to_kernel = kernels.backward(biased, kernel, gradient, slope)
    return to_x, to_bias.astype(bias.dtype), to_kernel.astype(kernel.dtype)


leaky_to_few.defvjp(_leaky_to_few_forward, _leaky_to_few_backward)

LeakyToFew = Callable[[jax.Array, jax.Array, jax.Array, float], jax.Array]


def _plain_leaky_to_few(x: jax.Array, bias: jax.Array, kernel: jax.Array, slope: float) -> jax.Array:
    return to_few(leaky_relu(add_bias(x, bias), slope), kernel)


def leaky_implementation(x: Float[jax.Array, "B H W C"]) -> LeakyToFew:
    """How ``to_few`` of a leaky ReLU of ``x`` is computed here."""

    def gpu() -> LeakyToFew | None:
        kernels = triton_module("output_conv")
        return leaky_to_few if kernels and x.dtype == jnp.bfloat16 and kernels.fits(x.shape) else None

    return select_implementation(plain=_plain_leaky_to_few, gpu=gpu)


@dataclasses.dataclass(frozen=True)
class LeakyConvolution(Pending):
    """A leaky ReLU of a 3x3 convolution, pending: before a layer to few features it need not be stored."""

    convolution: Convolution
    slope: float

    def value(self) -> jax.Array:
        """The leaky ReLU."""
        if self.convolution.rounded and self.convolution.step == 1:
            return self.convolution.activated(self.slope)
        return leaky_relu(self.convolution.value(), self.slope)


def conv1x1(
    x: Feature,
    kernel: Float[jax.Array, "1 1 C F"],
    bias: Float[jax.Array, " F"],
    dtype: jnp.dtype,
) -> Float[jax.Array, "B H W F"]:
    """The 1x1 convolution of ``x`` to few features, parameters rounded to ``dtype``."""
    taps = jnp.asarray(kernel[0, 0], dtype)
    if isinstance(x, LeakyConvolution) and x.convolution.step == 1 and not x.convolution.rounded:
        before = x.convolution
        y = before.without_bias()
        few = leaky_implementation(y)(y, jnp.asarray(before.bias + 0.0, before.dtype), taps, x.slope)
    else:
        few = to_few((x.value() if isinstance(x, Pending) else x).astype(dtype), taps)
    return few + bias.astype(dtype)

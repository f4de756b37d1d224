"""The layer to very few features, and the leaky ReLU before it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxcolor.batch import Array
from jaxcolor.models.ops import implementation
from jaxcolor.models.ops.conv import Layer, add_bias
from jaxcolor.models.ops.relu import leaky_relu


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

    The way back reads what is as large as ``x`` once and writes it once.
    """
    return _leaky_to_few_forward(x, bias, kernel, slope)[0]


def _leaky_to_few_forward(
    x: jax.Array, bias: jax.Array, kernel: jax.Array, slope: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    from jaxcolor.models.ops.triton import output_conv as triton_output_conv

    biased = x + bias
    return triton_output_conv.forward(biased, kernel, slope), (biased, bias, kernel)


def _leaky_to_few_backward(
    slope: float, saved: tuple[jax.Array, jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    from jaxcolor.models.ops.triton import output_conv as triton_output_conv

    biased, bias, kernel = saved
    to_x, to_bias, to_kernel = triton_output_conv.backward(biased, kernel, gradient, slope)
    return to_x, to_bias.astype(bias.dtype), to_kernel.astype(kernel.dtype)


leaky_to_few.defvjp(_leaky_to_few_forward, _leaky_to_few_backward)

LeakyWay = Callable[[jax.Array, jax.Array, jax.Array, float], jax.Array]


def leaky_way_for(x: Float[Array, "B H W C"]) -> LeakyWay:
    """How ``to_few`` of a leaky ReLU is computed here: this is chosen in this function, and nowhere else."""
    module = implementation.find("few_kernel")
    if module and x.dtype == jnp.bfloat16 and module.fits(x.shape):
        return leaky_to_few
    return lambda x, bias, kernel, slope: to_few(leaky_relu(add_bias(x, bias), slope), kernel)


class ToFew(Layer):
    """``nn.Conv(features, (1, 1))`` to very few features."""

    @nn.compact
    def __call__(
        self, x: Float[jax.Array, "B H W C"], leaky: tuple[Float[jax.Array, " C"], float] | None = None
    ) -> Float[jax.Array, "B H W {self.features}"]:
        """The features of ``x``; or, given a bias and a slope, of the leaky ReLU of ``x`` and that bias."""
        kernel, bias = self.kernel_and_bias(1, 1, x.shape[-1], self.features)
        x, taps = x.astype(self.dtype), jnp.asarray(kernel[0, 0], self.dtype)
        few = to_few(x, taps) if leaky is None else leaky_way_for(x)(x, leaky[0], taps, leaky[1])
        return few + bias.astype(self.dtype)

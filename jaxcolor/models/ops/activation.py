"""ReLU and leaky ReLU whose gradients read the result, not the argument.

    relu(x) = max(x, 0);  leaky_relu(x) = max(x, slope * x)

The gradients of ``jax.nn`` read the argument. It is then kept beside the result, which is as large, and XLA cannot
compute the ReLU as part of the convolution before it. The numbers are the same.

ReLU's asks whether the result is other than 0, not whether it is above: of "the larger of x and 0 is above 0" XLA makes
"x is above 0", and is back at the argument. (So gradients flow where the result is NaN; those of ``jax.nn`` do not.)
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float


@jax.custom_vjp
def relu(x: Float[jax.Array, ...]) -> Float[jax.Array, ...]:
    """``jax.nn.relu``."""
    return jnp.maximum(x, 0)


def _relu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = jnp.maximum(x, 0)
    return y, y


def _relu_backward(y: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(y != 0, gradient, 0),)


relu.defvjp(_relu_forward, _relu_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def leaky_relu(x: Float[jax.Array, ...], slope: float) -> Float[jax.Array, ...]:
    """``jax.nn.leaky_relu``, but for the slope, which is not rounded to the type of ``x``; above 0 and at most 1."""
    real = jnp.promote_types(x.dtype, jnp.float32)
    wide = x.astype(real)
    return jnp.maximum(wide, slope * wide).astype(x.dtype)


def _leaky_forward(x: jax.Array, slope: float) -> tuple[jax.Array, jax.Array]:
    y = leaky_relu(x, slope)
    return y, y


def _leaky_backward(slope: float, y: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    real = jnp.promote_types(y.dtype, jnp.float32)
    wide = gradient.astype(real)
    return (jnp.where(y >= 0, wide, slope * wide).astype(y.dtype),)


leaky_relu.defvjp(_leaky_forward, _leaky_backward)

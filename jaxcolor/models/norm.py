"""The normalisation at the end of each block."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

MOMENTUM = 0.9
"""Share of the old running statistics that a step keeps: PyTorch's momentum 0.1."""
EPSILON = 1e-5


class BatchNorm(nn.Module):
    """Batch normalisation that counts pictures: exact over devices and under a mask.

    Flax's own averages the devices' means, which is wrong as soon as devices hold different numbers of valid pictures,
    and keeps the biased variance; here sums and counts are added over ``axis_name`` and the running variance is the
    unbiased one, as PyTorch stores it. Variance is computed in two passes and in at least float32.

    Attributes:
      dtype: type of the output.
      param_dtype: type of scale, bias and running statistics.
      axis_name: mapped axis to add statistics over, or None for each device's own.
    """

    dtype: Any
    param_dtype: Any
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[jax.Array, "B H W C"], *, train: bool, valid: Bool[jax.Array, " B"] | None = None
    ) -> Float[jax.Array, "B H W C"]:
        """Normalise ``x``; in training by the statistics of the ``valid`` pictures, which also move the running ones.

        Pictures that are not valid are normalised too but count for nothing. If no picture is valid, the running
        statistics stay as they are.
        """
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), self.param_dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), self.param_dtype)

        real = jnp.promote_types(x.dtype, jnp.float32)
        if train:
            mean, var, count = self._statistics(x.astype(real), valid)
            if not self.is_initializing():
                unbiased = var * (count / jnp.maximum(count - 1, 1))
                step = jnp.where(count > 0, 1 - MOMENTUM, 0.0).astype(self.param_dtype)
                running_mean.value += step * (mean.astype(self.param_dtype) - running_mean.value)
                running_var.value += step * (unbiased.astype(self.param_dtype) - running_var.value)
        else:
            mean, var = running_mean.value, running_var.value
        factor = scale * jax.lax.rsqrt(var + EPSILON)
        return ((x.astype(real) - mean) * factor + bias).astype(self.dtype)

    def _statistics(self, x: jax.Array, valid: jax.Array | None) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Mean and biased variance of each channel over valid pictures (and devices), and how many pixels that is."""
        weight = jnp.ones(x.shape[0], x.dtype) if valid is None else valid.astype(x.dtype)

        def total(values: jax.Array) -> jax.Array:
            return values if self.axis_name is None else jax.lax.psum(values, self.axis_name)

        def summed(values: jax.Array) -> jax.Array:
            # Weighted after the sum over pixels, but zeroed before it where not valid, so that NaN does not spread.
            kept = jnp.where(weight[:, None, None, None] > 0, values, 0)
            return total(kept.sum(axis=(0, 1, 2)))

        count = total(weight.sum() * x.shape[1] * x.shape[2])
        safe = jnp.maximum(count, 1)
        mean = summed(x) / safe
        return mean, summed((x - mean) ** 2) / safe, count


def make_norm(kind: str, name: str, dtype: Any, param_dtype: Any, axis_name: str | None) -> Any:
    """A function (x, train, valid) -> x for one of ``ModelConfig.norm``."""
    if kind == "batch":
        module = BatchNorm(dtype=dtype, param_dtype=param_dtype, axis_name=axis_name, name=name)
        return lambda x, train, valid: module(x, train=train, valid=valid)
    if kind == "group":

        def group(x: jax.Array, train: bool, valid: jax.Array | None) -> jax.Array:
            groups = math.gcd(32, x.shape[-1])
            return nn.GroupNorm(num_groups=groups, epsilon=EPSILON, dtype=dtype, param_dtype=param_dtype, name=name)(x)

        return group
    return lambda x, train, valid: x

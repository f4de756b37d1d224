"""The normalization at the end of each block.

    y = (x - mean) * rsqrt(var + epsilon) * scale + bias    # mean and var of all valid pictures of all devices

Statistics in one pass over the feature, and their gradient by formula.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

MOMENTUM = 0.9
"""Share of the old running statistics that a step keeps: PyTorch's momentum 0.1."""
EPSILON = 1e-5


class BatchNorm(nn.Module):
    """Batch normalization that counts pictures: exact over devices and under a mask.

    Flax's own averages the devices' means, which is wrong as soon as devices hold different numbers of valid pictures,
    and keeps the biased variance; here sums and counts are added over ``axis_name`` and the running variance is the
    unbiased one, as PyTorch stores it. Statistics are computed in at least float32.

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
        """Normalize ``x``; in training by the statistics of the ``valid`` pictures, which also move the running ones.

        Pictures that are not valid are normalized too but count for nothing. If no picture is valid, the running
        statistics stay as they are.
        """
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), self.param_dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), self.param_dtype)

        if not train:
            factor = scale * jax.lax.rsqrt(running_var.value + EPSILON)
            real = jnp.promote_types(x.dtype, jnp.float32)
            return ((x.astype(real) - running_mean.value) * factor + bias).astype(self.dtype)
        valid = jnp.ones(x.shape[0], bool) if valid is None else valid
        y, (mean, var, count) = normalize_by_batch(
            x.astype(self.dtype), valid, jnp.asarray(scale), jnp.asarray(bias), self.axis_name
        )
        if not self.is_initializing():
            unbiased = var * (count / jnp.maximum(count - 1, 1))
            step = jnp.where(count > 0, 1 - MOMENTUM, 0.0).astype(self.param_dtype)
            running_mean.value += step * (mean.astype(self.param_dtype) - running_mean.value)
            running_var.value += step * (unbiased.astype(self.param_dtype) - running_var.value)
        return y


class Statistics(NamedTuple):
    """Of the valid pictures of all devices; no gradient flows into them."""

    mean: Float[jax.Array, " C"]
    var: Float[jax.Array, " C"]
    """Biased."""
    pixels: Float[jax.Array, ""]
    """How many."""


def statistics(x: Float[jax.Array, "B H W C"], valid: Bool[jax.Array, " B"], axis_name: str | None) -> Statistics:
    """Mean and variance of each channel, in one pass and at least float32.

    Sums are of differences from one valid picture's mean, so that the variance survives however large the mean is; the
    devices' are combined as by Chan, Golub and LeVeque 1979.
    """
    real = jnp.promote_types(x.dtype, jnp.float32)
    shift = jnp.where(valid.any(), x[jnp.argmax(valid)].astype(real).mean(axis=(0, 1)), 0)
    # Zeroed, not weighted: NaN in a picture that is not valid must not spread.
    difference = jnp.where(valid[:, None, None, None], x.astype(real) - shift, 0)
    own = valid.sum().astype(real) * x.shape[1] * x.shape[2]
    first, second = difference.sum(axis=(0, 1, 2)), (difference**2).sum(axis=(0, 1, 2))
    own_mean = first / jnp.maximum(own, 1)
    count = _total(own, axis_name)
    mean = _total(own * (shift + own_mean), axis_name) / jnp.maximum(count, 1)
    squares = second - own * own_mean**2 + own * (shift + own_mean - mean) ** 2
    var = jnp.maximum(_total(squares, axis_name), 0) / jnp.maximum(count, 1)
    return Statistics(mean, var, count)


def _total(values: jax.Array, axis_name: str | None) -> jax.Array:
    return values if axis_name is None else jax.lax.psum(values, axis_name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def normalize_by_batch(
    x: Float[jax.Array, "B H W C"],
    valid: Bool[jax.Array, " B"],
    scale: Float[jax.Array, " C"],
    bias: Float[jax.Array, " C"],
    axis_name: str | None,
) -> tuple[Float[jax.Array, "B H W C"], Statistics]:
    """Every picture normalized by the statistics of the valid ones, and these.

    Its gradient is the formula of Ioffe and Szegedy 2015: two passes over the feature, where differentiating the
    statistics step by step takes three.
    """
    return _normalize(x, valid, scale, bias, axis_name)[0]


def _normalize(
    x: jax.Array, valid: jax.Array, scale: jax.Array, bias: jax.Array, axis_name: str | None
) -> tuple[tuple[jax.Array, Statistics], tuple[jax.Array, ...]]:
    found = statistics(x, valid, axis_name)
    inverse = jax.lax.rsqrt(found.var + EPSILON)
    y = ((x.astype(found.mean.dtype) - found.mean) * (scale * inverse) + bias).astype(x.dtype)
    return (y, found), (x, valid, scale, bias, found.mean, inverse, found.pixels)


def _normalize_backward(axis_name: str | None, saved: tuple[jax.Array, ...], gradients: Any) -> tuple[Any, ...]:
    x, valid, scale, bias, mean, inverse, count = saved
    flowing = gradients[0].astype(mean.dtype)
    normal = (x.astype(mean.dtype) - mean) * inverse
    to_bias, to_scale = flowing.sum(axis=(0, 1, 2)), (flowing * normal).sum(axis=(0, 1, 2))
    share = (valid / jnp.maximum(count, 1))[:, None, None, None]
    common = _total(to_bias, axis_name) + normal * _total(to_scale, axis_name)
    to_x = (scale * inverse) * (flowing - share * common)
    return to_x.astype(x.dtype), None, to_scale.astype(scale.dtype), to_bias.astype(bias.dtype)


normalize_by_batch.defvjp(_normalize, _normalize_backward)


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

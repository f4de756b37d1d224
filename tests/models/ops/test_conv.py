from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.models.ops.conv import SLOW_COLUMNS, Conv, add_bias


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("dilation", [1, 2])
def test_is_flaxs_with_the_same_variables(dilation):
    ours = Conv(5, jnp.float32, jnp.float32, nn.initializers.normal(0.3), dilation)
    plain = nn.Conv(5, (3, 3), padding=dilation, kernel_dilation=dilation, kernel_init=nn.initializers.normal(0.3))
    x = normal(0, 2, 7, 6, 3)
    variables = ours.init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, plain.init(jax.random.key(1), x))
    variables["params"]["bias"] = jnp.arange(5.0)
    np.testing.assert_allclose(ours.apply(variables, x), plain.apply(variables, x), atol=1e-5)
    more = normal(2, 5)
    np.testing.assert_allclose(ours.apply(variables, x, more), plain.apply(variables, x) + more, atol=1e-5)


@pytest.mark.parametrize("channels", [3, SLOW_COLUMNS])
def test_gradients_of_a_sum_with_a_bias(channels):
    x, bias, flowing = normal(0, 2, 3, 4, channels), normal(1, channels), normal(2, 2, 3, 4, channels)
    y, back = jax.vjp(add_bias, x, bias)
    np.testing.assert_array_equal(y, x + bias)
    to_x, to_bias = back(flowing)
    np.testing.assert_array_equal(to_x, flowing)
    np.testing.assert_allclose(to_bias, flowing.sum(axis=(0, 1, 2)), atol=1e-5)


def test_the_gradient_of_a_bfloat16_bias_is_summed_in_float32():
    flowing = jnp.ones((4, 32, 32, 2), jnp.bfloat16)
    _, to_bias = jax.vjp(add_bias, flowing, jnp.zeros(2, jnp.bfloat16))[1](flowing)
    np.testing.assert_array_equal(np.asarray(to_bias, np.float32), 4 * 32 * 32)

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.models.ops import relu, value
from jaxcolor.models.ops.conv import SLOW_COLUMNS, Conv3x3, Phased, add_bias, from_phases, to_phases
from jaxcolor.models.ops.implementation import PLAIN_SWITCH


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("dilation", [1, 2])
def test_is_flaxs_with_the_same_variables(dilation):
    ours = Conv3x3(5, jnp.float32, jnp.float32, nn.initializers.normal(0.3), dilation)
    plain = nn.Conv(5, (3, 3), padding=dilation, kernel_dilation=dilation, kernel_init=nn.initializers.normal(0.3))
    x = normal(0, 2, 7, 6, 3)
    variables = ours.init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, plain.init(jax.random.key(1), x))
    variables["params"]["bias"] = jnp.arange(5.0)
    np.testing.assert_allclose(ours.apply(variables, x).value(), plain.apply(variables, x), atol=1e-5)
    more = normal(2, 5)
    np.testing.assert_allclose(ours.apply(variables, x).with_bias(more), plain.apply(variables, x) + more, atol=1e-5)


def dilated(layers, variables, x):
    for layer, variables_ in zip(layers, variables, strict=True):
        x = relu(layer.apply(variables_, x))
    return x


@pytest.mark.parametrize(("shape", "in_phases"), [((2, 8, 12, 3), True), ((2, 7, 8, 3), False)])
def test_dilated_layers_one_after_another_stay_in_phases(monkeypatch, shape, in_phases):
    layers = [Conv3x3(4, jnp.float32, jnp.float32, nn.initializers.normal(0.3), 2) for _ in range(2)]
    x = normal(0, *shape)
    first, second = (jnp.zeros((1, 8, 8, channels)) for channels in (3, 4))
    variables = [layers[0].init(jax.random.key(0), first), layers[1].init(jax.random.key(1), second)]
    found = dilated(layers, variables, x)
    assert isinstance(found, Phased) == in_phases
    expected = x
    for v in variables:
        expected = nn.relu(nn.Conv(4, (3, 3), padding=2, kernel_dilation=2).apply(v, expected))
    np.testing.assert_allclose(value(found), expected, atol=1e-5)
    monkeypatch.setenv(PLAIN_SWITCH, "1")
    plain = dilated(layers, variables, x)
    assert not isinstance(plain, Phased)
    np.testing.assert_allclose(plain, expected, atol=1e-5)


def test_phases_are_every_other_pixel():
    x = normal(0, 2, 4, 6, 3)
    phases = to_phases(x, 2)
    np.testing.assert_array_equal(phases.reshape(2, 2, 2, 2, 3, 3)[1, 1, 0], x[1, 1::2, ::2])
    np.testing.assert_array_equal(from_phases(phases, 2), x)


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

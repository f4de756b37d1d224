from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.models.ops.activation import leaky_relu, relu

PAIRS = [(relu, jax.nn.relu), (lambda x: leaky_relu(x, 0.2), lambda x: jax.nn.leaky_relu(x, 0.2))]


@pytest.mark.parametrize(("ours", "flaxs"), PAIRS, ids=["relu", "leaky"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_value_and_gradient_are_those_of_jax(ours, flaxs, dtype):
    x = jnp.array([-3, -1e-30, -0.0, 0.0, 1e-30, 0.5, 7, -jnp.inf, jnp.inf], dtype)
    flowing = jnp.arange(1.0, 10).astype(dtype)
    for mine, yours in zip(jax.vjp(ours, x), jax.vjp(flaxs, x), strict=True):
        values = [a(flowing)[0] if callable(a) else a for a in (mine, yours)]
        assert values[0].dtype == dtype
        np.testing.assert_array_equal(*(np.asarray(v, np.float32) for v in values))


def test_the_slope_is_not_rounded_to_bfloat16():
    x, flowing = (jnp.asarray(np.random.default_rng(i).standard_normal(500), jnp.bfloat16) for i in range(2))
    y, back = jax.vjp(lambda x: leaky_relu(x, 0.2), x)
    exact, exact_back = jax.vjp(lambda x: jax.nn.leaky_relu(x, 0.2), x.astype(jnp.float32))
    np.testing.assert_array_equal(*(np.asarray(v.astype(jnp.bfloat16), np.float32) for v in (y, exact)))
    gradients = back(flowing)[0], exact_back(flowing.astype(jnp.float32))[0]
    np.testing.assert_array_equal(*(np.asarray(v.astype(jnp.bfloat16), np.float32) for v in gradients))


@pytest.mark.parametrize("ours", [relu, lambda x: leaky_relu(x, 0.2)], ids=["relu", "leaky"])
def test_nan_stays_nan(ours):
    assert np.isnan(ours(jnp.array([jnp.nan]))).all()


def test_the_compiled_gradient_of_relu_asks_the_result():
    def step(x):
        y, back = jax.vjp(relu, x + 1.0)
        return y, back(x)

    program = jax.jit(step).lower(jnp.ones(8)).compile().as_text()
    (asked,) = re.findall(r"compare\(%?(\w+)", program)
    assert asked.startswith("max"), program

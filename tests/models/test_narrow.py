from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.models import narrow
from jaxcolor.models.narrow import NarrowConv, ToFew, group_for, narrow_conv, to_few


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_neighbours_taken_together_give_the_same_numbers(group):
    x, kernel = normal(0, 2, 5, 8, 3), normal(1, 3, 3, 3, 6)
    bias = normal(2, 6)
    expected = nn.relu(nn.Conv(6, (3, 3), padding=1).apply({"params": {"kernel": kernel, "bias": bias}}, x))
    np.testing.assert_allclose(narrow_conv(x, kernel, bias, group), expected, atol=1e-5)


def test_and_the_same_gradients():
    x, kernel, bias, flowing = normal(0, 2, 3, 8, 3), normal(1, 3, 3, 3, 2), normal(3, 2), normal(2, 2, 3, 8, 2)

    def gradients(group):
        return jax.grad(lambda *a: (narrow_conv(*a, group) * flowing).sum(), argnums=(0, 1, 2))(x, kernel, bias)

    for ours, theirs in zip(gradients(4), gradients(1), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("group", [1, 4])
def test_the_layer_is_flaxs(monkeypatch, group):
    monkeypatch.setattr(narrow, "group_for", lambda x: group)
    ours = NarrowConv(5, jnp.float32, jnp.float32, nn.initializers.normal(0.3))
    plain = nn.Conv(5, (3, 3), padding=1, kernel_init=nn.initializers.normal(0.3))
    x = normal(0, 1, 4, 4, 2)
    variables = ours.init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, plain.init(jax.random.key(1), x))
    variables["params"]["bias"] = jnp.arange(5.0)
    np.testing.assert_allclose(ours.apply(variables, x), nn.relu(plain.apply(variables, x)), atol=1e-5)


def test_groups_are_for_gpus_and_bfloat16(monkeypatch):
    x = jnp.zeros((1, 8, 8, 4), jnp.bfloat16)
    assert group_for(x) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert group_for(x) == 4
    assert group_for(x[:, :, :6]) == 1
    assert group_for(x.astype(jnp.float32)) == 1


def test_to_few_is_a_matrix_product():
    x, kernel, flowing = normal(0, 2, 3, 3, 7), normal(1, 7, 2), normal(2, 2, 3, 3, 2)
    np.testing.assert_allclose(to_few(x, kernel), x @ kernel, atol=1e-6)
    ours = jax.grad(lambda x, k: (to_few(x, k) * flowing).sum(), argnums=(0, 1))(x, kernel)
    theirs = jax.grad(lambda x, k: ((x @ k) * flowing).sum(), argnums=(0, 1))(x, kernel)
    for mine, yours in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, yours, atol=1e-5)
    layer, plain = ToFew(2, jnp.float32, jnp.float32, nn.initializers.ones), nn.Conv(2, (1, 1))
    variables = plain.init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, layer.init(jax.random.key(0), x)) == jax.tree.map(jnp.shape, variables)
    np.testing.assert_allclose(layer.apply(variables, x), plain.apply(variables, x), atol=1e-6)

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.models import narrow
from jaxcolor.models.narrow import (
    NarrowConv,
    ToFew,
    by_columns,
    grouped,
    leaky_to_few,
    leaky_way_for,
    plain,
    to_few,
    way_for,
)
from jaxcolor.models.relu import leaky_relu


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


WAYS = [plain, by_columns, *(functools.partial(grouped, group=group) for group in (1, 2, 4, 8))]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_numbers_of_flax(way):
    x, kernel = normal(0, 2, 5, 8, 3), normal(1, 3, 3, 3, 6)
    bias = normal(2, 6)
    expected = nn.relu(nn.Conv(6, (3, 3), padding=1).apply({"params": {"kernel": kernel, "bias": bias}}, x))
    np.testing.assert_allclose(way(x, kernel, bias), expected, atol=1e-5)


@pytest.mark.parametrize("way", WAYS[1:])
def test_and_the_same_gradients(way):
    x, kernel, bias, flowing = normal(0, 2, 3, 8, 3), normal(1, 3, 3, 3, 2), normal(3, 2), normal(2, 2, 3, 8, 2)

    def gradients(way):
        return jax.grad(lambda *a: (way(*a) * flowing).sum(), argnums=(0, 1, 2))(x, kernel, bias)

    for ours, theirs in zip(gradients(way), gradients(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_columns_are_added_up_in_more_digits_than_they_are_kept_in():
    x, kernel, bias = normal(0, 1, 8, 8, 64), normal(1, 3, 3, 64, 4), normal(2, 4)
    exact = np.asarray(plain(x, kernel, bias), np.float64)

    def error(way):
        found = way(*(value.astype(jnp.bfloat16) for value in (x, kernel, bias)))
        assert found.dtype == jnp.bfloat16
        return np.linalg.norm(np.asarray(found, np.float64) - exact) / np.linalg.norm(exact)

    assert error(by_columns) < 1.2 * error(plain) < 0.01


@pytest.mark.parametrize("way", [plain, grouped, by_columns])
def test_the_layer_is_flaxs(monkeypatch, way):
    monkeypatch.setattr(narrow, "way_for", lambda x: way)
    ours = NarrowConv(5, jnp.float32, jnp.float32, nn.initializers.normal(0.3))
    plain_layer = nn.Conv(5, (3, 3), padding=1, kernel_init=nn.initializers.normal(0.3))
    x = normal(0, 1, 4, 4, 2)
    variables = ours.init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, plain_layer.init(jax.random.key(1), x))
    variables["params"]["bias"] = jnp.arange(5.0)
    np.testing.assert_allclose(ours.apply(variables, x), nn.relu(plain_layer.apply(variables, x)), atol=1e-5)


def test_other_ways_than_the_plain_one_are_for_gpus_and_bfloat16(monkeypatch):
    few, many = (jnp.zeros((1, 8, 8, channels), jnp.bfloat16) for channels in (4, 64))
    assert way_for(few) is way_for(many) is plain
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert way_for(few) is grouped
    assert way_for(many) is by_columns
    assert way_for(few[:, :, :6]) is plain
    assert way_for(few.astype(jnp.float32)) is way_for(many.astype(jnp.float32)) is plain


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


@pytest.mark.parametrize("shape", [(2, 4, 8, 16), (1, 8, 8, 64)])
def test_leaky_to_few_is_the_two_together(shape):
    x, kernel, flowing = normal(0, *shape), normal(1, shape[3], 2), normal(2, *shape[:3], 2)

    def both(x, kernel):
        return to_few(leaky_relu(x, 0.2), kernel)

    (ours, back), (theirs, their_back) = (jax.vjp(f, x, kernel) for f in (lambda x, k: leaky_to_few(x, k, 0.2), both))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for mine, yours in zip(back(flowing), their_back(flowing), strict=True):
        np.testing.assert_allclose(mine, yours, atol=1e-4)


def test_the_layer_after_a_leaky_relu(monkeypatch):
    x = normal(0, 1, 4, 8, 16)
    layer = ToFew(2, jnp.float32, jnp.float32, nn.initializers.normal(1.0))
    variables = layer.init(jax.random.key(0), x)
    expected = layer.apply(variables, nn.leaky_relu(x, 0.2))
    for way in (leaky_way_for(x), leaky_to_few):
        monkeypatch.setattr(narrow, "leaky_way_for", lambda x, way=way: way)
        np.testing.assert_allclose(layer.apply(variables, x, 0.2), expected, atol=1e-5)


def test_the_kernel_is_for_gpus_and_for_shapes_that_fit(monkeypatch):
    x = jnp.zeros((1, 8, 8, 64), jnp.bfloat16)
    assert leaky_way_for(x) is not leaky_to_few
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert leaky_way_for(x) is leaky_to_few
    for other in (x[..., :48], x[:, :, :7], x[..., :8], x[:0], x.astype(jnp.float32)):
        assert leaky_way_for(other) is not leaky_to_few

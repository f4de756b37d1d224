from __future__ import annotations

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.models.ops import implementation, relu, thin_conv, value
from jaxcolor.models.ops.conv import Conv3x3
from jaxcolor.models.ops.thin_conv import by_columns, by_taps, from_few, grouped, implementation_for, plain
from jaxcolor.models.ops.triton import thin_conv as triton_thin_conv


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


WAYS = [plain, by_columns, by_taps, *(functools.partial(grouped, group=group) for group in (1, 2, 4, 8))]


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
        return jax.jit(jax.grad(lambda *a: (way(*a) * flowing).sum(), argnums=(0, 1, 2)))(x, kernel, bias)

    for ours, theirs in zip(gradients(way), gradients(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "shape", "turns"), [(4, (1, 2, 64), 1), (4, (3, 4, 128), 4), (1, (2, 1, 64), 2), (5, (1, 3, 64), 1)]
)
def test_the_kernel_for_few_channels_gives_the_same_gradients(monkeypatch, channels, shape, turns):
    monkeypatch.setattr(triton_thin_conv, "PROGRAMS", math.prod(shape) // triton_thin_conv.PIXELS // turns)
    arrays = normal(0, *shape, channels), normal(1, 3, 3, channels, 16), normal(2, 16)
    assert triton_thin_conv.fits(arrays[0].shape, 16)
    (ours, back), (theirs, their_back) = (jax.vjp(way, *arrays) for way in (from_few, plain))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for mine, yours in zip(back(normal(3, *shape, 16)), their_back(normal(3, *shape, 16)), strict=True):
        np.testing.assert_allclose(mine, yours, atol=1e-4)


def test_and_in_bfloat16_is_as_close_as_the_plain_way():
    # Where the plain way in float32 has no sum near 0, which in bfloat16 may come out on the other side of it.
    arrays = jnp.round(normal(0, 1, 4, 64, 4)), jnp.round(normal(1, 3, 3, 4, 16)), jnp.full(16, 0.5)
    flowing = normal(2, 1, 4, 64, 16)

    def errors(way):
        short = [a.astype(jnp.bfloat16) for a in arrays]
        exact, found = jax.vjp(plain, *arrays)[1](flowing), jax.vjp(way, *short)[1](flowing.astype(jnp.bfloat16))
        pairs = zip(found, exact, strict=True)
        return [float(jnp.linalg.norm(a.astype(jnp.float32) - b) / jnp.linalg.norm(b)) for a, b in pairs]

    for ours, theirs in zip(errors(from_few), errors(plain), strict=True):
        assert ours < 1.1 * theirs < 0.01


@pytest.mark.parametrize("way", [by_columns, by_taps])
def test_parts_are_added_up_in_float32(way):
    """256 + 1 - 256: in bfloat16, which has no 257, it would be 0."""
    kernel = jnp.zeros((3, 3, 1, 1), jnp.bfloat16).at[1, :, 0, 0].set(jnp.array([256, 1, -256], jnp.bfloat16))
    found = way(jnp.ones((1, 3, 3, 1), jnp.bfloat16), kernel, jnp.zeros(1, jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(found[0, :, 1, 0], np.float32), 1)


@pytest.mark.parametrize("way", [plain, by_columns, by_taps])
def test_what_rounding_parts_to_bfloat16_costs(way):
    x, kernel, bias = normal(0, 1, 16, 16, 16), normal(1, 3, 3, 16, 1), normal(2, 1)
    short = [a.astype(jnp.bfloat16) for a in (x, kernel, bias)]
    exact = plain(*(a.astype(jnp.float32) for a in short))
    found = way(*short).astype(jnp.float32)
    assert float(jnp.linalg.norm(found - exact) / jnp.linalg.norm(exact)) < 0.004


@pytest.mark.parametrize("way", [plain, grouped, by_columns, by_taps])
def test_the_layer_is_flaxs(monkeypatch, way):
    monkeypatch.setattr(thin_conv, "implementation_for", lambda x, features: way)
    ours = Conv3x3(5, jnp.float32, jnp.float32, nn.initializers.normal(0.3))
    plain_layer = nn.Conv(5, (3, 3), padding=1, kernel_init=nn.initializers.normal(0.3))
    x = normal(0, 1, 4, 4, 2)
    variables = ours.init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, plain_layer.init(jax.random.key(1), x))
    variables["params"]["bias"] = jnp.arange(5.0)
    expected = nn.relu(plain_layer.apply(variables, x))
    np.testing.assert_allclose(value(relu(ours.apply(variables, x))), expected, atol=1e-5)


def test_faster_ones_are_for_gpus_and_bfloat16(monkeypatch):
    few, many = (jnp.zeros((1, 8, 8, channels), jnp.bfloat16) for channels in (4, 64))
    assert implementation_for(few, 64) is implementation_for(many, 16) is plain
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(implementation, "_capability", lambda: 9.0)
    assert implementation_for(few, 64) is grouped
    assert implementation_for(many, 16) is by_columns
    assert implementation_for(few, 1) is by_taps
    assert implementation_for(many, 1) is by_columns
    assert implementation_for(few[:, :, :6], 64) is plain
    photos = jnp.zeros((1, 8, 64, 4), jnp.bfloat16)
    assert implementation_for(photos, 64) is from_few
    assert implementation_for(photos, 128) is from_few
    for other, features in (
        (photos, 48),
        (photos, 8),
        (photos, 256),
        (photos[:0], 64),
        (jnp.zeros((1, 8, 64, 6), jnp.bfloat16), 64),
    ):
        assert implementation_for(other, features) is grouped
    assert implementation_for(many, 64) is plain  # heads that were given many channels
    assert implementation_for(few.astype(jnp.float32), 64) is implementation_for(many.astype(jnp.float32), 16) is plain

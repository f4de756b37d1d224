from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.models.ops import implementation, output_conv
from jaxcolor.models.ops.activation import leaky_relu
from jaxcolor.models.ops.conv import Conv3x3, add_bias
from jaxcolor.models.ops.output_conv import LeakyConvolution, conv1x1, leaky_implementation, leaky_to_few, to_few
from jaxcolor.models.ops.triton import output_conv as triton_output_conv


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_to_few_is_a_matrix_product():
    x, kernel, flowing = normal(0, 2, 3, 3, 7), normal(1, 7, 2), normal(2, 2, 3, 3, 2)
    np.testing.assert_allclose(to_few(x, kernel), x @ kernel, atol=1e-6)
    ours = jax.grad(lambda x, k: (to_few(x, k) * flowing).sum(), argnums=(0, 1))(x, kernel)
    theirs = jax.grad(lambda x, k: ((x @ k) * flowing).sum(), argnums=(0, 1))(x, kernel)
    for mine, yours in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, yours, atol=1e-5)
    plain = nn.Conv(2, (1, 1))
    variables = plain.init(jax.random.key(0), x)["params"]
    found = conv1x1(x, variables["kernel"], variables["bias"], jnp.dtype(jnp.float32))
    np.testing.assert_allclose(found, plain.apply({"params": variables}, x), atol=1e-6)


def both(x, bias, kernel):
    return to_few(leaky_relu(add_bias(x, bias), 0.2), kernel)


def at_once(x, bias, kernel):
    return leaky_to_few(x, bias, kernel, 0.2)


@pytest.mark.parametrize(("shape", "turns"), [((2, 4, 8, 16), 1), ((3, 8, 8, 64), 1), ((2, 16, 16, 16), 4)])
def test_leaky_to_few_is_the_two_together(monkeypatch, shape, turns):
    monkeypatch.setattr(
        triton_output_conv, "PROGRAMS", shape[0] * shape[1] * shape[2] // triton_output_conv.PIXELS // turns
    )
    x, bias, kernel, flowing = normal(0, *shape), normal(3, shape[3]), normal(1, shape[3], 2), normal(2, *shape[:3], 2)

    (ours, back), (theirs, their_back) = (jax.vjp(f, x, bias, kernel) for f in (at_once, both))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for mine, yours in zip(back(flowing), their_back(flowing), strict=True):
        np.testing.assert_allclose(mine, yours, atol=1e-4)


def test_the_layer_after_a_leaky_relu(monkeypatch):
    x, kernel, bias = normal(0, 1, 4, 8, 16), normal(1, 1, 1, 16, 2), normal(2, 2)
    before = Conv3x3(16, jnp.float32, jnp.float32, nn.initializers.normal(0.3))
    variables = before.init(jax.random.key(0), x)
    variables["params"]["bias"] = normal(3, 16)
    pending = LeakyConvolution(before.apply(variables, x), 0.2)
    expected = conv1x1(pending.value(), kernel, bias, jnp.dtype(jnp.float32))
    np.testing.assert_allclose(pending.value(), nn.leaky_relu(before.apply(variables, x).value(), 0.2), atol=1e-6)
    for chosen in (leaky_implementation(x), leaky_to_few):
        monkeypatch.setattr(output_conv, "leaky_implementation", lambda x, chosen=chosen: chosen)
        np.testing.assert_allclose(conv1x1(pending, kernel, bias, jnp.dtype(jnp.float32)), expected, atol=1e-5)


def test_the_kernel_is_for_gpus_and_for_shapes_that_fit(monkeypatch):
    x = jnp.zeros((1, 8, 8, 64), jnp.bfloat16)
    assert leaky_implementation(x) is not leaky_to_few
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(implementation, "_capability", lambda: 9.0)
    assert leaky_implementation(x) is leaky_to_few
    for other in (x[..., :48], x[:, :, :7], x[..., :8], x[:0], x.astype(jnp.float32)):
        assert leaky_implementation(other) is not leaky_to_few


def test_in_bfloat16_leaky_to_few_is_as_close_as_the_two():
    # Sums of which none is near 0 or rounded: on the other side of 0 the slope is another.
    x, bias = jnp.round(4 * normal(0, 1, 8, 8, 64)) / 4, jnp.round(4 * normal(3, 64)) / 4 + 0.125
    arrays = x, bias, normal(1, 64, 2), normal(2, 1, 8, 8, 2)

    def errors(way):
        (*held, flowing), short = arrays, [a.astype(jnp.bfloat16) for a in arrays]
        exact, back = jax.vjp(both, *held)
        found, found_back = jax.vjp(way, *short[:3])
        pairs = zip((found, *found_back(short[3])), (exact, *back(flowing)), strict=True)
        return [float(jnp.linalg.norm(a.astype(jnp.float32) - b) / jnp.linalg.norm(b)) for a, b in pairs]

    for ours, theirs in zip(errors(at_once), errors(both), strict=True):
        assert ours < 1.1 * theirs < 0.01

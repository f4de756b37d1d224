from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.models.ops import up_conv
from jaxcolor.models.ops.conv import Conv3x3
from jaxcolor.models.ops.up_conv import UpConv, _direct, by_phases, by_stacking, directly

IMPLEMENTATIONS = {"phases": by_phases, "direct": directly, "plain": _direct, "stacking": by_stacking}


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS, autouse=True)
def implementation(request, monkeypatch):
    monkeypatch.setattr(up_conv, "select_implementation", lambda **_: request.param)
    return request.param


def both(features, channels, height, width):
    ours = UpConv(features, jnp.float32, jnp.float32, nn.initializers.normal(0.3))
    plain = nn.ConvTranspose(features, (4, 4), strides=(2, 2), padding=((2, 2), (2, 2)), transpose_kernel=True)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, height, width, channels)), jnp.float32)
    variables = ours.init(jax.random.key(1), x)
    variables["params"]["bias"] = jnp.arange(features, dtype=jnp.float32)
    return ours, plain, variables, x


def summed(module, variables, x):
    result = module.apply(variables, x)
    return result.value() if isinstance(module, UpConv) else result


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (8, 8)])
def test_equals_the_transposed_convolution(height, width):
    ours, plain, variables, x = both(3, 4, height, width)
    expected = plain.apply(variables, x)
    assert expected.shape == (2, 2 * height, 2 * width, 3)
    np.testing.assert_allclose(summed(ours, variables, x), expected, atol=1e-5)


def test_gradients_equal_too():
    ours, plain, variables, x = both(3, 4, 4, 6)
    weights = jnp.asarray(np.random.default_rng(2).standard_normal((2, 8, 12, 3)), jnp.float32)

    def gradients(module):
        return jax.jit(jax.grad(lambda v, x: (summed(module, v, x) * weights).sum(), argnums=(0, 1)))(variables, x)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), gradients(ours), gradients(plain))


def test_gradients_of_no_pictures_and_in_bfloat16(implementation):
    x, kernel, flowing = jnp.ones((0, 2, 3, 4)), jnp.ones((4, 4, 5, 4)), jnp.ones((0, 4, 6, 5))
    y, back = jax.vjp(implementation, x, kernel)
    assert (y.shape, *(g.shape for g in back(flowing))) == (flowing.shape, x.shape, kernel.shape)
    assert not back(flowing)[1].any()
    short = jnp.ones((1, 2, 2, 3), jnp.bfloat16), jnp.ones((4, 4, 2, 3), jnp.bfloat16)
    y, back = jax.vjp(implementation, *short)
    assert {y.dtype, *(g.dtype for g in back(y))} == {jnp.dtype(jnp.bfloat16)}


def test_equals_pytorch():
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    ours, _, variables, x = both(3, 4, 5, 6)
    layer = torch.nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(np.asarray(variables["params"]["kernel"]).transpose(3, 2, 0, 1)))
        layer.bias.copy_(torch.tensor(np.asarray(variables["params"]["bias"])))
        expected = layer(torch.tensor(np.asarray(x).transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(summed(ours, variables, x), expected, atol=1e-5)


def test_a_sum_with_a_shortcut_has_both_biases():
    ours, plain, variables, x = both(3, 4, 4, 6)
    shortcut = Conv3x3(3, jnp.float32, jnp.float32, nn.initializers.normal(0.3))
    skip = jnp.asarray(np.random.default_rng(2).standard_normal((2, 8, 12, 5)), jnp.float32)
    its_own = shortcut.init(jax.random.key(3), skip)
    its_own["params"]["bias"] = jnp.array([2.0, -1, 5])
    found = ours.apply(variables, x) + shortcut.apply(its_own, skip)
    expected = plain.apply(variables, x) + nn.Conv(3, (3, 3), padding=1).apply(its_own, skip)
    np.testing.assert_allclose(found, expected, atol=1e-5)

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.models import ops
from jaxcolor.models.ops import conv, implementation, tile_conv, up_conv

C = tile_conv.LEAST_CHANNELS


def rounded(seed: int, *shape: int) -> jax.Array:
    """Noise that bfloat16 holds: then products in it are those of float32."""
    noise = jax.random.normal(jax.random.key(seed), shape, jnp.bfloat16)
    return noise.astype(jnp.float32)


@pytest.fixture(params=[*implementation.BFLOAT16_FLAGS, ""])
def unit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of CPU, which says how many strips are computed in a turn."""
    monkeypatch.setattr(implementation, "bfloat16_unit", lambda: request.param)


def strips_of(monkeypatch: pytest.MonkeyPatch, pixels: int, features: int) -> None:
    monkeypatch.setattr(tile_conv, "STRIP", pixels * features)


# 3 pictures of 4 x 6: in one strip, one picture a strip, two rows a strip, and a row though it is too long.
@pytest.mark.parametrize("pixels", [1000, 24, 13, 1])
@pytest.mark.parametrize("slope", [1.0, 0.2, 0.0])
@pytest.mark.parametrize("features", [tile_conv.FEW_FEATURES, tile_conv.FEW_FEATURES + 1])
@pytest.mark.usefixtures("unit")
def test_strips_give_the_plain_definition(
    monkeypatch: pytest.MonkeyPatch, pixels: int, slope: float, features: int
) -> None:
    strips_of(monkeypatch, pixels, features)
    x, kernel, bias = rounded(0, 3, 4, 6, 5), rounded(1, 3, 3, 5, features), rounded(2, features)
    y = conv.convolve(x, kernel, ((1, 1), (1, 1))) + bias
    found = tile_conv.conv3x3(x, kernel, bias, slope)
    np.testing.assert_allclose(found, jnp.maximum(y, slope * y), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pixels", [1000, 13])
@pytest.mark.usefixtures("unit")
def test_transposed_strips_give_the_plain_definition(monkeypatch: pytest.MonkeyPatch, pixels: int) -> None:
    strips_of(monkeypatch, pixels, 2 * 8)
    x, kernel = rounded(0, 3, 4, 6, 5), rounded(1, 4, 4, 8, 5)
    np.testing.assert_allclose(tile_conv.up_conv(x, kernel), up_conv.by_phases(x, kernel), rtol=1e-5, atol=1e-5)


def network(x: jax.Array, weights: dict[str, jax.Array]) -> jax.Array:
    """Every way in which a layer is computed: dilated with its ReLU, up and shortcut, leaky before 1x1, alone."""

    def layer(name: str, x: Any, dilation: int = 1) -> ops.Convolution:
        kernel = {"params": {"kernel": weights[name], "bias": weights["bias"]}}
        module = ops.Conv3x3(C, jnp.float32, jnp.float32, jax.nn.initializers.zeros, dilation)
        found = module.apply(kernel, x)
        assert isinstance(found, ops.Convolution)
        return found

    x = ops.relu(layer("first", ops.relu(layer("dilated", x, 2)), 2))
    up = ops.UpConvolution(ops.value(x), weights["up"], weights["bias"], jnp.float32)
    x = up + layer("first", jnp.repeat(jnp.repeat(ops.value(x), 2, axis=1), 2, axis=2))
    leaky = ops.leaky_relu(layer("dilated", x), 0.2)
    few = ops.conv1x1(leaky, weights["few"], weights["bias"][:2], jnp.dtype("float32"))
    return jnp.concatenate([ops.value(leaky), few, layer("first", x).value()], axis=3)


def test_predictions_alone_are_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(implementation, "bfloat16_unit", lambda: implementation.AMX)
    keys = jax.random.split(jax.random.key(0), 6)
    shapes = {"dilated": (3, 3, C, C), "first": (3, 3, C, C), "up": (4, 4, C, C), "few": (1, 1, C, 2), "bias": (C,)}
    weights = {
        name: jax.random.normal(key, shape) / np.sqrt(9 * C)
        for key, (name, shape) in zip(keys, shapes.items(), strict=False)
    }
    x = jax.random.normal(keys[5], (1, 8, 8, C))
    plain = jax.jit(lambda *given: network(*given))(x, weights)
    found = jax.jit(implementation.for_prediction(network))(x, weights)
    scale = float(jnp.abs(plain).max())
    difference = jnp.abs(found - plain)
    assert 0 < float(difference.max()) < 0.02 * scale
    assert jax.eval_shape(implementation.for_prediction(network), x[:0], weights).shape == (0, *found.shape[1:])
    # Each part is rounded, not only what comes first.
    assert all(float(part.max()) > 0 for part in jnp.split(difference, [C, C + 2], axis=3))

    monkeypatch.setenv(implementation.PLAIN_SWITCH, "1")
    with jax.default_matmul_precision("highest"):
        again = jax.jit(implementation.for_prediction(lambda *given: network(*given)))(x, weights)
    np.testing.assert_allclose(again, plain, rtol=0, atol=1e-5 * scale)


def test_what_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = implementation.for_prediction(implementation.rounds_products)
    monkeypatch.setattr(implementation, "bfloat16_unit", lambda: implementation.AMX)
    assert rounds()
    assert not implementation.rounds_products()  # afterwards, and in all that is not a prediction
    with implementation.portable_ops():
        assert not rounds()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not rounds()
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(implementation, "bfloat16_unit", lambda: "")
    assert not rounds()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n", "amx_bf16"),
        ("flags\t\t: fpu avx512_bf16 avx512_vnni\n", "avx512_bf16"),
        ("flags\t\t: fpu amx_bf16x avx512_bf16s\n", ""),
        ("Features\t: fp asimd bf16\n", ""),
        (None, ""),
    ],
    ids=["amx", "avx512", "other flags", "arm", "no file"],
)
def test_the_processor_is_asked_for_its_units(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, expected: str
) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text, encoding="utf-8")
    monkeypatch.setattr(implementation, "CPU_INFO", tmp_path / "cpuinfo")
    assert implementation.bfloat16_unit.__wrapped__() == expected

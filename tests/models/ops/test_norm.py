"""Normalisation against PyTorch and against formulas written out."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.models.ops.norm import EPSILON, MOMENTUM, BatchNorm, make_norm
from jaxcolor.runtime.parallel import AXIS, REPLICATED, SPLIT, Devices

CHANNELS = 3


def norm(dtype: Any = jnp.float32, axis_name: str | None = None) -> BatchNorm:
    return BatchNorm(dtype=dtype, param_dtype=jnp.float32, axis_name=axis_name)


def variables(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    draws = rng.standard_normal((4, CHANNELS)).astype(np.float32)
    return {
        "params": {"scale": 1 + 0.3 * draws[0], "bias": draws[1]},
        "batch_stats": {"mean": draws[2], "var": np.exp(draws[3])},
    }


def pictures(count: int = 6, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (2 + 3 * rng.standard_normal((count, 4, 5, CHANNELS))).astype(np.float32)


def train(x: np.ndarray, valid: np.ndarray | None = None) -> tuple[np.ndarray, Any]:
    mask = None if valid is None else jnp.asarray(valid)
    y, changed = norm().apply(variables(), jnp.asarray(x), train=True, valid=mask, mutable=["batch_stats"])
    return np.asarray(y), jax.device_get(changed["batch_stats"])


def test_training_follows_the_formula() -> None:
    x, before = pictures(), variables()
    y, after = train(x)
    count = x[..., 0].size
    mean, var = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    params, stats = before["params"], before["batch_stats"]
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"], atol=2e-5)
    np.testing.assert_allclose(after["mean"], 0.9 * stats["mean"] + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(after["var"], 0.9 * stats["var"] + 0.1 * var * count / (count - 1), rtol=1e-5)


def test_inference_reads_the_running_statistics() -> None:
    x, before = pictures(), variables()
    params, stats = before["params"], before["batch_stats"]
    y = norm().apply(before, jnp.asarray(x), train=False)
    expected = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params["scale"] + params["bias"]
    np.testing.assert_allclose(y, expected, atol=2e-5)


def test_it_is_pytorchs() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install 'jaxcolor[torch]'")
    x, ours = pictures(count=2), variables()
    theirs = torch.nn.BatchNorm2d(CHANNELS)
    state = {**ours["params"], **ours["batch_stats"]}
    names = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    theirs.load_state_dict({names[k]: torch.from_numpy(np.array(v)) for k, v in state.items()}, strict=False)
    planes = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_()
    y = theirs(planes)
    (y**3).sum().backward()

    def cubed(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        y, changed = norm().apply(ours, x, train=True, mutable=["batch_stats"])
        return (y**3).sum(), (y, changed["batch_stats"])

    gradient, (our_y, stats) = jax.grad(cubed, has_aux=True)(jnp.asarray(x))
    np.testing.assert_allclose(our_y, y.detach().numpy().transpose(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(gradient, planes.grad.numpy().transpose(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(stats["mean"], theirs.running_mean.numpy(), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], theirs.running_var.numpy(), rtol=1e-5)
    theirs.eval()
    expected = theirs(planes).detach().numpy().transpose(0, 2, 3, 1)
    our_y = norm().apply({**ours, "batch_stats": stats}, jnp.asarray(x), train=False)
    np.testing.assert_allclose(our_y, expected, atol=1e-5)


VALID = np.array([True, False, True, True, False, False])


def test_masked_pictures_count_for_nothing() -> None:
    x = pictures()
    y, stats = train(x, VALID)
    y_alone, stats_alone = train(x[VALID])
    np.testing.assert_allclose(y[VALID], y_alone, atol=1e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(stats[name], stats_alone[name], rtol=1e-5)
        # The masked ones would have moved them.
        assert np.abs(stats[name] - train(x)[1][name]).max() > 1e-3


def test_masked_pictures_are_normalised_by_the_others_statistics() -> None:
    x = pictures()
    y, _ = train(x, VALID)
    mean, var = x[VALID].mean(axis=(0, 1, 2)), x[VALID].var(axis=(0, 1, 2))
    params = variables()["params"]
    np.testing.assert_allclose(
        y[~VALID], (x[~VALID] - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"], atol=2e-5
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_what_is_in_masked_pictures_changes_no_bit(value: float) -> None:
    x = pictures()
    wild = np.where(VALID[:, None, None, None], x, np.float32(value))
    y, stats = train(x, VALID)
    y_wild, stats_wild = train(wild, VALID)
    np.testing.assert_array_equal(y[VALID], y_wild[VALID])
    for name in ("mean", "var"):
        np.testing.assert_array_equal(stats[name], stats_wild[name])


def test_nobody_valid_leaves_the_statistics_alone() -> None:
    y, stats = train(pictures(), np.zeros(6, bool))
    for name in ("mean", "var"):
        np.testing.assert_array_equal(stats[name], variables()["batch_stats"][name])
    assert np.isfinite(y).all()


def test_one_pixel_has_no_unbiased_variance_and_no_nan() -> None:
    _, stats = train(np.full((1, 1, 1, CHANNELS), 5, np.float32))
    assert np.isfinite(stats["var"]).all()
    np.testing.assert_allclose(stats["var"], 0.9 * variables()["batch_stats"]["var"], rtol=1e-6)


def test_large_means_do_not_eat_the_variance() -> None:
    """Mean of squares less square of mean would leave nothing of it in float32."""
    x = pictures() * np.float32(1e-2) + np.float32(1e3)
    y, _ = train(x)
    spread = np.asarray(y, np.float64).std(axis=(0, 1, 2)) / np.abs(variables()["params"]["scale"])
    expected = np.sqrt(x.astype(np.float64).var(axis=(0, 1, 2)) / (x.astype(np.float64).var(axis=(0, 1, 2)) + 1e-5))
    np.testing.assert_allclose(spread, expected, rtol=1e-3)


@pytest.mark.parametrize("mapping", ["shard_map", "pmap"])
def test_statistics_over_devices_are_those_of_one(mapping: str) -> None:
    """Devices hold different numbers of valid pictures: the mean of their means would be another."""
    devices = Devices.all(mapping, jax.devices()[:4])
    x, valid = pictures(8), np.array([1, 1, 1, 0, 0, 0, 1, 1], bool)

    def function(variables: Any, x: jax.Array, valid: jax.Array) -> Any:
        return norm(axis_name=AXIS).apply(variables, x, train=True, valid=valid, mutable=["batch_stats"])

    mapped = devices.map(function, in_specs=(REPLICATED, SPLIT, SPLIT), out_specs=(SPLIT, REPLICATED))
    y, changed = mapped(devices.replicate(variables()), devices.split(x), devices.split(valid))
    y_one, stats_one = train(x, valid)
    np.testing.assert_allclose(devices.fetch(y, SPLIT), y_one, atol=1e-5)
    for name, value in devices.fetch(changed)["batch_stats"].items():
        np.testing.assert_allclose(value, stats_one[name], rtol=1e-5)


def test_bfloat16_keeps_statistics_in_float32() -> None:
    x = jnp.asarray(pictures(), jnp.bfloat16)
    y, changed = norm(dtype=jnp.bfloat16).apply(variables(), x, train=True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    exact, stats = train(np.asarray(x, np.float32))
    np.testing.assert_allclose(np.asarray(y, np.float32), exact, atol=0.05)
    for name, value in changed["batch_stats"].items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, stats[name], rtol=1e-5)


def test_constants_are_pytorchs() -> None:
    assert (MOMENTUM, EPSILON) == (0.9, 1e-5)


def test_group_norm_follows_the_formula() -> None:
    class Wrapped(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return make_norm("group", "norm", jnp.float32, jnp.float32, None)(x, True, None)

    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 4, 64)).astype(np.float32)
    scale, bias = rng.standard_normal((2, 64)).astype(np.float32)
    y = Wrapped().apply({"params": {"norm": {"scale": scale, "bias": bias}}}, jnp.asarray(x))
    grouped = x.reshape(2, 12, math.gcd(32, 64), 2)
    mean, var = grouped.mean(axis=(1, 3), keepdims=True), grouped.var(axis=(1, 3), keepdims=True)
    expected = ((grouped - mean) / np.sqrt(var + 1e-5)).reshape(x.shape) * scale + bias
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_none_is_nothing() -> None:
    x = jnp.asarray(pictures())
    assert make_norm("none", "norm", jnp.float32, jnp.float32, None)(x, True, None) is x

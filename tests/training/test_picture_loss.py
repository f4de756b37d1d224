"""Each loss against a slow NumPy reference; bfloat16; gradients where colors end; which losses are computed."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxcolor.training.objectives import ObjectiveConfig

from jaxcolor import color
from jaxcolor.config import ConfigError
from jaxcolor.evaluation.metrics import lpips
from jaxcolor.models.outputs import ab_distribution
from jaxcolor.training import losses, objectives

SIDE = 16
CHANNELS = (4, 6, 8, 10)
"""Of VGG16's blocks, here; nothing depends on the real widths."""


def pictures(seed: int = 0, count: int = 2) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalized L, predicted ab (some of it out of gamut) and true ab."""
    rng = np.random.default_rng(seed)
    luminance = rng.uniform(-0.4, 0.4, (count, SIDE, SIDE, 1))
    ab, true_ab = rng.uniform(-0.6, 0.6, (2, count, SIDE, SIDE, 2)) * [[[[[1]]]], [[[[0.5]]]]]
    return tuple(jnp.asarray(x, jnp.float32) for x in (luminance, ab, true_ab))


def class_logits(count: int = 2) -> jax.Array:
    return jnp.asarray(2 * np.random.default_rng(1).standard_normal((count, 4, 4, 529)), jnp.float32)


def class_weights() -> np.ndarray:
    prior = np.random.default_rng(2).dirichlet(np.full(529, 0.3))
    return ab_distribution.rebalancing_weights(prior)


def vgg(channels: tuple[int, ...] = CHANNELS) -> dict[str, dict[str, np.ndarray]]:
    rng, inputs, params = np.random.default_rng(3), 3, {}
    for names, outputs in zip(objectives.VGG_BLOCKS, channels, strict=True):
        for name in names:
            kernel = rng.standard_normal((3, 3, inputs, outputs)) * math.sqrt(2 / (9 * inputs))
            params[name] = {
                "kernel": kernel.astype(np.float32),
                "bias": (0.1 * rng.standard_normal(outputs)).astype(np.float32),
            }
            inputs = outputs
    return params


def slow_taps(rgb: np.ndarray) -> list[np.ndarray]:
    """VGG16's four taps of one sRGB picture, scaled to length 1, in float64."""
    x = (rgb - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    taps, params = [], vgg()
    for block, names in enumerate((("0", "2"), ("5", "7"), ("10", "12", "14"), ("17", "19", "21"))):
        if block:
            x = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max(axis=(1, 3))
        for name in names:
            layer = params[f"features.{name}"]
            padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
            x = np.maximum(np.einsum("xyihw,hwio->xyo", windows, layer["kernel"]) + layer["bias"], 0)
        taps.append(x / np.sqrt((x**2).sum(axis=-1, keepdims=True) + 1e-6))
    return taps


def slow_perceptual(side: int) -> list[float]:
    luminance, ab, true_ab = (np.asarray(x, np.float64) for x in pictures())
    result = []
    for i in range(len(ab)):
        rgbs = [color.lab_to_rgb(color.denormalize_lab(luminance[i], x[i])) for x in (ab, true_ab)]
        factor = SIDE // side
        first, second = (slow_taps(x.reshape(side, factor, side, factor, 3).mean(axis=(1, 3))) for x in rgbs)
        result.append(np.mean([((a - b) ** 2).sum(axis=-1).mean() for a, b in zip(first, second, strict=True)]))
    return result


class TestReferences:
    def test_huber(self) -> None:
        _, ab, true_ab = pictures()
        difference, delta = np.abs(np.asarray(ab - true_ab, np.float64)), 1 / 110
        each = np.where(difference < delta, difference**2 / (2 * delta), difference - delta / 2)
        np.testing.assert_allclose(objectives.huber(ab, true_ab), 10 * each.sum(-1).mean((1, 2)), rtol=1e-5)
        np.testing.assert_array_equal(objectives.huber(ab, true_ab), losses.picture_loss(ab, true_ab))

    def test_class_cross_entropy(self) -> None:
        """Every fourth pixel; dense targets over all bins."""
        _, _, true_ab = pictures()
        logits, weights = class_logits(), class_weights()
        exact = np.asarray(logits, np.float64)
        log_probability = exact - np.log(np.exp(exact).sum(axis=-1, keepdims=True))
        expected = np.zeros(2)
        for i, y, x in np.ndindex(2, 4, 4):
            ab = np.asarray(true_ab, np.float64)[i, 4 * y, 4 * x]
            distance = np.linalg.norm((color.bin_centers() - ab) * 110, axis=1)
            nearest = np.argsort(distance)[:5]
            target = np.exp(-(distance[nearest] ** 2) / (2 * 5.0**2))
            loss = -(target / target.sum() * log_probability[i, y, x, nearest]).sum()
            expected[i] += weights[nearest[0]] * loss / 16
        np.testing.assert_allclose(objectives.class_cross_entropy(logits, true_ab, weights), expected, rtol=1e-4)

    @pytest.mark.parametrize("side", [16, 8])
    def test_perceptual(self, side: int) -> None:
        loss = jax.jit(objectives.perceptual, static_argnums=4)(vgg(), *pictures(), side)
        np.testing.assert_allclose(loss, slow_perceptual(side), rtol=1e-3)

    def test_colorfulness(self) -> None:
        """Only what is missing counts, and each picture by itself."""
        _, ab, true_ab = pictures()
        duller, brighter = 0.5 * true_ab, 2 * true_ab
        mixed = jnp.stack([duller[0], brighter[1]])
        chroma = np.hypot(*np.moveaxis(np.asarray(true_ab, np.float64), -1, 0)).mean(axis=(1, 2))
        np.testing.assert_allclose(objectives.colorfulness_loss(mixed, true_ab), [10 * 0.5 * chroma[0], 0], rtol=1e-3)
        assert (objectives.colorfulness_loss(ab, true_ab) == 0).all()


def all_terms(**changes: Any) -> ObjectiveConfig:
    return ObjectiveConfig(**({"classes": 0.5, "perceptual": 2.0, "colorfulness": 0.25} | changes))


def total(config: ObjectiveConfig, luminance: Any, ab: Any, true_ab: Any, logits: Any) -> jax.Array:
    terms = objectives.picture_losses(config, luminance, ab, true_ab, logits, class_weights(), vgg())
    return objectives.combine(config, terms)


def test_the_defaults_are_the_references_loss_to_the_last_bit() -> None:
    _, ab, true_ab = pictures()
    terms = objectives.picture_losses(ObjectiveConfig(), *pictures())
    assert list(terms) == ["huber"]
    np.testing.assert_array_equal(objectives.combine(ObjectiveConfig(), terms), losses.picture_loss(ab, true_ab))


def test_losses_are_weighted_and_added() -> None:
    luminance, ab, true_ab = pictures()
    expected = (
        losses.picture_loss(ab, true_ab)
        + 0.5 * objectives.class_cross_entropy(class_logits(), true_ab, class_weights())
        + 2 * objectives.perceptual(vgg(), luminance, ab, true_ab, 8)
        + 0.25 * objectives.colorfulness_loss(ab, true_ab)
    )
    result = total(all_terms(perceptual_side=8), luminance, ab, true_ab, class_logits())
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_what_is_active_needs_its_inputs() -> None:
    with pytest.raises(ValueError, match="class logits"):
        objectives.picture_losses(ObjectiveConfig(classes=1.0), *pictures())
    with pytest.raises(ValueError, match="VGG16"):
        objectives.picture_losses(ObjectiveConfig(perceptual=1.0), *pictures())


def test_true_colors_cost_nothing() -> None:
    luminance, _, true_ab = pictures()
    config = all_terms(huber=1.0, classes=0.0)
    np.testing.assert_allclose(total(config, luminance, true_ab, true_ab, None), 0, atol=1e-6)


def test_bfloat16() -> None:
    """bfloat16 ab and logits: every loss is float32, off by at most 2% (ab has 8 bits, as rounded beforehand)."""
    luminance, ab, true_ab = pictures()
    config = all_terms()
    exact = objectives.picture_losses(config, luminance, ab, true_ab, class_logits(), class_weights(), vgg())
    half = objectives.picture_losses(
        config, luminance, ab.astype(jnp.bfloat16), true_ab, class_logits().astype(jnp.bfloat16), class_weights(), vgg()
    )
    for name, loss in half.items():
        assert loss.dtype == jnp.float32, name
        np.testing.assert_allclose(loss, exact[name], rtol=0.02, err_msg=name)
    fast = objectives.perceptual(vgg(), luminance, ab, true_ab, 0, jnp.bfloat16)
    assert fast.dtype == jnp.float32
    np.testing.assert_allclose(fast, exact["perceptual"], rtol=0.05)


EXTREMES = {
    "gray": (0.0, 0.0, 0.0),
    "black": (-0.5, 0.0, 0.0),
    "white": (0.5, 0.0, 0.0),
    "black with color": (-0.5, 1.0, -1.0),
    "white with color": (0.5, -1.0, 1.0),
    "out of gamut": (0.0, 1.0, 1.0),
}


@pytest.fixture(scope="module")
def gradient() -> Callable[..., Any]:
    config = all_terms()
    return jax.jit(jax.value_and_grad(lambda ab, x, *rest: total(config, x, ab, *rest).sum(), argnums=(0, 3)))


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("equal", [False, True])
def test_gradients_are_finite(name: str, equal: bool, gradient: Callable[..., Any]) -> None:
    """Where prediction, or prediction and truth, are one flat extreme color."""
    level, *ab = EXTREMES[name]
    luminance, _, true_ab = pictures()
    flat = jnp.broadcast_to(jnp.array(ab), true_ab.shape)
    luminance = jnp.full_like(luminance, level)
    loss, gradients = gradient(flat, luminance, flat if equal else true_ab, class_logits())
    assert jnp.isfinite(loss)
    for array in gradients:
        assert jnp.isfinite(array).all()
        assert jnp.abs(array).max() < 100


def test_each_gradient_goes_where_its_loss_falls() -> None:
    """A small step against the gradient of each loss alone makes that loss smaller."""
    luminance, _, true_ab = pictures()
    ab = 0.4 * true_ab
    for name in ("huber", "perceptual", "colorfulness"):
        config = ObjectiveConfig(**({"huber": 0.0} | {name: 1.0}))
        value, slope = jax.value_and_grad(lambda x, c=config: total(c, luminance, x, true_ab, None).sum())(ab)
        step = ab - 1e-3 * slope / jnp.abs(slope).max()
        assert total(config, luminance, step, true_ab, None).sum() < value, name
    value, slope = jax.value_and_grad(lambda x: objectives.class_cross_entropy(x, true_ab, class_weights()).sum())(
        class_logits()
    )
    assert objectives.class_cross_entropy(class_logits() - slope, true_ab, class_weights()).sum() < value


def test_vggs_layers_are_torchvisions() -> None:
    """The names and order of the trunk that LPIPS reads, but for what follows relu4_3."""
    names = [name for block in objectives.VGG_BLOCKS for name in block]
    trunk = [name.removesuffix(".weight") for name in lpips.trunk_shapes("vgg") if name.endswith(".weight")]
    assert trunk[:10] == names
    widths = [lpips.trunk_shapes("vgg")[f"{block[-1]}.weight"][0] for block in objectives.VGG_BLOCKS]
    assert widths == [64, 128, 256, 512]


@pytest.mark.parametrize("side", [4, 12, 32])
def test_sides_that_do_not_fit(side: int) -> None:
    with pytest.raises(ValueError, match=f"side of {side}"):
        objectives.perceptual(vgg(), *pictures(), side)


def test_missing_layers_and_grids_that_do_not_fit() -> None:
    params = vgg()
    del params["features.14"]
    with pytest.raises(ValueError, match=r"lack features\.14"):
        objectives.perceptual(params, *pictures())
    with pytest.raises(ValueError, match="side 5 "):
        objectives.class_cross_entropy(jnp.zeros((2, 5, 5, 529)), pictures()[2], class_weights())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("huber", -1.0),
        ("classes", math.nan),
        ("perceptual", math.inf),
        ("encoding_sigma", 0.0),
        ("rebalancing", 0.0),
        ("rebalancing", 1.1),
        ("perceptual_side", 4),
        ("perceptual_side", -8),
    ],
)
def test_bad_settings_are_named(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        dataclasses.replace(ObjectiveConfig(), **{field: value})
    with pytest.raises(ConfigError, match="all 0"):
        ObjectiveConfig(huber=0.0)

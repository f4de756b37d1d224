"""The loss of a picture against slow NumPy references; bfloat16; gradients where colors end; which parts count."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor import color
from jaxcolor.config import Config, ConfigError, ModelConfig, ObjectiveConfig
from jaxcolor.models.networks import Picture, network_input
from jaxcolor.models.outputs import ab_distribution
from jaxcolor.models.outputs.classes import Classes, ClassOutput
from jaxcolor.models.outputs.regression import Regression
from jaxcolor.training import losses
from jaxcolor.weights import vgg16

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
    for names, outputs in zip(losses.VGG_BLOCKS, channels, strict=True):
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
    for block, names in enumerate(losses.VGG_BLOCKS):
        if block:
            x = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max(axis=(1, 3))
        for name in names:
            layer = params[name]
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
    @pytest.mark.parametrize("side", [16, 8])
    def test_perceptual(self, side: int) -> None:
        loss = jax.jit(losses.perceptual, static_argnums=4)(vgg(), *pictures(), side)
        np.testing.assert_allclose(loss, slow_perceptual(side), rtol=1e-3)

    def test_colorfulness(self) -> None:
        """Only what is missing counts, and each picture by itself."""
        _, ab, true_ab = pictures()
        duller, brighter = 0.5 * true_ab, 2 * true_ab
        mixed = jnp.stack([duller[0], brighter[1]])
        chroma = np.hypot(*np.moveaxis(np.asarray(true_ab, np.float64), -1, 0)).mean(axis=(1, 2))
        np.testing.assert_allclose(losses.colorfulness_loss(mixed, true_ab), [10 * 0.5 * chroma[0], 0], rtol=1e-3)
        assert (losses.colorfulness_loss(ab, true_ab) == 0).all()


def all_terms(**changes: Any) -> ObjectiveConfig:
    return ObjectiveConfig(**({"classes": 0.5, "perceptual": 2.0, "colorfulness": 0.25} | changes))


def total(config: ObjectiveConfig, luminance: Any, ab: Any, true_ab: Any, logits: Any = None) -> jax.Array:
    outputs = {"regression": ab}
    if logits is not None:
        outputs["classes"] = ClassOutput(logits, jnp.asarray(class_weights()))
    return losses.picture_loss(config, outputs, ab, Picture(network_input(luminance), true_ab), vgg())


def alone(name: str) -> ObjectiveConfig:
    """One loss, of weight 1."""
    return ObjectiveConfig(**({"regression": 0.0, "classes": 0.0} | {name: 1.0}))


def class_loss(logits: jax.Array, true_ab: jax.Array) -> jax.Array:
    return Classes.loss(ClassOutput(logits, jnp.asarray(class_weights())), true_ab)


def test_the_defaults_are_the_references_loss_to_the_last_bit() -> None:
    """Nothing else is computed: VGG16 is not there."""
    luminance, ab, true_ab = pictures()
    picture = Picture(network_input(luminance), true_ab)
    each = losses.picture_loss(ObjectiveConfig(), {"regression": ab}, ab, picture)
    np.testing.assert_array_equal(each, Regression.loss(ab, true_ab))


def test_losses_are_weighted_and_added() -> None:
    luminance, ab, true_ab = pictures()
    expected = (
        3 * Regression.loss(ab, true_ab)
        + 0.5 * class_loss(class_logits(), true_ab)
        + 2 * losses.perceptual(vgg(), luminance, ab, true_ab, 8)
        + 0.25 * losses.colorfulness_loss(ab, true_ab)
    )
    result = total(all_terms(regression=3.0, perceptual_side=8), luminance, ab, true_ab, class_logits())
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_a_loss_of_weight_0_is_not_computed() -> None:
    """What it would be is NaN here."""
    luminance, ab, true_ab = pictures()
    result = total(all_terms(classes=0.0, perceptual=0.0), luminance, ab, true_ab, class_logits() * jnp.nan)
    assert jnp.isfinite(result).all()


def test_the_perceptual_loss_needs_vgg16() -> None:
    luminance, ab, true_ab = pictures()
    picture = Picture(network_input(luminance), true_ab)
    with pytest.raises(ValueError, match="VGG16"):
        losses.picture_loss(ObjectiveConfig(perceptual=1.0), {"regression": ab}, ab, picture)


def test_true_colors_cost_nothing() -> None:
    luminance, _, true_ab = pictures()
    np.testing.assert_allclose(total(all_terms(), luminance, true_ab, true_ab), 0, atol=1e-6)


def test_bfloat16() -> None:
    """bfloat16 ab and logits: every loss is float32, off by at most 2% (ab has 8 bits, as rounded beforehand)."""
    luminance, ab, true_ab = pictures()
    half = ab.astype(jnp.bfloat16), true_ab, class_logits().astype(jnp.bfloat16)
    for name in ("regression", "classes", "perceptual", "colorfulness"):
        exact = total(alone(name), luminance, ab, true_ab, class_logits())
        rounded = total(alone(name), luminance, *half)
        assert rounded.dtype == jnp.float32, name
        np.testing.assert_allclose(rounded, exact, rtol=0.02, err_msg=name)
    fast = losses.perceptual(vgg(), luminance, ab, true_ab, 0, jnp.bfloat16)
    assert fast.dtype == jnp.float32
    np.testing.assert_allclose(fast, losses.perceptual(vgg(), luminance, ab, true_ab), rtol=0.05)


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
    for name in ("regression", "perceptual", "colorfulness"):
        config = alone(name)
        value, slope = jax.value_and_grad(lambda x, c=config: total(c, luminance, x, true_ab).sum())(ab)
        step = ab - 1e-3 * slope / jnp.abs(slope).max()
        assert total(config, luminance, step, true_ab).sum() < value, name
    value, slope = jax.value_and_grad(lambda x: class_loss(x, true_ab).sum())(class_logits())
    assert class_loss(class_logits() - slope, true_ab).sum() < value


def test_vggs_layers_are_those_that_are_read() -> None:
    """The names and order of the layers of a file, but for what follows relu4_3."""
    names = [name for block in losses.VGG_BLOCKS for name in block]
    assert list(vgg16.LAYERS[:10]) == names
    assert [len(block) for block in losses.VGG_BLOCKS] == [vgg16.BLOCKS[n][0] for n in range(1, 5)]


@pytest.mark.parametrize("side", [4, 12, 32])
def test_sides_that_do_not_fit(side: int) -> None:
    with pytest.raises(ValueError, match=f"side of {side}"):
        losses.perceptual(vgg(), *pictures(), side)


def test_missing_layers() -> None:
    params = vgg()
    del params["conv3_3"]
    with pytest.raises(ValueError, match=r"lack conv3_3"):
        losses.perceptual(params, *pictures())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("regression", -1.0),
        ("classes", math.nan),
        ("perceptual", math.inf),
        ("rebalancing", 0.0),
        ("rebalancing", 1.1),
        ("perceptual_side", 4),
        ("perceptual_side", -8),
    ],
)
def test_bad_settings_are_named(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        dataclasses.replace(ObjectiveConfig(), **{field: value})


@pytest.mark.parametrize("outputs", [("regression",), ("regression", "classes")])
def test_a_config_without_any_loss_is_refused(outputs: tuple[str, ...]) -> None:
    model = ModelConfig(outputs=outputs)
    with pytest.raises(ConfigError, match=r"^objective: .*all 0"):
        Config(model=model, objective=ObjectiveConfig(regression=0.0, classes=0.0))
    Config(model=model, objective=ObjectiveConfig(regression=0.0, classes=0.0, colorfulness=1.0))

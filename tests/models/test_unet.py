"""Another backbone in one file: its taps fuse, its heads read it, and it is trained as the reference's is."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from jaxcolor.config import ConfigError, FusionConfig, ModelConfig
from jaxcolor.models import networks
from jaxcolor.models.fusion import fused_taps
from jaxcolor.models.unet import UNet
from tests.small import SIDE, batch, example, variables

MODEL = ModelConfig(side=SIDE, width=0.0625, backbone="unet")
BATCH = batch([example(0, [[1, 1, 9, 9], [3, 3, 15, 16]]), example(1)], capacity=2)


@pytest.fixture(scope="module")
def prediction() -> Any:
    return jax.jit(lambda tree: networks.predict(networks.build(MODEL), tree, BATCH))(variables(MODEL))


def test_taps_have_the_channels_and_sides_that_they_say() -> None:
    output = jax.eval_shape(
        lambda tree, x: UNet(MODEL).apply(tree, x),
        networks.abstract(MODEL)["instance"],
        networks.picture(BATCH.full_rgb, MODEL).inputs,
    )
    assert set(output.taps) == {tap.name for tap in UNet.taps}
    for tap in UNet.taps:
        side = SIDE >> tap.level
        assert output.taps[tap.name].shape == (2, side, side, round(tap.channels / 16))


def test_crops_color_their_photo_alone(prediction: Any) -> None:
    assert set(prediction.fusion_weights) == {tap.name for tap in UNet.taps}
    assert np.abs(prediction.ab[0] - prediction.full_ab[0]).max() > 1e-3
    np.testing.assert_array_equal(prediction.ab[1], prediction.full_ab[1])


def test_groups_of_layers_are_its_own() -> None:
    def taps(layers: str) -> tuple[str, ...]:
        return fused_taps(dataclasses.replace(MODEL, fusion=FusionConfig(layers=layers)))

    assert taps("encoder") == ("down0", "down1", "down2", "down3")
    assert taps("decoder") == ("up2", "up1", "up0")
    with pytest.raises(ConfigError, match=r"conv4_3.* names out of down0"):
        taps("conv4_3")


def test_skip_connections_carry_fine_detail() -> None:
    """With everything below the finest level cut off, the color still depends on the place."""
    inputs = networks.picture(BATCH.full_rgb, MODEL).inputs
    tree = variables(MODEL)["instance"]
    output = UNet(MODEL).apply(tree, inputs, at_tap=lambda name, x: x if name in ("down0", "up0") else 0 * x)
    assert float(np.std(output.ab[0])) > 1e-3


def test_there_is_no_class_head_that_nobody_trains() -> None:
    assert "classes" not in networks.abstract(MODEL)["full"]["params"]
    with_classes = dataclasses.replace(MODEL, outputs=("regression", "classes"))
    for tree in ("full", "instance"):
        assert "classes" in networks.abstract(with_classes)[tree]["params"]
    assert "classes" in networks.abstract(with_classes)["fusion"]["params"]["trunk"]

"""Another backbone in one file: its taps fuse, its heads read it, and it is trained as the reference's is."""

import dataclasses
import functools
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.config import Config, ConfigError, DataConfig, FusionConfig, ModelConfig, StageConfig
from jaxcolor.models import networks
from jaxcolor.models.fusion import fused_taps
from jaxcolor.models.unet import UNet
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training import train
from jaxcolor.training.optimizer import Optimizer, make_optimizer
from jaxcolor.training.stages import STAGES
from jaxcolor.training.step import TrainState, make_state, make_step
from tests.small import SIDE, batch, example, gray, variables

MODEL = ModelConfig(side=SIDE, width=0.0625, backbone="unet")
BATCH = batch([example(0, [[1, 1, 9, 9], [3, 3, 15, 16]]), example(1)], capacity=2)


@pytest.fixture(scope="module")
def prediction() -> Any:
    return jax.jit(functools.partial(networks.predict, networks.build(MODEL)))(variables(MODEL), BATCH)


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
    cut = jax.jit(lambda *given: UNet(MODEL).apply(*given, at_tap=lambda n, x: x if n in ("down0", "up0") else 0 * x))
    output = cut(variables(MODEL)["instance"], inputs)
    assert float(np.std(output.ab[0])) > 1e-3


def test_there_is_no_class_head_that_nobody_trains() -> None:
    assert "classes" not in networks.abstract(MODEL)["full"]["params"]
    with_classes = dataclasses.replace(MODEL, outputs=("regression", "classes"))
    for tree in ("full", "instance"):
        assert "classes" in networks.abstract(with_classes)[tree]["params"]
    assert "classes" in networks.abstract(with_classes)["fusion"]["params"]["trunk"]


CONFIG = Config(
    model=MODEL,
    stages=("full",),
    data=DataConfig(source="scenes"),
    full=StageConfig(steps=4, batch_size=8, learning_rate=1e-3),
    checkpoint_every=2,
    log_every=2,
)


def assert_same_bits(ours: Any, theirs: Any) -> None:
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


@functools.cache
def compiled() -> tuple[Devices, Optimizer, Any]:
    devices, optimizer = Devices.all("shard_map", jax.devices()[:2]), make_optimizer(CONFIG, CONFIG.full)
    kinds = (REPLICATED, REPLICATED, SPLIT)
    return devices, optimizer, devices.map(make_step(CONFIG, STAGES["full"], optimizer), kinds, kinds[:2])


def trained(masked_seed: int, steps: int = 2) -> TrainState:
    """Two devices, two photos each: the last of each is gray, so that it is not valid."""
    devices, optimizer, step = compiled()
    photos = [example(0), example(masked_seed), example(1), example(masked_seed + 1)]
    for place in (1, 3):
        photos[place] = photos[place]._replace(full_rgb=gray(np.asarray(photos[place].full_rgb)))
    state = devices.replicate(make_state(variables(MODEL)["full"], optimizer, CONFIG.full, UNet))
    for _ in range(steps):
        state, scalars = step(state, {}, devices.split(batch(photos, capacity=0, devices=2)))
        assert devices.fetch(scalars).valid == 2
    found: TrainState = devices.fetch(state)
    return found


def test_pictures_that_do_not_count_leave_no_trace() -> None:
    """GroupNorm normalizes each picture by itself, so masks need not reach it."""
    first = trained(masked_seed=10)
    assert_same_bits(trained(masked_seed=20), first)
    moved = jax.tree.map(lambda a, b: (a != b).any(), first.variables["params"], variables(MODEL)["full"]["params"])
    assert all(jax.tree.leaves(moved))


def test_pictures_are_normalized_by_themselves() -> None:
    inputs = networks.picture(jnp.asarray(BATCH.full_rgb), MODEL).inputs
    tree = variables(MODEL)["full"]
    run = jax.jit(lambda tree, x, valid: UNet(MODEL).apply(tree, x, train=valid is not None, valid=valid).ab)
    ab = functools.partial(run, tree)
    alone = ab(inputs[:1], jnp.ones(1, bool))
    together = ab(inputs.at[1].mul(5), jnp.array([True, False]))
    np.testing.assert_allclose(together[:1], alone, atol=1e-5)
    np.testing.assert_allclose(ab(inputs[:1], None), alone, atol=1e-6)  # as in inference


@pytest.mark.slow
def test_resuming_is_exact(tmp_path: Path) -> None:
    whole = train.train(CONFIG, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    shutil.rmtree(tmp_path / "resumed" / "full" / "4")
    assert_same_bits(train.train(CONFIG, tmp_path / "resumed"), whole)

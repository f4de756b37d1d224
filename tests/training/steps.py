"""Steps of one stage on small photos, compiled once for each config, and what to compare of them."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from jaxcolor.batch import Batch
from jaxcolor.config import Config, StageConfig
from jaxcolor.data.collate import collate
from jaxcolor.data.types import Example
from jaxcolor.models import networks
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training import stages, step
from jaxcolor.training.optimizer import make_optimizer
from tests.small import FEW, SIDE, example, gray, variables

PHOTOS = 16
CONFIG = Config(
    model=FEW,
    full=StageConfig(steps=100, learning_rate=1e-3),
    instance=StageConfig(steps=100, learning_rate=1e-3),
    fusion=StageConfig(steps=100, learning_rate=1e-3, trained="fusion_and_output"),
)
GRAY = (0, 1, 2, 5, 9, 14)
"""Of 16 photos, two to a device: the first device has no valid one, others one or two."""


def examples(gray_photos: Sequence[int] = (), gray_crops: Sequence[int] = ()) -> list[Example]:
    """Each photo with one or two boxes."""
    result = []
    for photo in range(PHOTOS):
        e = example(photo, [[1, 1, 9, 9], [3, 3, 15, 16]][: 1 + photo % 2])
        assert e.full_rgb is not None
        full = gray(e.full_rgb) if photo in gray_photos else e.full_rgb
        result.append(e._replace(full_rgb=full, crop_rgb=gray(e.crop_rgb) if photo in gray_crops else e.crop_rgb))
    return result


def packed(stage: str, given: Sequence[Example], groups: int) -> Batch:
    """As the data loader makes it for that stage; ``groups`` are devices, or parts of what they hold."""
    if stage == "instance":
        given = [e._replace(crop_rgb=e.crop_rgb[:1], level_boxes=e.level_boxes[:1], scores=e.scores[:1]) for e in given]
    capacity = {"full": 0, "instance": 1, "fusion": 2}[stage] * len(given) // groups
    batch, _, _ = collate(given, device_count=groups, capacity=capacity, side=SIDE, with_full=stage != "instance")
    return batch


class Result(NamedTuple):
    before: step.TrainState
    after: step.TrainState
    scalars: list[step.Scalars]

    def gradients(self) -> dict[str, np.ndarray]:
        """After one step of Adam from zero its first moment is (1 - b1) x the gradient."""
        return {name: moment / (1 - CONFIG.optimizer.b1) for name, moment in self.after.opt_state.rule[0].mu.items()}


class Compiled(NamedTuple):
    devices: Devices
    before: step.TrainState
    step: Any


@functools.cache
def compiled(stage: str, mapping: str, count: int, config: Config) -> Compiled:
    devices = Devices.all(mapping, jax.devices()[:count])
    chosen, settings = stages.STAGES[stage], stages.stage_config(config, stages.STAGES[stage])
    optimizer = make_optimizer(config, settings)
    before = step.make_state(variables(config.model)[stage], optimizer, settings)
    mapped = devices.map(
        step.make_step(config, chosen, optimizer),
        in_specs=(REPLICATED, REPLICATED, SPLIT),
        out_specs=(REPLICATED, REPLICATED),
        donate=(0,),
    )
    return Compiled(devices, before, mapped)


def run(
    stage: str,
    given: Sequence[Example],
    mapping: str = "shard_map",
    count: int = 8,
    steps: int = 1,
    config: Config = CONFIG,
    then: Sequence[Sequence[Example]] = (),
    padding: int = 0,
) -> Result:
    """``steps`` steps on the photos given, then one on each of ``then``; padding crops hold noise up to ``padding``."""
    devices, before, function = compiled(stage, mapping, count, config)
    accumulate = stages.stage_config(config, stages.STAGES[stage]).accumulate
    trees = variables(config.model)
    state = devices.replicate(before)
    frozen = devices.replicate(networks.frozen({t: trees[t] for t in stages.STAGES[stage].frozen}, config.model))
    scalars = []
    for each in [given] * steps + list(then):
        batch = packed(stage, each, count * accumulate)
        noise = np.random.default_rng(0).integers(0, padding + 1, batch.crop_rgb.shape, np.uint8)
        unused = (batch.crop_to_image < 0)[:, None, None, None]
        batch = batch._replace(crop_rgb=np.where(unused, noise, batch.crop_rgb))
        state, reported = function(state, frozen, devices.split(batch))
        scalars.append(devices.fetch(reported))
    return Result(before, devices.fetch(state), scalars)


ALL = pytest.mark.parametrize("stage", list(stages.STAGES))


def assert_same_bits(ours: Any, theirs: Any) -> None:
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


def changed(config: Config, stage: str, **settings: Any) -> Config:
    """With other settings of one stage."""
    return dataclasses.replace(config, **{stage: dataclasses.replace(getattr(config, stage), **settings)})

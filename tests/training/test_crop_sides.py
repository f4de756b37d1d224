"""Training on crops of two sides: devices, padding, and the statistics of a normalization side by side."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from jaxcolor.batch import Batch, split_by_side
from jaxcolor.config import AugmentConfig, HintConfig
from jaxcolor.data.collate import CropPlaces, collate
from jaxcolor.data.types import Example
from jaxcolor.models import networks
from jaxcolor.training import stages
from tests.small import SIDE, example, photo, variables
from tests.training.steps import CONFIG, assert_same_bits, compiled

SMALL = 8
HINTED = dataclasses.replace(
    CONFIG, hints=HintConfig(enabled=True), augment=AugmentConfig(color_jitter=0.2, old_photos=0.5)
)
"""All that looks at crops on the device."""


def examples(stage: str, sides: tuple[int, int] = (SMALL, SIDE)) -> list[Example]:
    """Photos with one crop of each side, or of one of them by turns."""
    result = []
    for number in range(16):
        rng = np.random.default_rng(100 + number)
        boxes = [[1, 1, 9, 9], [3, 3, 15, 16]]
        crops = [photo(rng, side, side) for side in sides]
        e = example(number, boxes)._replace(crop_rgb=crops)
        if stage == "instance":
            k = number % 2
            e = e._replace(crop_rgb=crops[k : k + 1], level_boxes=e.level_boxes[k : k + 1], scores=e.scores[:1])
        result.append(e)
    return result


def packed(stage: str, given: list[Example], groups: int, noise: bool) -> Batch:
    """On every device a place of each side that is only padding."""
    count = len(given) // groups
    places = [CropPlaces(SIDE, count + 1), CropPlaces(SMALL, count + 1)]
    batch, dropped, moved = collate(given, device_count=groups, capacity=places, side=SIDE, with_full=stage == "fusion")
    assert dropped == moved == 0
    if not noise:
        return batch
    rng = np.random.default_rng(0)
    owners = split_by_side(batch.crop_to_image, batch.crops, groups)
    crops = [
        np.where((own < 0)[:, None, None, None], rng.integers(0, 256, crops.shape, np.uint8), crops)
        for crops, own in zip(batch.crops, owners, strict=True)
    ]
    return batch._replace(crop_rgb=crops[0], smaller_crops=(crops[1],))


def run(
    stage: str,
    given: list[Example],
    mapping: str = "shard_map",
    noise: bool = False,
    config: Any = CONFIG,
    count: int = 8,
) -> Any:
    """State and scalars after a step."""
    devices, before, function = compiled(stage, mapping, count, config)
    trees = variables(config.model)
    frozen = devices.replicate(networks.frozen({t: trees[t] for t in stages.STAGES[stage].frozen}, config.model))
    groups = count * stages.stage_config(config, stages.STAGES[stage]).accumulate
    batch = devices.split(packed(stage, given, groups, noise))
    return devices.fetch(function(devices.replicate(before), frozen, batch))


@pytest.mark.parametrize("stage", ["instance", "fusion"])
def test_padding_does_not_leak(stage: str) -> None:
    given = examples(stage)
    state, scalars = run(stage, given)
    assert float(scalars.valid) == 16
    assert float(scalars.grad_norm) > 0
    assert_same_bits(run(stage, given, noise=True), (state, scalars))


@pytest.mark.slow  # since JAX 0.10 pmap is a shard_map; test_step_outputs compares the mappings with every loss on
@pytest.mark.parametrize("stage", ["instance", "fusion"])
def test_both_mappings_give_the_same_bits(stage: str) -> None:
    given = examples(stage)
    assert_same_bits(run(stage, given, "pmap"), run(stage, given))


def test_running_statistics_are_the_mean_over_the_sides() -> None:
    """What each side alone would leave behind, weighed by how many crops it has: 5 small ones and 8 large ones."""
    every = examples("instance")
    large, small = every[1::2], every[:10:2]

    def padded(those: list[Example]) -> list[Any]:
        left = list(those)
        return [left.pop(0) if left and k % 2 < 2 else None for k in range(16)]

    (both, scalars), (first, _), (second, _) = (run("instance", padded(part)) for part in (small + large, small, large))
    assert float(scalars.valid) == 13
    for ours, a, b in zip(*(jax.tree.leaves(s.variables["batch_stats"]) for s in (both, first, second)), strict=True):
        np.testing.assert_allclose(ours, (5 * a + 8 * b) / 13, rtol=1e-5, atol=1e-6)
        assert np.abs(a - b).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["instance", "fusion"])
def test_parts_of_an_accumulation_with_hints_and_old_photos(stage: str) -> None:
    """One device in two parts takes the step of two devices, but for BatchNorm, which stage fusion does not move."""
    settings = dataclasses.replace(getattr(HINTED, stage), accumulate=2)
    parts = dataclasses.replace(HINTED, **{stage: settings})
    given = examples(stage)
    one, scalars = run(stage, given, config=parts, count=1)
    assert float(scalars.valid) == 16
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(one))
    if stage == "fusion":
        _, others = run(stage, given, config=HINTED, count=2)
        np.testing.assert_allclose(scalars.loss, others.loss, rtol=1e-5)
        np.testing.assert_allclose(scalars.grad_norm, others.grad_norm, rtol=1e-4)

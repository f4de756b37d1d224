"""The training step of each stage with a class head, hints, augmentation and the colorfulness loss, all at once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxcolor.batch import Batch
from jaxcolor.config import AugmentConfig, HintConfig, ObjectiveConfig, OptimizerConfig
from jaxcolor.hints import BatchHints
from jaxcolor.models import networks
from jaxcolor.models.outputs.classes import WEIGHTS
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training import stages, step
from tests.small import TWO
from tests.training.steps import ALL, CONFIG, GRAY, PHOTOS, assert_same_bits, changed, examples, packed, run

EVERYTHING = dataclasses.replace(
    CONFIG,
    model=dataclasses.replace(TWO, outputs=("regression", "classes")),
    objective=ObjectiveConfig(classes=0.5, colorfulness=0.25),
    hints=HintConfig(enabled=True, max_patch=5, reveal_all=0.1),
    augment=AugmentConfig(color_jitter=0.2, old_photos=0.5),
    optimizer=OptimizerConfig(ema_decay=0.9, layer_rates="conv1_=0.1"),
)
WITHOUT_BOXES = (4, 11)


def given(darker: int = 1) -> list:
    """Some photos and crops gray, some photos without boxes; the gray ones darker."""
    result = []
    for number, e in enumerate(examples(gray_photos=GRAY, gray_crops=(3, *GRAY))):
        if number in GRAY:
            e = e._replace(full_rgb=e.full_rgb // darker, crop_rgb=e.crop_rgb // darker)
        if number in WITHOUT_BOXES:
            e = e._replace(crop_rgb=e.crop_rgb[:0], level_boxes=e.level_boxes[:0], scores=e.scores[:0])
        result.append(e)
    return result


VALID = {"full": PHOTOS - len(GRAY), "instance": PHOTOS - len(GRAY) - 3, "fusion": PHOTOS - len(GRAY) - 3}


@pytest.mark.parametrize(
    "stage", [pytest.param("full", marks=pytest.mark.slow), pytest.param("instance", marks=pytest.mark.slow), "fusion"]
)
def test_both_mappings_give_the_same_bits(stage: str) -> None:
    ours, theirs = (run(stage, given(), mapping, steps=2, config=EVERYTHING) for mapping in ("shard_map", "pmap"))
    assert_same_bits(ours, theirs)
    assert ours.scalars[0].valid == VALID[stage]
    assert np.isfinite([s.loss for s in ours.scalars]).all()


@ALL
def test_masked_and_padded_pictures_count_for_nothing(stage: str) -> None:
    """What is in them matters neither to a loss nor to statistics nor to any gradient."""
    ours = run(stage, given(), steps=2, config=EVERYTHING)
    theirs = run(stage, given(darker=2), steps=2, config=EVERYTHING, padding=255)
    assert_same_bits(ours, theirs)


@ALL
def test_all_that_is_named_is_trained_but_for_the_weights_of_colors(stage: str) -> None:
    result = run(stage, given(), steps=2, config=EVERYTHING)
    head = "trunk/classes/kernel" if stage == "fusion" else "classes/kernel"
    assert np.abs(result.after.opt_state.rule[0].mu[head]).max() > 0
    kept = [
        [value for path, value in traverse_util.flatten_dict(tree["batch_stats"]).items() if path[-1] == WEIGHTS]
        for tree in (result.before.variables, result.after.variables, step.eval_variables(result.after))
    ]
    for before, after, averaged in zip(*kept, strict=True):
        assert np.ptp(before) > 0.5
        np.testing.assert_array_equal(after, before)
        np.testing.assert_array_equal(averaged, before)
    assert len(kept[0]) == 1


def test_eight_devices_do_what_one_does() -> None:
    eight, one = (run("fusion", given(), count=count, config=EVERYTHING) for count in (8, 1))
    assert eight.scalars[0].valid == one.scalars[0].valid
    assert eight.scalars[0].loss == pytest.approx(one.scalars[0].loss, rel=1e-5)
    assert eight.scalars[0].grad_norm == pytest.approx(one.scalars[0].grad_norm, rel=1e-3)


def shown(stage: str, count: int, accumulate: int = 1, number: int = 3) -> BatchHints:
    """What step ``number`` hints at: of every photo, and of every crop that is no padding."""
    config = changed(EVERYTHING, stage, accumulate=accumulate)
    devices = Devices.all("shard_map", jax.devices()[:count])

    def hints(batch: Batch, number: jax.Array) -> tuple[BatchHints]:
        return (step._simulated_hints(config, stages.STAGES[stage], networks.to_lab(batch, config.model), number),)

    mapped = devices.map(hints, in_specs=(SPLIT, REPLICATED), out_specs=(SPLIT,))
    batch = packed(stage, examples(), count * accumulate)
    (found,) = devices.fetch(mapped(devices.split(batch), devices.replicate(jnp.int32(number))), SPLIT)
    return BatchHints(found.full, jax.tree.map(lambda x: x[batch.crop_to_image >= 0], found.crop))


@ALL
def test_hints_do_not_depend_on_devices_or_parts(stage: str) -> None:
    """Nor do those of crops, which are their photo's; every picture and every step has its own."""
    alone = shown(stage, 1)
    assert_same_bits(shown(stage, 8), alone)
    assert_same_bits(shown(stage, 2, accumulate=4), alone)
    part = "crop" if stage == "instance" else "full"
    now, next_step = ([m.tobytes() for m in getattr(h, part).mask] for h in (alone, shown(stage, 1, number=4)))
    assert len(now) == PHOTOS
    assert len(set(now)) > PHOTOS // 2
    assert now != next_step
    if stage == "fusion":
        assert len(alone.crop.mask) == PHOTOS + PHOTOS // 2
        for photo, crop in ((0, 0), (1, 1), (1, 2), (2, 3)):  # the first box of each is [1, 1, 9, 9]
            seen = alone.full.mask[photo, 3:16, 3:15] if crop == 2 else alone.full.mask[photo, 1:9, 1:9]
            assert alone.crop.mask[crop].any() == seen.any()

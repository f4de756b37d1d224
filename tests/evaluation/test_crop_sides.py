"""Crops of several sides in evaluation: the controls, what the instance network says alone, and the counts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor import resample
from jaxcolor.batch import split_by_side
from jaxcolor.config import EvalConfig
from jaxcolor.data.collate import CropPlaces, collate, resized
from jaxcolor.data.eval_targets import boxes_of_crops
from jaxcolor.evaluation.controls import crop_donors, exchanged_places, other_crops
from jaxcolor.evaluation.evaluator import Evaluator, evaluate
from jaxcolor.evaluation.predictors import Checkpoint, Predictors
from jaxcolor.evaluation.scorer import Scorer
from jaxcolor.evaluation.tables import footnotes
from jaxcolor.models.networks import build, run_crops, to_lab
from jaxcolor.runtime.parallel import SPLIT, Devices
from tests.evaluation.batches import BOXES, MODEL, SIDE, example, loaded
from tests.small import variables

SMALL = 16
PLACES = (CropPlaces(SIDE, 4), CropPlaces(SMALL, 4))


def examples() -> list[Any]:
    """By turns at one side and at the other."""
    made, turn = [], 0
    for number, boxes in enumerate(BOXES):
        e, crops = example(number, boxes), []
        for crop in e.crop_rgb:
            crops.append(resized(crop, (SIDE, SMALL)[turn % 2]))
            turn += 1
        made.append(e._replace(crop_rgb=crops))
    return made


def packed(device_count: int) -> Any:
    filled = [*examples(), *[None] * (8 - len(BOXES))]
    return collate(filled, device_count=device_count, capacity=PLACES, side=SIDE, with_full=True).batch


@pytest.mark.parametrize("device_count", [1, 2])
def test_crops_of_another_photo_are_resized(device_count: int) -> None:
    batch = packed(device_count)
    donors = crop_donors(batch, device_count)
    changed = other_crops(batch, donors, device_count)
    rows = split_by_side(np.arange(len(donors)), batch.crops, device_count)
    pixels = {
        row: crop for own, crops in zip(rows, batch.crops, strict=True) for row, crop in zip(own, crops, strict=True)
    }
    sides = set()
    for own, crops in zip(rows, changed.crops, strict=True):
        for row, crop in zip(own, crops, strict=True):
            given = pixels[row] if donors[row] < 0 else pixels[donors[row]]
            sides.add((len(given), len(crop)))
            np.testing.assert_array_equal(crop, resized(given, len(crop)))
    assert len(sides) >= 3
    assert device_count > 1 or exchanged_places(batch, donors) is None  # they are seen at the places' own sides
    assert [crops.shape for crops in changed.crops] == [crops.shape for crops in batch.crops]


def test_an_evaluation_of_crops_of_two_sides() -> None:
    weights = variables(MODEL)
    batch = packed(1)
    counts = ((SIDE, 4), (SMALL, 3))
    given = loaded([*map(example, range(len(BOXES)), BOXES), *[None] * (8 - len(BOXES))])
    assert given.compared is not None
    own = boxes_of_crops(batch, [*examples(), *[None] * (8 - len(BOXES))], given.compared.used, 1)
    given = given._replace(
        batch=batch, crops_by_side=counts, moved_crops=2, compared=given.compared._replace(crop_boxes=own)
    )
    devices = Devices.all("shard_map", jax.devices()[:1])
    predictors = Predictors([Checkpoint("", MODEL, weights)], devices, controls=True)
    ab = devices.fetch(predictors(batch).instance, SPLIT)
    alone = jax.jit(lambda b: [found.ab for found in run_crops(build(MODEL), weights, to_lab(b, MODEL))])(batch)
    results = evaluate(Evaluator(predictors, Scorer(EvalConfig(metrics=""), SIDE, devices), devices), [given])
    np.testing.assert_allclose(ab[:4], alone[0], atol=1e-5)
    np.testing.assert_allclose(ab[4:7], resample.resize(jnp.asarray(alone[1]), SIDE, SIDE)[:3], atol=1e-5)
    np.testing.assert_array_equal(ab[7], 0)  # padding
    assert results.protocol["crops_by_side"] == "4 at 32, 3 at 16; 2 found no place at their own"
    assert np.isfinite(results.scores["fused"]["psnr"]).all()
    assert "Crops by side: 4 at 32, 3 at 16; 2 found no place at their own." in footnotes(results.to_metrics())

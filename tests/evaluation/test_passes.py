"""Each network runs once over a batch, the instance network on its crops alone; the controls are what they were."""

import dataclasses
from collections import Counter
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest

from jaxcolor.batch import PADDING, Batch
from jaxcolor.config import FusionConfig
from jaxcolor.evaluation import passes
from jaxcolor.evaluation.controls import crop_donors, exchanged_places, other_crops
from jaxcolor.evaluation.predictors import Checkpoint, Predictors
from jaxcolor.models import over_crops
from jaxcolor.models.networks import build, predict
from jaxcolor.runtime.parallel import Devices
from tests import small
from tests.evaluation.batches import BOXES, MODEL, example, loaded

COUNTED = dataclasses.replace(MODEL, fusion=FusionConfig(layers=("conv2_2", "conv10_2")))
"""No other test has it: what is compiled with counters serves nobody else."""
VARIABLES = small.variables(COUNTED)
MANY_OF_ONE = [BOXES[0], [], BOXES[3], [], []]
"""Three of the four crops are one photo's: its donor is given to all of them."""


@pytest.fixture(scope="module")
def counted() -> Any:
    """The predictors of one device, and how often each network has run since it was last asked."""
    calls: Counter[str] = Counter()

    def counting(room: ModuleType, name: str) -> Any:
        run = getattr(room, name)

        def counted_run(*arguments: Any) -> Any:
            jax.debug.callback(lambda: calls.update([name]))
            return run(*arguments)

        return counted_run

    def since() -> dict[str, int]:
        jax.effects_barrier()
        found = dict(calls)
        calls.clear()
        return found

    with pytest.MonkeyPatch.context() as patch:
        for room, name in ((passes, "run_full"), (over_crops, "run_instance"), (passes, "run_fusion")):
            patch.setattr(room, name, counting(room, name))
        devices = Devices.all("shard_map", jax.devices()[:1])
        yield Predictors([Checkpoint("", COUNTED, VARIABLES)], devices, controls=True), since


def batch_of(boxes: list[list[list[int]]]) -> Batch:
    return loaded([example(i, each) for i, each in enumerate(boxes)]).batch


@pytest.mark.parametrize(
    ("boxes", "runs"),
    [
        (BOXES, {"run_full": 1, "run_instance": 7, "run_fusion": 3}),
        (MANY_OF_ONE, {"run_full": 1, "run_instance": 8, "run_fusion": 3}),
        ([[]] * len(BOXES), {"run_full": 1}),
    ],
    ids=["exchanged", "computed again", "no boxes"],
)
def test_networks_run_once_and_controls_are_predictions_of_changed_batches(
    boxes: list[list[list[int]]], runs: dict[str, int], counted: Any
) -> None:
    predictors, since = counted
    batch = batch_of(boxes)
    found = predictors(batch)
    assert since() == runs
    donors = crop_donors(batch, 1)
    assert (exchanged_places(batch, donors) is None) == (runs.get("run_instance") == 8)
    bare = batch._replace(crop_to_image=np.full_like(batch.crop_to_image, PADDING))
    has_boxes = np.array([len(each) > 0 for each in boxes])[:, None, None, None]
    changed_batches = {"fused": batch, "no_boxes": bare, "other_crops": other_crops(batch, donors)}
    for system, changed in changed_batches.items():
        expected = _predicted(changed)
        np.testing.assert_allclose(found.colors["full"], expected.full_ab, atol=1e-5)
        ab = np.where(has_boxes, expected.fused_ab, expected.full_ab)
        np.testing.assert_allclose(found.colors[system], ab, atol=1e-5, err_msg=system)
    if has_boxes.any():
        assert np.abs(found.colors["other_crops"] - found.colors["fused"]).max() > 1e-3


@jax.jit
def _predicted(batch: Batch) -> Any:
    with jax.default_matmul_precision("highest"):
        return predict(build(COUNTED), VARIABLES, batch)

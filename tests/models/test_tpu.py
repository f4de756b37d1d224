"""The programs of training and coloring lower for a TPU on a machine without one.

A TPU runs the plain definitions; nothing here says that it is fast, or what XLA makes of the program afterwards.
"""

import dataclasses
import functools
from typing import Any

import jax
import pytest
from jax import export

from jaxcolor.config import Config, HintConfig
from jaxcolor.data.collate import CropPlaces, collate
from jaxcolor.inference.predict import color_function
from jaxcolor.models import networks
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training import stages, step
from jaxcolor.training.optimizer import make_optimizer
from tests.small import FEW, SIDE, example, variables

BOXES = [[1, 1, 9, 9], [3, 3, 15, 16]]
BFLOAT16 = dataclasses.replace(FEW, compute_dtype="bfloat16")
CONFIG = Config(model=BFLOAT16, hints=HintConfig(enabled=True))
PLACES = {"one side": (CropPlaces(SIDE, 4),), "two sides": (CropPlaces(SIDE, 2), CropPlaces(8, 2))}


@pytest.fixture(autouse=True)
def _as_on_a_tpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ops choose by the backend's name; shapes and lowering do not ask for it."""
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")


def batch(places: str, device_count: int = 1, *, full: bool = True, crops: bool = True) -> Any:
    examples = [example(number, BOXES if crops else []) for number in range(2 * device_count)]
    capacity = PLACES[places] if crops else 0
    return collate(examples, device_count=device_count, capacity=capacity, side=SIDE, with_full=full).batch


def lowered(function: Any, *arguments: Any) -> str:
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
    exported = export.export(function, platforms=["tpu"])(*shapes)
    assert exported.platforms == ("tpu",)
    return str(exported.mlir_module())


@pytest.mark.parametrize(
    ("stage", "places"), [("full", "one side"), ("instance", "two sides"), ("fusion", "two sides")]
)
def test_training_steps_lower_for_a_tpu(stage: str, places: str) -> None:
    """On eight devices, whose sums are then all-reduces of the program."""
    devices = Devices.all("shard_map", jax.devices()[:8])
    chosen, settings = stages.STAGES[stage], stages.stage_config(CONFIG, stages.STAGES[stage])
    optimizer = make_optimizer(CONFIG, settings)
    trees = variables(FEW)
    state = step.make_state(trees[stage], optimizer, settings)
    kinds = (REPLICATED, REPLICATED, SPLIT)
    train = devices.map(step.make_step(CONFIG, chosen, optimizer), kinds, (REPLICATED, REPLICATED), donate=(0,))
    frozen = networks.frozen({tree: trees[tree] for tree in chosen.frozen}, CONFIG.model)
    given = batch(places, devices.count, full=stage != "instance", crops=stage != "full")
    text = lowered(train, state, frozen, given)
    assert "all_reduce" in text
    assert "triton" not in text


@pytest.mark.parametrize(("fused", "places"), [(False, "one side"), (True, "one side"), (True, "two sides")])
def test_predictions_lower_for_a_tpu(fused: bool, places: str) -> None:
    function = jax.jit(functools.partial(color_function(BFLOAT16), fused=fused))
    text = lowered(function, variables(FEW), batch(places, crops=fused))
    assert "bf16" in text
    assert "triton" not in text

"""What two networks compute alike is computed once, and gives the same."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from jaxcolor.config import BoxHeadConfig, FusionConfig
from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.models import box_head, networks
from jaxcolor.models.backbone import Siggraph17
from jaxcolor.models.shared_taps import shared_taps
from jaxcolor.weights.native import BoxHeadWeights
from tests import small

CONFIG = dataclasses.replace(small.MODEL, fusion=FusionConfig(layers=("conv8_up", "conv10_2")))
ENCODER = tuple(tap.name for tap in Siggraph17.taps if tap.part == "encoder")


def trees(config: Any = CONFIG) -> dict[str, Any]:
    """The fusion network has the full-image network's encoder: the same arrays."""
    found: dict[str, Any] = jax.tree.map(lambda leaf: leaf, small.variables(config))
    for collection, of_full in found["full"].items():
        trunk = found["fusion"][collection]["trunk"]
        trunk |= {name: layer for name, layer in of_full.items() if name not in Siggraph17.decoder_layers}
    return found


def test_the_encoder_is_shared_until_the_first_fused_tap() -> None:
    def shared(layers: Any, variables: dict[str, Any]) -> tuple[str, ...]:
        config = dataclasses.replace(CONFIG, fusion=FusionConfig(layers=layers))
        return shared_taps(variables, config)

    assert shared("decoder", trees()) == ENCODER
    assert shared("all", trees()) == ()
    assert shared(("conv4_3", "conv8_up"), trees()) == ENCODER[:3]
    assert shared_taps(networks.frozen(trees(), CONFIG), CONFIG) == ENCODER
    assert shared("decoder", small.variables(CONFIG)) == ()
    assert shared("decoder", {"full": trees()["full"]}) == ()
    for collection, layer, name in (("params", "conv7_3", "bias"), ("batch_stats", "norm2", "mean")):
        other = trees()
        arrays = other["fusion"][collection]["trunk"][layer]
        other["fusion"][collection]["trunk"][layer] = arrays | {name: arrays[name] + 1}
        assert shared("decoder", other) == ()


def test_sharing_saves_work_and_changes_nothing() -> None:
    batch = small.batch([small.example(0, [[1, 1, 9, 9]]), small.example(1, [])], capacity=1)
    found, flops = [], []
    for shared in ((), ENCODER):
        nets = networks.build(CONFIG, shared=shared)
        program = jax.jit(lambda v, b, nets=nets: networks.predict(nets, v, b)).lower(trees(), batch).compile()
        found.append(jax.device_get(program(trees(), batch)))
        flops.append(program.cost_analysis()["flops"])
    for one, other in zip(*(p[:3] for p in found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert flops[1] < 0.95 * flops[0]


@pytest.mark.parametrize("fused", [True, False])
def test_what_the_search_for_objects_computed_is_not_computed_again(
    fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(CONFIG, side=64)
    head = BoxHeadConfig(channels=8, groups=2, threshold=0.0 if fused else 1.0)
    colorizer = Colorizer(config, trees(config), box_head=BoxHeadWeights(head, box_head.init(config, head, 0)))
    photos = [small.photo(np.random.default_rng(seed), 50, 70) for seed in range(3)]
    known: list[set[str]] = []
    run = colorizer._predictor._colors
    monkeypatch.setattr(colorizer._predictor, "_colors", lambda *a, **k: (known.append({*a[3]}), run(*a, **k))[1])
    automatic = colorizer.many(photos[:2], "auto")
    boxes = [found.boxes for found in colorizer.find_boxes(photos)]
    assert fused == all(map(len, boxes))
    of_others = colorizer.many(photos[1::-1], boxes[1::-1])  # of a larger call, in another order
    again = colorizer.many(photos[:2], boxes[:2])
    assert known == [{*ENCODER} | ({*head.taps} if not fused else set())] * 2 + [set()]
    for one, other, third in zip(automatic, of_others[::-1], again, strict=True):
        assert np.abs(one.astype(int) - third).max() <= 1
        assert np.abs(other.astype(int) - third).max() <= 1
    colorizer.find_boxes(photos[:1])
    colorizer(photos[2], boxes[2])
    assert not known[-1]

"""What variants cost, counted by hand."""

import dataclasses
from typing import Any

import pytest

from jaxcolor.ablation.cost import count_cost, fused_flops
from jaxcolor.config import Config, FusionConfig, ModelConfig, StageConfig
from tests.small import MODEL, variables


def model(**fusion: Any) -> ModelConfig:
    return dataclasses.replace(MODEL, fusion=FusionConfig(**fusion))


def test_a_layer_less_costs_less() -> None:
    kinds = {layers: model(layers=layers, strategy="box_mask") for layers in ("none", "encoder", "decoder")}
    crop = {layers: fused_flops(kind, 1) - fused_flops(kind, 0) for layers, kind in kinds.items()}
    assert crop["none"] == 0
    # Fusion in the encoder needs no decoder of the instance network.
    assert 0 < crop["encoder"] < 0.8 * crop["decoder"]


def test_the_trunk_is_the_backbones_convolutions() -> None:
    """The first two layers alone, by hand: one 3x3 convolution from 4 to 4, one from 4 to 4, at 16 x 16."""
    full = fused_flops(model(layers="none"), 0)
    masks = fused_flops(model(layers=("conv1_2",), strategy="box_mask"), 1)
    first_two = 2 * 16 * 16 * 9 * (4 * 4 + 4 * 4)
    # To blend row by row, as processors do, is next to nothing.
    assert masks - full == pytest.approx(first_two, rel=0.02)


def test_parameters() -> None:
    def trained(config: ModelConfig, which: str) -> int:
        run = Config(stages=("fusion",), model=config, fusion=StageConfig(trained=which, steps=1))
        return count_cost(run, variables(config), 3.04, 2.5).trained_parameters

    masks, none = model(layers=("conv1_2",), strategy="box_mask"), model(layers="none")
    output = trained(none, "fusion_and_output")
    assert output == 9 * 8 * 8 + 8 + 8 * 2 + 2  # model10's last convolution and model_out
    assert trained(masks, "fusion_and_output") == output
    assert trained(masks, "fusion") == 0
    heads = 2 * (16 * (9 * 4 + 1) + 16 * (9 * 16 + 1) + 9 * 16 + 1)
    assert trained(model(layers=("conv1_2",)), "fusion") == heads


def test_crops() -> None:
    for layers, crops in (("encoder", 2.5), ("none", 0.0)):
        config = Config(
            stages=("fusion",), model=model(layers=layers, strategy="box_mask"), fusion=StageConfig(steps=0)
        )
        cost = count_cost(config, {}, 3.04, 2.5)
        assert (cost.crops_per_photo, cost.train_seconds, cost.trained_parameters) == (crops, 3.0, 0)
        bare, one = (fused_flops(config.model, count) for count in (0, 1))
        assert cost.gflops_per_photo == pytest.approx((bare + crops * (one - bare)) / 1e9)

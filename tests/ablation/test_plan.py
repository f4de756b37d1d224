"""Variants of a config: what can be overridden, what cannot, and who trains for whom."""

import dataclasses
from typing import Any

import pytest

from jaxcolor.ablation.plan import Ablation, Planned, Variant, identity, plan, training_identity, trains
from jaxcolor.config import Config, ConfigError, DataConfig, EvalConfig, StageConfig
from jaxcolor.config_io import from_dict, to_config_dict
from jaxcolor.runtime import program
from tests.small import TWO

SCENES = DataConfig(source="scenes")
BASE = Config(
    stages=("fusion",),
    model=TWO,
    data=SCENES,
    fusion=StageConfig(steps=3, trained="fusion"),
    eval=EvalConfig(data=dataclasses.replace(SCENES, split="held_out")),
)


def planned(*variants: Variant, base: Config = BASE, **fields: Any) -> list[Planned]:
    return plan(Ablation("a", base=base, variants=variants, baseline=variants[0].name, **fields))


def test_overrides() -> None:
    one, two = planned(
        Variant("one"),
        Variant("two", {"model.fusion.layers": ("conv1_2", "conv2_2"), "fusion.learning_rate": 1, "eval.photos": 3}),
    )
    assert one.config == BASE
    assert two.config.model.fusion.layers == ("conv1_2", "conv2_2")
    assert two.config.fusion == dataclasses.replace(BASE.fusion, learning_rate=1.0)
    assert two.config.eval.photos == 3
    assert two.config.data == BASE.data


def test_from_the_command_line_as_from_a_recipe() -> None:
    """A ConfigDict keeps the order of variants, and gives back the same plan."""
    variants = (Variant("z"), Variant("b", {"eval.photos": 3}), Variant("a", {"model.fusion.strategy": "box_mask"}))
    ablation = Ablation("x", base=BASE, variants=variants, baseline="z", seeds=2)
    again = from_dict(Ablation, to_config_dict(ablation).to_dict())
    assert plan(again) == plan(ablation)
    assert [p.name for p in plan(again)] == ["z", "b", "a"]
    assert program.unknown_field("config", "--config.base.eval.photos=3", Ablation) is None
    said = program.unknown_field("config", "--config.base.evals.photos=3", Ablation)
    assert said == "--config.base.evals: no such field of base; did you mean eval?"
    said = program.unknown_field("config", "--config.learning_rate=3", Ablation)
    assert said is not None
    assert "did you mean base.full.learning_rate" in said


def test_who_trains() -> None:
    """Variants that differ in eval alone share weights; those without heads to train need none trained."""
    variants = planned(
        Variant("top"),
        Variant("few", {"eval.data.boxes_per_photo": 2}),
        Variant("masks", {"model.fusion.strategy": "box_mask"}),
        Variant("gates", {"model.fusion.strategy": "gated"}),
        Variant("nowhere", {"model.fusion.layers": "none"}),
        Variant("masks_and_output", {"model.fusion.strategy": "box_mask", "fusion.trained": "fusion_and_output"}),
        Variant("still", {"fusion.steps": 0}),
        Variant("own", {"stages": ("full", "instance", "fusion"), "full.steps": 7, "model.width": 0.125}),
    )
    assert {v.name: v.weights_of for v in variants} == {v.name: v.name for v in variants} | {"few": "top"}
    assert {v.name: trains(v.config) for v in variants} == {
        "top": True,
        "few": True,
        "masks": False,
        "gates": True,
        "nowhere": False,
        "masks_and_output": True,
        "still": False,
        "own": True,
    }


def test_seeds_change_training_and_not_the_photos_measured() -> None:
    (variant,) = planned(Variant("one"), base=dataclasses.replace(BASE, seed=5))
    config = variant.seeded(2)
    assert (config.seed, config.data.seed) == (7, 2)
    assert config.eval == BASE.eval
    assert variant.seeded(0) == variant.config


def test_what_changes_no_number_is_not_compared() -> None:
    other = dataclasses.replace(
        BASE, name="other", log_every=3, checkpoint_every=7, data=dataclasses.replace(SCENES, threads=9, workers=1)
    )
    assert identity(other) == identity(BASE)
    assert identity(dataclasses.replace(BASE, low_chroma=3.0)) != identity(BASE)
    measured = dataclasses.replace(BASE, eval=dataclasses.replace(BASE.eval, photos=5))
    assert identity(measured) != identity(BASE)
    assert training_identity(measured) == training_identity(BASE)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"model.fusion.strtegy": "x"},
            r"variant x: config\.model\.fusion\.strtegy: no such field; did you mean",
        ),
        ({"modle.width": 1.0}, r"variant x: config\.modle: no such field; did you mean model"),
        ({"seed.more": 1}, r"variant x: seed\.more: seed is a value"),
        ({"fusion.steps": "many"}, r"variant x: config\.fusion\.steps: 'many' is not of type int"),
        ({"fusion.epochs": 2.0}, r"variant x: config\.fusion\.steps: 3, which must be 0 where epochs are given"),
        ({"full.steps": 2}, r"variant x: full\.steps: 1000 -> 2: the variants start from the same weights; .*'stages'"),
        ({"model.width": 0.5}, r"variant x: model\.width: 0\.0625 -> 0\.5"),
        ({"start_from": "w.safetensors"}, r"variant x: start_from"),
        (
            {"model.fusion.strategy": "truth_mask"},
            r"variant x: .*'truth_mask' .* set data\.masks and",
        ),
        ({"data.masks": True}, r"variant x: config\.data\.masks: True, which must be False unless box_choice"),
    ],
)
def test_variants_that_cannot_be(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        planned(Variant("base"), Variant("x", overrides))
    assert "\n" not in str(caught.value)


def test_ablations_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"variants\[1\]\.name: a second 'a'"):
        planned(Variant("a"), Variant("a"))
    with pytest.raises(ConfigError, match=r"baseline: 'b' is no variant; there is a"):
        plan(Ablation(base=BASE, variants=(Variant("a"),), baseline="b"))
    with pytest.raises(ConfigError, match=r"baseline: '' is no variant; there is none"):
        plan(Ablation(base=BASE))
    for name in ("", "a/b", "..", "shared", "a b"):
        with pytest.raises(ConfigError, match="name: "):
            Variant(name)
    with pytest.raises(ConfigError, match=r"variants\[0\]\.nme: no such field; did you mean name"):
        plan(Ablation(base=BASE, variants=({"nme": "a"},)))
    with pytest.raises(ConfigError, match="seeds: 0"):
        Ablation(base=BASE, seeds=0)
    with pytest.raises(ConfigError, match=r"shared: \(\), which must be .* or \(\) where base\.start_from is given"):
        Ablation(base=BASE, shared=())

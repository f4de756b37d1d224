"""Every recipe of training: what it is, what its manual says, and that the smallest one runs."""

import dataclasses
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from jaxcolor.config import Config
from jaxcolor.config_io import from_dict
from jaxcolor.models.fusion import fused_taps
from jaxcolor.training import train
from jaxcolor.training.stages import stages_of
from jaxcolor.weights import native, packaged

ROOT = Path(__file__).resolve().parents[1]
RECIPES = {path.stem: path for path in sorted((ROOT / "configs").glob("*.py"))}


def module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES[name])
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def config(name: str, *variant: str) -> Config:
    return from_dict(Config, module(name).get_config(*variant).to_dict())


def test_which_there_are() -> None:
    assert set(RECIPES) == {
        "coco_stuff",
        "default_weights",
        "demo",
        "fast_weights",
        "imagenet",
        "instances",
        "paper",
        "photos",
        "reference",
        "smoke",
        "two_hues",
    }


@pytest.mark.parametrize("name", RECIPES)
def test_the_manual(name: str) -> None:
    """Command, hardware, hours, numbers, in this order; the last two marked."""
    manual = module(name).__doc__
    places = [manual.find(f"\n{word}: ") for word in ("Command", "Hardware", "Hours", "Numbers")]
    assert -1 not in places
    assert places == sorted(places)
    assert re.search(r"\nHours: (measured|expected)[ ,]", manual)
    assert re.search(r"\nNumbers: (measured|expected)[ ,]", manual)
    assert f"configs/{name}.py" in manual
    for field in re.findall(r"--config\.([a-z_.]+)", manual):
        value: Any = config(name)
        for part in field.split("."):
            value = getattr(value, part)


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"default_weights", "fast_weights", "instances", "two_hues"}))
def test_the_three_stages(name: str) -> None:
    recipe = config(name)
    assert [stage.name for stage in stages_of(recipe)] == ["full", "instance", "fusion"]
    assert recipe.name == name
    for stage in (recipe.full, recipe.instance, recipe.fusion):
        assert bool(stage.steps) != bool(stage.epochs)
    assert recipe.full.trained == recipe.instance.trained == "all"
    assert recipe.fusion.trained == ("fusion" if name == "paper" else "fusion_and_output")


def test_instances_are_those_of_the_packages_weights() -> None:
    """Which are stored with two of the taps that were trained (docs/instances.md, run 9)."""
    recipe, weights = config("instances"), packaged.load(None).config
    fusion = dataclasses.replace(recipe.model.fusion, layers=weights.fusion.layers)
    assert dataclasses.replace(recipe.model, compute_dtype=weights.compute_dtype, fusion=fusion) == weights
    assert fused_taps(weights) == ("conv8_3", "conv10_2")
    assert set(fused_taps(weights)) < set(fused_taps(recipe.model))
    assert [stage.name for stage in stages_of(recipe)] == ["instance", "fusion"]
    assert recipe.instance.steps == 0
    assert (recipe.objective, recipe.hints) == (config("default_weights").objective, config("default_weights").hints)


def test_default_weights_begin_as_one_network() -> None:
    recipe = config("default_weights")
    assert [stage.name for stage in stages_of(recipe)] == ["full"]
    assert (recipe.start_from, recipe.data.cache) == ("vgg16", "device")
    assert recipe.hints.enabled
    assert recipe.model.outputs == ("regression", "classes")


def test_fast_weights_are_the_default_ones_at_half_the_width() -> None:
    fast, default = config("fast_weights"), config("default_weights")
    assert dataclasses.replace(fast.model, width=1.0) == default.model
    assert (fast.stages, fast.hints, fast.augment) == (default.stages, default.hints, default.augment)
    assert (fast.start_from, fast.objective.teacher) == ("narrowed:default", "default")
    assert (fast.objective.distill, fast.low_chroma, fast.model.width) == (1.0, 0.0, 0.5)


def test_two_hues_is_one_network_that_takes_hints() -> None:
    recipe = config("two_hues")
    assert [stage.name for stage in stages_of(recipe)] == ["full"]
    assert recipe.hints.enabled
    assert recipe.model.outputs == ("regression", "classes")
    assert (recipe.data.split, recipe.eval.data.split) == ("train", "held_out")
    assert recipe.data.scenes == recipe.eval.data.scenes


def test_reference_is_as_released() -> None:
    recipe = config("reference")
    stages = (recipe.full, recipe.instance, recipe.fusion)
    assert [s.learning_rate for s in stages] == [5e-4, 5e-4, 5e-5]
    assert [s.batch_size for s in stages] == [16, 16, 1]
    assert [s.epochs for s in stages] == [150, 150, 30]
    assert [s.epochs * s.decay_start for s in stages] == pytest.approx([100, 100, 10])
    assert not any(s.flip for s in stages)


def test_reference_at_a_larger_batch() -> None:
    small, large = config("reference"), config("reference", "large")
    assert (large.full, large.instance) == (small.full, small.instance)
    assert large.fusion.batch_size == 16
    assert large.fusion.learning_rate == pytest.approx(5e-5 * 16**0.5)
    assert (large.fusion.epochs, large.fusion.decay_start) == (small.fusion.epochs, small.fusion.decay_start)
    with pytest.raises(ValueError, match=r"no such variant; there is configs/reference\.py:large"):
        config("reference", "huge")


def test_paper() -> None:
    recipe = config("paper")
    assert [s.epochs for s in (recipe.full, recipe.instance, recipe.fusion)] == [2, 5, 2]
    assert recipe.full.learning_rate == 1e-5
    assert (recipe.data.source, recipe.data.path) == ("tfds", "imagenet2012")


@pytest.mark.parametrize(
    ("name", "source", "held_back"),
    [("imagenet", "tfds", "validation"), ("coco_stuff", "coco", "val"), ("reference", "coco", "val")],
)
def test_sources(name: str, source: str, held_back: str) -> None:
    recipe = config(name)
    assert (recipe.data.source, recipe.data.split) == (source, "train")
    assert (recipe.eval.data.source, recipe.eval.data.split) == (source, held_back)


@pytest.mark.slow
def test_smoke_runs(tmp_path: Path) -> None:
    train.train(config("smoke"), tmp_path / "run")
    weights = native.load(tmp_path / "run" / train.WEIGHTS_FILE)
    assert weights.trees == ("full", "instance", "fusion")
    assert weights.note == "smoke, after stage fusion"

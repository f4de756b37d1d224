"""Configs: the way to a ConfigDict and back, what is refused and how it is told, and every recipe there is."""

import dataclasses
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from jaxcolor.config import Config, ConfigError, DataConfig, FusionConfig, ModelConfig, StageConfig
from jaxcolor.config_io import from_dict, to_config_dict, to_dict

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted(p for p in (ROOT / "configs").rglob("*.py") if p.parent.name not in ("ablation", "own_boxes"))
"""Those of ablations and of own boxes hand out something else, and are looked at in their tests."""

UNUSUAL = Config(
    name="unusual",
    stages=("instance",),
    mapping="pmap",
    sync_batch_norm=False,
    model=ModelConfig(side=64, width=0.5, norm="group", fusion=FusionConfig(layers=("conv1_2", "conv9_up"))),
    data=DataConfig(source="scenes", scenes=dataclasses.replace(DataConfig().scenes, overlap=True)),
    fusion=StageConfig(trained="fusion"),
)


@pytest.mark.parametrize("config", [Config(), UNUSUAL], ids=["defaults", "unusual"])
def test_there_and_back(config: Config) -> None:
    assert from_dict(Config, to_config_dict(config).to_dict()) == config
    assert from_dict(Config, json.loads(json.dumps(to_dict(config)))) == config


def test_configs_can_be_static_arguments() -> None:
    assert hash(from_dict(Config, to_dict(UNUSUAL))) == hash(UNUSUAL)


def test_fields_not_given_keep_their_defaults() -> None:
    config = from_dict(Config, {"seed": 3, "model": {"width": 0.25}})
    assert config == Config(seed=3, model=ModelConfig(width=0.25))


def test_whole_numbers_will_do_for_real_ones() -> None:
    width = from_dict(ModelConfig, {"width": 1}).width
    assert width == 1.0
    assert isinstance(width, float)


def test_overridden_values_arrive() -> None:
    values = to_config_dict(Config())
    values.model.width = 0.5
    values.model.fusion.layers = "encoder"
    values.stages = ("full",)
    config = from_dict(Config, values.to_dict())
    assert (config.model.width, config.model.fusion.layers, config.stages) == (0.5, "encoder", ("full",))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"modle": {}}, "config.modle: no such field; did you mean model?"),
    ({"model": {"widht": 1.0}}, "config.model.widht: no such field; did you mean width?"),
    ({"model": {"fusion": {"zzz": 1}}}, "config.model.fusion.zzz: no such field; known: strategy, outside"),
    ({"model": {"width": "wide"}}, "config.model.width: 'wide' is not of type float"),
    ({"model": {"width": True}}, "config.model.width: True is not of type float"),
    ({"model": {"side": 64.0}}, "config.model.side: 64.0 is not of type int"),
    ({"seed": True}, "config.seed: True is not of type int"),
    ({"seed": None}, "config.seed: None is not of type int"),
    ({"sync_batch_norm": 1}, "config.sync_batch_norm: 1 is not of type bool"),
    ({"name": 3}, "config.name: 3 is not of type str"),
    ({"mapping": "pmap", "cuda_graphs": True}, "cuda_graphs: True, which must be False with mapping pmap"),
    ({"mapping": "vmap"}, "config.mapping: 'vmap' is none of shard_map, pmap"),
    ({"model": {"norm": ["batch"]}}, "config.model.norm: ['batch'] is none of batch, group, none"),
    ({"model": {"compute_dtype": "float16"}}, "config.model.compute_dtype: 'float16' is none of float32, bfloat16"),
    ({"model": 3}, "config.model: 3 is not a group of fields"),
    ({"model": None}, "config.model: None is not a group of fields"),
    ({"stages": "full"}, "config.stages: 'full' is not a list of names"),
    ({"stages": [1]}, "config.stages: [1] is not a list of names"),
    ({"model": {"fusion": {"layers": 3}}}, "config.model.fusion.layers: 3 is not a list of names"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=[message.split(":")[0] for _, message in REFUSED])
def test_what_is_wrong_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_dict(Config, values)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_lists_become_tuples() -> None:
    assert from_dict(FusionConfig, {"layers": ["conv1_2"]}).layers == ("conv1_2",)
    assert from_dict(Config, {"stages": ["full", "fusion"]}).stages == ("full", "fusion")


def test_there_are_recipes() -> None:
    assert ROOT / "configs" / "demo.py" in RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=[str(path.relative_to(ROOT)) for path in RECIPES])
def test_every_recipe_loads_and_says_how_it_is_run(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = module.get_config()
    assert isinstance(values, ConfigDict)
    config = from_dict(Config, values.to_dict())
    assert config.name
    assert isinstance(hash(config), int)
    assert module.__doc__
    assert "Command: " in module.__doc__ or "python " in module.__doc__


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": {"width": -1.0}}, "config.model.width: -1.0, which must be above 0"),
        ({"model": {"width": float("nan")}}, "config.model.width: nan, which must be above 0"),
        ({"model": {"side": 60}}, "config.model.side: 60, which must be a multiple of 8"),
        ({"model": {"fusion": {"head_channels": 0}}}, "config.model.fusion.head_channels: 0, which must be above 0"),
        ({"full": {"steps": -1}}, "config.full.steps: -1, which must be at least 0"),
        ({"instance": {"batch_size": 0}}, "config.instance.batch_size: 0, which must be at least 1"),
        ({"fusion": {"learning_rate": 0.0}}, "config.fusion.learning_rate: 0.0, which must be above 0"),
        ({"fusion": {"decay_start": 1.5}}, "config.fusion.decay_start: 1.5, which must be from 0 to 1"),
    ],
)
def test_sizes_that_make_no_sense(values, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        from_dict(Config, values)

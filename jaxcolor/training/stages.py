"""The three stages: which tree each trains, what it starts from, what it reads, what stays frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flax import traverse_util

from jaxcolor.batch import Array
from jaxcolor.config import Config, ConfigError, StageConfig
from jaxcolor.data.loader import Parts
from jaxcolor.models.backbone import Siggraph17

Path = tuple[str, ...]


class Stage(NamedTuple):
    """One training stage; the tree it trains bears its name."""

    name: str
    parts: Parts
    """Parts of a batch that it reads."""
    needs: tuple[str, ...]
    """Trees that must exist before it starts."""
    frozen: tuple[str, ...]
    """Trees that its step reads and does not train."""


STAGES = {
    "full": Stage("full", parts="full", needs=(), frozen=()),
    "instance": Stage("instance", parts="instance", needs=("full",), frozen=()),
    "fusion": Stage("fusion", parts="both", needs=("full", "instance"), frozen=("instance",)),
}


def stages_of(config: Config) -> list[Stage]:
    """The stages that a config runs.

    Raises:
      ConfigError: an unknown stage, none at all, or stages out of order.
    """
    order = list(STAGES)
    unknown = [name for name in config.stages if name not in STAGES]
    if unknown or not config.stages:
        raise ConfigError(f"config.stages: {unknown or 'empty'}; give some of {', '.join(order)}")
    if sorted(set(config.stages), key=order.index) != list(config.stages):
        raise ConfigError(f"config.stages: {list(config.stages)} is out of order; the order is {', '.join(order)}")
    return [STAGES[name] for name in config.stages]


def stage_config(config: Config, stage: Stage) -> StageConfig:
    """The stage's own part of the config."""
    return {"full": config.full, "instance": config.instance, "fusion": config.fusion}[stage.name]


def starting_tree(stage: Stage, trees: Mapping[str, Any], fresh: Mapping[str, Any]) -> dict[str, Any]:
    """The variables a stage starts from (paper, section 4.4).

    Args:
      stage: the stage to start.
      trees: trees that exist already; one of the stage's own is continued.
      fresh: newly initialised trees.

    Returns:
      Stage full: fresh. Instance: a copy of full. Fusion: its trunk a copy of full, its heads fresh. A copy leaves out
      what the new tree does not have (the class head).
    """
    if stage.name in trees:
        return dict(trees[stage.name])
    if stage.name == "full":
        return dict(fresh["full"])
    prefix = ("trunk",) if stage.name == "fusion" else ()
    target = traverse_util.flatten_dict(dict(fresh[stage.name]))
    for (collection, *path), value in traverse_util.flatten_dict(dict(trees["full"])).items():
        place = (collection, *prefix, *path)
        if place in target:
            target[place] = value
    return traverse_util.unflatten_dict(target)


def is_trained(path: Path, trained: str, output_layers: tuple[str, ...] = Siggraph17.output_layers) -> bool:
    """Whether a parameter of the stage's tree is trained under ``StageConfig.trained``.

    Args:
      path: of the parameter.
      trained: the setting.
      output_layers: the backbone's layers that ``fusion_and_output`` trains with the weight heads: of the reference
        ``model10`` and ``model_out``, as its authors' code does.
    """
    if trained == "all" or path[0].startswith("fuse_"):
        return True
    return trained == "fusion_and_output" and path[0] == "trunk" and path[1] in output_layers


def partition(
    params: Mapping[str, Any], trained: str, output_layers: tuple[str, ...] = Siggraph17.output_layers
) -> tuple[dict[Path, Array], dict[Path, Array]]:
    """Flat trained and frozen parameters (``is_trained``); only the first are differentiated."""
    flat = traverse_util.flatten_dict(dict(params))
    chosen = {path for path in flat if is_trained(path, trained, output_layers)}
    return (
        {path: value for path, value in flat.items() if path in chosen},
        {path: value for path, value in flat.items() if path not in chosen},
    )


def merge(trained: Mapping[Path, Any], frozen: Mapping[Path, Any]) -> dict[str, Any]:
    """The inverse of ``partition``."""
    return traverse_util.unflatten_dict({**trained, **frozen})

"""The three stages: which tree each trains, what it starts from, what it reads, what stays frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flax import traverse_util

from jaxcolor.batch import Array
from jaxcolor.config import Config, ConfigError, StageConfig
from jaxcolor.data.loader import Parts

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

OUTPUT_BLOCK = (("trunk", "conv10_2"), ("trunk", "output"))
"""The reference's ``model10`` and ``model_out``, trained with the weight heads as released."""


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


def is_trained(path: Path, trained: str) -> bool:
    """Whether a parameter of the stage's tree is trained under ``StageConfig.trained``."""
    if trained == "all":
        return True
    return path[0].startswith("fuse_") or (trained == "fusion_and_output" and path[:2] in OUTPUT_BLOCK)


def partition(params: Mapping[str, Any], trained: str) -> tuple[dict[Path, Array], dict[Path, Array]]:
    """Flat trained and frozen parameters; only the first are differentiated."""
    flat = traverse_util.flatten_dict(dict(params))
    return (
        {path: value for path, value in flat.items() if is_trained(path, trained)},
        {path: value for path, value in flat.items() if not is_trained(path, trained)},
    )


def merge(trained: Mapping[Path, Any], frozen: Mapping[Path, Any]) -> dict[str, Any]:
    """The way back from ``partition``."""
    return traverse_util.unflatten_dict({**trained, **frozen})

"""The three stages: the tree each trains, what it starts from, what it reads, what stays frozen, how long it is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flax import traverse_util

from jaxcolor.batch import Array
from jaxcolor.config import Config, ConfigError, StageConfig
from jaxcolor.data.loader import Parts
from jaxcolor.data.types import Source
from jaxcolor.models.backbone import Backbone, Siggraph17, backbone_class
from jaxcolor.runtime.text import counted

Path = tuple[str, ...]


class Stage(NamedTuple):
    """One training stage; the tree it trains has its name."""

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
    """The stages that a config runs, in order.

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


def check_stage(config: Config, stage: Stage, device_count: int) -> None:
    """Check what can be known of a stage's settings before anything is computed.

    Raises:
      ConfigError: a batch that cannot be split over the devices, or settings of stage and data that exclude each other.
    """
    settings = stage_config(config, stage)
    if settings.batch_size % (device_count * settings.accumulate):
        parts = f", each in {settings.accumulate} parts (accumulate)" if settings.accumulate > 1 else ""
        raise ConfigError(
            f"{stage.name}.batch_size: {settings.batch_size} photos cannot be split evenly over "
            f"{device_count} devices{parts}"
        )
    if stage.name == "fusion" and config.model.fusion.strategy == "truth_mask" and not config.data.masks:
        raise ConfigError(
            "model.fusion.strategy: 'truth_mask' weighs by annotated masks; set data.masks (and data.box_choice "
            "'ground_truth')"
        )
    if settings.trained == "fusion_and_decoder" and not backbone_class(config.model).decoder_layers:
        raise ConfigError(
            f"{stage.name}.trained: backbone {config.model.backbone!r} does not say which layers are its decoder "
            "(decoder_layers)"
        )
    if settings.flip and config.data.source == "scenes":
        raise ConfigError(f"{stage.name}.flip: a mirrored scene shows other classes in the same colors")


def steps_of(epochs: float, photos: int, batch_size: int) -> int:
    """Steps in which ``photos`` photos are seen ``epochs`` times, rounded up; at least 1."""
    # Rounded first, so that 0.1 epochs of 30 photos at batch size 3 are 1 step and not 1.0000000000000002.
    return max(1, math.ceil(round(epochs * photos / batch_size, 6)))


def resolve_epochs(config: Config, stages: Sequence[Stage], source: Source) -> tuple[Config, list[str]]:
    """The config with steps in place of epochs, and a line about it for every stage that gives epochs."""
    lines: list[str] = []
    for stage in stages:
        settings = stage_config(config, stage)
        if settings.minutes:  # how many steps that makes is not known
            timed: Any = {stage.name: dataclasses.replace(settings, steps=0)}
            config = dataclasses.replace(config, **timed)
        if not settings.epochs:
            continue
        # Photos without boxes are seen only where no crop is needed.
        photos = len(source) if stage.parts == "full" else len(source.with_boxes())
        steps = steps_of(settings.epochs, photos, settings.batch_size)
        lines.append(
            f"stage {stage.name}: {settings.epochs:g} epochs of {counted(photos, 'photo')}, "
            f"batch size {settings.batch_size}: {counted(steps, 'step')}"
        )
        changed: Any = {stage.name: dataclasses.replace(settings, steps=steps, epochs=0.0)}
        config = dataclasses.replace(config, **changed)
    return config, lines


def starting_tree(stage: Stage, trees: Mapping[str, Any], fresh: Mapping[str, Any]) -> dict[str, Any]:
    """The variables a stage starts from (paper, section 4.4).

    Args:
      stage: the stage to start.
      trees: trees that exist already; the stage's own is continued if it is among them.
      fresh: newly initialized trees.

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
        if (collection, *prefix, *path) in target:
            target[collection, *prefix, *path] = value
    return traverse_util.unflatten_dict(target)


def is_trained(path: Path, trained: str, backbone: type[Backbone] = Siggraph17) -> bool:
    """Whether a parameter of the stage's tree is trained under ``StageConfig.trained``.

    Args:
      path: of the parameter.
      trained: the setting.
      backbone: says which of its layers ``fusion_and_output`` and ``fusion_and_decoder`` train with the weight heads.
    """
    if trained == "all" or path[0].startswith("fuse_"):
        return True
    layers = {"fusion_and_output": backbone.output_layers, "fusion_and_decoder": backbone.decoder_layers}
    return path[0] == "trunk" and path[1] in layers.get(trained, ())


def partition(
    params: Mapping[str, Any], trained: str, backbone: type[Backbone] = Siggraph17
) -> tuple[dict[Path, Array], dict[Path, Array]]:
    """Flat trained and frozen parameters (``is_trained``); only the first are differentiated."""
    flat = traverse_util.flatten_dict(dict(params))
    chosen = {path for path in flat if is_trained(path, trained, backbone)}
    return (
        {path: value for path, value in flat.items() if path in chosen},
        {path: value for path, value in flat.items() if path not in chosen},
    )


def merge(trained: Mapping[Path, Any], frozen: Mapping[Path, Any]) -> dict[str, Any]:
    """The inverse of ``partition``."""
    return traverse_util.unflatten_dict({**trained, **frozen})

"""What an ablation compares: one base config, and variants of it by name."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

from flax import traverse_util

from jaxcolor.config import Config, ConfigError, ModelConfig
from jaxcolor.config_io import from_dict, setting_differences, to_dict
from jaxcolor.models import networks
from jaxcolor.models.backbone import backbone_class
from jaxcolor.training.stages import is_trained

SHARED = "shared"
"""Folder of the stages that are trained once for all variants."""

FUSION_ALONE = ("fusion",)
"""``Config.stages`` of a variant that starts from what all share."""

_NO_NUMBERS = (
    *("name", "log_every", "eval_every", "profile_steps", "patience", "checkpoint_every", "keep_checkpoints"),
    *("keep_every", "keep_best", "resume", "other_data", "mapping", "cuda_graphs"),
)
_SHOWN = ("sheet_photos", "published", "fid_truth")
_READING = ("threads", "workers", "index_path")
"""Fields that change no number: what is logged, kept and read in what way."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """One thing to compare."""

    name: str = ""
    """Its folder and its row of the table: letters, digits, ``.``, ``_`` and ``-``."""
    overrides: dict = dataclasses.field(default_factory=dict)
    """Fields of the base config by their path, ``model.fusion.strategy``, and their values."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name) or self.name == SHARED:
            raise ConfigError(f"name: {self.name!r}; letters, digits, . _ and - (it names a folder), not {SHARED!r}")


@dataclasses.dataclass(frozen=True)
class Ablation:
    """Variants of one config."""

    name: str = ""
    base: Config = Config(stages=FUSION_ALONE)  # noqa: RUF009 (immutable)
    """What all variants have in common. ``stages`` are those that a variant trains for itself; one whose stage fusion
    has 0 steps, or nothing to train, is measured as it starts. A variant with more stages shares no start."""
    shared: tuple[str, ...] = ("full", "instance")
    """Stages trained once, with ``base``, for variants that train fusion alone. Empty: ``base.start_from`` has both
    trees."""
    variants: tuple = ()
    """``Variant`` after ``Variant``."""
    baseline: str = ""
    """The variant that the others are compared with."""
    metrics: tuple[str, ...] = ("psnr", "ssim", "lpips_alex", "delta_e_2000", "psnr_objects", "psnr_background")
    """Columns of the table, those that were measured; empty: all. ``ablation.json`` has all in any case."""
    seeds: int = 1
    """How often each variant is trained: the k-th time with ``seed`` and ``data.seed`` raised by k, from 0. Scenes to
    train on are then other ones; the photos of ``eval`` stay the same."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"seeds: {self.seeds}, which must be at least 1")
        stages = ("full", "instance")
        if self.shared != stages and (self.shared or not self.base.start_from):
            raise ConfigError(f"shared: {self.shared}, which must be {stages}, or () where base.start_from is given")


@dataclasses.dataclass(frozen=True)
class Planned:
    """A variant with its whole config, for seed 0."""

    name: str
    config: Config
    weights_of: str
    """The variant that trains its weights: itself, or an earlier one that differs in ``eval`` alone."""

    def seeded(self, seed: int) -> Config:
        """The config for one of the seeds."""
        data = dataclasses.replace(self.config.data, seed=self.config.data.seed + seed)
        return dataclasses.replace(self.config, seed=self.config.seed + seed, data=data)


def plan(ablation: Ablation) -> list[Planned]:
    """The configs of all variants.

    Raises:
      ConfigError: a variant that cannot be: names the variant and the field.
    """
    planned: list[Planned] = []
    for number, entry in enumerate(ablation.variants):
        variant = entry if isinstance(entry, Variant) else from_dict(Variant, entry, f"variants[{number}]")
        if any(p.name == variant.name for p in planned):
            raise ConfigError(f"variants[{number}].name: a second {variant.name!r}")
        config = overridden(ablation.base, variant)
        if config.stages == FUSION_ALONE:
            _check_shared(ablation.base, config, variant)
        if config.model.fusion.strategy == "truth_mask" and not (config.data.masks and config.eval.data.masks):
            raise ConfigError(
                f"variant {variant.name}: model.fusion.strategy 'truth_mask' weighs by annotated masks; set data.masks "
                "and eval.data.masks (and box_choice 'ground_truth' in both)"
            )
        same = (p.name for p in planned if training_identity(p.config) == training_identity(config))
        planned.append(Planned(variant.name, config, next(same, variant.name)))
    names = [p.name for p in planned]
    if ablation.baseline not in names:
        raise ConfigError(f"baseline: {ablation.baseline!r} is no variant; there is {', '.join(names) or 'none'}")
    return planned


def overridden(base: Config, variant: Variant) -> Config:
    """The base config with a variant's fields put in.

    Raises:
      ConfigError: no such field, or a value that it cannot have.
    """
    values = to_dict(base)
    for path, value in variant.overrides.items():
        *groups, field = path.split(".")
        group = values
        for name in groups:
            group = group.setdefault(name, {})
            if not isinstance(group, dict):
                raise ConfigError(f"variant {variant.name}: {path}: {name} is a value, not a group of fields")
        group[field] = value
    return from_dict(Config, values, f"variant {variant.name}: config")


def _check_shared(base: Config, config: Config, variant: Variant) -> None:
    """Nothing may differ that shared stages, trained with the base config, would have read."""
    ours, theirs = to_dict(base), to_dict(config)
    read = ("full", "instance", "start_from", "start_form")
    before = {name: ours[name] for name in read} | {"model": _backbone(ours["model"])}
    after = {name: theirs[name] for name in read} | {"model": _backbone(theirs["model"])}
    differing = setting_differences(before, after)
    if differing:
        raise ConfigError(
            f"variant {variant.name}: {differing[0]}: the variants start from the same weights; to train a variant "
            "from another start, name its stages: 'stages': ('full', 'instance', 'fusion')"
        )


def _backbone(model: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in model.items() if name not in ("fusion", "head_init", "compute_dtype")}


def identity(config: Config) -> dict[str, Any]:
    """All of a config that decides the numbers of a run and of its evaluation."""
    values = {name: value for name, value in to_dict(config).items() if name not in _NO_NUMBERS}
    values["data"] = _data(values["data"])
    values["eval"] = {**values["eval"], "data": _data(values["eval"]["data"])}
    values["eval"] = {name: value for name, value in values["eval"].items() if name not in _SHOWN}
    return values


def training_identity(config: Config) -> dict[str, Any]:
    """All of a config that decides the weights of a run."""
    return {name: value for name, value in identity(config).items() if name != "eval"}


def _data(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _READING}


def trains(config: Config) -> bool:
    """Whether a variant trains anything: stage fusion can have no steps, or nothing of its tree to train."""
    if config.stages != FUSION_ALONE:
        return True
    length = config.fusion.steps or config.fusion.epochs or config.fusion.minutes
    return bool(length) and _has_trained(config.model, config.fusion.trained)


@functools.lru_cache(maxsize=32)
def _has_trained(model: ModelConfig, trained: str) -> bool:
    """Whether the fusion tree has parameters that stage fusion trains; fusion strategies may have none."""
    paths = traverse_util.flatten_dict(networks.abstract(model)["fusion"]["params"])
    return any(is_trained(path, trained, backbone_class(model)) for path in paths)

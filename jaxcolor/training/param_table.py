"""A table of what a stage trains and what is frozen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from jaxcolor.config import StageConfig
from jaxcolor.models.backbone import Backbone, Siggraph17
from jaxcolor.runtime.text import aligned
from jaxcolor.training.optimizer import rate_factor
from jaxcolor.training.stages import Stage, is_trained

_HEADER = ("tree", "modules", "parameters", "state", "learning rate")
_LAST = {"output": 11, "classes": 12}
"""Modules of a backbone without a block number, and their rank after the ten blocks."""


class _Group(NamedTuple):
    """Modules of one row. Sorted: trunk before weight heads, blocks from input to output."""

    heads: bool
    rank: int
    trained: bool
    factor: float
    """Of the learning rate."""


def param_table(
    stage: Stage,
    trees: Mapping[str, Any],
    settings: StageConfig,
    backbone: type[Backbone] = Siggraph17,
    rates: tuple[tuple[str, float], ...] = (),
) -> str:
    """Modules, parameters, trained or frozen, learning rate: of the tree that a stage trains, then of its frozen trees.

    Args:
      stage: the stage.
      trees: its own tree and its frozen ones, {"params": …, "batch_stats": …}; arrays or shapes.
      settings: of the stage.
      backbone: whose layers they are.
      rates: ``OptimizerConfig.rates``.

    Returns:
      Aligned lines: one for each block of a backbone and each weight head (more for a block of which some modules are
      frozen or have another learning rate), one for each frozen tree, and the totals.
    """
    fused = [f"fuse_{tap.name}" for tap in backbone.taps]
    groups: dict[_Group, dict[str, int]] = {}
    for path, value in traverse_util.flatten_dict(dict(trees[stage.name]["params"])).items():
        trained = is_trained(path, settings.trained, backbone)
        group = _group(path, trained, rate_factor("/".join(path), rates) if trained else 1.0, fused)
        name = "/".join(path[: 2 if path[0] == "trunk" else 1])
        sizes = groups.setdefault(group, {})
        sizes[name] = sizes.get(name, 0) + _size(value)
    rows: list[tuple[str, ...]] = []
    for group, sizes in sorted(groups.items()):
        state = ("trained", f"{settings.learning_rate * group.factor:g}") if group.trained else ("frozen", "")
        rows.append((stage.name, _names(sizes), f"{sum(sizes.values()):,}", *state))
    for tree in stage.frozen:
        size = sum(map(_size, traverse_util.flatten_dict(dict(trees[tree]["params"])).values()))
        rows.append((tree, "all, read only", f"{size:,}", "frozen", ""))
    counts = {
        trained: sum(sum(sizes.values()) for group, sizes in groups.items() if group.trained == trained)
        for trained in (True, False)
    }
    rows.append(("", "total trained", f"{counts[True]:,}", "", ""))
    rows.append(("", f"total frozen in {stage.name}", f"{counts[False]:,}", "", ""))
    # Numbers end, words begin at the same place.
    return "\n".join([*aligned([_HEADER, *rows], left=(0, 1, 3), indent="  "), *_remarks(stage, trees, groups)])


def _group(path: tuple[str, ...], trained: bool, factor: float, fused: list[str]) -> _Group:
    module = path[1] if path[0] == "trunk" else path[0]
    if module in fused:
        return _Group(True, fused.index(module), trained, factor)
    # conv8_up, conv8_2, short3_8 and norm8 are of block 8.
    block = re.fullmatch(r"(?:conv|norm)(\d+).*|short\d+_(\d+)", module)
    return _Group(False, int(block[1] or block[2]) if block else _LAST.get(module, len(_LAST) + 11), trained, factor)


def _names(modules: Mapping[str, int]) -> str:
    """Module names, their common trunk named once."""
    trunk = "trunk: " if all(name.startswith("trunk/") for name in modules) else ""
    return trunk + " ".join(sorted(name.removeprefix("trunk/") for name in modules))


def _size(value: Any) -> int:
    return int(np.prod(value.shape))


def _remarks(stage: Stage, trees: Mapping[str, Any], groups: Mapping[_Group, Mapping[str, int]]) -> list[str]:
    remarks = []
    has_weights = "classes" in trees[stage.name].get("batch_stats", {})  # of colors: only a trained head has them
    if any("classes" in sizes for sizes in groups.values()) and not has_weights:
        remarks.append("  classes: no loss reads it, its gradient is 0")
    if trees[stage.name].get("batch_stats"):
        state = "are fixed" if stage.name == "fusion" else "are updated"
        remarks.append(f"  BatchNorm's running statistics {state}")
    return remarks

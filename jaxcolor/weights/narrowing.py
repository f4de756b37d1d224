"""A narrower network out of a trained one: of each layer the channels that matter most (Li et al. 2017).

"Pruning Filters for Efficient ConvNets" keeps the filters of the largest L1 norm. Here a channel's importance is what
it carries and how much its readers make of it: its filter's L1 norm, or |scale| where a norm comes last, times the L1
norm of the kernels that read it. ReLU between the two leaves that product alone when a factor moves from one layer to
the next. Layers whose outputs are added keep the same channels, and so do all their readers.

What is cut out changes the sums that follow, so the result is no good network yet but a start: kernels of each reader
grow by what they lost in L1 norm, and a block's norm has the statistics of the channels that are kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from jaxcolor.config import ConfigError, ModelConfig
from jaxcolor.models import networks
from jaxcolor.weights import packaged
from jaxcolor.weights.native import NativeWeights

NAME = "narrowed"
"""What ``start_from`` calls it: ``narrowed:WEIGHTS``."""

_CHAIN = (
    *(f"conv{block}_{i + 1}" for block, count in enumerate((2, 2, 3, 3, 3, 3, 3), 1) for i in range(count)),
    *("conv8_up", "conv8_2", "conv8_3", "conv9_up", "conv9_3", "conv10_up", "conv10_2", "output"),
)
READS = {
    **dict(zip(_CHAIN[1:], _CHAIN, strict=False)),
    **{"short3_8": "conv3_3", "short2_9": "conv2_2", "short1_10": "conv1_2", "classes": "conv8_3"},
}
"""Layer -> the layer whose channels it reads, in the reference's backbone."""
ADDED = {"short3_8": "conv8_up", "short2_9": "conv9_up", "short1_10": "conv10_up"}
"""Layer -> the one to whose output its own is added."""
NORMS = {f"conv{block}_{count}": f"norm{block}" for block, count in enumerate((2, 2, 3, 3, 3, 3, 3, 3, 3), 1)}
"""Last layer of a block -> its norm."""


def is_named(start_from: str) -> bool:
    """Whether ``start_from`` asks for a narrowed network."""
    return start_from.startswith(f"{NAME}:")


def load(start_from: str, model: ModelConfig) -> NativeWeights:
    """The full-image network that ``narrowed:WEIGHTS`` names, at the width and canvas of ``model``.

    Raises:
      ConfigError: as ``narrow``, or it has no full-image network.
      OSError, WeightsError: as ``packaged.load``.
    """
    wide = packaged.load(start_from.removeprefix(f"{NAME}:"))
    if "full" not in wide.variables:
        raise ConfigError(f"start_from: {start_from}: has no full-image network")
    ours = dataclasses.replace(wide.config, width=model.width, side=model.side)
    return wide._replace(config=ours, variables={"full": narrow(wide.variables["full"], wide.config, ours)})


def narrow(tree: Mapping[str, Any], theirs: ModelConfig, ours: ModelConfig) -> dict[str, Any]:
    """The tree ``full`` of a narrower model.

    Args:
      tree: of the trained network, NumPy arrays.
      theirs: its config; the reference's backbone.
      ours: that of the result; the same but for the width.

    Raises:
      ConfigError: another backbone, or a width above the trained one's.
    """
    if theirs.backbone != "reference" or ours.width > theirs.width:
        raise ConfigError(
            f"start_from: {NAME}: from backbone {theirs.backbone!r} of width {theirs.width:g} to width {ours.width:g}; "
            "only the reference's backbone can be narrowed"
        )
    flat = traverse_util.flatten_dict(dict(tree))
    shapes = {path: like.shape for path, like in traverse_util.flatten_dict(networks.abstract(ours)["full"]).items()}
    params = {path[1:]: np.asarray(value) for path, value in flat.items() if path[0] == "params"}
    kept = {
        layer: _most_important(layer, params, shapes["params", layer, "bias"][0])
        for layer in _CHAIN
        if layer != "output"
    }

    def cut(path: tuple[str, ...], value: np.ndarray) -> np.ndarray:
        layer, part = path[-2:]
        owner = next((conv for conv, norm in NORMS.items() if norm == layer), ADDED.get(layer, layer))
        if part != "kernel":
            return value[kept[owner]] if owner in kept else value
        outputs, inputs = (-2, -1) if layer.endswith("_up") else (-1, -2)
        if owner in kept:
            value = np.take(value, kept[owner], axis=outputs)
        if layer not in READS:
            return value
        left = np.take(value, kept[READS[layer]], axis=inputs)
        before, after = _norms(value, outputs), _norms(left, outputs)
        return left * np.divide(before, after, out=np.ones_like(after), where=after > 0)

    return traverse_util.unflatten_dict(
        {path: np.ascontiguousarray(cut(path, np.asarray(value)), dtype=value.dtype) for path, value in flat.items()}
    )


def _norms(kernel: np.ndarray, axis: int) -> np.ndarray:
    """L1 norm over all other axes, which stay with size 1."""
    others = tuple(i for i in range(kernel.ndim) if i != axis % kernel.ndim)
    return np.abs(kernel).sum(axis=others, keepdims=True)


def _most_important(layer: str, params: Mapping[tuple[str, ...], np.ndarray], count: int) -> np.ndarray:
    """The channels of a layer to keep, ascending."""

    def norms(name: str, output: bool) -> np.ndarray:
        return _norms(params[name, "kernel"], -2 if output == name.endswith("_up") else -1).ravel()

    norm = NORMS.get(layer)
    if norm is not None and (norm, "scale") in params:
        carried = np.abs(params[norm, "scale"])
    else:
        carried = sum(norms(name, output=True) for name in (layer, *(a for a, b in ADDED.items() if b == layer)))
    read = sum(norms(name, output=False) for name, source in READS.items() if source == layer)
    return np.sort(np.argsort(-carried * read, kind="stable")[:count])

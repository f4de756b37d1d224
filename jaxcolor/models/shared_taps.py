"""Where two networks compute the same, so that one can serve the other."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import jax

from jaxcolor.config import ModelConfig
from jaxcolor.models.backbone import backbone_class
from jaxcolor.models.fusion import fused_taps


def shared_taps(variables: Mapping[str, Any], config: ModelConfig) -> tuple[str, ...]:
    """Taps at which the full-image and the fusion network compute the same: there one can serve the other.

    The encoder's before the first that is fused, where the two trees have the very same arrays in it, as weights whose
    fusion network was trained in its decoder alone (``weights.aliases``). Decided from the variables once, before any
    program is compiled: equal numbers in different arrays are not looked for.

    Args:
      variables: as read or ``frozen``, where trees that share an array have the same object.
      config: of the model.
    """
    if not {"full", "fusion"} <= set(variables):
        return ()
    kind, fused = backbone_class(config), fused_taps(config)
    later = {*kind.decoder_layers, *kind.output_layers}

    def encoder(tree: Mapping[str, Any]) -> dict[Any, Any]:
        leaves = jax.tree_util.tree_leaves_with_path(dict(tree))
        return {path: leaf for path, leaf in leaves if path[0].key not in later}

    for collection, of_full in variables["full"].items():
        ours, theirs = encoder(of_full), encoder(variables["fusion"][collection].get("trunk", {}))
        if ours.keys() != theirs.keys() or any(leaf is not theirs[path] for path, leaf in ours.items()):
            return ()
    same = itertools.takewhile(lambda tap: tap.part == "encoder" and tap.name not in fused, kind.taps)
    return tuple(tap.name for tap in same)

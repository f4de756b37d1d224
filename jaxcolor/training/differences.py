"""How a checkpoint differs from what a run needs, told line by line: settings, and arrays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def setting_differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], where: str = "") -> list[str]:
    """A line for every setting that differs: ``name: theirs -> ours``."""
    lines: list[str] = []
    for key in sorted({*theirs, *ours}):
        old, new = theirs.get(key), ours.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += setting_differences(old, new, f"{where}{key}.")
        elif old != new:
            lines.append(f"{where}{key}: {old!r} -> {new!r}")
    return lines


def with_defaults(theirs: Mapping[str, Any], ours: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """``theirs``, and those fields of ``ours`` that its version did not have yet, at their defaults.

    A new field's default is what was done before there was the field.
    """
    filled = dict(theirs)
    for key in ours.keys() & defaults.keys():
        if key not in filled:
            filled[key] = defaults[key]
        elif all(isinstance(tree[key], Mapping) for tree in (filled, ours, defaults)):
            filled[key] = with_defaults(filled[key], ours[key], defaults[key])
    return filled


Shapes = dict[tuple[str, str, str], str]
"""(What an array is, its module, its name) -> type and shape: ``('params', 'conv1_1', 'kernel')`` -> ``float32[3,3]``.
"""


def array_shapes(variables: Any, opt_state: Any) -> Shapes:
    """The arrays of a state, or of Orbax's metadata of one: anything whose leaves have a shape and a dtype."""
    found: Shapes = {}
    for prefix, tree in (("", variables), ("optimizer", opt_state)):
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            keys = [_key(entry) for entry in path]
            # The optimizer's arrays bear a parameter's whole path in their last key; split, they group with it.
            kind, rest = ([prefix, *keys[:-1]], keys[-1].split("/")) if prefix else (keys[:1], keys[1:])
            name = f"{np.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"
            found[" ".join(kind), "/".join(rest[:-1]), rest[-1] if rest else ""] = name
    return found


def _key(entry: Any) -> str:
    """A step of a path by its bare name: a named tuple that was stored comes back as a dict, a tuple as a list."""
    return str(next(getattr(entry, kind) for kind in ("key", "name", "idx") if hasattr(entry, kind)))


def shape_differences(theirs: Shapes, ours: Shapes) -> list[str]:
    """Every array that the run needs and the checkpoint lacks (-), that is left over (+), or of another shape (!).

    Arrays that differ alike share a line, so that a model of another width is a page and not a flood; each is named.
    """
    return [
        *_grouped("- missing", {key: shape for key, shape in ours.items() if key not in theirs}),
        *_grouped("+ left over", {key: shape for key, shape in theirs.items() if key not in ours}),
        *_grouped(
            "! other shape",
            {k: f"{theirs[k]} -> {shape}" for k, shape in ours.items() if k in theirs and theirs[k] != shape},
        ),
    ]


def _grouped(title: str, arrays: Shapes) -> list[str]:
    # The names of one module go together, then kinds with equal lists (parameters and the optimizer's copies of them),
    # then modules with equal lists.
    names, kinds, modules = (defaultdict[tuple[str, str], list[str]](list) for _ in range(3))
    for (kind, module, name), shape in sorted(arrays.items()):
        names[module, kind].append(f"{name} {shape}".strip())
    for (module, kind), described in names.items():
        kinds[module, ", ".join(described)].append(kind)
    for (module, body), alike in kinds.items():
        modules[", ".join(alike), body].append(module)
    return [
        f"{title}: {', '.join(places)} ({alike}): {body}".replace(":  (", ": (")
        for (alike, body), places in modules.items()
    ]

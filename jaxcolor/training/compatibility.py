"""Whether a checkpoint fits the run that would resume from it: settings, arrays, starting weights, number of steps."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxcolor.config import Config, StageConfig
from jaxcolor.config_io import from_dict, to_dict
from jaxcolor.registries import SOURCES
from jaxcolor.training.optimizer import learning_rate
from jaxcolor.training.stages import Stage

Settings = Mapping[str, Any]
Shapes = dict[tuple[str, str, str], str]
"""(Kind of array, its module, its name) -> type and shape: ``('params', 'conv1_1', 'kernel')`` -> ``float32[3,3]``."""


PLACES = frozenset({"path", "data_dir", "list_path"}) | {
    f"{boxes}_{field}" for boxes in ("boxes", "truth_boxes") for field in ("path", "format")
}
"""Fields of the data that say where photos and boxes lie. What is there decides the numbers (``PhotoSource.identity``):
the same photos under another path, or on another machine, are the same."""


def stage_settings(config: Config, stage: Stage) -> dict[str, Any]:
    """The part of a config that decides the numbers of a stage: what a resumed run must have in common with it."""
    values = to_dict(config)
    common = ("seed", "sync_batch_norm", "low_chroma", "objective", "hints", "optimizer", "model")
    # How fast photos are read, and where their sizes are cached, changes no number.
    left_out = {"threads", "workers", "index_path"}
    if config.data.source in SOURCES.names:  # whose identity holds what is there
        left_out |= PLACES
    data = {k: v for k, v in values["data"].items() if k not in left_out}
    objective = {k: _content(v) if k in ("prior", "vgg16", "teacher") else v for k, v in values["objective"].items()}
    found = {"stage": stage.name, **{k: values[k] for k in common}, "data": data, stage.name: values[stage.name]}
    return {**found, "objective": objective}


def _content(name: str) -> str:
    """A digest of the file that a setting names, wherever it lies; the setting itself where that is no file."""
    path = Path(name.partition(":")[2] or name)
    if not name or not path.is_file():
        return name
    with path.open("rb") as file:
        return f"{path.suffix} {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def tree_digests(trees: Mapping[str, Any]) -> dict[str, str]:
    """Tree name -> 16 hexadecimal digits of the SHA-256 of its paths, types, shapes and numbers."""
    return {name: _digest(tree) for name, tree in sorted(trees.items())}


def _digest(tree: Any) -> str:
    found = hashlib.sha256()
    for path, value in sorted(traverse_util.flatten_dict(tree).items()):
        array = np.asarray(value, order="C")
        found.update(f"{'/'.join(path)} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()[:16]


def reconcile_steps(
    theirs: Settings, ours: Settings, stage: Stage, step: int, dependents: Mapping[str, Path]
) -> tuple[Settings, Sequence[str]]:
    """Allow a stage to be lengthened or shortened where the steps already taken would have been the same.

    Args:
      theirs: the settings of a checkpoint.
      ours: those of the run that would resume from it.
      stage: whose checkpoint it is.
      step: of the checkpoint.
      dependents: stages that started from this one's result -> the folders of their checkpoints.

    Returns:
      The checkpoint's settings, with our ``steps`` if that is allowed; otherwise unchanged, and the reason.
    """
    old = theirs.get(stage.name)
    if not isinstance(old, Mapping) or "steps" not in old or old["steps"] == ours[stage.name]["steps"]:
        return theirs, ()
    new = from_dict(StageConfig, ours[stage.name], stage.name)
    reason = _why_not(stage, dataclasses.replace(new, steps=old["steps"]), new, step, dependents)
    if reason:
        return theirs, (reason,)
    return {**theirs, stage.name: {**old, "steps": new.steps}}, ()


def _why_not(stage: Stage, old: StageConfig, new: StageConfig, step: int, dependents: Mapping[str, Path]) -> str:
    """Why the number of steps cannot change; empty if it can."""
    if new.steps < step:
        return f"{stage.name}.steps: {step} steps are done already, so {new.steps} are too few"
    before, after = _rates(old, step), _rates(new, step)
    changed = np.flatnonzero(before != after)
    if len(changed):
        first = int(changed[0])
        return (
            f"{stage.name}.steps: its learning rate depends on how many there are, and would not have been the same in "
            f"the {step} steps done: {before[first]:.3g} -> {after[first]:.3g} in step {first + 1}; to continue from "
            "its weights, start a new run with start_from"
        )
    if dependents and step == old.steps:
        return (
            f"{stage.name}.steps: stage {' and '.join(dependents)} started from its result at step {step}; "
            f"delete {', '.join(map(str, dependents.values()))} first, to train again from the longer one"
        )
    return ""


def _rates(stage: StageConfig, step: int) -> np.ndarray:
    """The learning rates of the first steps, as a step computes them."""
    rates = jnp.asarray(learning_rate(stage)(jnp.arange(step)))  # in float32, unless in a float64 run
    return np.broadcast_to(jax.device_get(rates), (step,))


def array_shapes(variables: Any, opt_state: Any) -> Shapes:
    """Types and shapes of a state, or of Orbax's metadata of one: anything whose leaves have a shape and a dtype."""
    found: Shapes = {}
    for prefix, tree in (("", variables), ("optimizer", opt_state)):
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            keys = [_key(entry) for entry in path]
            # The last key of an optimizer's array is a parameter's whole path; split, the two are grouped together.
            kind, rest = ([prefix, *keys[:-1]], keys[-1].split("/")) if prefix else (keys[:1], keys[1:])
            name = f"{np.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"
            found[" ".join(kind), "/".join(rest[:-1]), rest[-1] if rest else ""] = name
    return found


def _key(entry: Any) -> str:
    """One entry of a path by its bare name: a named tuple that was stored comes back as a dict, a tuple as a list."""
    return str(next(getattr(entry, kind) for kind in ("key", "name", "idx") if hasattr(entry, kind)))


def shape_differences(theirs: Shapes, ours: Shapes) -> list[str]:
    """Every array that the run needs and the checkpoint lacks (-), that is left over (+), or of another shape (!).

    Arrays that differ alike share a line, so that a model of another width fills a page and no more; each is named.
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
        f"{title}: {', '.join(where)} ({alike}): {body}".replace(":  (", ": (")
        for (alike, body), where in modules.items()
    ]

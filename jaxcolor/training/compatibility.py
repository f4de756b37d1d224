"""The past of a stage: what it began from, and whether a change of its length would have changed the steps taken."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxcolor.config import StageConfig, from_dict
from jaxcolor.training.checkpoints import saved_steps
from jaxcolor.training.optimizer import learning_rate
from jaxcolor.training.stages import STAGES, Stage


def tree_digests(trees: Mapping[str, Any]) -> dict[str, str]:
    """Name -> a short text that tells a tree's numbers from any others."""
    return {name: _digest(tree) for name, tree in sorted(trees.items())}


def _digest(tree: Any) -> str:
    found = hashlib.sha256()
    for path, value in sorted(traverse_util.flatten_dict(tree).items()):
        array = np.asarray(value, order="C")
        found.update(f"{'/'.join(path)} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()[:16]


def reconcile_steps(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], stage: Stage, step: int, workdir: Path
) -> tuple[Mapping[str, Any], Sequence[str]]:
    """Let a stage be lengthened, or shortened, where that leaves its past as it was.

    Args:
      theirs: the settings of a checkpoint.
      ours: those of the run that would go on from it.
      stage: whose checkpoint it is.
      step: of the checkpoint.
      workdir: where stages that began from this one's result would lie.

    Returns:
      The checkpoint's settings, with our ``steps`` if they come to the same; and if not, why.
    """
    old = theirs.get(stage.name)
    if not isinstance(old, Mapping) or "steps" not in old or old["steps"] == ours[stage.name]["steps"]:
        return theirs, ()
    settings = from_dict(StageConfig, ours[stage.name], stage.name)
    reason = _why_not(stage, dataclasses.replace(settings, steps=old["steps"]), settings, step, workdir)
    if reason:
        return theirs, (reason,)
    return {**theirs, stage.name: {**old, "steps": settings.steps}}, ()


def _why_not(stage: Stage, old: StageConfig, new: StageConfig, step: int, workdir: Path) -> str:
    """Why the number of steps cannot change; empty if it can."""
    if new.steps < step:
        return f"{stage.name}.steps: {step} steps are taken already, so {new.steps} are too few"
    before, after = _rates(old, step), _rates(new, step)
    changed = np.flatnonzero(before != after)
    if len(changed):
        first = int(changed[0])
        return (
            f"{stage.name}.steps: its learning rate depends on how many there are, and would not have been the same in "
            f"the {step} steps taken: {before[first]:.3g} -> {after[first]:.3g} in step {first + 1}; to go on from its "
            "weights, begin a run with start_from"
        )
    begun = [name for name, other in STAGES.items() if stage.name in other.needs and saved_steps(workdir / name)]
    if begun and step == old.steps:
        return (
            f"{stage.name}.steps: stage {' and '.join(begun)} began from its result at step {step}; "
            f"delete {', '.join(str(workdir / name) for name in begun)} first, to train anew from the longer one"
        )
    return ""


def _rates(settings: StageConfig, step: int) -> np.ndarray:
    """The learning rates of the first steps, as a step computes them."""
    rates = jnp.asarray(learning_rate(settings)(jnp.arange(step)))  # in float32, unless in a float64 run
    return np.broadcast_to(jax.device_get(rates), (step,))

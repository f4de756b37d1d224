"""A trained network as the teacher of stage full (Hinton, Vinyals, Dean 2015, "Distilling the Knowledge").

The teacher sees exactly what the student sees: the same window of the photo, the same augmentation, the same hints
(Beyer et al. 2022, "A good teacher is patient and consistent"). Each of the student's output heads learns from the
teacher's head of that name (``OutputHead.distillation``), in place of the truth or beside it (``objective.distill``).
Teacher and student share output heads and hint mask; width, backbone and norm are each one's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from flax import traverse_util
from jaxtyping import Float

from jaxcolor.config import Config, ConfigError, ModelConfig
from jaxcolor.models import networks
from jaxcolor.models.backbone import BackboneOutput
from jaxcolor.models.outputs import classes
from jaxcolor.weights import packaged


class Teacher(NamedTuple):
    """The network that is distilled."""

    config: ModelConfig
    variables: Mapping[str, Any]
    """Its tree ``full``, NumPy arrays."""
    note: str
    """Where it is from, for people and for the notes of the student's weights."""


def check(config: Config) -> None:
    """Check what can be known of a config's distillation before anything is read.

    Raises:
      ConfigError: other stages than full.
    """
    if config.objective.teacher and config.stages != ("full",):
        raise ConfigError(
            f"objective.teacher: is for stage full alone, and stages are {', '.join(config.stages)}; train the others "
            "in a run of their own, with start_from"
        )


def load(config: Config) -> Teacher | None:
    """The teacher that ``objective.teacher`` names; None where there is none.

    Raises:
      ConfigError: it has no full-image network, lacks an output head of the student's, or has another hint mask.
      OSError: no such file, or it cannot be read.
      WeightsError: this installation has no weights of that name, or they cannot be read.
    """
    name = config.objective.teacher
    if not name:
        return None
    loaded = packaged.load(name)
    if "full" not in loaded.variables:
        raise ConfigError(f"objective.teacher: {name} has no full-image network")
    lacking = [head for head in config.model.outputs if head not in loaded.config.outputs]
    if lacking:
        raise ConfigError(
            f"objective.teacher: {name} was not trained with the output heads {', '.join(lacking)} of model.outputs; "
            f"it has {', '.join(loaded.config.outputs)}"
        )
    if loaded.config.hint_mask != config.model.hint_mask:
        raise ConfigError(
            f"model.hint_mask: {config.model.hint_mask!r}, but the teacher, {name}, was trained with "
            f"{loaded.config.hint_mask!r}; set --config.model.hint_mask={loaded.config.hint_mask}"
        )
    note = f"distilled from {packaged.described(name)}" + (f" ({loaded.note})" if loaded.note else "")
    return Teacher(loaded.config, loaded.variables["full"], note)


def with_class_weights(trees: dict[str, Any], teacher: Teacher) -> dict[str, Any]:
    """Fresh trees whose class heads have the teacher's weights of colors: its logits are rebalanced by those."""
    found = traverse_util.flatten_dict(dict(teacher.variables))
    weights = [value for path, value in found.items() if path[-1] == classes.WEIGHTS]
    flat = traverse_util.flatten_dict(trees)
    replaced = {path: np.asarray(w, flat[path].dtype) for path in flat for w in weights if path[-1] == classes.WEIGHTS}
    return traverse_util.unflatten_dict({**flat, **replaced})


def teach(
    teacher: ModelConfig, student: ModelConfig, variables: Mapping[str, Any], inputs: Float[jax.Array, "B S S 4"]
) -> dict[str, Any]:
    """What the teacher's output heads predict, in inference mode, without gradient.

    Args:
      teacher: its own config, of which the type of the computation is not read.
      student: which output heads, and the type of the computation.
      variables: the teacher's tree ``full``.
      inputs: what the student reads.
    """
    network = networks.build(dataclasses.replace(teacher, compute_dtype=student.compute_dtype)).full
    found = cast(BackboneOutput, network.apply(dict(variables), inputs, heads=student.outputs))
    return jax.lax.stop_gradient(found.outputs)

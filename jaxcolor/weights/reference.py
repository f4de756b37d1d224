"""The reference's PyTorch weights: strict translation to our variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from jaxcolor.config import ModelConfig
from jaxcolor.models import dual_branch
from jaxcolor.weights import names


class WeightsError(ValueError):
    """Weights that do not fit; the message lists every key that is missing, left over or of another shape."""


class Translated(NamedTuple):
    """One tree of variables, and the reference's arrays that no computation reads."""

    variables: dict[str, Any]
    unused: dict[str, np.ndarray]


def variables_from_state(tree: str, state: Mapping[str, np.ndarray], where: str = "") -> Translated:
    """A state dict of the reference as our tree ``full``, ``instance`` or ``fusion``.

    A leading ``module.`` (of ``nn.DataParallel``) is taken off every key. Arrays keep their type.

    Raises:
      WeightsError: keys missing, left over or of another shape, all of them listed.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    shapes = traverse_util.flatten_dict(dual_branch.abstract(ModelConfig())[tree])
    unused = {key: value for key, value in state.items() if names.UNUSED[tree].fullmatch(key)}
    wanted = {entry.reference: entry for entry in names.ENTRIES[tree]}
    missing = [f"- missing: {key}" for key in wanted if key not in state]
    extra = [f"+ left over: {key} {state[key].shape}" for key in state if key not in wanted and key not in unused]
    misshaped, arrays = [], {}
    for key in (k for k in wanted if k in state):
        path = (wanted[key].collection, *wanted[key].path)
        arrays[path] = names.from_reference(state[key])
        if arrays[path].shape != shapes[path].shape:
            expected = tuple(names.to_reference(np.empty(shapes[path].shape)).shape)
            misshaped.append(f"! wrong shape: {key} is {state[key].shape}, expected {expected}")
    if missing or extra or misshaped:
        title = f"{where or tree}: not the weights of the reference's {names.REFERENCE_NETWORKS[tree]}"
        raise WeightsError("\n  ".join([title, *missing, *extra, *misshaped]))
    return Translated(traverse_util.unflatten_dict(arrays), unused)

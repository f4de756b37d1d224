"""Exporting weights as the reference's ``.pth`` files, which PyTorch loads strictly.

The files have the format of before PyTorch 1.6, which newer versions read as well, and hold every key of the
reference's networks: those that no computation reads as they came, or, where weights were trained from nothing and
never had them, as zeros.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcolor.config import ModelConfig
from jaxcolor.models.backbone import Siggraph17
from jaxcolor.models.fusion import fused_taps
from jaxcolor.models.networks import TREES
from jaxcolor.weights import names
from jaxcolor.weights.native import NativeWeights
from jaxcolor.weights.reference import WeightsError, mismatches, state_from_variables


class WrittenFile(NamedTuple):
    """One file that was written."""

    path: Path
    made: tuple[str, ...]
    """Keys of arrays that no computation reads and the weights did not have: zeros."""


def differences(config: ModelConfig, trees: tuple[str, ...]) -> list[str]:
    """One line for every field of a config in which the networks of ``trees`` are not the reference's."""
    found: list[tuple[str, object, object]] = []
    if config.backbone != "reference":
        found.append(("backbone", config.backbone, "reference"))
    if config.width != 1:
        found.append(("width", config.width, 1.0))
    if config.norm != "batch":
        found.append(("norm", config.norm, "batch"))
    if config.compute_dtype == "float64":
        found.append(("compute_dtype", config.compute_dtype, "float32"))
    if "fusion" in trees:
        fusion = config.fusion
        if fusion.strategy != "learned":
            found.append(("fusion.strategy", fusion.strategy, "learned"))
        if fusion.outside != "zero":
            found.append(("fusion.outside", fusion.outside, "zero"))
        if set(fused_taps(config)) != {tap.name for tap in Siggraph17.taps}:
            found.append(("fusion.layers", fusion.layers, "all"))
        if fusion.head_channels != 16:
            found.append(("fusion.head_channels", fusion.head_channels, 16))
    return [f"model.{field} is {ours!r}, the reference's is {theirs!r}" for field, ours, theirs in found]


def complete_state(
    tree: str, variables: Mapping[str, Any], unused: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """A state dict with every key of the reference's network, and which of them had to be made (zeros).

    Raises:
      WeightsError: the variables, or the arrays that nothing reads, are not those of the reference's architecture.
    """
    shapes = names.unused_shapes(tree)
    state = state_from_variables(tree, variables)
    given = {key: np.asarray(value) for key, value in unused.items()}
    expected = {key: shape for key, shape in shapes.items() if key in given}
    problems = mismatches(expected, {key: value.shape for key, value in given.items()})
    problems += [
        f"! wrong type: {key} is {value.dtype}, expected {_kept_type(key)}"
        for key, value in given.items()
        if key in shapes and value.dtype != _kept_type(key)
    ]
    if problems:
        title = f"{tree}: kept arrays that the reference's {names.REFERENCE_NETWORKS[tree]} has not"
        raise WeightsError("\n  ".join([title, *problems]))
    made = {key: np.zeros(shape, _kept_type(key)) for key, shape in shapes.items() if key not in given}
    return {**state, **given, **made}, tuple(made)


def _kept_type(key: str) -> Any:
    return np.dtype(np.int64 if key.endswith("num_batches_tracked") else np.float32)


def write_reference(
    source: str | Path, weights: NativeWeights, folder: str | Path, replace: bool = False
) -> list[WrittenFile]:
    """Write the reference's file of each tree that the weights have, all of them or none.

    Args:
      source: where the weights are from, for messages.
      weights: from ``native.load``.
      folder: of the files; made if it is not there.
      replace: whether files that are there may be replaced.

    Raises:
      OSError: a file is there already, or cannot be written.
      WeightsError: networks that the reference does not have, PyTorch is not installed, or the folder has a file of a
        tree that the weights do not have, which would then seem to belong to them.
    """
    folder = Path(folder)
    wrong = differences(weights.config, weights.trees)
    if wrong:
        raise WeightsError("\n  ".join([f"{source}: not networks that the reference's code can build", *wrong]))
    paths = {tree: folder / names.REFERENCE_FILES[tree] for tree in TREES}
    for tree, path in paths.items():
        if path.exists() and tree not in weights.trees:
            raise WeightsError(f"{path}: is there, but {source} has no {tree} tree; give another folder, or remove it")
        if path.exists() and not replace:
            raise FileExistsError(errno.EEXIST, "exists; give --force to replace it", str(path))
    states = {tree: complete_state(tree, weights.variables[tree], weights.unused[tree]) for tree in weights.trees}
    try:
        import torch
    except ImportError as error:
        raise WeightsError(f"{folder}: writing .pth files needs PyTorch: pip install 'jaxcolor[torch]'") from error

    made_folder = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(folder.parent)) from error
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, "is a file; give a folder", str(folder)) from error
    temporary = {tree: folder / f".jaxcolor-{secrets.token_hex(4)}.tmp" for tree in states}
    try:
        for tree, (state, _) in states.items():
            prefix = "module." if tree == "fusion" else ""
            tensors = OrderedDict((prefix + key, torch.tensor(value)) for key, value in state.items())
            # An open file, since torch.save's own errors are not OSErrors.
            with open(temporary[tree], "xb") as file:
                torch.save(tensors, file, _use_new_zipfile_serialization=False)
        # Only when all are whole does any get its name.
        for tree, path in temporary.items():
            os.replace(path, paths[tree])
    except BaseException:
        for path in temporary.values():
            path.unlink(missing_ok=True)
        if made_folder and not any(folder.iterdir()):
            folder.rmdir()
        raise
    return [WrittenFile(paths[tree], made) for tree, (_, made) in states.items()]

"""Pretrained weights that a run starts from: our own files, the authors' ``.pth`` files, siggraph17, VGG16."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcolor.config import Config, ConfigError, ModelConfig
from jaxcolor.config_io import setting_differences, to_dict
from jaxcolor.data.types import Source
from jaxcolor.models.backbone import parameter_type
from jaxcolor.weights import narrowing, native, reference, vgg16
from jaxcolor.weights.locate import find_weights, leads_to_run
from jaxcolor.weights.native import NativeWeights


class Pretrained(NamedTuple):
    """Trees that a run can start from."""

    variables: dict[str, Any]
    """Tree -> {"params": …, "batch_stats": …}, NumPy arrays; those that fit the run's model."""
    note: str
    """Where they are from, for people and for the notes of weights that are trained from them."""
    unused: tuple[str, ...]
    """A line for each tree that does not fit and is not used, with what differs."""


def load_pretrained(config: Config, source: Source | None = None) -> Pretrained:
    """The weights that ``config.start_from`` names, as trees of the config's model.

    The settings of ``model.fusion`` and of crops concern the tree ``fusion`` alone: with others, ``full`` and
    ``instance`` are taken all the same, and ``fusion`` is not used. The networks are convolutional: weights of one
    canvas start a run at any other.

    Args:
      config: of the run.
      source: its photos, for VGG16 (``weights.vgg16``), which alone needs some.

    Raises:
      ConfigError: trees of another model, all of them listed with what differs, or trained with another hint mask;
        or ``start_form`` is given for a file that is no ``.pth`` file.
      OSError: no such file or folder.
      WeightsError: it cannot be read, or it is not known what it is.
    """
    path = Path(config.start_from)
    named = path.name
    if vgg16.is_named(config.start_from) and config.start_form == "auto":
        loaded = vgg16.load(config, source)
    elif narrowing.is_named(config.start_from):
        named = config.start_from
        loaded = narrowing.load(named, config.model)
    elif path.suffix == ".pth" or (path.is_dir() and not leads_to_run(path)):
        loaded = _from_reference(path, config)
    elif config.start_form != "auto":
        raise ConfigError(f"start_form: {config.start_form!r} is for .pth files; {path} is none")
    else:
        found = find_weights(path)
        named = path.name if found == path else "/".join(found.parts[-3:-1])  # run and name, or stage and step
        loaded = native.load(found)
    if loaded.config.hint_mask != config.model.hint_mask:
        raise ConfigError(
            f"model.hint_mask: {config.model.hint_mask!r}, but the weights of start_from, {path}, were trained with "
            f"{loaded.config.hint_mask!r}; set --config.model.hint_mask={loaded.config.hint_mask}"
        )
    differences = {tree: _differences(tree, loaded.config, config.model) for tree in loaded.variables}
    if any(lines for tree, lines in differences.items() if tree != "fusion"):
        listed = [f"  {tree}: {'; '.join(lines)}" for tree, lines in differences.items() if lines]
        raise ConfigError("\n".join([f"start_from: {path} holds trees of another model than config.model:", *listed]))
    return Pretrained(
        {tree: variables for tree, variables in loaded.variables.items() if not differences[tree]},
        f"started from {named}" + (f" ({loaded.note})" if loaded.note else ""),
        tuple(
            f"start_from: the {tree} tree of {named} is not used, it is of another model: {'; '.join(lines)}"
            for tree, lines in differences.items()
            if lines
        ),
    )


def _differences(tree: str, theirs: ModelConfig, ours: ModelConfig) -> list[str]:
    """Settings that keep a tree from being one of our model: not initialization, canvas, nor type of computation."""
    same: dict[str, Any] = {"init": ours.init, "head_init": ours.head_init, "side": ours.side}
    if parameter_type(theirs) == parameter_type(ours):
        same["compute_dtype"] = ours.compute_dtype
    if tree != "fusion":
        same |= {"fusion": ours.fusion, "crop_context": ours.crop_context, "crop_least": ours.crop_least}
    return setting_differences(to_dict(dataclasses.replace(theirs, **same)), to_dict(ours))


def _from_reference(path: Path, config: Config) -> NativeWeights:
    """The authors' files name no config: what their code fixes is compared, the rest is as the run wants it."""
    loaded = reference.load(path, config.start_form)
    model = ModelConfig(side=config.model.side, compute_dtype=config.model.compute_dtype, hint_mask=loaded.hint_mask)
    dtype = parameter_type(config.model)
    # In C order, since the translation gives views of transposed kernels; float64 holds every float32.
    # Tree by tree: JAX would sort them.
    variables = {
        name: jax.tree.map(lambda array: np.asarray(array, dtype, order="C"), tree)
        for name, tree in loaded.variables.items()
    }
    return NativeWeights(model, variables, loaded.unused, note="")

"""Weights that a run starts from: released files, the reference's ``.pth`` files, siggraph17, VGG16."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np

from jaxcolor.config import Config, ConfigError, FusionConfig, ModelConfig, to_dict
from jaxcolor.data.types import Source
from jaxcolor.models.backbone import parameter_type
from jaxcolor.training.differences import setting_differences
from jaxcolor.weights import native, reference, vgg16
from jaxcolor.weights.native import NativeWeights


def load_pretrained(config: Config, source: Source | None = None) -> NativeWeights:
    """What ``config.start_from`` names, as trees of the config's model; its note says what it is.

    Args:
      config: of the run.
      source: its photos, for VGG16 (``weights.vgg16``), which alone needs some.

    Raises:
      ConfigError: it holds another model than ``config.model``, or ``start_form`` is given for a released file.
      OSError: no such file or folder.
      WeightsError: it cannot be read, or nothing tells what it is.
    """
    path = Path(config.start_from)
    is_vgg16 = vgg16.is_named(config.start_from)
    if not is_vgg16 and (path.is_dir() or path.suffix == ".pth"):
        start = _from_reference(path, config)
    elif config.start_form != "auto":
        raise ConfigError(f"start_form: {config.start_form!r} is for .pth files; {path} is none")
    else:
        start = vgg16.load(config, source) if is_vgg16 else native.load(path)
    differences = setting_differences(to_dict(_as_run(start, config.model)), to_dict(config.model))
    if differences:
        lines = "\n  ".join(differences)
        raise ConfigError(f"start_from: {path} holds another model:\n  {lines}")
    return start._replace(note=f"started from {path.name}" + (f" ({start.note})" if start.note else ""))


def _as_run(start: NativeWeights, run: ModelConfig) -> ModelConfig:
    """The start's config, but for what says nothing about weights that are there.

    That is initialisation, the type of computing, and fusion where there is no such tree.
    """
    config = start.config
    compute_dtype = run.compute_dtype if parameter_type(config) == parameter_type(run) else config.compute_dtype
    fusion = config.fusion if "fusion" in start.variables else run.fusion
    return dataclasses.replace(
        config, init=run.init, head_init=run.head_init, compute_dtype=compute_dtype, fusion=fusion
    )


def _from_reference(path: Path, config: Config) -> NativeWeights:
    """The reference's files name no config: what its code fixes is compared, the rest is as the run wants it."""
    loaded = reference.load(path, config.start_form)
    model = ModelConfig(
        side=config.model.side,
        compute_dtype=config.model.compute_dtype,
        # The full branch alone says nothing about fusion.
        fusion=FusionConfig() if "fusion" in loaded.variables else config.model.fusion,
    )
    dtype = parameter_type(config.model)
    # In C order, since the translation gives views of transposed kernels; float64 holds every float32.
    # Tree by tree: JAX would sort them.
    variables = {
        name: jax.tree.map(lambda array: np.asarray(array, dtype, order="C"), tree)
        for name, tree in loaded.variables.items()
    }
    return NativeWeights(model, variables, loaded.unused, loaded.note)

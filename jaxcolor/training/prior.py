"""How frequent colors are in a data set, and the weights that rare ones have in the loss of the class head."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Float

from jaxcolor import color
from jaxcolor.config import Config, ConfigError, DataConfig
from jaxcolor.data.loader import eval_batches
from jaxcolor.data.types import Source
from jaxcolor.models.outputs import ab_distribution, classes
from jaxcolor.runtime.atomic import atomic_write
from jaxcolor.runtime.regular_file import open_regular

SIDE = 64
"""Of the pictures that are counted: the class head's, for a canvas of 256."""


@jax.jit
def _normalized_ab(rgb: jax.Array) -> jax.Array:
    return color.normalize_lab(color.rgb_to_lab(color.unit_rgb(rgb, jnp.float32)))[1]


def measure_prior(source: Source, config: DataConfig, photos: int = 0) -> Float[np.ndarray, " 529"]:
    """The share of each ab bin among the pixels of photos reduced to ``SIDE``.

    Args:
      source: photos.
      config: threads, workers, what is done about photos that cannot be read.
      photos: how many, from the first; 0: all.

    Raises:
      DataError: a photo cannot be read.
      PriorError: there is no photo.
    """

    def pairs() -> Iterator[tuple[Any, Any]]:
        with eval_batches(source, config, side=SIDE, batch_size=64, photos=photos) as batches:
            for loaded in batches:
                yield _normalized_ab(loaded.batch.full_rgb), loaded.batch.is_real

    return ab_distribution.measure_prior(pairs())


def save_prior(path: Path, prior: Float[np.ndarray, " 529"], source: str) -> None:
    """Write a prior as ``.npz``, with a line that says what it was measured on. Raises OSError."""
    with atomic_write(path) as part, part.open("wb") as file:
        np.savez(file, prior=prior, source=np.array(source))


def load_prior(path: str | Path) -> Float[np.ndarray, " 529"]:
    """The prior in a file.

    Raises:
      ConfigError: it is missing, or no file of ``save_prior``.
    """
    try:
        with open_regular(path) as file, np.load(file, allow_pickle=False) as arrays:
            prior = np.asarray(arrays["prior"], np.float64)
    except Exception as error:  # zip, zlib and NumPy each have their own
        raise ConfigError(
            f"objective.prior: {path}: cannot be read as a file of `jaxcolor data prior`: {error}"
        ) from error
    shares = prior.shape == (color.BINS,) and (prior >= 0).all() and abs(prior.sum() - 1) < 1e-4  # NaN is no share
    if not shares:
        raise ConfigError(
            f"objective.prior: {path}: {prior.shape} numbers, and not {color.BINS} shares of colors that sum to 1"
        )
    return prior


def with_class_weights(trees: dict[str, Any], config: Config) -> dict[str, Any]:
    """Fresh trees whose class heads have the weights of colors that ``config.objective`` asks for.

    Raises:
      ConfigError: the prior cannot be read or used.
    """
    if not config.objective.prior or "classes" not in config.model.outputs:
        return trees
    smooth = ab_distribution.smooth_prior(load_prior(config.objective.prior))
    weights = ab_distribution.rebalancing_weights(smooth, config.objective.rebalancing)
    flat = traverse_util.flatten_dict(trees)
    return traverse_util.unflatten_dict(
        {path: weights if path[-1] == classes.WEIGHTS else value for path, value in flat.items()}
    )

"""Small networks with a class head whose distribution of colors is known, and that read hints in known places."""

import functools
from typing import Any

import jax
import numpy as np

from jaxcolor import color
from jaxcolor.config import FusionConfig, ModelConfig
from tests.small import photo, variables

CONFIG = ModelConfig(
    side=32,
    width=0.0625,
    outputs=("regression", "classes"),
    fusion=FusionConfig(strategy="box_mask", layers=("conv10_2",)),
)
"""Inside boxes the color is the instance network's last feature, elsewhere the trunk's."""
CENTERS = color.bin_centers() * 110
RED, BLUE, GREEN = (50, 30), (10, -50), (-40, 40)


def bumps(*peaks: tuple[float, tuple[int, int]]) -> np.ndarray:
    """Log probabilities of Gaussians of (mass, (a*, b*))."""
    total = sum(mass * np.exp(-((CENTERS - ab) ** 2).sum(axis=1) / 128) for mass, ab in peaks) + 1e-12
    return np.log(total / total.sum()).astype(np.float32)


@functools.cache
def trees() -> dict[str, Any]:
    """Random variables; everything is red (0.7) or blue (0.3), in photos without boxes green (0.9) or red.

    Of the three networks only the instance one reads hints.
    """
    found = jax.tree.map(np.copy, variables(CONFIG))
    rarity = np.exp(np.random.default_rng(0).standard_normal(529)).astype(np.float32)
    fused, full = bumps((0.7, RED), (0.3, BLUE)), bumps((0.9, GREEN), (0.1, RED))
    for (params, stats), logits in zip(
        (
            (found["fusion"]["params"]["trunk"], found["fusion"]["batch_stats"]["trunk"]),
            (found["full"]["params"], found["full"]["batch_stats"]),
        ),
        (fused, full),
        strict=True,
    ):
        params["classes"]["kernel"][:] = 0
        params["classes"]["bias"][:] = logits + np.log(rarity)
        stats["classes"]["class_weights"][:] = rarity
        params["conv1_1"]["kernel"][:, :, 1:] = 0
        params["output"]["kernel"] *= 0.1
    found["instance"]["batch_stats"]["classes"]["class_weights"][:] = 1
    return found


def gray_photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Random and smooth."""
    return np.repeat(photo(np.random.default_rng(seed), height, width)[..., :1], 3, axis=-1)

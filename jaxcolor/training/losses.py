"""The loss of a picture, and which pictures take part in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jaxcolor import color
from jaxcolor.models.ops.blend import membership
from jaxcolor.registries import OUTPUTS


def picture_loss(outputs: Mapping[str, Any], true_ab: Float[jax.Array, "B S S 2"]) -> Float[jax.Array, " B"]:
    """The sum of the output heads' own losses, of each picture."""
    each = [OUTPUTS.get(name).loss(output, true_ab) for name, output in outputs.items()]
    return sum(each[1:], each[0])


def colorful(true_ab: Float[jax.Array, "B S S 2"], low_chroma: float) -> Bool[jax.Array, " B"]:
    """Pictures whose (max - min of a*) + (max - min of b*) reaches ``low_chroma``: the others teach gray."""
    return color.ab_range(true_ab) >= low_chroma / color.AB_SCALE


def any_crop(
    crop_valid: Bool[jax.Array, " M"], crop_to_image: Int[jax.Array, " M"], images: int
) -> Bool[jax.Array, " B"]:
    """Photos with at least one valid crop."""
    return (membership(crop_to_image, images) & crop_valid[None]).any(axis=1)


def sum_of_valid(
    losses: Float[jax.Array, " B"], valid: Bool[jax.Array, " B"]
) -> tuple[Float[jax.Array, ""], Int[jax.Array, ""]]:
    """The losses of the valid pictures added up, and how many those are.

    Sums and counts of parts of a batch, on one device or on many, add up; the mean is taken of the totals. A mean of
    the parts' means would weigh pictures by how many valid ones they happen to share a part with.
    """
    return jnp.where(valid, losses, 0).sum(), valid.sum()

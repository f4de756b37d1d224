"""The regression loss and which pictures take part in it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float, Int

from jaxcolor import color
from jaxcolor.models.fusion import membership

HUBER_DELTA = 1 / 110
"""In normalised ab, that is 1 in units of ab*."""
LOSS_SCALE = 10.0


def picture_loss(ab: Float[jax.Array, "B S S 2"], true_ab: Float[jax.Array, "B S S 2"]) -> Float[jax.Array, " B"]:
    """10 x the mean over pixels of the sum over ab of huber / delta, of each picture (the reference's smooth L1)."""
    huber = optax.huber_loss(ab, true_ab, delta=HUBER_DELTA) / HUBER_DELTA
    return LOSS_SCALE * huber.sum(axis=-1).mean(axis=(1, 2))


def colourful(true_ab: Float[jax.Array, "B S S 2"], low_chroma: float) -> Bool[jax.Array, " B"]:
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

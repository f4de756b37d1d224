"""Fusion whose weights fade out toward the borders of a crop, for crops with context (``model.crop_context``).

Such a crop shows what lies around its object, and its border is no border of anything in the photo. The softmax of
``Learned`` would end there abruptly; here an instance's share falls to 0 as the border is approached:
``--config.model.fusion.strategy=feathered``.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxcolor.models.fusion import (
    Features,
    FusionStrategy,
    FusionWeights,
    Instances,
    WeightHead,
    placed_logit,
    softmax_weights,
)

FADE = 0.25
"""Share of a crop's width and height, at each side, over which its weight rises from 0 to 1."""
_LEAST = 1e-4
"""Weight at the very border: above 0, so that its logarithm is finite."""


class Feathered(FusionStrategy):
    """The softmax of ``Learned`` with exp(instance logit) times a window, 1 in a crop's middle and 0 at its borders.

    Outside its crop an instance has no weight.
    """

    @nn.compact
    def weights(self, full_feature: jax.Array, instance_feature: Features, instances: Instances) -> FusionWeights:
        """Softmax over each photo's instances and the full image, at every pixel."""
        real = jnp.promote_types(full_feature.dtype, jnp.float32)
        instance_logit = placed_logit(WeightHead(self.config, name="instance_head"), instance_feature, instances)
        full_logit = WeightHead(self.config, name="full_head")(full_feature).astype(real)[..., 0]
        height, width = full_logit.shape[1:]
        instance_logit += jnp.log(fade(instances.boxes, height, width).astype(real))
        return softmax_weights(full_logit, instance_logit, instances.inside, instances.crop_to_image, "masked")


def fade(boxes: Int[jax.Array, "M 4"], height: int, width: int) -> Float[jax.Array, "M {height} {width}"]:
    """The window of each box (x0, y0, width, height in cells): linear ramps over ``FADE`` of its sides.

    Borders that lie on the photo's own border do not fade: nothing is beyond.
    """
    columns = _ramps(boxes[:, 0], boxes[:, 2], width)
    rows = _ramps(boxes[:, 1], boxes[:, 3], height)
    return jnp.maximum(rows[:, :, None] * columns[:, None, :], _LEAST)


def _ramps(start: Int[jax.Array, " M"], size: Int[jax.Array, " M"], side: int) -> Float[jax.Array, "M {side}"]:
    place = (jnp.arange(side) + 0.5 - start[:, None]) / jnp.maximum(size, 1)[:, None]
    first = jnp.where(start == 0, 1.0, place.T / FADE).T
    last = jnp.where(start + size >= side, 1.0, (1 - place.T) / FADE).T
    return jnp.clip(jnp.minimum(first, last), 0, 1)

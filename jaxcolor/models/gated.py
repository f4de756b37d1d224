"""Fusion by gates: a sigmoid for each instance in place of the softmax over all of them.

Whether an instance speaks at a pixel is then decided by itself, and not by what else covers the pixel:
``--config.model.fusion.strategy=gated``.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcolor.models.fusion import Features, FusionStrategy, FusionWeights, Instances, WeightHead, placed_logit
from jaxcolor.models.ops.blend import membership, of_own_image, sum_per_image

_CLOSED = 1e-6
"""Sum of gates below which they are closed: instances then share what the gates say, to float32's precision."""


class Gated(FusionStrategy):
    """Instance m has gate g_m = sigmoid(its logit - the full image's) inside its box, 0 outside.

    The full image keeps what no gate takes, the product of all 1 - g_m; instances share the rest by their gates.
    """

    @nn.compact
    def weights(self, full_feature: jax.Array, instance_feature: Features, instances: Instances) -> FusionWeights:
        """Gates, and their shares."""
        real = jnp.promote_types(full_feature.dtype, jnp.float32)
        member = membership(instances.crop_to_image, len(full_feature))
        instance_logit = placed_logit(WeightHead(self.config, name="instance_head"), instance_feature, instances)
        full_logit = WeightHead(self.config, name="full_head")(full_feature).astype(real)[..., 0]
        counts = instances.inside & member.any(axis=0)[:, None, None]
        logit = instance_logit - of_own_image(full_logit, member)
        gate = jnp.where(counts, jax.nn.sigmoid(logit), 0)
        # log(1 - sigmoid(x)) = -softplus(x), summed where the gate counts.
        log_full = -sum_per_image(jnp.where(counts, jax.nn.softplus(logit), 0), member)
        total = sum_per_image(gate, member)
        # Of gates near 0 the sum of 1 - full and of gates is the same; its square, in the gradient, would underflow.
        open_ = total > _CLOSED
        share = jnp.where(open_, -jnp.expm1(log_full) / jnp.where(open_, total, 1), 1)
        return FusionWeights(jnp.exp(log_full), gate * of_own_image(share, member))

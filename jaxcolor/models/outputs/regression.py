"""The reference's output: one ab for every pixel, by regression."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from jaxcolor.models import ops
from jaxcolor.models.outputs import OutputHead

HUBER_DELTA = 1 / 110
"""In normalized ab, that is 1 in units of ab*."""
LOSS_SCALE = 10.0


class Regression(OutputHead):
    """tanh of a 1x1 convolution at the full side."""

    @nn.compact
    def __call__(self, x: ops.Feature) -> Float[jax.Array, "B H W 2"]:
        """Normalized ab in (-1, 1)."""
        kernel, bias = self.kernel_and_bias(ops.channels(x), 2)
        y = ops.conv1x1(x, kernel, bias, self.dtype)
        # tanh in at least float32: bfloat16 has too few digits for smooth color.
        return jnp.tanh(y.astype(jnp.promote_types(self.dtype, jnp.float32)))

    @staticmethod
    def decode(output: jax.Array, size: tuple[int, int]) -> Float[jax.Array, "B H W 2"]:
        """The prediction itself."""
        return output

    @staticmethod
    def loss(output: Float[jax.Array, "B S S 2"], true_ab: Float[jax.Array, "B S S 2"]) -> Float[jax.Array, " B"]:
        """Of each picture 10 x the mean over pixels of the sum over ab of huber / delta (the reference's smooth L1)."""
        huber = optax.huber_loss(output, true_ab, delta=HUBER_DELTA) / HUBER_DELTA
        return LOSS_SCALE * huber.sum(axis=-1).mean(axis=(1, 2))

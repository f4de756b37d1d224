"""Classification over 529 bins of ab (Zhang et al. 2016): a distribution of colors for every pixel."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxcolor import color, resample
from jaxcolor.models import ops
from jaxcolor.models.ops.conv import convolve
from jaxcolor.models.outputs import OutputHead, ab_distribution

WEIGHTS = "class_weights"
"""Name of the weights of colors among a tree's running statistics: kept with the weights, never trained."""


class ClassOutput(NamedTuple):
    """What the head predicts."""

    logits: Float[jax.Array, "B h w 529"]
    """Over the bins of ``color.bin_centers``, in the type of the computation."""
    weights: Float[jax.Array, " 529"]
    """By which pixels of each color weighed in training (``ab_distribution.rebalancing_weights``); 1 by default."""

    @property
    def frequencies(self) -> Float[jax.Array, "B h w 529"]:
        """Logits of how frequent colors are: without the rebalancing."""
        return ab_distribution.undo_rebalancing(self.logits, self.weights)


class Classes(OutputHead):
    """Logits at a quarter of the canvas side, by a 1x1 convolution (the reference's ``model_class``)."""

    scope_name = "classes"
    level = 2

    @nn.compact
    def __call__(self, x: ops.Feature) -> ClassOutput:
        """Logits, and the weights of colors where the head is trained."""
        kernel, bias = self.kernel_and_bias(ops.channels(x), color.BINS)
        y = convolve(ops.value(x).astype(self.dtype), jnp.asarray(kernel, self.dtype), ((0, 0), (0, 0)))
        weights = jnp.ones(color.BINS, self.param_dtype)
        if "classes" in self.config.outputs:  # the reference's own head, which nothing trains, has none
            weights = self.variable("batch_stats", WEIGHTS, lambda: weights).value
        return ClassOutput(y + jnp.asarray(bias, self.dtype), jnp.asarray(weights))

    @staticmethod
    def decode(output: ClassOutput, size: tuple[int, int]) -> Float[jax.Array, "B H W 2"]:
        """The annealed mean, resized bilinearly."""
        return resample.resize(ab_distribution.annealed_mean(output.logits), *size)

    @staticmethod
    def loss(output: ClassOutput, true_ab: Float[jax.Array, "B S S 2"]) -> Float[jax.Array, " B"]:
        """Mean over pixels of weight x cross entropy with soft targets, in nats (Zhang et al. 2016, equation 2).

        The truth is brought to the logits' grid by taking every (S / h)-th pixel, as Zhang et al. 2017 do and as the
        backbone itself reduces its features. A pixel weighs by its nearest bin.
        """
        stride = true_ab.shape[1] // output.logits.shape[1]
        indices, targets = ab_distribution.soft_encode(true_ab[:, ::stride, ::stride])
        rarity = jnp.asarray(output.weights, jnp.float32)[indices[..., 0]]
        return (rarity * ab_distribution.cross_entropy(output.logits, indices, targets)).mean(axis=(1, 2))

    @classmethod
    def distillation(cls, output: ClassOutput, taught: ClassOutput, size: tuple[int, int]) -> Float[jax.Array, " B"]:
        """Mean over pixels of the divergence from the teacher's distribution, KL(teacher || output), in nats.

        The gradient is that of the cross entropy with the teacher's soft targets (Hinton et al. 2015), at temperature
        1. All pixels weigh alike: the teacher's probabilities are rebalanced already.
        """
        ours, theirs = (jax.nn.log_softmax(x.logits.astype(jnp.float32)) for x in (output, taught))
        return (jnp.exp(theirs) * (theirs - ours)).sum(axis=-1).mean(axis=(1, 2))

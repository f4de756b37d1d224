"""Output heads: what a network predicts, its loss, and how a color is decoded from it; one file each.

A head is found by its name in ``registries.OUTPUTS`` or by a dotted path to a subclass of ``OutputHead``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcolor.config import ModelConfig
from jaxcolor.models import ops


class OutputHead(nn.Module):
    """The last layer of a backbone.

    Attributes:
      config: of the model.
      dtype: type of the computation.
      param_dtype: type of the parameters.
      kernel_init: initializer of the kernel.
    """

    config: ModelConfig
    dtype: Any
    param_dtype: Any
    kernel_init: Any

    scope_name: ClassVar[str] = "output"
    """Name of its parameters in the tree."""
    level: ClassVar[int] = 0
    """Of the feature that it reads: its side is the canvas side / 2**level."""

    def __call__(self, x: ops.Feature) -> Any:
        """What is predicted from a feature (B, H, W, C)."""
        raise NotImplementedError

    @staticmethod
    def decode(output: Any, size: tuple[int, int]) -> jax.Array:
        """Normalized ab (B, height, width, 2) in (-1, 1), float32 at least, of what was predicted."""
        raise NotImplementedError

    @staticmethod
    def loss(output: Any, true_ab: jax.Array) -> jax.Array:
        """The loss of each picture (B,) against the true normalized ab (B, S, S, 2)."""
        raise NotImplementedError

    @classmethod
    def distillation(cls, output: Any, taught: Any, size: tuple[int, int]) -> jax.Array:
        """The loss of each picture (B,) against what a teacher's head of the same kind predicts of it.

        By default the teacher's color takes the place of the truth.

        Args:
          output: what is predicted.
          taught: what the teacher predicts; without gradient.
          size: height and width of the picture.
        """
        return cls.loss(output, cls.decode(taught, size))

    @nn.nowrap
    def kernel_and_bias(self, channels: int, features: int) -> tuple[jax.Array, jax.Array]:
        """Parameters of a 1x1 convolution, as they are kept."""
        kernel = self.param("kernel", self.kernel_init, (1, 1, channels, features), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (features,), self.param_dtype)
        return jnp.asarray(kernel), jnp.asarray(bias)

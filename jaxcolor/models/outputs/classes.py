"""Classification over 529 bins of ab (Zhang et al. 2016): a distribution of colors for every pixel."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxcolor import color
from jaxcolor.models import ops
from jaxcolor.models.ops.conv import convolve
from jaxcolor.models.outputs import OutputHead


class Classes(OutputHead):
    """Logits at a quarter of the canvas side, by a 1x1 convolution (the reference's ``model_class``)."""

    scope_name = "classes"
    level = 2

    @nn.compact
    def __call__(self, x: ops.Feature) -> Float[jax.Array, "B h w 529"]:
        """Logits over the bins of ``color.bin_centers``."""
        kernel, bias = self.kernel_and_bias(ops.channels(x), color.BINS)
        y = convolve(ops.value(x).astype(self.dtype), jnp.asarray(kernel, self.dtype), ((0, 0), (0, 0)))
        return y + jnp.asarray(bias, self.dtype)

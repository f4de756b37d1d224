"""The 4x4 transposed convolution of stride 2, written as four 2x2 convolutions, one for each phase of the output.

An output pixel of a stride-2 transposed convolution sees two input rows and columns, through the taps of its parity.
So plain convolutions with 2x2 windows, their results interleaved, give the same numbers from the same parameters. The
gradients of XLA's own transposed convolution take 8 to 13 times as long on CPU (``benchmarks/RESULTS.md``); those of
one convolution over all phases are slow on GPU (``docs/performance.md``).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float


class UpConv(nn.Module):
    """Twice the side: ``torch.nn.ConvTranspose2d(C, features, 4, stride=2, padding=1)``.

    Its variables are those of ``flax.linen.ConvTranspose(features, (4, 4), strides=(2, 2), padding=((2, 2), (2, 2)),
    transpose_kernel=True)``: ``kernel`` (4, 4, features, C) and ``bias`` (features,).

    Attributes:
      features: channels out.
      dtype: type of the computation.
      param_dtype: type of the parameters.
      kernel_init: initialiser of the kernel.
    """

    features: int
    dtype: Any
    param_dtype: Any
    kernel_init: Any

    @nn.compact
    def __call__(self, x: Float[jax.Array, "B H W C"]) -> Float[jax.Array, "B 2*H 2*W {self.features}"]:
        """The feature at twice its side."""
        channels = x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (4, 4, self.features, channels), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)

        # Output row 2m + a sees input row m + a - 1 + r through tap 3 - (2r + a), for r = 0, 1; columns alike.
        taps = jnp.asarray(kernel, self.dtype)[::-1, ::-1].swapaxes(2, 3)  # 2r + a, 2s + b, in, out

        def phase(a: int, b: int) -> jax.Array:
            return jax.lax.conv_general_dilated(
                x.astype(self.dtype),
                taps[a::2, b::2],
                window_strides=(1, 1),
                padding=((1 - a, a), (1 - b, b)),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )

        zero = jnp.zeros((), self.dtype)
        # Spread out with zeros between and added up: unlike stacking and reshaping, compiled into what comes next.
        spread = [
            jax.lax.pad(phase(a, b), zero, ((0, 0, 0), (a, 1 - a, 1), (b, 1 - b, 1), (0, 0, 0)))
            for a in range(2)
            for b in range(2)
        ]
        return sum(spread[1:], spread[0]) + bias.astype(self.dtype)

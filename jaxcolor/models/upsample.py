"""The 4x4 transposed convolution of stride 2, written as one 2x2 convolution that computes all four phases.

An output pixel of a stride-2 transposed convolution sees two input rows and columns, through the taps of its parity.
So a plain convolution with a 2x2 window and four times the channels, its results interleaved, gives the same numbers
from the same parameters. On CPU the gradients of XLA's own transposed convolution take 8 to 13 times as long (see
``benchmarks/RESULTS.md``).
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
        batch, height, width, channels = x.shape
        kernel = self.param("kernel", self.kernel_init, (4, 4, self.features, channels), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)

        # Output row 2m + a sees input row m + a - 1 + r through tap 3 - (2r + a), for r = 0, 1; columns alike.
        taps = kernel[::-1, ::-1].reshape(2, 2, 2, 2, self.features, channels)  # r, a, s, b, out, in
        phases = taps.transpose(0, 2, 5, 1, 3, 4).reshape(2, 2, channels, 4 * self.features)
        # Padded apart: with the padding inside the convolution its kernel gradient is 15 times slower on CPU.
        every = jax.lax.conv_general_dilated(
            jnp.pad(x.astype(self.dtype), ((0, 0), (1, 1), (1, 1), (0, 0))),
            phases.astype(self.dtype),
            window_strides=(1, 1),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ).reshape(batch, height + 1, width + 1, 2, 2, self.features)
        rows = [jnp.stack([every[:, a : a + height, b : b + width, a, b] for b in range(2)], axis=3) for a in range(2)]
        return jnp.stack(rows, axis=2).reshape(batch, 2 * height, 2 * width, self.features) + bias.astype(self.dtype)

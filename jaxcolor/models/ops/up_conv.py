"""The 4x4 transposed convolution of stride 2, padding 1: twice the side.

    y = conv_transpose(x, kernel, stride=2) + bias

An output pixel sees two input rows and columns, through the taps of its parity. So four plain convolutions with 2x2
windows, one for each phase of the output, give the same numbers from the same parameters once their results are
interleaved (``by_phases``). XLA's own transposed convolution (``directly``) needs no interleaving, and on GPU it is
faster, and so is its gradient to the input; its kernel gradient takes 3 to 4 times as long there. On CPU it takes 1.2
to 1.8 times as long forward, and 8 to 13 times with both gradients (``docs/performance.md``).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxcolor.models.ops import tile_conv
from jaxcolor.models.ops.conv import Convolution, Feature, Layer, Pending, convolve
from jaxcolor.models.ops.implementation import rounds_products, select_implementation


def by_phases(x: Float[jax.Array, "B H W C"], kernel: Float[jax.Array, "4 4 F C"]) -> Float[jax.Array, "B 2*H 2*W F"]:
    """As four convolutions."""
    # Output row 2m + a sees input row m + a - 1 + r through tap 3 - (2r + a), for r = 0, 1; columns alike.
    taps = kernel[::-1, ::-1].swapaxes(2, 3)  # 2r + a, 2s + b, in, out

    def phase(a: int, b: int) -> jax.Array:
        return convolve(x, taps[a::2, b::2], ((1 - a, a), (1 - b, b)))

    zero = jnp.zeros((), x.dtype)
    # Spread out with zeros between and added up: unlike stacking and reshaping, compiled into what comes next.
    spread = [
        jax.lax.pad(phase(a, b), zero, ((0, 0, 0), (a, 1 - a, 1), (b, 1 - b, 1), (0, 0, 0)))
        for a in range(2)
        for b in range(2)
    ]
    return sum(spread[1:], spread[0])


def _direct(x: jax.Array, kernel: jax.Array) -> jax.Array:
    taps = kernel[::-1, ::-1].swapaxes(2, 3)
    return convolve(x, taps, ((2, 2), (2, 2)), spread=2)


def _transposed_by_phases(y: jax.Array, kernel: jax.Array) -> jax.Array:
    """The transpose, from output to input: a 4x4 convolution of stride 2, phase by phase of ``y``.

    So are the phases padded, which have to be cut out anyway, and not the input: cuDNN cannot pad one side alone.
    """

    def phase(a: int, b: int) -> jax.Array:
        own = jnp.pad(y[:, a::2, b::2], ((0, 0), (a, 1 - a), (b, 1 - b), (0, 0)))
        taps = kernel[1 - a :: 2, 1 - b :: 2]  # features, which come in here, are its third axis
        return convolve(own, taps, ((0, 0), (0, 0)))

    first, *others = (phase(a, b) for a in range(2) for b in range(2))
    return sum(others, first)


@jax.custom_vjp
def directly(x: Float[jax.Array, "B H W C"], kernel: Float[jax.Array, "4 4 F C"]) -> Float[jax.Array, "B 2*H 2*W F"]:
    """As one transposed convolution, its kernel gradient by phases."""
    return _direct(x, kernel)


def _directly_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    (to_x,) = jax.linear_transpose(lambda x: _direct(x, kernel), x)(gradient)
    # The sum of gradient x directly(x, kernel) is that of x times the transpose of the gradient.
    (to_kernel,) = jax.linear_transpose(lambda kernel: _transposed_by_phases(gradient, kernel), kernel)(x)
    return to_x, to_kernel


directly.defvjp(lambda x, kernel: (_direct(x, kernel), (x, kernel)), _directly_backward)


def by_stacking(x: Float[jax.Array, "B H W C"], kernel: Float[jax.Array, "4 4 F C"]) -> Float[jax.Array, "B 2*H 2*W F"]:
    """``by_phases`` interleaved by stacking: slower, but without dilated padding, which ONNX lacks."""
    batch, height, width, _ = x.shape
    taps = kernel[::-1, ::-1].swapaxes(2, 3)
    rows = [
        jnp.stack([convolve(x, taps[a::2, b::2], ((1 - a, a), (1 - b, b))) for b in range(2)], axis=3) for a in range(2)
    ]
    return jnp.stack(rows, axis=2).reshape(batch, 2 * height, 2 * width, kernel.shape[2])


def up_convolve(x: Float[jax.Array, "B H W C"], kernel: Float[jax.Array, "4 4 F C"]) -> Float[jax.Array, "B 2*H 2*W F"]:
    """The transposed convolution without a bias, by the implementation for this machine."""
    rounded = x.dtype == jnp.float32 and tile_conv.fits(x) and rounds_products()
    cpu = tile_conv.up_conv if rounded else by_phases
    return select_implementation(plain=_direct, portable=by_stacking, fast=directly, cpu=cpu)(x, kernel)


@dataclasses.dataclass(frozen=True)
class UpConvolution(Pending):
    """A pending transposed convolution; a sum with a 3x3 convolution takes one bias for both, and so one pass less."""

    x: jax.Array
    kernel: jax.Array
    bias: jax.Array
    dtype: Any

    def without_bias(self) -> jax.Array:
        """The transposed convolution alone."""
        return up_convolve(self.x.astype(self.dtype), jnp.asarray(self.kernel, self.dtype))

    def value(self) -> jax.Array:
        """With its bias."""
        return self.without_bias() + jnp.asarray(self.bias, self.dtype)

    def __add__(self, skip: Convolution) -> jax.Array:
        """The sum with a shortcut."""
        return self.without_bias() + skip.with_bias(self.bias)


class UpConv(Layer):
    """Twice the side: ``torch.nn.ConvTranspose2d(C, features, 4, stride=2, padding=1)``, pending.

    Its variables are those of ``flax.linen.ConvTranspose(features, (4, 4), strides=(2, 2), padding=((2, 2), (2, 2)),
    transpose_kernel=True)``: ``kernel`` (4, 4, features, C) and ``bias`` (features,).
    """

    @nn.compact
    def __call__(self, x: Feature) -> UpConvolution:
        """The feature at twice its side, to be computed by what follows."""
        x = x.value() if isinstance(x, Pending) else x
        kernel, bias = self.kernel_and_bias(4, 4, self.features, x.shape[-1])
        return UpConvolution(x, kernel, bias, self.dtype)

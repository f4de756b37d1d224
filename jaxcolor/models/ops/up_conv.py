"""The 4x4 transposed convolution of stride 2, and the two ways in which it is computed.

An output pixel of a stride-2 transposed convolution sees two input rows and columns, through the taps of its parity.
So four plain convolutions with 2x2 windows, one for each phase of the output, give the same numbers from the same
parameters once their results are interleaved (``by_phases``). XLA's own transposed convolution (``directly``) needs no
interleaving, and on GPU it is faster, and so is its gradient to the input; its kernel gradient takes 3 to 4 times
as long there. On CPU it takes 1.2 to 1.8 times as long forward, and 8 to 13 times with both gradients
(``docs/performance.md``, ``benchmarks/RESULTS.md``).
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxcolor.models.ops.conv import Layer, convolve


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
    """The way back from output to input, a 4x4 convolution of stride 2, phase by phase of ``y``.

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
    # The sum of gradient x directly(x, kernel) is that of x times the way back from the gradient.
    (to_kernel,) = jax.linear_transpose(lambda kernel: _transposed_by_phases(gradient, kernel), kernel)(x)
    return to_x, to_kernel


directly.defvjp(lambda x, kernel: (_direct(x, kernel), (x, kernel)), _directly_backward)


def way_for() -> Callable[[jax.Array, jax.Array], jax.Array]:
    """How it is computed here: this is chosen in this function, and nowhere else."""
    return by_phases if jax.default_backend() == "cpu" else directly


class UpConv(Layer):
    """Twice the side: ``torch.nn.ConvTranspose2d(C, features, 4, stride=2, padding=1)``, its bias apart.

    Its variables are those of ``flax.linen.ConvTranspose(features, (4, 4), strides=(2, 2), padding=((2, 2), (2, 2)),
    transpose_kernel=True)``: ``kernel`` (4, 4, features, C) and ``bias`` (features,).
    """

    @nn.compact
    def __call__(
        self, x: Float[jax.Array, "B H W C"]
    ) -> tuple[Float[jax.Array, "B 2*H 2*W {self.features}"], Float[jax.Array, " {self.features}"]]:
        """The feature at twice its side, and the bias that is to be added to it.

        A sum with another convolution takes one bias for both, and no pass over the feature for its own.
        """
        kernel, bias = self.kernel_and_bias(4, 4, self.features, x.shape[-1])
        return way_for()(x.astype(self.dtype), jnp.asarray(kernel, self.dtype)), jnp.asarray(bias)

"""Convolutions on CPUs that multiply bfloat16 faster than float32: as matrix products, strip by strip.

    y = leaky_relu(convolve(round(x), round(kernel)) + bias)

Inputs and kernels are rounded to bfloat16, products are added up in float32, and the result is float32: what TPUs do by
default. XLA uses the processor's instructions for that in matrix products, not in convolutions. Three neighbors of a
row lie side by side as a row of the matrix; the three rows of a kernel are three times the features, added up where
they meet (of few features, all nine taps are nine times the features). A few strips of a picture at a time, so that
these sums stay in the processor's caches.

For predictions alone: they have no gradient. ``implementation.rounds_products`` decides where they are used.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float, UInt16

from jaxcolor.models.ops import implementation

STRIP = 2**19
"""Pixels times features of a strip: its sums, of three rows of a kernel in float32, are 6 MiB."""
ABREAST = {implementation.AMX: 2}
"""Strips in one turn, otherwise 1. XLA may add up one while it multiplies the other: two cores with AMX were 5 to 8%
faster with two, two of AMD's 1 to 9% slower."""
MOST_PIXELS = 2**13
"""Of a strip, however few its features are."""
FEW_FEATURES = 16
"""Most of a layer that is one product with nine times its features: three times as many do not fill the units."""
LEAST_CHANNELS = 64
"""Fewer channels in do not fill the units."""


def fits(x: Float[jax.Array, "B H W C"]) -> bool:
    """Whether a layer that reads this is faster as products; there must be a picture."""
    return x.shape[3] >= LEAST_CHANNELS and x.size > 0


def conv3x3(
    x: Float[jax.Array, "B H W C"],
    kernel: Float[jax.Array, "3 3 C F"],
    bias: Float[jax.Array, " F"],
    slope: float = 1.0,
) -> Float[jax.Array, "B H W F"]:
    """3x3, stride 1, zero padding, bias; then a leaky ReLU, of slope 0 a ReLU, of slope 1 nothing."""
    features = kernel.shape[3]
    rounded, across = jnp.asarray(kernel, jnp.bfloat16), 1 if features <= FEW_FEATURES else 3
    if across == 3:
        taps = rounded.transpose(1, 2, 0, 3).reshape(-1, 3 * features)  # column, in; row, out
        shifts = [(row, 0) for row in range(3)]
    else:
        taps = rounded.transpose(2, 0, 1, 3).reshape(-1, 9 * features)  # in; row, column, out
        shifts = [(row, column) for row in range(3) for column in range(3)]

    def strip(window: UInt16[jax.Array, "g h w C"]) -> Float[jax.Array, "g h-2 w-2 F"]:
        pictures, height, width, _ = window.shape
        rows = _product(_neighbors(window, across), taps).reshape(pictures, height, width - across + 1, -1)
        met = [
            rows[:, i : height - 2 + i, j : width - 2 + j, number * features : (number + 1) * features]
            for number, (i, j) in enumerate(shifts)
        ]
        y = sum(met[1:], met[0]) + bias
        return y if slope == 1 else jnp.maximum(y, slope * y)

    return _by_strips(strip, x, features).reshape(*x.shape[:3], features)


def up_conv(x: Float[jax.Array, "B H W C"], kernel: Float[jax.Array, "4 4 F C"]) -> Float[jax.Array, "B 2*H 2*W F"]:
    """The 4x4 transposed convolution of stride 2 and padding 1 (``up_conv.py``), column phase by column phase.

    Output row 2m + a sees input row m + a - 1 + r through tap 3 - (2r + a), for r = 0, 1; columns alike.
    """
    features = kernel.shape[2]
    phases = jnp.asarray(kernel, jnp.bfloat16)[::-1, ::-1].reshape(4, 2, 2, features, -1)  # 2r + a, s, b, out, in
    taps = [phases[:, :, b].transpose(1, 3, 0, 2).reshape(-1, 4 * features) for b in range(2)]

    def strip(window: UInt16[jax.Array, "g h w C"]) -> Float[jax.Array, "g h-2 2 w-2 2 F"]:
        pictures, height, width, _ = window.shape
        columns = []
        for b in range(2):
            seen = _neighbors(window[:, :, b : width - 1 + b], 2)
            rows = _product(seen, taps[b]).reshape(pictures, height, width - 2, 4, features)
            met = [rows[:, a : height - 2 + a, :, a] + rows[:, a + 1 : height - 1 + a, :, 2 + a] for a in range(2)]
            columns.append(jnp.stack(met, axis=2))
        return jnp.stack(columns, axis=4)

    batch, height, width, _ = x.shape
    return _by_strips(strip, x, 2 * features).reshape(batch, 2 * height, 2 * width, features)


def _neighbors(window: UInt16[jax.Array, "g r w C"], count: int) -> UInt16[jax.Array, "g r w-{count}+1 {count}*C"]:
    """As many neighbors of a row side by side, from each pixel on."""
    width = window.shape[2] - count + 1
    return jnp.concatenate([window[:, :, j : j + width] for j in range(count)], axis=3)


def _product(rows: UInt16[jax.Array, "g r w K"], taps: Float[jax.Array, "K N"]) -> Float[jax.Array, "g*r*w N"]:
    """The product of pixels, which are bits of bfloat16, and taps."""
    left = jax.lax.bitcast_convert_type(rows.reshape(-1, rows.shape[3]), jnp.bfloat16)
    return jax.lax.dot(left, taps, preferred_element_type=jnp.float32)


def _by_strips(
    strip: Callable[[jax.Array], jax.Array], x: Float[jax.Array, "B H W C"], features: int
) -> Float[jax.Array, "n g r ..."]:
    """What ``strip`` makes of each strip and a pixel around it, a few at a time.

    Pixels are moved as the bits of their bfloat16: XLA copies bfloat16 on CPUs by converting it to float32 and back.
    """
    batch, height, width, channels = x.shape
    pixels = min(STRIP // features, MOST_PIXELS)
    rows = _divisor(height, pixels // width)
    pictures = _divisor(batch, pixels // (height * width)) if rows == height else 1
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16)
    padded = jnp.pad(bits, ((0, 0), (1, 1), (1, 1), (0, 0)))
    each = height // rows

    def one(number: jax.Array) -> jax.Array:
        start = (number // each * pictures, number % each * rows, 0, 0)
        return strip(jax.lax.dynamic_slice(padded, start, (pictures, rows + 2, width + 2, channels)))

    count = batch // pictures * each
    abreast = ABREAST.get(implementation.bfloat16_unit(), 1)
    turns = jnp.arange(count).reshape(-1, _divisor(count, abreast))
    found = jnp.stack(jax.lax.map(lambda numbers: [one(number) for number in numbers], turns), axis=1)
    return found.reshape(count, *found.shape[2:])


def _divisor(number: int, most: int) -> int:
    """The largest divisor that is at most ``most``, and at least 1."""
    return next(count for count in range(max(1, min(number, most)), 0, -1) if number % count == 0)

"""Convolution and pooling as PyTorch defines them, in full float32, for the networks that metrics look through.

Metrics must not depend on the accelerator, so products are never left to TF32 or bfloat16.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

Pair = tuple[int, int]
"""Rows, columns."""


def kernel(weight: np.ndarray) -> np.ndarray:
    """PyTorch's O I H W as H W I O."""
    return np.asarray(weight.transpose(2, 3, 1, 0), order="C")


def conv(
    x: Float[jax.Array, "B H W C"],
    kernel: Float[jax.Array, "kh kw C F"],
    bias: Float[jax.Array, " F"],
    stride: int = 1,
    padding: Pair = (0, 0),
) -> Float[jax.Array, "B h w F"]:
    """``torch.nn.Conv2d``: zeros outside, extents rounded down; in float32, also where JAX may compute in float64."""
    out = jax.lax.conv_general_dilated(
        x.astype(jnp.float32),
        kernel.astype(jnp.float32),
        window_strides=(stride, stride),
        padding=[(p, p) for p in padding],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )
    return out + bias


def max_pool(
    x: Float[jax.Array, "B H W C"], window: int, stride: int, padding: int = 0, *, ceil: bool = False
) -> Float[jax.Array, "B h w C"]:
    """``torch.nn.MaxPool2d``: nothing outside counts; with ``ceil`` the last window may reach beyond the edge."""
    beyond = [_beyond(side + 2 * padding, window, stride) if ceil else 0 for side in x.shape[1:3]]
    return jax.lax.reduce_window(
        x,
        -jnp.inf,
        jax.lax.max,
        (1, window, window, 1),
        (1, stride, stride, 1),
        [(0, 0), *((padding, padding + more) for more in beyond), (0, 0)],
    )


def _beyond(side: int, window: int, stride: int) -> int:
    """How far the last window reaches beyond the edge when extents are rounded up."""
    return -(side - window) % stride


def mean_pool3(x: Float[jax.Array, "B H W C"]) -> Float[jax.Array, "B H W C"]:
    """Mean of the 3x3 neighbors that exist: ``AvgPool2d(3, 1, 1, count_include_pad=False)``, TensorFlow's ``SAME``."""

    def total(values: jax.Array) -> jax.Array:
        return jax.lax.reduce_window(
            values, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), [(0, 0), (1, 1), (1, 1), (0, 0)]
        )

    return total(x) / total(jnp.ones((1, *x.shape[1:3], 1), x.dtype))

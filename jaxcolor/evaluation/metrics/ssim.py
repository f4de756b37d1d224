"""Structural similarity (SSIM; Wang et al. 2004) in the two conventions that papers use.

There is no matrix product in here: sums of shifted slices stay in full float32 on every accelerator, where a
convolution would fall to TF32 or bfloat16 by default.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Num

from jaxcolor.evaluation.metrics.masking import Size, counted, masked_mean, whole_windows
from jaxcolor.evaluation.metrics.metric import Metric
from jaxcolor.evaluation.metrics.psnr import PEAK

SSIM_WINDOW = 11
"""Side of the Gaussian window, in pixels."""
SSIM_SIGMA = 1.5
SSIM_K1 = 0.01
SSIM_K2 = 0.03
SSIM_BORDER = SSIM_WINDOW // 2
"""Pixels at each edge of the picture on which no whole window can be centered."""

UNIFORM_WINDOW = 7
"""Side of the uniform window, in pixels."""


def _gaussian() -> list[float]:
    """The 11 weights of the Gaussian, which sum to 1."""
    weights = [math.exp(-0.5 * (i / SSIM_SIGMA) ** 2) for i in range(-SSIM_BORDER, SSIM_BORDER + 1)]
    return [w / sum(weights) for w in weights]


def _window_means(x: Float[jax.Array, "B H W C"], weights: Sequence[float]) -> Float[jax.Array, "B h w C"]:
    """Weighted mean of every whole window; the weights are those of its rows and of its columns.

    Columns and channels share an axis, along which a CPU takes several values at a time; of three channels it cannot.
    """
    batch, rows, columns, channels = x.shape
    height, width = (side - len(weights) + 1 for side in (rows, columns))
    x = x.reshape(batch, rows, columns * channels)
    x = functools.reduce(jnp.add, [w * x[:, i : i + height] for i, w in enumerate(weights)])
    x = functools.reduce(jnp.add, [w * x[:, :, i * channels : (i + width) * channels] for i, w in enumerate(weights)])
    return x.reshape(batch, height, width, channels)


def _similarity(
    prediction: Num[jax.Array, "B H W 3"], truth: Num[jax.Array, "B H W 3"], weights: Sequence[float], unbias: float
) -> Float[jax.Array, "B h w"]:
    """SSIM of every whole window, mean of R, G, B; ``unbias`` multiplies variances and covariance."""
    if min(prediction.shape[1:3]) < len(weights):
        raise ValueError(
            f"SSIM needs pictures of at least {len(weights)}x{len(weights)} pixels, "
            f"not {prediction.shape[1]}x{prediction.shape[2]}"
        )
    means = functools.partial(_window_means, weights=weights)
    # Variances come out as differences of means of squares. Centered values keep the squares small, so that float32
    # leaves errors of about 1e-3 against the constant 58.5 that they are added to.
    x, y = prediction.astype(jnp.float32) - PEAK / 2, truth.astype(jnp.float32) - PEAK / 2
    mean_x, mean_y = means(x), means(y)
    variances = unbias * (means(x * x) - mean_x**2 + means(y * y) - mean_y**2)
    covariance = unbias * (means(x * y) - mean_x * mean_y)
    mean_x, mean_y = mean_x + PEAK / 2, mean_y + PEAK / 2
    c1, c2 = (SSIM_K1 * PEAK) ** 2, (SSIM_K2 * PEAK) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * (2 * covariance + c2) / (variances + c2)).mean(axis=-1)


def ssim_map(
    prediction: Num[jax.Array, "B H W 3"], truth: Num[jax.Array, "B H W 3"]
) -> Float[jax.Array, "B {prediction.shape[1]-10} {prediction.shape[2]-10}"]:
    """Structural similarity (Wang et al. 2004) of every 11x11 window that lies whole in the picture.

    Gaussian weights (sigma 1.5), K1 0.01, K2 0.03, range 255, biased variances, each of R, G, B by itself and then
    their mean: what ``tf.image.ssim`` averages.

    Args:
      prediction: sRGB, 0 to 255.
      truth: sRGB, 0 to 255.

    Returns:
      In [-1, 1]; entry (i, j) is the window centered on pixel (i + 5, j + 5).

    Raises:
      ValueError: a picture smaller than the window.
    """
    return _similarity(prediction, truth, _gaussian(), 1.0)


def inner(mask: Bool[jax.Array, "B H W"], border: int = SSIM_BORDER) -> Bool[jax.Array, "B h w"]:
    """The part of a mask on which windows are centered: the grid of ``ssim_map``."""
    return mask[:, border:-border, border:-border]


def _mean_of_windows(
    values: Float[jax.Array, "B h w"], window: int, mask: Bool[jax.Array, "B H W"] | None, size: Size | None
) -> Float[jax.Array, " B"]:
    centers = None if mask is None else inner(mask, window // 2)
    fitting = None if size is None else whole_windows(size, window)
    return masked_mean(values, counted(centers, fitting, *values.shape[1:]))


def ssim(
    prediction: Num[jax.Array, "B H W 3"],
    truth: Num[jax.Array, "B H W 3"],
    mask: Bool[jax.Array, "B H W"] | None = None,
    size: Size | None = None,
) -> Float[jax.Array, " B"]:
    """Mean of ``ssim_map`` for each photo: that of ``tf.image.ssim``.

    Args:
      prediction: sRGB, 0 to 255.
      truth: sRGB, 0 to 255.
      mask: windows count whose center it holds, though they look 5 pixels beyond its edge; None: all windows.
      size: height and width of each photo in its canvas: windows count that lie whole in it; None: the whole canvas.

    Returns:
      One number a photo, in [-1, 1]; NaN where no window counts, so for a photo smaller than the window too.

    Raises:
      ValueError: a canvas smaller than the window.
    """
    return _mean_of_windows(ssim_map(prediction, truth), SSIM_WINDOW, mask, size)


def ssim_uniform7(
    prediction: Num[jax.Array, "B H W 3"],
    truth: Num[jax.Array, "B H W 3"],
    mask: Bool[jax.Array, "B H W"] | None = None,
    size: Size | None = None,
) -> Float[jax.Array, " B"]:
    """Mean SSIM of uniform 7x7 windows: the default of ``skimage.metrics.structural_similarity`` (channel_axis=-1).

    Sample variances (N / (N - 1), N = 49), K1 0.01, K2 0.03, range 255, whole windows only, mean of R, G, B. Arguments,
    result and errors are those of ``ssim``, with windows that look 3 pixels around their center.
    """
    count = UNIFORM_WINDOW**2
    values = _similarity(prediction, truth, [1 / UNIFORM_WINDOW] * UNIFORM_WINDOW, count / (count - 1))
    return _mean_of_windows(values, UNIFORM_WINDOW, mask, size)


SSIM = Metric("ssim", ssim, "SSIM", 4, "higher", "Whole picture", always=True, of_objects=True)
SSIM_OBJECTS = Metric(
    "ssim_objects", ssim, "SSIM objects", 4, "higher", "Inside and outside the boxes", "objects", True
)
SSIM_BACKGROUND = Metric(
    "ssim_background", ssim, "SSIM background", 4, "higher", "Inside and outside the boxes", "background", True
)
SSIM_UNIFORM7 = Metric("ssim_uniform7", ssim_uniform7, "SSIM 7x7", 4, "higher", "Other conventions")

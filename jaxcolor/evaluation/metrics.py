"""PSNR and SSIM of 8-bit pictures, whole or inside a mask: pure, batched, for ``jax.jit``.

Pictures are sRGB with values 0 to 255, channels last; a float picture counts as it is, so round it first
(``color.quantize_rgb``). There is no matrix product in here: sums of shifted slices stay in full float32 on every
accelerator, where a convolution would fall to TF32 or bfloat16 by default.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Num

PEAK = 255.0
"""Largest value of a picture."""

SSIM_WINDOW = 11
"""Side of the Gaussian window, in pixels."""
SSIM_SIGMA = 1.5
SSIM_K1 = 0.01
SSIM_K2 = 0.03
SSIM_BORDER = SSIM_WINDOW // 2
"""Pixels at each edge of the picture on which no whole window can be centred."""


def masked_mean(values: Float[jax.Array, "B H W"], mask: Bool[jax.Array, "B H W"]) -> Float[jax.Array, " B"]:
    """Mean of each photo's values where its mask is set; NaN for a photo whose mask is empty."""
    count = mask.sum(axis=(1, 2)).astype(values.dtype)
    # 0 / 0 would do, but trips jax_debug_nans.
    mean = jnp.where(mask, values, 0).sum(axis=(1, 2)) / jnp.maximum(count, 1)
    return jnp.where(count > 0, mean, jnp.nan)


def psnr(
    prediction: Num[jax.Array, "B H W 3"],
    truth: Num[jax.Array, "B H W 3"],
    mask: Bool[jax.Array, "B H W"] | None = None,
) -> Float[jax.Array, " B"]:
    """Peak signal-to-noise ratio of each photo in dB: 10 log10(255^2 / MSE), the MSE over pixels and RGB together.

    Args:
      prediction: sRGB, 0 to 255.
      truth: sRGB, 0 to 255.
      mask: pixels that count; None: all.

    Returns:
      One number a photo: infinity where nothing differs, NaN where the mask is empty. What a mean makes of the two is
      the protocol's choice (``results.PSNR_CAP``).
    """
    square = jnp.square(prediction.astype(jnp.float32) - truth.astype(jnp.float32)).mean(axis=-1)
    error = square.mean(axis=(1, 2)) if mask is None else masked_mean(square, mask)
    decibel = 10 * jnp.log10(PEAK**2 / jnp.where(error == 0, 1, error))
    return jnp.where(error == 0, jnp.inf, decibel)


def _window() -> list[float]:
    """The 11 weights of the Gaussian, which sum to 1."""
    weights = [math.exp(-0.5 * (i / SSIM_SIGMA) ** 2) for i in range(-SSIM_BORDER, SSIM_BORDER + 1)]
    return [w / sum(weights) for w in weights]


def _blur(x: Float[jax.Array, "B H W C"]) -> Float[jax.Array, "B h w C"]:
    """Gaussian mean of every whole window."""
    height, width = x.shape[1] - 2 * SSIM_BORDER, x.shape[2] - 2 * SSIM_BORDER
    rows = [w * x[:, i : i + height] for i, w in enumerate(_window())]
    x = functools.reduce(jnp.add, rows)
    return functools.reduce(jnp.add, [w * x[:, :, i : i + width] for i, w in enumerate(_window())])


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
      In [-1, 1]; entry (i, j) is the window centred on pixel (i + 5, j + 5).

    Raises:
      ValueError: a picture smaller than the window.
    """
    if min(prediction.shape[1:3]) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM needs pictures of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, "
            f"not {prediction.shape[1]}x{prediction.shape[2]}"
        )
    # Variances come out as differences of means of squares. Centred values keep the squares small, so that float32
    # leaves errors of about 1e-3 against the constant 58.5 that they are added to.
    x, y = prediction.astype(jnp.float32) - PEAK / 2, truth.astype(jnp.float32) - PEAK / 2
    mean_x, mean_y = _blur(x), _blur(y)
    variances = _blur(x * x) - mean_x**2 + _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    mean_x, mean_y = mean_x + PEAK / 2, mean_y + PEAK / 2
    c1, c2 = (SSIM_K1 * PEAK) ** 2, (SSIM_K2 * PEAK) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * (2 * covariance + c2) / (variances + c2)).mean(axis=-1)


def inner(mask: Bool[jax.Array, "B H W"]) -> Bool[jax.Array, "B h w"]:
    """The part of a mask on which windows are centred: the grid of ``ssim_map``."""
    return mask[:, SSIM_BORDER:-SSIM_BORDER, SSIM_BORDER:-SSIM_BORDER]


def ssim(
    prediction: Num[jax.Array, "B H W 3"],
    truth: Num[jax.Array, "B H W 3"],
    mask: Bool[jax.Array, "B H W"] | None = None,
) -> Float[jax.Array, " B"]:
    """Mean of ``ssim_map`` for each photo, over all windows or those whose centre lies in the mask.

    NaN where the mask holds no centre. Windows at the mask's edge look 5 pixels beyond it.
    """
    values = ssim_map(prediction, truth)
    return values.mean(axis=(1, 2)) if mask is None else masked_mean(values, inner(mask))

"""Peak signal-to-noise ratio, of RGB and of the two color axes of Lab."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Num

from jaxcolor import color
from jaxcolor.evaluation.metrics.masking import Size, counted, masked_mean
from jaxcolor.evaluation.metrics.metric import Metric

PEAK = 255.0
"""Largest value of a picture."""
PSNR_CAP = 100.0
"""PSNR of a photo in means, dB, at most: one identical picture, which is infinitely good, would decide every mean."""


def _decibel(square: Float[jax.Array, "B H W"], mask: Bool[jax.Array, "B H W"] | None) -> Float[jax.Array, " B"]:
    error = masked_mean(square, mask)
    decibel = 10 * jnp.log10(PEAK**2 / jnp.where(error == 0, 1, error))
    return jnp.where(error == 0, jnp.inf, decibel)


def psnr(
    prediction: Num[jax.Array, "B H W 3"],
    truth: Num[jax.Array, "B H W 3"],
    mask: Bool[jax.Array, "B H W"] | None = None,
    size: Size | None = None,
) -> Float[jax.Array, " B"]:
    """Peak signal-to-noise ratio of each photo in dB: 10 log10(255^2 / MSE), the MSE over pixels and RGB together.

    Args:
      prediction: sRGB, 0 to 255.
      truth: sRGB, 0 to 255.
      mask: pixels that count; None: all.
      size: height and width of each photo in its canvas; None: the whole canvas.

    Returns:
      dB, one number for each photo: infinity where nothing differs, NaN where no pixel counts. Means cap it at
      ``PSNR_CAP``.
    """
    square = jnp.square(prediction.astype(jnp.float32) - truth.astype(jnp.float32)).mean(axis=-1)
    return _decibel(square, counted(mask, size, *square.shape[1:]))


def psnr_ab(
    prediction: Num[jax.Array, "B H W 3"],
    truth: Num[jax.Array, "B H W 3"],
    mask: Bool[jax.Array, "B H W"] | None = None,
    size: Size | None = None,
) -> Float[jax.Array, " B"]:
    """PSNR of the colors alone, in dB: 10 log10(255^2 / MSE), the MSE over pixels and over a* and b* together.

    Both 8-bit pictures are taken to CIE Lab (``color.rgb_to_lab``), so clipping to gamut and rounding count. The peak
    is that of 8-bit pictures, though a* and b* span about -110 to 110: a convention, which moves every value by the
    same number of dB. Arguments and result are those of ``psnr``.
    """
    a, b = (color.rgb_to_lab(color.unit_rgb(x, jnp.float32))[..., 1:] for x in (prediction, truth))
    square = jnp.square(a - b).mean(axis=-1)
    return _decibel(square, counted(mask, size, *square.shape[1:]))


PSNR = Metric("psnr", psnr, "PSNR", 2, "higher", "Whole picture", always=True, of_objects=True, cap=PSNR_CAP)
PSNR_OBJECTS = Metric(
    "psnr_objects", psnr, "PSNR objects", 2, "higher", "Inside and outside the boxes", "objects", True, cap=PSNR_CAP
)
PSNR_BACKGROUND = Metric(
    "psnr_background",
    psnr,
    "PSNR background",
    2,
    "higher",
    "Inside and outside the boxes",
    "background",
    True,
    cap=PSNR_CAP,
)
PSNR_AB = Metric("psnr_ab", psnr_ab, "PSNR ab", 2, "higher", "Other conventions", cap=PSNR_CAP)

"""Metrics of 8-bit pictures: pure, batched, for ``jax.jit``; each convention is in a function's name.

Pictures are sRGB with values 0 to 255, channels last; a float picture counts as it is, so round it first
(``color.quantize_rgb``). ``size`` says how much of a canvas each photo fills (``masking``); ``mask`` which of its
pixels count. LPIPS and the network of FID, which need weights, are ``lpips``, ``inception`` and ``fid``. What
``eval.py`` measures are ``Metric`` records, each in the file of its function; ``registry`` is the table of them.
"""

from jaxcolor.evaluation.metrics.colors import ciede2000, colorfulness_abs, colorfulness_hs, delta_e_2000, mean_chroma
from jaxcolor.evaluation.metrics.masking import Size, counted, extent_mask, masked_mean, whole_windows
from jaxcolor.evaluation.metrics.metric import Metric
from jaxcolor.evaluation.metrics.psnr import PEAK, psnr, psnr_ab
from jaxcolor.evaluation.metrics.ssim import (
    SSIM_BORDER,
    SSIM_K1,
    SSIM_K2,
    SSIM_SIGMA,
    SSIM_WINDOW,
    UNIFORM_WINDOW,
    inner,
    ssim,
    ssim_map,
    ssim_uniform7,
)

__all__ = [
    "PEAK",
    "SSIM_BORDER",
    "SSIM_K1",
    "SSIM_K2",
    "SSIM_SIGMA",
    "SSIM_WINDOW",
    "UNIFORM_WINDOW",
    "Metric",
    "Size",
    "ciede2000",
    "colorfulness_abs",
    "colorfulness_hs",
    "counted",
    "delta_e_2000",
    "extent_mask",
    "inner",
    "masked_mean",
    "mean_chroma",
    "psnr",
    "psnr_ab",
    "ssim",
    "ssim_map",
    "ssim_uniform7",
    "whole_windows",
]

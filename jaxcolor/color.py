"""sRGB <-> CIE Lab (D65), the networks' normalisation of it, and the 529 ab bins.

One implementation for both worlds: every function takes JAX arrays (on device, under ``jit``) or NumPy arrays (data
readers, tests) and answers in kind. Constants and clamps are those of the reference code (Zhang et al. 2017's
``colorization-pytorch``), which rounds the D65 matrices to six digits.

Inside the networks L is (L* - 50) / 100 and ab is ab* / 110; the last axis holds the channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num, UInt8

from jaxcolor.batch import Array

L_CENTER = 50.0
L_SCALE = 100.0
AB_SCALE = 110.0

AB_QUANTUM = 10
"""Side of an ab bin, in units of ab*."""
BINS_PER_AXIS = 2 * int(AB_SCALE) // AB_QUANTUM + 1
BINS = BINS_PER_AXIS**2
"""529 classes: the full grid, not only the 313 bins in gamut of Zhang et al. 2016."""

_XYZ_FROM_RGB = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_RGB_FROM_XYZ = np.array(
    [
        [3.24048134, -1.53715152, -0.49853633],
        [-0.96925495, 1.87599, 0.04155593],
        [0.05564664, -0.20404134, 1.05731107],
    ]
)
_WHITE_D65 = np.array([0.95047, 1.0, 1.08883])


def _mix(pixels: Any, matrix: np.ndarray) -> Any:
    """The 3x3 matrix on the channels, written out: a matmul would run in reduced precision on GPU and TPU."""
    r, g, b = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    rows = [float(m[0]) * r + float(m[1]) * g + float(m[2]) * b for m in matrix]
    return pixels.__array_namespace__().stack(rows, axis=-1)


def rgb_to_lab(rgb: Float[Array, "*shape 3"]) -> Float[Array, "*shape 3"]:
    """SRGB in [0, 1] to L* in [0, 100] and ab* (about -110 to 110)."""
    xp: Any = rgb.__array_namespace__()
    # The unselected branch of a `where` is computed too: keep it finite, so that its gradient is.
    linear = xp.where(rgb > 0.04045, ((xp.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    scaled = _mix(linear, _XYZ_FROM_RGB) / xp.asarray(_WHITE_D65, dtype=rgb.dtype)
    cubic = xp.where(scaled > 0.008856, xp.maximum(scaled, 0.008856) ** (1 / 3), 7.787 * scaled + 16 / 116)
    x, y, z = cubic[..., 0], cubic[..., 1], cubic[..., 2]
    return xp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_rgb(lab: Float[Array, "*shape 3"], *, clip: bool = True) -> Float[Array, "*shape 3"]:
    """L* and ab* to sRGB in [0, 1]; colours out of gamut are clipped channel by channel.

    As in the reference, z and linear RGB are clamped at 0 from below on the way and nothing is clamped from above;
    ``clip=False`` leaves out the last clip, so values above 1 show how far out of gamut a colour is.
    """
    xp: Any = lab.__array_namespace__()
    y = (lab[..., 0] + 16) / 116
    x = lab[..., 1] / 500 + y
    z = xp.maximum(y - lab[..., 2] / 200, 0)
    cubic = xp.stack([x, y, z], axis=-1)
    scaled = xp.where(cubic > 0.2068966, cubic**3, (cubic - 16 / 116) / 7.787)
    linear = xp.maximum(_mix(scaled * xp.asarray(_WHITE_D65, dtype=lab.dtype), _RGB_FROM_XYZ), 0)
    rgb = xp.where(linear > 0.0031308, 1.055 * xp.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055, 12.92 * linear)
    return xp.clip(rgb, 0, 1) if clip else rgb


def normalize_lab(lab: Float[Array, "*shape 3"]) -> tuple[Float[Array, "*shape 1"], Float[Array, "*shape 2"]]:
    """L*, ab* as the networks see them: L in [-0.5, 0.5] and ab in about [-1, 1]."""
    return (lab[..., :1] - L_CENTER) / L_SCALE, lab[..., 1:] / AB_SCALE


def denormalize_lab(luminance: Float[Array, "*shape 1"], ab: Float[Array, "*shape 2"]) -> Float[Array, "*shape 3"]:
    """The way back from ``normalize_lab``."""
    xp: Any = luminance.__array_namespace__()
    return xp.concat([luminance * L_SCALE + L_CENTER, ab * AB_SCALE], axis=-1)


def unit_rgb(rgb: Num[Array, "*shape 3"], dtype: Any = np.float32) -> Float[Array, "*shape 3"]:
    """8-bit sRGB (0 to 255) as floating point in [0, 1]."""
    return rgb.astype(dtype) / 255


def quantize_rgb(rgb: Float[Array, "*shape 3"]) -> Num[Array, "*shape 3"]:
    """SRGB in [0, 1] to 8 bit, rounded to nearest (ties to even)."""
    xp: Any = rgb.__array_namespace__()
    return xp.round(xp.clip(rgb, 0, 1) * 255).astype(np.uint8)


def without_color(rgb: UInt8[np.ndarray, "*shape 3"]) -> UInt8[np.ndarray, "*shape"]:
    """The gray of the same L*, 8 bit. Other grays, such as Pillow's ``L``, are of another lightness."""
    lab = rgb_to_lab(unit_rgb(rgb))
    gray = lab_to_rgb(np.concatenate([lab[..., :1], np.zeros_like(lab[..., 1:])], axis=-1))
    return np.asarray(quantize_rgb(gray))[..., 1]


def ab_range(ab: Float[Array, "B H W 2"]) -> Float[Array, " B"]:
    """(max - min of a) + (max - min of b) of each picture, in the units of ``ab``: how colourful its truth is."""
    xp: Any = ab.__array_namespace__()
    return xp.sum(xp.max(ab, axis=(1, 2)) - xp.min(ab, axis=(1, 2)), axis=-1)


def ab_to_bin(ab: Float[Array, "*shape 2"]) -> Int[Array, "*shape"]:
    """Index (0 to 528) of the nearest bin of normalised ab; halves round to even, as in PyTorch."""
    xp: Any = ab.__array_namespace__()
    grid = xp.round((ab * AB_SCALE + AB_SCALE) / AB_QUANTUM)
    return (grid[..., 0] * BINS_PER_AXIS + grid[..., 1]).astype(np.int32)


def bin_centers() -> Float[np.ndarray, "529 2"]:
    """Normalised ab at the centre of each bin."""
    index = np.arange(BINS)
    grid = np.stack([index // BINS_PER_AXIS, index % BINS_PER_AXIS], axis=-1)
    return (grid * AB_QUANTUM - AB_SCALE) / AB_SCALE


def mean_ab(probabilities: Float[Array, "*shape 529"]) -> Float[Array, "*shape 2"]:
    """Expected normalised ab under a distribution over bins."""
    xp: Any = probabilities.__array_namespace__()
    centers = xp.asarray(bin_centers(), dtype=probabilities.dtype)
    return xp.stack([xp.sum(probabilities * centers[:, i], axis=-1) for i in range(2)], axis=-1)

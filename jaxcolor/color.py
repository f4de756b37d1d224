"""sRGB <-> CIE Lab (D65), the networks' normalization of it, and the 529 ab bins.

One implementation for both worlds: every function takes JAX arrays (on device, under ``jit``) or NumPy arrays (data
readers, tests) and answers in kind. Constants and clamps are those of the reference code (Zhang et al. 2017's
``colorization-pytorch``), which rounds the D65 matrices to six digits.

Inside the networks L is (L* - 50) / 100 and ab is ab* / 110; the last axis holds the channels.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, Num, UInt8, UInt16

from jaxcolor.batch import Array
from jaxcolor.runtime.errors import UserError

L_CENTER = 50.0
L_SCALE = 100.0
AB_SCALE = 110.0

AB_QUANTUM = 10
"""Side of an ab bin, in units of ab*."""
BINS_PER_AXIS = 2 * int(AB_SCALE) // AB_QUANTUM + 1
BINS = BINS_PER_AXIS**2
"""529 classes: the full grid, not only the 313 bins in gamut of Zhang et al. 2016."""

Gamut = Literal["chroma", "clip"]
"""What becomes of colors that sRGB does not have: less chroma (``fit_gamut``), or channels clipped (the reference)."""

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


def lightness(rgb: UInt8[np.ndarray, "*shape 3"]) -> Float32[np.ndarray, "*shape"]:
    """L* of 8-bit sRGB, from tables: that of ``rgb_to_lab`` to 1e-4, in a fraction of its time and memory."""
    tables = _luminance_tables()
    y = tables[0][rgb[..., 0]]
    y += tables[1][rgb[..., 1]]
    y += tables[2][rgb[..., 2]]
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, (116 * 7.787) * y).astype(np.float32, copy=False)


def gray_lightness(gray: UInt16[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """L* of 16-bit sRGB gray, from a table: not rounded to 8 bits."""
    return _gray_lightness_table()[gray]


@functools.cache
def _gray_lightness_table() -> Float32[np.ndarray, " 65536"]:
    level = np.arange(65536) / 65535
    return rgb_to_lab(np.repeat(level[:, None], 3, axis=1))[:, 0].astype(np.float32)


@functools.cache
def _luminance_tables() -> Float32[np.ndarray, "3 256"]:
    """What each 8-bit value of red, green and blue adds to Y."""
    level = np.arange(256) / 255
    linear = np.where(level > 0.04045, ((level + 0.055) / 1.055) ** 2.4, level / 12.92)
    return (_XYZ_FROM_RGB[1][:, None] * linear).astype(np.float32)


def lab_to_rgb(lab: Float[Array, "*shape 3"], *, clip: bool = True) -> Float[Array, "*shape 3"]:
    """L* and ab* to sRGB in [0, 1]; colors out of gamut are clipped channel by channel.

    As in the reference, z and linear RGB are clamped at 0 from below on the way and nothing is clamped from above;
    ``clip=False`` leaves out the last clip, so values above 1 show how far out of gamut a color is.
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


_GAMUT_TOLERANCE = 1e-4
"""How far linear RGB may lie outside [0, 1]: the rounded matrices put white at 1.00003. Clipping it costs 0.07 L*."""
_BISECTIONS = 12
"""The chroma of what is mapped is exact to 1 / 2**12 of what it was."""


def fit_gamut(lab: Float[Array, "*shape 3"]) -> Float[Array, "*shape 3"]:
    """The nearest color of less chroma that sRGB can show, at the same L* and hue.

    ``lab_to_rgb`` alone clips channels, which moves L* by up to 45 in extreme colors; after this mapping it moves L* by
    less than 0.1. Colors in gamut are returned bit for bit. Along a line of constant L* and hue, more chroma never
    becomes less. Where L* itself is beyond black or white the result is gray.

    Args:
      lab: L* in [0, 100] and ab*, of any chroma; finite.
    """
    xp: Any = lab.__array_namespace__()
    if not isinstance(lab, np.ndarray):
        return xp.concat([lab[..., :1], lab[..., 1:] * _chroma_scale(lab)[..., None]], axis=-1)
    # On the host, bisect only where it is needed: of a photo, few percent of the pixels.
    outside = np.flatnonzero(~_in_range(*_linear_rgb(lab)(1, (0, 1, 2))))
    fitted = lab.copy()
    pixels = fitted.reshape(-1, 3)  # a view
    pixels[outside, 1:] *= _chroma_scale(pixels[outside])[:, None]
    return fitted


def _linear_rgb(lab: Any) -> Callable[[Any, tuple[int, ...]], list[Any]]:
    """A function from a scale of the chroma to the channels (0 red, 1 green, 2 blue) of linear RGB, not clamped."""
    xp: Any = lab.__array_namespace__()

    def cubed(root: Any) -> Any:
        return xp.where(root > 0.2068966, root * root * root, (root - 16 / 116) / 7.787)

    root_y, x_slope, z_slope = (lab[..., 0] + 16) / 116, lab[..., 1] / 500, lab[..., 2] / -200
    y = cubed(root_y)

    def at(scale: Any, channels: tuple[int, ...]) -> list[Any]:
        x, z = cubed(root_y + x_slope * scale), cubed(root_y + z_slope * scale)
        rows = [[float(v) for v in _RGB_FROM_XYZ[i] * _WHITE_D65] for i in channels]
        return [row[0] * x + row[1] * y + row[2] * z for row in rows]

    return at


def _in_range(*channels: Any) -> Any:
    """Whether all of these channels of linear RGB lie in [0, 1]."""
    return functools.reduce(operator.and_, [abs(c - 0.5) <= 0.5 + _GAMUT_TOLERANCE for c in channels])


def _chroma_scale(lab: Any) -> Any:
    """The largest factor of chroma, in [0, 1], that puts each color in gamut.

    Bisection needs everything between gray and a color in gamut to be in gamut too. That holds for all bounds of the
    cube but one: towards the brightest yellows red exceeds 1 on the way and comes back. Red rises, then falls; so below
    a color that is too red its bound is crossed exactly once, and it is bisected after the others.
    """
    linear = _linear_rgb(lab)

    def apart_from_too_red(scale: Any) -> Any:
        red, green, blue = linear(scale, (0, 1, 2))
        return _in_range(green, blue) & (red >= -_GAMUT_TOLERANCE)

    def not_too_red(scale: Any) -> Any:
        return linear(scale, (0,))[0] <= 1 + _GAMUT_TOLERANCE

    return _bisect(not_too_red, _bisect(apart_from_too_red, lab[..., 0] * 0 + 1))


def _bisect(holds: Callable[[Any], Any], most: Any) -> Any:
    """The largest numbers up to ``most`` for which a condition holds that, once broken, stays broken; else 0."""
    xp: Any = most.__array_namespace__()
    found = most * 0
    for step in range(1, _BISECTIONS + 1):
        tried = found + most * 0.5**step
        found = xp.where(holds(tried), tried, found)
    return xp.where(holds(most), most, found)


def saturate(ab: Float[Array, "*shape 2"], factor: float) -> Float[Array, "*shape 2"]:
    """Chroma times a factor, at constant L* and hue; what then is out of gamut is for ``fit_gamut``.

    Args:
      ab: in any units.
      factor: at least 0; 0 is gray.
    """
    return ab * factor


_GRAY_CHROMA = 0.1


class SaturationCurve(NamedTuple):
    """Chroma (in ab*) as it should be, against chroma as predicted: monotone, piecewise linear, from (0, 0).

    Above the last knot its gain stays. Tuples of numbers, so that it can be kept with weights.
    """

    predicted: tuple[float, ...]
    """The knots, ascending."""
    wanted: tuple[float, ...]
    """Not descending."""


def calibrate_saturation(
    predicted_chroma: Float[np.ndarray, "*_"],
    true_chroma: Float[np.ndarray, "*_"],
    match: Literal["quantiles", "means"] = "quantiles",
    knots: int = 16,
) -> SaturationCurve:
    """The curve that makes predicted chroma like the ground truth's; a regression's is too low, since it averages hues.

    Args:
      predicted_chroma: of pixels, in ab*.
      true_chroma: of the same pixels.
      match: ``quantiles``: chroma is distributed as the truth's is, wherever its strong colors are: vivid. ``means``:
        pixels of one predicted chroma get the mean of their true chroma: closer to each pixel's truth, less vivid.
      knots: apart from (0, 0); as many pixels lie between each two. There are fewer where predictions repeat, and none
        below a chroma of 0.1, which is gray.

    Raises:
      UserError: no pixels, not as many of both, or chroma that is negative or not finite.
    """
    predicted, true = (np.asarray(c, np.float64).ravel() for c in (predicted_chroma, true_chroma))
    if predicted.shape != true.shape or not predicted.size:
        raise UserError(
            f"saturation: {predicted.size} predicted and {true.size} true chromas; give as many, at least 1"
        )
    if not (np.isfinite(predicted) & np.isfinite(true) & (predicted >= 0) & (true >= 0)).all():
        raise UserError("saturation: chroma must be finite and at least 0")
    if match == "quantiles":
        shares = (np.arange(knots) + 0.5) / knots
        x, y = np.quantile(predicted, shares), np.quantile(true, shares)
    else:
        order = np.argsort(predicted, kind="stable")
        groups = np.array_split(order, min(knots, len(order)))
        x, y = (np.array([chroma[group].mean() for group in groups]) for chroma in (predicted, true))
    x, same = np.unique(x, return_inverse=True)
    y = _not_descending(np.bincount(same, y) / np.bincount(same), np.bincount(same))
    x, y = x[x > _GRAY_CHROMA], y[x > _GRAY_CHROMA]
    return SaturationCurve((0.0, *x.tolist()), (0.0, *y.tolist()))


def _not_descending(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The nearest values, in least squares, that do not descend: isotonic regression by its max-min formula."""
    total, weight = (np.concatenate([[0.0], np.cumsum(v)]) for v in (values * weights, weights))
    first, last = np.arange(len(values))[:, None], np.arange(len(values))[None, :]
    # Means of values[first : last + 1]; elsewhere infinite, so that minima pass over it.
    spans = np.maximum(weight[last + 1] - weight[first], 1e-300)
    means = np.where(last >= first, (total[last + 1] - total[first]) / spans, np.inf)
    least_from = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
    return np.max(np.where(first <= last, least_from, -np.inf), axis=0)


def apply_saturation(
    curve: SaturationCurve, ab: Float[Array, "*shape 2"], strength: float = 1.0
) -> Float[Array, "*shape 2"]:
    """Chroma as a curve wants it, at constant L* and hue; stronger colors stay the stronger ones.

    Args:
      curve: from ``calibrate_saturation``; with no knot but (0, 0) it does nothing.
      ab: ab*.
      strength: 0 leaves ab as it is, 1 follows the curve; between them chroma is mixed.
    """
    xp: Any = ab.__array_namespace__()
    if len(curve.predicted) == 1:
        return ab
    knots, wanted = (xp.asarray(v, dtype=ab.dtype) for v in curve)
    # The gain is constant below the first knot and above the last; the square root never sees 0.
    lowest, highest = curve.predicted[1] ** 2, curve.predicted[-1] ** 2
    chroma = xp.sqrt(xp.clip(xp.sum(ab * ab, axis=-1, keepdims=True), lowest, highest))
    gain = (xp.interp(chroma, knots, wanted) / chroma).astype(ab.dtype)
    return ab * (1 + strength * (gain - 1))


def normalize_lab(lab: Float[Array, "*shape 3"]) -> tuple[Float[Array, "*shape 1"], Float[Array, "*shape 2"]]:
    """L*, ab* as the networks see them: L in [-0.5, 0.5] and ab in about [-1, 1]."""
    return (lab[..., :1] - L_CENTER) / L_SCALE, lab[..., 1:] / AB_SCALE


def denormalize_lab(luminance: Float[Array, "*shape 1"], ab: Float[Array, "*shape 2"]) -> Float[Array, "*shape 3"]:
    """The inverse of ``normalize_lab``."""
    xp: Any = luminance.__array_namespace__()
    return xp.concat([luminance * L_SCALE + L_CENTER, ab * AB_SCALE], axis=-1)


def unit_rgb(rgb: Num[Array, "*shape 3"], dtype: Any = np.float32) -> Float[Array, "*shape 3"]:
    """8-bit sRGB (0 to 255) as floating point in [0, 1]."""
    return rgb.astype(dtype) / 255


Bits = Literal[8, 16]
"""Of each channel of a picture."""


def quantize_rgb(rgb: Float[Array, "*shape 3"], bits: Bits = 8) -> Num[Array, "*shape 3"]:
    """SRGB in [0, 1] to 8 or 16 bit, rounded to nearest (ties to even)."""
    xp: Any = rgb.__array_namespace__()
    return xp.round(xp.clip(rgb, 0, 1) * ((1 << bits) - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def to_8_bits(pixels: Num[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """16-bit pixels in 8 bit, rounded to nearest; those of 8 bit as they are."""
    return pixels if pixels.dtype == np.uint8 else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def without_color(rgb: UInt8[np.ndarray, "*shape 3"]) -> UInt8[np.ndarray, "*shape"]:
    """The gray of the same L*, 8 bit. Other grays, such as Pillow's ``L``, are of another lightness."""
    lab = rgb_to_lab(unit_rgb(rgb))
    gray = lab_to_rgb(np.concatenate([lab[..., :1], np.zeros_like(lab[..., 1:])], axis=-1))
    return np.asarray(quantize_rgb(gray))[..., 1]


def ab_range(ab: Float[Array, "B H W 2"]) -> Float[Array, " B"]:
    """(max - min of a) + (max - min of b) of each picture, in the units of ``ab``: how colorful its truth is."""
    xp: Any = ab.__array_namespace__()
    return xp.sum(xp.max(ab, axis=(1, 2)) - xp.min(ab, axis=(1, 2)), axis=-1)


def ab_to_bin(ab: Float[Array, "*shape 2"]) -> Int[Array, "*shape"]:
    """Index (0 to 528) of the nearest bin of normalized ab; halves round to even, as in PyTorch."""
    xp: Any = ab.__array_namespace__()
    grid = xp.round((ab * AB_SCALE + AB_SCALE) / AB_QUANTUM)
    return (grid[..., 0] * BINS_PER_AXIS + grid[..., 1]).astype(np.int32)


def bin_centers() -> Float[np.ndarray, "529 2"]:
    """Normalized ab at the center of each bin."""
    index = np.arange(BINS)
    grid = np.stack([index // BINS_PER_AXIS, index % BINS_PER_AXIS], axis=-1)
    return (grid * AB_QUANTUM - AB_SCALE) / AB_SCALE


def mean_ab(probabilities: Float[Array, "*shape 529"]) -> Float[Array, "*shape 2"]:
    """Expected normalized ab under a distribution over bins."""
    xp: Any = probabilities.__array_namespace__()
    centers = xp.asarray(bin_centers(), dtype=probabilities.dtype)
    return xp.stack([xp.sum(probabilities * centers[:, i], axis=-1) for i in range(2)], axis=-1)

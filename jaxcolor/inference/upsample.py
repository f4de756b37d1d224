"""Predicted ab from the canvas to the photo's own size, joined with its L*, in strips of rows: NumPy and Pillow.

Plain upsampling bleeds color over the edges of objects: an edge of the photo lies somewhere inside a pixel of the
canvas, and the photo's own L* knows where. ``luma_slope`` fits ab as a linear function of L* in each 3 x 3 window of
the canvas, as a guided filter does (He, Sun and Tang, 2010), and adds what that makes of the L* that the canvas lost:

    ab_up = up(ab) + up(slope) * (L - up(L_canvas)),    slope = cov(L, ab) / (var(L) + eps)

Where L* has no detail this is plain upsampling. It is bicubic for ab and L*, bilinear for the slopes: with true ab both
gain (``benchmarks/upsample.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Float32, UInt8, UInt16
from PIL import Image

from jaxcolor import color
from jaxcolor.batch import Array
from jaxcolor.color import Bits, Gamut
from jaxcolor.runtime.errors import UserError

Upsampling = Literal["luma_slope", "bilinear"]

SLOPE_EPSILON = 100.0
"""Added to the variance of L*, in units of L* squared: windows whose L* varies by less than 10 are held for flat."""
STRIP_PIXELS = 1 << 15
"""Pixels of a strip: about what the processor's cache holds of its planes. One row at least."""


class Strip(NamedTuple):
    """Some rows of a photo."""

    rows: slice
    lab: Float32[np.ndarray, "h W 3"]
    """The photo's L*, and ab* at its size."""


def check_upsampling(upsampling: str) -> None:
    """Whether there is such an upsampling.

    Raises:
      UserError: there is none of this name.
    """
    if upsampling not in get_args(Upsampling):
        raise UserError(f"upsampling {upsampling!r}: must be {' or '.join(get_args(Upsampling))}")


def luma_slope(
    lightness: Float[Array, "*batch H W"], ab: Float[Array, "*batch H W 2"], epsilon: float = SLOPE_EPSILON
) -> Float[Array, "*batch H W 2"]:
    """How much ab* grows with L*: the slope of a ridge regression in each 3 x 3 window, edges repeated.

    Args:
      lightness: L*.
      ab: ab*.
      epsilon: in units of L* squared; the more, the flatter.
    """
    light = lightness[..., None]
    mean_light, mean_ab = _window_mean(light), _window_mean(ab)
    covariance = _window_mean(light * ab) - mean_light * mean_ab
    variance = _window_mean(light * light) - mean_light * mean_light
    return covariance / (variance + epsilon)


def _window_mean(planes: Any) -> Any:
    """Means of 3 x 3 windows over the axes -3 and -2."""
    xp: Any = planes.__array_namespace__()
    height, width = planes.shape[-3:-1]
    padded = xp.pad(planes, [(0, 0)] * (planes.ndim - 3) + [(1, 1), (1, 1), (0, 0)], mode="edge")
    rows = sum(padded[..., i : i + height, :, :] for i in range(3))
    return sum(rows[..., j : j + width, :] for j in range(3)) / 9


def reduced(photo: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """The photo on the canvas, as the networks see it: Pillow's bilinear, antialiased.

    The same bits as ``Image.fromarray(photo).resize``, which would copy the photo to four bytes a pixel.
    """
    narrow = [_resized_rows(photo[rows], side) for rows in strips(photo.shape[0], photo.shape[1])]
    return np.asarray(Image.fromarray(np.concatenate(narrow)).resize((side, side), Image.Resampling.BILINEAR))


def strips(height: int, width: int, pixels: int = STRIP_PIXELS) -> Iterator[slice]:
    """The rows of a picture, some at a time."""
    rows = max(1, pixels // width)
    return (slice(start, min(start + rows, height)) for start in range(0, height, rows))


def upsampled(
    photo: UInt8[np.ndarray, "H W 3"],
    ab: Float32[np.ndarray, "S S 2"],
    upsampling: Upsampling = "luma_slope",
    strip_pixels: int = STRIP_PIXELS,
    wide_gray: UInt16[np.ndarray, "H W"] | None = None,
) -> Iterator[Strip]:
    """A photo's own L* with ab* from the canvas, strip by strip. The strips' size does not change a bit of the result.

    ``luma_slope`` is the default by what it does to true ab (``benchmarks/upsample.py``); on predicted ab it is yet to
    be confirmed with trained weights.

    Args:
      photo: sRGB, 0 to 255; only its L* is read.
      ab: ab* on the canvas, of any finite values.
      upsampling: ``luma_slope`` or ``bilinear``.
      strip_pixels: pixels of a strip.
      wide_gray: see ``join``.

    Raises:
      UserError: there is no such upsampling.
    """
    check_upsampling(upsampling)
    if upsampling == "bilinear":
        planes = [_Planes(ab, photo.shape, Image.Resampling.BILINEAR)]
    else:
        light = color.lightness(reduced(photo, ab.shape[0]))
        slope = luma_slope(light.astype(np.float64), ab.astype(np.float64)).astype(np.float32)
        planes = [
            _Planes(np.concatenate([ab, light[..., None]], axis=-1), photo.shape, Image.Resampling.BICUBIC),
            _Planes(slope, photo.shape, Image.Resampling.BILINEAR),
        ]
    for rows in strips(photo.shape[0], photo.shape[1], strip_pixels):
        light = color.lightness(photo[rows]) if wide_gray is None else color.gray_lightness(wide_gray[rows])
        up = planes[0][rows]
        if upsampling == "luma_slope":
            up = up[:, :2] + planes[1][rows] * (light[:, None] - up[:, 2:])
        yield Strip(rows, np.stack([light, up[:, 0], up[:, 1]], axis=-1))


def check_saturation(saturation: float) -> None:
    """Whether chroma can have such a factor.

    Raises:
      UserError: it is negative or not finite.
    """
    if not (math.isfinite(saturation) and saturation >= 0):
        raise UserError(f"saturation {saturation}: must be finite and at least 0")


def join(
    photo: UInt8[np.ndarray, "H W 3"],
    ab: Float[np.ndarray, "S S 2"],
    *,
    upsampling: Upsampling = "luma_slope",
    saturation: float = 1.0,
    gamut: Gamut = "chroma",
    wide_gray: UInt16[np.ndarray, "H W"] | None = None,
    bits: Bits = 8,
) -> UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"]:
    """A photo's own L* with normalized ab from the canvas.

    Works in strips: beside photo and result it takes a few megabytes, and 5 kB a row for a canvas of 256.

    Args:
      photo: sRGB, 0 to 255; only its L* is read.
      ab: about -1 to 1.
      upsampling: ``luma_slope`` keeps colors inside the photo's edges; ``bilinear``, as evaluation and the reference.
      saturation: factor of the chroma; 0 is gray.
      gamut: what becomes of colors that sRGB does not have. ``chroma``: less of it, at the same L* (to 0.5, of which
        most is 8 bits' rounding) and hue. ``clip``: channels are clipped, as in evaluation and the reference.
      wide_gray: the photo's gray in 16 bits, of which ``photo`` is the rounded form: its L* is kept in place of that.
      bits: of the result's channels.

    Raises:
      UserError: there is no such upsampling or gamut mapping, or the saturation is negative or not finite.
    """
    check_upsampling(upsampling)
    if gamut not in get_args(Gamut):
        raise UserError(f"gamut {gamut!r}: must be {' or '.join(get_args(Gamut))}")
    check_saturation(saturation)
    wanted = color.saturate(np.asarray(ab, np.float32) * np.float32(color.AB_SCALE), saturation)
    result = np.empty(photo.shape, np.uint8 if bits == 8 else np.uint16)
    for rows, lab in upsampled(photo, wanted, upsampling, wide_gray=wide_gray):
        result[rows] = color.quantize_rgb(color.lab_to_rgb(color.fit_gamut(lab) if gamut == "chroma" else lab), bits)
    return result


def without_color(photo: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """A photo's L* alone."""
    gray: UInt8[np.ndarray, "H W 3"] = join(photo, np.zeros((1, 1, 2), np.float32), upsampling="bilinear")
    return gray


class _Planes:
    """Planes of the canvas at the photo's size, of which any rows can be had.

    All rows of the photo are made at once, at the canvas's width, and widened when asked for: each pass of Pillow's
    resampling sees one axis alone, so rows do not depend on which others are asked for.
    """

    def __init__(self, canvas: np.ndarray, shape: tuple[int, ...], resampling: Image.Resampling) -> None:
        side, count = canvas.shape[0], canvas.shape[2]
        self._width, self._resampling = shape[1], resampling
        beside = Image.fromarray(canvas.transpose(0, 2, 1).reshape(side, count * side).astype(np.float32))
        self._rows = np.asarray(beside.resize((count * side, shape[0]), resampling)).reshape(shape[0] * count, side)
        self._count = count

    def __getitem__(self, rows: slice) -> Float32[np.ndarray, "h planes W"]:
        part = self._rows[rows.start * self._count : rows.stop * self._count]
        return _resized_rows(part, self._width, self._resampling).reshape(-1, self._count, self._width)


def _resized_rows(rows: np.ndarray, width: int, resampling: Image.Resampling = Image.Resampling.BILINEAR) -> np.ndarray:
    return np.asarray(Image.fromarray(rows).resize((width, rows.shape[0]), resampling))

"""Embedded ICC profiles: the colors of a photo converted to sRGB."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Num
from PIL import Image, ImageCms

from jaxcolor.color import Bits

_SPACES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
"""Color spaces of profiles that describe pixels, and Pillow's modes of such pixels."""
_LARGEST = 4 << 20
"""Bytes; profiles of printing presses have about 2 MB."""
_SAME = 1
"""Steps of 255: a profile that moves no color further is sRGB, and is not applied."""


def profile_of(image: Image.Image) -> bytes | None:
    """The ICC profile that a picture carries, where it describes pixels like the picture's.

    Profiles that are damaged, or of another color space than the pixels, are left aside, as viewers do: the picture
    is then taken for sRGB. A profile of RGB may lie with gray pixels, which are RGB with three equal channels.
    """
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not 128 < len(profile) <= _LARGEST:
        return None
    space = _space(profile)
    gray = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I")
    has = "CMYK" if image.mode == "CMYK" else "L" if gray else "RGB"
    return profile if space == has or (space == "RGB" and has == "L") else None


def scaled_table(levels: int, bits: Bits = 8) -> Num[np.ndarray, " levels"]:
    """The 8-bit or 16-bit value of each gray level where the levels are sRGB's; the last is white."""
    return _quantized(np.linspace(0.0, 1.0, levels), bits)


def gray_table(profile: bytes, levels: int, bits: Bits = 8) -> Num[np.ndarray, " levels"] | None:
    """The 8-bit or 16-bit sRGB value of each gray level by a profile for gray.

    Computed here, since Little CMS is off by up to ten steps in the shadows of a linear profile, and reads 8 bits only.

    Args:
      profile: for any kind of pixels.
      levels: how many there are; the last is white.
      bits: of the values.

    Returns:
      The table; None if the profile is not one for gray with a tone curve.
    """
    curve = _gray_curve(profile)
    if curve is None:
        return None
    linear = np.clip(np.nan_to_num(curve(np.linspace(0.0, 1.0, levels))), 0.0, 1.0)
    if profile[20:24] == b"Lab ":  # the curve gives L*
        linear = np.where(linear > 0.08, ((linear + 0.16) / 1.16) ** 3, linear * 100 / 903.3)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return _quantized(encoded, bits)


def _quantized(values: Float64[np.ndarray, " levels"], bits: Bits) -> Num[np.ndarray, " levels"]:
    return np.rint(values * ((1 << bits) - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """A picture of mode L, RGB or CMYK in RGB, its colors converted from a profile of its color space.

    Where the profile is that of sRGB it is returned as it is.
    """
    transform = _transform(profile)
    if transform is None:
        return image
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # None only where it is converted in place
    return converted


def _opened(profile: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(profile))


@functools.lru_cache(maxsize=64)
def _space(profile: bytes) -> str | None:
    """The mode of the pixels that a profile describes; None if it describes none, or cannot be used."""
    try:
        mode = _SPACES.get(_opened(profile).profile.xcolor_space.strip())
        if mode is not None and gray_table(profile, 2) is None:
            _transform(profile)
    except Exception:  # whatever a damaged profile makes Little CMS and the tables raise
        return None
    return mode


@functools.lru_cache(maxsize=64)
def _transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """To sRGB; None where that changes nothing. Relative colorimetric, the black point compensated: black is black."""
    source = _opened(profile)
    mode = _SPACES[source.profile.xcolor_space.strip()]
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if mode == "RGB":
        steps = np.arange(0, 256, 15, dtype=np.uint8)
        probe = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(len(steps), -1, 3)
        moved = np.asarray(ImageCms.applyTransform(Image.fromarray(probe), transform)).astype(int) - probe
        if np.abs(moved).max() <= _SAME:
            return None
    return transform


Curve = Callable[[Float64[np.ndarray, " n"]], Float64[np.ndarray, " n"]]


def _gray_curve(profile: bytes) -> Curve | None:
    """The tone curve of a profile for gray, from device values to luminance (ICC.1:2022, 10.6 and 10.18)."""
    if profile[16:20] != b"GRAY":
        return None
    (count,) = struct.unpack_from(">I", profile, 128)
    for number in range(min(count, 100)):
        name, offset, _ = struct.unpack_from(">4sII", profile, 132 + 12 * number)
        if name == b"kTRC":
            return _curve(profile[offset:])
    return None


def _curve(data: bytes) -> Curve | None:
    if data[:4] == b"curv":
        (count,) = struct.unpack_from(">I", data, 8)
        if not count:
            return lambda x: x
        if count == 1:
            gamma = struct.unpack_from(">H", data, 12)[0] / 256
            return lambda x: x**gamma
        points = np.frombuffer(data, ">u2", count, 12) / 65535
        return lambda x: np.interp(x, np.linspace(0, 1, count), points)
    if data[:4] == b"para":
        (kind,) = struct.unpack_from(">H", data, 8)
        names = ("g", "gab", "gabc", "gabcd", "gabcdef")[kind]
        values = np.array(struct.unpack_from(f">{len(names)}i", data, 12)) / 65536
        p = dict(zip("gabcdef", [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0], strict=True)) | dict(
            zip(names, values.tolist(), strict=True)
        )
        # Types 1 and 2 begin where the power's base is 0, and add c everywhere; types 3 and 4 begin at d.
        start = -p["b"] / p["a"] if kind in (1, 2) else p["d"]
        slope, above, below = (0.0, p["c"], p["c"]) if kind < 3 else (p["c"], p["e"], p["f"])
        return lambda x: np.where(x >= start, np.maximum(p["a"] * x + p["b"], 0) ** p["g"] + above, slope * x + below)
    return None

"""What a detector gets to see: the gray photo, which is all there is when colouring."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

_Y_WEIGHTS = (0.212671, 0.715160, 0.072169)
"""Of linear red, green and blue; the row for y in ``color.py``. D65's y is 1."""


def _linear() -> np.ndarray:
    values = np.arange(256) / 255
    return np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)


_LINEAR = _linear()
_RED, _GREEN, _BLUE = (np.float32(weight) * _LINEAR.astype(np.float32) for weight in _Y_WEIGHTS)


def detector_gray(rgb: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """L* of CIE Lab in 8 bits, three times.

    The paper's code runs its detector on OpenCV's 8-bit L, stacked three times: L* from 0 to 100 becomes 0 to 255,
    rounded. Video gray (Pillow's ``L``, Rec. 601 luma) is another picture, and gives other boxes.

    A detector wants it from every pixel of every photo, so it is computed with a table and one cube root
    (``color.rgb_to_lab`` computes a and b too); it differs from the rounded L* of that by at most one step.
    """
    y = _RED[rgb[..., 0]]
    y += _GREEN[rgb[..., 1]]
    y += _BLUE[rgb[..., 2]]
    lightness = np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)
    gray = np.rint(np.clip(lightness * 2.55, 0, 255)).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=-1)

"""A photo on further square canvases beside the networks' own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def on_canvases(image: Image.Image, sides: Sequence[int]) -> tuple[UInt8[np.ndarray, "_s _s 3"], ...]:
    """A photo at each of these sides, from its own pixels: as ``transforms.example`` brings it to the networks' canvas.

    Args:
      image: the photo at its original size, mode RGB.
      sides: of the canvases, pixels.
    """
    return tuple(np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)) for side in sides)

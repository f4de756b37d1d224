"""Gray of 12 or 16 bits; Pillow's own conversion to 8 clips at 255 in place of scaling."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Num
from PIL import Image

from jaxcolor.color import Bits
from jaxcolor.data.profiles import gray_table, scaled_table
from jaxcolor.data.tiff import white_of


def is_wide_gray(image: Image.Image) -> bool:
    """Whether a picture, perhaps not yet read, is gray of more than 8 bits."""
    return image.mode.startswith("I")


def shown_levels(image: Image.Image, profile: bytes | None, bits: Bits) -> Num[np.ndarray, "H W"]:
    """The gray of a picture that was read, white at the largest value; sRGB's by a profile for gray, where it has one.

    Args:
      image: for which ``is_wide_gray``.
      profile: its ICC profile, of any kind.
      bits: of the result.

    Raises:
      ValueError: values below 0 or above white.
    """
    values, (white, inverted) = np.asarray(image), white_of(image)
    if values.min() < 0 or values.max() > white:
        raise ValueError(f"its gray values are not from 0 to {white}, so that its white is unknown")
    table = gray_table(profile, white + 1, bits) if profile is not None else None
    levels = scaled_table(white + 1, bits) if table is None else table
    return (levels[::-1] if inverted else levels)[values]


def transparent(image: Image.Image) -> Bool[np.ndarray, "H W"] | None:
    """Where a picture that was read is transparent; None: nowhere."""
    clear = image.info.get("transparency")
    return np.asarray(image) == clear if isinstance(clear, int) else None

"""What ``Colorizer`` returns: an array that notebooks show."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from jaxcolor.color import to_8_bits
from jaxcolor.inference.upsample import without_color

_SIDE = 360
"""Pixels of the longer side of each picture shown."""


class Colored(np.ndarray):
    """A colored photo, sRGB, uint8 or uint16 (H, W, 3).

    As any array, but that Jupyter shows it, and parts cut out of it, beside its gray. What is computed from it is a
    plain array.
    """

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """What a function of NumPy makes of it: no picture any more."""
        return array[()] if return_scalar else np.asarray(array)

    def _repr_html_(self) -> str | None:
        """Before and after, side by side, small, as PNG inside the page; None where it is no picture."""
        pixels = np.asarray(self)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size or pixels.dtype not in (np.uint8, np.uint16):
            return None
        image = Image.fromarray(to_8_bits(pixels))
        image.thumbnail((_SIDE, _SIDE))
        after = np.asarray(image)
        shown = ((without_color(after), "gray"), (after, "colored"))
        pictures = "".join(f'<img src="{_data_uri(rgb)}" alt="{name}" title="{name}">' for rgb, name in shown)
        return f'<div style="display: flex; flex-wrap: wrap; gap: 4px">{pictures}</div>'


def _data_uri(rgb: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"

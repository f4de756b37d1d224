"""What the data loader does, said plainly: to compare with."""

import numpy as np
from PIL import Image


def resize(rgb: np.ndarray, side: int) -> np.ndarray:
    """A picture on a square canvas: Pillow's bilinear filter, antialiased; the aspect is not kept."""
    return np.asarray(Image.fromarray(rgb).resize((side, side), Image.Resampling.BILINEAR))


def cut(rgb: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The part of a photo inside a box of whole pixels."""
    x0, y0, x1, y1 = box.tolist()
    return rgb[y0:y1, x0:x1]


def mirror(rgb: np.ndarray) -> np.ndarray:
    """A picture left to right."""
    return np.ascontiguousarray(rgb[:, ::-1])

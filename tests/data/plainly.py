"""What the pipeline does, said plainly, and files as others write them: to compare with."""

import struct

import numpy as np
from PIL import Image

from jaxcolor.data.tools.tfrecord import masked_crc


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


def frame(record: bytes) -> bytes:
    """A record as it is in a TFRecord file."""
    length = struct.pack("<Q", len(record))
    return length + struct.pack("<I", masked_crc(length)) + record + struct.pack("<I", masked_crc(record))

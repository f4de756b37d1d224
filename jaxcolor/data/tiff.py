"""TIFF's many kinds of pixels: those that Pillow reads right, and those that are refused rather than shown wrong."""

from __future__ import annotations

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _PLANAR, _INK_SET, _SAMPLE_FORMAT = 274, 277, 284, 332, 339
_SIDEWAYS = (5, 6, 7, 8)


def tiff_size(image: TiffImageFile) -> tuple[int, int]:
    """Width and height of a TIFF that was opened and not yet read, as it is shown.

    From the tags: ``image.size`` is that after turning in some versions of Pillow, that before in others.
    """
    width, height = int(image.tag_v2[_WIDTH]), int(image.tag_v2[_LENGTH])
    turned = image.getexif().get(_ORIENTATION) in _SIDEWAYS
    return (height, width) if turned else (width, height)


def check_tiff(image: TiffImageFile) -> None:
    """Refuses a TIFF that was opened and whose pixels Pillow would read wrong, or whose white is unknown.

    Raises:
      ValueError: it is one; the message says what is not read.
    """
    tags = image.tag_v2
    bits = tuple(tags.get(_BITS, (1,)))
    photometric, samples = tags.get(_PHOTOMETRIC, 0), tags.get(_SAMPLES, 1)
    raw, planar = tags.get(_COMPRESSION, 1) == 1, tags.get(_PLANAR, 1) == 2
    formats = set(tags.get(_SAMPLE_FORMAT, (1,)))
    if image.mode == "F" or 3 in formats:
        raise ValueError("its pixels are floating-point numbers, whose white is unknown")
    if formats != {1}:
        raise ValueError("its pixels are signed numbers, whose white is unknown")
    if max(bits) > 16:
        raise ValueError(f"its pixels have {max(bits)} bits a channel; save it with 8 or 16")
    if photometric == 8:
        raise ValueError("its pixels are CIELAB; save it as RGB")
    if photometric == 5 and tags.get(_INK_SET, 1) != 1:
        raise ValueError("its inks are not CMYK; save it as RGB")
    if photometric == 6 and (raw or planar or samples != 3):
        raise ValueError("its pixels are YCbCr that is not compressed; save it as RGB")
    # Pillow reads each plane as if it had 8 bits, not inverted.
    plain = set(bits) == {8} and photometric in (1, 2, 3, 5) and (samples == 1 or photometric in (2, 5))
    if planar and raw and not (plain and tags.get(266, 1) == 1):
        raise ValueError("its channels lie in planes, uncompressed, not of 8 bits each; save it with interleaved ones")


def white_of(image: Image.Image) -> tuple[int, bool]:
    """The largest value of gray of more than 8 bits, and whether that is black (TIFF's min-is-white)."""
    if not isinstance(image, TiffImageFile):
        return 65535, False
    bits = int(image.tag_v2.get(_BITS, (16,))[0])
    return (1 << bits) - 1, image.tag_v2.get(_PHOTOMETRIC, 0) == 0

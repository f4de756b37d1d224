"""Names and beginnings of the formats that are read, of HEIC, which takes an extra, and of those that are not."""

from __future__ import annotations

import importlib
import importlib.util

HEIF = "HEIF"
"""Pillow's name of HEIC and HEIF, read where ``pillow-heif`` is installed (extra ``heic``).

It is no dependency: its wheels hold libheif and libde265 (LGPL 3) and x265 (GPL 2)."""
HEIF_SUFFIXES = (".heic", ".heif")
HEIF_IS_READ = importlib.util.find_spec("pillow_heif") is not None
INSTALL_HEIF = "pip install 'jaxcolor[heic]'"

_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".pgm", ".ppm")
PHOTO_SUFFIXES = (*_SUFFIXES, *HEIF_SUFFIXES) if HEIF_IS_READ else _SUFFIXES
"""Of files that are taken for photos in folders and archives; what they are follows from their contents."""
_UNREAD = (".avif", ".jp2", ".j2k", ".jxl", ".psd", ".dng", ".cr2", ".nef", ".arw", ".eps")
UNREAD_SUFFIXES = _UNREAD if HEIF_IS_READ else (*_UNREAD, *HEIF_SUFFIXES)
"""Of photos that are not read; convert them first."""

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_FOREIGN = (
    (0, b"%!PS", "EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "PSD"),
    (0, b"icns", "ICNS"),
    (0, b"\x00\x00\x01\x00", "ICO"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (4, b"ftypavi", "AVIF"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"<svg", "SVG"),
)
"""Where and how photos of other formats begin."""
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_heif(begin: bytes) -> bool:
    """Whether a file that begins so is HEIC or HEIF; an AVIF is of another brand."""
    return begin[4:8] == b"ftyp" and begin[8:12] in _BRANDS


def register_heif() -> None:
    """Teach Pillow to open it.

    libheif turns pictures itself, and their EXIF then says so; 10 and 12 bits become 8.
    """
    importlib.import_module("pillow_heif").register_heif_opener(thumbnails=False)


def unidentified(begin: bytes) -> str:
    """What to say of a file that begins so, and is none of those that are read."""
    if not begin:
        return "the file is empty"
    if is_heif(begin):
        if HEIF_IS_READ:
            return "cannot identify image file: HEIC that is damaged, or whose kind of pixels is not read"
        return f"HEIC is read with an extra: {INSTALL_HEIF}; or convert it to JPEG, PNG or TIFF"
    for at, magic, name in _FOREIGN:
        if begin.startswith(magic, at):
            return f"no photo of a format that is read ({name}); convert it to JPEG, PNG or TIFF"
    if begin.startswith(_TIFF_STARTS):
        return "cannot identify image file: a TIFF that is damaged, or whose kind of pixels is not read"
    return "cannot identify image file"

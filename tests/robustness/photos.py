"""Photos of rare kinds, made byte by byte: TIFFs of any tags, ICC profiles, EXIF blocks."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

BARS = np.repeat(np.repeat(np.arange(16, 256, 32, dtype=np.uint8), 3)[None], 10, axis=0)
"""Eight bars of gray, 24 x 10, with a white mark in the upper left corner."""
BARS[:3, :2] = 255
COLORS = np.dstack([BARS, BARS[:, ::-1], BARS[::-1]])


def encoded(image: Image.Image, form: str, **options) -> bytes:
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


def packed(values: np.ndarray, bits: int) -> bytes:
    """Rows of samples of any number of bits, each row padded to whole bytes."""
    shifts = np.arange(bits - 1, -1, -1)
    ones = (values.reshape(len(values), -1, 1).astype(np.int64) >> shifts) & 1
    return np.packbits(ones.reshape(len(values), -1).astype(np.uint8), axis=1).tobytes()


def tiff(strips: list[bytes], size: tuple[int, int], bits: tuple[int, ...], photometric: int, **options) -> bytes:
    """A little-endian (``order=">"``: big-endian) TIFF of whole-picture strips, one, or one a plane.

    Args:
      strips: the samples' bytes.
      size: width and height as stored.
      bits: of each sample.
      photometric: 0 min-is-white, 1 min-is-black, 2 RGB, 5 CMYK, 6 YCbCr, 8 CIELAB.
      **options: ``deflate``; ``tags``: others by number, each whole numbers (as LONG) or (type, count, bytes).
    """
    order = options.get("order", "<")
    if options.get("deflate"):
        strips = [zlib.compress(strip) for strip in strips]
    at, offsets = 8, []
    for strip in strips:
        offsets.append(at)
        at += len(strip)
    tags = {
        256: (size[0],),
        257: (size[1],),
        258: bits,
        259: (8 if options.get("deflate") else 1,),
        262: (photometric,),
        273: tuple(offsets),
        277: (len(bits),),
        278: (size[1],),
        279: tuple(map(len, strips)),
    } | options.get("tags", {})
    entries, extra = b"", b""
    after = at + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        kind, count, data = (
            value if isinstance(value[-1], bytes) else (4, len(value), struct.pack(f"{order}{len(value)}I", *value))
        )
        if len(data) > 4:
            place = struct.pack(f"{order}I", after + len(extra))
            extra += data + b"\0" * (len(data) % 2)
        else:
            place = data.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, kind, count) + place
    begin = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, at)
    return begin + b"".join(strips) + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + extra


def profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", pcs: bytes = b"XYZ ") -> bytes:
    """An ICC profile, version 2.1, of the tags given and what every profile needs."""
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"made\0" + bytes(78)
    tags = {b"desc": text, b"wtpt": xyz(0.9642, 1.0, 0.8249), b"cprt": b"text" + bytes(4) + b"none\0"} | tags
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, at + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"none", 0x02100000, kind, space, pcs)
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + xyz(0.9642, 1.0, 0.8249)[8:]
    return head.ljust(128, b"\0") + table + body


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))


def curve(*values: int) -> bytes:
    """``curv``: none: identity; one: a gamma times 256; more: a table of 16 bits."""
    return b"curv" + bytes(4) + struct.pack(f">I{len(values)}H", len(values), *values)


def parametric(kind: int, *values: float) -> bytes:
    return b"para" + bytes(4) + struct.pack(f">HH{len(values)}i", kind, 0, *(round(v * 65536) for v in values))


def gray_profile(tone: bytes, pcs: bytes = b"XYZ ") -> bytes:
    return profile(b"GRAY", {b"kTRC": tone}, pcs=pcs)


SRGB_PRIMARIES = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139))
WIDE_PRIMARIES = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))
"""Of Adobe RGB (1998), adapted to D50."""


def rgb_profile(tone: bytes, primaries=SRGB_PRIMARIES) -> bytes:
    names = zip(b"rgb", primaries, strict=True)
    tags = {bytes([letter]) + b"XYZ": xyz(*values) for letter, values in names}
    return profile(b"RGB ", tags | {bytes([letter]) + b"TRC": tone for letter in b"rgb"})


def exif(orientation: int, *entries: tuple[int, int, int, bytes]) -> bytes:
    """An EXIF block: the orientation, and entries as tag, type, count, data."""
    head = b"Exif\0\0"
    tags = sorted([(274, 3, 1, struct.pack("<HH", orientation, 0)), *entries])
    after, table, extra = 8 + 2 + 12 * len(tags) + 4, b"", b""
    for tag, kind, count, data in tags:
        if len(data) > 4:
            place = struct.pack("<I", after + len(extra))
            extra += data
        else:
            place = data.ljust(4, b"\0")
        table += struct.pack("<HHI", tag, kind, count) + place
    return head + struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + table + bytes(4) + extra

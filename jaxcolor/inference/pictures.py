"""Results as files: in what format, and with what of the photo's metadata.

Pixels of results are sRGB and upright, whatever the photo's were (``data.transforms.read_image``), so results carry
the profile of sRGB, an EXIF orientation of 1 and no thumbnail; what describes the pixels' form is left out, the rest of
EXIF and XMP and the resolution are kept. XMP says that the colors are inferred: IPTC's digital source type, and a step
of the history that names the weights. No time is written, so that the same work gives the same bytes.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from jaxcolor.color import Bits
from jaxcolor.data import formats
from jaxcolor.data.types import PhotoFile
from jaxcolor.inference import made_with
from jaxcolor.inference.xmp import annotated
from jaxcolor.runtime.errors import UserError

PictureFormat = Literal["png", "jpeg", "webp", "tiff", "tiff16"]
"""``tiff16``: TIFF of 16 bits a channel."""
SUFFIXES: dict[PictureFormat, str] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif", "tiff16": ".tif"}
MEDIA_TYPES: dict[PictureFormat, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "tiff": "image/tiff",
    "tiff16": "image/tiff",
}
QUALITY = 95
"""Of JPEG and WebP unless told otherwise."""

_KEPT_TAGS = frozenset((270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)))
"""Of EXIF's first directory: description, camera, resolution, software, time, artist, computer, rating, copyright,
Windows's texts. The others say how the file's pixels lie in it."""
_EXIF, _GPS, _XMP_TAG = 0x8769, 0x8825, 700
_ORIENTATION, _COLOR_SPACE, _WIDTH, _HEIGHT, _INTEROPERABILITY = 0x0112, 0xA001, 0xA002, 0xA003, 0xA005
_SIDEWAYS = (5, 6, 7, 8)
_READ_FROM = ("JPEG", "PNG", "WEBP", "TIFF", formats.HEIF)
_MOST_JPEG = 65_000
"""Bytes of EXIF or of XMP that one segment of a JPEG holds."""


class ExifTags(NamedTuple):
    """EXIF by tag, texts as the bytes that they were."""

    first: dict[int, Any]
    details: dict[int, Any]
    """Of the camera's settings."""
    position: dict[int, Any]

    def sized(self, width: int, height: int) -> ExifTags:
        """That of an upright result of this size, in sRGB."""
        known = ((_WIDTH, width), (_HEIGHT, height), (_COLOR_SPACE, 1))
        details = self.details | {tag: value for tag, value in known if tag in self.details}
        return ExifTags({**self.first, _ORIENTATION: 1}, details, self.position)

    def tobytes(self) -> bytes:
        """As JPEG, PNG and WebP keep it."""
        exif = Image.Exif()
        for tag, value in self.first.items():
            exif[tag] = value
        for number, tags in ((_EXIF, self.details), (_GPS, self.position)):
            if tags:
                exif.get_ifd(number).update(tags)
        return exif.tobytes()

    def directory(self) -> dict[int, Any]:
        """As TIFF keeps it."""
        parts = {_EXIF: self.details, _GPS: self.position}
        return self.first | {number: tags for number, tags in parts.items() if tags}


class Metadata(NamedTuple):
    """What a result carries over from its photo."""

    exif: ExifTags | None = None
    """Cleaned; without the result's size."""
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    """Pixels an inch along the result's width and height."""
    lost: tuple[str, ...] = ()
    """What the photo has but cannot be read."""


NO_METADATA = Metadata()


class Saving(NamedTuple):
    """How results are written."""

    format: PictureFormat = "png"
    quality: int | None = None
    """1 to 100, of JPEG and WebP; None: ``QUALITY``."""
    weights: str = ""
    """Named in the metadata."""
    settings: str = ""
    """From ``made_with``, kept in the texts of a PNG, and their digest in the XMP of others."""

    def check(self) -> None:
        """Whether there is such a format, and the quality fits it.

        Raises:
          UserError: it does not.
        """
        if self.format not in get_args(PictureFormat):
            raise UserError(f"format {self.format!r}: must be {', '.join(get_args(PictureFormat))}")
        if self.quality is not None and self.format not in ("jpeg", "webp"):
            raise UserError(f"quality {self.quality}: is for jpeg and webp; {self.format} loses nothing")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UserError(f"quality {self.quality}: must be from 1 to 100")

    @property
    def suffix(self) -> str:
        """Of the files' names."""
        return SUFFIXES[self.format]

    @property
    def bits(self) -> Bits:
        """Of each channel."""
        return 16 if self.format == "tiff16" else 8

    def of_8_bits(self) -> Saving:
        """The same for a picture of 8 bits a channel."""
        return self._replace(format="tiff") if self.bits == 16 else self


def read_metadata(photo: PhotoFile) -> Metadata:
    """The metadata of the photo in a file, as far as it can be read; never fails."""
    try:
        file = photo if not hasattr(photo, "data") else io.BytesIO(photo.data)
        with Image.open(file, formats=_READ_FROM) as image:
            if image.format == "PNG":
                image.load()  # EXIF and texts may follow the pixels
            return _metadata(image)
    except Exception:  # Pillow raises nearly anything; a format without metadata is not opened at all
        return NO_METADATA


def _metadata(image: Image.Image) -> Metadata:
    lost, exif, sideways = [], None, False
    try:
        given = image.getexif()
        sideways = given.get(_ORIENTATION) in _SIDEWAYS
        exif = _clean_exif(given)
    except Exception:
        lost.append("EXIF")
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if xmp is None and image.format == "TIFF":
        xmp = image.getexif().get(_XMP_TAG)
    if isinstance(xmp, str):
        xmp = xmp.encode()
    dpi = image.info.get("dpi")
    found = None
    if isinstance(dpi, tuple) and len(dpi) == 2 and all(0 < float(d) < 1e5 for d in dpi):
        x, y = (float(d) for d in dpi)
        found = (y, x) if sideways else (x, y)
    return Metadata(exif, xmp if isinstance(xmp, bytes) else None, found, tuple(lost))


def _clean_exif(given: Image.Exif) -> ExifTags | None:
    """What is true of the result too; None where there is nothing."""
    first = {tag: _as_read(value) for tag, value in given.items() if tag in _KEPT_TAGS}
    details = {tag: _as_read(value) for tag, value in given.get_ifd(_EXIF).items() if tag != _INTEROPERABILITY}
    position = {tag: _as_read(value) for tag, value in given.get_ifd(_GPS).items()}
    if given.get(_ORIENTATION) in _SIDEWAYS and 282 in first and 283 in first:
        first[282], first[283] = first[283], first[282]
    if not (first or details or position):
        return None
    exif = ExifTags(first, details, position)
    exif.tobytes()  # fails where a value cannot be written
    return exif


def _as_read(value: Any) -> Any:
    """A value that is written with the bytes that it was read from: Pillow reads texts as Latin-1, writes ASCII."""
    return value.encode("latin-1", "replace") if isinstance(value, str) and not value.isascii() else value


def encode(
    file: Any,
    rgb: UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"],
    saving: Saving,
    metadata: Metadata = NO_METADATA,
) -> tuple[str, ...]:
    """Write a result.

    Args:
      file: path, or opened for writing.
      rgb: sRGB, of ``saving.bits``.
      saving: format, quality, and the weights that the metadata names.
      metadata: from ``read_metadata``.

    Returns:
      What of the metadata could not be kept, ``EXIF`` or ``XMP``.
    """
    lost = list(metadata.lost)
    settings_kept = "" if saving.format == "png" or not saving.settings else made_with.digest(saving.settings)
    xmp, whole = annotated(metadata.xmp, saving.weights, settings_kept)
    if not whole:
        lost.append("XMP")
    exif = None if metadata.exif is None else metadata.exif.sized(rgb.shape[1], rgb.shape[0])
    settings: dict[str, Any] = {"icc_profile": srgb_profile()}
    if saving.format == "jpeg":
        if len(xmp) > _MOST_JPEG:
            xmp, _ = annotated(None, saving.weights, settings_kept)
            lost.append("XMP")
        if exif is not None and len(exif.tobytes()) > _MOST_JPEG:
            exif = None
            lost.append("EXIF")
        settings |= {"quality": saving.quality or QUALITY, "subsampling": 0, "optimize": True, "xmp": xmp}
    elif saving.format == "webp":
        settings |= {"quality": saving.quality or QUALITY, "xmp": xmp}
    elif saving.format == "png":
        texts = PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", xmp.decode())
        if saving.settings:
            texts.add_text(made_with.KEY, saving.settings)
        settings |= {"pnginfo": texts, "compress_level": 6}
    else:
        directory = ({} if exif is None else exif.directory()) | {_XMP_TAG: xmp}
        # Not compressed: libtiff, which would do it, takes no directories of EXIF.
        settings |= {"tiffinfo": directory, "compression": None}
    if exif is not None and not saving.format.startswith("tiff"):
        settings["exif"] = exif.tobytes()
    if metadata.dpi is not None:
        settings["dpi"] = metadata.dpi
    if saving.format == "tiff16":
        _save_tiff16(file, rgb, directory, metadata.dpi)
    else:
        Image.fromarray(rgb).save(file, format=saving.format.upper(), **settings)
    return tuple(dict.fromkeys(lost))


def _save_tiff16(
    file: Any, rgb: UInt16[np.ndarray, "H W 3"], tags: dict[int, Any], dpi: tuple[float, float] | None
) -> None:
    """TIFF 6.0 of 16 bits a channel, one strip, not compressed. Pillow writes its directories, but no such pixels."""
    height, width = rgb.shape[:2]
    directory = ImageFileDirectory_v2()  # little-endian
    for tag, value in tags.items():
        directory[tag] = value
    if dpi is not None:
        directory[282], directory[283], directory[296] = *dpi, 2  # an inch
    directory[256], directory[257] = width, height
    directory[258], directory[277], directory[339] = (16, 16, 16), 3, (1, 1, 1)  # unsigned
    directory[259], directory[262], directory[284] = 1, 2, 1  # not compressed, RGB, interleaved
    directory[273], directory[278], directory[279] = 0, height, rgb.nbytes  # at the directory's end
    directory[34675] = srgb_profile()
    with open(file, "wb") if isinstance(file, (str, os.PathLike)) else contextlib.nullcontext(file) as opened:
        directory.save(opened)
        opened.write(np.ascontiguousarray(rgb, "<u2").data)


@functools.cache
def srgb_profile() -> bytes:
    """An ICC profile of sRGB, the same in each run: its date is 0."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = bytes(12)
    return bytes(profile)


def side_by_side(gray: UInt8[np.ndarray, "H W 3"], colored: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W2 3"]:
    """The photo without colors and the result, with a white line between them."""
    line = np.full((gray.shape[0], max(2, gray.shape[1] // 100), 3), 255, np.uint8)
    return np.concatenate([gray, line, colored], axis=1)

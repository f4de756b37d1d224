"""The photos that people have sent: their files, and what of them is small enough to keep decoded."""

from __future__ import annotations

import secrets
import unicodedata
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxcolor.data.transforms import check_pixels, read_rgb
from jaxcolor.data.types import Encoded
from jaxcolor.inference.upsample import reduced
from jaxcolor.runtime.byte_cache import ByteCache
from jaxcolor.runtime.errors import UserError
from jaxcolor.web import limits


class GoneError(UserError):
    """A photo that was never here, or no longer is."""


class Upload(NamedTuple):
    """A photo as it is kept."""

    key: str
    name: str
    """Of its file, for downloads and sessions; of the browser's, without folders or control characters."""
    data: bytes
    """Its file."""
    size: tuple[int, int]
    """Width and height in pixels, upright."""
    canvas: UInt8[np.ndarray, "S S 3"]
    """What the networks see."""
    preview: UInt8[np.ndarray, "h w 3"]
    """At most ``PREVIEW_SIDE`` long, with the colors that the file has, if any: of all pictures only L* is read."""
    thumbnail: UInt8[np.ndarray, "h w 3"]
    """At most ``SAMPLE_SIDE`` long."""


class Uploads:
    """Photos by key, within ``limits``; those that were used longest ago are forgotten first."""

    def __init__(self, side: int) -> None:
        """``side``: of the canvas."""
        self._side = side
        self._kept: ByteCache[str, Upload] = ByteCache(limits.FILES_BYTES)
        self._decoded: ByteCache[str, np.ndarray] = ByteCache(limits.DECODED_BYTES)

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, name: str, data: bytes) -> Upload:
        """Take a photo.

        Raises:
          DataError: it is no photo, damaged, or has more pixels than are taken.
        """
        name = clean_name(name)
        file = Encoded(name, data)
        check_pixels(file, limits.PIXELS)
        rgb = read_rgb(file)
        key = secrets.token_urlsafe(16)
        small, smaller = (_shrunk(rgb, side) for side in (limits.PREVIEW_SIDE, limits.SAMPLE_SIDE))
        upload = Upload(key, name, data, (rgb.shape[1], rgb.shape[0]), reduced(rgb, self._side), small, smaller)
        self._kept.put(key, upload, len(data) + small.nbytes + smaller.nbytes + upload.canvas.nbytes)
        self._decoded.put(key, rgb, rgb.nbytes)
        return upload

    def get(self, key: str) -> Upload:
        """A photo.

        Raises:
          GoneError: it is not here.
        """
        upload = self._kept.get(key)
        if upload is None:
            raise GoneError("this photo is no longer kept here; send it again")
        return upload

    def pixels(self, upload: Upload) -> UInt8[np.ndarray, "H W 3"]:
        """A photo at its own size, decoded again where it must."""
        rgb = self._decoded.get(upload.key)
        if rgb is None:
            rgb = read_rgb(Encoded(upload.name, upload.data))
            self._decoded.put(upload.key, rgb, rgb.nbytes)
        return rgb

    def remove(self, key: str) -> None:
        """Forget a photo."""
        self._kept.remove(key)
        self._decoded.remove(key)


def clean_name(name: str) -> str:
    """A file's name as it can be shown, written into a header and used for a file: its last part, of 100 characters."""
    last = unicodedata.normalize("NFC", name).replace("\\", "/").rsplit("/", 1)[-1]
    shown = "".join(c for c in last if c.isprintable() and c not in '<>:"|?*')
    return shown.strip(" .")[-100:] or "photo"


def _shrunk(rgb: np.ndarray, side: int) -> np.ndarray:
    image = Image.fromarray(rgb)
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image)

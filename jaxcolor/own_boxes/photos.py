"""Photos with their boxes as arrays: what the devices hold while the head is trained."""

from __future__ import annotations

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from tqdm import tqdm

from jaxcolor.batch import Array
from jaxcolor.boxes import best_scores
from jaxcolor.config import DataConfig
from jaxcolor.data.sources.registry import make_source
from jaxcolor.data.types import DataError, usable_boxes

MOST_BOXES = 32
"""Boxes of a photo that are held: the best."""
_AHEAD = 4
"""Photos under way for each thread."""


class HeldPhotos(NamedTuple):
    """Photos reduced to squares, their aspect not kept, and the boxes of each."""

    rgb: UInt8[Array, "N C C 3"]
    boxes: Float32[Array, "N K 4"]
    """x0, y0, x1, y1 as shares of the photo's sides; all 0 where there is no box."""

    def digest(self) -> str:
        """A hash of the boxes and of one line of each photo; tells one set from another."""
        parts = [np.ascontiguousarray(part) for part in (self.rgb[:, len(self.rgb[0]) // 2], self.boxes)]
        total = hashlib.blake2b(str([part.shape for part in parts]).encode(), digest_size=8)
        for part in parts:
            total.update(part.data)
        return total.hexdigest()


def read_arrays(photos: Path, boxes: Path) -> HeldPhotos:
    """Photos and boxes that were made before: two ``.npy`` files.

    Args:
      photos: uint8 (N, C, C, 3); read where it lies.
      boxes: floats (N, K, 4), x0, y0, x1, y1 as shares of the photo's sides; rows that are not above 0 in width and
        height are no boxes.

    Raises:
      DataError: a file that is missing or holds something else.
    """
    found = _read(photos), _read(boxes)
    rgb, shares = found
    square = rgb.ndim == 4 and rgb.shape[1] == rgb.shape[2] and rgb.shape[3] == 3 and rgb.dtype == np.uint8
    if not square or not len(rgb):
        raise DataError(f"{photos}: {rgb.dtype} {rgb.shape}; photos are uint8 (N, C, C, 3)")
    if shares.ndim != 3 or shares.shape[2] != 4 or len(shares) != len(rgb) or shares.dtype.kind != "f":
        raise DataError(f"{boxes}: {shares.dtype} {shares.shape}; boxes of {len(rgb)} photos are floats (N, K, 4)")
    if not (np.isfinite(shares).all() and shares.min(initial=0) >= 0 and shares.max(initial=0) <= 1.001):
        raise DataError(f"{boxes}: boxes must be shares of the photo's sides, from 0 to 1")
    good = (shares[..., 2:] > shares[..., :2]).all(axis=-1, keepdims=True)
    return HeldPhotos(rgb, np.where(good, np.minimum(shares, 1), 0).astype(np.float32))


def _read(path: Path) -> np.ndarray:
    try:
        found: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a .npy file: {error}") from error
    if not isinstance(found, np.ndarray):
        raise DataError(f"{path}: not a .npy file")
    return found


def decode_photos(config: DataConfig, side: int, most_boxes: int = MOST_BOXES) -> HeldPhotos:
    """Decode all photos of a source, with a progress bar.

    Args:
      config: photos, boxes, threads; ``box_choice`` ``ground_truth`` takes annotated boxes.
      side: C.
      most_boxes: K.

    Raises:
      DataError: a photo cannot be used and is not to be skipped, or there is none.
    """
    source = make_source(config, side)
    rgb = np.zeros((len(source), side, side, 3), np.uint8)
    boxes = np.zeros((len(source), most_boxes, 4), np.float32)

    def decode(number: int) -> tuple[np.ndarray, np.ndarray] | str:
        try:
            photo = source[number]
            usable = usable_boxes(photo, config.box_choice)
        except DataError as error:
            if config.bad_photos == "error":
                raise
            return str(error)
        best = usable.boxes[best_scores(usable.scores, most_boxes)]
        shares = (best / np.array([*photo.size, *photo.size])).astype(np.float32)
        return np.asarray(photo.image.resize((side, side), Image.Resampling.BILINEAR)), shares

    kept, ahead = 0, max(1, config.threads) * _AHEAD
    with (
        ThreadPoolExecutor(max(1, config.threads)) as pool,
        tqdm(total=len(source), desc="decode", unit="photo", disable=None) as bar,
    ):
        for start in range(0, len(source), ahead):
            for result in pool.map(decode, range(start, min(start + ahead, len(source)))):
                bar.update()
                if isinstance(result, str):
                    print(f"skipped: {result}", file=sys.stderr)
                    continue
                rgb[kept], boxes[kept, : len(result[1])] = result
                kept += 1
    if not kept:
        raise DataError(f"{config.path}: no photo can be read")
    return HeldPhotos(rgb[:kept], boxes[:kept])

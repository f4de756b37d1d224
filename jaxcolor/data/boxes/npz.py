"""Box files: one ``<stem>.npz`` a photo with ``bbox`` and ``scores``. A wrong file is never guessed at."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from jaxcolor.data.types import DataError
from jaxcolor.runtime.errors import one_line

_READ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    SyntaxError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise on damaged or encrypted archives."""


class Boxes(NamedTuple):
    """Contents of a box file, uncleaned."""

    boxes: Float32[np.ndarray, "N 4"]
    """x0, y0, x1, y1 in pixels of the photo as it is shown, that is after its EXIF orientation."""
    scores: Float32[np.ndarray, " N"]


def read_npz(path: Path) -> Boxes:
    """The boxes in a file.

    The file is a NumPy archive (``np.savez``) with floating-point arrays ``bbox`` (N, 4) and ``scores`` (N,); N may
    be 0. Further arrays are left unread. Pickled contents are refused.

    Raises:
      DataError: the file is missing, no such archive, or its arrays are missing or have another type or shape.
    """
    try:
        # Opened here, because np.load leaves a damaged archive open. allow_pickle=False: a box file from elsewhere
        # must not be able to run code.
        with path.open("rb") as file:
            boxes, scores = _arrays(path, np.load(file, allow_pickle=False))
    except DataError:
        raise
    except _READ_ERRORS as error:
        raise DataError(f"{path}: cannot read this box file: {_reason(error)}") from error
    _check(path, "bbox", boxes, (len(boxes) if boxes.ndim else 0, 4), "(N, 4)")
    _check(path, "scores", scores, (len(boxes),), f"({len(boxes)},), one for each box")
    with np.errstate(over="ignore"):  # what is too big for float32 becomes infinite and is dropped with its box
        return Boxes(boxes.astype(np.float32), scores.astype(np.float32))


def _arrays(path: Path, archive: object) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{path}: not a box file: one bare array, where an .npz with 'bbox' and 'scores' should be")
    with archive:
        missing = [key for key in ("bbox", "scores") if key not in archive.files]
        if missing:
            raise DataError(f"{path}: box file has no {missing[0]!r}; it has {', '.join(archive.files) or 'nothing'}")
        return archive["bbox"], archive["scores"]


def _check(path: Path, key: str, array: np.ndarray, shape: tuple[int, ...], wanted: str) -> None:
    if array.shape != shape:
        raise DataError(f"{path}: {key!r} has shape {array.shape}; it must be {wanted}")
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{path}: {key!r} is of type {array.dtype}; it must be floating point")


def _reason(error: BaseException) -> str:
    text = one_line(error)
    return "it holds pickled data or is no NumPy archive" if "pickle" in text else text

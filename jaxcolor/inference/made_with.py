"""With what a result was made, kept in the picture itself: so a job that is resumed knows its own results."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from PIL import Image

from jaxcolor.runtime.regular_file import open_regular
from jaxcolor.weights import packaged

KEY = "jaxcolor"
"""Of the PNG's text."""
_XMP_TAG = 700
"""Of TIFF."""


def made_with(weights: str | Path | None, hints: Path | None, **settings: str | int | float | None) -> str:
    """Weights, hints and settings as one line, the same for the same contents whatever the files are called."""
    files = {"weights": packaged.digest(weights), "hints": None if hints is None else _digest(hints)}
    return json.dumps({**files, **settings}, sort_keys=True)


def _digest(path: Path) -> str | None:
    """SHA-256 of a file; None for what cannot be read, which its own reader reports."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def digest(line: str) -> str:
    """What stands for it where there is little room."""
    return hashlib.sha256(line.encode()).hexdigest()


def is_made_with(path: Path, line: str) -> bool:
    """Whether a picture says that it was made so, a PNG by its text, others by the digest in XMP; no pixel is read."""
    try:
        with open_regular(path) as file, Image.open(file, formats=("PNG", "JPEG", "WEBP", "TIFF")) as image:
            if image.format == "PNG":
                return image.info.get(KEY) == line
            xmp = image.getexif().get(_XMP_TAG) if image.format == "TIFF" else image.info.get("xmp")
            return isinstance(xmp, bytes) and digest(line).encode() in xmp
    except Exception:  # whatever a damaged picture, or one of somebody else's, makes Pillow raise
        return False

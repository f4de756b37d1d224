"""Anyone's result pictures: files in a folder, matched to the photos by their stems."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from jaxcolor.data.boxes.base import photo_key
from jaxcolor.data.boxes.matching import refuse_unmatched
from jaxcolor.data.formats import PHOTO_SUFFIXES
from jaxcolor.data.transforms import read_image
from jaxcolor.runtime.errors import UserError


class Found(NamedTuple):
    """The pictures of a batch of B photos."""

    rgb: UInt8[np.ndarray, "B H W 3"]
    """Each in the upper left corner, black where there is none."""
    there: Bool[np.ndarray, " B"]
    resized: int
    """How many were of another size than the comparison."""


class Predictions:
    """The pictures of one system, in a folder. Files are read only when their photo comes."""

    def __init__(self, name: str, folder: Path) -> None:
        """Lists the folder.

        Args:
          name: of the system.
          folder: pictures of any size; each photo's is the file of the same stem, whatever its suffix.

        Raises:
          UserError: there is no such folder, it holds no pictures, or two of one stem.
        """
        self.name = name
        self.folder = folder
        if not folder.is_dir():
            raise UserError(f"predictions {name}: {folder} is no folder")
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
        if not files:
            raise UserError(f"predictions {name}: {folder} holds no pictures ({', '.join(PHOTO_SUFFIXES)})")
        self._files: dict[str, Path] = {}
        for path in files:
            other = self._files.setdefault(photo_key(path.name), path)
            if other != path:
                raise UserError(f"predictions {name}: {other.name} and {path.name} in {folder} have the same stem")

    def __len__(self) -> int:
        return len(self._files)

    def check_fits(self, photos: Sequence[str]) -> None:
        """Checks that there is a picture of one of the photos at least.

        Args:
          photos: their names.

        Raises:
          DataError: there is none; says how the pictures would have to be called, if that can be seen.
        """
        if photos and not any(name in self._files for name in photos):
            where, what = f"predictions {self.name}: {self.folder}", "pictures" if len(self) != 1 else "picture"
            refuse_unmatched(where, what, self._files, len(self), photos, "each photo's is the file of the same stem")

    def left_over(self, photos: Sequence[str]) -> int:
        """How many pictures are of none of the photos."""
        return len(self._files.keys() - set(photos))

    def read(self, names: Sequence[str], size: Int[np.ndarray, "B 2"], side: int, threads: int) -> Found:
        """The pictures of a batch.

        Args:
          names: of the photos; an empty one has no picture.
          size: height and width at which each is compared; a picture of another size is resized to it, with the
            filter that the ground truth is resized with (Pillow's bilinear one, antialiased).
          side: of the canvas they lie on.
          threads: how many read.

        Raises:
          DataError: a picture cannot be read.
        """
        rgb = np.zeros((len(names), side, side, 3), np.uint8)
        rows = [row for row, name in enumerate(names) if name in self._files]

        def place(row: int) -> bool:
            height, width = size[row].tolist()
            image = read_image(self._files[names[row]])
            fits = image.size == (width, height)
            made = image if fits else image.resize((width, height), Image.Resampling.BILINEAR)
            rgb[row, :height, :width] = np.asarray(made)
            return not fits

        with ThreadPoolExecutor(max(1, threads)) as pool:
            resized = sum(pool.map(place, rows))
        there = np.zeros(len(names), bool)
        there[rows] = True
        return Found(rgb, there, resized)


def parse_named(flag: str, texts: Sequence[str]) -> dict[str, str]:
    """``NAME=PATH`` arguments.

    Raises:
      UserError: one of another form, or a name given twice.
    """
    named: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (equals and name.strip() and path.strip()):
            raise UserError(f"--{flag}={text}: give a name and a path, as in --{flag}=NAME=PATH")
        if name.strip() in named:
            raise UserError(f"--{flag}={text}: {name.strip()} is given twice")
        named[name.strip()] = path.strip()
    return named

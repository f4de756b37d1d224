"""A folder of photos and their boxes as one data set; see ``colorization``."""

from __future__ import annotations

import io
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image
from tqdm import tqdm

from jaxcolor.data.box_files import BoxFile
from jaxcolor.data.box_stores.opening import open_store
from jaxcolor.data.box_stores.store import BoxStore, MissingBoxesError, check_complete, no_boxes, photo_key
from jaxcolor.data.photos import DataError
from jaxcolor.data.preprocess import PHOTO_SUFFIXES, Encoded, read_image

if TYPE_CHECKING:
    from jaxcolor.data.colorization import PackedPhoto

_FORMATS = ("JPEG", "MPO", "PNG")
"""By Pillow's names; MPO is a JPEG that has further pictures behind it, as phones and cameras write."""
_CHECKED_SIDE = 32
"""Photos are decoded at a fraction of their size, but to their last byte."""
_AHEAD = 4
"""Photos read ahead for each core."""


class Photos:
    """Photos with their boxes, each read to its last byte, in the order of their names.

    Attributes:
      skipped: what was wrong with the photos left out.
    """

    def __init__(
        self,
        folder: Path,
        boxes: Path,
        *,
        missing_boxes: Literal["error", "none"] = "error",
        bad_photos: Literal["error", "skip"] = "error",
    ) -> None:
        """Lists the photos and opens their boxes.

        Args:
          folder: of photos; subfolders are not searched.
          boxes: their store, see ``open_store``.
          missing_boxes: what a photo without an entry means.
          bad_photos: whether a photo that cannot be read or packed stops everything, or is named and left out.

        Raises:
          DataError: no folder, no photo in it, two photos of one stem, boxes that cannot be opened, or photos without
            an entry (all are counted).
        """
        self._paths = _photos_in(folder)
        self._store = open_store(boxes)
        self._may_lack = missing_boxes == "none"
        self._may_skip = bad_photos == "skip"
        self.skipped: list[str] = []
        if not self._may_lack:
            check_complete(self._store, [photo_key(path.name) for path in self._paths])

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[PackedPhoto]:
        """Yields ``PackedPhoto``.

        Raises:
          DataError: a photo or its boxes cannot be read, or a photo is neither JPEG nor PNG (``bad_photos`` ``error``).
        """
        from jaxcolor.data.colorization import PackedPhoto

        with tqdm(total=len(self), unit="photo", dynamic_ncols=True) as bar:
            for path, read in _in_threads(self._paths):
                try:
                    data = read.result()
                    yield PackedPhoto(path.name, data, _boxes_of(self._store, path, self._may_lack))
                except MissingBoxesError:
                    raise  # an entry that went away since the start
                except DataError as error:
                    if not self._may_skip:
                        raise
                    self.skipped.append(str(error))
                    bar.write(f"skipped: {error}", file=sys.stderr)
                bar.update()


def _photos_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES and not p.name.startswith("."))
    if not paths:
        raise DataError(f"{folder}: no photos here ({', '.join(PHOTO_SUFFIXES)}; subfolders are not searched)")
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(photo_key(path.name), path)
        if other is not path:
            raise DataError(f"{other} and {path}: two photos of one name; their boxes would be mixed up")
    return paths


def _boxes_of(store: BoxStore, path: Path, may_lack: bool) -> BoxFile:
    try:
        return store.read(photo_key(path.name))
    except MissingBoxesError:
        if may_lack:
            return no_boxes()
        raise


def _in_threads(paths: Sequence[Path]) -> Iterator[tuple[Path, Future[bytes]]]:
    """Reads and checks photos ahead, few at a time: checking costs more than writing."""
    cores = os.cpu_count() or 1
    waiting: deque[tuple[Path, Future[bytes]]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        try:
            for path in paths:
                waiting.append((path, pool.submit(_read, path)))
                if len(waiting) > _AHEAD * cores:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(cancel_futures=True)


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read this photo: {error.strerror or error}") from error
    photo = Encoded(str(path), data)
    read_image(photo, _CHECKED_SIDE)
    format_ = _format(data)
    if format_ not in _FORMATS:
        raise DataError(f"{path}: is {format_}; only JPEG and PNG are packed, which TFDS can decode. Convert it first")
    return data


def _format(data: bytes) -> str | None:
    with Image.open(io.BytesIO(data)) as image:
        return image.format

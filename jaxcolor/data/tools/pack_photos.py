"""Photos and their boxes as one data set; see ``colorization``."""

from __future__ import annotations

import io
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from PIL import Image
from tqdm import tqdm

from jaxcolor.config import DataConfig
from jaxcolor.data.boxes.base import MissingBoxesError, SizedStore, check_complete, fit_boxes
from jaxcolor.data.boxes.matching import check_fits
from jaxcolor.data.sources.base import PhotoSet
from jaxcolor.data.sources.index import kept_index
from jaxcolor.data.sources.photo_source import boxes_of
from jaxcolor.data.sources.registry import detections_of, open_photos
from jaxcolor.data.transforms import read_encoded, read_image, read_size
from jaxcolor.data.types import Boxes, DataError, Entry, no_boxes
from jaxcolor.runtime.errors import one_line
from jaxcolor.runtime.progress import progress

if TYPE_CHECKING:
    from jaxcolor.data.tools.colorization import PackedPhoto

_FORMATS = ("JPEG", "MPO", "PNG")
"""By Pillow's names; MPO is a JPEG that has further pictures behind it, as phones and cameras write."""
_CHECKED_SIDE = 32
"""Photos are decoded at a fraction of their size, but to their last byte."""
_AHEAD = 4
"""Photos prefetched for each core."""


class Photos:
    """Photos with their boxes, each read to its last byte, in the order of their set.

    Attributes:
      skipped: what was wrong with the photos left out.
    """

    def __init__(self, config: DataConfig) -> None:
        """Lists the photos and opens their boxes.

        Args:
          config: the photos; their boxes, by default those beside or with the photos; ``missing_boxes``; and
            ``bad_photos``: whether a photo that cannot be read or packed stops everything, or is named and left out.

        Raises:
          DataError: what ``open_photos`` raises, an index that cannot be used, boxes that are not there or cannot be
            opened, not one entry that fits a photo, or photos without an entry (all are counted; for that names that
            lie in records are read).
        """
        self._photos = open_photos(config)
        self._may_lack = config.missing_boxes == "none"
        self._may_skip = config.bad_photos == "skip"
        self._store = detections_of(config, self._photos, may_lack=self._may_lack)
        self.skipped: list[str] = []
        wanted = self._store is not None and not self._may_lack
        keys: Sequence[str] | None = self._photos.keys()
        if config.index_path or (wanted and keys is None):
            index = kept_index(config, self._photos, sized=False, skip_bad=self._may_skip)
            keys = [key for number, key in enumerate(index.keys) if number not in index.bad]
        if self._store is not None and keys is not None:
            check_fits(self._store, keys)
            if not self._may_lack:
                check_complete(self._store, keys)

    def __len__(self) -> int:
        return len(self._photos)

    def __iter__(self) -> Iterator[PackedPhoto]:
        """Yields ``PackedPhoto``.

        Raises:
          DataError: a photo or its boxes cannot be read, or a photo is neither JPEG nor PNG (``bad_photos`` ``error``).
        """
        from jaxcolor.data.tools.colorization import PackedPhoto

        with progress(len(self), "pack", "photo") as note:
            for read in _in_threads(self._photos):
                try:
                    entry, data = read.result()
                    yield PackedPhoto(entry.file_name, data, self._boxes_of(entry))
                except MissingBoxesError:
                    raise  # an entry that went away since the start
                except DataError as error:
                    if not self._may_skip:
                        raise
                    self.skipped.append(str(error))
                    tqdm.write(f"skipped: {one_line(error, 4000)}", file=sys.stderr)
                note(1)

    def _boxes_of(self, entry: Entry) -> Boxes:
        if self._store is None:
            return entry.detections or no_boxes()
        found = boxes_of(self._store, entry.name, self._may_lack)
        known = isinstance(self._store, SizedStore) and self._store.photo_size(entry.name) is not None
        if known and len(found.boxes):
            return fit_boxes(self._store, entry.name, found, read_size(entry.file))
        return found


_Read = tuple[Entry, bytes]


def _in_threads(photos: PhotoSet) -> Iterator[Future[_Read]]:
    """Reads and checks photos ahead, few at a time: checking costs more than writing."""
    cores = os.cpu_count() or 1
    waiting: deque[Future[_Read]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        try:
            for number in range(len(photos)):
                waiting.append(pool.submit(_read, photos, number))
                if len(waiting) > _AHEAD * cores:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(cancel_futures=True)


def _read(photos: PhotoSet, number: int) -> _Read:
    entry = photos.entry(number)
    try:
        entry.file_name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{entry.file_name}: this name is not UTF-8, as names in a data set are; rename it") from error
    photo = read_encoded(entry.file)
    read_image(photo, _CHECKED_SIDE)
    format_ = _format(photo.data)
    if format_ not in _FORMATS:
        raise DataError(
            f"{photo.where}: is {format_}; only JPEG and PNG are packed, which TFDS can decode. Convert it first"
        )
    return entry, photo.data


def _format(data: bytes) -> str | None:
    with Image.open(io.BytesIO(data)) as image:
        return image.format

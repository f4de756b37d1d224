"""A photo that is to be colored, where its boxes come from, and what is counted on the way."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from jaxcolor.boxes import DroppedBoxes, clean_boxes
from jaxcolor.data.boxes.base import BoxStore, MissingBoxesError, SizedStore, fit_boxes, names_in, same_spelling
from jaxcolor.data.boxes.matching import check_fits
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.transforms import PHOTO_SUFFIXES, read_size
from jaxcolor.data.types import Boxes, DataError
from jaxcolor.hints import Hint
from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.inference.photos import look_like_shares
from jaxcolor.inference.result_paths import boxes_beside
from jaxcolor.runtime.errors import one_line


class Job(NamedTuple):
    """One photo to color."""

    photo: Path
    output: Path
    boxes: Boxes | None
    """None: there is no box file or entry."""
    hints: tuple[Hint, ...] = ()
    vivid: float | None = None
    """None: as the command says."""
    find: bool = False
    """Whether its boxes are found by the weights' own head when it is colored."""

    @property
    def has_boxes(self) -> bool:
        """Whether any are known."""
        return self.boxes is not None and len(self.boxes.boxes) > 0


class Failures:
    """Photos that could not be colored: reported at once, counted for the end."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, error: DataError) -> None:
        """Says what is wrong with one."""
        self.count += 1
        tqdm.write(f"left out: {one_line(error, 4000)}", file=sys.stderr)


class Found:
    """Boxes that the weights' own head finds, counted for the end."""

    def __init__(self) -> None:
        self._counts: list[int] = []

    def find(self, colorizer: Colorizer, batch: Sequence[tuple[Job, np.ndarray]]) -> list[tuple[Job, np.ndarray]]:
        """The batch with boxes where they are to be found, in one call for all."""
        photos = [rgb for job, rgb in batch if job.find]
        boxes = iter(colorizer.find_boxes(photos) if photos else ())
        found = [(job._replace(boxes=next(boxes)) if job.find else job, rgb) for job, rgb in batch]
        self._counts += [len(job.boxes.boxes) for job, _ in found if job.find and job.boxes is not None]
        return found

    def report(self) -> None:
        """Says how many there were, if any were to be found."""
        if self._counts:
            without = self._counts.count(0)
            rest = f"; none in {without}: full-image network alone" if without else ""
            photos = f"{len(self._counts) - without} of {len(self._counts)} photos"
            print(f"{sum(self._counts)} boxes found by the weights' own head in {photos}{rest}", file=sys.stderr)


class Dropped:
    """Boxes that cannot be used: photos that lose all of theirs are named at once, the reasons counted for the end."""

    def __init__(self) -> None:
        self._given = 0
        self._dropped = DroppedBoxes()

    def add(self, job: Job, size: tuple[int, int]) -> None:
        """Counts the boxes of a photo of that width and height."""
        if job.boxes is None:
            return
        boxes, scores = job.boxes
        dropped = clean_boxes(boxes, scores, size).dropped
        self._given += len(boxes)
        self._dropped += dropped
        shares = look_like_shares(boxes, size)
        if shares or (dropped.total and dropped.total == len(boxes)):
            which = f"{dropped.total} of its {len(boxes)} boxes cannot be used ({dropped})"
            advice = "; they look like shares of the photo, and boxes are x0, y0, x1, y1 in pixels" if shares else ""
            tqdm.write(f"warning: {job.photo}: {which}{advice}", file=sys.stderr)

    def report(self) -> None:
        """Says how many there were, if any."""
        if self._dropped.total:
            counts = f"{self._dropped.total} of {self._given} boxes cannot be used ({self._dropped})"
            advice = "; boxes are x0, y0, x1, y1, not x, y, width, height" if self._dropped.inverted else ""
            print(f"warning: {counts}{advice}", file=sys.stderr)


def with_boxes(
    paths: Mapping[Path, Path], boxes: BoxStore | None, missing_boxes: str, failures: Failures
) -> Iterator[Job]:
    """The photos with their boxes; one whose boxes are missing or cannot be read is a failure.

    Raises:
      DataError: a store has entries, and not one fits a photo.
    """
    if boxes is not None:
        _check_fits(boxes, list(paths))
    beside: dict[Path, BoxStore | None] = {}
    said: list[BoxStore] = []  # those of which a name was shown
    for photo, output in paths.items():
        store = boxes
        if store is None:
            path = boxes_beside(photo)
            if path not in beside:
                beside[path] = found_store = open_store(path) if path.is_dir() else None
                if found_store is not None:
                    _check_fits(found_store, [p for p in paths if boxes_beside(p) == path])
            store = beside[path]
        key = same_spelling(photo.stem)
        try:
            none = store is None or (missing_boxes == "none" and key not in store)
            found = None if none or store is None else store.read(key)
            if found is not None and isinstance(store, SizedStore) and store.photo_size(key) is not None:
                found = fit_boxes(store, key, found, read_size(photo))
            yield Job(photo, output, found)
        except MissingBoxesError as error:
            line = f"{error}; --missing-boxes none takes its photo for one without boxes"
            if store is not None and store not in said:
                said.append(store)
                line += names_in(store)
            failures.add(DataError(line))
        except DataError as error:
            failures.add(error)


def _check_fits(store: BoxStore, photos: Sequence[Path]) -> None:
    """Refuses a store none of whose entries is of a photo, or of one beside: of few photos none may have boxes."""
    keys = [same_spelling(photo.stem) for photo in photos]
    if any(key in store for key in keys):
        return
    folders = dict.fromkeys(photo.parent for photo in photos)
    beside = (p for folder in folders for p in sorted(folder.iterdir()) if p.suffix.lower() in PHOTO_SUFFIXES)
    check_fits(store, list(dict.fromkeys([*keys, *(same_spelling(p.stem) for p in beside)])))


def is_to_be_found(job: Job, everywhere: bool) -> bool:
    """Whether a photo's boxes are to be found: it has none, and none lie beside it (``everywhere``: these aside)."""
    return job.boxes is None and (everywhere or not boxes_beside(job.photo).is_dir())

"""One photo to color: its boxes and hints, and how its results are written; what goes wrong is reported."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from jaxcolor.boxes import DroppedBoxes, clean_boxes
from jaxcolor.color import Bits, to_8_bits
from jaxcolor.data.boxes.base import BoxStore, MissingBoxesError, SizedStore, fit_boxes, names_in, same_spelling
from jaxcolor.data.boxes.matching import check_fits
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.formats import HEIF_SUFFIXES, PHOTO_SUFFIXES
from jaxcolor.data.transforms import count_pictures, read_rgb, read_size, read_wide_gray
from jaxcolor.data.types import Boxes, DataError
from jaxcolor.hints import Hint, PhotoHints, place_hints
from jaxcolor.inference.colorizer import Colorizer, UnusedBoxesWarning
from jaxcolor.inference.photos import DroppedBoxesWarning, look_like_shares, read_photo
from jaxcolor.inference.pictures import NO_METADATA, Metadata, Saving, encode, read_metadata, side_by_side
from jaxcolor.inference.result_paths import boxes_beside, side_by_side_path
from jaxcolor.inference.upsample import without_color
from jaxcolor.runtime.atomic import atomic_write
from jaxcolor.runtime.errors import one_line, printable
from jaxcolor.runtime.text import counted


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


def steered(job: Job, given: PhotoHints, vivid: float | None) -> Job:
    """A photo with what the hints file says of it: its boxes before others, the command's ``vivid`` before its own."""
    boxes = job.boxes
    if given.boxes is not None:  # the first are the best
        boxes = Boxes(given.boxes.astype(np.float32), -np.arange(len(given.boxes), dtype=np.float32))
    return job._replace(boxes=boxes, hints=given.hints, vivid=given.vivid if vivid is None else None)


def check_hints(job: Job) -> None:
    """Refuse hints outside their photo before anything is computed."""
    if not job.hints:
        return
    try:
        size = read_size(job.photo)
    except DataError:
        return  # named when it is read
    place_hints(job.hints, size, job.boxes.boxes if job.boxes else None, job.photo)


@contextmanager
def said_warnings() -> Iterator[None]:
    """A block whose warnings are lines on standard error; those of boxes are reported by ``Dropped``, or once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("ignore", DroppedBoxesWarning)
        warnings.simplefilter("ignore", UnusedBoxesWarning)
        yield
    for warning in caught:
        tqdm.write(f"warning: {warning.message}", file=sys.stderr)


def read_pixels(photo: Path, bits: Bits) -> np.ndarray:
    """A photo's pixels as ``Colorizer`` takes them: 8-bit RGB, or 16-bit gray where results have 16 bits.

    Raises:
      DataError: it cannot be read.
    """
    wide_gray = read_wide_gray(photo) if bits == 16 else None
    return read_rgb(photo) if wide_gray is None else wide_gray


def write_result(
    job: Job, picture: np.ndarray, result: np.ndarray, replace: bool, saving: Saving, beside: bool
) -> None:
    """Write a photo's result with its metadata, and say what was left out.

    Args:
      job: the photo.
      picture: its pixels.
      result: of these.
      replace: whether a file that exists is replaced.
      saving: how.
      beside: the photo without colors and the result in one picture besides, of 8 bits a channel.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # as when its pixels were read
        metadata, pictures = read_metadata(job.photo), _picture_count(job.photo)
    lost = write(job.output, result, replace, saving, metadata)
    if lost:
        what = f"its {' and '.join(lost)} could not be carried over"
        tqdm.write(printable(f"warning: {job.photo}: {what}"), file=sys.stderr)
    if pictures > 1:
        which = "main one" if job.photo.suffix.lower() in HEIF_SUFFIXES else "first"
        tqdm.write(printable(f"{job.photo}: of its {pictures} pictures the {which} is colored"), file=sys.stderr)
    if beside:
        both = side_by_side(without_color(read_photo(picture)), to_8_bits(result))
        write(side_by_side_path(job.output), both, replace, saving.of_8_bits())


def _picture_count(photo: Path) -> int:
    try:
        return count_pictures(photo)
    except DataError:  # the first could be read
        return 1


def write(
    path: Path, rgb: np.ndarray, replace: bool, saving: Saving, metadata: Metadata = NO_METADATA
) -> tuple[str, ...]:
    """Write a picture; what of its metadata could not be kept."""
    if not replace and path.exists():
        return ()
    with atomic_write(path) as part:
        return encode(part, rgb, saving, metadata)


class Failures:
    """Photos that could not be colored: reported at once, counted for the end."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, error: DataError) -> None:
        """One more."""
        self.count += 1
        tqdm.write(f"left out: {one_line(error, 4000)}", file=sys.stderr)


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
            photos = f"{len(self._counts) - without} of {counted(len(self._counts), 'photo')}"
            boxes = counted(sum(self._counts), "box", "boxes")
            print(f"{boxes} found by the weights' own head in {photos}{rest}", file=sys.stderr)

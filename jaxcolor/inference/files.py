"""Color photos on disk: which ones, their boxes, where results are written, what is reported of those that fail."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from jaxcolor.data.boxes.base import BoxStore, MissingBoxesError
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.transforms import PHOTO_SUFFIXES, read_rgb
from jaxcolor.data.types import Boxes, DataError
from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.runtime.atomic import atomic_write
from jaxcolor.runtime.errors import UserError


class Job(NamedTuple):
    """One photo to color."""

    photo: Path
    output: Path
    boxes: Boxes | None
    """None: there is no box file or entry."""

    @property
    def has_boxes(self) -> bool:
        """Whether any are known."""
        return self.boxes is not None and len(self.boxes.boxes) > 0


def colorize_files(
    photos: Sequence[Path],
    weights: Path,
    output: Path,
    *,
    boxes: Path | None,
    missing_boxes: str,
    boxes_per_photo: int,
    batch_size: int,
    replace: bool,
) -> None:
    """Color photos, and those of folders, into ``<output>/<stem>.png``.

    A photo or box file that cannot be read costs one line on standard error; the others are processed.

    Args:
      photos: photos or folders of photos.
      weights: a released file.
      output: folder; made if it is not there.
      boxes: a box store of any kind; None: the one at ``<folder of the photo>_bbox`` where there is one.
      missing_boxes: what a photo without an entry in that store means: ``error``, or ``none`` (it has no boxes).
      boxes_per_photo: the best boxes by score that are used.
      batch_size: photos in one call of the networks.
      replace: overwrite results that exist.

    Raises:
      UserError: nothing to do, results that would overwrite something or each other, settings that make no sense, a
        box store that cannot be opened; at the end, if any photo failed.
    """
    if boxes_per_photo < 1 or batch_size < 1:
        raise UserError(f"--boxes-per-photo {boxes_per_photo}, --batch {batch_size}: both must be at least 1")
    paths = plan(photos, output)
    existing = [path for path in paths.values() if path.exists()]
    if existing and not replace:
        others = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise UserError(f"{existing[0]}{others}: exists; give --force to replace it")
    store = None if boxes is None else open_store(boxes)
    colorizer = Colorizer.from_pretrained(weights, boxes_per_photo)
    failures = _Failures()
    jobs = [Job(photo, result, None) for photo, result in paths.items()]
    if colorizer.uses_boxes:
        jobs = list(_with_boxes(paths, store, missing_boxes, failures))
    without = sum(job.boxes is None for job in jobs)
    if not colorizer.uses_boxes:
        print(f"{weights} holds the full-image network only: boxes are not used", file=sys.stderr)
    elif without:
        print(f"{without} of {len(paths)} photos have no entry for boxes: full-image network alone", file=sys.stderr)
    output.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(jobs), unit="photo", dynamic_ncols=True) as bar:
        for batch in _batches(jobs, batch_size):
            rgb: dict[Path, np.ndarray] = {}
            for job in batch:
                try:
                    rgb[job.photo] = read_rgb(job.photo)
                except DataError as error:
                    failures.add(error)
            readable = [job for job in batch if job.photo in rgb]
            results = colorizer.many(
                [rgb[job.photo] for job in readable],
                [job.boxes.boxes if job.boxes else None for job in readable],
                [job.boxes.scores if job.boxes else None for job in readable],
            )
            for job, result in zip(readable, results, strict=True):
                _write(job.output, result)
            bar.update(len(batch))
    print(f"{len(paths) - failures.count} photos colored into {output}")
    if failures.count:
        raise UserError(f"{failures.count} of {len(paths)} photos could not be colored; they are named above")


class _Failures:
    """Photos that could not be colored: reported at once, counted for the end."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, error: DataError) -> None:
        self.count += 1
        tqdm.write(f"left out: {error}", file=sys.stderr)


def plan(photos: Sequence[Path], output: Path) -> dict[Path, Path]:
    """Each photo and where its result is written, in the order given.

    Raises:
      UserError: no such photo or folder, no photo in it, or two photos that would share a result.
    """
    taken: dict[Path, Path] = {}
    for photo in _expand(photos):
        result = output / f"{photo.stem}.png"
        if result in taken:
            raise UserError(f"{taken[result]} and {photo} would both become {result}; rename one")
        taken[result] = photo
    return {photo: result for result, photo in taken.items()}


def _expand(photos: Sequence[Path]) -> Iterator[Path]:
    for path in photos:
        if path.is_dir():
            photos_in = (p for p in path.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
            found = sorted(p for p in photos_in if not p.name.startswith("."))
            if not found:
                raise UserError(f"{path}: no photos here ({', '.join(PHOTO_SUFFIXES)})")
            yield from found
        elif path.exists():
            yield path
        else:
            raise UserError(f"{path}: no such photo or folder")


def _with_boxes(
    paths: Mapping[Path, Path], boxes: BoxStore | None, missing_boxes: str, failures: _Failures
) -> Iterator[Job]:
    """The photos with their boxes; one whose boxes are missing or cannot be read is a failure."""
    beside: dict[Path, BoxStore | None] = {}
    for photo, output in paths.items():
        store = boxes
        if store is None:
            folder = Path(os.path.abspath(photo)).parent  # not resolved: a link's boxes lie beside the link
            if folder not in beside:
                path = folder.with_name(f"{folder.name}_bbox")
                beside[folder] = open_store(path) if path.is_dir() else None
            store = beside[folder]
        try:
            none = store is None or (missing_boxes == "none" and photo.stem not in store)
            yield Job(photo, output, None if none or store is None else store.read(photo.stem))
        except MissingBoxesError as error:
            failures.add(DataError(f"{error}; --missing-boxes none takes its photo for one without boxes"))
        except DataError as error:
            failures.add(error)


def _batches(jobs: Sequence[Job], size: int) -> Iterator[Sequence[Job]]:
    """Photos with boxes first, then those without: batches of one kind compile for fewer shapes."""
    for has_boxes in (True, False):
        kind = [job for job in jobs if job.has_boxes == has_boxes]
        for start in range(0, len(kind), size):
            yield kind[start : start + size]


def _write(path: Path, rgb: np.ndarray) -> None:
    with atomic_write(path) as part:
        Image.fromarray(rgb).save(part, format="PNG")

"""Color photos on disk: which ones, their boxes and hints, where results are written, and which of them failed."""

from __future__ import annotations

import itertools
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from jaxcolor.boxes import DroppedBoxes, clean_boxes
from jaxcolor.data.boxes.base import BoxStore, MissingBoxesError, SizedStore, fit_boxes, names_in, same_spelling
from jaxcolor.data.boxes.matching import check_fits
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.transforms import PHOTO_SUFFIXES, read_rgb, read_size
from jaxcolor.data.types import Boxes, DataError
from jaxcolor.hints import Hint, PhotoHints, match_hints, place_hints, read_hints
from jaxcolor.inference.colorizer import Colorizer, UnusedBoxesWarning
from jaxcolor.inference.made_with import is_made_with, made_with
from jaxcolor.inference.photos import DroppedBoxesWarning, look_like_shares
from jaxcolor.inference.pictures import NO_METADATA, Metadata, Saving, encode, read_metadata, side_by_side
from jaxcolor.inference.result_paths import boxes_beside, described, plan, sample_paths, side_by_side_path
from jaxcolor.inference.upsample import without_color
from jaxcolor.runtime.atomic import atomic_write
from jaxcolor.runtime.contact_sheet import tile_grid
from jaxcolor.runtime.errors import UserError, one_line, printable
from jaxcolor.runtime.places import local_path
from jaxcolor.weights import packaged

_SHEET_TILE = (320, 320)
_BATCH_PIXELS = 1 << 26
"""Of the photos that are held at once, but for the last: 200 MB."""


class Job(NamedTuple):
    """One photo to color."""

    photo: Path
    output: Path
    boxes: Boxes | None
    """None: there is no box file or entry."""
    hints: tuple[Hint, ...] = ()
    vivid: float | None = None
    """None: as the command says."""

    @property
    def has_boxes(self) -> bool:
        """Whether any are known."""
        return self.boxes is not None and len(self.boxes.boxes) > 0


def colorize_files(
    photos: Sequence[Path],
    weights: str | Path | None,
    output: Path | None,
    *,
    boxes: Path | None,
    missing_boxes: str,
    boxes_per_photo: int,
    batch_size: int,
    replace: bool,
    hints: Path | None = None,
    vivid: float | None = None,
    saturation: float = 1.0,
    samples: int = 0,
    seed: int = 0,
    saving: Saving = Saving(),  # noqa: B008 (it cannot be changed)
    beside: bool = False,
    crop_sides: Sequence[int] = (),
) -> None:
    """Color photos, and those of folders, into a folder, or beside them, under names that ``plan`` says.

    A job that was stopped goes on: photos whose results are there are skipped and counted, unless ``replace``; those
    of other weights or settings too, which is said. A photo or box file that cannot be read costs one line on standard
    error; the others are processed.

    Args:
      photos: photos or folders of photos.
      weights: a file, or a name in the package; None: the package's default weights (``weights.packaged``).
      output: folder, made if it is not there; None: beside the photos.
      boxes: a box store of any kind; None: the one at ``<folder of the photo>_bbox`` where there is one.
      missing_boxes: what a photo without an entry in that store means: ``error``, or ``none`` (it has no boxes).
      boxes_per_photo: the best boxes by score that are used.
      batch_size: photos in one call of the networks.
      replace: color photos again whose results exist; otherwise no file that exists is replaced.
      hints: a hints file (``hints.read_hints``); the numbers of objects are rows of the boxes read. Boxes that it names
        for a photo are used in place of others.
      vivid: see ``Colorizer``; None: as the hints file says of a photo, or else the weights' field ``decode``.
      saturation: factor of the chroma.
      samples: so many different results of each photo besides, ``<stem>.sample1.png`` and on, the most probable first,
        and a contact sheet of all, ``<stem>.samples.png``; 0: none.
      seed: of the samples.
      saving: format and quality of the results; the metadata of photos is carried over (``inference.pictures``).
      beside: the photo without colors and the result in one picture besides, ``<stem>.side_by_side.png``.
      crop_sides: see ``Colorizer``.

    Raises:
      UserError: nothing to do, results that would overwrite a photo or each other, settings that make no sense, a
        box store that cannot be opened, hints that cannot be used; at the end, if any photo failed.
    """
    if boxes_per_photo < 1 or batch_size < 1:
        raise UserError(f"--boxes-per-photo {boxes_per_photo}, --batch {batch_size}: both must be at least 1")
    if samples < 0 or not 0 <= seed < 1 << 32:
        raise UserError(f"--samples {samples}, --seed {seed}: must be at least 0, and a seed of at most 32 bits")
    saving.check()
    output = None if output is None else Path(local_path(output, "output"))
    paths = plan(photos, output, saving.suffix)
    written = [
        path
        for result in paths.values()
        for path in (result, *sample_paths(result, samples), *([side_by_side_path(result)] if beside else []))
    ]
    if len(set(written)) < len(written):
        twice = next(path for path in written if written.count(path) > 1)
        raise UserError(f"{twice}: a sample would overwrite another photo's result; rename the photo")
    hinted = {} if hints is None else match_hints(read_hints(hints), list(paths), hints)
    settings = made_with(
        weights,
        hints,
        boxes=None if boxes is None else os.path.abspath(boxes),
        missing_boxes=missing_boxes,
        boxes_per_photo=boxes_per_photo,
        vivid=vivid,
        saturation=saturation,
        samples=samples,
        seed=seed if samples else None,
        **({"crop_sides": ",".join(map(str, crop_sides))} if crop_sides else {}),
    )
    saving = saving._replace(settings=settings)
    if not replace:
        paths = _not_done(paths, output, samples, beside, settings)
        if not paths:
            return
    store = None if boxes is None else open_store(boxes)
    colorizer = Colorizer.from_pretrained(
        weights, boxes_per_photo, vivid=vivid, saturation=saturation, crop_sides=crop_sides
    )
    named = packaged.described(weights)
    if samples and not colorizer.has_classes:
        raise UserError(f"--samples: {named} has no class head, from whose distribution samples are drawn")
    failures, dropped = _Failures(), _Dropped()
    jobs = [Job(photo, result, None) for photo, result in paths.items()]
    of_objects = any(hint.object is not None for of_photo in hinted.values() for hint in of_photo.hints)
    if colorizer.uses_boxes or samples or of_objects:
        jobs = list(_with_boxes(paths, store, missing_boxes, failures))
    elif store is not None or any(boxes_beside(photo).is_dir() for photo in paths):
        print(f"{named} holds the full-image network only: boxes are not used", file=sys.stderr)
    jobs = [_steered(job, hinted.get(job.photo, PhotoHints()), vivid) for job in jobs]
    for job in jobs:
        _check_hints(job)
    without = sum(job.boxes is None for job in jobs)
    if colorizer.uses_boxes and without:
        print(f"{without} of {len(paths)} photos have no entry for boxes: full-image network alone", file=sys.stderr)
    for folder in {job.output.parent for job in jobs}:
        folder.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(jobs), unit="photo", dynamic_ncols=True, disable=None) as bar:
        for batch in _batches(jobs, batch_size, colorizer.uses_boxes, failures):
            _color_batch(colorizer, batch, dropped, samples, seed, replace, saving, beside)
            bar.update(len(batch))
    dropped.report()
    done = len(paths) - failures.count
    if done:
        photos_colored = "1 photo" if done == 1 else f"{done} photos"
        print(f"{photos_colored} colored into {described(output, list(paths.values()))}")
    if failures.count:
        raise UserError(f"{failures.count} of {len(paths)} photos could not be colored; they are named above")


def _color_batch(
    colorizer: Colorizer,
    batch: Sequence[tuple[Job, np.ndarray]],
    dropped: _Dropped,
    samples: int,
    seed: int,
    replace: bool,
    saving: Saving,
    beside: bool,
) -> None:
    """Color the photos of a batch, and write each result as soon as it is done."""
    jobs, pictures = [job for job, _ in batch], [rgb for _, rgb in batch]
    for job, rgb in batch:
        dropped.add(job, (rgb.shape[1], rgb.shape[0]))
    boxes = [job.boxes.boxes if job.boxes else None for job in jobs]
    scores = [job.boxes.scores if job.boxes else None for job in jobs]
    hints = [job.hints for job in jobs]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("ignore", DroppedBoxesWarning)  # reported by photo, below
        warnings.simplefilter("ignore", UnusedBoxesWarning)  # reported once
        coming = colorizer.iterate(pictures, boxes, scores, hints, vivid=jobs[0].vivid)
    for warning in caught:
        tqdm.write(f"warning: {warning.message}", file=sys.stderr)
    results = []
    for job, picture, result in zip(jobs, pictures, coming, strict=True):
        metadata = read_metadata(job.photo)
        lost = _write(job.output, result, replace, saving, metadata)
        if lost:
            what = f"its {' and '.join(lost)} could not be carried over"
            tqdm.write(printable(f"warning: {job.photo}: {what}"), file=sys.stderr)
        if beside:
            gray = without_color(picture)
            _write(side_by_side_path(job.output), side_by_side(gray, result), replace, saving)
        if samples:  # their sheet shows it
            results.append(result)
    if not samples:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DroppedBoxesWarning)
        drawn = colorizer.samples(pictures, boxes, samples, seed, scores=scores, hints=hints, vivid=jobs[0].vivid)
    for job, picture, result, alternatives in zip(jobs, pictures, results, drawn, strict=True):
        *places, sheet = sample_paths(job.output, samples)
        for place, alternative in zip(places, alternatives, strict=False):
            _write(place, alternative, replace, saving, read_metadata(job.photo))
        for place in places[len(alternatives) :]:  # of an earlier run that found more
            if replace:
                place.unlink(missing_ok=True)
        if len(alternatives) < samples:
            why = "its objects have no more plausible colors" if job.has_boxes else "it has no boxes, whose colors vary"
            tqdm.write(f"{job.photo}: {len(alternatives)} of {samples} samples; {why}", file=sys.stderr)
        captions = ["given", "colored", *(f"sample {n}" for n in range(1, len(alternatives) + 1))]
        tiles = [_thumbnail(rgb) for rgb in (picture, result, *alternatives)]
        grid = np.asarray(tile_grid(tiles, captions, columns=3, tile=_SHEET_TILE))
        _write(sheet, grid, replace, Saving(weights=saving.weights))


def _steered(job: Job, given: PhotoHints, vivid: float | None) -> Job:
    """A photo with what the hints file says of it: its boxes before others, the command's ``vivid`` before its own."""
    boxes = job.boxes
    if given.boxes is not None:  # the first are the best
        boxes = Boxes(given.boxes.astype(np.float32), -np.arange(len(given.boxes), dtype=np.float32))
    return job._replace(boxes=boxes, hints=given.hints, vivid=given.vivid if vivid is None else None)


def _check_hints(job: Job) -> None:
    """Refuse hints outside their photo before anything is computed."""
    if not job.hints:
        return
    try:
        size = read_size(job.photo)
    except DataError:
        return  # named when it is read
    place_hints(job.hints, size, job.boxes.boxes if job.boxes else None, job.photo)


def _not_done(
    paths: Mapping[Path, Path], output: Path | None, samples: int, beside: bool, settings: str
) -> dict[Path, Path]:
    """The photos that have no result yet; says how many have, and whether some are of other settings."""
    done = {photo: result for photo, result in paths.items() if _is_done(result, samples, beside)}
    if done:
        place = "colored" if output is None else f"in {output}"
        there = f"{len(done)} of {len(paths)} photos are {place} already"
        print(f"{there}: skipped; --force colors them again", file=sys.stderr)
    other = [result for result in done.values() if not is_made_with(result, settings)]
    if other:
        which = f"{len(other)} of these pictures, such as {printable(str(other[0]))},"
        print(f"warning: {which} were made with other weights, boxes or settings: kept as they are", file=sys.stderr)
    return {photo: result for photo, result in paths.items() if photo not in done}


def _is_done(result: Path, samples: int, beside: bool) -> bool:
    """Whether a photo was colored before: the contact sheet of its samples, if there are to be any, comes last."""
    wanted = (result, *sample_paths(result, samples)[-1:], *([side_by_side_path(result)] if beside else []))
    return all(path.is_file() for path in wanted)


def _thumbnail(rgb: np.ndarray) -> Image.Image:
    image = Image.fromarray(rgb)
    image.thumbnail(_SHEET_TILE)
    return image


class _Failures:
    """Photos that could not be colored: reported at once, counted for the end."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, error: DataError) -> None:
        self.count += 1
        tqdm.write(f"left out: {one_line(error, 4000)}", file=sys.stderr)


class _Dropped:
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


def _with_boxes(
    paths: Mapping[Path, Path], boxes: BoxStore | None, missing_boxes: str, failures: _Failures
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


def _batches(
    jobs: Sequence[Job], size: int, crops: bool, failures: _Failures
) -> Iterator[list[tuple[Job, np.ndarray]]]:
    """Jobs with the pixels of their photos; those whose photo cannot be read are failures.

    Photos with crops first, then those without: batches of one kind compile for fewer shapes. One ``vivid`` each. A
    batch also ends where its photos have too many pixels to hold more of them.
    """
    for has_crops, vivid in itertools.product((True, False), dict.fromkeys(job.vivid for job in jobs)):
        batch: list[tuple[Job, np.ndarray]] = []
        for job in jobs:
            if (crops and job.has_boxes) != has_crops or job.vivid != vivid:
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # from half of Pillow's limit on
                    batch.append((job, read_rgb(job.photo)))
            except DataError as error:
                failures.add(error)
            if len(batch) == size or sum(rgb.size for _, rgb in batch) >= 3 * _BATCH_PIXELS:
                yield batch
                batch = []
        if batch:
            yield batch


def _write(
    path: Path, rgb: np.ndarray, replace: bool, saving: Saving, metadata: Metadata = NO_METADATA
) -> tuple[str, ...]:
    """Write a picture; what of its metadata could not be kept."""
    if not replace and path.exists():
        return ()
    with atomic_write(path) as part:
        return encode(part, rgb, saving, metadata)

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
from jaxcolor.data.boxes.base import BoxStore, MissingBoxesError, SizedStore, fit_boxes, same_spelling
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.sources.base import unread_photos
from jaxcolor.data.transforms import PHOTO_SUFFIXES, read_rgb, read_size
from jaxcolor.data.types import Boxes, DataError
from jaxcolor.hints import Hint, PhotoHints, match_hints, place_hints, read_hints
from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.inference.photos import DroppedBoxesWarning, look_like_shares
from jaxcolor.inference.pictures import NO_METADATA, Metadata, Saving, encode, read_metadata, side_by_side
from jaxcolor.inference.upsample import without_color
from jaxcolor.runtime.atomic import atomic_write
from jaxcolor.runtime.contact_sheet import tile_grid
from jaxcolor.runtime.errors import UserError, one_line, printable

_SHEET_TILE = (320, 320)


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
    weights: Path,
    output: Path,
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
) -> None:
    """Color photos, and those of folders, into ``<output>/<stem>.png`` (or another suffix, by ``saving``).

    A job that was stopped goes on: photos whose results are there are skipped and counted, unless ``replace``. A photo
    or box file that cannot be read costs one line on standard error; the others are processed.

    Args:
      photos: photos or folders of photos.
      weights: a released file.
      output: folder; made if it is not there.
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

    Raises:
      UserError: nothing to do, results that would overwrite a photo or each other, settings that make no sense, a
        box store that cannot be opened, hints that cannot be used; at the end, if any photo failed.
    """
    if boxes_per_photo < 1 or batch_size < 1:
        raise UserError(f"--boxes-per-photo {boxes_per_photo}, --batch {batch_size}: both must be at least 1")
    if samples < 0 or not 0 <= seed < 1 << 32:
        raise UserError(f"--samples {samples}, --seed {seed}: must be at least 0, and a seed of at most 32 bits")
    saving.check()
    paths = plan(photos, output, saving.suffix)
    written = [
        path
        for result in paths.values()
        for path in (result, *_sample_paths(result, samples), *([_beside_path(result)] if beside else []))
    ]
    if len(set(written)) < len(written):
        twice = next(path for path in written if written.count(path) > 1)
        raise UserError(f"{twice}: a sample would overwrite another photo's result; rename the photo")
    hinted = {} if hints is None else match_hints(read_hints(hints), list(paths), hints)
    if not replace:
        given = len(paths)
        paths = {photo: result for photo, result in paths.items() if not _is_done(result, samples)}
        if len(paths) < given:
            there = f"{given - len(paths)} of {given} photos are in {output} already"
            print(f"{there}: skipped; --force colors them again", file=sys.stderr)
        if not paths:
            return
    store = None if boxes is None else open_store(boxes)
    colorizer = Colorizer.from_pretrained(weights, boxes_per_photo, vivid=vivid, saturation=saturation)
    if samples and not colorizer.has_classes:
        raise UserError(f"--samples: {weights} has no class head, from whose distribution samples are drawn")
    failures, dropped = _Failures(), _Dropped()
    jobs = [Job(photo, result, None) for photo, result in paths.items()]
    if colorizer.uses_boxes:
        jobs = list(_with_boxes(paths, store, missing_boxes, failures))
    jobs = [_steered(job, hinted.get(job.photo, PhotoHints()), vivid) for job in jobs]
    for job in jobs:
        _check_hints(job)
    without = sum(job.boxes is None for job in jobs)
    if not colorizer.uses_boxes:
        print(f"{weights} holds the full-image network only: boxes are not used", file=sys.stderr)
    elif without:
        print(f"{without} of {len(paths)} photos have no entry for boxes: full-image network alone", file=sys.stderr)
    output.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(jobs), unit="photo", dynamic_ncols=True) as bar:
        for batch in _batches(jobs, batch_size):
            _color_batch(colorizer, batch, failures, dropped, samples, seed, replace, saving, beside)
            bar.update(len(batch))
    dropped.report()
    print(f"{len(paths) - failures.count} photos colored into {output}")
    if failures.count:
        raise UserError(f"{failures.count} of {len(paths)} photos could not be colored; they are named above")


def _color_batch(
    colorizer: Colorizer,
    batch: Sequence[Job],
    failures: _Failures,
    dropped: _Dropped,
    samples: int,
    seed: int,
    replace: bool,
    saving: Saving,
    beside: bool,
) -> None:
    """Color the photos of a batch that can be read, and write each result as soon as it is done."""
    rgb: dict[Path, np.ndarray] = {}
    for job in batch:
        try:
            rgb[job.photo] = read_rgb(job.photo)
        except DataError as error:
            failures.add(error)
    jobs = [job for job in batch if job.photo in rgb]
    for job in jobs:
        dropped.add(job, (rgb[job.photo].shape[1], rgb[job.photo].shape[0]))
    pictures = [rgb[job.photo] for job in jobs]
    boxes = [job.boxes.boxes if job.boxes else None for job in jobs]
    scores = [job.boxes.scores if job.boxes else None for job in jobs]
    hints = [job.hints for job in jobs]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("ignore", DroppedBoxesWarning)  # reported by photo, below
        coming = colorizer.iterate(pictures, boxes, scores, hints, vivid=batch[0].vivid)
    for warning in caught:
        tqdm.write(f"warning: {warning.message}", file=sys.stderr)
    results = []
    for job, result in zip(jobs, coming, strict=True):
        metadata = read_metadata(job.photo)
        lost = _write(job.output, result, replace, saving, metadata)
        if lost:
            what = f"its {' and '.join(lost)} could not be carried over"
            tqdm.write(printable(f"warning: {job.photo}: {what}"), file=sys.stderr)
        if beside:
            gray = without_color(rgb[job.photo])
            _write(_beside_path(job.output), side_by_side(gray, result), replace, saving)
        if samples:  # their sheet shows it
            results.append(result)
    if not samples or not jobs:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DroppedBoxesWarning)
        drawn = colorizer.samples(pictures, boxes, samples, seed, scores=scores, hints=hints, vivid=batch[0].vivid)
    for job, picture, result, alternatives in zip(jobs, pictures, results, drawn, strict=True):
        *places, sheet = _sample_paths(job.output, samples)
        for place, alternative in zip(places, alternatives, strict=False):
            _write(place, alternative, replace, saving, read_metadata(job.photo))
        for place in places[len(alternatives) :]:  # of an earlier run that found more
            if replace:
                place.unlink(missing_ok=True)
        if len(alternatives) < samples:
            tqdm.write(
                f"{job.photo}: {len(alternatives)} of {samples} samples; its objects have no more plausible colors",
                file=sys.stderr,
            )
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


def _is_done(result: Path, samples: int) -> bool:
    """Whether a photo was colored before: the contact sheet of its samples, if there are to be any, comes last."""
    return all(path.is_file() for path in (result, *_sample_paths(result, samples)[-1:]))


def _sample_paths(result: Path, samples: int) -> list[Path]:
    """Where a photo's samples and their contact sheet go."""
    if not samples:
        return []
    names = [*(f"sample{number}{result.suffix}" for number in range(1, samples + 1)), "samples.png"]
    return [result.with_name(f"{result.stem}.{name}") for name in names]


def _beside_path(result: Path) -> Path:
    """Where the photo beside its result goes."""
    return result.with_name(f"{result.stem}.side_by_side{result.suffix}")


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


def plan(photos: Sequence[Path], output: Path, suffix: str = ".png") -> dict[Path, Path]:
    """Each photo and where its result, of that suffix, is written, in the order given.

    Raises:
      UserError: no such photo or folder, no photo in it, two photos that would share a result, or an output folder
        that holds one of the photos: a result could take the place of an original.
    """
    taken: dict[Path, Path] = {}
    own = _folder_id(output)
    for photo in _expand(photos):
        # Also the folder of the file that a link leads to: its original would be replaced.
        if own is not None and own in (_folder_id(photo.parent), _folder_id(photo.resolve().parent)):
            raise UserError(f"{output}: holds the photo {photo}, and originals are never replaced; give another folder")
        result = output / f"{photo.stem}{suffix}"
        if result in taken:
            raise UserError(f"{taken[result]} and {photo} would both become {result}; rename one")
        taken[result] = photo
    return {photo: result for result, photo in taken.items()}


def _folder_id(folder: Path) -> tuple[int, int] | None:
    """What is the same for all names of a folder; None: there is no such folder."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _expand(photos: Sequence[Path]) -> Iterator[Path]:
    for path in photos:
        if path.is_dir():
            files = [p for p in path.iterdir() if not p.name.startswith(".")]
            found = sorted(p for p in files if p.suffix.lower() in PHOTO_SUFFIXES)
            unread = unread_photos(p.name for p in files)
            if not found:
                raise UserError(f"{path}: no photos here ({', '.join(PHOTO_SUFFIXES)}{unread and f'; {unread}'})")
            if unread:
                print(printable(f"{path}: files left out: {unread}"), file=sys.stderr)
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
        key = same_spelling(photo.stem)
        try:
            none = store is None or (missing_boxes == "none" and key not in store)
            found = None if none or store is None else store.read(key)
            if found is not None and isinstance(store, SizedStore):
                found = fit_boxes(store, key, found, read_size(photo))
            yield Job(photo, output, found)
        except MissingBoxesError as error:
            failures.add(DataError(f"{error}; --missing-boxes none takes its photo for one without boxes"))
        except DataError as error:
            failures.add(error)


def _batches(jobs: Sequence[Job], size: int) -> Iterator[Sequence[Job]]:
    """Photos with boxes first, then those without: batches of one kind compile for fewer shapes. One ``vivid`` each."""
    for has_boxes, vivid in itertools.product((True, False), dict.fromkeys(job.vivid for job in jobs)):
        kind = [job for job in jobs if job.has_boxes == has_boxes and job.vivid == vivid]
        for start in range(0, len(kind), size):
            yield kind[start : start + size]


def _write(
    path: Path, rgb: np.ndarray, replace: bool, saving: Saving, metadata: Metadata = NO_METADATA
) -> tuple[str, ...]:
    """Write a picture; what of its metadata could not be kept."""
    if not replace and path.exists():
        return ()
    with atomic_write(path) as part:
        return encode(part, rgb, saving, metadata)

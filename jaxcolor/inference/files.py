"""Color photos on disk: which ones, their boxes and hints, where results are written, and which of them failed."""

from __future__ import annotations

import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

from jaxcolor.color import Bits, to_8_bits
from jaxcolor.config import check_canvases, check_crop_sides
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.types import DataError
from jaxcolor.hints import PhotoHints, match_hints, read_hints
from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.inference.jobs import (
    Dropped,
    Failures,
    Found,
    Job,
    check_hints,
    is_to_be_found,
    read_pixels,
    said_warnings,
    steered,
    with_boxes,
    write,
    write_result,
)
from jaxcolor.inference.made_with import is_made_with, made_with
from jaxcolor.inference.photos import AUTO, DroppedBoxesWarning, read_photo
from jaxcolor.inference.pictures import Saving, read_metadata
from jaxcolor.inference.result_paths import boxes_beside, described, plan, sample_paths, side_by_side_path
from jaxcolor.runtime.contact_sheet import tile_grid
from jaxcolor.runtime.errors import UserError, printable
from jaxcolor.runtime.places import local_path
from jaxcolor.runtime.progress import progress
from jaxcolor.runtime.text import counted
from jaxcolor.weights import packaged

_SHEET_TILE = (320, 320)
_SECONDS = 5.0
"""Between two lines of progress in a log: somebody is waiting."""
_BATCH_PIXELS = 1 << 26
"""Of the photos that are held at once, but for the last: 200 MB."""


def colorize_files(
    photos: Sequence[Path],
    weights: str | Path | None,
    output: Path | None,
    *,
    boxes: Path | Literal["auto", "none"] | None,
    missing_boxes: str,
    boxes_per_photo: int | None,
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
    canvases: Sequence[int] | None = None,
) -> None:
    """Color photos, and those of folders, into a folder, or beside them, under names that ``plan`` says.

    A job that was stopped goes on: photos whose results are there are skipped and counted, unless ``replace``; those
    of other weights or settings too, which is said. A photo or box file that cannot be read costs one line on standard
    error; the others are processed.

    Args:
      photos: photos or folders of photos.
      weights: a file, or a name in the package; None: the package's default weights (``weights.packaged``).
      output: folder, made if it is not there; None: beside the photos.
      boxes: a box store of any kind; ``auto``: found by the weights' own head; ``none``: the full-image network alone;
        None: the store at ``<folder of the photo>_bbox`` where there is one, else ``auto`` where the weights have such
        a head and use boxes.
      missing_boxes: what a photo without an entry in that store means: ``error``, or ``none`` (it has no boxes).
      boxes_per_photo: see ``Colorizer``.
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
      canvases: see ``Colorizer.from_pretrained``.

    Raises:
      UserError: nothing to do, results that would overwrite a photo or each other, settings that make no sense, a
        box store that cannot be opened, hints that cannot be used; at the end, if any photo failed.
    """
    if (boxes_per_photo is not None and boxes_per_photo < 1) or batch_size < 1:
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
    canvases = packaged.canvases(weights) if canvases is None else tuple(canvases)
    check_canvases(canvases)  # before what is done already ends this
    check_crop_sides(tuple(crop_sides))
    settings = made_with(
        weights,
        hints,
        boxes=os.path.abspath(boxes) if isinstance(boxes, Path) else boxes,
        missing_boxes=missing_boxes,
        boxes_per_photo=boxes_per_photo,
        vivid=vivid,
        saturation=saturation,
        samples=samples,
        seed=seed if samples else None,
        **({"crop_sides": ",".join(map(str, crop_sides))} if crop_sides else {}),
        **({"canvases": ",".join(map(str, canvases))} if canvases else {}),
    )
    saving = saving._replace(settings=settings)
    if not replace:
        paths = _not_done(paths, output, samples, beside, settings)
        if not paths:
            return
    store = open_store(boxes) if isinstance(boxes, Path) else None
    colorizer = Colorizer.from_pretrained(
        weights,
        boxes_per_photo,
        vivid=vivid,
        saturation=saturation,
        bits=saving.bits,
        crop_sides=crop_sides,
        canvases=canvases,
    )
    named = packaged.described(weights)
    if samples and not colorizer.has_classes:
        raise UserError(f"--samples: {named} has no class head, from whose distribution samples are drawn")
    if boxes == AUTO and not colorizer.finds_boxes:
        raise UserError(f"--boxes auto: {named} has no head that finds boxes (docs/own_boxes.md); give boxes, or none")
    failures, dropped, found = Failures(), Dropped(), Found()
    jobs = [Job(photo, result, None) for photo, result in paths.items()]
    of_objects = any(hint.object is not None for of_photo in hinted.values() for hint in of_photo.hints)
    useful = colorizer.uses_boxes or samples > 0
    if not isinstance(boxes, str) and (useful or of_objects):
        jobs = list(with_boxes(paths, store, missing_boxes, failures))
    elif not useful and boxes != "none" and (boxes is not None or any(boxes_beside(p).is_dir() for p in paths)):
        print(f"{named} holds the full-image network only: boxes are not used", file=sys.stderr)
    jobs = [steered(job, hinted.get(job.photo, PhotoHints()), vivid) for job in jobs]
    for job in jobs:
        check_hints(job)
    if useful and colorizer.finds_boxes and (boxes is None or boxes == AUTO):
        jobs = [job._replace(find=is_to_be_found(job, boxes == AUTO)) for job in jobs]
    without = sum(job.boxes is None and not job.find for job in jobs)
    if colorizer.uses_boxes and without == len(jobs) and boxes is None:
        none = "no boxes lie beside the photos, and these weights find none by themselves"
        print(f"{none}: full-image network alone (docs/boxes.md)", file=sys.stderr)
    elif colorizer.uses_boxes and without and boxes != "none":
        have = f"{without} of {counted(len(paths), 'photo')} {'has' if without == 1 else 'have'}"
        print(f"{have} no entry for boxes: full-image network alone", file=sys.stderr)
    for folder in {job.output.parent for job in jobs}:
        folder.mkdir(parents=True, exist_ok=True)
    # Lines in a log only where there is more to wait for than one batch.
    with progress(len(jobs), "colorize", "photo", silent=len(jobs) <= batch_size, every=_SECONDS) as note:
        for read in _batches(jobs, batch_size, colorizer.uses_boxes, saving.bits, failures, note):
            batch = found.find(colorizer, read)
            _color_batch(colorizer, batch, dropped, samples, seed, replace, saving, beside, note)
    dropped.report()
    found.report()
    done = len(paths) - failures.count
    if done:
        print(f"{counted(done, 'photo')} colored into {described(output, list(paths.values()))}")
    if failures.count:
        raise UserError(
            f"{failures.count} of {counted(len(paths), 'photo')} could not be colored; they are named above"
        )


def _color_batch(
    colorizer: Colorizer,
    batch: Sequence[tuple[Job, np.ndarray]],
    dropped: Dropped,
    samples: int,
    seed: int,
    replace: bool,
    saving: Saving,
    beside: bool,
    note: Callable[[int], object],
) -> None:
    """Color the photos of a batch, write each result as soon as it is done, and note it."""
    jobs, pictures = [job for job, _ in batch], [rgb for _, rgb in batch]
    for job, rgb in batch:
        dropped.add(job, (rgb.shape[1], rgb.shape[0]))
    boxes = [job.boxes.boxes if job.boxes else None for job in jobs]
    scores = [job.boxes.scores if job.boxes else None for job in jobs]
    hints = [job.hints for job in jobs]
    with said_warnings():
        coming = colorizer.iterate(pictures, boxes, scores, hints, vivid=jobs[0].vivid)
    results = []
    for job, picture, result in zip(jobs, pictures, coming, strict=True):
        write_result(job, picture, result, replace, saving, beside)
        if samples:  # their sheet shows it
            results.append(result)
        else:
            note(1)
    if not samples:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DroppedBoxesWarning)
        drawn = colorizer.samples(pictures, boxes, samples, seed, scores=scores, hints=hints, vivid=jobs[0].vivid)
    for job, picture, result, alternatives in zip(jobs, pictures, results, drawn, strict=True):
        *places, sheet = sample_paths(job.output, samples)
        for place, alternative in zip(places, alternatives, strict=False):
            write(place, alternative, replace, saving, read_metadata(job.photo))
        for place in places[len(alternatives) :]:  # of an earlier run that found more
            if replace:
                place.unlink(missing_ok=True)
        if len(alternatives) < samples:
            why = "its objects have no more plausible colors" if job.has_boxes else "it has no boxes, whose colors vary"
            tqdm.write(f"{job.photo}: {len(alternatives)} of {samples} samples; {why}", file=sys.stderr)
        captions = ["given", "colored", *(f"sample {n}" for n in range(1, len(alternatives) + 1))]
        tiles = [_thumbnail(rgb) for rgb in (read_photo(picture), result, *alternatives)]
        grid = np.asarray(tile_grid(tiles, captions, columns=3, tile=_SHEET_TILE))
        write(sheet, grid, replace, Saving(weights=saving.weights))
        note(1)


def _not_done(
    paths: Mapping[Path, Path], output: Path | None, samples: int, beside: bool, settings: str
) -> dict[Path, Path]:
    """The photos that have no result yet; says how many have, and whether some are of other settings."""
    done = {photo: result for photo, result in paths.items() if _is_done(result, samples, beside)}
    other = [result for result in done.values() if not is_made_with(result, settings)]
    if done:
        place = "colored" if output is None else f"in {output}"
        there = f"{len(done)} of {counted(len(paths), 'photo')} {'is' if len(done) == 1 else 'are'} {place} already"
        if other:
            which = f"{len(other)} of these pictures, such as {printable(str(other[0]))},"
            there += f", {which} made with other weights, boxes or settings (such as --vivid)"
        print(f"{there}: skipped; --force colors them again", file=sys.stderr)
    return {photo: result for photo, result in paths.items() if photo not in done}


def _is_done(result: Path, samples: int, beside: bool) -> bool:
    """Whether a photo was colored before: the contact sheet of its samples, if there are to be any, comes last."""
    wanted = (result, *sample_paths(result, samples)[-1:], *([side_by_side_path(result)] if beside else []))
    return all(path.is_file() for path in wanted)


def _thumbnail(rgb: np.ndarray) -> Image.Image:
    image = Image.fromarray(to_8_bits(rgb))
    image.thumbnail(_SHEET_TILE)
    return image


def _batches(
    jobs: Sequence[Job],
    size: int,
    crops: bool,
    bits: Bits,
    failures: Failures,
    note: Callable[[int], object],
) -> Iterator[list[tuple[Job, np.ndarray]]]:
    """Jobs with the pixels of their photos; those whose photo cannot be read are failures, and noted as done.

    Photos with crops, or that may get some, first, then those without: batches of one kind compile for fewer shapes.
    One ``vivid`` each. A batch also ends where its photos have too many pixels to hold more of them.
    """
    for has_crops, vivid in itertools.product((True, False), dict.fromkeys(job.vivid for job in jobs)):
        batch: list[tuple[Job, np.ndarray]] = []
        for job in jobs:
            if (crops and (job.has_boxes or job.find)) != has_crops or job.vivid != vivid:
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # from half of Pillow's limit on
                    batch.append((job, read_pixels(job.photo, bits)))
            except DataError as error:
                failures.add(error)
                note(1)
            if len(batch) == size or sum(rgb.size for _, rgb in batch) >= 3 * _BATCH_PIXELS:
                yield batch
                batch = []
        if batch:
            yield batch

"""``jaxcolor boxes detect``: boxes for many photos, in a run that can be killed at any time and resumed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from jaxcolor.config import DataConfig
from jaxcolor.data.boxes.packed_writer import PackedWriter, check_place
from jaxcolor.data.sources.base import PhotoSet
from jaxcolor.data.sources.index import kept_index
from jaxcolor.data.sources.registry import open_photos
from jaxcolor.data.types import DataError
from jaxcolor.detection.detector import Detector, DetectorSpec
from jaxcolor.detection.parts import do_part
from jaxcolor.detection.work import Bad, Job, Part, Work, identify
from jaxcolor.runtime.atomic import put_folder, unique_partial_path
from jaxcolor.runtime.progress import progress
from jaxcolor.runtime.text import counted

StoreFormat = Literal["packed", "npz"]

PHOTOS_PER_PART = 256
"""What a killed run has to do again at most; for ImageNet 5,005 parts."""
MOST_BOXES = 100
"""As many as Mask R-CNN gives; the networks use eight."""

_NAMED = 3


def detect(
    config: DataConfig,
    store: Path,
    spec: DetectorSpec,
    *,
    threshold: float | None = None,
    batch_size: int | None = None,
    most_boxes: int = MOST_BOXES,
    photos_per_part: int = PHOTOS_PER_PART,
    store_format: StoreFormat = "packed",
    replace: bool = False,
    restart: bool = False,
    beam_options: Sequence[str] | None = None,
) -> str:
    """Finds the boxes of all photos and writes them, with a progress bar. Photos are read and nothing else.

    Args:
      config: the photos, and what those that cannot be read mean (``bad_photos``). Either way each costs a line and
        the others are processed. ``error``: an error at the end and no store; the work is kept. ``skip``: the store has
        no entry for them. With ``index_path`` two photos of one name are found before the work, not after it.
      store: where the boxes go.
      spec: the detector.
      threshold: the lowest score kept; None: the detector's own.
      batch_size: photos that the detector gets at a time; None: the detector's own.
      most_boxes: kept of a photo.
      photos_per_part: after so many the work is safe.
      store_format: a packed store, or a folder of ``<stem>.npz``.
      replace: whether a store at ``store`` is replaced.
      restart: throw away the unfinished work of a run before.
      beam_options: Apache Beam's options: Beam does the parts; None: this process does.

    Returns:
      What was written, in one line.

    Raises:
      DataError: the store exists, numbers that make no sense, photos or an index that cannot be used, work of another
        job or of a run that is going on, photos that cannot be read, or it cannot be written.
      DetectorError: see ``DetectorSpec.open`` and ``parts.do_part``.
    """
    _check_place(store, store_format, replace)
    photos = open_photos(config)
    detector = spec.open()
    threshold = detector.threshold if threshold is None else threshold
    batch_size = detector.batch_size if batch_size is None else batch_size
    if not 0 <= threshold <= 1:
        raise DataError(f"--threshold {threshold}: scores are from 0 to 1")
    if batch_size < 1 or most_boxes < 1 or photos_per_part < 1:
        raise DataError(
            f"--batch {batch_size}, --max-boxes {most_boxes}, --photos-per-part {photos_per_part}: "
            "all must be at least 1"
        )
    if config.index_path:
        kept_index(config, photos, skip_bad=True)
    job = Job(len(photos), identify(photos), detector.name, float(threshold), most_boxes, batch_size, photos_per_part)
    work = Work(store, job)
    with work.alone():
        work.begin(restart)
        _do_again(work, photos, retry_bad=config.bad_photos == "error")
        print(f"{detector.name}: boxes with scores of at least {threshold:g}", file=sys.stderr)
        if beam_options is None:
            _do_all(work, photos, detector)
        else:
            from jaxcolor.detection.beam import do_all

            del detector  # workers open their own; two of them may not fit a GPU
            do_all(work, config, spec, beam_options)
        return _finish(work, photos.name, store, store_format, config.bad_photos, replace)


def _do_again(work: Work, photos: PhotoSet, *, retry_bad: bool) -> None:
    """Parts that are done but not as they would be now: photos were replaced since, or may have been repaired."""
    replaced = 0
    for number in range(work.job.parts):
        part = work.done(number)
        if part is None:
            continue
        other = part.state != photos.state(work.job.range(number))
        replaced += other and not part.bad
        if other or (part.bad and retry_bad):
            work.undo(number)
    if replaced:
        print(f"photos were replaced since they were looked at; parts done again: {replaced:,}", file=sys.stderr)


def _do_all(work: Work, photos: PhotoSet, detector: Detector) -> None:
    job = work.job
    missing = [number for number in range(job.parts) if work.done(number) is None]
    with progress_bar(job, missing) as note:

        def report(bad: Bad | None) -> None:
            if bad is not None:
                tell_bad(bad)
            note(1)

        for number in missing:
            do_part(work, number, photos, detector, report)


def tell_bad(bad: Bad) -> None:
    """A line on a photo that cannot be read, without spoiling the progress bar."""
    tqdm.write(f"left out: {bad.message}", file=sys.stderr)


def progress_bar(job: Job, missing: Sequence[int]) -> AbstractContextManager[Callable[[int], object]]:
    """Photos done of all, those of parts before included, and when the rest will be (``runtime.progress``)."""
    before = job.photos - sum(len(job.range(number)) for number in missing)
    return progress(job.photos, "detect", "photo", before=before)


def _finish(
    work: Work, photos_name: str, store: Path, store_format: StoreFormat, bad_photos: str, replace: bool
) -> str:
    """The store of all parts, in the order of the photos: who did which part, and when, leaves no trace in it."""
    job = work.job
    parts = [_done(work, number) for number in range(job.parts)]
    bad = [entry for part in parts for entry in part.bad]
    read = sum(part.photos for part in parts)
    left_out = ""
    if bad:
        named = ", ".join(entry.key for entry in bad[:_NAMED]) + (" …" if len(bad) > _NAMED else "")
        left_out = f"{len(bad)} of {job.photos} photos cannot be read: {named}"
        if bad_photos == "error":
            raise DataError(
                f"{left_out}; no store was written, but the work is kept: mend them and run the same command again, or "
                "give --bad-photos skip to leave them out"
            )
        if not read:
            raise DataError(f"{left_out}; there is nothing to write")
    if store_format == "npz":
        _write_npz(work, store, replace)
    else:
        writer = PackedWriter(
            store,
            # The parts hold records of a packed store already.
            source_kind="packed",
            source_name=photos_name,
            detector=f"{job.detector} on gray (L* in 8 bits)",
            threshold=job.threshold,
            note=left_out,
            replace=replace,
        )
        with writer:
            for number in range(job.parts):
                for record in work.records(number):
                    writer.add(record.key, record.boxes)
    work.remove()
    boxes = sum(part.boxes for part in parts)
    return f"wrote {store}: {counted(boxes, 'box', 'boxes')} of {counted(read, 'photo')}" + (
        f"; {left_out}: left out" if left_out else ""
    )


def _done(work: Work, number: int) -> Part:
    part = work.done(number)
    if part is None:
        raise DataError(
            f"{work.path}: part {number} is not there, though it was done; do all workers share this folder?"
        )
    return part


def _check_place(store: Path, store_format: StoreFormat, replace: bool) -> None:
    if store_format == "packed":
        check_place(store, replace)
    elif os.path.lexists(store):
        if not replace:
            raise DataError(f"{store}: exists; give --force to replace it")
        if not store.is_dir() or any(not name.endswith(".npz") for name in os.listdir(store)):
            raise DataError(f"{store}: exists and is no folder of .npz files alone: not replaced")


def _write_npz(work: Work, store: Path, replace: bool) -> None:
    part = unique_partial_path(store)
    part.mkdir()
    try:
        seen: set[str] = set()
        for number in range(work.job.parts):
            for record in work.records(number):
                if record.key in seen:
                    raise DataError(f"photo {record.key}: there are two of this name; nothing was written")
                seen.add(record.key)
                np.savez(part / f"{record.key}.npz", bbox=record.boxes.boxes, scores=record.boxes.scores)
        _check_place(store, "npz", replace)
        put_folder(part, store, replace=replace)
    finally:
        shutil.rmtree(part, ignore_errors=True)

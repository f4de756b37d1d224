"""Doing one part: read its photos, show them to the detector, keep its boxes. The same with Beam and without."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from jaxtyping import UInt8

from jaxcolor.boxes import best_scores, clean_boxes
from jaxcolor.data.boxes.packed import Record
from jaxcolor.data.sources.base import PhotoSet
from jaxcolor.data.transforms import read_rgb
from jaxcolor.data.types import Boxes, DataError
from jaxcolor.detection.detector import Detector, DetectorError
from jaxcolor.detection.inputs import detector_gray
from jaxcolor.detection.work import Bad, Job, Part, Work

READERS = 2
"""Threads that decode photos while the detector computes: Pillow and NumPy let go of Python's lock."""

_Loaded = tuple[str, UInt8[np.ndarray, "_ _ 3"]] | Bad


def do_part(
    work: Work,
    number: int,
    photos: PhotoSet,
    detector: Detector,
    report: Callable[[Bad | None], object] = lambda bad: None,
) -> Part:
    """Does a part and writes it.

    Args:
      work: where it is written.
      number: of the part.
      photos: all photos of the job.
      detector: that of the job.
      report: called for each photo that is done, with what was wrong with it.

    Raises:
      DetectorError: what the detector gave cannot be read as boxes.
      DataError: the part cannot be written.
    """
    job = work.job
    # Before they are read: a photo that is replaced meanwhile is read again by the next run.
    state = photos.state(job.range(number))
    records: list[Record] = []
    bad: list[Bad] = []
    for loaded in _batches(photos, job.range(number), job.batch_size):
        good = [entry for entry in loaded if not isinstance(entry, Bad)]
        found = _detect(detector, [gray for _, gray in good], job) if good else []
        records += [Record(key, boxes) for (key, _), boxes in zip(good, found, strict=True)]
        for entry in loaded:
            if isinstance(entry, Bad):
                bad.append(entry)
            report(entry if isinstance(entry, Bad) else None)
    return work.write(number, records, bad, state)


def _batches(photos: PhotoSet, numbers: range, size: int) -> Iterator[list[_Loaded]]:
    """Photos in batches, of which one is being read while the one before it is in use: no more are in memory."""
    chunks = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    with ThreadPoolExecutor(READERS) as pool:

        def submit(chunk: range) -> list[Future[_Loaded]]:
            return [pool.submit(_load, photos, index) for index in chunk]

        following = submit(chunks[0])
        for chunk in [*chunks[1:], range(0)]:
            current, following = following, submit(chunk)
            yield [future.result() for future in current]


def _load(photos: PhotoSet, index: int) -> _Loaded:
    keys = photos.keys()
    key = f"number {index}" if keys is None else keys[index]
    try:
        entry = photos.entry(index)
        key = entry.name  # in a data set of records only the record says it
        return key, detector_gray(read_rgb(entry.file))
    except DataError as error:
        return Bad(key, str(error))


def _detect(detector: Detector, grays: Sequence[UInt8[np.ndarray, "_ _ 3"]], job: Job) -> list[Boxes]:
    answers = detector.detect(grays, job.threshold)
    if len(answers) != len(grays):
        raise DetectorError(f"detector {detector.name}: gave boxes for {len(answers)} photos of {len(grays)}")
    return [keep(detector.name, answer, gray.shape, job) for answer, gray in zip(answers, grays, strict=True)]


def keep(detector: str, found: Boxes, shape: Sequence[int], job: Job) -> Boxes:
    """Of a photo's boxes those that go into the store, best first.

    Those of low score, those without a crop (not finite, outside of the photo, thinner than a pixel), and beyond the
    best ``job.most_boxes`` the rest go; what stays is cut off at the photo's edge.

    Args:
      detector: its name, for messages.
      found: what it gave.
      shape: height and width of the photo, first.
      job: threshold and number of boxes.

    Raises:
      DetectorError: it gave something else than boxes and scores.
    """
    boxes, scores = (np.asarray(array, np.float32) for array in found)
    if boxes.ndim != 2 or boxes.shape[1:] != (4,) or scores.shape != boxes.shape[:1]:
        raise DetectorError(
            f"detector {detector}: gave boxes {boxes.shape}, scores {scores.shape}; not (N, 4) and (N,)"
        )
    size = (shape[1], shape[0])
    rows = np.flatnonzero(scores >= np.float32(job.threshold))
    rows = rows[clean_boxes(boxes[rows], scores[rows], size).kept]
    rows = rows[best_scores(scores[rows], job.most_boxes)]
    return Boxes(np.clip(boxes[rows], 0, np.array(size * 2, np.float32)), scores[rows])

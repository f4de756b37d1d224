"""The parts of a run by Apache Beam, on as many machines as its runner has.

The pipeline is short, because parts are idempotent files in a folder that all workers share (a network file system, or
one machine's disk): part numbers, shuffled so that they spread, each done by ``parts.do_part``. What comes out are
counts; the boxes never pass through Beam, so a worker holds one part's boxes and two batches of photos. A part that a
runner has done twice, as runners may, is the same file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from jaxcolor.config import DataConfig
from jaxcolor.data.sources.base import PhotoSet
from jaxcolor.data.sources.registry import open_photos
from jaxcolor.data.types import DataError
from jaxcolor.detection.detector import Detector, DetectorError, DetectorSpec
from jaxcolor.detection.parts import do_part
from jaxcolor.detection.run import progress_bar, tell_bad
from jaxcolor.detection.work import Work, identify
from jaxcolor.runtime.errors import UserError, one_line

try:
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.utils import shared
except ImportError as failure:
    raise DetectorError(f"--beam needs Apache Beam ({one_line(failure)}): pip install 'jaxcolor[beam]'") from failure

_LOOK_EVERY = 1.0
"""Seconds between two looks at how many parts are done."""


class DoPart(apache_beam.DoFn):
    """Part number -> photos that it has."""

    def __init__(self, work: Work, config: DataConfig, spec: DetectorSpec) -> None:
        self._work = work
        # Not the set itself: the list of a million photos would travel to every worker.
        self._config = config
        self._spec = spec
        self._shared = shared.Shared()
        self._photos: PhotoSet | None = None
        self._detector: Detector | None = None

    def setup(self) -> None:
        """On each worker: opens the detector, and makes sure that it and the photos are those of the job.

        Raises:
          DataError: they are not.
        """
        job = self._work.job
        self._detector = self._spec.open()
        if self._detector.name != job.detector:
            raise DataError(f"this worker's detector is {self._detector.name}, the job's {job.detector}")
        self._photos = self._shared.acquire(self._open)  # once in a process, whatever the number of its threads

    def _open(self) -> PhotoSet:
        photos, job = open_photos(self._config), self._work.job
        if len(photos) != job.photos or identify(photos) != job.photos_identity:
            raise DataError(f"this worker sees other photos in {photos.where}; do all share that place?")
        return photos

    def process(self, number: int) -> Iterator[int]:
        """Does the part, if no other worker has."""
        part = self._work.done(number)
        if part is None:
            assert self._detector is not None
            assert self._photos is not None
            part = do_part(self._work, number, self._photos, self._detector)
        yield part.photos


def do_all(work: Work, config: DataConfig, spec: DetectorSpec, options: Sequence[str]) -> None:
    """Has Beam do the parts that are not done, and waits for it.

    Args:
      work: of the job.
      config: of the job's photos; each worker process opens them once.
      spec: of the detector.
      options: Beam's own, such as ``--runner=FlinkRunner``; by default its DirectRunner runs it in this process.

    Raises:
      UserError: the pipeline failed; what was done is kept.
    """
    missing = [number for number in range(work.job.parts) if work.done(number) is None]
    if not missing:
        return
    finished = threading.Event()
    watcher = threading.Thread(target=_watch, args=(work, missing, finished))
    watcher.start()
    try:
        pipeline = apache_beam.Pipeline(options=PipelineOptions(list(options)))
        _ = (
            pipeline
            | "parts" >> apache_beam.Create(missing)
            | "spread" >> apache_beam.Reshuffle()
            | "detect" >> apache_beam.ParDo(DoPart(work, config, spec))
        )
        state: Any = pipeline.run().wait_until_finish()
    except UserError:
        raise
    except Exception as error:  # runners wrap what a worker raised in classes of their own
        raise UserError(f"the Beam pipeline failed; what was done is kept: {one_line(error, 1000)}") from error
    finally:
        finished.set()
        watcher.join()
    if state is not None and state != "DONE":
        raise UserError(f"the Beam pipeline ended as {state}; what was done is kept")


def _watch(work: Work, missing: Sequence[int], finished: threading.Event) -> None:
    """Shows progress by looking for finished parts, which works with every runner."""
    open_parts = set(missing)
    with progress_bar(work.job, missing) as note:
        while open_parts:
            last = finished.wait(_LOOK_EVERY)
            for number in sorted(open_parts):
                part = work.done(number)
                if part is None:
                    continue
                open_parts.remove(number)
                for bad in part.bad:
                    tell_bad(bad)
                note(len(work.job.range(number)))
            if last:
                return

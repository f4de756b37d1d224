"""What the pipeline hands out, and the iterator that reads it ahead."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple

import grain
from absl import flags

from jaxcolor.batch import Batch
from jaxcolor.config import DataConfig
from jaxcolor.data.eval_targets import EvalTargets
from jaxcolor.data.types import DataError


class LoadedBatch(NamedTuple):
    """What the pipeline yields for one step: this process's part of it."""

    batch: Batch
    """NumPy arrays, photos and crops device after device."""
    names: tuple[str, ...]
    """Of the photos, in the batch's order (for ``instance``: the photo of each crop); empty where there is none."""
    dropped_crops: int
    """Crops for which ``max_crops_per_image`` left no place."""
    skipped: tuple[str, ...]
    """A line for each photo that ``bad_photos`` or ``gray_photos`` left out: the next good one replaces it in training;
    in evaluation its place is empty (``is_real``)."""
    gray_photos: int
    """Photos of the batch without colour, where ``gray_photos`` keeps them."""
    compared: EvalTargets | None = None
    """The truth at the size of a comparison, with its annotated objects, where an evaluation asked for it."""

    @property
    def counts(self) -> dict[str, int]:
        """What went wrong or is odd, in numbers, for the logs."""
        return {
            "dropped_crops": self.dropped_crops,
            "skipped_photos": len(self.skipped),
            "gray_photos": self.gray_photos,
        }


class FailedBatch(NamedTuple):
    """In place of a batch: a photo that stops the run. An exception raised in a worker would arrive as another one."""

    message: str


class BatchIterator(Iterator[LoadedBatch]):
    """An iterator over batches that reads ahead; ``close`` it, or use it in a ``with`` block."""

    def __init__(self, dataset: grain.MapDataset, config: DataConfig) -> None:
        options = grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=2 * config.threads)
        ahead = dataset.to_iter_dataset(options)
        if config.workers:
            if not flags.FLAGS.is_parsed():  # programs parse them; Grain's workers need them parsed
                flags.FLAGS.mark_as_parsed()
            ahead = ahead.mp_prefetch(grain.MultiprocessingOptions(config.workers, per_worker_buffer_size=2))
        self._iterator: list[Any] = [iter(ahead)]
        # At the end of the program too, and before the interpreter takes Grain's modules away: that would be noisy.
        self._finalizer = weakref.finalize(self, _close, self._iterator)
        self._told: set[str] = set()

    def __iter__(self) -> BatchIterator:
        return self

    def __next__(self) -> LoadedBatch:
        """The next batch; tells each photo that is left out once, on standard error.

        Raises:
          DataError: a photo cannot be used and is not to be skipped.
        """
        if not self._iterator:
            raise StopIteration
        loaded: LoadedBatch | FailedBatch = next(self._iterator[0])
        if isinstance(loaded, FailedBatch):
            raise DataError(loaded.message)
        for line in loaded.skipped:
            if line not in self._told:
                self._told.add(line)
                print(f"skipped: {line}", file=sys.stderr)
        return loaded

    def close(self) -> None:
        """Stops reading ahead; there are no batches afterwards. May be called twice."""
        self._finalizer()

    def __enter__(self) -> BatchIterator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _close(iterator: list[Any]) -> None:
    """Close the iterator and let go of it: as long as there is a reference it would be closed again."""
    iterator.pop().close()

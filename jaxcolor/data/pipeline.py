"""The order in which photos come, and batches of them, on Grain.

Position is step: photo p of the endless shuffled order belongs to step p // batch_size, and every random choice for
it (flip, boxes) comes from a generator seeded by p. So a run resumed at step k sees exactly what an uninterrupted one
sees from k on, for any number of threads, and no state of an iterator is ever saved.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Literal, NamedTuple

import grain
import numpy as np

from jaxcolor.batch import LEVELS, Batch
from jaxcolor.boxes import best_scores, choose
from jaxcolor.config import DataConfig
from jaxcolor.data.packing import crops_per_device, pack, photos_per_device
from jaxcolor.data.photos import DataError, Photo, Source, usable_boxes
from jaxcolor.data.preprocess import Example, example

Parts = Literal["full", "instance", "both"]
"""``full``: full pictures only. ``instance``: one crop a photo, no full pictures. ``both``: full pictures and crops."""


class Loaded(NamedTuple):
    """What the pipeline yields for one step."""

    batch: Batch
    """NumPy arrays, photos and crops device after device."""
    names: tuple[str, ...]
    """Of the photos, in the batch's order (for ``instance``: the photo of each crop); empty where there is none."""
    dropped_crops: int
    """Crops for which ``budget_per_image`` left no place."""
    skipped_photos: int
    """Unreadable photos: replaced by the next readable one in training, left out (``image_valid``) in evaluation."""


class Batches(Iterator[Loaded]):
    """An iterator over batches that reads ahead in threads; ``close`` it, or use it in a ``with`` block."""

    def __init__(self, dataset: grain.MapDataset, threads: int) -> None:
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
        self._iterator = iter(dataset.to_iter_dataset(options))
        self._closed = False

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Loaded:
        if self._closed:
            raise StopIteration
        return next(self._iterator)

    def close(self) -> None:
        """Stops reading ahead; there are no batches afterwards. May be called twice."""
        self._closed = True
        self._iterator.close()

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def train_batches(
    source: Source,
    config: DataConfig,
    *,
    parts: Parts,
    side: int,
    batch_size: int,
    flip: bool = False,
    device_count: int = 1,
    start_step: int = 0,
) -> Batches:
    """Endless batches for training; all photos are shuffled anew for each pass.

    Photos without a usable box are left out of ``instance`` and ``both``: they have no instances. ``instance`` takes
    one uniformly random box of all the photo's usable ones a visit, whatever ``box_choice`` says of detections
    (``ground_truth`` does replace them). With ``both``, a photo's chosen boxes can be none, say under ``threshold``.

    Args:
      source: photos with boxes.
      config: choice of boxes, budget, seed, threads.
      parts: what the stage reads.
      side: S of the canvas.
      batch_size: photos in a step, over all devices.
      flip: whether each photo is mirrored left to right with probability one half.
      device_count: devices among which axis 0 of every array splits evenly.
      start_step: the step of the first batch yielded.

    Returns:
      An iterator whose batch k is that of step ``start_step + k``. Crops per device: ``ceil(photos on it x
      budget_per_image)``; for ``instance`` as many as photos; for ``full`` none.

    Raises:
      DataError: settings that cannot be; a source without photos with boxes for ``instance`` and ``both``. While
        iterating: an unreadable photo, unless ``bad_photos`` is ``skip``.
    """
    if start_step < 0:
        raise DataError(f"start_step: {start_step} is negative")
    order = range(len(source)) if parts == "full" else source.with_boxes()
    if not len(order):
        raise DataError(
            f"no photo with a usable box for stage part {parts!r}, which needs instances: {source.describe()}"
        )
    collate = _Collate.of(config, parts, side, batch_size, device_count)
    reader = _Reader(source, config, order, parts, side, collate.capacity, flip=flip, replace_bad=True)
    dataset = grain.MapDataset.range(len(order)).seed(_seed(config)).shuffle().repeat().random_map(reader)
    # Sliced after random_map, which seeds by position in the whole run.
    dataset = dataset[start_step * batch_size :].batch(batch_size, drop_remainder=True, batch_fn=collate)
    return Batches(dataset, config.threads)


def eval_batches(
    source: Source, config: DataConfig, *, side: int, batch_size: int, device_count: int = 1, photos: int = 0
) -> Batches:
    """One pass in the source's order, full pictures and chosen boxes, every photo exactly once.

    Args:
      source: photos; those without boxes come too.
      config: choice of boxes, budget, seed (of ``random_k``), threads.
      side: S of the canvas.
      batch_size: photos in a batch, over all devices. The last batch is filled up with black photos whose
        ``image_valid`` is False and whose name is empty.
      device_count: devices among which axis 0 of every array splits evenly.
      photos: how many, from the first; 0 for all.

    Raises:
      DataError: settings that cannot be. While iterating: an unreadable photo, unless ``bad_photos`` is ``skip``; its
        place is then not valid.
    """
    if photos < 0:
        raise DataError(f"eval.photos: {photos} is negative; 0 takes all")
    count = min(photos or len(source), len(source))
    collate = _Collate.of(config, "both", side, batch_size, device_count)
    reader = _Reader(source, config, range(count), "both", side, collate.capacity, flip=False, replace_bad=False)
    dataset = grain.MapDataset.range(count).seed(_seed(config)).random_map(reader)
    return Batches(dataset.batch(batch_size, drop_remainder=False, batch_fn=collate), config.threads)


class _Item(NamedTuple):
    """One photo on its way into a batch."""

    name: str
    example: Example | None
    dropped_crops: int
    skipped: bool


class _Reader:
    """Reads the photo at a position and makes its random choices; called from several threads."""

    def __init__(
        self,
        source: Source,
        config: DataConfig,
        order: Sequence[int],
        parts: Parts,
        side: int,
        capacity: int,
        *,
        flip: bool,
        replace_bad: bool,
    ) -> None:
        self.source = source
        self.config = config
        self.order = order
        self.parts = parts
        self.side = side
        self.capacity = capacity
        self.flip = flip
        self.replace_bad = replace_bad
        self._told: set[int] = set()
        self._lock = threading.Lock()

    def __call__(self, position: int, rng: np.random.Generator) -> _Item:
        last = len(self.order) if self.replace_bad else 1
        for offset in range(last):
            # The stand-in for a bad photo is a function of the position alone, never of what was read before.
            index = self.order[(position + offset) % len(self.order)]
            try:
                return self._item(self.source[index], rng, skipped=offset > 0)
            except DataError as error:
                if self.config.bad_photos == "error":
                    raise
                self._tell(index, error)
        if self.replace_bad:
            raise DataError(f"not one photo can be read: {self.source.describe()}")
        return _Item("", None, 0, True)

    def _item(self, photo: Photo, rng: np.random.Generator, *, skipped: bool) -> _Item:
        mirrored = bool(rng.random() < 0.5) and self.flip
        if self.parts == "full":
            none = np.zeros((0, 4), np.int32), np.zeros((0,), np.float32)
            return _Item(photo.name, example(photo.rgb, *none, self.side, mirrored=mirrored), 0, skipped)
        usable = usable_boxes(photo, self.config.box_choice)
        if self.parts == "instance":
            if not len(usable.boxes):
                raise DataError(f"photo {photo.name}: no usable box any more; did its box file change?")
            rows = rng.integers(len(usable.boxes), size=1)
        else:
            c = self.config
            rows = choose(c.box_choice, usable.scores, k=c.boxes_per_photo, threshold=c.score_threshold, rng=rng)
        # What the whole device could not hold need not be cut out at all.
        stay = rows[np.sort(best_scores(usable.scores[rows], self.capacity))]
        crops = example(
            photo.rgb,
            usable.boxes[stay],
            usable.scores[stay],
            self.side,
            mirrored=mirrored,
            with_full=self.parts == "both",
        )
        return _Item(photo.name, crops, len(rows) - len(stay), skipped)

    def _tell(self, index: int, error: DataError) -> None:
        with self._lock:
            if index not in self._told:
                self._told.add(index)
                print(f"skipped: {error}", file=sys.stderr)


class _Collate(NamedTuple):
    """Turns the photos of a step into what is yielded."""

    parts: Parts
    side: int
    batch_size: int
    device_count: int
    capacity: int

    @classmethod
    def of(cls, config: DataConfig, parts: Parts, side: int, batch_size: int, device_count: int) -> _Collate:
        """Checks the numbers; ``capacity`` is M of one device."""
        if side < 2 ** (LEVELS - 1) or side % 2 ** (LEVELS - 1):
            raise DataError(f"model.side: {side} is not a multiple of {2 ** (LEVELS - 1)}")
        if config.threads < 0:
            raise DataError(f"data.threads: {config.threads} is negative; 0 reads without threads")
        if config.boxes_per_photo < 1:
            raise DataError(f"data.boxes_per_photo: {config.boxes_per_photo} boxes are none; at least 1")
        if math.isnan(config.score_threshold):
            raise DataError("data.score_threshold: not a number")
        photos = photos_per_device(batch_size, device_count)
        budget = crops_per_device(photos, config.budget_per_image)
        return cls(parts, side, batch_size, device_count, {"full": 0, "instance": photos, "both": budget}[parts])

    def __call__(self, items: Sequence[_Item]) -> Loaded:
        filled = [*items, *[_Item("", None, 0, False)] * (self.batch_size - len(items))]
        batch, dropped = pack(
            [item.example for item in filled],
            device_count=self.device_count,
            capacity=self.capacity,
            side=self.side,
            with_full=self.parts != "instance",
        )
        return Loaded(
            batch,
            tuple(item.name for item in filled),
            dropped + sum(item.dropped_crops for item in filled),
            sum(item.skipped for item in filled),
        )


def _seed(config: DataConfig) -> int:
    if not 0 <= config.seed < 2**32:
        raise DataError(f"data.seed: {config.seed} is not from 0 to 2**32 - 1")
    return config.seed

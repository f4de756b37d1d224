"""The data loader: batches that Grain's threads or worker processes prefetch.

Position is step: the photo at position p belongs to step p // batch_size (``sampler``), and every random choice for it
(flip, window, boxes) comes from a generator seeded by p. So a run resumed at step k sees exactly what an
uninterrupted one sees from k on, for any number of threads, workers and processes, and no state of an iterator is
ever saved.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, NamedTuple

import grain
import numpy as np
from absl import flags

from jaxcolor.batch import LEVELS, Batch
from jaxcolor.boxes import CropContext, crop_boxes
from jaxcolor.config import DataConfig
from jaxcolor.data.box_selection import NOTHING_SELECTED, random_box, select_boxes
from jaxcolor.data.collate import CropPlaces, collate, crop_places, crops_by_side, crops_per_device, photos_per_device
from jaxcolor.data.eval_targets import EvalSize, EvalTarget, EvalTargets, make_target, stack
from jaxcolor.data.sampler import BalancedSampler, CropCount, ProcessShare, Sampler, ShuffledSampler, window_steps
from jaxcolor.data.transforms import WHOLE, Augment, example, is_gray, random_window
from jaxcolor.data.types import DataError, Example, Source
from jaxcolor.runtime.main_guard import check_main_guard

Parts = Literal["full", "instance", "both"]
"""``full``: full images only. ``instance``: one crop a photo, no full images. ``both``: full images and crops."""


class LoadedBatch(NamedTuple):
    """What the data loader yields for one step: this process's part of it."""

    batch: Batch
    """NumPy arrays, photos and crops device after device."""
    names: tuple[str, ...]
    """Of the photos, in the batch's order (for ``instance``: the photo of each crop); empty for padding."""
    dropped_crops: int
    """Crops beyond ``max_crops_per_image``, which are left out."""
    skipped: tuple[str, ...]
    """A line for each photo that ``bad_photos`` or ``gray_photos`` left out: the next good one replaces it in training;
    in evaluation its place is padding (``is_real``)."""
    gray_photos: int
    """Photos of the batch without color, where ``gray_photos`` keeps them."""
    compared: EvalTargets | None = None
    """The ground truth at the size of a comparison, with its objects, where an evaluation asked for it."""
    crops_by_side: tuple[tuple[int, int], ...] = ()
    """Each of ``data.crop_sides`` and how many crops are seen at it; empty without."""
    moved_crops: int = 0
    """Crops seen at another of these sides than their own, where there was no place."""

    @property
    def counts(self) -> dict[str, int]:
        """Counts of what was left out or is unusual, for the logs."""
        by_side = {f"crops_{side}": count for side, count in self.crops_by_side}
        return {
            "dropped_crops": self.dropped_crops,
            "skipped_photos": len(self.skipped),
            "gray_photos": self.gray_photos,
        } | ({"moved_crops": self.moved_crops, **by_side} if by_side else {})


class FailedBatch(NamedTuple):
    """In place of a batch: a photo that stops the run. An exception raised in a worker would arrive as another one."""

    message: str


class BatchIterator(Iterator[LoadedBatch]):
    """An iterator over batches that prefetches; ``close`` it, or use it in a ``with`` block."""

    def __init__(self, dataset: grain.MapDataset, config: DataConfig) -> None:
        options = grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=2 * config.threads)
        ahead = dataset.to_iter_dataset(options)
        if config.workers:
            check_main_guard()
            if not flags.FLAGS.is_parsed():  # programs parse them; Grain's workers need them parsed
                flags.FLAGS.mark_as_parsed()
            ahead = ahead.mp_prefetch(grain.MultiprocessingOptions(config.workers, per_worker_buffer_size=2))
        self._iterator: list[Any] = [iter(ahead)]
        # At the end of the program too, and before the interpreter takes Grain's modules away: that would be noisy.
        self._finalizer = weakref.finalize(self, _close, self._iterator)
        self._reported: set[str] = set()

    def __iter__(self) -> BatchIterator:
        return self

    def __next__(self) -> LoadedBatch:
        """The next batch; reports each photo that is left out once, on standard error.

        Raises:
          DataError: a photo cannot be used and is not to be skipped.
        """
        if not self._iterator:
            raise StopIteration
        loaded: LoadedBatch | FailedBatch = next(self._iterator[0])
        if isinstance(loaded, FailedBatch):
            raise DataError(loaded.message)
        for line in loaded.skipped:
            if line not in self._reported:
                self._reported.add(line)
                print(f"skipped: {line}", file=sys.stderr)
        return loaded

    def close(self) -> None:
        """Stops prefetching; there are no batches afterwards. May be called twice."""
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


def train_batches(
    source: Source,
    config: DataConfig,
    *,
    parts: Parts,
    side: int,
    batch_size: int,
    augment: Augment = Augment(),  # noqa: B008 (immutable)
    context: CropContext = CropContext(),  # noqa: B008
    device_count: int = 1,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> BatchIterator:
    """Endless batches for training; all photos are reshuffled for each epoch.

    Photos without a usable box are left out of ``instance`` and ``both``: they have no instances. ``instance`` takes
    one uniformly random box of all the photo's usable ones a visit, whatever ``box_choice`` says of detections
    (``ground_truth`` does replace them), and no window. With ``both``, a photo's chosen boxes can be none, say under
    ``threshold`` or in a window.

    Args:
      source: photos with boxes.
      config: choice of boxes, crops per device, sampler, seed, threads, workers.
      parts: what the stage reads.
      side: S of the canvas.
      batch_size: photos in a step, over all devices of all processes.
      augment: flips and windows.
      context: what crops show around their boxes.
      device_count: devices of all processes, among which axis 0 of every array splits evenly.
      start_step: the step of the first batch yielded.
      process_index: of this process; its batches are those of its consecutive devices.
      process_count: how many processes there are.

    Returns:
      An iterator whose batch k is that of step ``start_step + k``. Crops per device: ``ceil(photos on it x
      max_crops_per_image)``; for ``instance`` as many as photos; for ``full`` none.

    Raises:
      DataError: settings that cannot be; a source without photos with boxes for ``instance`` and ``both``. While
        iterating: an unreadable photo, unless ``bad_photos`` is ``skip``; a gray one, if ``gray_photos`` is ``error``.
    """
    if start_step < 0:
        raise DataError(f"start_step: {start_step} is negative")
    numbers = photos_for(source, parts)
    share = ProcessShare(batch_size, process_index, process_count)
    collate = _Collate.of(config, parts, side, share, device_count)
    sampler: Sampler = ShuffledSampler(len(numbers), config.seed)
    if config.batching == "balanced" and parts == "both":
        crop_count = CropCount(source, config, numbers)
        group = batch_size // device_count
        window = window_steps(config) * batch_size
        sampler = BalancedSampler(sampler, crop_count, window=window, group_size=group, seed=config.seed)
    reader = _Reader(
        source, config, sampler, numbers, parts, side, share, collate.capacity, augment, context, replace_bad=True
    )
    steps = grain.MapDataset.range(start_step, sys.maxsize // batch_size)
    return BatchIterator(steps.map(_StepReader(reader, collate)), config)


def photos_for(source: Source, parts: Parts) -> Sequence[int]:
    """Numbers of the photos that a stage which reads these parts trains on.

    Raises:
      DataError: there is none.
    """
    numbers = range(len(source)) if parts == "full" else source.with_boxes()
    if not len(numbers):
        raise DataError(
            f"no photo with a usable box for stage part {parts!r}, which needs instances: {source.describe()}"
        )
    return numbers


def eval_batches(
    source: Source,
    config: DataConfig,
    *,
    side: int,
    batch_size: int,
    context: CropContext = CropContext(),  # noqa: B008 (immutable)
    device_count: int = 1,
    photos: int = 0,
    only: Sequence[int] | None = None,
    process_index: int = 0,
    process_count: int = 1,
    compare_at: EvalSize | None = None,
) -> BatchIterator:
    """One epoch in the source's order, full images and chosen boxes, every photo exactly once over all processes.

    Args:
      source: photos; those without boxes come too.
      config: choice of boxes, crops per device, seed (of ``random_k``), threads, workers.
      side: S of the canvas.
      batch_size: photos in a batch, over all devices of all processes. The last batch is padded with black photos
        whose ``is_real`` is False and whose name is empty; every process gets as many batches.
      context: what crops show around their boxes.
      device_count: devices of all processes, among which axis 0 of every array splits evenly.
      photos: how many, from the first on; 0 for all.
      only: numbers of the batches to read, each exactly as in the whole epoch; None for all.
      process_index: of this process.
      process_count: how many processes there are.
      compare_at: yield the ground truth of each photo too (``LoadedBatch.compared``), at this size.

    Raises:
      DataError: settings that cannot be. While iterating: an unreadable photo, unless ``bad_photos`` is ``skip``; its
        place is then padding. Gray photos likewise.
    """
    if photos < 0:
        raise DataError(f"eval.photos: {photos} is negative; 0 takes all")
    count = min(photos or len(source), len(source))
    share = ProcessShare(batch_size, process_index, process_count)
    collate = _Collate.of(config, "both", side, share, device_count)
    numbers = range(count)
    collate = collate._replace(compare_at=compare_at)
    # Not shuffled, and nothing takes a bad photo's place.
    order, nothing = numbers, Augment()
    reader = _Reader(
        source, config, order, numbers, "both", side, share, collate.capacity, nothing, context, compare_at,
        replace_bad=False,
    )  # fmt: skip
    steps = grain.MapDataset.source(range(-(-count // batch_size)) if only is None else only)
    return BatchIterator(steps.map(_StepReader(reader, collate)), config)


class _Item(NamedTuple):
    """One photo before it is collated."""

    name: str = ""
    example: Example | None = None
    dropped_crops: int = 0
    skipped: tuple[str, ...] = ()
    gray: bool = False
    compared: EvalTarget | None = None
    failure: str = ""
    """What stops the run."""


_ANY = np.random.default_rng(0)
"""Of photos whose random numbers change nothing; making a generator for each takes a tenth of decoding."""


class _GrayError(DataError):
    """A gray photo that ``gray_photos`` refuses."""


class _Reader:
    """Reads the photo at a position and draws its random numbers; called from several threads, pickled for workers."""

    def __init__(
        self,
        source: Source,
        config: DataConfig,
        sampler: Sampler | Sequence[int],
        numbers: Sequence[int],
        parts: Parts,
        side: int,
        share: ProcessShare,
        capacity: int,
        augment: Augment,
        context: CropContext,
        compare_at: EvalSize | None = None,
        *,
        replace_bad: bool,
    ) -> None:
        self.source = source
        self.config = config
        self.sampler = sampler
        self.numbers = numbers
        self.parts = parts
        self.side = side
        self.share = share
        self.capacity = capacity
        self.augment = augment
        self.context = context
        self.compare_at = compare_at
        self.replace_bad = replace_bad
        choice = config.box_choice == "random_k" and parts == "both"
        self.is_random = augment.flip or augment.area < 1 or parts == "instance" or choice

    def __call__(self, local: int) -> _Item:
        position = self.share.position(local)
        try:
            place = int(self.sampler[position])
        except IndexError:
            return _Item()  # padding of the last batch of an evaluation
        skipped: list[str] = []
        for offset in range(len(self.numbers) if self.replace_bad else 1):
            # What replaces a bad photo depends on the position alone, never on what was read before.
            index = int(self.numbers[(place + offset) % len(self.numbers)])
            rng = np.random.default_rng([self.config.seed, position]) if self.is_random else _ANY
            try:
                return self._item(index, rng)._replace(skipped=tuple(skipped))
            except DataError as error:
                policy = self.config.gray_photos if isinstance(error, _GrayError) else self.config.bad_photos
                if policy == "error":
                    return _Item(failure=str(error))
                skipped.append(str(error))
        if self.replace_bad:
            return _Item(failure=f"not one photo can be used: {self.source.describe()}; the last: {skipped[-1]}")
        return _Item(skipped=tuple(skipped))

    def _item(self, index: int, rng: np.random.Generator) -> _Item:
        mirrored = bool(rng.random() < 0.5) and self.augment.flip
        window = random_window(self.augment, rng) if self.parts != "instance" else WHOLE
        if self.parts == "full":
            # Twice the canvas at least: the resampling that follows then still averages over several pixels.
            least = math.ceil(2 * self.side / min(window.x1 - window.x0, window.y1 - window.y0))
            photo = self.source.picture(index, least if self.config.jpeg_draft else None)
        else:
            photo = self.source[index]
        gray = is_gray(photo.image, self.config.gray_tolerance)
        if gray and self.config.gray_photos != "keep":
            raise _GrayError(f"photo {photo.name}: it is gray; data.gray_photos is {self.config.gray_photos!r}")
        found = NOTHING_SELECTED
        if self.parts == "instance":
            found = random_box(photo, self.config, rng)
        elif self.parts == "both":
            found = select_boxes(photo, self.config, self.capacity, window, self.augment.visible, rng)
        image = photo.image if window == WHOLE else photo.image.crop(tuple(window.pixels(photo.size).tolist()))
        made = example(
            image,
            crop_boxes(found.boxes, image.size, self.context),
            found.scores,
            self.side,
            mirrored=mirrored,
            with_full=self.parts != "instance",
            masks=found.masks,
            crop_sides=self.config.crop_sides,
        )
        compared = None if self.compare_at is None else make_target(photo, found.boxes, self.side, self.compare_at)
        return _Item(photo.name, made, found.dropped, gray=gray, compared=compared)


class _Collate(NamedTuple):
    """Collates this process's photos of a step."""

    parts: Parts
    side: int
    local_devices: int
    capacity: int
    places: tuple[CropPlaces, ...]
    with_masks: bool
    compare_at: EvalSize | None = None

    @classmethod
    def of(cls, config: DataConfig, parts: Parts, side: int, share: ProcessShare, device_count: int) -> _Collate:
        """Checks the numbers; ``capacity`` is M of one device."""
        if side < 2 ** (LEVELS - 1) or side % 2 ** (LEVELS - 1):
            raise DataError(f"model.side: {side} is not a multiple of {2 ** (LEVELS - 1)}")
        if config.gray_tolerance < 0:
            raise DataError(f"data.gray_tolerance: {config.gray_tolerance} is negative")
        if config.boxes_per_photo < 1:
            raise DataError(f"data.boxes_per_photo: {config.boxes_per_photo} boxes are none; at least 1")
        if not 0 <= share.process_index < share.process_count:
            raise DataError(f"process {share.process_index} of {share.process_count}: there is no such process")
        photos = photos_per_device(share.batch_size, device_count)
        if device_count % share.process_count:
            raise DataError(f"{device_count} devices do not divide evenly among {share.process_count} processes")
        budget = crops_per_device(photos, config.max_crops_per_image)
        capacity = {"full": 0, "instance": photos, "both": budget}[parts]
        places = crop_places(capacity, config, side)
        with_masks = config.masks and parts == "both"
        return cls(parts, side, device_count // share.process_count, capacity, places, with_masks)

    def __call__(self, items: Sequence[_Item]) -> LoadedBatch | FailedBatch:
        failure = next((item.failure for item in items if item.failure), None)
        if failure is not None:
            return FailedBatch(failure)
        batch, dropped, moved = collate(
            [item.example for item in items],
            device_count=self.local_devices,
            capacity=self.places,
            side=self.side,
            with_full=self.parts != "instance",
            with_masks=self.with_masks,
        )
        compared = None
        if self.compare_at is not None:
            targets, examples = [item.compared for item in items], [item.example for item in items]
            compared = stack(targets, self.compare_at, batch, examples, self.local_devices)
        return LoadedBatch(
            batch,
            tuple(item.name for item in items),
            dropped + sum(item.dropped_crops for item in items),
            tuple(line for item in items for line in item.skipped),
            sum(item.gray for item in items),
            compared,
            crops_by_side(batch, self.places, self.local_devices),
            moved,
        )


class _StepReader(NamedTuple):
    """Reads the batch of a step: one element of Grain, which costs more than a photo's arithmetic on boxes."""

    reader: _Reader
    collate: _Collate

    def __call__(self, step: int) -> LoadedBatch | FailedBatch:
        size = self.reader.share.local_size
        return self.collate([self.reader(local) for local in range(step * size, (step + 1) * size)])

"""Samplers: which photo is read at which position of which step.

All of it is a pure function of the seed and of what the photos are: no state of an iterator is ever saved, and every
process, worker and resumed run finds the same photo at the same position.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from jaxcolor.config import DataConfig
from jaxcolor.data.types import DataError, Source

_REMEMBERED = 3
"""Epochs or windows kept: threads prefetch past an end while others are still before it."""


@runtime_checkable
class Sampler(Protocol):
    """Photos by position; position p is number ``p % batch_size`` of step ``p // batch_size``."""

    def __getitem__(self, position: int) -> int:
        """Which photo, from 0; raises IndexError at the end, where there is one."""
        ...


class ProcessShare(NamedTuple):
    """The part of each step that one process reads: devices, and with them photos, divide evenly among processes."""

    batch_size: int
    """Photos in a step, over all processes."""
    process_index: int = 0
    process_count: int = 1

    @property
    def local_size(self) -> int:
        """Photos in a step on this process."""
        return self.batch_size // self.process_count

    def position(self, local: int) -> int:
        """Position in the whole run of the photo that this process reads as number ``local``."""
        step, place = divmod(local, self.local_size)
        return step * self.batch_size + self.process_index * self.local_size + place


class ShuffledSampler:
    """All photos in each epoch, reshuffled for each, without end."""

    def __init__(self, count: int, seed: int) -> None:
        """For ``count`` photos."""
        self._count = count
        self._seed = seed
        self._epochs: dict[int, np.ndarray] = {}

    def __getitem__(self, position: int) -> int:
        number, place = divmod(position, self._count)
        order = self._epochs.get(number)
        if order is None:  # two threads may both compute it, and get the same
            order = np.random.default_rng([self._seed, number]).permutation(self._count)
            self._epochs = _remember(self._epochs, number, order)
        return int(order[place])

    def __reduce__(self) -> tuple[type[ShuffledSampler], tuple[int, int]]:
        return ShuffledSampler, (self._count, self._seed)  # workers make their own orders


def _remember(known: dict[int, np.ndarray], number: int, value: np.ndarray) -> dict[int, np.ndarray]:
    """The last few entries and a new one, as a new dictionary: other threads may be reading the old one."""
    return {**dict(list(known.items())[1 - _REMEMBERED :]), number: value}


class BalancedSampler:
    """Reorders another sampler's photos within windows, so that devices get about equally many crops.

    Batches of a random order differ in their number of crops, and ``max_crops_per_image`` has to hold the largest; the
    packing of sequences for language models meets the same problem. Here the photos of a window of steps are assigned
    to all devices of all its steps, the ones with most crops first, each to the device that has fewest so far (the
    greedy rule for makespan scheduling, Graham 1969). Every photo still comes once an epoch, at a step at most a window
    from its own.
    """

    def __init__(
        self, sampler: Sampler, crop_count: Callable[[int], int], *, window: int, group_size: int, seed: int
    ) -> None:
        """Computes nothing yet.

        Args:
          sampler: the photos to reorder.
          crop_count: crops of a photo, by what ``sampler`` gives.
          window: positions reordered together, a multiple of ``group_size``.
          group_size: photos on one device.
          seed: breaks ties.
        """
        self._sampler = sampler
        self._crop_count = crop_count
        self._window = window
        self._group_size = group_size
        self._seed = seed
        self._windows: dict[int, np.ndarray] = {}

    def __getitem__(self, position: int) -> int:
        number, place = divmod(position, self._window)
        photos = self._windows.get(number)
        if photos is None:  # two threads may both do it, and get the same
            photos = self._reorder(number)
            self._windows = _remember(self._windows, number, photos)
        return int(photos[place])

    def _reorder(self, number: int) -> np.ndarray:
        start = number * self._window
        photos = np.array([self._sampler[p] for p in range(start, start + self._window)])
        counts = np.array([self._crop_count(photo) for photo in photos.tolist()])
        rows = balance(counts, self._window // self._group_size, np.random.default_rng([self._seed, number]))
        return photos[rows]


def balance(counts: Int[np.ndarray, " n"], groups: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Assigns photos to groups of equal size so that their sums of crops are about equal.

    Args:
      counts: crops of each photo.
      groups: how many; divides the number of photos.
      rng: breaks ties, and shuffles groups and the photos in each.

    Returns:
      The photos' rows, group after group.
    """
    size = len(counts) // groups
    members: list[list[int]] = [[] for _ in range(groups)]
    fewest = [(0, group) for group in range(groups)]
    mixed = rng.permutation(len(counts))
    for row in mixed[np.argsort(-counts[mixed], kind="stable")].tolist():
        crops, group = heapq.heappop(fewest)
        members[group].append(row)
        if len(members[group]) < size:
            heapq.heappush(fewest, (crops + int(counts[row]), group))
    return np.concatenate([rng.permutation(members[group]) for group in rng.permutation(groups)])


class CropCount:
    """An upper bound on the crops of a photo, by its number of boxes; for ``BalancedSampler``."""

    def __init__(self, source: Source, config: DataConfig, numbers: Sequence[int]) -> None:
        self._source = source
        self._numbers = numbers
        self._most = config.boxes_per_photo if config.box_choice in ("top_k", "random_k") else sys.maxsize

    def __call__(self, place: int) -> int:
        """Of the photo at a place among those that are used."""
        return min(self._source.crop_count(self._numbers[place]), self._most)


def window_steps(config: DataConfig) -> int:
    """Steps over which ``BalancedSampler`` deals photos out.

    Raises:
      DataError: there are none.
    """
    if config.balance_window < 1:
        raise DataError(f"data.balance_window: {config.balance_window} steps are none; at least 1")
    return config.balance_window

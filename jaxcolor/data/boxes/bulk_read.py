"""The boxes of all photos of a source at once: a million look-ups that would take minutes one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64

from jaxcolor.data.boxes.base import BoxStore, MissingBoxesError, check_complete, refuse_missing
from jaxcolor.data.boxes.matching import check_fits, refuse_store
from jaxcolor.data.types import Boxes, DataError

_GATHERED = 4096
"""Photos whose arrays are kept apart before they are joined: small arrays take far more memory than their numbers."""


class BoxArrays(NamedTuple):
    """Boxes of P photos, one photo after another."""

    boxes: Float32[np.ndarray, "N 4"]
    """x0, y0, x1, y1 in pixels, uncleaned."""
    scores: Float32[np.ndarray, " N"]
    per_photo: Int64[np.ndarray, " P"]
    """How many of the boxes are each photo's; -1 where there is no entry."""

    @property
    def counts(self) -> Int64[np.ndarray, " P"]:
        """How many of the boxes are each photo's, 0 where there is no entry."""
        return np.maximum(self.per_photo, 0)

    def digest(self) -> str:
        """A hash of all boxes; photos without an entry are photos without boxes."""
        found = hashlib.blake2b(digest_size=16)
        for array, kind in ((self.counts, "<i8"), (self.boxes, "<f4"), (self.scores, "<f4")):
            found.update(array.astype(kind).tobytes())
        return found.hexdigest()


class BoxGatherer:
    """Puts ``BoxArrays`` together photo by photo, in any order."""

    def __init__(self, photos: int) -> None:
        """Begins without an entry for any of ``photos`` photos."""
        self._per_photo = np.full(photos, -1, np.int64)
        self._order: list[int] = []
        self._fresh: list[Boxes] = []
        self._boxes = [np.zeros((0, 4), np.float32)]
        self._scores = [np.zeros(0, np.float32)]

    def add(self, photo: int, found: Boxes) -> None:
        """Takes the boxes of one photo, once."""
        self._per_photo[photo] = len(found.boxes)
        self._order.append(photo)
        self._fresh.append(found)
        if len(self._fresh) == _GATHERED:
            self._join()

    def built(self) -> BoxArrays:
        """All boxes in the photos' order."""
        self._join()
        boxes, scores = np.concatenate(self._boxes), np.concatenate(self._scores)
        order, counts = np.array(self._order, np.int64), np.maximum(self._per_photo, 0)
        # Where each photo's boxes begin as they were added, and as they are wanted.
        added = np.zeros_like(counts)
        added[order] = np.cumsum(counts[order]) - counts[order]
        rows = np.repeat(added - (np.cumsum(counts) - counts), counts) + np.arange(len(boxes))
        return BoxArrays(boxes[rows], scores[rows], self._per_photo)

    def _join(self) -> None:
        if self._fresh:
            self._boxes.append(np.concatenate([found.boxes for found in self._fresh]))
            self._scores.append(np.concatenate([found.scores for found in self._fresh]))
            self._fresh = []


@runtime_checkable
class ReadsInBulk(Protocol):
    """A store with a faster way to the boxes of many photos."""

    def read_many(self, keys: Sequence[str]) -> BoxArrays:
        """The boxes of the photos; raises DataError where an entry cannot be read."""
        ...


def read_all(
    store: BoxStore, keys: Sequence[str], *, may_lack: bool, skip_bad: bool, must_fit: bool = True
) -> tuple[BoxArrays, dict[int, DataError]]:
    """The boxes that a store has for photos.

    Args:
      store: the boxes.
      keys: of the photos.
      may_lack: whether a photo without an entry is one without boxes.
      skip_bad: whether entries that cannot be read are returned as errors.
      must_fit: whether a store with entries of which none is a photo's is refused, whatever ``may_lack`` says.

    Returns:
      The boxes, and by photo what was wrong with its entry, which then has no boxes.

    Raises:
      MissingBoxesError: photos have no entry; they are counted.
      DataError: an entry cannot be read, without ``skip_bad``; or not one entry fits a photo.
    """
    if isinstance(store, ReadsInBulk):
        try:
            many = store.read_many(keys)
        except DataError:
            if not skip_bad:
                raise
            # It does not say which photos are concerned: read each by itself.
        else:
            if must_fit and len(keys) and len(store) and (many.per_photo < 0).all():
                refuse_store(store, keys)
            if not may_lack:
                refuse_missing(store, [keys[row] for row in np.flatnonzero(many.per_photo < 0).tolist()], len(keys))
            return many, {}
    else:
        if must_fit:
            check_fits(store, keys)
        if not may_lack:
            check_complete(store, keys)
    gathering, bad = BoxGatherer(len(keys)), {}
    for number, key in enumerate(keys):
        try:
            gathering.add(number, store.read(key))
        except MissingBoxesError:
            if not may_lack:
                raise  # one that went away since it was seen
        except DataError as error:
            if not skip_bad:
                raise
            bad[number] = error
    return gathering.built(), bad

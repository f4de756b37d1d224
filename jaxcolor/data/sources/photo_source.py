"""Photos with their boxes: the source that reads every set of encoded photos, and the simplest set, a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Bool, Int64

from jaxcolor.boxes import DroppedBoxes, clean_boxes, count_usable
from jaxcolor.config import DataConfig
from jaxcolor.data.archive import inside_zip
from jaxcolor.data.boxes.base import BoxStore, MaskedStore, MissingBoxesError, SizedStore, fit_boxes, photo_key
from jaxcolor.data.boxes.bulk_read import BoxArrays, read_all
from jaxcolor.data.boxes.matching import describe_unmatched, refuse_shares
from jaxcolor.data.formats import PHOTO_SUFFIXES
from jaxcolor.data.sources.base import (
    Identity,
    PhotoSet,
    check_listed,
    digest_of,
    is_photo,
    of_files,
    read_list,
    refuse_shared_keys,
    unread_photos,
)
from jaxcolor.data.sources.index import Index, find_index, make_index, write_index
from jaxcolor.data.transforms import read_image, read_size
from jaxcolor.data.types import Boxes, DataError, Entry, Names, Photo, UsableBoxes, no_boxes
from jaxcolor.runtime.text import counted


class FolderSet:
    """The photos of one folder, sorted by name; or those below it that a list names, in the list's order."""

    carries_detections = False
    carries_truth = False

    def __init__(self, path: Path, listed: Path | None = None, *, all_there: bool = True) -> None:
        """Lists the photos; opens none.

        Args:
          path: the folder. Without a list its subfolders are not searched.
          listed: a text file, see ``base.read_list``.
          all_there: whether a photo of the list that is not there is an error now; otherwise when it is read.

        Raises:
          DataError: there is no photo, two have one stem, or the list cannot be used.
        """
        self.path = path
        self.where = str(path)
        self.name = path.resolve().name
        self.remarks = ""
        if listed is None:
            names, others = _list_photos(path)
            unread = unread_photos(others)
            self.remarks = f"{len(others):,} other file{'s' * (len(others) != 1)} not looked at" if others else ""
            self.remarks += f", {unread}" if unread else ""
        else:
            names = read_list(listed)
        keys = [photo_key(name) for name in names]
        refuse_shared_keys(keys, lambda number: path / names[number])
        if listed is not None:
            check_listed(listed, names, lambda name: (path / name).exists(), path.joinpath, all_there=all_there)
        self._names = Names.of(names)
        self._keys = Names.of(keys)

    def __len__(self) -> int:
        return len(self._names)

    def keys(self) -> Names:
        """Stems of the files."""
        return self._keys

    def entry(self, number: int) -> Entry:
        """The file; whether it is there shows when it is opened."""
        path = self.path / self._names[number]
        return Entry(self._keys[number], path, path.name)

    def header(self, number: int) -> None:
        """A file is read only as far as it must be in any case."""
        return None

    def identity(self, *, sizes: bool = True) -> Identity:
        """Of the names and sizes in bytes; a file that is not there has size -1."""
        return of_files("folder", self.where, self._names, self._sizes(range(len(self))) if sizes else b"")

    def state(self, numbers: range) -> str:
        """A digest of sizes in bytes."""
        return digest_of(self._sizes(numbers))

    def _sizes(self, numbers: range) -> bytes:
        return np.array([_size(self.path / self._names[number]) for number in numbers], "<i8").tobytes()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _list_photos(folder: Path) -> tuple[Sequence[str], Sequence[str]]:
    """Names of the photos, sorted, and of the other files; without hidden ones."""
    names, others = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):  # ._a.jpg is what macOS leaves on foreign disks
                continue
            if is_photo(entry.name):
                names.append(entry.name)
            elif not entry.is_dir():
                others.append(entry.name)
    if not names:
        unread = unread_photos(others)
        seen = f"; {len(others):,} other files" + (f", {unread}" if unread else "") if others else ""
        raise DataError(
            f"{folder}: no photos in this folder ({', '.join(PHOTO_SUFFIXES)}; subfolders are not searched{seen})"
        )
    return sorted(names), others


_NO_BOXES = no_boxes()


def boxes_of(store: BoxStore, key: str, may_lack: bool) -> Boxes:
    """A photo's boxes; with ``may_lack`` a photo without an entry has none.

    Raises:
      MissingBoxesError: the photo has no entry, without ``may_lack``.
      DataError: the entry cannot be read.
    """
    try:
        return store.read(key)
    except MissingBoxesError:
        if may_lack:
            return no_boxes()
        raise


def _fitted(store: BoxStore, key: str, may_lack: bool, size: tuple[int, int]) -> Boxes:
    """``boxes_of``, in the pixels of a photo of this width and height."""
    found = boxes_of(store, key, may_lack)
    return fit_boxes(store, key, found, size) if hasattr(store, "photo_size") else found


class PhotoSource:
    """The photos of a set, in its order, each with the boxes that a box store has under its name.

    Where no store is named, boxes that lie with the photos are used: those in the records of a TFDS data set, and
    COCO's annotations.

    Boxes refer to the pixels of the photo as it is shown, that is after its EXIF orientation. Everything that is
    cheap to read is read at the start: names, headers, boxes; with ``index_path`` headers are read once and
    never again. So which photo has which number depends on the files alone. A photo whose body is damaged is found only
    when it is read: ``source[i]`` then raises ``DataError``, and the data loader leaves it out where ``bad_photos`` is
    ``skip``.

    Safe in threads; a worker process can have it by fork or by pickling, which for a million photos takes milliseconds.
    """

    def __init__(self, config: DataConfig, photos: PhotoSet, boxes: BoxStore | None, truth: BoxStore | None) -> None:
        """Reads the names, headers and boxes of all photos, and counts usable boxes.

        Prints one line to standard error for each photo or box file that is skipped, and one if boxes were dropped.

        Args:
          config: which boxes are used, and what missing and bad ones mean.
          photos: the set.
          boxes: the detections; None: they lie with the photos, or there are none.
          truth: annotated boxes; None: they lie with the photos, or there are none.

        Raises:
          DataError: an index that cannot be used or belongs to other photos, two photos of one stem, photos without a
            box file or entry (``missing_boxes`` ``error``; all are counted), or an unreadable photo or box file
            (``bad_photos`` ``error``); and whatever the config says, boxes of which none fits a photo, or none can be
            used.
        """
        self.photos = photos
        self.where = photos.where
        self._uses_truth = config.box_choice == "ground_truth"
        # With annotated boxes in their place, nobody needs the detections.
        self._may_lack_boxes = config.missing_boxes == "none" or self._uses_truth
        self._may_lack_truth = config.missing_boxes == "none"
        self.boxes = boxes
        """None: they lie with the photos, or there are none."""
        self.truth = truth
        self._masked = truth if isinstance(truth, MaskedStore) else None
        self.skipped: list[str] = []
        """What was wrong with the photos left out."""
        self._unmatched = ""
        self._box_digests: dict[str, str] = {}
        self._find(config)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Photo:
        """Photo ``index``, decoded, with its boxes as they are in the store.

        Raises:
          DataError: the photo or its boxes cannot be read.
          IndexError: there is no such photo.
        """
        entry = self._entry(index)
        image = read_image(entry.file)
        detected = self._detections_of(entry, image.size)
        truth = self._truth_of(entry, image.size)
        masks = None if self._masked is None else self._masked.masks(entry.name, image.size)
        truth_boxes = None if truth is None else truth.boxes
        return Photo(entry.name, image, detected.boxes, detected.scores, truth_boxes, masks)

    def usable(self, index: int) -> tuple[tuple[int, int], UsableBoxes]:
        """Width and height of photo ``index`` in pixels, and the boxes a choice can be made of; it is not decoded.

        Raises:
          DataError: the photo's header or its boxes cannot be read.
        """
        width, height = self._sizes[index].tolist()
        keys, store = self.photos.keys(), self.truth if self._uses_truth else self.boxes
        if width and keys is not None and store is not None:
            may_lack = self._may_lack_truth if self._uses_truth else self._may_lack_boxes
            size, key = (width, height), keys[int(self._numbers[index])]
            found = _fitted(store, key, may_lack, size)
        else:
            entry = self._entry(index)
            size = (width, height) if width else read_size(entry.file)
            found = (self._truth_of(entry, size) if self._uses_truth else None) or self._detections_of(entry, size)
        # The score of an annotated box means nothing.
        scores = np.ones_like(found.scores) if self._uses_truth else found.scores
        clean = clean_boxes(found.boxes, scores, size)
        return size, UsableBoxes(clean.boxes, scores[clean.kept], clean.dropped, clean.kept)

    def names(self) -> Sequence[str] | None:
        """Names of all photos in order; None where that takes reading them."""
        keys = self.photos.keys()
        return None if keys is None else [keys[number] for number in self._numbers.tolist()]

    def picture(self, index: int, least_side: int | None = None) -> Photo:
        """Photo ``index`` without its boxes, decoded at a fraction of its size where its file allows."""
        entry = self._entry(index)
        return Photo(entry.name, read_image(entry.file, least_side), *_NO_BOXES)

    def crop_count(self, index: int) -> int:
        """How many usable boxes photo ``index`` has."""
        return int(self.usable_counts[index])

    def with_boxes(self) -> Sequence[int]:
        """Numbers of the photos with at least one usable box."""
        return tuple(np.flatnonzero(self.usable_counts).tolist())

    def describe(self) -> str:
        """One line for a person."""
        kept = self.usable_counts
        kind = "annotated boxes" if self._uses_truth else "boxes"
        remarks = f" ({self.photos.remarks})" if self.photos.remarks else ""
        line = f"{self.where}: {counted(len(self), 'photo')}{remarks}, {np.count_nonzero(kept):,} with {kind}; "
        line += f"{counted(int(kept.sum()), kind.removesuffix('es'), kind)}{self._box_place()}"
        if self.dropped.total:
            line += f", {self.dropped.total:,} dropped ({self.dropped})"
        used = self.truth if self._uses_truth else self.boxes
        line += self._unmatched + (f"; {used.note}" if used is not None and used.note else "")
        return line + (f"; {counted(len(self.skipped), 'unreadable photo')} skipped" if self.skipped else "")

    def identity(self) -> dict[str, Any]:
        """Distinguishes these photos and boxes from others, wherever they are stored; kept with checkpoints."""
        found = self.photos.identity()._asdict()
        found.pop("where", None)
        found |= {"used": len(self), "boxes": int(self.usable_counts.sum()), **self._box_digests}
        if isinstance(self.truth, MaskedStore):
            digest = getattr(self.truth, "masks_digest", None)
            found["masks"] = str(self.truth.path) if digest is None else digest()
        return found

    def _box_place(self) -> str:
        used = self.truth if self._uses_truth else self.boxes
        if used is not None:
            # The folder beside the photos need not be there.
            return f" from {used.path}" if used.path.exists() or inside_zip(used.path) else ""
        carried = self.photos.carries_truth if self._uses_truth else self.photos.carries_detections
        return " from its records" if carried else ""

    def _find(self, config: DataConfig) -> None:
        """Which photos can be used, their sizes, and how many usable boxes each has."""
        skip_bad, total = config.bad_photos == "skip", len(self.photos)
        path = Path(config.index_path) if config.index_path else None
        keys = self.photos.keys()
        index = find_index(config, self.photos)

        def make(sized: Bool[np.ndarray, " P"] | None) -> Index:
            made = make_index(self.photos, threads=config.threads, skip_bad=skip_bad, sized=sized)
            if path is not None:
                write_index(path, made, self.photos.identity())
            return made

        if index is None and keys is None:
            index = make(None)
        bad = dict(index.bad) if index is not None else {}
        if bad and not skip_bad:
            raise DataError(next(iter(bad.values())))
        # Boxes before headers: that some are missing shows in seconds, and a photo without boxes needs no size.
        names = keys if index is None else index.keys
        assert names is not None
        rows = np.array([number for number in range(total) if number not in bad], np.int64)
        others = [names[number] for number in bad]
        used = self._join([names[number] for number in rows.tolist()], others, rows, bad, skip_bad)
        if index is None:
            per_photo = np.zeros(total, np.int64)
            per_photo[rows] = 0 if used is None else used.counts
            index = make(None if path is not None else per_photo > 0)
            bad |= index.bad
        used = self._fit(index, rows, used, bad, skip_bad)
        self._count(index, rows, used, bad)

    def _fit(
        self, index: Index, rows: Int64[np.ndarray, " n"], used: BoxArrays | None, bad: dict[int, str], skip_bad: bool
    ) -> BoxArrays | None:
        """The boxes of photos ``rows`` in the photos' own pixels (``fit_boxes``)."""
        store = self.truth if self._uses_truth else self.boxes
        if used is None or not isinstance(store, SizedStore):
            return used
        boxes, counts = used.boxes.copy(), used.counts
        ends = np.cumsum(counts)
        for place in np.flatnonzero(counts).tolist():
            row, part = int(rows[place]), slice(int(ends[place] - counts[place]), int(ends[place]))
            size = (int(index.sizes[row, 0]), int(index.sizes[row, 1]))
            if row in bad or not size[0]:
                continue
            key, found = index.keys[row], Boxes(used.boxes[part], used.scores[part])
            try:
                boxes[part] = fit_boxes(store, key, found, size).boxes
            except DataError as error:
                if not skip_bad:
                    raise
                bad[row] = str(error)
        return used._replace(boxes=boxes)

    def _join(
        self,
        names: Sequence[str],
        others: Sequence[str],
        rows: Int64[np.ndarray, " n"],
        bad: dict[int, str],
        skip_bad: bool,
    ) -> BoxArrays | None:
        """The boxes of photos ``rows`` from the store that is used; None where they lie with the photos.

        ``others`` are the keys of the photos that are left out already.
        """
        used: BoxArrays | None = None
        for store, may_lack, is_used in (
            (self.boxes, self._may_lack_boxes, not self._uses_truth),
            (self.truth, self._may_lack_truth, self._uses_truth),
        ):
            if store is None:
                continue
            must_fit = is_used or store is self.truth
            name = "truth_digest" if store is self.truth else "boxes_digest"
            many, unreadable = read_all(store, names, may_lack=may_lack, skip_bad=skip_bad, must_fit=must_fit)
            for number, error in unreadable.items():
                bad.setdefault(int(rows[number]), str(error))
            if must_fit:
                self._box_digests[name] = many.digest()
                refuse_shares(store.path, many.boxes)
            if is_used:
                used, self._unmatched = many, describe_unmatched(store, many.per_photo, many.boxes, others)
        return used

    def _count(self, index: Index, rows: Int64[np.ndarray, " n"], used: BoxArrays | None, bad: dict[int, str]) -> None:
        """Leaves bad photos out, reports them, and counts the boxes of the others."""
        total = len(self.photos)
        for number in sorted(bad):
            self.skipped.append(bad[number])
            print(f"skipped: {bad[number]}", file=sys.stderr)
        good = np.ones(total, bool)
        good[list(bad)] = False
        if not good.any():
            raise DataError(
                f"{self.where}: none of its {counted(total, 'photo')} can be used; the first: {self.skipped[0]}"
            )
        counts = index.truth if self._uses_truth else index.detections
        if used is not None:
            per_photo = np.where(good[rows], used.counts, 0)
            stay = np.repeat(good[rows], used.counts)
            counts = np.zeros((total, 1 + len(DroppedBoxes._fields)), np.int64)
            counts[rows] = count_usable(used.boxes[stay], used.scores[stay], per_photo, index.sizes[rows])
        elif counts is None:
            counts = np.zeros((total, 1 + len(DroppedBoxes._fields)), np.int64)
        self._numbers = np.flatnonzero(good)
        self.usable_counts = counts[good, 0].astype(np.int32)
        """Boxes of each photo from which a choice can be made: annotated ones for ``ground_truth``."""
        self.dropped = DroppedBoxes(*counts[good, 1:].sum(axis=0).tolist())
        """Boxes of all photos that have no crop."""
        self._sizes = index.sizes[good]
        if self.dropped.total and not self.usable_counts.any():
            self._refuse_boxes()
        if self.dropped.total:
            print(self.describe(), file=sys.stderr)

    def _refuse_boxes(self) -> NoReturn:
        """Not one box can be used: such photos would all count as photos without any."""
        place = self._box_place().removeprefix(" from ") or self.where
        advice = "x0, y0, x1, y1 in pixels, not x, y, width, height" if self.dropped.inverted else "in pixels"
        raise DataError(
            f"{place}: of {self.dropped.total:,} boxes not one can be used ({self.dropped}); boxes are {advice}"
        )

    def _entry(self, index: int) -> Entry:
        if not 0 <= index < len(self):
            raise IndexError(f"photo {index} of {len(self)} in {self.where}")
        return self.photos.entry(int(self._numbers[index]))

    def _detections_of(self, entry: Entry, size: tuple[int, int]) -> Boxes:
        if self.boxes is None:
            return entry.detections or no_boxes()
        return _fitted(self.boxes, entry.name, self._may_lack_boxes, size)

    def _truth_of(self, entry: Entry, size: tuple[int, int]) -> Boxes | None:
        if self.truth is None:
            return entry.truth(size)
        return _fitted(self.truth, entry.name, self._may_lack_truth, size)

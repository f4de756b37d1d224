"""The photo index: names and sizes of all photos of a set, read once and kept in a file.

An index file is a NumPy archive (``.npz``, nothing pickled): what it is and of which photos, the names, widths and
heights of the photos as they are shown, what was wrong with those that cannot be read, and for photos that carry boxes
the counts of usable ones.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64
from tqdm import tqdm

from jaxcolor.boxes import count_usable
from jaxcolor.config import DataConfig
from jaxcolor.data.sources.base import Identity, PhotoSet, refuse_shared_keys
from jaxcolor.data.transforms import check_header, read_size
from jaxcolor.data.types import Boxes, DataError, Names
from jaxcolor.runtime.atomic import atomic_write
from jaxcolor.runtime.errors import one_line
from jaxcolor.runtime.places import local_path
from jaxcolor.runtime.regular_file import open_regular

FORMAT = "jaxcolor photo index"
VERSION = 1

_AT_ONCE = 64
"""Photos that a thread looks at between two steps of the bar."""
_QUIET_SECONDS = 2.0
"""Of looking at photos before there is a progress bar."""
_COUNTS = 5
"""Usable boxes, and those dropped for each reason, see ``count_usable``."""
_LOAD_ERRORS = (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error, NotImplementedError)


class Index(NamedTuple):
    """What is known of P photos without opening them."""

    keys: Names
    sizes: Int32[np.ndarray, "P 2"]
    """Width and height in pixels as shown; 0 where it was not asked for or the photo cannot be read."""
    bad: dict[int, str]
    """By number what is wrong with the photos that cannot be read."""
    detections: Int64[np.ndarray, "P 5"] | None = None
    """Counts (``count_usable``) of the boxes that lie with the photos; None where they carry none."""
    truth: Int64[np.ndarray, "P 5"] | None = None
    """Likewise of annotated boxes."""


class _Seen(NamedTuple):
    """What is found at the beginning of one photo."""

    key: str | None = None
    size: tuple[int, int] = (0, 0)
    detections: np.ndarray | None = None
    truth: np.ndarray | None = None
    error: DataError | None = None


def make_index(photos: PhotoSet, *, threads: int, skip_bad: bool, sized: Bool[np.ndarray, " P"] | None = None) -> Index:
    """Looks at the beginning of every photo. A progress bar with the time left is on standard error if it takes long.

    Args:
      photos: the set.
      threads: how many look; 0: the caller's alone.
      skip_bad: whether a photo that cannot be read is recorded in ``Index.bad``.
      sized: of which photos the size is wanted; of the others it is only seen whether they begin like a photo, which
        is cheaper. None: of all.

    Raises:
      DataError: a photo cannot be read, without ``skip_bad``; two photos are of one name.
    """
    keys = photos.keys()
    names: list[str] = []
    sizes = np.zeros((len(photos), 2), np.int32)
    bad: dict[int, str] = {}
    detections = np.zeros((len(photos), _COUNTS), np.int64) if photos.carries_detections else None
    truth = np.zeros((len(photos), _COUNTS), np.int64) if photos.carries_truth else None

    def look(start: int) -> list[_Seen]:
        numbers = range(start, min(start + _AT_ONCE, len(photos)))
        return [_look(photos, i, keys is not None, sized is None or bool(sized[i])) for i in numbers]

    # leave=False: a bar that has done its work is in the way of what follows.
    options: dict[str, Any] = {
        "unit": "photo",
        "dynamic_ncols": True,
        "delay": _QUIET_SECONDS,
        "leave": False,
        "disable": None,
    }
    with tqdm(total=len(photos), desc="reading sizes of photos", file=sys.stderr, **options) as bar:
        for number, one in enumerate(chain.from_iterable(_in_threads(look, len(photos), threads))):
            if one.error is not None:
                if not skip_bad:
                    raise one.error
                bad[number] = str(one.error)
            sizes[number] = one.size
            if keys is None:
                # A record that cannot be read has no name.
                names.append(f"unreadable {number}" if one.key is None else one.key)
            if detections is not None and one.detections is not None:
                detections[number] = one.detections
            if truth is not None and one.truth is not None:
                truth[number] = one.truth
            bar.update()
    if keys is None:
        refuse_shared_keys(names, lambda number: f"{photos.where}: photo {number} ({names[number]})")
        keys = Names.of(names)
    return Index(keys, sizes, bad, detections, truth)


def _look(photos: PhotoSet, number: int, has_key: bool, sized: bool) -> _Seen:
    try:
        begin = photos.header(number)
        if begin is not None and has_key:
            try:
                return _Seen(size=read_size(begin) if sized else _checked(begin))
            except DataError:
                pass  # the beginning was not enough, or the photo is damaged: the whole file decides
        entry = photos.entry(number)
        size = read_size(entry.file) if sized else _checked(entry.file)
        truth = entry.truth(size) if photos.carries_truth else None
        return _Seen(entry.name, size, _count(entry.detections, size), _count(truth, size))
    except DataError as error:
        return _Seen(error=error)


def _checked(file: Any) -> tuple[int, int]:
    check_header(file)
    return 0, 0


def _count(found: Boxes | None, size: tuple[int, int]) -> np.ndarray | None:
    if found is None or not len(found.boxes):
        return None
    return count_usable(found.boxes, found.scores, np.array([len(found.boxes)]), np.array([size]))[0]


def _in_threads(work: Callable[[int], list[_Seen]], count: int, threads: int) -> Iterator[list[_Seen]]:
    """Results in order; a few parts ahead are under way, never all of them."""
    starts = range(0, count, _AT_ONCE)
    if threads < 2:
        yield from map(work, starts)
        return
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(starts), 16 * threads):
            yield from pool.map(work, starts[first : first + 16 * threads])


def find_index(config: DataConfig, photos: PhotoSet) -> Index | None:
    """The index that a config names; None: it names none, or one that is to be made and can be written.

    Raises:
      DataError: it cannot be read, is damaged, belongs to other photos, or could not be written.
    """
    if not config.index_path:
        return None
    path = Path(config.index_path)
    if path.exists():
        return read_index(path, photos)
    check_place(path)
    return None


def kept_index(config: DataConfig, photos: PhotoSet, *, sized: bool = True, skip_bad: bool) -> Index:
    """The index that a config names, which is made where it is absent; one that is not kept if it names none.

    Args:
      config: ``index_path`` and ``threads``.
      photos: the set.
      sized: whether sizes are wanted, for an index that is not kept.
      skip_bad: whether photos that cannot be read are recorded in ``Index.bad``.

    Raises:
      DataError: a photo cannot be read, without ``skip_bad``; two are of one name; see ``find_index``.
    """
    index = find_index(config, photos)
    if index is None:
        some = None if sized or config.index_path else np.zeros(len(photos), bool)
        index = make_index(photos, threads=config.threads, skip_bad=skip_bad, sized=some)
        if config.index_path:
            write_index(Path(config.index_path), index, photos.identity())
    if index.bad and not skip_bad:
        raise DataError(next(iter(index.bad.values())))
    return index


def check_place(path: Path) -> None:
    """Checks that an index could be written: before hours of reading, not after.

    Raises:
      DataError: it could not.
    """
    local_path(path, "data.index_path")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"data.index_path: {path}: cannot be written: {error.strerror or error}") from error
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"data.index_path: {path}: cannot be written: {path.parent} does not allow it")


def write_index(path: Path, index: Index, identity: Identity) -> None:
    """Writes an index atomically.

    Args:
      path: the file; an index of that name is replaced.
      index: all sizes must be in it.
      identity: of its photos.

    Raises:
      DataError: it cannot be written.
    """
    about = {"format": FORMAT, "version": VERSION, **identity._asdict()}
    bad = Names.of(index.bad.values())
    arrays: dict[str, Any] = {
        "about": _bytes(json.dumps(about).encode()),
        "names": _bytes(index.keys.text),
        "name_ends": index.keys.ends,
        "sizes": index.sizes,
        "bad": np.array(list(index.bad), np.int64),
        "bad_texts": _bytes(bad.text),
        "bad_ends": bad.ends,
    }
    carried = {"detections": index.detections, "truth": index.truth}
    arrays |= {name: counts.astype(np.int32) for name, counts in carried.items() if counts is not None}
    try:
        with atomic_write(path) as part, part.open("wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        raise DataError(f"data.index_path: {path}: cannot be written: {error.strerror or error}") from error


def read_index(path: Path, photos: PhotoSet) -> Index:
    """The index in a file.

    Raises:
      DataError: it cannot be read, is damaged, or belongs to other photos.
    """
    try:
        with open_regular(path) as file, _archive(np.load(file, allow_pickle=False)) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(arrays["about"].tobytes())
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']!r}, not {FORMAT!r}")
        version = about["version"]
        identity = Identity(*(about[field] for field in Identity._fields))
        index = _from_arrays(arrays) if version == VERSION else None
    except _LOAD_ERRORS as error:
        reason = "it holds pickled data or is no NumPy archive" if "pickle" in str(error) else one_line(error)
        raise DataError(
            f"data.index_path: {path}: cannot read this index of photos: {reason}; delete it to have it made anew"
        ) from error
    if index is None:
        raise DataError(f"data.index_path: {path}: version {version!r} of the format; this jaxcolor reads {VERSION}")
    now = photos.identity()
    if not now.same(identity):
        what = "these photos have changed since it was made" if identity.where == now.where else "it is of other photos"
        raise DataError(
            f"data.index_path: {path}: {what}: it is of {identity}, not of {now}; delete it or name another file"
        )
    if len(index.keys) != len(photos) or (index.detections is None) == photos.carries_detections:
        raise DataError(f"data.index_path: {path}: damaged: its tables do not fit; delete it to have it made anew")
    return index


def _archive(loaded: Any) -> Any:
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        raise ValueError("one bare array")
    return loaded


def _from_arrays(arrays: dict[str, np.ndarray]) -> Index:
    """Checks everything that a damaged file could have wrong."""
    keys = Names(arrays["names"].tobytes(), arrays["name_ends"])
    texts = Names(arrays["bad_texts"].tobytes(), arrays["bad_ends"])
    bad = dict(zip(arrays["bad"].tolist(), texts, strict=True))
    sizes = arrays["sizes"]
    if sizes.shape != (len(keys), 2) or sizes.dtype != np.int32:
        raise ValueError(f"sizes are {sizes.dtype} {sizes.shape} for {len(keys)} photos")
    if any(not 0 <= number < len(keys) for number in bad):
        raise ValueError("it marks a photo that there is not")
    without = np.flatnonzero((sizes < 1).any(axis=1))
    if not set(without.tolist()) <= bad.keys():
        raise ValueError("photos without a size")
    counts = {}
    for name in ("detections", "truth"):
        found = arrays.get(name)
        if found is not None and (found.shape != (len(keys), _COUNTS) or found.min(initial=0) < 0):
            raise ValueError(f"{name} are {found.shape} for {len(keys)} photos")
        counts[name] = None if found is None else found.astype(np.int64)
    return Index(keys, sizes, bad, **counts)


def _bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)

"""The packed store: boxes of millions of photos in a few files, found by key without reading the others.

A store is a folder::

    manifest.json               format, where the boxes are from, how many, the hash of all of them
    boxes-00000.array_record …  a record for each photo: its key, boxes, scores; ``records_per_shard`` to a file
    index_hashes.npy            uint64: the keys' 64-bit hashes, sorted
    index_records.npy           uint32: for each hash the number of its record, counted over all shards

A look-up is a binary search in the memory-mapped index and one record read; the record holds the key itself, so that
two keys of one hash are distinguished. ArrayRecord, not Parquet: it reads a single record where Parquet reads a row
group of a column, it is what TFDS and Grain keep photos in, and it comes with Grain; Parquet would need pyarrow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import struct
import tokenize
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcolor.data.array_records import RECORD_ERRORS, open_records
from jaxcolor.data.boxes.base import MissingBoxesError
from jaxcolor.data.boxes.bulk_read import BoxArrays, BoxGatherer
from jaxcolor.data.types import Boxes, DataError
from jaxcolor.registries import BOX_STORES
from jaxcolor.runtime.errors import UserError, one_line
from jaxcolor.runtime.regular_file import check_regular, read_regular
from jaxcolor.runtime.text import counted

MANIFEST = "manifest.json"
INDEX_HASHES = "index_hashes.npy"
INDEX_RECORDS = "index_records.npy"
FORMAT = "jaxcolor packed boxes"
VERSION = 1

_HEAD = struct.Struct("<II")
"""A record begins with the length of its key in bytes and the number of its boxes; key, boxes, scores follow, and the
photo's width and height where they are known."""
_SIZE = struct.Struct("<II")
_FLOAT = np.dtype("<f4")
_READ_AT_ONCE = 4096
_NEAR = 256
"""Records that are read together where some of them are wanted: what lies between them costs less than a new read."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The contents of a packed store's ``manifest.json``."""

    source_kind: str
    """Of the store that it was packed from."""
    source_name: str
    """That store's file or folder name, without the folders above."""
    detector: str
    """What found the boxes, as given when packing; empty if nothing was given."""
    threshold: float | None
    """The lowest score that the detector kept, as given when packing."""
    note: str
    """That store's note: what was left out when it was opened."""
    images: int
    boxes: int
    records_per_shard: int
    content_sha256: str
    """Of all records, one after another: the same for the same boxes, however they are compressed or sharded."""

    sized: int = 0
    """Photos whose size is in their record; absent from the file where there are none."""

    @property
    def shards(self) -> int:
        """How many files hold the records."""
        return -(-self.images // self.records_per_shard)

    def to_json(self) -> str:
        """The contents of ``manifest.json``."""
        fields = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        if not self.sized:
            del fields["sized"]
        return json.dumps(fields, indent=2, ensure_ascii=True) + "\n"

    def __str__(self) -> str:
        found_by = f"found by {self.detector}" if self.detector else "detector not given"
        above = "" if self.threshold is None else f", scores of at least {self.threshold:g}"
        counts = f"{counted(self.boxes, 'box', 'boxes')} of {counted(self.images, 'photo')}"
        note = f"; {self.note}" if self.note else ""
        return f"{counts}, from {self.source_name} ({self.source_kind}); {found_by}{above}{note}"


class Record(NamedTuple):
    """A photo's entry."""

    key: str
    boxes: Boxes
    size: tuple[int, int] | None = None
    """Width and height in pixels of the photo that the boxes were made for; None: not known."""


def shard_name(number: int) -> str:
    """The file of a shard."""
    return f"boxes-{number:05d}.array_record"


def key_hash(key: str) -> int:
    """The 64 bits under which the index keeps a key."""
    return int.from_bytes(hashlib.blake2b(_encoded(key), digest_size=8).digest(), "little")


def encode(record: Record) -> bytes:
    """A record as it is stored."""
    key, (boxes, scores) = _encoded(record.key), record.boxes
    return b"".join(
        (
            _HEAD.pack(len(key), len(boxes)),
            key,
            boxes.astype(_FLOAT).tobytes(),
            scores.astype(_FLOAT).tobytes(),
            b"" if record.size is None else _SIZE.pack(*record.size),
        )
    )


def decode(data: bytes) -> Record:
    """The record that ``encode`` made ``data`` of.

    Raises:
      ValueError: it made no such thing.
    """
    if len(data) < _HEAD.size:
        raise ValueError(f"a record of {len(data)} bytes")
    key_length, count = _HEAD.unpack_from(data)
    start = _HEAD.size + key_length
    end = start + count * 5 * _FLOAT.itemsize
    if len(data) not in (end, end + _SIZE.size):
        raise ValueError(f"a record of {len(data)} bytes that says it has a key of {key_length} bytes, {count} boxes")
    floats = np.frombuffer(data[start:end], _FLOAT).astype(np.float32)
    size = _SIZE.unpack(data[end:]) if len(data) > end else None
    if size is not None and not min(size):
        raise ValueError(f"a record of {len(data)} bytes, with a photo of {size[0]} x {size[1]} pixels")
    key = data[_HEAD.size : start].decode("utf-8", "surrogateescape")
    return Record(key, Boxes(floats[: 4 * count].reshape(count, 4), floats[4 * count :]), size)


def _encoded(key: str) -> bytes:
    # surrogateescape: names of files need not be UTF-8, and Python hands them out so.
    return key.encode("utf-8", "surrogateescape")


class PackedStore:
    """Boxes in a packed store.

    Safe in threads. Pickled, it is its path; in a forked process it opens its files anew, so workers of any kind can
    have it.
    """

    kind: str = "packed"

    def __init__(self, path: Path) -> None:
        """Reads the manifest, maps the index, opens the shards, and compares their counts.

        Raises:
          DataError: something is missing, damaged, of another format or version, or the counts disagree.
        """
        self.path = path
        self.manifest = read_manifest(path)
        self.note = self.manifest.note
        self._hashes = self._index(INDEX_HASHES, np.uint64)
        self._records = self._index(INDEX_RECORDS, np.uint32)
        self._readers: dict[tuple[int, int], Any] = {}
        counts = [self._reader(shard).num_records() for shard in range(self.manifest.shards)]
        full = self.manifest.records_per_shard
        wanted = [min(full, len(self) - start) for start in range(0, len(self), full)]
        for shard, (count, right) in enumerate(zip(counts, wanted, strict=True)):
            if count != right:
                raise DataError(
                    f"{self._shard(shard)}: has {count} records; by {MANIFEST} it has {right}. {_PACK_AGAIN}"
                )

    def __len__(self) -> int:
        return self.manifest.images

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._find(key) is not None

    def keys(self) -> Iterator[str]:
        """All keys in the order in which they were packed."""
        return (self._decoded(number, data).key for number, data in self._all_records())

    def read(self, key: str) -> Boxes:
        """The photo's boxes."""
        record = self._find(key)
        if record is None:
            raise MissingBoxesError(self.absent(key))
        return record.boxes

    def photo_size(self, key: str) -> tuple[int, int] | None:
        """See ``SizedStore``."""
        record = self._find(key) if self.manifest.sized else None
        return None if record is None else record.size

    def read_many(self, keys: Sequence[str]) -> BoxArrays:
        """The boxes of many photos, in a fraction of the time of as many ``read``: neighbors are read together.

        Raises:
          DataError: an entry cannot be read.
        """
        wanted = np.array([key_hash(key) for key in keys], np.uint64)
        places = np.searchsorted(self._hashes, wanted)
        there = places < len(self)
        there[there] = self._hashes[places[there]] == wanted[there]
        rows = np.flatnonzero(there)
        numbers = self._records[places[rows]].astype(np.int64)
        if len(numbers) and numbers.max() >= len(self):
            raise DataError(f"{self.path / INDEX_RECORDS}: names record {numbers.max()} of {len(self)}. {_PACK_AGAIN}")
        order = np.argsort(numbers, kind="stable")
        rows, numbers = rows[order], numbers[order]
        shards, places_in_shard = np.divmod(numbers, self.manifest.records_per_shard)
        new_block = (np.diff(shards) > 0) | (np.diff(places_in_shard // _NEAR) > 0)
        many = BoxGatherer(len(keys))
        for block in np.split(np.arange(len(rows)), np.flatnonzero(new_block) + 1):
            if not len(block):
                continue
            first, last = int(numbers[block[0]]), int(numbers[block[-1]])
            data = self._raw(first, last + 1)
            for row, number in zip(rows[block].tolist(), numbers[block].tolist(), strict=True):
                record = self._decoded(number, data[number - first])
                # Another key of the same hash: its neighbor in the index may be the right one.
                found = record if record.key == keys[row] else self._find(keys[row])
                if found is not None:
                    many.add(row, found.boxes)
        return many.built()

    def absent(self, key: str) -> str:
        """Names the store and the photo."""
        return f"{self.path}: no boxes for photo {key}"

    def verify(self, progress: Callable[[int], object] = lambda photos: None) -> None:
        """Reads everything and compares it with the manifest's hash and counts and with the index.

        Args:
          progress: called now and then with the number of photos read since the last call.

        Raises:
          DataError: something disagrees.
        """
        sha, boxes, sized, hashes = hashlib.sha256(), 0, 0, np.zeros(len(self), np.uint64)
        for number, data in self._all_records():
            record = self._decoded(number, data)
            sha.update(data)
            boxes += len(record.boxes.boxes)
            sized += record.size is not None
            hashes[number] = key_hash(record.key)
            if (number + 1) % _READ_AT_ONCE == 0:
                progress(_READ_AT_ONCE)
        if sha.hexdigest() != self.manifest.content_sha256:
            raise DataError(f"{self.path}: its boxes are not those that were packed (SHA-256 differs). {_PACK_AGAIN}")
        if boxes != self.manifest.boxes:
            raise DataError(
                f"{self.path}: has {boxes} boxes; by {MANIFEST} it has {self.manifest.boxes}. {_PACK_AGAIN}"
            )
        if sized != self.manifest.sized:
            what = f"knows the sizes of {sized} photos; by {MANIFEST} of {self.manifest.sized}"
            raise DataError(f"{self.path}: {what}. {_PACK_AGAIN}")
        order = np.argsort(hashes, kind="stable")
        if not (np.array_equal(self._hashes, hashes[order]) and np.array_equal(self._records, order)):
            raise DataError(f"{self.path}: its index does not belong to its records. {_PACK_AGAIN}")
        progress(len(self) % _READ_AT_ONCE)

    def __reduce__(self) -> tuple[type[PackedStore], tuple[Path]]:
        return PackedStore, (self.path,)

    def _find(self, key: str) -> Record | None:
        # The scalar must be a uint64, or NumPy would convert the whole index for each look-up.
        wanted = np.uint64(key_hash(key))
        place = int(np.searchsorted(self._hashes, wanted))
        while place < len(self) and self._hashes[place] == wanted:
            number = int(self._records[place])
            if number >= len(self):
                raise DataError(f"{self.path / INDEX_RECORDS}: names record {number} of {len(self)}. {_PACK_AGAIN}")
            record = self._decoded(number, *self._raw(number, number + 1))
            if record.key == key:
                return record
            place += 1
        return None

    def _all_records(self) -> Iterator[tuple[int, bytes]]:
        for start in range(0, len(self), self.manifest.records_per_shard):
            end = min(start + self.manifest.records_per_shard, len(self))
            for first in range(start, end, _READ_AT_ONCE):
                yield from enumerate(self._raw(first, min(first + _READ_AT_ONCE, end)), first)

    def _raw(self, start: int, end: int) -> list[bytes]:
        """Records of one shard."""
        shard, first = divmod(start, self.manifest.records_per_shard)
        try:
            return self._reader(shard).read(first, first + end - start)
        except RECORD_ERRORS as error:
            raise DataError(f"{self._shard(shard)}: record {first} is damaged: {one_line(error)}") from error

    def _decoded(self, number: int, data: bytes) -> Record:
        try:
            return decode(data)
        except ValueError as error:
            shard, first = divmod(number, self.manifest.records_per_shard)
            raise DataError(f"{self._shard(shard)}: record {first} holds no boxes: {error}") from error

    def _shard(self, number: int) -> Path:
        return self.path / shard_name(number)

    def _reader(self, shard: int) -> Any:
        # By process: a forked child must not use its parent's readers. No lock, which a fork could leave locked: two
        # threads may both open a shard, then one of the readers is used by both.
        key = os.getpid(), shard
        reader = self._readers.get(key)
        return reader if reader is not None else self._readers.setdefault(key, _open_shard(self._shard(shard)))

    def _index(self, name: str, dtype: type[np.generic]) -> np.ndarray:
        path = self.path / name
        try:
            check_regular(path)
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            raise DataError(f"{path}: missing. {_PACK_AGAIN}") from error
        except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:
            raise DataError(f"{path}: cannot read this index: {one_line(error)}. {_PACK_AGAIN}") from error
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != (len(self),):
            what = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
            raise DataError(f"{path}: is {what}; it must be {np.dtype(dtype)} ({len(self)},). {_PACK_AGAIN}")
        return array


_PACK_AGAIN = "Pack the boxes again (jaxcolor boxes pack)"


def _open_shard(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"{path}: missing. {_PACK_AGAIN}")
    try:
        return open_records(path)
    except RECORD_ERRORS as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot read this file: {one_line(error)}. {_PACK_AGAIN}") from error


def is_packed(path: Path) -> bool:
    """Whether a folder is a packed store of whatever version, perhaps a damaged one."""
    try:
        fields = json.loads(read_regular(path / MANIFEST))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and fields.get("format") == FORMAT


def read_manifest(path: Path) -> Manifest:
    """The manifest of the store in a folder.

    Raises:
      DataError: there is none, it is of another format or version, or a field is missing or wrong.
    """
    file = path / MANIFEST
    try:
        fields = json.loads(read_regular(file))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot read this manifest: {one_line(error)}") from error
    except OSError as error:
        raise DataError(f"{file}: cannot read this manifest: {error.strerror or error}") from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise DataError(f"{file}: not the manifest of a packed box store: 'format' is not {FORMAT!r}")
    if fields.get("version") != VERSION:
        raise DataError(f"{file}: version {fields.get('version')!r} of the format; this jaxcolor reads {VERSION}")
    fields.setdefault("sized", 0)
    for field, good in _MANIFEST_FIELDS.items():
        if field not in fields:
            raise DataError(f"{file}: {field!r} is missing. {_PACK_AGAIN}")
        if not good(fields[field]):
            raise DataError(f"{file}: {field!r} is {fields[field]!r}, which cannot be. {_PACK_AGAIN}")
    if fields["threshold"] is not None:
        fields["threshold"] = float(fields["threshold"])
    return Manifest(**{field: fields[field] for field in _MANIFEST_FIELDS})


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_kind(value: object) -> bool:
    try:
        BOX_STORES.check_name(str(value))
    except UserError:
        return False
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48


def _is_number(value: object) -> bool:
    most = float(np.finfo(np.float32).max)
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -most <= value <= most


def _is_positive(value: object) -> bool:
    return _is_count(value) and value != 0


_MANIFEST_FIELDS = {
    "source_kind": _is_kind,
    "source_name": _is_text,
    "detector": _is_text,
    "note": _is_text,
    "threshold": lambda value: value is None or _is_number(value),
    "images": _is_positive,
    "boxes": _is_count,
    "records_per_shard": _is_positive,
    "sized": _is_count,
    "content_sha256": _is_text,
}

"""ArrayRecord files: opening them for look-ups in any order, and writing them as TFDS does.

The package array_record is imported when it is needed: there is none for Windows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from jaxcolor.data.types import DataError
from jaxcolor.runtime.atomic import sync
from jaxcolor.runtime.errors import one_line

# Reading ahead serves sequential readers; photos and boxes come in any order.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"

# One record a chunk, as TFDS itself writes: a photo is read without its neighbours.
_WRITER_OPTIONS = "group_size:1"
_READ_AT_ONCE = 16
"""Records held in memory when a file is read through."""

RECORD_ERRORS = (RuntimeError, ValueError, IndexError)
"""What array_record raises on damaged files."""


def array_record() -> Any:
    """The module that reads and writes records.

    Raises:
      DataError: there is none.
    """
    try:
        from array_record.python import array_record_module
    except ImportError as error:
        raise DataError("packed box stores need the package array_record, which there is not for Windows") from error
    return array_record_module


def open_records(path: Path) -> Any:
    """A reader of a file for look-ups in any order.

    Of its ways to read, ``read(start, end)`` is the one to use: the time of ``read([number])`` grows with the file (for
    one of 100,000 chunks 185 against 2 µs were measured), and ``seek`` needs a lock.

    Raises:
      RuntimeError, ValueError or IndexError (``RECORD_ERRORS``): the file cannot be opened.
    """
    reader = array_record().ArrayRecordReader(str(path), _READER_OPTIONS)
    if not reader.ok():
        reader.read([0])  # only this tells what is wrong
        raise RuntimeError("its end is damaged")
    return reader


class Digest(NamedTuple):
    """What is in a file of records, however it is stored."""

    records: int
    size: int
    """Bytes of all records."""
    sha256: str
    """Of all records, each after its length in eight bytes."""


class RecordHash:
    """Takes records in and says their ``Digest``."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._records = 0
        self._size = 0

    def add(self, record: bytes) -> None:
        """The next record."""
        # With its length, so that a byte moved from one record to the next is seen.
        self._sha.update(len(record).to_bytes(8, "little"))
        self._sha.update(record)
        self._records += 1
        self._size += len(record)

    @property
    def size(self) -> int:
        """Bytes of the records so far."""
        return self._size

    def digest(self) -> Digest:
        """Of the records so far."""
        return Digest(self._records, self._size, self._sha.hexdigest())


class RecordFile:
    """Writes an ArrayRecord file; use it in a ``with`` block. The file is on the disk when the block ends."""

    def __init__(self, path: Path) -> None:
        """Opens the file.

        Raises:
          DataError: it cannot be written.
        """
        self._path = path
        self.hash = RecordHash()
        try:
            self._writer: Any = array_record().ArrayRecordWriter(str(path), _WRITER_OPTIONS)
        except RuntimeError as error:
            raise self._cannot_write(error) from error

    def write(self, record: bytes) -> None:
        """The next record.

        Raises:
          DataError: it cannot be written.
        """
        try:
            self._writer.write(record)
        except RuntimeError as error:
            raise self._cannot_write(error) from error
        self.hash.add(record)

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
        except RuntimeError as failure:
            if error is None:
                raise self._cannot_write(failure) from failure
        if error is None:
            sync(self._path)

    def _cannot_write(self, error: RuntimeError) -> DataError:
        return DataError(f"{self._path}: cannot be written: {one_line(error)}")


def read_array_record(path: Path) -> Iterator[bytes]:
    """The records of an ArrayRecord file in their order, few at a time.

    Raises:
      DataError: the file is missing or damaged.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        reader = open_records(path)
        try:
            count = reader.num_records()
            for first in range(0, count, _READ_AT_ONCE):
                yield from reader.read(first, min(first + _READ_AT_ONCE, count))
        finally:
            reader.close()
    except RECORD_ERRORS as error:
        raise DataError(f"{path}: cannot read this file: {one_line(error)}") from error


def digest_of(records: Iterator[bytes], progress: Callable[[int], object] = lambda size: None) -> Digest:
    """Reads records through.

    Args:
      records: from any kind of file.
      progress: called with the size of each.
    """
    total = RecordHash()
    for record in records:
        total.add(record)
        progress(len(record))
    return total.digest()

"""The package array_record, imported when it is needed, and opening its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxcolor.data.types import DataError

# Reading ahead serves sequential readers; photos and boxes come in any order.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"

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

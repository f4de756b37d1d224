"""The records of a TFRecord file, without TensorFlow.

A file is frames, one after another: the record's length (uint64, little-endian), that length's checksum, the record,
its checksum. Checksums are CRC-32C, masked by a rotation and a constant.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# CRC-32C is in neither the standard library nor NumPy. google-crc32c does it in C, has wheels for every Python and
# system that jaxcolor runs on, needs nothing else, and its licence (Apache) is freer than that of its rival crc32c.
import google_crc32c

from jaxcolor.data.types import DataError

_HEAD = struct.Struct("<QI")
_TAIL = struct.Struct("<I")
_GZIP, _ZLIB = b"\x1f\x8b", (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_BUFFER = 1 << 20


def masked_crc(data: bytes) -> int:
    """The checksum that TFRecord keeps of ``data``."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_records(path: Path) -> Iterator[bytes]:
    """The records of a file, one at a time, each compared with its checksums.

    Raises:
      DataError: the file cannot be read, is compressed, is cut off or damaged; the message says at which byte.
    """
    try:
        with path.open("rb", buffering=_BUFFER) as file:
            yield from _records(path, file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise DataError(f"{path}: cannot read this file: {error.strerror or error}") from error


def _records(path: Path, file: BinaryIO, size: int) -> Iterator[bytes]:
    offset = 0
    while head := file.read(_HEAD.size):
        if len(head) < _HEAD.size:
            raise _cut_off(path, offset, size)
        length, crc = _HEAD.unpack(head)
        if masked_crc(head[:8]) != crc:
            raise _wrong_length(path, offset, head)
        # The length is right by its checksum, yet it is not trusted with memory that the file cannot fill.
        if offset + _HEAD.size + length + _TAIL.size > size:
            raise _cut_off(path, offset, size)
        record, tail = file.read(length), file.read(_TAIL.size)
        if len(record) < length or len(tail) < _TAIL.size:
            raise _cut_off(path, offset, size)
        if masked_crc(record) != _TAIL.unpack(tail)[0]:
            raise DataError(
                f"{path}: byte {offset}: the record of {length} bytes that begins here is damaged (its checksum "
                "differs); copy the file again or prepare the data set anew"
            )
        offset += _HEAD.size + length + _TAIL.size
        yield record


def _cut_off(path: Path, offset: int, size: int) -> DataError:
    return DataError(
        f"{path}: byte {offset}: the record that begins here is cut off by the file's end at byte {size}; copy the "
        "file again or prepare the data set anew"
    )


def _wrong_length(path: Path, offset: int, head: bytes) -> DataError:
    if offset == 0 and (head.startswith(_GZIP) or head[:2] in _ZLIB):
        kind = "gzip" if head.startswith(_GZIP) else "zlib"
        return DataError(f"{path}: is compressed ({kind}), which is not read; decompress the file first")
    return DataError(
        f"{path}: byte {offset}: no record begins here (the checksum of its length differs); the file is damaged or "
        "no TFRecord file"
    )

"""Opening files that a person names: a pipe or a device among them would wait for ever, or never end."""

from __future__ import annotations

import errno
import os
import stat
import tokenize
import zipfile
import zlib
from io import BufferedReader
from pathlib import Path

DAMAGED = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What JSON, NumPy and zipfile raise on files that are damaged, encrypted or another's, or claim to be too large."""

MOST_BYTES = 64 << 20
"""Of a file of JSON that describes something; boxes and photos have limits of their own."""


def check_regular(path: str | Path) -> None:
    """Checks that a path leads to a regular file or a folder, if to anything.

    Raises:
      OSError: it leads to a pipe, a socket or a device; names the path.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # said by whoever opens it
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "is no regular file but a pipe, a socket or a device", str(path))


def read_regular(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """What is in a file, all of it.

    Raises:
      OSError: it cannot be read, is no regular file, or has more than ``most`` bytes; names the path.
    """
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"has more than {most >> 20} MiB, which no file of its kind has", str(path))
    return data


def open_regular(path: str | Path) -> BufferedReader:
    """Opens a file to read its bytes.

    Raises:
      OSError: it cannot be opened, or is no regular file (``check_regular``).
    """
    check_regular(path)
    return open(path, "rb")

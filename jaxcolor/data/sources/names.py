"""Names of millions of photos: kept small, cheap to hand to a worker process, and each there once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import overload

import numpy as np
from jaxtyping import Int

from jaxcolor.data.transforms import PHOTO_SUFFIXES
from jaxcolor.data.types import DataError

_LABEL = re.compile(r"\s+[0-9]+$")
"""What may follow a name in a list."""


class Names(Sequence[str]):
    """Texts in one piece of memory. A million of them pickle as two arrays, in milliseconds.

    A list of a million ``str`` takes ten times the memory in each worker process and a second to pickle.
    """

    def __init__(self, text: bytes, ends: Int[np.ndarray, " n"]) -> None:
        """Takes the texts as ``of`` lays them out.

        Args:
          text: all of them, one after another, UTF-8.
          ends: where in ``text`` each ends, in bytes.

        Raises:
          ValueError: the ends are not those of texts in ``text``.
        """
        ends = np.asarray(ends, np.int64)
        if np.any(np.diff(ends, prepend=0) < 0) or (int(ends[-1]) if len(ends) else 0) != len(text):
            raise ValueError(f"{len(ends)} names do not fill {len(text)} bytes")
        self.text = text
        self.ends = ends

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """Lays texts out."""
        # surrogateescape: names of files need not be UTF-8, and Python hands them out so.
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        return cls(b"".join(encoded), np.cumsum([len(name) for name in encoded], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Names: ...
    def __getitem__(self, index: int | slice) -> str | Names:
        """Text ``index``; of a slice, those texts laid out anew."""
        if isinstance(index, slice):
            return Names.of(self[i] for i in range(*index.indices(len(self))))
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"name {index} of {len(self)}")
        start = int(self.ends[index - 1]) if index else 0
        return self.text[start : int(self.ends[index])].decode("utf-8", "surrogateescape")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Names):
            return NotImplemented
        return self.text == other.text and np.array_equal(self.ends, other.ends)

    __hash__ = None  # type: ignore[assignment]

    def digest(self) -> str:
        """A hash of all texts and where each ends."""
        return hashlib.blake2b(self.text + self.ends.astype("<i8").tobytes(), digest_size=16).hexdigest()


def refuse_shared_keys(keys: Sequence[str], place: Callable[[int], object]) -> None:
    """Photos of one key would share their boxes and results.

    Args:
      keys: of all photos.
      place: says in a message where photo ``i`` is.

    Raises:
      DataError: two keys are the same; names both photos.
    """
    keys = list(keys)
    if len(set(keys)) == len(keys):
        return
    seen: dict[str, int] = {}
    for number, key in enumerate(keys):
        if key in seen:
            raise DataError(
                f"{place(seen[key])} and {place(number)}: two photos of one name; boxes and results would be mixed up"
            )
        seen[key] = number


def is_photo(name: str) -> bool:
    """Whether a file's name, with or without folders above it, is that of a photo."""
    return name.lower().endswith(PHOTO_SUFFIXES)


def read_list(path: Path) -> list[str]:
    """The photos that a list file names, in its order.

    Each line names a photo by its place below ``data.path``, with ``/``; blanks and a whole number after the name are
    left unread, empty lines too. Whether the photos are there is not looked at.

    Raises:
      DataError: the file cannot be read, a line names no photo or one outside of ``data.path``, or there is no line.
    """
    try:
        # utf-8-sig: lists made on Windows begin with a byte order mark. surrogateescape: file names need not be UTF-8.
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    except OSError as error:
        raise DataError(f"data.list_path: {path}: cannot read this list: {error.strerror or error}") from error
    named = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not named:
        raise DataError(f"data.list_path: {path}: names no photo")
    return [_listed(f"data.list_path: {path}: line {number}", line) for number, line in named]


def _listed(where: str, line: str) -> str:
    place = PurePosixPath(_LABEL.sub("", line))
    if place.suffix.lower() not in PHOTO_SUFFIXES:
        raise DataError(f"{where}: {line[:80]!r} names no photo ({', '.join(PHOTO_SUFFIXES)})")
    if place.is_absolute() or ".." in place.parts:
        raise DataError(f"{where}: {line[:80]!r} is not below data.path")
    return str(place)


def check_listed(
    path: Path, names: Sequence[str], there: Callable[[str], bool], place: Callable[[str], object]
) -> None:
    """Whether the photos that a list names are there.

    Args:
      path: the list.
      names: what it names.
      there: whether one is there.
      place: says in a message where one would be.

    Raises:
      DataError: some are not; counts them and names the first.
    """
    missing = [name for name in names if not there(name)]
    if missing:
        count = f"{len(missing)} of its {len(names)} photos"
        raise DataError(f"data.list_path: {path}: {count} are not there; the first: {place(missing[0])}")

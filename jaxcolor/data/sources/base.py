"""What every set of encoded photos answers, and what the sets share: keys, lists of photos, identity."""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol, runtime_checkable

from jaxcolor.data import formats
from jaxcolor.data.formats import PHOTO_SUFFIXES, UNREAD_SUFFIXES
from jaxcolor.data.types import DataError, Entry, Names, PhotoFile
from jaxcolor.runtime.regular_file import open_regular
from jaxcolor.runtime.text import counted

_LABEL = re.compile(r"\s+[0-9]+$")
"""A label after a name in a list."""


class Identity(NamedTuple):
    """Distinguishes sets of photos; an index file belongs to the set of its identity."""

    kind: str
    """``folder``, ``zip`` or ``tfds``."""
    where: str
    """Says in messages where the photos are; it may change without the photos changing, and is not compared."""
    photos: int
    """How many."""
    digest: str
    """Of their names and of what else can be had without opening a photo: sizes in bytes, checksums."""

    def same(self, other: Identity) -> bool:
        """Whether both are the identity of the same photos, perhaps moved."""
        return (self.kind, self.photos, self.digest) == (other.kind, other.photos, other.digest)

    def __str__(self) -> str:
        return f"{self.where} ({self.kind}, {counted(self.photos, 'photo')})"


def digest_of(data: bytes) -> str:
    """A short hash."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def of_files(kind: str, where: str, names: Names, sizes: bytes) -> Identity:
    """The identity of photos that are files for themselves.

    Args:
      kind: see ``Identity``.
      where: likewise.
      names: of the files.
      sizes: all that is seen of the files from outside; empty if it shall not count.
    """
    return Identity(kind, where, len(names), digest_of(names.digest().encode() + sizes))


@runtime_checkable
class PhotoSet(Protocol):
    """Encoded photos by number, in a fixed order. Reading is safe from several threads, after a fork and pickling."""

    where: str
    """Where the photos are, for a person: begins every message about the whole set."""
    name: str
    """The set's own name, without the folders above; kept in what is made of it."""
    remarks: str
    """What was seen and left out while listing, for a person; empty if nothing was."""
    carries_detections: bool
    """Whether entries have boxes with scores."""
    carries_truth: bool
    """Whether entries have annotated boxes."""

    def __len__(self) -> int:
        """How many photos."""
        ...

    def keys(self) -> Names | None:
        """The key of every photo (``photo_key``), each once; None where that takes reading all photos."""
        ...

    def entry(self, number: int) -> Entry:
        """Photo ``number``, from 0.

        Raises:
          DataError: it cannot be read; names it. The file of an entry may still turn out unreadable.
        """
        ...

    def header(self, number: int) -> PhotoFile | None:
        """The beginning of photo ``number``, enough for its size if its file is as files are; None: not cheaper.

        Raises:
          DataError: it cannot be read; names it.
        """
        ...

    def identity(self, *, sizes: bool = True) -> Identity:
        """Computed when it is called: looks at every file of a folder.

        Args:
          sizes: whether photos that are files for themselves count with their sizes and checksums. Without, replacing
            one by another of its name leaves the identity as it is, and ``state`` changes. Records belong together: a
            data set of other files is another one either way.
        """
        ...

    def state(self, numbers: range) -> str:
        """A digest of some photos as seen from outside: it changes once one of them is replaced.

        Covers what ``identity`` without sizes leaves out.
        """
        ...


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


def unread_photos(names: Iterable[str]) -> str:
    """What to say about files that look like photos of formats that are not read; empty where there are none."""
    found = sorted(name for name in names if name.lower().endswith(UNREAD_SUFFIXES))
    if not found:
        return ""
    shown = ", ".join(found[:3]) + (f" and {len(found) - 3:,} more" if len(found) > 3 else "")
    extra = (
        f" (HEIC: or {formats.INSTALL_HEIF})"
        if any(name.lower().endswith(formats.HEIF_SUFFIXES) for name in found)
        else ""
    )
    return f"{len(found):,} of formats that are not read: {shown}; convert them to JPEG, PNG or TIFF{extra}"


def read_list(path: Path) -> list[str]:
    """The photos that a list file names, in its order.

    Each line names a photo by its place below ``data.path``, with ``/`` or as on Windows; blanks and a whole number
    after the name are left unread, empty lines too. UTF-8, or UTF-16 with a byte order mark. Whether the photos are
    there is not looked at.

    Raises:
      DataError: the file cannot be read, a line names no photo or one outside of ``data.path``, or there is no line.
    """
    try:
        # Lists made on Windows begin with a byte order mark. surrogateescape: file names need not be UTF-8.
        with open_regular(path) as file:
            data = file.read()
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        lines = data.decode("utf-16" if wide else "utf-8-sig", "replace" if wide else "surrogateescape").split("\n")
    except OSError as error:
        raise DataError(f"data.list_path: {path}: cannot read this list: {error.strerror or error}") from error
    named = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not named:
        raise DataError(f"data.list_path: {path}: names no photo")
    return [_listed(f"data.list_path: {path}: line {number}", line) for number, line in named]


def _listed(where: str, line: str) -> str:
    place = PurePosixPath(_LABEL.sub("", line).replace("\\", "/"))
    if place.suffix.lower() not in PHOTO_SUFFIXES:
        raise DataError(f"{where}: {line[:80]!r} names no photo ({', '.join(PHOTO_SUFFIXES)})")
    if place.is_absolute() or ".." in place.parts:
        raise DataError(
            f"{where}: {line[:80]!r} is not below data.path; lines name photos by their place below it: {place.name}"
        )
    return str(place)


def check_listed(
    path: Path,
    names: Sequence[str],
    there: Callable[[str], bool],
    place: Callable[[str], object],
    *,
    all_there: bool = True,
) -> None:
    """Checks that the photos that a list names exist.

    Args:
      path: the list.
      names: what it names.
      there: whether one is there.
      place: says in a message where one would be.
      all_there: whether all must be; otherwise one is enough.

    Raises:
      DataError: some are not, or none is; counts them and names the first, and the form that would fit if it can be
        seen.
    """
    if not all_there and any(there(name) for name in names):
        return
    missing = [name for name in names if not there(name)]
    if not missing:
        return
    count = f"{len(missing)} of its {counted(len(names), 'photo')} {'is' if len(missing) == 1 else 'are'} not there"
    form = _listed_form(missing[0], there) if len(missing) == len(names) else ""
    raise DataError(f"data.list_path: {path}: {count}; the first: {place(missing[0])}{form}")


def _listed_form(name: str, there: Callable[[str], bool]) -> str:
    """How a photo would have to be named, if it is there by its place below a folder of the name given."""
    parts = PurePosixPath(name).parts
    tails = (str(PurePosixPath(*parts[start:])) for start in range(1, len(parts)))
    found = next(filter(there, tails), None)
    return "" if found is None else f"; {found} is there: lines name photos by their place below data.path"

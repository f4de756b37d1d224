"""What every set of encoded photos answers."""

from __future__ import annotations

import hashlib
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from jaxcolor.data.boxes.npz import Boxes
from jaxcolor.data.sources.names import Names
from jaxcolor.data.transforms import PhotoFile


class Identity(NamedTuple):
    """Tells one set of photos from another; an index file belongs to the set of its identity."""

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
        return f"{self.where} ({self.kind}, {self.photos:,} photos)"


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


class Entry(NamedTuple):
    """One photo of a set, as it is kept there."""

    name: str
    """Its key, under which box stores know it."""
    file: PhotoFile
    file_name: str
    """The name that its file has or had; its key follows from it (``photo_key``)."""
    detections: Boxes | None = None
    """Boxes that lie with the photo, in its pixels; None where the set carries none."""
    truth_shares: Float32[np.ndarray, "K 4"] | None = None
    """Annotated boxes that lie with the photo: x0, y0, x1, y1 as shares of its width and height."""

    def truth(self, size: tuple[int, int]) -> Boxes | None:
        """The annotated boxes in pixels, each with score 1.

        Args:
          size: the photo's width and height in pixels.
        """
        if self.truth_shares is None:
            return None
        exact = self.truth_shares.astype(np.float64) * np.array([*size, *size], np.float64)
        # A share in float32 is off by up to 0.001 pixels for a side of 10,000. Cut to whole pixels later on, 9.9999
        # would be 9 where 10 was annotated; annotations have at most two decimals.
        with np.errstate(invalid="ignore", over="ignore"):
            boxes = np.round(exact, 2).astype(np.float32)
        return Boxes(boxes, np.ones(len(boxes), np.float32))


@runtime_checkable
class PhotoSet(Protocol):
    """Encoded photos by number, in a fixed order. Reading is safe from several threads, after a fork and pickling."""

    where: str
    """Where the photos are, for a person: begins every message about the whole set."""
    name: str
    """The set's own name, without the folders above: told by what is made of it."""
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
        """The key of every photo (``photo_key``), each once; None where only reading all photos would tell."""
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
        """Found out when it is asked for: takes a look at every file of a folder.

        Args:
          sizes: whether photos that are files for themselves count with their sizes and checksums. Without, replacing
            one by another of its name leaves the identity as it is, and ``state`` tells. Records belong together: a
            data set of other files is another one either way.
        """
        ...

    def state(self, numbers: range) -> str:
        """What is seen of some photos from outside: other once one of them is replaced.

        Tells what ``identity`` without sizes leaves out.
        """
        ...

"""The unfinished work of a run: a hidden folder beside the store, in which each part of the photos is done or not.

A run of a million photos takes days; it is killed by a full disk, a scheduler, a person. So the photos are cut, in
their order, into parts of a fixed number, and each is finished for itself::

    .STORE.detect/job.json                 what is being done; another job does not go on with these parts
    .STORE.detect/part-00000.array_record  records of a packed store, of the photos that could be read
    .STORE.detect/part-00000.json          that the part is done: counts, hash of its records, unreadable photos

Both files of a part appear whole, by renaming, the second last. Parts are the same whoever does them, in whatever
order: a loop in one process, or Beam workers on many machines that share the folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxcolor.data.array_records import RECORD_ERRORS, array_record
from jaxcolor.data.boxes.packed import Record, decode, encode
from jaxcolor.data.sources.base import PhotoSet
from jaxcolor.data.types import DataError
from jaxcolor.runtime.atomic import atomic_write
from jaxcolor.runtime.errors import one_line
from jaxcolor.runtime.file_lock import file_lock

_VERSION = 2
_READ_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True)
class Job:
    """All that decides what a part holds."""

    photos: int
    photos_identity: str
    """Tells their set from others, see ``identify``."""
    detector: str
    """Its name, which identifies its weights."""
    threshold: float
    most_boxes: int
    """Of a photo."""
    batch_size: int
    """Part of the job because networks round differently for batches of another size."""
    photos_per_part: int
    version: int = _VERSION

    @property
    def parts(self) -> int:
        """How many there are."""
        return -(-self.photos // self.photos_per_part)

    def range(self, part: int) -> range:
        """The numbers of a part's photos."""
        return range(part * self.photos_per_part, min((part + 1) * self.photos_per_part, self.photos))


def identify(photos: PhotoSet) -> str:
    """Identifies a set of photos for a job. Not by sizes: photos that could not be read may be repaired."""
    identity = photos.identity(sizes=False)
    return f"{identity.kind} {identity.digest}"


class Bad(NamedTuple):
    """A photo that cannot be read."""

    key: str
    message: str


class Part(NamedTuple):
    """The report of a part that is done."""

    photos: int
    """With an entry."""
    boxes: int
    sha256: str
    """Of its records, one after another."""
    bad: tuple[Bad, ...]
    state: str
    """Of its photos when they were read, see ``PhotoSet.state``."""


class Work:
    """The folder with the parts; can be pickled."""

    def __init__(self, store: Path, job: Job) -> None:
        """Looks at nothing yet; see ``begin``."""
        self.path = store.with_name(f".{store.name}.detect")
        self.job = job

    def begin(self, restart: bool) -> None:
        """Makes the folder, or makes sure that the one there is of this job.

        Args:
          restart: throw away what is there.

        Raises:
          DataError: it is of another job; says in what.
        """
        if restart and self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        wanted = dataclasses.asdict(self.job)
        try:
            there = json.loads((self.path / "job.json").read_bytes())
        except FileNotFoundError:
            _put(self.path / "job.json", json.dumps(wanted, indent=2).encode())
            return
        except ValueError:
            there = {}
        if there != wanted:
            changed = [
                name for name, value in wanted.items() if not isinstance(there, dict) or there.get(name) != value
            ]
            raise DataError(
                f"{self.path}: holds the unfinished work of another run: {', '.join(changed)} differ; "
                "repeat that run's arguments to go on with it, or give --restart to throw it away"
            )
        for leftover in self.path.glob(".*.part"):  # of a process that was killed
            leftover.unlink(missing_ok=True)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps a second run from the same work; the lock ends with the process, however that ends.

        Raises:
          DataError: another run is at it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = self.path.with_name(f"{self.path.name}.lock")
        with file_lock(lock, f"{self.path}: another run is at work on it"):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)

    def done(self, number: int) -> Part | None:
        """The report of a part; None: it is not done."""
        try:
            fields = json.loads(self._marker(number).read_bytes())
            bad = tuple(Bad(*entry) for entry in fields["bad"])
            return Part(fields["photos"], fields["boxes"], fields["sha256"], bad, fields["state"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def undo(self, number: int) -> None:
        """Has the part done again."""
        self._marker(number).unlink(missing_ok=True)

    def write(self, number: int, records: Sequence[Record], bad: Sequence[Bad], state: str) -> Part:
        """Finishes a part.

        Raises:
          DataError: it cannot be written, because of a full disk for instance.
        """
        encoded = [encode(record) for record in records]
        boxes = sum(len(record.boxes.boxes) for record in records)
        part = Part(len(records), boxes, _sha256(encoded), tuple(bad), state)
        target = self._records(number)
        if encoded:
            try:
                with atomic_write(target) as temporary:
                    writer = array_record().ArrayRecordWriter(str(temporary), "group_size:16")
                    for data in encoded:
                        writer.write(data)
                    writer.close()
            except RuntimeError as error:
                raise DataError(f"{target}: cannot be written: {one_line(error)}") from error
        _put(self._marker(number), json.dumps(part._asdict()).encode("ascii"))
        return part

    def records(self, number: int) -> Iterator[Record]:
        """The records of a part that is done, in the order of its photos.

        Raises:
          DataError: they are not those that were written; the part is then no longer done.
        """
        part = self.done(number)
        if part is None or not part.photos:
            return
        sha = hashlib.sha256()
        try:
            reader = array_record().ArrayRecordReader(str(self._records(number)))
            for start in range(0, part.photos, _READ_AT_ONCE):
                for data in reader.read(start, min(start + _READ_AT_ONCE, part.photos)):
                    sha.update(data)
                    yield decode(data)
            damage = "" if sha.hexdigest() == part.sha256 else "SHA-256 differs"
        except RECORD_ERRORS as error:
            damage = one_line(error)
        if damage:
            self.undo(number)
            raise DataError(
                f"{self._records(number)}: is damaged ({damage}); run the same command again: this part is done anew"
            )

    def remove(self) -> None:
        """The work is finished."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _records(self, number: int) -> Path:
        return self.path / f"part-{number:05d}.array_record"

    def _marker(self, number: int) -> Path:
        return self.path / f"part-{number:05d}.json"


def _put(path: Path, data: bytes) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def _sha256(parts: Sequence[bytes]) -> str:
    sha: Any = hashlib.sha256()
    for data in parts:
        sha.update(data)
    return sha.hexdigest()

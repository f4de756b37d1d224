"""Writing a packed store from any other one."""

from __future__ import annotations

import array
import contextlib
import glob
import hashlib
import math
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from jaxcolor.data.array_records import array_record
from jaxcolor.data.boxes.base import SizedStore
from jaxcolor.data.boxes.packed import (
    INDEX_HASHES,
    INDEX_RECORDS,
    MANIFEST,
    Manifest,
    PackedStore,
    Record,
    encode,
    is_packed,
    key_hash,
    shard_name,
)
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.types import Boxes, DataError
from jaxcolor.runtime.atomic import put_folder, unique_partial_path
from jaxcolor.runtime.errors import UserError, one_line
from jaxcolor.runtime.file_lock import file_lock
from jaxcolor.runtime.progress import progress

_LOCK = "lock"
RECORDS_PER_SHARD = 1 << 18
"""ImageNet's 1.28 million photos are five files."""

# Sixteen records are compressed together: measured, half the size of records for themselves and as fast to look up.
_WRITER_OPTIONS = "group_size:16"


class PackedWriter:
    """Writes a packed store; use it in a ``with`` block.

    The store appears under its name when the block ends, and not if it ends by an error: until then it is written to
    a hidden folder beside it, which is removed on an error. A process that is killed leaves it there; the next one that
    writes this store removes it.
    """

    def __init__(
        self,
        path: Path,
        *,
        source_kind: str,
        source_name: str,
        detector: str = "",
        threshold: float | None = None,
        note: str = "",
        replace: bool = False,
        records_per_shard: int = RECORDS_PER_SHARD,
    ) -> None:
        """Checks that the store may be written.

        Args:
          path: the store's folder; folders above it are made.
          source_kind: what the boxes come from; this and the next four are kept in the manifest.
          source_name: its name.
          detector: what found the boxes.
          threshold: the lowest score that it kept; a box with a lower one is an error.
          note: what was left out of the boxes.
          replace: whether a packed store of that name is replaced. Nothing else ever is.
          records_per_shard: photos in a file.

        Raises:
          DataError: ``path`` exists and is not to be replaced, or ``threshold`` is not finite.
        """
        if threshold is not None and not math.isfinite(threshold):
            raise DataError(f"threshold {threshold}: not a finite number")
        check_place(path, replace)
        self.path = path
        self._facts: dict[str, Any] = {
            "source_kind": source_kind,
            "source_name": source_name,
            "detector": detector,
            "threshold": threshold,
            "note": note,
            "records_per_shard": records_per_shard,
        }
        self._threshold = None if threshold is None else np.float32(threshold)
        self._replace = replace
        self._per_shard = records_per_shard
        self._writer: Any = None
        self._hashes = array.array("Q")
        self._boxes = self._sized = 0
        self._sha = hashlib.sha256()
        self._part = unique_partial_path(path)
        self._lock = ExitStack()

    def __enter__(self) -> PackedWriter:
        _remove_leftovers(self.path)
        self._part.mkdir(parents=True)
        self._lock.enter_context(file_lock(self._part / _LOCK, f"{self._part}: in use"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close_shard()
            if error is None:
                self._finish()
        except RuntimeError as failure:
            raise self._cannot_write(failure) from failure
        finally:
            self._lock.close()
            shutil.rmtree(self._part, ignore_errors=True)

    def add(self, key: str, boxes: Boxes, size: tuple[int, int] | None = None) -> None:
        """The next photo.

        Args:
          key: of the photo.
          boxes: x0, y0, x1, y1 in its pixels, uncleaned.
          size: its width and height in pixels; None: not known.

        Raises:
          DataError: a score below the threshold that the manifest would claim.
        """
        if self._threshold is not None and (boxes.scores < self._threshold).any():
            raise DataError(
                f"photo {key}: has a box of score {boxes.scores.min():g}, below the threshold {self._threshold:g} "
                "that was given for all; threshold is what the detector kept, it does not select boxes"
            )
        if len(self._hashes) % self._per_shard == 0:
            self._close_shard()
            shard = self._part / shard_name(len(self._hashes) // self._per_shard)
            self._writer = array_record().ArrayRecordWriter(str(shard), _WRITER_OPTIONS)
        data = encode(Record(key, boxes, size))
        try:
            self._writer.write(data)
        except RuntimeError as failure:
            raise self._cannot_write(failure) from failure
        self._sha.update(data)
        self._hashes.append(key_hash(key))
        self._boxes += len(boxes.boxes)
        self._sized += size is not None

    def _cannot_write(self, failure: RuntimeError) -> DataError:
        """ArrayRecord's errors, a full disk among them."""
        return DataError(f"{self.path}: cannot be written: {one_line(failure)}")

    def _close_shard(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    def _finish(self) -> None:
        if not self._hashes:
            raise DataError(f"{self._facts['source_name']}: no photo in it, nothing to pack")
        hashes = np.frombuffer(self._hashes, np.uint64)
        order = np.argsort(hashes, kind="stable")
        np.save(self._part / INDEX_HASHES, hashes[order])
        np.save(self._part / INDEX_RECORDS, order.astype(np.uint32))
        facts = self._facts | {
            "images": len(hashes),
            "boxes": self._boxes,
            "sized": self._sized,
            "content_sha256": self._sha.hexdigest(),
        }
        manifest = Manifest(**facts)
        (self._part / MANIFEST).write_text(manifest.to_json(), encoding="ascii")
        self._refuse_duplicates(hashes[order])
        (self._part / _LOCK).unlink()
        put_folder(self._part, self.path, replace=self._replace)

    def _refuse_duplicates(self, ordered: np.ndarray) -> None:
        """Two photos of one key have one hash; keys that merely share a hash are fine."""
        shared = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
        if not shared:
            return
        seen: set[str] = set()
        for key in PackedStore(self._part).keys():  # noqa: SIM118  (a store is no mapping)
            if key_hash(key) in shared:
                if key in seen:
                    raise DataError(f"photo {key}: there are boxes for it twice; nothing was packed")
                seen.add(key)


def _remove_leftovers(path: Path) -> None:
    """Removes what killed writers of a store left: folders whose lock nobody holds."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.part"):
        if (part / _LOCK).is_file():  # without one it is finished, and about to be renamed
            with contextlib.suppress(UserError, OSError), file_lock(part / _LOCK, f"{part}: in use"):
                shutil.rmtree(part, ignore_errors=True)


def check_place(path: Path, replace: bool) -> None:
    """Checks that a packed store may be written.

    Raises:
      DataError: there is one and ``replace`` is false, or something else is there.
    """
    if not os.path.lexists(path):
        return
    if not replace:
        raise DataError(f"{path}: exists; give --force to replace it")
    if not is_packed(path):
        raise DataError(f"{path}: exists and is no packed box store: not replaced")


def pack_store(
    source: Path,
    output: Path,
    *,
    kind: str = "auto",
    images: Path | None = None,
    detector: str = "",
    threshold: float | None = None,
    replace: bool = False,
) -> PackedStore:
    """Packs the boxes of a store, with a progress bar.

    Args:
      source: a store that is not packed, see ``open_store``.
      output: the folder to write.
      kind: of ``source``, see ``open_store``.
      images: see ``open_store``.
      detector: what found the boxes, for the manifest.
      threshold: the lowest score that it kept, for the manifest.
      replace: whether a packed store at ``output`` is replaced.

    Returns:
      The store, opened.

    Raises:
      DataError: ``source`` cannot be read or is packed already; ``output`` exists; a score below ``threshold``.
    """
    check_place(output, replace)
    store = open_store(source, kind, images)
    if store.kind == "packed":
        raise DataError(f"{source}: is a packed box store already")
    writer = PackedWriter(
        output,
        source_kind=store.kind,
        source_name=source.resolve().name,
        detector=detector,
        threshold=threshold,
        note=store.note,
        replace=replace,
    )
    with writer, progress(len(store), "pack", "photo") as note:
        for key in store.keys():  # noqa: SIM118  (a store is no mapping)
            writer.add(key, store.read(key), store.photo_size(key) if isinstance(store, SizedStore) else None)
            note(1)
    return PackedStore(output)

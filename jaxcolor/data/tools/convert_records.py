"""A data set that TFDS prepared as TFRecord, as ArrayRecord: the same records in the same order, without TensorFlow."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jaxcolor.data.array_records import Digest, RecordFile, digest_of, read_array_record, sync
from jaxcolor.data.tools.dataset_info import INFO, Preparation, Shard, read_preparation
from jaxcolor.data.tools.tfrecord import read_records
from jaxcolor.data.types import DataError
from jaxcolor.runtime.atomic import atomic_dir, check_space, partial_path

JOURNAL = "conversion.json"
"""Kept with the result: what it was made of, and what is in each file."""
_FORMAT = "jaxcolor conversion"
_PART = ".part"


def convert_records(source: Path, output: Path) -> Preparation:
    """Converts a TFRecord preparation, shard by shard, with a progress bar.

    Every shard is read back and its records' hash compared with that of the source before it gets its name. A run that
    was stopped is gone on with: shards that are whole are read again, compared with what was noted, and kept.

    Args:
      source: the folder with ``dataset_info.json``; it is only read.
      output: the folder to make, which must not exist.

    Returns:
      What was converted.

    Raises:
      DataError: ``source`` cannot be read or is damaged, ``output`` exists, the disk is too small, or the records read
        back are others.
    """
    preparation = read_preparation(source)
    sizes = [(source / shard.source).stat().st_size for shard in preparation.shards]
    with atomic_dir(output, keep=True) as part:
        journal = _Journal(part / JOURNAL, preparation)
        kept = sum(size for shard, size in zip(preparation.shards, sizes, strict=True) if shard.target in journal.made)
        check_space(output.parent, sum(sizes) - kept)
        with _bar(2 * sum(sizes)) as bar:
            for shard, size in zip(preparation.shards, sizes, strict=True):
                noted = journal.made.get(shard.target)
                if noted is None or not _is_whole(part / shard.target, noted, bar.update):
                    journal.note(shard, _convert_shard(source, part, shard, bar.update))
                else:
                    bar.update(size)
        _copy_others(preparation, part)
        # Last of all: TFDS takes a folder with this file for a data set.
        _write(part / INFO, preparation.array_record_info())
    return preparation


def verify_conversion(source: Path, output: Path) -> Preparation:
    """Reads both data sets through and compares counts and hashes of the records of each shard.

    Raises:
      DataError: one cannot be read, or they differ.
    """
    preparation = read_preparation(source)
    if not output.is_dir():
        unfinished = (
            f"; its conversion is not finished ({partial_path(output)})" if partial_path(output).is_dir() else ""
        )
        raise DataError(f"{output}: no such folder{unfinished}")
    try:
        info = json.loads((output / INFO).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{output / INFO}: cannot read this file: {error}") from error
    if info != json.loads(preparation.array_record_info()):
        raise DataError(f"{output / INFO}: does not tell of the data set in {source}")
    with _bar(2 * sum((source / shard.source).stat().st_size for shard in preparation.shards)) as bar:
        for shard in preparation.shards:
            wanted = digest_of(read_records(source / shard.source), bar.update)
            _check_count(source, shard, wanted)
            _compare(output / shard.target, digest_of(read_array_record(output / shard.target), bar.update), wanted)
    return preparation


def is_conversion_of(source: Path, output: Path) -> bool:
    """Whether ``output`` is what ``convert_records`` made of ``source``, by its journal alone."""
    try:
        journal = json.loads((output / JOURNAL).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    wanted = _head(read_preparation(source))
    return isinstance(journal, dict) and {key: journal.get(key) for key in wanted} == wanted


def _convert_shard(source: Path, part: Path, shard: Shard, progress: Callable[[int], object]) -> Digest:
    target = part / shard.target
    unfinished = target.with_name(target.name + _PART)
    with RecordFile(unfinished) as file:
        for record in read_records(source / shard.source):
            file.write(record)
            progress(len(record))
    wanted = file.hash.digest()
    _check_count(source, shard, wanted)
    _compare(unfinished, digest_of(read_array_record(unfinished), progress), wanted)
    unfinished.rename(target)
    sync(part)
    return wanted


def _check_count(source: Path, shard: Shard, found: Digest) -> None:
    if found.records != shard.records:
        raise DataError(
            f"{source / shard.source}: has {found.records} records; by {INFO} it has {shard.records}. Copy the data "
            "set again or prepare it anew"
        )


def _compare(path: Path, found: Digest, wanted: Digest) -> None:
    if found != wanted:
        raise DataError(
            f"{path}: has {found.records} records of SHA-256 {found.sha256[:12]}…, the source has {wanted.records} of "
            f"{wanted.sha256[:12]}…; remove it and convert again"
        )


def _is_whole(path: Path, noted: Digest, progress: Callable[[int], object]) -> bool:
    """Whether a shard of an earlier run is as it was noted; if not, it is made again."""
    try:
        return digest_of(read_array_record(path), progress) == noted
    except DataError:
        return False


def _copy_others(preparation: Preparation, part: Path) -> None:
    """Features, label names and the like; not records that ``dataset_info.json`` does not name."""
    for path in sorted(preparation.path.iterdir()):
        if path.is_file() and path.name not in (INFO, JOURNAL) and "tfrecord" not in path.name:
            shutil.copyfile(path, part / path.name)


def _bar(total: int) -> Any:
    return tqdm(total=total, unit="B", unit_scale=True, dynamic_ncols=True)


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + _PART)
    unfinished.write_text(text, encoding="ascii")
    sync(unfinished)
    os.replace(unfinished, path)


def _head(preparation: Preparation) -> dict[str, Any]:
    return {"format": _FORMAT, "version": 1, "data_set": preparation.name, "info_sha256": preparation.info_sha256}


class _Journal:
    """Which shards are finished, and what is in them."""

    def __init__(self, path: Path, preparation: Preparation) -> None:
        self._path = path
        self._fields: dict[str, Any] = {**_head(preparation), "shards": {}}
        self._sources = {shard.target: _state(preparation.path / shard.source) for shard in preparation.shards}
        self.made: dict[str, Digest] = {}
        self._read()

    def note(self, shard: Shard, digest: Digest) -> None:
        """That a shard has its name now."""
        self.made[shard.target] = digest
        self._fields["shards"][shard.target] = {**digest._asdict(), "source": self._sources[shard.target]}
        _write(self._path, json.dumps(self._fields, indent=2) + "\n")

    def _read(self) -> None:
        """What an earlier run noted; not of shards whose source has changed, nor of another data set."""
        try:
            fields = json.loads(self._path.read_bytes())
            if {key: value for key, value in fields.items() if key != "shards"} != {
                key: value for key, value in self._fields.items() if key != "shards"
            }:
                return
            for name, entry in fields["shards"].items():
                if entry["source"] == self._sources.get(name):
                    self.made[name] = Digest(entry["records"], entry["size"], entry["sha256"])
                    self._fields["shards"][name] = entry
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            # A journal that cannot be read is none: everything is made again.
            self.made.clear()
            self._fields["shards"].clear()


def _state(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "modified_ns": status.st_mtime_ns}

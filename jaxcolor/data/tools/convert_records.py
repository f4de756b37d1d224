"""A data set that TFDS prepared as TFRecord, as ArrayRecord: the same records in the same order.

TFDS's own file adapter reads the TFRecord files, which takes TensorFlow (the extra ``prepare``). TFDS's command
``convert_format`` does not do here: its module imports Apache Beam even where Beam is not used, it takes a shard that
an earlier run left for a whole one, and it compares no count of records with ``dataset_info.json``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxcolor.data.array_records import Digest, RecordFile, digest_of, read_array_record
from jaxcolor.data.sources.tfds import INFO
from jaxcolor.data.tools.prepare import import_tfds, quiet_tensorflow
from jaxcolor.data.types import DataError
from jaxcolor.runtime.atomic import atomic_dir, atomic_write, check_space, partial_path, remove_leftovers
from jaxcolor.runtime.errors import one_line
from jaxcolor.runtime.progress import progress


class Shard(NamedTuple):
    """One file of a TFRecord preparation, and the file that takes its place."""

    split: str
    source: Path
    target: str
    """The name of the ArrayRecord file."""
    records: int
    """How many records it holds by ``dataset_info.json``."""


class Preparation(NamedTuple):
    """A TFRecord preparation."""

    info: Any
    """The contents of ``dataset_info.json``, TFDS's protocol buffer."""
    shards: list[Shard]

    def counts(self) -> dict[str, int]:
        """Records of each split."""
        counts: dict[str, int] = {}
        for shard in self.shards:
            counts[shard.split] = counts.get(shard.split, 0) + shard.records
        return counts


def read_preparation(path: Path) -> Preparation:
    """What is in the folder of a TFRecord preparation; the records are not looked at.

    Raises:
      DataError: the folder or its ``dataset_info.json`` cannot be read, it is no TFRecord preparation, or shards are
        missing.
    """
    from tensorflow_datasets.core import dataset_info

    file = path / INFO
    if not file.is_file():
        raise DataError(f"{file}: no such file{_hint(path)}")
    try:
        info = dataset_info.read_proto_from_builder_dir(path)
        format_ = info.file_format or "tfrecord"  # TFDS before 4.3 says nothing
        info.file_format = format_
        old = dataset_info.get_split_dict_from_proto(info, path, format_)
        new = dataset_info.get_split_dict_from_proto(info, path, "array_record")
    except Exception as error:  # whatever protobuf, JSON and TFDS raise on a damaged file
        raise DataError(f"{file}: cannot read this file: {one_line(error, 200)}") from error
    if format_ == "array_record":
        raise DataError(f"{path}: is ArrayRecord already; nothing to convert")
    if format_ != "tfrecord":
        raise DataError(f"{path}: its file format is {format_!r}; only TFRecord is converted")
    if not old:
        raise DataError(f"{file}: names no splits")
    shards = [shard for name in old for shard in _shards(file, old[name], new[name])]
    missing = [shard.source for shard in shards if not shard.source.is_file()]
    if missing:
        raise DataError(f"{missing[0]}: no such file; {len(missing)} of {len(shards)} shards are missing")
    return Preparation(info, shards)


def _shards(file: Path, old: Any, new: Any) -> Iterator[Shard]:
    """The shards of a split of which TFDS knows the file names before and after."""
    lengths = list(old.shard_lengths)
    if not lengths:
        raise DataError(f"{file}: split {old.name!r} has no 'shardLengths': prepared by a TFDS older than 3, or empty")
    sources, targets = (info.filename_template.sharded_filepaths(len(lengths)) for info in (old, new))
    for source, target, records in zip(map(Path, sources), map(Path, targets), lengths, strict=True):
        if source.parent != file.parent or target.parent != file.parent:
            raise DataError(f"{file}: split {old.name!r}: {source} is not a file of this folder")
        yield Shard(old.name, source, target.name, int(records))


def _hint(path: Path) -> str:
    """The folder below that was perhaps meant: ``imagenet2012/5.1.0`` in place of ``imagenet2012``."""
    for pattern in (f"*/{INFO}", f"*/*/{INFO}"):
        below = sorted(path.glob(pattern))
        if below:
            return f"; there is one in {below[0].parent}"
    return "; SRC is the folder of one version, such as imagenet2012/5.1.0"


def convert_records(source: Path, output: Path) -> Preparation:
    """Converts a TFRecord preparation, shard by shard, with a progress bar.

    Every shard is read back before it gets its name: its records must be those of the source, and as many as
    ``dataset_info.json`` says. A run that was stopped can be resumed: shards that are there are compared with their
    source again, and kept.

    Args:
      source: the folder with ``dataset_info.json``; it is only read.
      output: the folder to make, which must not exist.

    Returns:
      What was converted.

    Raises:
      UserError: ``source`` cannot be read or is damaged, ``output`` exists, the disk is too small, the records read
        back are others, or TensorFlow is not installed.
    """
    with quiet_tensorflow():
        import_tfds("converting")
        preparation = read_preparation(source)
        with atomic_dir(output, keep=True) as part:
            remove_leftovers(part)
            names = {shard.target for shard in preparation.shards}
            for left in part.glob("*array_record*"):
                if left.name not in names:  # of another data set, or not finished
                    left.unlink()
            missing = [shard for shard in preparation.shards if not (part / shard.target).exists()]
            check_space(output.parent, sum(shard.source.stat().st_size for shard in missing))
            with progress(_records(preparation), "convert", "record") as note:
                for shard in preparation.shards:
                    if not _is_converted(shard, part / shard.target):
                        _convert_shard(shard, part / shard.target)
                    note(shard.records)
            _copy_others(source, part)
            # Last of all: TFDS takes a folder with this file for a data set.
            _write_info(preparation.info, part)
    return preparation


def verify_conversion(source: Path, output: Path) -> Preparation:
    """Reads both data sets through and compares the counts and hashes of the records of each shard.

    Raises:
      UserError: one cannot be read, they differ, or TensorFlow is not installed.
    """
    with quiet_tensorflow():
        import_tfds("converting")
        preparation = read_preparation(source)
        if not output.is_dir():
            part = partial_path(output)
            unfinished = f"; its conversion is not finished ({part})" if part.is_dir() else ""
            raise DataError(f"{output}: no such folder{unfinished}")
        with progress(_records(preparation), "verify", "record") as note:
            for shard in preparation.shards:
                _compare(shard, output / shard.target, digest_of(_read_records(shard.source)))
                note(shard.records)
    return preparation


def _convert_shard(shard: Shard, target: Path) -> None:
    with atomic_write(target) as part:
        with RecordFile(part) as file:
            for record in _read_records(shard.source):
                file.write(record)
        _compare(shard, part, file.hash.digest())


def _is_converted(shard: Shard, target: Path) -> bool:
    """Whether a shard of an earlier run is whole and its source has not changed since; if not, it is made again."""
    try:
        return target.exists() and digest_of(read_array_record(target)) == digest_of(_read_records(shard.source))
    except DataError:
        return False


def _compare(shard: Shard, target: Path, wanted: Digest) -> None:
    """Checks that a file holds the records of a shard, whose digest is ``wanted``."""
    if wanted.records != shard.records:
        raise DataError(
            f"{shard.source}: has {wanted.records} records; by {INFO} it has {shard.records}. Copy the data set again "
            "or prepare it anew"
        )
    found = digest_of(read_array_record(target))
    if found != wanted:
        raise DataError(
            f"{target}: has {found.records} records of SHA-256 {found.sha256[:12]}…, the source has {wanted.records} "
            f"of {wanted.sha256[:12]}…; remove it and convert again"
        )


def _read_records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file; TensorFlow compares each with its checksum.

    Raises:
      DataError: the file cannot be read, is compressed, is cut off or damaged.
    """
    import tensorflow as tf
    from tensorflow_datasets.core import file_adapters

    try:
        yield from file_adapters.TfRecordFileAdapter.make_tf_data(str(path)).as_numpy_iterator()
    except tf.errors.OpError as error:
        reason = one_line(error).rpartition("}} ")[2].partition(" [Op:")[0]  # without the names of TensorFlow's ops
        raise DataError(
            f"{path}: damaged, cut off, compressed or no TFRecord file: {reason}; copy the file again or prepare the "
            "data set anew"
        ) from error


def _write_info(info: Any, part: Path) -> None:
    from tensorflow_datasets.core import dataset_info

    info.file_format = "array_record"
    info.ClearField("alternative_file_formats")
    dataset_info.write_dataset_info_proto(info, part)


def _copy_others(source: Path, part: Path) -> None:
    """Features, label names and the like; not records that ``dataset_info.json`` does not name."""
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name != INFO and "tfrecord" not in path.name:
            shutil.copyfile(path, part / path.name)


def _records(preparation: Preparation) -> int:
    return sum(shard.records for shard in preparation.shards)

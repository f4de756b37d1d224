"""What a data set that TFDS prepared says of itself in ``dataset_info.json``, read without TFDS."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from jaxcolor.data.types import DataError

INFO = "dataset_info.json"
_DEFAULT_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_FIELDS = ("DATASET", "SPLIT", "FILEFORMAT", "SHARD_INDEX", "NUM_SHARDS", "SHARD_X_OF_Y")


class Shard(NamedTuple):
    """One file of a TFRecord preparation, and the file that takes its place."""

    split: str
    source: str
    target: str
    records: int
    """How many records it holds by ``dataset_info.json``."""


class Preparation(NamedTuple):
    """A TFRecord preparation."""

    path: Path
    fields: dict[str, Any]
    """The contents of ``dataset_info.json``."""
    info_sha256: str
    """Of that file's bytes."""
    shards: list[Shard]

    @property
    def name(self) -> str:
        """Name and version: ``imagenet2012 5.1.0``."""
        return f"{self.fields['name']} {self.fields.get('version', '')}".strip()

    def counts(self) -> dict[str, int]:
        """Records of each split."""
        counts: dict[str, int] = {}
        for shard in self.shards:
            counts[shard.split] = counts.get(shard.split, 0) + shard.records
        return counts

    def array_record_info(self) -> str:
        """``dataset_info.json`` of the same data set as ArrayRecord."""
        splits = [
            {**split, "filepathTemplate": _array_record_template(_template(split))} for split in self.fields["splits"]
        ]
        fields = {**self.fields, "fileFormat": "array_record", "splits": splits}
        fields.pop("alternativeFileFormats", None)
        return json.dumps(fields, indent=2, ensure_ascii=True) + "\n"


def read_preparation(path: Path) -> Preparation:
    """What is in the folder of a TFRecord preparation; the records are not looked at.

    Raises:
      DataError: the folder or its ``dataset_info.json`` cannot be read, it is no TFRecord preparation, or shards are
        missing.
    """
    file = path / INFO
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot read this file: {error.strerror or error}{_hint(path)}") from error
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: is no JSON: {error}") from error
    if not isinstance(fields, dict) or not _is_name(fields.get("name")):
        raise DataError(f"{file}: is not of a TFDS data set: 'name' is no name")
    format_ = fields.get("fileFormat", "tfrecord")  # TFDS before 4.3 says nothing
    if format_ == "array_record":
        raise DataError(f"{path}: is ArrayRecord already; nothing to convert")
    if format_ != "tfrecord":
        raise DataError(f"{path}: its file format is {format_!r}; only TFRecord is converted")
    shards = _shards(file, fields)
    missing = [shard.source for shard in shards if not (path / shard.source).is_file()]
    if missing:
        raise DataError(f"{path / missing[0]}: no such file; {len(missing)} of {len(shards)} shards are missing")
    return Preparation(path, fields, hashlib.sha256(data).hexdigest(), shards)


def _hint(path: Path) -> str:
    """The folders below that were perhaps meant: ``imagenet2012`` in place of ``imagenet2012/5.1.0``."""
    for pattern in (f"*/{INFO}", f"*/*/{INFO}"):
        below = sorted(path.glob(pattern))
        if below:
            return f"; there is one in {below[0].parent}"
    return "; SRC is the folder of one version, such as imagenet2012/5.1.0"


def _shards(file: Path, fields: dict[str, Any]) -> list[Shard]:
    splits = fields.get("splits")
    if not isinstance(splits, list) or not splits:
        raise DataError(f"{file}: names no splits")
    shards = []
    for split in splits:
        if not isinstance(split, dict) or not _is_name(split.get("name")):
            raise DataError(f"{file}: a split has no name")
        name, lengths = split["name"], split.get("shardLengths")
        where = f"{file}: split {name!r}"
        if not isinstance(lengths, list) or not lengths:
            raise DataError(f"{where} has no 'shardLengths': it was prepared by a TFDS older than 3, or is empty")
        template = _template(split)
        for number, length in enumerate(lengths):
            # Protobuf's JSON has its 64-bit numbers in quotes.
            if not (isinstance(length, str) and length.isdecimal()) and not (type(length) is int and length >= 0):
                raise DataError(f"{where}: shardLengths has {length!r}, which is no count")
            source = _file_name(where, template, fields["name"], name, "tfrecord", number, len(lengths))
            target = _file_name(
                where, _array_record_template(template), fields["name"], name, "array_record", number, len(lengths)
            )
            shards.append(Shard(name, source, target, int(length)))
    for names in ([shard.source for shard in shards], [shard.target for shard in shards]):
        if len(set(names)) < len(names):
            raise DataError(f"{file}: two shards have one file name")
    return shards


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _template(split: dict[str, Any]) -> str:
    return str(split.get("filepathTemplate") or _DEFAULT_TEMPLATE)


def _array_record_template(template: str) -> str:
    return template if "{FILEFORMAT}" in template else template.replace("tfrecord", "array_record")


def _file_name(where: str, template: str, dataset: str, split: str, format_: str, number: int, count: int) -> str:
    digits = max(5, len(str(count)))
    index, total = f"{number:0{digits}d}", f"{count:0{digits}d}"
    name = template
    # Not str.format: a template from elsewhere could reach into objects with it.
    for field, value in zip(_FIELDS, (dataset, split, format_, index, total, f"{index}-of-{total}"), strict=True):
        name = name.replace(f"{{{field}}}", value)
    if "{" in name or "/" in name or "\\" in name or name.startswith(".") or format_ not in name:
        raise DataError(f"{where}: its file names ({template!r}) cannot be understood")
    return name

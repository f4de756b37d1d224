"""Photos of any TFDS data set that was prepared as ArrayRecord, read without TensorFlow."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from jaxcolor.data.array_records import RECORD_ERRORS, open_records
from jaxcolor.data.boxes.base import photo_key
from jaxcolor.data.sources.base import Identity
from jaxcolor.data.types import Boxes, DataError, Encoded, Entry, Names
from jaxcolor.runtime.errors import one_line
from jaxcolor.runtime.regular_file import read_regular

INFO = "dataset_info.json"
"""The file by which TFDS knows a prepared data set."""
_FEATURES = "features.json"
_TRUSTED = "tensorflow_datasets."
"""What the classes in ``features.json`` must begin with: TFDS imports whatever module they name."""
_CLASS_FIELDS = ("pythonClassName", "python_class_name", "type")
"""Fields that name a feature's class; the last one as old versions of TFDS wrote it."""
_FORMAT = "array_record"
_NAME_FEATURES = ("file_name", "image/filename", "filename", "image/file_name")
"""Text features that name the photo, best first: of imagenet2012 and our own data sets, of coco, of others."""


class Features(NamedTuple):
    """Which of a data set's features are read, by their keys in a record."""

    image: str
    name: str | None
    """Text that names the photo; None: the record's number does."""
    detections: tuple[str, str] | None
    """Boxes in pixels, and their scores."""
    truth: str | None
    """Annotated boxes: ymin, xmin, ymax, xmax as shares of the photo's height and width."""
    crowd: str | None
    """Marks annotated boxes that are of crowds, which are left out."""

    def __str__(self) -> str:
        named = f"named by {self.name}" if self.name else "named by their number"
        return f"photos in {self.image}, {named}"


class TfdsSet:
    """The photos of a split of a prepared TFDS data set, in the order of its records.

    TFDS says which records of which files a split or a part of one is. The records themselves are read here: the
    photo's bytes are taken out as they are, and of the other features only name and boxes. That takes less than half
    the time of ``as_data_source`` with ``SkipDecoding`` (34 against 85 µs for a record of 35 KB), which parses all
    features, and is safe after a fork, which TFDS's source is not.

    Boxes that lie in the records: ``boxes`` (N, 4) in pixels and ``scores`` (N,), as in our own ``colorization``, are
    detections; ``objects/bbox``, as in ``coco`` and ``voc``, are annotated boxes, those marked ``is_crowd`` left out.
    """

    def __init__(self, name: str, data_dir: str, split: str) -> None:
        """Reads what TFDS says of the data set; opens no file of records.

        Args:
          name: see ``find_data_set``.
          data_dir: likewise.
          split: a split such as ``validation``, or a part of one, ``train[:1000]``.

        Raises:
          DataError: there is no such data set or split, it is not of ArrayRecord, has no image to read, or the package
            tensorflow_datasets is missing.
        """
        self.path = find_data_set(name, data_dir)
        check_format(self.path)
        builder, shards = _open(self.path, split)
        self.where = f"{self.path} {split}"
        self.features: Features = find_features(str(self.path), builder.info.features)
        self.remarks = str(self.features)
        self.carries_detections = self.features.detections is not None
        self.carries_truth = self.features.truth is not None
        self.name = f"{builder.info.full_name} {split}"
        self._files = [(Path(s.filename), int(s.skip), int(s.take), int(s.examples_in_shard)) for s in shards]
        # For the identity: files are padded to blocks of 64 KiB, so those of other photos can be of the same size.
        used, splits = {path.name for path, _, _, _ in self._files}, builder.info.splits.values()
        self._bytes = [int(s.num_bytes) for s in splits if used & {Path(name).name for name in s.filenames}]
        self._ends = np.cumsum([take for _, _, take, _ in self._files], dtype=np.int64)
        if not len(self):
            raise DataError(f"data.split: {self.where}: has no photos")
        self._keys = None if self.features.name else Names.of(photo_key(number) for number in range(len(self)))
        self._readers: dict[tuple[int, int], Any] = {}

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def keys(self) -> Names | None:
        """None: names are in the records, and a record holds its photo. Unless the numbers are the names."""
        return self._keys

    def entry(self, number: int) -> Entry:
        """The record, its photo not decoded."""
        where, data = self._record(number)
        try:
            return self._parsed(where, number, data)
        except DataError:
            raise
        except Exception as error:  # protobuf's DecodeError; of what class depends on its implementation
            raise DataError(f"{where}: damaged: {one_line(error)}") from error

    def header(self, number: int) -> None:
        """A record is read whole."""
        return None

    def identity(self, *, sizes: bool = True) -> Identity:
        """Of the data set's name and version, the split and its bytes, and the files' names, sizes and counts.

        Raises:
          DataError: a file is missing.
        """
        digest = hashlib.blake2b(f"{self.name} {self._bytes};".encode(), digest_size=16)
        for path, skip, take, count in self._files:
            try:
                size = path.stat().st_size
            except OSError as error:
                raise DataError(f"{path}: cannot read this file: {error.strerror or error}") from error
            digest.update(f"{path.name} {size} {skip} {take} {count};".encode())
        return Identity("tfds", self.where, len(self), digest.hexdigest())

    def state(self, numbers: range) -> str:
        """Empty: ``identity`` covers everything."""
        return ""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": {}}

    def _parsed(self, where: str, number: int, data: bytes) -> Entry:
        from tensorflow_datasets.proto import tf_example_pb2

        record = tf_example_pb2.Example.FromString(data).features.feature
        wanted = self.features
        images = record[wanted.image].bytes_list.value
        if len(images) != 1:
            raise DataError(f"{where}: holds {len(images)} photos in {wanted.image}; it must be one")
        file_name = name = photo_key(number)
        if wanted.name:
            texts = record[wanted.name].bytes_list.value
            file_name = PurePosixPath(texts[0].decode("utf-8", "surrogateescape")).name if len(texts) == 1 else ""
            name = photo_key(file_name)
            if not name:
                raise DataError(f"{where}: its {wanted.name} is no name")
        detections = None
        if wanted.detections:
            boxes, scores = (np.array(record[key].float_list.value, np.float32) for key in wanted.detections)
            if len(boxes) != 4 * len(scores):
                raise DataError(f"{where} ({name}): {len(boxes)} corners of boxes for {len(scores)} scores")
            detections = Boxes(boxes.reshape(-1, 4), scores)
        truth = None
        if wanted.truth:
            # ymin, xmin, ymax, xmax
            flat = np.array(record[wanted.truth].float_list.value, np.float32)
            if len(flat) % 4:
                raise DataError(f"{where} ({name}): {len(flat)} numbers in {wanted.truth} are no boxes")
            truth = flat.reshape(-1, 4)[:, [1, 0, 3, 2]]
            if wanted.crowd:
                crowd = np.array(record[wanted.crowd].int64_list.value, bool)
                if len(crowd) != len(truth):
                    raise DataError(f"{where} ({name}): {len(crowd)} of {wanted.crowd} for {len(truth)} boxes")
                truth = truth[~crowd]
        return Entry(name, Encoded(f"{where} ({name})", images[0]), file_name, detections, truth)

    def _record(self, number: int) -> tuple[str, bytes]:
        """A record, and the words that name it in a message."""
        shard = int(np.searchsorted(self._ends, number, side="right"))
        if not 0 <= number < len(self):
            raise IndexError(f"record {number} of {len(self)} in {self.where}")
        path, skip, take, _ = self._files[shard]
        place = skip + number - int(self._ends[shard]) + take
        where = f"{path}: record {place}"
        try:
            (data,) = self._reader(shard).read(place, place + 1)
        except RECORD_ERRORS as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{where}: damaged: {one_line(error)}") from error
        return where, data

    def _reader(self, shard: int) -> Any:
        # By process: a forked child must not use its parent's readers. No lock, which a fork could leave locked: two
        # threads may both open a file, then one of the readers is used by both.
        key = os.getpid(), shard
        reader = self._readers.get(key)
        return reader if reader is not None else self._readers.setdefault(key, self._open_shard(shard))

    def _open_shard(self, shard: int) -> Any:
        path, _, _, count = self._files[shard]
        if not path.is_file():
            raise DataError(f"{path}: no such file of records")
        try:
            reader = open_records(path)
            if reader.num_records() != count:
                raise RuntimeError(f"it has {reader.num_records()} records where {count} were prepared")
        except RECORD_ERRORS as error:
            raise DataError(f"{path}: cannot read this file of records: {one_line(error)}") from error
        return reader


def _open(path: Path, split: str) -> tuple[Any, list[Any]]:
    """TFDS's builder of a folder, and which records of which files are in a split."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            f"data.source 'tfds' needs the package tensorflow_datasets: pip install tensorflow-datasets ({error})"
        ) from error
    _check_classes(path / _FEATURES)
    try:
        builder = tfds.builder_from_directory(str(path), file_format="array_record")
    except Exception as error:  # whatever protobuf, JSON and TFDS raise on a damaged folder
        raise DataError(f"{path}: cannot read this data set: {one_line(error, 200)}") from error
    splits = builder.info.splits
    try:
        return builder, list(splits[split].file_instructions)
    except Exception as error:  # ValueError, AssertionError, re.error: TFDS parses the text
        has = ", ".join(f"{name} ({info.num_examples:,})" for name, info in splits.items()) or "none"
        raise DataError(f"data.split: {split!r} is no split of {path}, nor part of one; it has {has}") from error


def _check_classes(path: Path) -> None:
    """Checks that a data set names no code but TFDS's own, before TFDS imports it.

    Raises:
      DataError: it names a class of another package, or cannot be read.
    """
    try:
        for name in _class_names(json.loads(read_regular(path))):
            if not name.startswith(_TRUSTED):
                raise DataError(
                    f"{path}: names the class {name!r}; only names below {_TRUSTED} are accepted, since others would "
                    "run code of the data set's choice"
                )
    except DataError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot read this file: {one_line(error)}") from error


def _class_names(value: Any) -> Iterator[str]:
    """Every class that a feature's JSON names, at any depth, in JSON that is kept as a text too."""
    if isinstance(value, list):
        for part in value:
            yield from _class_names(part)
    elif isinstance(value, dict):
        for key, part in value.items():
            if isinstance(part, str):
                if key in _CLASS_FIELDS and "." in part:  # without a dot there is no module to import
                    yield part
                elif key == "json":
                    yield from _class_names(json.loads(part))
            else:
                yield from _class_names(part)


def find_data_set(name: str, data_dir: str) -> Path:
    """The folder of a prepared data set.

    Args:
      name: a folder with ``dataset_info.json``; or the data set's name as TFDS has it, ``name``, ``name/config``, each
        with or without ``:version``. Without a version the newest that is there is taken.
      data_dir: where data sets were prepared; empty: ``$TFDS_DATA_DIR``, or else ``~/tensorflow_datasets``.

    Raises:
      DataError: there is none, or it has several configs and none was named; says what there is.
    """
    if not name:
        raise DataError("data.path is empty: it must name a TFDS data set, or the folder of one")
    if (Path(name) / INFO).is_file():
        return Path(name)
    try:
        root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    except RuntimeError as error:
        raise DataError("data.data_dir: there is no home folder here; say where data sets were prepared") from error
    place, _, version = name.partition(":")
    base = root / place
    if Path(name).is_absolute() or ".." in Path(place).parts:
        raise DataError(f"data.path: {name}: no folder with {INFO}")
    found = {str(path.relative_to(base)): path for path in sorted(_prepared(base))}
    wanted = {where: path for where, path in found.items() if not version or path.name == version}
    if not wanted:
        has = f"; there is {', '.join(found)}" if found else f"; {root} has {', '.join(_names(root)) or 'nothing'}"
        raise DataError(
            f"data.path: {name}: no such data set in {root} (data.data_dir){has}. Prepare it with "
            "jaxcolor data prepare or with TFDS"
        )
    configs = sorted({str(path.parent.relative_to(root)) for path in wanted.values()})
    if len(configs) > 1:
        raise DataError(f"data.path: {name}: has several configs; name one: {', '.join(configs)}")
    return max(wanted.values(), key=lambda path: _version(path.name))


def _prepared(base: Path) -> Iterator[Path]:
    """Versions below a data set's folder or below that of one of its configs."""
    for pattern in (f"*/{INFO}", f"*/*/{INFO}"):
        yield from (info.parent for info in base.glob(pattern) if "incomplete" not in info.parent.name)


def _names(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.is_dir() and p.name != "downloads") if root.is_dir() else []


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in name.split("."))


def check_format(folder: Path) -> None:
    """Checks that a data set's records can be read at random.

    Raises:
      DataError: its information cannot be read, or it is not of ArrayRecord; says what to do.
    """
    path = folder / INFO
    try:
        info = json.loads(read_regular(path))
        formats = [info.get("fileFormat", "tfrecord"), *info.get("alternativeFileFormats", [])]
    except (OSError, ValueError, RecursionError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: cannot read this file: {one_line(error)}") from error
    if _FORMAT not in formats:
        raise DataError(
            f"{folder}: prepared as {formats[0]}, whose records cannot be read in any order; convert it with "
            f"jaxcolor data convert {folder} DST"
        )


def find_features(where: str, features: Any) -> Features:
    """What to read of a record.

    Args:
      where: names the data set in messages.
      features: its TFDS features, a ``FeaturesDict``.

    Raises:
      DataError: there is no image or there are several of which none is called ``image``; or the image is of a type
        that no photo has.
    """
    import tensorflow_datasets as tfds

    flat = dict(_flat(tfds, features))
    images = [key for key, f in flat.items() if isinstance(f, tfds.features.Image) and not _is_mask(tfds, f)]
    if not images:
        raise DataError(f"{where}: has no image among its features {', '.join(flat)}")
    if len(images) > 1 and "image" not in images:
        raise DataError(f"{where}: has several images, {', '.join(sorted(images))}, and none of them is called image")
    image = "image" if "image" in images else images[0]
    if flat[image].np_dtype not in (np.uint8, np.uint16):
        raise DataError(f"{where}: its {image} is of {np.dtype(flat[image].np_dtype)}, which no photo is")
    texts = [key for key, f in flat.items() if isinstance(f, tfds.features.Text)]
    # A caption is a text too; photos are known by what is called a name.
    names = [key for key in (*_NAME_FEATURES, *(key for key in texts if "name" in key.lower())) if key in texts]
    has_boxes = _is_tensor(flat.get("boxes"), (None, 4)) and _is_tensor(flat.get("scores"), (None,))
    objects = dict(features.items()).get("objects")
    within = objects.feature if isinstance(objects, tfds.features.Sequence) else {}
    annotated = "bbox" in within and isinstance(within["bbox"], tfds.features.BBoxFeature)
    return Features(
        image,
        names[0] if names else None,
        ("boxes", "scores") if has_boxes else None,
        "objects/bbox" if annotated else None,
        "objects/is_crowd" if annotated and "is_crowd" in within else None,
    )


def _flat(tfds: Any, features: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Features by the keys they have in a record; not what is inside of sequences."""
    for key, feature in features.items():
        if isinstance(feature, tfds.features.FeaturesDict):
            yield from _flat(tfds, feature, f"{prefix}{key}/")
        else:
            yield prefix + key, feature


def _is_mask(tfds: Any, feature: Any) -> bool:
    return isinstance(feature, tfds.features.LabeledImage)


def _is_tensor(feature: Any, shape: tuple[int | None, ...]) -> bool:
    return feature is not None and feature.shape == shape and feature.np_dtype == np.float32

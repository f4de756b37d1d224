"""The data set ``colorization``: a photo, its boxes and their scores in one record, made and read without TensorFlow.

``Colorization`` is a builder as TFDS knows them. TFDS's own writer shuffles, and needs TensorFlow for splits above
1000 MiB; ``write_data_set`` writes the same records with TFDS's serializer, in the order in which they come, to splits
of any size. Training reads them in an order of its own, so nothing is lost.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from jaxcolor.data.array_records import RecordFile
from jaxcolor.data.boxes.base import photo_key
from jaxcolor.data.boxes.npz import Boxes
from jaxcolor.data.types import DataError
from jaxcolor.runtime.atomic import atomic_dir

SHARD_BYTES = 512 << 20
"""A shard is closed when it holds this much."""
_NAME = "colorization"
_FORMAT = "array_record"
_DESCRIPTION = (
    "Photos with the boxes of objects on them, for instance-aware colorization. 'image' is the photo's file as it was "
    "(JPEG or PNG); 'boxes' are x0, y0, x1, y1 in pixels of the photo as a viewer shows it, after its EXIF orientation."
)


class PackedPhoto(NamedTuple):
    """What a record holds."""

    name: str
    """The photo's file name; its stem is the key of its boxes."""
    data: bytes
    """The contents of the photo's file."""
    boxes: Boxes


class Colorization(tfds.core.GeneratorBasedBuilder):
    """Photos, boxes and scores in one record."""

    name = _NAME
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}  # noqa: RUF012  (TFDS's own form)

    def __init__(self, photos: Callable[[], Iterable[PackedPhoto]] = tuple, split: str = "train", **settings: Any):
        """A builder of one split.

        Args:
          photos: called when the split is made; for splits above 1000 MiB without TensorFlow see ``write_data_set``.
          split: its name.
          **settings: see ``tfds.core.DatasetBuilder``.
        """
        self._photos = photos
        self._split = split
        super().__init__(**settings)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "file_name": tfds.features.Text(),
                    # No encoding_format: JPEG and PNG may stand side by side, each as it was.
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
                    "scores": tfds.features.Tensor(shape=(None,), dtype=np.float32),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: object) -> dict[str, Any]:
        return {self._split: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, photo in enumerate(self._photos()):
            yield number, _example(photo)


def _example(photo: PackedPhoto) -> dict[str, Any]:
    return {
        "file_name": photo.name,
        "image": io.BytesIO(photo.data),
        "boxes": photo.boxes.boxes,
        "scores": photo.boxes.scores,
    }


class Written(NamedTuple):
    """What ``write_data_set`` wrote."""

    path: Path
    photos: int
    boxes: int
    size: int
    """Bytes of all records."""
    shards: int


def write_data_set(
    photos: Iterable[PackedPhoto], output: Path, *, name: str = _NAME, split: str = "train", shard: int = SHARD_BYTES
) -> Written:
    """Writes one split, photo by photo, in constant memory apart from the names.

    The folder appears under its name when it is whole; when an error or Ctrl-C ends the run nothing remains, and what a
    killed run left is removed by the next one.

    Args:
      photos: each name's stem once.
      output: the folder to make; ``tfds.builder_from_directory`` and ``data.path`` take it.
      name: of the data set: lower-case letters, digits and ``_``.
      split: its name, of the same characters.
      shard: bytes after which a file is full.

    Raises:
      DataError: ``output`` exists or cannot be written, a name is not of these characters, there is no photo, or two
        have one stem.
    """
    check_names(name, split)
    with atomic_dir(output, keep=False) as part:
        builder = Colorization(data_dir=str(part), file_format=_FORMAT)
        lengths, size, boxes = _write_shards(photos, part, builder.info.features, shard)
        if not lengths:
            raise DataError(f"{output}: no photo to write")
        template = tfds.core.ShardedFileTemplate(data_dir=part, dataset_name=name, split=split, filetype_suffix=_FORMAT)
        for number, target in enumerate(template.sharded_filepaths(len(lengths))):
            _shard_path(part, number).rename(part / target.name)
        _write_info(builder, part, name, split, lengths, size, template)
    return Written(output, sum(lengths), boxes, size, len(lengths))


def check_names(name: str, split: str) -> None:
    """Whether TFDS can have a data set and a split of these names.

    Raises:
      DataError: it cannot.
    """
    for what, text in (("name", name), ("output-split", split)):
        if not (text.isascii() and text.isidentifier() and text == text.lower()):
            raise DataError(f"--{what} {text!r}: must be lower-case letters, digits and _, beginning with a letter")


def _shard_path(part: Path, number: int) -> Path:
    # How many there will be, which is part of a shard's name, is not known yet.
    return part / f"shard-{number:05d}"


def _write_shards(photos: Iterable[PackedPhoto], part: Path, features: Any, full: int) -> tuple[list[int], int, int]:
    """Photos of each shard, bytes of all records, boxes."""
    serializer = tfds.core.example_serializer.ExampleSerializer(features.get_serialized_info())
    lengths: list[int] = []
    size = boxes = 0
    rest = _each_once(photos)
    photo = next(rest, None)
    while photo is not None:
        with RecordFile(_shard_path(part, len(lengths))) as file:
            while photo is not None and file.hash.size < full:
                boxes += len(photo.boxes.boxes)
                file.write(serializer.serialize_example(features.encode_example(_example(photo))))
                photo = next(rest, None)
        digest = file.hash.digest()
        lengths.append(digest.records)
        size += digest.size
    return lengths, size, boxes


def _each_once(photos: Iterable[PackedPhoto]) -> Iterator[PackedPhoto]:
    seen: set[str] = set()
    for photo in photos:
        key = photo_key(photo.name)
        if key in seen:
            raise DataError(
                f"{photo.name}: there are two photos of the name {key}; boxes and results would be mixed up"
            )
        seen.add(key)
        yield photo


def _write_info(builder: Any, part: Path, name: str, split: str, lengths: list[int], size: int, template: Any) -> None:
    identity = tfds.core.dataset_info.DatasetIdentity.from_builder(builder)
    identity.name = name
    identity.data_dir = str(part)
    info = tfds.core.DatasetInfo(
        builder=identity, description=_DESCRIPTION, features=builder.info.features, disable_shuffling=True
    )
    info.set_file_format(_FORMAT)
    entry = tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=size, filename_template=template)
    info.set_splits(tfds.core.SplitDict([entry]))
    info.write_to_directory(part)

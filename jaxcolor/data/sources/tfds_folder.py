"""Finding a prepared TFDS data set on disk, and what its features mean here. No TensorFlow, no reading of records."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcolor.data.tools.dataset_info import INFO
from jaxcolor.data.types import DataError
from jaxcolor.runtime.errors import one_line

_FORMAT = "array_record"
_NAME_FEATURES = ("file_name", "image/filename", "filename", "image/file_name")
"""Text features that name the photo, best first: of imagenet2012 and our own data sets, of coco, of others."""


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
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
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
    """Whether a data set's records can be read at random.

    Raises:
      DataError: its information cannot be read, or it is not of ArrayRecord; says what to do.
    """
    path = folder / INFO
    try:
        info = json.loads(path.read_bytes())
        formats = [info.get("fileFormat", "tfrecord"), *info.get("alternativeFileFormats", [])]
    except (OSError, ValueError, RecursionError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: cannot read this file: {one_line(error)}") from error
    if _FORMAT not in formats:
        raise DataError(
            f"{folder}: prepared as {formats[0]}, whose records cannot be read in any order; convert it with "
            f"jaxcolor data convert {folder} DST"
        )


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
    """Features by the keys they have in a record; what is inside of sequences is not gone into."""
    for key, feature in features.items():
        if isinstance(feature, tfds.features.FeaturesDict):
            yield from _flat(tfds, feature, f"{prefix}{key}/")
        else:
            yield prefix + key, feature


def _is_mask(tfds: Any, feature: Any) -> bool:
    return isinstance(feature, tfds.features.LabeledImage)


def _is_tensor(feature: Any, shape: tuple[int | None, ...]) -> bool:
    return feature is not None and feature.shape == shape and feature.np_dtype == np.float32

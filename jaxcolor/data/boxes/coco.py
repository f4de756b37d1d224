"""Boxes from COCO's two JSON formats: detection results, and instances (annotated boxes).

A path may continue inside a zip file: ``annotations_trainval2017.zip/annotations/instances_val2017.json``.

Both give a box as x, y, width, height with the origin at the corner of the photo's first pixel, so x1 = x + width is
exclusive as ours is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int

from jaxcolor.data.archive import read_bytes
from jaxcolor.data.boxes.base import MissingBoxesError, photo_key
from jaxcolor.data.boxes.masks import Masks, Polygons, RunLengths, draw, parse_segmentation
from jaxcolor.data.types import Boxes, DataError

ImageId = int | str
"""COCO's own ids are integers; other data sets in its format use file names."""

_LARGEST_SIDE = 1 << 24
_LARGEST = float(np.finfo(np.float32).max)


class TableStore:
    """The boxes of all photos in memory, one after another; for what comes in a single file."""

    def __init__(
        self,
        path: Path,
        kind: str,
        keys: Sequence[str],
        owners: Int[np.ndarray, " N"],
        boxes: Float32[np.ndarray, "N 4"],
        scores: Float32[np.ndarray, " N"],
        note: str = "",
        by_id: bool = False,
        sizes: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """Sorts the boxes by photo; those of one photo keep their order.

        Args:
          path: the file that they were read from.
          kind: of that file.
          keys: the photos, each once.
          owners: of each box, the number of its photo in ``keys``.
          boxes: x0, y0, x1, y1 in pixels.
          scores: of the boxes.
          note: see ``BoxStore``.
          by_id: whether ``keys`` were made of COCO's ids, and a photo's name may have another number of zeros.
          sizes: width and height of photos by key, of those where the file says them.
        """
        self._sizes = sizes or {}
        self._by_id = by_id
        order = np.argsort(owners, kind="stable")
        self.path = path
        self.kind = kind
        self.note = note
        self._numbers = {key: number for number, key in enumerate(keys)}
        self._boxes = boxes[order]
        self._scores = scores[order]
        self._order = order
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(keys)))])

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._number(key) is not None

    def keys(self) -> Iterator[str]:
        """The photos, sorted."""
        return iter(sorted(self._numbers))

    def read(self, key: str) -> Boxes:
        """The photo's boxes."""
        rows = self._rows(key)
        if rows is None:
            raise MissingBoxesError(self.absent(key))
        return Boxes(self._boxes[rows], self._scores[rows])

    def _rows(self, key: str) -> slice | None:
        """Where the photo's boxes are."""
        number = self._number(key)
        return None if number is None else slice(int(self._starts[number]), int(self._starts[number + 1]))

    def _number(self, key: str) -> int | None:
        """The photo's number; the photo of id 1 may be called 0001 as well as 000000000001."""
        number = self._numbers.get(key)
        if number is None and self._by_id and key.isascii() and key.isdigit() and len(key) < 20:
            return self._numbers.get(photo_key(int(key)))
        return number

    def photo_size(self, key: str) -> tuple[int, int] | None:
        """See ``SizedStore``."""
        return self._sizes.get(key)

    def absent(self, key: str) -> str:
        """Names the file and the photo."""
        return f"{self.path}: no boxes for photo {key}"


class MaskedTable(TableStore):
    """A table whose boxes have masks."""

    def __init__(
        self,
        path: Path,
        kind: str,
        keys: Sequence[str],
        owners: Int[np.ndarray, " N"],
        boxes: Float32[np.ndarray, "N 4"],
        scores: Float32[np.ndarray, " N"],
        note: str,
        masks: Masks,
        sizes: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """As ``TableStore``; ``masks`` in the order of the boxes given."""
        super().__init__(path, kind, keys, owners, boxes, scores, note, sizes=sizes)
        self._masks = masks

    def masks_digest(self) -> str:
        """A hash of all masks."""
        return self._masks.digest()

    def masks(self, key: str, size: tuple[int, int]) -> list[Bool[np.ndarray, "H W"]]:
        """See ``MaskedStore``."""
        rows = self._rows(key)
        found = () if rows is None else (self._masks[number] for number in self._order[rows].tolist())
        try:
            return [draw(mask, size) for mask in found]
        except ValueError as error:
            raise DataError(f"{self.path}: photo {key}: {error}") from error


def read_detections(path: Path, images: Path | None = None) -> TableStore:
    """A detection-results file: a list of ``image_id``, ``bbox``, ``score`` (categories and masks are not read).

    Such a file does not say in which photos nothing was found. With ``images`` those have an entry without boxes;
    otherwise they have none.

    Args:
      path: the JSON file.
      images: a JSON file whose ``images`` give each id its ``file_name`` (instances, or image info). None: an id names
        its photo by COCO's rule, the id in 12 digits; an id that is a string is the file's name.

    Raises:
      DataError: no such file, no JSON, or something in it that the format does not allow; names the entry.
    """
    entries = _load(path)
    if not isinstance(entries, list):
        raise DataError(f"{path}: not COCO detection results: they are a list, this is {_kind(entries)}")
    listed = [] if images is None else _group(images, _load(images), "images")
    keys = {} if images is None else _image_keys(images, listed)
    sizes = _image_sizes(keys, listed)
    boxes, scores, owners = [], [], []
    numbers: dict[ImageId, int] = {image: number for number, image in enumerate(keys)}
    for where, entry in _named(path, "entry", entries):
        image = _image_id(where, entry, "image_id")
        if image not in keys:
            if images is not None:
                raise DataError(f"{where}: image_id {image!r} is not among the images of {images}")
            numbers[image] = len(numbers)
            keys[image] = photo_key(image)
        owners.append(numbers[image])
        boxes.append(_corners(where, entry))
        scores.append(_number(where, entry, "score"))
    _refuse_shared_keys(path, keys)
    return TableStore(
        path,
        "coco_detections",
        tuple(keys.values()),
        np.array(owners, np.int64),
        _boxes_array(boxes),
        np.array(scores, np.float32),
        by_id=images is None,
        sizes=sizes,
    )


def read_instances(path: Path, masks: bool = False) -> TableStore:
    """An instances file: annotated boxes, each with score 1; those of crowds are left out and counted in ``note``.

    Every image in it has an entry, if only without boxes.

    Args:
      path: the JSON file, with ``images`` (``id``, ``file_name``) and ``annotations`` (``id``, ``image_id``, ``bbox``,
        ``iscrowd``, 0 where it is absent).
      masks: read ``segmentation`` too, which every annotation but those of crowds must then have; the table is a
        ``MaskedTable``.

    Raises:
      DataError: no such file, no JSON, or something in it that the format does not allow; names the entry.
    """
    content = _load(path)
    listed = _group(path, content, "images")
    keys = _image_keys(path, listed)
    sizes = _image_sizes(keys, listed)
    numbers = {image: number for number, image in enumerate(keys)}
    boxes, owners, crowds = [], [], 0
    found: list[Polygons | RunLengths] = []
    seen: set[ImageId] = set()
    annotations = _group(path, content, "annotations")
    if annotations and isinstance(annotations[0], dict) and "segments_info" in annotations[0]:
        raise DataError(
            f"{path}: COCO's panoptic annotations, which are not read; boxes of the same photos are in its instances "
            "file (instances_val2017.json beside panoptic_val2017.json)"
        )
    for where, entry in _named(path, "annotation", annotations):
        own = _image_id(where, entry, "id")
        if own in seen:
            raise DataError(f"{where}: its id {own!r} is that of an annotation before it")
        seen.add(own)
        image = _image_id(where, entry, "image_id")
        if image not in numbers:
            raise DataError(f"{where}: image_id {image!r} is not among the images")
        box = _corners(where, entry)
        crowd = entry.get("iscrowd", 0)
        if isinstance(crowd, float) or crowd not in (0, 1):  # True and False are written by some tools
            raise DataError(f"{where}: 'iscrowd' is {_short(crowd)}; it must be 0 or 1")
        if crowd:
            crowds += 1
            continue
        owners.append(numbers[image])
        boxes.append(box)
        if masks:
            found.append(parse_segmentation(where, entry.get("segmentation")))
    note = f"{crowds} of {crowds + len(boxes)} annotations are of crowds: left out" if crowds else ""
    names, owned, scores = tuple(keys.values()), np.array(owners, np.int64), np.ones(len(boxes), np.float32)
    if masks:
        return MaskedTable(path, "coco_instances", names, owned, _boxes_array(boxes), scores, note, Masks(found), sizes)
    return TableStore(path, "coco_instances", names, owned, _boxes_array(boxes), scores, note, sizes=sizes)


def _load(path: Path) -> Any:
    data = read_bytes(path)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot read this JSON file: {' '.join(str(error).split())}") from error


def _group(path: Path, content: Any, field: str) -> list[Any]:
    if not isinstance(content, dict):
        raise DataError(f"{path}: not COCO annotations: they are an object with {field!r}, this is {_kind(content)}")
    if field not in content:
        raise DataError(f"{path}: no {field!r} in it; it has {', '.join(map(repr, list(content)[:8])) or 'nothing'}")
    if not isinstance(content[field], list):
        raise DataError(f"{path}: {field!r} is {_kind(content[field])}; it must be a list")
    return content[field]


def _named(path: Path, what: str, entries: Sequence[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each entry with the words that name it in a message."""
    for number, entry in enumerate(entries):
        where = f"{path}: {what} {number}"
        if not isinstance(entry, dict):
            raise DataError(f"{where}: {_kind(entry)}; it must be an object")
        yield where, entry


def _image_keys(path: Path, images: Sequence[Any]) -> dict[ImageId, str]:
    keys: dict[ImageId, str] = {}
    for where, entry in _named(path, "image", images):
        image = _image_id(where, entry, "id")
        if image in keys:
            raise DataError(f"{where}: its id {image!r} is that of an image before it")
        name = entry.get("file_name", entry.get("coco_url"))  # LVIS names its photos by where they are on the web
        if not isinstance(name, str) or not photo_key(name):
            raise DataError(f"{where}: 'file_name' is {_short(name)}; it must name a file")
        keys[image] = photo_key(name)
    _refuse_shared_keys(path, keys)
    return keys


def _image_sizes(keys: Mapping[ImageId, str], images: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Width and height by key, where both are given: the format wants them, some tools write 0 or leave them out."""
    sizes = {}
    for entry in images:
        width, height = (entry.get(field) for field in ("width", "height"))
        if not isinstance(width, (int, float)) or not isinstance(height, (int, float)):
            continue
        if 1 <= width <= _LARGEST_SIDE and 1 <= height <= _LARGEST_SIDE:  # neither is NaN
            sizes[keys[entry["id"]]] = (int(width), int(height))
    return sizes


def _refuse_shared_keys(path: Path, keys: Mapping[ImageId, str]) -> None:
    owners: dict[str, ImageId] = {}
    for image, key in keys.items():
        if key in owners:
            raise DataError(f"{path}: images {owners[key]!r} and {image!r} are both called {key}; rename one")
        owners[key] = image


def _image_id(where: str, entry: Mapping[str, Any], field: str) -> ImageId:
    value = entry.get(field)
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if whole or (isinstance(value, str) and photo_key(value)):
        return value  # type: ignore[return-value]
    raise DataError(f"{where}: {field!r} is {_short(value)}; it must be a whole number, or a text")


def _corners(where: str, entry: Mapping[str, Any]) -> tuple[float, float, float, float]:
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise DataError(f"{where}: 'bbox' is {_short(box)}; it must be four finite numbers x, y, width, height")
    x, y, width, height = map(float, box)
    return x, y, x + width, y + height


def _number(where: str, entry: Mapping[str, Any], field: str) -> float:
    value = entry.get(field)
    if not _is_number(value):
        raise DataError(f"{where}: {field!r} is {_short(value)}; it must be a finite number")
    return float(value)  # type: ignore[arg-type]


def _is_number(value: Any) -> bool:
    # Compared, not math.isfinite: that raises on integers beyond all floats.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


def _boxes_array(boxes: Sequence[tuple[float, float, float, float]]) -> Float32[np.ndarray, "N 4"]:
    with np.errstate(over="ignore"):  # x + width too big for float32 becomes infinite and is dropped with its box
        return np.array(boxes, np.float64).reshape(-1, 4).astype(np.float32)


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a text", type(None): "null"}.get(type(value), f"{_short(value)}")


def _short(value: Any) -> str:
    if value is None:
        return "absent or null"
    if isinstance(value, int) and abs(value) > sys.maxsize:
        return "a number beyond all sizes"  # str() refuses integers of thousands of digits
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"

"""Color hints of a person: points of a photo whose color is known, on the canvas, in the crops, and in a hints file.

A hint is placed in pixels of the upright photo with the origin at the corner of the first pixel, as boxes are: a point
with 3 <= x < 4 lies in the fourth column. Every grid (the canvas, each crop) is painted from those coordinates, never
from another grid, so that a hint is as sharp in an enlarged crop as in the photo. NumPy on the host; simulated hints
for training are made on the device (``jaxcolor.models.hint_simulation``).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Num

from jaxcolor import color
from jaxcolor.batch import Array
from jaxcolor.boxes import clean_boxes
from jaxcolor.runtime.errors import UserError

HintMask = Literal["reference", "siggraph17"]
"""Which numbers the mask channel holds: the reference's -0.5 and +0.5, or siggraph17's 0 and 1."""

EMPTY_MASK: Mapping[HintMask, float] = {"reference": -0.5, "siggraph17": 0.0}
"""The mask channel where there is no hint; 1 more where there is one."""

RADIUS_SHARE = 0.01
"""Radius of a hint without one, as a share of the photo's longer side: 5 pixels across on a canvas of 256."""

OBJECT_SHARE = 0.125
"""Limit of that radius for a hint on an object, as a share of its box's shorter side."""

_OBJECT_POINTS = np.array([[0.5, 0.5], [0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]])
"""Where a hint on an object is put in its box, x and y in shares of its sides. No corners: they are seldom object."""

MAX_FILE_BYTES = 16 << 20
MAX_HINTS_PER_PHOTO = 1000

_HEX_COLOR = re.compile(r"#[0-9a-fA-F]{6}")

Real = float | int | np.number


class HintError(UserError):
    """Hints that cannot be used; one line that names the photo and the hint's number, from 0."""


class Hints(NamedTuple):
    """Hints on a pixel grid."""

    ab: Float[Array, "*batch H W 2"]
    """Normalized ab (ab* / 110) of the hint; 0 where there is none."""
    mask: Bool[Array, "*batch H W 1"]
    """Where there is one."""


class BatchHints(NamedTuple):
    """Hints on the photos and on the crops of a batch."""

    full: Hints
    """(B, S, S)."""
    crop: Hints
    """(M, S, S)."""
    smaller: tuple[Hints, ...] = ()
    """As ``Batch.smaller_crops``."""


def network_hint_channels(hints: Hints, convention: HintMask) -> Float[Array, "*batch H W 3"]:
    """Input channels 1 to 3 of the networks: hint a, hint b, and the mask in the numbers of the convention.

    Zero padding at the borders of the picture means "half a hint" in the reference's numbers and "no hint" in
    siggraph17's, so no change of kernel and bias turns weights of one convention into exact ones of the other: weights
    go with the convention that they were trained in. Takes JAX or NumPy arrays, and keeps the type of ``hints.ab``.
    """
    xp: Any = hints.ab.__array_namespace__()
    mask = hints.mask.astype(hints.ab.dtype) + EMPTY_MASK[convention]
    return xp.concat([xp.where(hints.mask, hints.ab, 0), mask], axis=-1)


@dataclasses.dataclass(frozen=True)
class Hint:
    """The color of a point of a photo, or of one of its objects (``Hint.on_object``).

    What is wrong with it shows when it is placed in a photo (``place_hints``).
    """

    x: Real | None
    """In pixels of the upright photo, 0 <= x < width; None with ``object``."""
    y: Real | None
    rgb: Any
    """SRGB: three whole numbers 0 to 255, or a text ``#rrggbb``. Only its hue and chroma count: L* is the photo's."""
    radius: Real | None = None
    """In pixels of the photo, above 0: pixels whose center lies no farther from the point have the color, and always
    that in which it lies. None: ``RADIUS_SHARE`` of the photo's longer side."""
    object: int | np.integer | None = None
    """Row, from 0, of the photo's boxes, in place of ``x`` and ``y``: five points in its inner half."""

    @classmethod
    def on_object(cls, number: int, rgb: Any, radius: Real | None = None) -> Hint:
        """The color of the object in row ``number`` of the photo's boxes."""
        return cls(None, None, rgb, radius, number)


class PlacedHints(NamedTuple):
    """Checked points of one photo; later ones lie over earlier ones."""

    xy: Float64[np.ndarray, "N 2"]
    """Pixels of the photo."""
    radius: Float64[np.ndarray, " N"]
    """Pixels of the photo."""
    ab: Float32[np.ndarray, "N 2"]
    """Normalized ab of the hint's sRGB color."""


def place_hints(
    hints: Sequence[Hint],
    photo_size: tuple[int, int],
    boxes: Num[np.ndarray, "K 4"] | None = None,
    photo: object = "photo",
) -> PlacedHints:
    """The points at which a photo's hints lie.

    Args:
      hints: in the order in which they are painted.
      photo_size: width and height of the upright photo in pixels.
      boxes: x0, y0, x1, y1 in photo pixels, as the person gave them, whose rows ``Hint.object`` counts: neither
        cleaned nor chosen among.
      photo: names the photo in messages.

    Returns:
      One point for each hint, five for one on an object.

    Raises:
      HintError: a point outside the photo, a number that is none, a bad color or radius, no such object or one outside
        the photo, both a point and an object or neither, more than ``MAX_HINTS_PER_PHOTO`` hints.
    """
    if len(hints) > MAX_HINTS_PER_PHOTO:
        raise HintError(f"{photo}: {len(hints)} hints; at most {MAX_HINTS_PER_PHOTO} are painted")
    points = [np.zeros((0, 2))]
    radii: list[float] = []
    colors: list[tuple[int, int, int]] = []
    counts: list[int] = []
    for number, hint in enumerate(hints):
        where = f"{photo}: hint {number}"
        at, limit = _place(where, hint, photo_size, boxes)
        points.append(at)
        colors.append(_rgb(where, hint.rgb))
        # No larger than what covers the photo from anywhere: squares of radii stay finite.
        radii.append(limit if hint.radius is None else min(_radius(where, hint.radius), float(sum(photo_size))))
        counts.append(len(at))
    rgb = color.unit_rgb(np.array(colors, np.uint8).reshape(-1, 3))
    ab = color.normalize_lab(color.rgb_to_lab(rgb))[1]
    return PlacedHints(
        np.concatenate(points), np.repeat(np.array(radii, np.float64), counts), np.repeat(ab, counts, axis=0)
    )


def hints_on_canvas(placed: PlacedHints, photo_size: tuple[int, int], side: int) -> Hints:
    """Hints on the photo's canvas (S, S): that of the whole photo resized without keeping its aspect.

    Args:
      placed: from ``place_hints``.
      photo_size: width and height in pixels.
      side: S.
    """
    return Hints(*(array[0] for array in hints_in_boxes(placed, np.array([[0, 0, *photo_size]]), side)))


def hints_in_boxes(placed: PlacedHints, boxes: Num[np.ndarray, "M 4"], side: int) -> Hints:
    """Hints in crops of a photo, (M, S, S), at the crops' own resolution.

    A pixel has the color of the last hint whose disc its center lies in; the pixel in which a hint's point lies has it
    however small the disc is. Discs whose point lies outside a box are painted as far as they reach into it.

    Args:
      placed: from ``place_hints``.
      boxes: x0, y0, x1, y1 in photo pixels with x0 < x1 and y0 < y1: the parts that are cut out and resized.
      side: S of the crops.
    """
    corners = boxes.astype(np.float64)
    start, end = corners[:, :2], corners[:, 2:]
    pixel = (end - start) / side  # of the crop, in photo pixels
    centers = start[:, None] + (np.arange(side)[:, None] + 0.5) * pixel[:, None]  # (M, S, 2)
    owner = np.zeros((len(boxes), side, side), np.int32)  # 0: none, else 1 + the hint's row
    for row, (at, radius) in enumerate(zip(placed.xy, placed.radius, strict=True), 1):  # painted over each other
        near = np.flatnonzero(((start - radius <= at) & (at < end + radius)).all(axis=1))
        squared = (centers[near] - at) ** 2
        painted = squared[:, None, :, 0] + squared[:, :, None, 1] <= radius**2
        holds = ((start[near] <= at) & (at < end[near])).all(axis=1)
        column, line = np.clip(np.floor((at - start[near]) / pixel[near]), 0, side - 1).astype(np.int64).T
        painted[np.arange(len(near)), line, column] |= holds
        owner[near] = np.where(painted, row, owner[near])
    table = np.concatenate([np.zeros((1, 2), np.float32), placed.ab])
    return Hints(table[owner], owner[..., None] > 0)


def _place(
    where: str, hint: Hint, photo_size: tuple[int, int], boxes: np.ndarray | None
) -> tuple[Float64[np.ndarray, "n 2"], float]:
    """Where a hint's points lie, and their radius if it has none."""
    radius = RADIUS_SHARE * max(photo_size)
    if hint.object is None:
        if hint.x is None or hint.y is None:
            raise HintError(f"{where}: needs x and y, or the number of an object")
        for name, value, length, side in (("x", hint.x, photo_size[0], "wide"), ("y", hint.y, photo_size[1], "high")):
            if not _is_finite(value):
                raise HintError(f"{where}: {name} is {_short(value)}; it must be a finite number of pixels")
            if not 0 <= value < length:
                raise HintError(f"{where}: {name} {_short(value)} lies outside the photo, which is {length} px {side}")
        return np.array([[hint.x, hint.y]], np.float64), radius
    if hint.x is not None or hint.y is not None:
        raise HintError(f"{where}: has a point and an object; give x and y, or object")
    count = 0 if boxes is None else len(boxes)
    if not _is_whole(hint.object) or not 0 <= hint.object < count or boxes is None:
        there = f"its {count} boxes are counted from 0" if count else "it has no boxes"
        raise HintError(f"{where}: no object {_short(hint.object)} in this photo; {there}")
    usable = clean_boxes(boxes[hint.object : hint.object + 1].astype(np.float64), None, photo_size).boxes
    if not len(usable):
        raise HintError(f"{where}: the box of object {hint.object} has no pixel in the photo")
    start, size = usable[0, :2], usable[0, 2:] - usable[0, :2]
    return start + _OBJECT_POINTS * size, min(radius, OBJECT_SHARE * float(size.min()))


def _radius(where: str, radius: Any) -> float:
    if not _is_finite(radius) or radius <= 0:
        raise HintError(f"{where}: radius is {_short(radius)}; it must be a number of pixels above 0")
    return float(radius)


def _rgb(where: str, rgb: Any) -> tuple[int, int, int]:
    if isinstance(rgb, str) and _HEX_COLOR.fullmatch(rgb):
        return int(rgb[1:3], 16), int(rgb[3:5], 16), int(rgb[5:7], 16)
    if (
        isinstance(rgb, (tuple, list, np.ndarray))
        and len(rgb) == 3
        and all(_is_whole(v) and 0 <= v <= 255 for v in rgb)
    ):
        return int(rgb[0]), int(rgb[1]), int(rgb[2])
    raise HintError(f"{where}: rgb is {_short(rgb)}; it must be three whole numbers 0 to 255, or '#rrggbb'")


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    if _is_whole(value):  # math.isfinite raises on integers beyond all floats
        return abs(value) < 1 << 53
    return isinstance(value, (float, np.floating)) and math.isfinite(value)


def _short(value: Any) -> str:
    if _is_whole(value) and abs(value) >= 1 << 53:
        return "a number beyond all sizes"  # str() refuses integers of thousands of digits
    if isinstance(value, (np.number, np.ndarray)):
        value = value.tolist()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


class PhotoHints(NamedTuple):
    """What a hints file says of one photo."""

    hints: tuple[Hint, ...] = ()
    boxes: Float64[np.ndarray, "K 4"] | None = None
    """x0, y0, x1, y1 in pixels of the upright photo, whose rows ``Hint.object`` counts; None: it names none."""
    vivid: float | None = None


def read_hints(path: Path) -> dict[str, PhotoHints]:
    """A hints file: a JSON object that gives each photo, by its file's name or stem, its list of hints, in its order.

    A hint is an object with ``rgb``, and with ``x`` and ``y`` or with ``object``, and perhaps ``radius``: the fields of
    ``Hint``. In place of the list there may be an object with it as ``hints``, and with ``boxes`` and ``vivid``: a
    session of ``jaxcolor web``. UTF-8, with or without a byte order mark. Whether points lie in their photo shows when
    they are placed.

    Raises:
      HintError: the file cannot be read, is too large or no such JSON; names the photo and the hint.
    """
    content = _load(path)
    if not isinstance(content, dict):
        raise HintError(f'{path}: not a hints file: it must be an object {{"photo.jpg": [hint, …], …}}')
    return {name: parse_photo_hints(f"{path}: {_short(name)}", value) for name, value in content.items()}


def parse_photo_hints(where: str, value: Any) -> PhotoHints:
    """What a hints file says of one photo, from its JSON; ``where`` names it in messages.

    Raises:
      HintError: it is neither a list of hints nor an object with one, boxes and a strength.
    """
    if isinstance(value, list):
        value = {"hints": value}
    if not isinstance(value, dict) or not value:
        raise HintError(f"{where}: {_short(value)} is not a list of hints")
    if unknown := [key for key in value if key not in PhotoHints._fields]:
        raise HintError(f"{where}: no such field {_short(unknown[0])}; known: {', '.join(PhotoHints._fields)}")
    hints, boxes, vivid = value.get("hints", []), value.get("boxes"), value.get("vivid")
    if not isinstance(hints, list):
        raise HintError(f"{where}: hints: {_short(hints)} is not a list of hints")
    if vivid is not None and not (_is_finite(vivid) and 0 <= vivid <= 1):
        raise HintError(f"{where}: vivid is {_short(vivid)}; it must be from 0 to 1")
    return PhotoHints(_parse_list(where, hints), None if boxes is None else _parse_boxes(where, boxes), vivid)


def _parse_list(where: str, entries: list[Any]) -> tuple[Hint, ...]:
    if len(entries) > MAX_HINTS_PER_PHOTO:
        raise HintError(f"{where}: {len(entries)} hints; at most {MAX_HINTS_PER_PHOTO} a photo are allowed")
    return tuple(_parse(f"{where}: hint {number}", entry) for number, entry in enumerate(entries))


def _parse_boxes(where: str, boxes: Any) -> Float64[np.ndarray, "K 4"]:
    if not isinstance(boxes, list) or len(boxes) > MAX_HINTS_PER_PHOTO:
        raise HintError(f"{where}: boxes: must be a list of at most {MAX_HINTS_PER_PHOTO} boxes [x0, y0, x1, y1]")
    for number, box in enumerate(boxes):
        form = isinstance(box, list) and len(box) == 4 and all(map(_is_finite, box))
        if not form or box[0] >= box[2] or box[1] >= box[3]:
            what = "it must be [x0, y0, x1, y1] in pixels, with x0 < x1 and y0 < y1"
            raise HintError(f"{where}: box {number} is {_short(box)}; {what}")
    return np.array(boxes, np.float64).reshape(-1, 4)


def _load(path: Path) -> Any:
    try:
        with open(path, "rb") as file:  # a pipe too: --hints <(command)
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise HintError(f"{path}: cannot read this hints file: {error.strerror or error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise HintError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB, which is no hints file")
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise HintError(f"{path}: cannot read this JSON file: nested too deep") from error
    except ValueError as error:
        raise HintError(f"{path}: cannot read this JSON file: {' '.join(str(error).split())[:200]}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = next(name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i]))
        raise ValueError(f"{_short(twice)} is given twice")
    return fields


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


_FIELDS = tuple(field.name for field in dataclasses.fields(Hint))


def _parse(where: str, entry: Any) -> Hint:
    if not isinstance(entry, dict):
        raise HintError(f"{where}: {_short(entry)} is not an object")
    for key in entry:
        if key not in _FIELDS:
            nearest = difflib.get_close_matches(key[:40], _FIELDS, n=1)
            advice = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(_FIELDS)}"
            raise HintError(f"{where}: no such field {_short(key)}; {advice}")
    if "rgb" not in entry:
        raise HintError(f"{where}: has no 'rgb'")
    on_object = "object" in entry
    if on_object == ("x" in entry) or on_object == ("y" in entry):
        raise HintError(f"{where}: must have 'x' and 'y', or 'object' in place of both")
    _rgb(where, entry["rgb"])
    if on_object and (not _is_whole(entry["object"]) or not 0 <= entry["object"] < 1 << 31):
        raise HintError(f"{where}: object is {_short(entry['object'])}; it must be the number of a box, from 0")
    for key in ("x", "y"):
        if key in entry and not _is_finite(entry[key]):
            raise HintError(f"{where}: {key} is {_short(entry[key])}; it must be a finite number of pixels")
    if "radius" in entry:
        _radius(where, entry["radius"])
    return Hint(**{"x": None, "y": None, **entry})


def match_hints(hints: Mapping[str, PhotoHints], photos: Sequence[Path], where: object) -> dict[Path, PhotoHints]:
    """The photos that a hints file names, with their hints.

    A name is that of a photo's file (``photo.jpg``) or, where no file is called so, its stem (``photo``). Names are
    compared in Unicode's composed form, since some file systems take them apart.

    Args:
      hints: from ``read_hints``.
      photos: those that will be colored.
      where: the hints file, for messages.

    Raises:
      HintError: names that are none of the photos (counted, with the first), that fit several, or two for one photo.
    """
    by_name, by_stem = _grouped(photos, "name"), _grouped(photos, "stem")
    found: dict[Path, PhotoHints] = {}
    names: dict[Path, str] = {}
    missing = []
    for name, of_photo in hints.items():
        key = unicodedata.normalize("NFC", name)
        fitting = by_name.get(key) or by_stem.get(key)
        if fitting is None:
            missing.append(name)
            continue
        if len(fitting) > 1:
            raise HintError(f"{where}: {_short(name)} may be {fitting[0]} or {fitting[1]}; rename one")
        photo = fitting[0]
        if photo in found:
            raise HintError(f"{where}: {_short(names[photo])} and {_short(name)} both name {photo}; keep one")
        found[photo], names[photo] = of_photo, name
    if missing:
        nearest = difflib.get_close_matches(missing[0][:200], list(by_name)[:10_000], n=1)
        advice = f"; did you mean {nearest[0]!r}?" if nearest else ""
        count = f"{len(missing)} of the {len(hints)} photos it names are not among the {len(photos)} to color"
        raise HintError(f"{where}: {count}; the first: {_short(missing[0])}{advice}")
    return found


def _grouped(photos: Sequence[Path], part: Literal["name", "stem"]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for photo in dict.fromkeys(photos):
        groups.setdefault(unicodedata.normalize("NFC", getattr(photo, part)), []).append(photo)
    return groups

"""A detector in a file: LiteRT (``.tflite``) or ONNX, with one of two common output layouts.

- ``(1, 4 + classes, anchors)``: what YOLOv8 and its successors give before non-maximum suppression: x and y of the
  center, width, height, then a score for each class (Ultralytics' export). Suppression happens here.
- ``(1, boxes, 6)``: x0, y0, x1, y1, score, class of boxes that need none (YOLOv10, exports with ``nms=True``).

Coordinates are pixels of the input, or shares of it: Ultralytics exports the former to ONNX and the latter to LiteRT.
Which one is seen in the numbers: no share lies far above 1, and a photo full of boxes below two pixels there is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, UInt8

from jaxcolor.data.types import Boxes
from jaxcolor.detection.detector import Detector, DetectorError, DetectorSpec, file_sha256
from jaxcolor.detection.inputs import Fit, Placement, paint, place

DEFAULT_SIDE = 640
"""Input side of models that take any; YOLO's."""

_LARGEST_SHARE = 2.0


@runtime_checkable
class Model(Protocol):
    """A network with one picture input and one output."""

    input_shape: tuple[int | None, ...]
    """None for what may be of any size."""
    output_shape: tuple[int | None, ...]

    def run(self, pictures: Float32[np.ndarray, ...]) -> Float32[np.ndarray, ...]:
        """The output for pictures with values from 0 to 1, in the model's layout."""
        ...


class InputLayout(NamedTuple):
    """How the model wants its pictures."""

    batch: int | None
    """None: any number."""
    channels_first: bool
    size: tuple[int, int]
    """Width and height in pixels."""


def open_model_file(spec: DetectorSpec) -> Detector:
    """The detector in a file.

    Raises:
      DetectorError: no such file, no model, one of another layout, or no package to run it.
    """
    path = Path(spec.name)
    sha = file_sha256(path)
    model: Model
    if path.suffix.lower() == ".onnx":
        from jaxcolor.detection.onnx import OnnxModel

        model = OnnxModel(path, spec)
    else:
        from jaxcolor.detection.litert import LiteRTModel

        model = LiteRTModel(path, spec)
    return FileDetector(f"{path.name} (SHA-256 {sha})", model, spec.fit, spec.most_overlap, str(path))


class FileDetector:
    """YOLO's way around a model: letterbox, run, decode, suppress."""

    threshold = 0.25
    """Ultralytics' default."""

    def __init__(self, name: str, model: Model, fit: Fit, most_overlap: float, where: str) -> None:
        """Compares the model's shapes with what can be read.

        Args:
          name: of the detector.
          model: what runs.
          fit: how photos come to its input size.
          most_overlap: see ``DetectorSpec``.
          where: the file, for messages.

        Raises:
          DetectorError: input or output are of another layout.
        """
        self.name = f"{name}, {fit}, overlap at most {most_overlap:g}"
        self._where = where
        self._model = model
        self._fit: Fit = fit
        self._most_overlap = most_overlap
        self._layout = input_layout(model.input_shape, where)
        self._classes = class_count(model.output_shape, where)
        self.batch_size = self._layout.batch or 8

    def detect(self, photos: Sequence[UInt8[np.ndarray, "_ _ 3"]], threshold: float) -> list[Boxes]:
        """Boxes of each photo with a score of at least ``threshold``, best first."""
        found: list[Boxes] = []
        step = self._layout.batch or len(photos)
        for start in range(0, len(photos), step):
            found += self._detect(photos[start : start + step], step, threshold)
        return found

    def _detect(self, photos: Sequence[np.ndarray], batch: int, threshold: float) -> list[Boxes]:
        size = self._layout.size
        placed = [place((photo.shape[1], photo.shape[0]), size, self._fit) for photo in photos]
        # A fixed batch is filled up with black.
        pictures = np.zeros((batch, size[1], size[0], 3), np.float32)
        for row, (photo, spot) in enumerate(zip(photos, placed, strict=True)):
            pictures[row] = paint(photo, size, spot)
        pictures /= 255
        if self._layout.channels_first:
            pictures = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
        outputs = self._model.run(pictures)
        if outputs.ndim != 3 or len(outputs) != batch or class_count(outputs.shape, self._where) != self._classes:
            raise DetectorError(
                f"{self._where}: gave {outputs.shape} for a batch of {batch}; it was to be {self._model.output_shape}"
            )
        return [
            self._decode(output, spot, threshold) for output, spot in zip(outputs[: len(photos)], placed, strict=True)
        ]

    def _decode(self, output: np.ndarray, spot: Placement, threshold: float) -> Boxes:
        boxes, scores, classes, largest = (_raw_rows if self._classes else _finished_rows)(output, threshold)
        if largest <= _LARGEST_SHARE:
            boxes = boxes * np.array(self._layout.size * 2)
        if self._classes:
            kept = nms(boxes, scores, classes, self._most_overlap)
            boxes, scores = boxes[kept], scores[kept]
        return Boxes(spot.back(boxes).astype(np.float32), scores)


class _Rows(NamedTuple):
    boxes: np.ndarray
    """x0, y0, x1, y1 in the model's unit."""
    scores: Float32[np.ndarray, " N"]
    classes: Int[np.ndarray, " N"]
    largest: float
    """Coordinate of all boxes, those of low score too."""


def _raw_rows(output: np.ndarray, threshold: float) -> _Rows:
    best = output[4:].max(axis=0)
    rows = (best >= np.float32(threshold)) & np.isfinite(output).all(axis=0)
    x, y, width, height = output[:4, rows].astype(np.float64)
    boxes = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=-1)
    return _Rows(boxes, best[rows], output[4:, rows].argmax(axis=0), _largest(output[:4]))


def _finished_rows(output: np.ndarray, threshold: float) -> _Rows:
    rows = (output[:, 4] >= np.float32(threshold)) & np.isfinite(output).all(axis=1)
    found = output[rows]
    return _Rows(found[:, :4].astype(np.float64), found[:, 4], found[:, 5].astype(np.int64), _largest(output[:, :4]))


def _largest(coordinates: np.ndarray) -> float:
    return float(coordinates[np.isfinite(coordinates)].max(initial=0))


def input_layout(shape: Sequence[int | None], where: str) -> InputLayout:
    """Reads (batch, height, width, 3) or (batch, 3, height, width).

    Raises:
      DetectorError: it is neither; names the shape.
    """
    if len(shape) == 4 and (shape[1] == 3) != (shape[3] == 3):
        height, width = shape[2:] if shape[1] == 3 else shape[1:3]
        return InputLayout(shape[0], shape[1] == 3, (width or DEFAULT_SIDE, height or DEFAULT_SIDE))
    raise DetectorError(
        f"{where}: its input is {_told(shape)}; a detector takes (batch, height, width, 3) or (batch, 3, height, width)"
    )


def class_count(shape: Sequence[int | None], where: str) -> int:
    """Classes of a ``(batch, 4 + classes, anchors)`` output; 0 for ``(batch, boxes, 6)``.

    Raises:
      DetectorError: it is neither; names the shape.
    """
    if len(shape) == 3:
        _, rows, columns = shape
        if columns == 6:
            return 0
        # There are more anchors than classes: the other way round it would be YOLOv5's layout, which has a sixth
        # column of another meaning.
        if rows is not None and rows > 4 and (columns is None or columns > rows):
            return rows - 4
    raise DetectorError(
        f"{where}: its output is {_told(shape)}; known are (1, 4 + classes, anchors), as YOLOv8 gives it, and "
        "(1, boxes, 6), with x0 y0 x1 y1 score class"
    )


def _told(shape: Sequence[int | None]) -> str:
    return f"({', '.join('any' if side is None else str(side) for side in shape)})"


def nms(
    boxes: Float[np.ndarray, "N 4"],
    scores: Float[np.ndarray, " N"],
    classes: Int[np.ndarray, " N"],
    most_overlap: float,
) -> Int[np.ndarray, " n"]:
    """Which boxes stay: the best of all, then the best that overlaps none before it of its class too much, and so on.

    Classes are compared, not separated by offsets added to the coordinates as torchvision's ``batched_nms`` does:
    offsets cost digits of the coordinates, and the comparison costs nothing to speak of.

    Args:
      boxes: x0, y0, x1, y1 in any unit, all finite.
      scores: of the boxes, all finite.
      classes: of the boxes.
      most_overlap: boxes of one class whose intersection over union is above it are one object.

    Returns:
      Their rows, best first; of equal scores the one given first.
    """
    exact = boxes.astype(np.float64)
    areas = np.maximum(exact[:, 2:] - exact[:, :2], 0).prod(axis=1)
    rest, kept = np.argsort(-scores, kind="stable"), []
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(int(best))
        overlap = _overlaps(exact[best], areas[best], exact[rest], areas[rest])
        rest = rest[(overlap <= most_overlap) | (classes[rest] != classes[best])]
    return np.array(kept, np.int64)


def _overlaps(
    box: Float64[np.ndarray, " 4"], area: float, others: Float64[np.ndarray, "N 4"], areas: Float64[np.ndarray, " N"]
) -> Float64[np.ndarray, " N"]:
    """Intersection over union of a box with others; 0 where both have no area."""
    inside = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.maximum(inside, 0).prod(axis=1)
    union = area + areas - shared
    return np.divide(shared, union, out=np.zeros_like(union), where=union > 0)

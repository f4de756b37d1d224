"""Ground truth as an evaluation compares it: at the canvas size or at the photo's own, with its objects' boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, UInt8
from PIL import Image

from jaxcolor.batch import Batch
from jaxcolor.boxes import clean_boxes, level_boxes
from jaxcolor.data.canvases import on_canvases
from jaxcolor.data.types import Example, Photo


class EvalSize(NamedTuple):
    """The size at which an evaluation compares pictures."""

    side: int
    """Of the canvas that a compared picture lies on."""
    native: bool
    """Each photo at its own size, as far as it fits; otherwise resized to ``side`` each way."""
    canvases: tuple[int, ...] = ()
    """Sides of further canvases on which photos are seen (``EvalConfig.canvases``)."""


class EvalTargets(NamedTuple):
    """The ground truth of B photos."""

    rgb: UInt8[np.ndarray, "B H W 3"]
    """Each in the upper left corner, black beyond it; the sides of all batches are the same."""
    size: Int32[np.ndarray, "B 2"]
    """Height and width of each."""
    objects: tuple[Int32[np.ndarray, "K 4"], ...]
    """Of each photo the annotated boxes that have a size: x0, y0, width, height in pixels of ``rgb``."""
    reduced: int
    """How many photos were larger than the canvas, and were reduced."""
    annotated: Bool[np.ndarray, " B"]
    """Which photos come with annotations, if only to say that there is no object."""
    used: tuple[Int32[np.ndarray, "n 4"], ...]
    """Of each photo the boxes that were chosen for coloring it, as ``objects``: those of the objects, however much of
    their surroundings the crops show. Crops beyond the batch's capacity are among them."""
    crop_boxes: Int32[np.ndarray, "M 4"]
    """Of each crop of the batch its box among ``used``; zeros for padding."""
    canvases: tuple[UInt8[np.ndarray, "B _s _s 3"], ...] = ()
    """The photos on each further canvas; black for padding."""

    @property
    def measured(self) -> tuple[Int32[np.ndarray, "_k 4"], ...]:
        """Of each photo the objects to be measured by themselves: annotated ones, without annotations those used."""
        return tuple(
            own if annotated else used
            for own, annotated, used in zip(self.objects, self.annotated.tolist(), self.used, strict=True)
        )


class EvalTarget(NamedTuple):
    """The ground truth of one photo, not yet padded."""

    rgb: UInt8[np.ndarray, "h w 3"]
    objects: Int32[np.ndarray, "K 4"]
    reduced: bool
    annotated: bool
    used: Int32[np.ndarray, "n 4"]
    canvases: tuple[UInt8[np.ndarray, "_s _s 3"], ...] = ()


def eval_size(photo_size: tuple[int, int], side: int, native: bool) -> tuple[int, int]:
    """Width and height at which a photo is compared.

    Args:
      photo_size: its own width and height.
      side: the canvas, or what neither side may exceed.
      native: keep the photo's own size as far as that is possible; otherwise ``side`` each way.
    """
    if not native:
        return side, side
    longest = max(photo_size)
    if longest <= side:
        return photo_size
    width, height = (max(1, round(length * side / longest)) for length in photo_size)
    return width, height


def make_target(photo: Photo, used: Int32[np.ndarray, "n 4"], canvas: int, at: EvalSize) -> EvalTarget:
    """A photo at the size of the comparison (``eval_size``): Pillow's bilinear filter, antialiased.

    Args:
      photo: with its annotated boxes, if there are any.
      used: the boxes that were chosen for coloring it: x0, y0, x1, y1 in its pixels.
      canvas: side of the model's canvas, on whose pixels those boxes lie.
      at: the size of the comparison.
    """
    size = eval_size(photo.size, at.side, at.native)
    image = photo.image if photo.size == size else photo.image.resize(size, Image.Resampling.BILINEAR)
    boxes = np.zeros((0, 4), np.float32) if photo.truth_boxes is None else photo.truth_boxes
    whole = clean_boxes(boxes, None, photo.size).boxes.astype(np.float64)
    scale = np.array(size) / np.array(photo.size)
    # Outwards, so that a thin object keeps at least one pixel each way.
    start = np.floor(whole[:, :2] * scale + 1e-6)
    end = np.ceil(whole[:, 2:] * scale - 1e-6)
    objects = np.concatenate([start, end - start], axis=1).astype(np.int32)
    return EvalTarget(
        np.asarray(image),
        objects,
        reduced=at.native and photo.size != size,
        annotated=photo.truth_boxes is not None,
        used=used_boxes(used, photo.size, canvas, size),
        canvases=on_canvases(photo.image, at.canvases),
    )


def used_boxes(
    boxes: Int32[np.ndarray, "n 4"], photo_size: tuple[int, int], canvas: int, size: tuple[int, int]
) -> Int32[np.ndarray, "n 4"]:
    """Boxes that a photo is colored with, as they lie on the model's canvas, in pixels of the comparison.

    Args:
      boxes: x0, y0, x1, y1 in whole photo pixels.
      photo_size: width and height in pixels.
      canvas: side of the model's canvas.
      size: width and height of the comparison.

    Returns:
      x0, y0, width, height, rounded outwards from the canvas.
    """
    on_canvas = level_boxes(boxes, photo_size, canvas, levels=1)[:, 0]
    scale = np.array(size) / canvas
    start = np.floor(on_canvas[:, :2] * scale)
    end = np.ceil((on_canvas[:, :2] + on_canvas[:, 2:]) * scale)
    return np.concatenate([start, end - start], axis=1).astype(np.int32)


def stack(
    photos: Sequence[EvalTarget | None],
    at: EvalSize,
    batch: Batch,
    examples: Sequence[Example | None],
    device_count: int,
) -> EvalTargets:
    """Photos on canvases of ``at.side``; None, padding, is black and as large as the canvas.

    Args:
      photos: of a batch.
      at: the size of the comparison.
      batch: the same photos, collated.
      examples: what it was collated from.
      device_count: devices that it is laid out for.
    """
    rgb = np.zeros((len(photos), at.side, at.side, 3), np.uint8)
    canvases = tuple(np.zeros((len(photos), side, side, 3), np.uint8) for side in at.canvases)
    size = np.full((len(photos), 2), at.side, np.int32)
    none = np.zeros((0, 4), np.int32)
    for row, photo in enumerate(photos):
        if photo is not None:
            height, width = photo.rgb.shape[:2]
            rgb[row, :height, :width] = photo.rgb
            size[row] = height, width
            for canvas, own in zip(canvases, photo.canvases, strict=True):
                canvas[row] = own
    used = tuple(none if photo is None else photo.used for photo in photos)
    return EvalTargets(
        rgb,
        size,
        tuple(none if photo is None else photo.objects for photo in photos),
        sum(photo is not None and photo.reduced for photo in photos),
        np.array([photo is not None and photo.annotated for photo in photos], bool),
        used,
        boxes_of_crops(batch, examples, used, device_count),
        canvases,
    )


def boxes_of_crops(
    batch: Batch, examples: Sequence[Example | None], used: Sequence[Int32[np.ndarray, "_n 4"]], device_count: int
) -> Int32[np.ndarray, "M 4"]:
    """The box of each crop of a batch, zeros for padding.

    Batches say on which cells a crop lies, not for which box it was cut: it is that of the photo's crops which lies on
    the same cells, and of several the first that is not taken.

    Args:
      batch: collated from ``examples``.
      examples: of its photos, with their crops in the order of ``used``.
      used: boxes of each photo.
      device_count: devices that the batch is laid out for.
    """
    index = np.asarray(batch.crop_to_image)
    boxes = np.zeros((len(index), 4), np.int32)
    free = [np.ones(len(of_photo), bool) for of_photo in used]
    for crop in np.flatnonzero(index >= 0).tolist():
        device = crop // (len(index) // device_count)
        photo = device * (len(examples) // device_count) + int(index[crop])
        example = examples[photo]
        assert example is not None  # padding has no crops
        same = (example.level_boxes == batch.level_boxes[crop]).all(axis=(1, 2))
        row = np.flatnonzero(same & free[photo])[0]
        free[photo][row] = False
        boxes[crop] = used[photo][row]
    return boxes

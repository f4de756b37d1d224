"""Small batches of smooth random photos with boxes, laid out by the data room's own collation."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxcolor.boxes import level_boxes
from jaxcolor.config import ModelConfig
from jaxcolor.data.collate import collate
from jaxcolor.data.eval_targets import EvalTargets, boxes_of_crops
from jaxcolor.data.loader import LoadedBatch
from jaxcolor.data.types import Example
from jaxcolor.evaluation.metrics.registry import builtin
from tests.small import FEW

SIDE = 32
BASIC = tuple(metric.name for metric in builtin() if metric.always)
"""Measured whatever a config names."""
MODEL = ModelConfig(side=SIDE, width=0.0625, head_init="he", fusion=FEW.fusion)


def photo(rng: np.random.Generator, side: int = SIDE) -> np.ndarray:
    coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def example(seed: int, boxes: Sequence[Sequence[int]], side: int = SIDE) -> Example:
    """A photo whose crops are random pictures of their own; boxes are x0, y0, x1, y1 on the canvas."""
    rng = np.random.default_rng(seed)
    full = photo(rng, side)
    crops = np.stack([photo(rng, side) for _ in boxes]) if boxes else np.zeros((0, side, side, 3), np.uint8)
    corners = np.array(boxes, np.int32).reshape(-1, 4)
    return Example(full, crops, level_boxes(corners, (side, side), side), np.ones(len(boxes), np.float32))


def loaded(examples: Sequence[Example | None], device_count: int = 1, per_photo: int = 3) -> LoadedBatch:
    capacity = per_photo * len(examples) // device_count
    batch, dropped, _ = collate(examples, device_count=device_count, capacity=capacity, side=SIDE, with_full=True)
    assert dropped == 0
    names = tuple("" if e is None else f"photo{i}" for i, e in enumerate(examples))
    side = batch.full_rgb.shape[1]
    size = np.full((len(examples), 2), side, np.int32)
    # The annotated objects are the boxes themselves.
    objects = tuple(np.zeros((0, 4), np.int32) if e is None else e.level_boxes[:, 0] for e in examples)
    annotated = np.array([e is not None for e in examples])
    boxes = boxes_of_crops(batch, examples, objects, device_count)
    targets = EvalTargets(batch.full_rgb, size, objects, 0, annotated, objects, boxes)
    return LoadedBatch(batch, names, dropped_crops=0, skipped=(), gray_photos=0, compared=targets)


BOXES = [
    [[2, 2, 20, 20]],
    [],
    [[0, 0, 16, 16], [10, 10, 30, 32]],
    [[5, 8, 25, 14], [1, 20, 12, 31], [20, 20, 32, 32]],
    [[4, 4, 28, 28]],
]
"""Of five photos: the second has none, the third's overlap."""

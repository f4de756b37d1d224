"""Small networks, photos and batches: where only correctness counts."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from flax import traverse_util
from PIL import Image

from jaxcolor.batch import Batch
from jaxcolor.boxes import level_boxes
from jaxcolor.config import Config, FusionConfig, ModelConfig
from jaxcolor.data.collate import collate
from jaxcolor.data.types import Example
from jaxcolor.models import networks
from jaxcolor.runtime.parallel import Devices

SIDE = 16
MODEL = ModelConfig(side=SIDE, width=0.0625)
FEW = dataclasses.replace(MODEL, fusion=FusionConfig(layers=("conv2_2", "conv7_3", "conv8_up", "conv10_2")))
"""Fusion at a tap of each kind: what is compiled with gradients, or often, takes half the time."""
TWO = dataclasses.replace(MODEL, fusion=FusionConfig(layers=("conv2_2", "conv8_up")))
"""Fusion at two taps: half of that again, for tests of what runs around the networks."""


@functools.cache
def variables(config: ModelConfig = MODEL, seed: int = 0) -> dict[str, Any]:
    """All three trees with random numbers such that every array matters: weight heads and statistics too.

    Host arrays, not to be changed.
    """
    rng = np.random.default_rng(seed)
    flat = {}
    for path, like in traverse_util.flatten_dict(networks.abstract(config)).items():
        draws = rng.standard_normal(like.shape)
        if path[-1] == "kernel":
            fan_in = 4 * like.shape[-1] if path[-2].endswith("_up") else np.prod(like.shape[:-1])
            draws *= np.sqrt(2 / fan_in)
        elif path[-1] in ("scale", "var", "class_weights"):
            draws = np.exp(0.2 * draws)
        else:
            draws *= 0.1
        flat[path] = draws.astype(like.dtype)
    return traverse_util.unflatten_dict(flat)


def photo(rng: np.random.Generator, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """Smooth random colours, none too dark or too bright to be changed."""
    coarse = rng.integers(60, 196, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


def gray(rgb: np.ndarray) -> np.ndarray:
    """Three equal channels."""
    return np.repeat(rgb.mean(axis=-1, keepdims=True).astype(np.uint8), 3, axis=-1)


def example(seed: int, boxes: Sequence[Sequence[int]] = (), side: int = SIDE) -> Example:
    """A photo whose crops are random pictures of their own; boxes are x0, y0, x1, y1 on the canvas."""
    rng = np.random.default_rng(seed)
    full = photo(rng, side, side)
    crops = np.stack([photo(rng, side, side) for _ in boxes]) if boxes else np.zeros((0, side, side, 3), np.uint8)
    corners = np.array(boxes, np.int32).reshape(-1, 4)
    return Example(full, crops, level_boxes(corners, (side, side), side), np.ones(len(boxes), np.float32))


def batch(examples: Sequence[Example | None], capacity: int, devices: int = 1) -> Batch:
    """Packed by the data room's own code; ``capacity`` crops on each device."""
    side = next(e.full_rgb.shape[0] for e in examples if e is not None)
    packed, dropped, _ = collate(examples, device_count=devices, capacity=capacity, side=side, with_full=True)
    assert dropped == 0
    return packed


_OF_THE_LOOP = (
    *("name", "stages", "start_from", "resume", "trackers", "profile_steps", "patience", "log_every"),
    *("checkpoint_every", "keep_checkpoints", "keep_every", "keep_best", "eval_every", "eval"),
)
"""What of a config no step depends on."""


_made: dict[Any, Any] = {}


@functools.cache
def _map_once() -> Callable[..., Any]:
    return functools.cache(Devices.map)


@contextmanager
def steps_once() -> Iterator[None]:
    """Runs in one process share the steps of the same settings, traced and compiled."""
    from jaxcolor.training import loop

    def once(make: Callable[..., Any]) -> Callable[..., Any]:
        def shared(config: Config, stage: Any, optimizer: Any, teacher: ModelConfig | None = None) -> Any:
            settings = tuple(getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in _OF_THE_LOOP)
            key = make.__name__, settings, stage, teacher  # the optimizer is made of them
            if key not in _made:
                _made[key] = make(config, stage, optimizer, teacher)
            return _made[key]

        return shared

    with pytest.MonkeyPatch.context() as patch:
        for name in ("make_step", "make_cached_step"):
            patch.setattr(loop, name, once(getattr(loop, name)))
        patch.setattr(loop.Devices, "map", _map_once())
        yield

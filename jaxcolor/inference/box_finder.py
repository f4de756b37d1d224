"""Objects of photos, found by the head that weights bring along (``models.box_head``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding
from jaxtyping import UInt8
from PIL import Image

from jaxcolor.boxes import clean_boxes
from jaxcolor.config import ConfigError, ModelConfig
from jaxcolor.data.types import Boxes
from jaxcolor.inference.predict import Seen, rounded_up
from jaxcolor.models import box_head, networks
from jaxcolor.models.ops.implementation import for_prediction
from jaxcolor.runtime.compile_options import prediction_options, shardings
from jaxcolor.weights.native import BoxHeadWeights
from jaxcolor.weights.reference import WeightsError

MOST_BOXES = 100
"""Boxes of a photo at most, as COCO counts them."""


class FoundBoxes(NamedTuple):
    """Objects of photos, and what was computed on the way."""

    boxes: list[Boxes]
    """Of each photo, best first, in its pixels, not rounded, each of at least one; none where nothing is found."""
    seen: Seen
    """Without features unless they are kept."""


class BoxFinder:
    """Finds objects in photos of any size; compiles once for each rounded number of photos in a call."""

    def __init__(
        self,
        model: ModelConfig,
        variables: networks.Variables,
        head: BoxHeadWeights | None,
        side: int = 0,
        most_boxes: int = MOST_BOXES,
        on_device: bool = False,
        keep: bool = False,
    ) -> None:
        """Puts the variables on the default device.

        Args:
          model: of the networks.
          variables: with the tree ``full``.
          head: of the same weights.
          side: of the square that photos are resized to; 0: the canvas's.
          most_boxes: of a photo.
          on_device: whether the variables are there already, frozen (``networks.frozen``): they are shared.
          keep: the features that coloring the same photos needs too (``FoundBoxes.seen``).

        Raises:
          WeightsError: there is no head.
          ConfigError: a side that the backbone cannot read.
        """
        if head is None:
            raise WeightsError("these weights have no head that finds boxes; docs/own_boxes.md says how one is trained")
        self.model = dataclasses.replace(model, side=side or model.side)
        self.config = head.config
        if self.model.side < 64:
            raise ConfigError(f"side: {self.model.side}; a photo of fewer than 64 pixels shows no objects")
        nets, module = networks.build(self.model), box_head.make_head(self.model, head.config)
        default = SingleDeviceSharding(jnp.zeros(()).device)
        full = {"full": variables["full"]}
        if not on_device:
            full = networks.frozen(full, self.model)
            full = jax.device_put(full, shardings(full, default))
        self._variables = full
        self._head = jax.device_put({"params": head.variables["params"]}, default)

        encoder = [tap.name for tap in nets.full.taps if tap.part == "encoder"]
        kept = tuple(dict.fromkeys((*encoder, *head.config.taps))) if keep else ()

        def find(
            variables: networks.Variables, head: networks.Variables, rgb: jax.Array
        ) -> tuple[box_head.Detections, dict[str, jax.Array]]:
            taps = networks.run_full(nets, variables, networks.picture(rgb, self.model).inputs, heads=()).taps
            found = box_head.decode(box_head.run_head(module, head, taps), most_boxes, self.config.most_overlap)
            return found, {name: taps[name] for name in kept}

        self._find = jax.jit(for_prediction(find), compiler_options=prediction_options(False))

    def __call__(
        self, photos: Sequence[UInt8[np.ndarray, "_ _ 3"] | Image.Image], threshold: float | None = None
    ) -> list[Boxes]:
        """The objects of each photo, best first; photos in one call of the network.

        Args:
          photos: sRGB, upright; only their L* is read.
          threshold: lowest score of all that are wanted; None: the head's own, and no more than it says
            (``BoxHeadConfig.threshold``, ``most_boxes``).

        Returns:
          See ``FoundBoxes``.
        """
        return self.find(photos, threshold).boxes if photos else []

    def find(
        self, photos: Sequence[UInt8[np.ndarray, "_ _ 3"] | Image.Image], threshold: float | None = None
    ) -> FoundBoxes:
        """As the call, of at least one photo, with what was computed on the way."""
        side = self.model.side
        images = [photo if isinstance(photo, Image.Image) else Image.fromarray(photo) for photo in photos]
        rgb = [np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)) for image in images]
        return self.on_canvas(np.stack(rgb), [image.size for image in images], threshold)

    def on_canvas(
        self, photos: UInt8[np.ndarray, "B S S 3"], sizes: Sequence[tuple[int, int]], threshold: float | None = None
    ) -> FoundBoxes:
        """The same of photos that are resized already, given their widths and heights."""
        least, most = (self.config.threshold, self.config.most_boxes) if threshold is None else (threshold, None)
        canvas = np.pad(photos, [(0, rounded_up(len(photos)) - len(photos)), (0, 0), (0, 0), (0, 0)])
        detections, taps = self._find(self._variables, self._head, canvas)
        found = jax.device_get(detections)
        result = []
        for size, boxes, scores in zip(sizes, found.boxes, found.scores, strict=False):
            good = (scores >= least) & (scores > 0)
            pixels, scores = boxes[good] * np.array([*size] * 2, np.float32), scores[good]
            kept = clean_boxes(pixels, scores, size).kept[:most]
            result.append(Boxes(pixels[kept], scores[kept]))
        return FoundBoxes(result, Seen(canvas, taps))

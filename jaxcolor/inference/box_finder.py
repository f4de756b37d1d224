"""Objects of photos, found by the head that weights bring along (``models.box_head``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding
from jaxtyping import UInt8
from PIL import Image

from jaxcolor.boxes import clean_boxes
from jaxcolor.config import ConfigError, ModelConfig
from jaxcolor.data.types import Boxes
from jaxcolor.inference.predict import rounded_up
from jaxcolor.models import box_head, networks
from jaxcolor.runtime.compile_options import prediction_options, shardings
from jaxcolor.weights.native import BoxHeadWeights
from jaxcolor.weights.reference import WeightsError

MOST_BOXES = 100
"""Boxes of a photo at most, as COCO counts them."""


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
    ) -> None:
        """Puts the variables on the default device.

        Args:
          model: of the networks.
          variables: with the tree ``full``.
          head: of the same weights.
          side: of the square that photos are resized to; 0: the canvas's.
          most_boxes: of a photo.
          on_device: whether the variables are there already, frozen (``networks.frozen``): they are shared.

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

        def find(variables: networks.Variables, head: networks.Variables, rgb: jax.Array) -> box_head.Detections:
            taps = networks.run_full(nets, variables, networks.picture(rgb, self.model).inputs, heads=()).taps
            return box_head.decode(box_head.run_head(module, head, taps), most_boxes, self.config.most_overlap)

        self._find = jax.jit(find, compiler_options=prediction_options(False))

    def __call__(
        self, photos: Sequence[UInt8[np.ndarray, "_ _ 3"] | Image.Image], threshold: float | None = None
    ) -> list[Boxes]:
        """The objects of each photo, best first; photos in one call of the network.

        Args:
          photos: sRGB, upright; only their L* is read.
          threshold: lowest score; None: the head's own (``BoxHeadConfig.threshold``).

        Returns:
          Boxes in pixels of the photo, not rounded, each of at least one; none where nothing is found.
        """
        if not photos:
            return []
        side, least = self.model.side, self.config.threshold if threshold is None else threshold
        images = [photo if isinstance(photo, Image.Image) else Image.fromarray(photo) for photo in photos]
        rgb = np.zeros((rounded_up(len(images)), side, side, 3), np.uint8)
        for row, image in zip(rgb, images, strict=False):
            row[:] = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
        found = jax.device_get(self._find(self._variables, self._head, rgb))
        result = []
        for image, boxes, scores in zip(images, found.boxes, found.scores, strict=False):
            good = (scores >= least) & (scores > 0)
            pixels, scores = boxes[good] * np.array([*image.size] * 2, np.float32), scores[good]
            kept = clean_boxes(pixels, scores, image.size).kept
            result.append(Boxes(pixels[kept], scores[kept]))
        return result

"""Photo in, photo out: ab predicted on the canvas, brought to the photo's own size, joined with the photo's own L."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding
from jaxtyping import Float, UInt8
from PIL import Image

from jaxcolor import color
from jaxcolor.batch import Batch
from jaxcolor.boxes import best_scores, clean_boxes
from jaxcolor.color import Gamut
from jaxcolor.config import ModelConfig
from jaxcolor.data.collate import collate
from jaxcolor.data.transforms import example
from jaxcolor.data.types import Example
from jaxcolor.inference.upsample import Upsampling, check_upsampling, upsampled
from jaxcolor.models import networks
from jaxcolor.runtime.compile_options import prediction_options, shardings
from jaxcolor.runtime.errors import UserError
from jaxcolor.weights import native
from jaxcolor.weights.reference import WeightsError

Colors = Callable[[networks.Variables, Batch], Float[jax.Array, "B S S 2"]]


def full_and_fused_ab(config: ModelConfig) -> tuple[Colors, Colors]:
    """From the three trees and a batch the ab of its photos: without boxes, and with."""
    nets = networks.build(config)

    def full_ab(variables: networks.Variables, batch: Batch) -> jax.Array:
        return networks.run_full(nets, variables, networks.picture(batch.full_rgb, config).inputs).ab

    def fused_ab(variables: networks.Variables, batch: Batch) -> jax.Array:
        # Of a prediction only this is used, so the full tree is not computed for photos that have boxes.
        return networks.predict(nets, variables, batch).fused_ab

    return full_ab, fused_ab


class Colorizer:
    """Colors gray photos (color ones too: only their L* is read).

    Compiles once for each rounded number of photos and of crops in a call (``rounded_up``), never for a photo's size.
    """

    def __init__(
        self,
        config: ModelConfig,
        variables: networks.Variables,
        boxes_per_photo: int = 8,
        cuda_graphs: bool = False,
        *,
        upsampling: Upsampling = "luma_slope",
        saturation: float = 1.0,
    ) -> None:
        """Put the variables on the default device.

        Args:
          config: of the networks.
          variables: the three trees, or ``full`` alone: then boxes are not used.
          boxes_per_photo: the best boxes by score that are used.
          cuda_graphs: launch the kernels of a call as CUDA graphs, those that do not depend on each other side by side
            (elsewhere than on GPUs no difference); docs/performance.md says what it brings.
          upsampling: of ab from the canvas to the photo's size, see ``join``.
          saturation: factor of the chroma, 0 is gray; each call can have its own.

        Raises:
          WeightsError: there is no tree ``full``.
          UserError: there is no such upsampling, or the saturation is negative or not finite.
        """
        check_upsampling(upsampling)
        _check_saturation(saturation)
        if "full" not in variables:
            raise WeightsError(
                f"weights of {', '.join(variables) or 'nothing'} alone cannot color; tree full is missing"
            )
        self.config = config
        self.boxes_per_photo = boxes_per_photo
        self.upsampling: Upsampling = upsampling
        self.saturation = saturation
        self.uses_boxes = all(tree in variables for tree in networks.TREES)
        kept = networks.frozen(variables, config)
        default = SingleDeviceSharding(jnp.zeros(()).device)  # named: jit heeds the layout of committed arrays alone
        self._variables = jax.device_put(kept, shardings(kept, default))
        options = prediction_options(cuda_graphs)
        self._full_ab, self._fused_ab = (jax.jit(f, compiler_options=options) for f in full_and_fused_ab(config))

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        boxes_per_photo: int = 8,
        cuda_graphs: bool = False,
        *,
        upsampling: Upsampling = "luma_slope",
        saturation: float = 1.0,
    ) -> Colorizer:
        """A colorizer with the weights of a released file; further arguments as those of the class.

        Raises:
          OSError, WeightsError: the file cannot be read, or is none of ours.
        """
        weights = native.load(path)
        return cls(
            weights.config,
            weights.variables,
            boxes_per_photo,
            cuda_graphs,
            upsampling=upsampling,
            saturation=saturation,
        )

    def __call__(
        self,
        photo: UInt8[np.ndarray, "H W 3"],
        boxes: Any = None,
        scores: Any = None,
        *,
        saturation: float | None = None,
    ) -> UInt8[np.ndarray, "H W 3"]:
        """One photo; see ``many``."""
        return self.many([photo], [boxes], [scores], saturation=saturation)[0]

    def many(
        self,
        photos: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        boxes: Sequence[Any] | None = None,
        scores: Sequence[Any] | None = None,
        *,
        saturation: float | None = None,
    ) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        """Color photos of any sizes, in one call of the networks for those with boxes and one for those without.

        Args:
          photos: upright sRGB, 0 to 255; gray ones have three equal channels.
          boxes: for each photo x0, y0, x1, y1 in its pixels, (N, 4), or None. Boxes are clipped to the photo; those
            that cannot be cropped (NaN, inverted, outside, of no size) are left out.
          scores: for each photo one score a box, or None: then the first boxes are the best.
          saturation: factor of the chroma; None: the one given to the class.

        Returns:
          Each photo at its own size, its L* kept to 0.5: where sRGB has no room for a color, it gets less chroma.

        Raises:
          ValueError: lists of different lengths, or arrays of another form.
          UserError: the saturation is negative or not finite.
        """
        saturation = self.saturation if saturation is None else saturation
        _check_saturation(saturation)
        boxes = [None] * len(photos) if boxes is None else boxes
        scores = [None] * len(photos) if scores is None else scores
        if not len(photos) == len(boxes) == len(scores):
            raise ValueError(f"{len(photos)} photos, {len(boxes)} sets of boxes, {len(scores)} of scores: not the same")
        examples = [self._example(*each) for each in zip(photos, boxes, scores, strict=True)]
        ab: list[Any] = [None] * len(photos)
        for with_boxes, predict in ((True, self._fused_ab), (False, self._full_ab)):
            rows = [i for i, e in enumerate(examples) if (len(e.scores) > 0) == with_boxes]
            if rows:
                predicted = jax.device_get(predict(self._variables, self._batch([examples[i] for i in rows])))
                for i, one in zip(rows, predicted, strict=False):  # what follows the photos only fills up
                    ab[i] = one
        return [
            join(photo, one, upsampling=self.upsampling, saturation=saturation)
            for photo, one in zip(photos, ab, strict=True)
        ]

    def _example(self, photo: np.ndarray, boxes: Any, scores: Any) -> Example:
        if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
            raise ValueError(f"a photo is (H, W, 3) uint8, not {photo.shape} {photo.dtype}")
        raw = np.zeros((0, 4)) if boxes is None or not np.size(boxes) else np.asarray(boxes, np.float64)
        if raw.ndim != 2 or raw.shape[1] != 4:
            raise ValueError(f"boxes are (N, 4), not {raw.shape}")
        order = -np.arange(len(raw), dtype=np.float64) if scores is None else np.asarray(scores, np.float64)
        if order.shape != (len(raw),):
            raise ValueError(f"{len(raw)} boxes but scores of shape {order.shape}")
        if not self.uses_boxes:
            raw, order = raw[:0], order[:0]
        clean = clean_boxes(raw, order, (photo.shape[1], photo.shape[0]))
        kept = order[clean.kept].astype(np.float32)
        best = best_scores(kept, self.boxes_per_photo)
        return example(Image.fromarray(photo), clean.boxes[best], kept[best], self.config.side)

    def _batch(self, examples: Sequence[Example]) -> Batch:
        """Filled up to rounded numbers, so that few shapes are compiled and little of the work is for nothing."""
        crops = rounded_up(sum(len(e.scores) for e in examples))
        filled = [*examples, *[None] * (rounded_up(len(examples)) - len(examples))]
        return collate(filled, device_count=1, capacity=crops, side=self.config.side, with_full=True)[0]


def rounded_up(count: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, ..., less than a third of which is then filling; 0 stays 0."""
    if not count:
        return 0
    power = 1 << (count - 1).bit_length()
    return power * 3 // 4 if count <= power * 3 // 4 else power


def _check_saturation(saturation: float) -> None:
    if not (math.isfinite(saturation) and saturation >= 0):
        raise UserError(f"saturation {saturation}: must be finite and at least 0")


def join(
    photo: UInt8[np.ndarray, "H W 3"],
    ab: Float[np.ndarray, "S S 2"],
    *,
    upsampling: Upsampling = "luma_slope",
    saturation: float = 1.0,
    gamut: Gamut = "chroma",
) -> UInt8[np.ndarray, "H W 3"]:
    """A photo's own L* with normalized ab from the canvas.

    Works in strips: beside photo and result it takes a few megabytes, and 5 kB a row for a canvas of 256.

    Args:
      photo: sRGB, 0 to 255; only its L* is read.
      ab: about -1 to 1.
      upsampling: ``luma_slope`` keeps colors inside the photo's edges; ``bilinear``, as evaluation and the reference.
      saturation: factor of the chroma; 0 is gray.
      gamut: what becomes of colors that sRGB does not have. ``chroma``: less of it, at the same L* (to 0.5, of which
        most is 8 bits' rounding) and hue. ``clip``: channels are clipped, as in evaluation and the reference.

    Raises:
      UserError: there is no such upsampling or gamut mapping, or the saturation is negative or not finite.
    """
    check_upsampling(upsampling)
    if gamut not in get_args(Gamut):
        raise UserError(f"gamut {gamut!r}: must be {' or '.join(get_args(Gamut))}")
    _check_saturation(saturation)
    wanted = color.saturate(np.asarray(ab, np.float32) * np.float32(color.AB_SCALE), saturation)
    result = np.empty_like(photo)
    for rows, lab in upsampled(photo, wanted, upsampling):
        result[rows] = color.quantize_rgb(color.lab_to_rgb(color.fit_gamut(lab) if gamut == "chroma" else lab))
    return result

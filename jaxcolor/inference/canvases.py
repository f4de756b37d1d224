"""Multi-scale inference: the full-image network on further canvases of a photo, and the mean of what it says there.

Each canvas is read from the photo's own pixels; the color found on it is brought to the networks' own canvas, and all
count alike. On photos the mean of a canvas of 256 and one of 384 is closer to the truth than either, objects above all
(docs/instances.md, run 6). Distributions of colors, palettes and boxes are those of the networks' own canvas.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from jaxcolor import resample
from jaxcolor.batch import Array
from jaxcolor.config import ModelConfig, check_canvases
from jaxcolor.data.canvases import on_canvases
from jaxcolor.hints import Hints, PlacedHints, hints_on_canvas
from jaxcolor.inference.photos import Prepared
from jaxcolor.inference.predict import Colors, rounded_up
from jaxcolor.models import networks
from jaxcolor.models.decoding import annealed_ab
from jaxcolor.models.ops.implementation import for_prediction
from jaxcolor.runtime.compile_options import prediction_options


class Canvases:
    """Further canvases of the full-image network; one program for each side and rounded number of photos."""

    def __init__(self, config: ModelConfig, sides: Sequence[int], cuda_graphs: bool) -> None:
        """Compiles nothing yet; ``cuda_graphs`` as in ``Colorizer``.

        Raises:
          ConfigError: sides that cannot be (``check_canvases``).
        """
        self.sides = tuple(sides)
        check_canvases(self.sides, config.side)
        options = prediction_options(cuda_graphs)
        function = for_prediction(canvas_function(config))
        self._colors = jax.jit(function, static_argnames="annealed", compiler_options=options)

    def colors(
        self, variables: networks.Variables, photos: Sequence[Prepared], hints: Sequence[PlacedHints], annealed: bool
    ) -> list[Colors]:
        """For each canvas the ab of all photos, (B, S, S, 2) at the networks' own side, on the device.

        What follows the photos fills up to a rounded number. Nothing is waited for.

        Args:
          variables: of which ``full`` is read.
          photos: with or without crops.
          hints: of each photo.
          annealed: the class head's color too.
        """
        full, count = {"full": variables["full"]}, rounded_up(len(photos))
        shown = [on_canvases(Image.fromarray(photo.rgb), self.sides) for photo in photos] if self.sides else []
        found = []
        for side, canvas in zip(self.sides, zip(*shown, strict=True), strict=False):
            given = None
            if any(len(placed.xy) for placed in hints):
                each = [hints_on_canvas(of, photo.size, side) for photo, of in zip(photos, hints, strict=True)]
                given = Hints(*(_filled_up(arrays, count) for arrays in zip(*each, strict=True)))
            found.append(self._colors(full, _filled_up(canvas, count), given, annealed=annealed))
        return found


def canvas_function(config: ModelConfig) -> Callable[..., Colors]:
    """A function of the tree ``full``, photos on a canvas of any side, and their hints or None; ``annealed`` is static.

    Its colors are resized to ``config.side``, bilinearly.
    """

    def colors(
        variables: networks.Variables, rgb: Array, hints: Hints | None = None, *, annealed: bool = False
    ) -> Colors:
        own = dataclasses.replace(config, side=rgb.shape[1])
        shown = networks.picture(rgb, own)
        if hints is not None:
            shown = networks.hinted(shown, hints, own)
        found = networks.run_full(networks.build(own), variables, shown.inputs)
        on_own = Colors(found.ab, annealed_ab(found.outputs, (own.side, own.side)) if annealed else None)
        resized: Colors = jax.tree.map(lambda ab: resample.resize(ab, config.side, config.side), on_own)
        return resized

    return colors


def mean_colors(found: Sequence[Colors], further: Sequence[Colors]) -> list[Colors]:
    """The mean of each photo's colors on all canvases, with equal weights.

    Args:
      found: of each photo, on the networks' own canvas.
      further: of ``Canvases.colors``; of none, ``found`` is returned as it is.
    """
    if not further:
        return list(found)
    fetched: list[Colors] = jax.device_get(list(further))

    def mean(*same: Any) -> np.ndarray:
        return np.mean(np.stack(same), axis=0)

    each = [[Colors(*(None if ab is None else ab[row] for ab in of)) for of in fetched] for row in range(len(found))]
    return [jax.tree.map(mean, own, *others) for own, others in zip(found, each, strict=True)]


def _filled_up(arrays: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Pictures on one axis, zeros after those that there are."""
    together = np.stack(arrays)
    return np.pad(together, [(0, length - len(together)), *[(0, 0)] * (together.ndim - 1)])

"""The head that weights of ours bring along (``models.box_head``) as a detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxcolor import color
from jaxcolor.data.types import Boxes
from jaxcolor.inference.box_finder import BoxFinder
from jaxcolor.weights import packaged


def _gray_levels() -> UInt8[np.ndarray, " 256"]:
    """The sRGB gray of each 8-bit L*, which is what detectors are given."""
    lightness = np.arange(256) / 2.55
    lab = np.stack([lightness, np.zeros(256), np.zeros(256)], axis=-1)
    return np.asarray(color.quantize_rgb(color.lab_to_rgb(lab)))[:, 0]


class OwnHead:
    """Finds objects with the head of weights.

    The photo arrives as L* in 8 bits, and the network reads sRGB: rounded twice, scores differ in the third place from
    those of ``Colorizer.find_boxes``.
    """

    batch_size = 8

    def __init__(self, weights: str = "") -> None:
        """Loads them.

        Args:
          weights: a file or a name in the package; empty: the package's default.

        Raises:
          OSError, WeightsError: they cannot be read, or have no head.
        """
        loaded = packaged.load(weights or None)
        self._find = BoxFinder(loaded.config, loaded.variables, loaded.box_head)
        self._levels = _gray_levels()
        self.threshold = self._find.config.threshold
        file = Path(packaged.described(weights or None)).name
        self.name = f"head of {file} (SHA-256 {packaged.digest(weights or None)})"

    def detect(self, photos: Sequence[UInt8[np.ndarray, "_ _ 3"]], threshold: float) -> list[Boxes]:
        """Boxes of each photo with a score of at least ``threshold``, best first."""
        return self._find([self._levels[photo] for photo in photos], threshold)

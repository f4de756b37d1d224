"""The weight recipe of the parity goldens: arrays that depend on network, parameter name, shape and seed alone.

Anyone can make the same weights again, so goldens need not carry 400 MB of them. Values must be equal to the bit to
those that the goldens were computed with (tests/weights/test_recipe.py), so the order of operations matters.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

SHAPES_FILE = Path(__file__).parent / "goldens" / "shapes.json"
SEED = 7
"""Of the goldens."""

Shapes = Mapping[str, Sequence[int]]


def shapes() -> dict[str, dict[str, tuple[int, ...]]]:
    """Network (GComp, G, GF) -> reference name -> shape in the reference's layout."""
    networks = json.loads(SHAPES_FILE.read_text())
    return {network: {name: tuple(shape) for name, shape in of.items()} for network, of in networks.items()}


def parameter(network: str, name: str, shape: Sequence[int], seed: int = SEED) -> np.ndarray:
    """One float32 array: normal draws, scaled as its kind asks so that activations keep their size."""
    shape = tuple(shape)
    generator = np.random.default_rng(seed + zlib.crc32(f"{network}/{name}".encode()))
    draws = generator.standard_normal(shape)
    suffix = name.rpartition(".")[2]
    if suffix == "running_var":
        values = np.exp(0.2 * draws)
    elif suffix == "running_mean":
        values = 0.1 * draws
    elif suffix == "bias" and "." in name:
        values = 0.05 * draws
    elif len(shape) == 1:  # BatchNorm's scale
        values = 1 + 0.1 * draws
    else:
        # A transposed convolution of stride 2 reaches each pixel with 4 of its 16 taps.
        fan_in = 4 * shape[0] if "up." in name else shape[1] * shape[2] * shape[3]
        values = draws * np.sqrt(2 / fan_in)
        if name.startswith("model_out"):  # keeps tanh away from saturation
            values = 0.25 * values
    return values.astype(np.float32)


def state_dict(network: str, shapes: Shapes, seed: int = SEED) -> dict[str, np.ndarray]:
    """The arrays of one network under their reference names."""
    return {name: parameter(network, name, shape, seed) for name, shape in shapes.items()}

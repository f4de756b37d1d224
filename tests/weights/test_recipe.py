from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tests import recipe

ORIGINAL = Path(__file__).resolve().parents[3] / "shared" / "parity" / "weights.py"

KERNEL = [0.01789758913218975, -0.10974869877099991, -0.03605995327234268]
UP = [0.016521934419870377, -0.036372456699609756, 0.02578420378267765, 0.011199739761650562]
OUTPUT = [-0.0007511535659432411, 0.03426724672317505]
SCALE = [0.9419605135917664, 0.9610819220542908]
VARIANCE = [1.0709781646728516, 0.9586774706840515]


def test_known_values():
    """Pinned, so that the recipe cannot drift where the original is not at hand."""
    kernel = recipe.parameter("GF", "model1.0.weight", (64, 4, 3, 3))
    assert kernel.dtype == np.float32
    assert kernel[0, 0, 0].tolist() == KERNEL
    assert recipe.parameter("G", "model8up.0.weight", (512, 256, 4, 4))[0, 0, 0].tolist() == UP
    assert recipe.parameter("GComp", "model_out.0.weight", (2, 128, 1, 1))[:, 0, 0, 0].tolist() == OUTPUT
    assert recipe.parameter("GComp", "model1.4.weight", (64,), seed=8)[:2].tolist() == SCALE
    assert recipe.parameter("GComp", "model1.4.running_var", (64,))[:2].tolist() == VARIANCE


def test_shapes_are_the_references():
    shapes = recipe.shapes()
    assert {network: len(of) for network, of in shapes.items()} == {"G": 98, "GF": 266, "GComp": 98}
    sizes = {network: sum(int(np.prod(shape)) for shape in of.values()) for network, of in shapes.items()}
    assert sizes == {"G": 34_192_787, "GF": 35_276_591, "GComp": 34_192_787}


@pytest.mark.skipif(not ORIGINAL.exists(), reason=f"the original recipe is not here ({ORIGINAL})")
def test_equal_to_the_original(states):
    spec = importlib.util.spec_from_file_location("original_recipe", ORIGINAL)
    original = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(original)
    for name, shape in recipe.shapes()["GF"].items():
        assert np.array_equal(original.parameter("GF", name, shape, 7), states["fusion"][name]), name
    for network, name, shape, seed in (
        ("G", "model10.1.weight", (128, 128, 3, 3), 11),
        ("GComp", "model_out.0.weight", (2, 128, 1, 1), 0),
        ("lpips", "alexnet/features.0.weight", (64, 3, 11, 11), 7),
        ("lpips", "alexnet/features.0.bias", (64,), 7),
    ):
        theirs = original.parameter(network, name, shape, seed)
        assert np.array_equal(theirs, recipe.parameter(network, name, shape, seed)), name

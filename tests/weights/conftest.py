"""Weights that several tests read: recipe weights of the full architecture, and small variables of our own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import traverse_util

from jaxcolor.config import FusionConfig, ModelConfig
from jaxcolor.weights import names
from jaxcolor.weights.reference import tree_shapes
from tests import recipe

SMALL = ModelConfig(width=0.02, fusion=FusionConfig(head_channels=2, layers=("conv1_2", "conv8_up")))


@pytest.fixture(scope="session")
def states() -> dict[str, dict[str, np.ndarray]]:
    """Tree -> state dict of the reference, with the counters that its files carry. Not to be changed."""
    shapes, states = recipe.shapes(), {}
    for tree, network in names.REFERENCE_NETWORKS.items():
        states[tree] = recipe.state_dict(network, shapes[network])
        for key in shapes[network]:
            if key.endswith("running_var"):
                states[tree][key.replace("running_var", "num_batches_tracked")] = np.asarray(1234, np.int64)
    return states


@pytest.fixture(scope="session")
def pth_folder(states: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The reference's three files: one in the zip format, two in the old one, GF with ``module.``."""
    torch = pytest.importorskip("torch", reason="writing .pth files needs PyTorch: pip install 'jaxcolor[torch]'")
    folder = tmp_path_factory.mktemp("reference")
    for tree, name in names.REFERENCE_FILES.items():
        prefix = "module." if tree == "fusion" else ""
        state = {prefix + key: torch.from_numpy(value) for key, value in states[tree].items()}
        torch.save(state, folder / name, _use_new_zipfile_serialization=tree == "full")
    yield folder
    for name in names.REFERENCE_FILES.values():  # 400 MB, which pytest would keep for three runs
        (folder / name).unlink()


@pytest.fixture
def small() -> dict[str, Any]:
    """Random variables of all trees of ``SMALL``."""
    generator = np.random.default_rng(0)
    return {
        tree: traverse_util.unflatten_dict(
            {path: generator.standard_normal(shape).astype(np.float32) for path, shape in shapes.items()}
        )
        for tree, shapes in tree_shapes(SMALL).items()
    }


def flat(variables: dict[str, Any]) -> dict[str, np.ndarray]:
    """Every array of nested variables under its path."""
    return {"/".join(path): np.asarray(value) for path, value in traverse_util.flatten_dict(variables).items()}


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Same names, types, shapes and bits."""
    ours, theirs = flat(ours), flat(theirs)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype, name
        assert array.shape == theirs[name].shape, name
        assert np.array_equal(array, theirs[name]), name

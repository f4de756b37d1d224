"""A narrower network out of a trained one: what is kept, and how a run starts from it."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import traverse_util

from jaxcolor.config import Config, ConfigError, ModelConfig
from jaxcolor.models import networks
from jaxcolor.weights import narrowing, native
from jaxcolor.weights.pretrained import load_pretrained
from tests import small

MODEL = dataclasses.replace(small.MODEL, outputs=("regression", "classes"))
WIDE = dataclasses.replace(MODEL, width=2 * MODEL.width)


def widened(tree: Any, seed: int = 0) -> Any:
    """The same function at twice the width: channels lie in random places, those between do nothing."""
    rng = np.random.default_rng(seed)
    flat = traverse_util.flatten_dict(tree)
    shapes = {path: like.shape for path, like in traverse_util.flatten_dict(networks.abstract(WIDE)["full"]).items()}
    places: dict[str, np.ndarray] = {}
    for layer in narrowing.READS.keys() | {"conv1_1"}:
        count, of = (s["params", layer, "bias"][0] for s in ({p: v.shape for p, v in flat.items()}, shapes))
        places[layer] = np.sort(rng.permutation(of)[:count])
    for layer, other in narrowing.ADDED.items():
        places[layer] = places[other]
    for layer, norm in narrowing.NORMS.items():
        places[norm] = places[layer]
    result = {}
    for path, value in flat.items():
        wide, layer = np.zeros(shapes[path], value.dtype), path[-2]
        if path[-1] == "var":
            wide += 1
        if layer not in places or path[-1] == "class_weights":
            wide = value
        elif path[-1] == "kernel":
            inputs = places[narrowing.READS[layer]] if layer in narrowing.READS else np.arange(value.shape[-2])
            pair = (places[layer], inputs) if layer.endswith("_up") else (inputs, places[layer])
            wide[(..., *np.ix_(*pair))] = value
        else:
            wide[places[layer]] = value
        result[path] = wide
    return traverse_util.unflatten_dict(result)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_channels_that_do_nothing_are_the_ones_cut_out(norm: Any) -> None:
    narrow, wide = (dataclasses.replace(model, norm=norm) for model in (MODEL, WIDE))
    tree = small.variables(narrow)["full"]
    found = narrowing.narrow(widened(tree), wide, narrow)
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(tree), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        assert ours.dtype == theirs.dtype


def test_what_is_lost_is_made_up_for() -> None:
    tree = small.variables(WIDE)["full"]
    found = narrowing.narrow(tree, WIDE, MODEL)
    wide, narrow = (np.abs(t["params"]["output"]["kernel"]).sum(axis=(0, 1, 2)) for t in (tree, found))
    np.testing.assert_allclose(narrow, wide, rtol=1e-5)


def test_a_run_starts_from_it(tmp_path: Path) -> None:
    path = tmp_path / "wide.safetensors"
    native.save(path, dataclasses.replace(WIDE, side=64), {"full": small.variables(WIDE)["full"]}, note="wide")
    config = Config(model=MODEL, start_from=f"narrowed:{path}")
    start = load_pretrained(config)
    assert tuple(start.variables) == ("full",)
    assert start.note == f"started from narrowed:{path} (wide)"
    expected = narrowing.narrow(small.variables(WIDE)["full"], WIDE, MODEL)
    np.testing.assert_array_equal(
        start.variables["full"]["params"]["conv8_up"]["kernel"], expected["params"]["conv8_up"]["kernel"]
    )


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        (MODEL, WIDE, "from backbone 'reference' of width 0.0625 to width 0.125"),
        (dataclasses.replace(WIDE, backbone="unet"), MODEL, "only the reference's backbone can be narrowed"),
    ],
)
def test_what_cannot_be_narrowed(theirs: ModelConfig, ours: ModelConfig, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        narrowing.narrow({}, theirs, ours)
    assert said in str(error.value)

"""Arrays that trees share: stored once, read as one array; what is refused of a file's aliases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import traverse_util
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from jaxcolor.weights import native, storage
from jaxcolor.weights.reference import WeightsError
from tests.weights.conftest import SMALL, assert_same, flat

BIAS = "params/conv1_1/bias"
KERNEL = "params/conv3_1/kernel"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.safetensors"


def nested(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return traverse_util.unflatten_dict({tuple(name.split("/")): array for name, array in arrays.items()})


def counterpart(name: str) -> str | None:
    """The array of ``full`` at the place of one of another tree; None where it has none."""
    tree, collection, *rest = name.split("/")
    if tree == "instance":
        return "/".join(("full", collection, *rest))
    return "/".join(("full", collection, *rest[1:])) if tree == "fusion" and rest[0] == "trunk" else None


def sharing(small: dict[str, Any], names: Any = None) -> dict[str, Any]:
    """The variables with arrays of ``full`` in place of their counterparts: those named, or all; copies of them."""
    arrays = flat(small)
    for name in list(arrays):
        other = counterpart(name)
        if other in arrays and (names is None or name in names):
            arrays[name] = arrays[other].copy()
    return nested(arrays)


def aliases_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()[native.METADATA_KEY]).get("aliases", {})


def rewrite(path: Path, aliases: Any, arrays: Any = None) -> None:
    """The same file with aliases more, or in place of its own where they are no dict; None takes one away."""
    with safe_open(path, framework="np") as file:
        about = json.loads(file.metadata()[native.METADATA_KEY])
    if isinstance(aliases, dict):
        aliases = {name: x for name, x in {**about.get("aliases", {}), **aliases}.items() if x is not None}
    kept = {name: array for name, array in {**load_file(path), **(arrays or {})}.items() if array is not None}
    save_file(kept, path, metadata={native.METADATA_KEY: json.dumps({**about, "aliases": aliases})})


@pytest.fixture
def shared(path: Path, small: dict[str, Any]) -> Path:
    """A file whose instance network is the full-image one, as is the fusion trunk."""
    native.save(path, SMALL, sharing(small), {"full": {"a": np.ones(3, np.float32)}})
    return path


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1), kind=st.sampled_from(storage.STORAGES))
def test_any_arrays_that_trees_share(tmp_path, monkeypatch, small, seed, share, kind):
    """Values as they would be without sharing; one array where two were equal, and bytes for one."""
    monkeypatch.setattr(storage, "LEAST", storage.Least(30, 100, 30))
    rng = np.random.default_rng(seed)
    chosen = {name for name in flat(small) if counterpart(name) in flat(small) and rng.random() < share}
    path, apart = tmp_path / "some.safetensors", tmp_path / "apart.safetensors"
    variables = sharing(small, chosen)
    native.save(path, SMALL, variables, storage=kind)
    assert aliases_of(path) == {name: counterpart(name) for name in chosen}
    assert not load_file(path).keys() & chosen
    arrays = flat(variables)
    native.save(apart, SMALL, small, storage=kind)
    saved = apart.stat().st_size - path.stat().st_size
    assert saved > 0 or len(chosen) < 20
    loaded = native.load(path)
    read = flat(loaded.variables)
    of_full = flat(native.load(apart).variables)
    for name in arrays:
        np.testing.assert_array_equal(read[name], of_full[counterpart(name) if name in chosen else name], err_msg=name)
        assert (name in chosen) == (read[name] is read.get(counterpart(name)) and counterpart(name) is not None), name
    again = tmp_path / "again.safetensors"
    native.save(again, SMALL, loaded.variables, storage="float")
    assert aliases_of(again) == aliases_of(path)
    assert_same(native.load(again).variables, loaded.variables)


def test_a_file_without_any(path, small):
    """Is the file that it always was."""
    native.save(path, SMALL, small)
    with safe_open(path, framework="np") as file:
        assert "aliases" not in json.loads(file.metadata()[native.METADATA_KEY])
    native.save(path, SMALL, {"full": small["full"]})
    assert aliases_of(path) == {}


def test_size(path, shared, small):
    """Of three trees that are one: hardly more than that one."""
    all_three = shared.stat().st_size
    native.save(path, SMALL, small)
    assert all_three < 0.6 * path.stat().st_size


def test_equal_by_chance(path, small):
    """At other places arrays stay their own, and so do those that differ in the sign of a zero."""
    arrays = flat(small)
    shape = arrays[f"full/{BIAS}"].shape
    places = [name for name, array in arrays.items() if name.startswith("full/") and array.shape == shape]
    assert len(places) > 1
    for name in places:
        arrays[name] = np.zeros(shape, np.float32)
    arrays[f"instance/{BIAS}"] = -np.zeros(shape, np.float32)
    native.save(path, SMALL, nested(arrays))
    assert aliases_of(path) == {}
    loaded = native.load(path).variables
    assert np.signbit(loaded["instance"]["params"]["conv1_1"]["bias"]).all()


def test_fusion_may_have_what_instance_has(path, small):
    arrays = flat(small)
    arrays[f"fusion/{KERNEL.replace('params/', 'params/trunk/')}"] = arrays[f"instance/{KERNEL}"]
    native.save(path, SMALL, nested(arrays))
    assert aliases_of(path) == {f"fusion/{KERNEL.replace('params/', 'params/trunk/')}": f"instance/{KERNEL}"}


@pytest.mark.parametrize(
    ("aliases", "arrays", "said"),
    [
        (
            {f"instance/{BIAS}": "full/params/no/bias"},
            {},
            f"! wrong alias: instance/{BIAS} is full/params/no/bias, which is not in the file",
        ),
        ({f"instance/{BIAS}": f"instance/{BIAS}"}, {}, f"instance/{BIAS} is instance/{BIAS}, an alias itself"),
        (
            {f"instance/{BIAS}": f"fusion/{BIAS.replace('params/', 'params/trunk/')}"},
            {},
            f"! wrong alias: instance/{BIAS} is fusion/params/trunk/conv1_1/bias, an alias itself",
        ),
        (
            {f"instance/{BIAS}": f"full/{KERNEL}"},
            {},
            rf"! wrong shape: instance/{BIAS} is \(3, 3, 3, 5\), expected \(1,\)",
        ),
        ({f"instance/{BIAS}": "reference_unused/full/a"}, {}, "is reference_unused/full/a, which is not in the file"),
        ({f"instance/{BIAS}": None}, {}, rf"- missing: instance/{BIAS} \(1,\)"),
        ({"instance/params/no/bias": f"full/{BIAS}"}, {}, r"\+ left over: instance/params/no/bias \(1,\)"),
        ({"whole/params/a": f"full/{BIAS}"}, {}, "! wrong alias: whole/params/a is of no tree"),
        ({"reference_unused/full/b": f"full/{BIAS}"}, {}, "! wrong alias: reference_unused/full/b is of no tree"),
        (
            {},
            {f"instance/{BIAS}": np.zeros(1, np.float32)},
            f"! wrong alias: instance/{BIAS} is in the file, and is full/{BIAS} by its metadata",
        ),
        ({}, {f"full/{BIAS}": None}, f"! wrong alias: instance/{BIAS} is full/{BIAS}, which is not in the file"),
        ({}, {f"full/{BIAS}": np.zeros(2, np.float32)}, rf"! wrong shape: instance/{BIAS} is \(2,\), expected \(1,\)"),
        ({}, {f"full/{BIAS}": np.zeros(1, np.float16)}, f"! wrong type: instance/{BIAS} is F16, expected F32"),
        ({}, {f"full/{BIAS}": np.full(1, np.nan, np.float32)}, f"! not finite: full/{BIAS} holds NaN"),
        ([], {}, "its metadata: aliases must map names to names"),
        ({f"instance/{BIAS}": 3}, {}, "its metadata: aliases must map names to names"),
        ({f"instance/{BIAS}": ["full"]}, {}, "its metadata: aliases must map names to names"),
        (None, {}, "its metadata: aliases must map names to names"),
    ],
)
def test_what_is_refused(shared, aliases, arrays, said):
    rewrite(shared, aliases, arrays)
    with pytest.raises(WeightsError, match=said) as error:
        native.load(shared)
    assert str(error.value).startswith(f"{shared}: ")


def test_an_alias_of_scales(path, small, monkeypatch):
    """Scales are no arrays of a tree."""
    monkeypatch.setattr(storage, "LEAST", storage.Least(30, 100, 30))
    native.save(path, SMALL, sharing(small), storage="int8")
    rewrite(path, {f"instance/{BIAS}": f"scale/full/{KERNEL}"})
    with pytest.raises(WeightsError, match=f"is scale/full/{KERNEL}, which is not in the file"):
        native.load(path)
    scale = load_file(path)[f"scale/full/{KERNEL}"]
    rewrite(path, {f"instance/{BIAS}": None}, {f"scale/instance/{KERNEL}": scale})
    with pytest.raises(WeightsError, match=rf"\+ left over: scale/instance/{KERNEL}"):
        native.load(path)

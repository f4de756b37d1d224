from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from jaxcolor.color import SaturationCurve
from jaxcolor.config import BoxHeadConfig, ConfigError, ModelConfig
from jaxcolor.models import box_head, networks
from jaxcolor.weights import native, reference
from jaxcolor.weights.native import BoxHeadWeights
from jaxcolor.weights.reference import WeightsError
from tests.weights.conftest import SMALL, assert_same


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "some.safetensors"


def rewrite(path: Path, about=None, arrays=None) -> None:
    """The same file with some of its metadata or arrays replaced; None takes an array away."""
    with safe_open(path, framework="np") as file:
        old = json.loads(file.metadata()[native.METADATA_KEY])
    arrays = {key: value for key, value in {**load_file(path), **(arrays or {})}.items() if value is not None}
    save_file(arrays, path, metadata={native.METADATA_KEY: json.dumps({**old, **(about or {})})})


def lines(error: pytest.ExceptionInfo) -> list[str]:
    return str(error.value).splitlines()


def test_round_trip(path, small):
    unused = {"fusion": {"weight_layerout.0.weight": np.ones((2, 3), np.float32), "a.b": np.asarray(5, np.int64)}}
    native.save(path, SMALL, small, unused, "a note with é")
    loaded = native.load(path)
    assert loaded.config == SMALL
    assert loaded.note == "a note with é"
    assert loaded.trees == ("full", "instance", "fusion")
    assert_same(loaded.variables, small)
    assert_same(loaded.unused, unused)
    vouched = native.load(path, vouched=True)
    assert_same(vouched.variables, small)
    assert vouched._replace(variables={}, unused={}) == loaded._replace(variables={}, unused={})


def test_reference_weights_round_trip(path, states):
    """Full size, from transposed views (which safetensors 0.8.0 would scramble), unused arrays included."""
    translated = {tree: reference.variables_from_state(tree, state) for tree, state in states.items()}
    variables = {tree: t.variables for tree, t in translated.items()}
    native.save(path, ModelConfig(), variables, {tree: t.unused for tree, t in translated.items()})
    loaded = native.load(str(path))
    path.unlink()  # 400 MB, which pytest would keep for three runs
    assert loaded.config == ModelConfig()
    for tree, state in states.items():
        assert_same(reference.state_from_variables(tree, loaded.variables[tree], loaded.unused[tree]), state)


def test_names_and_metadata(path, small):
    native.save(path, SMALL, small, {"full": {"a.num_batches_tracked": np.asarray(1)}})
    with safe_open(path, framework="np") as file:
        about = json.loads(file.metadata()["jaxcolor"])
        keys = set(file.keys())
    assert about["format"] == native.FORMAT == 2
    assert (about["decode"], about["saturation_curve"]) == ("safe", None)
    assert about["trees"] == ["full", "instance", "fusion"]
    assert about["config"]["fusion"]["layers"] == ["conv1_2", "conv8_up"]
    assert {
        "full/params/conv1_1/kernel",
        "full/batch_stats/norm1/mean",
        "fusion/params/trunk/conv1_1/kernel",
        "reference_unused/full/a.num_batches_tracked",
    } <= keys


@pytest.mark.parametrize("decode", ["safe", "vivid:0.5", "vivid:1"])
def test_how_colors_are_decoded(path, small, decode):
    curve = SaturationCurve((0.0, 10.0, 20.5), (0.0, 15.0, 15.0))
    native.save(path, SMALL, {"full": small["full"]}, decode=decode, saturation_curve=curve)
    loaded = native.load(path)
    assert (loaded.decode, loaded.saturation_curve) == (decode, curve)


@pytest.mark.parametrize("decode", ["", "vivid", "vivid:0", "vivid:1.5", "vivid:nan", "vivid:-1", "Safe"])
def test_no_such_way_to_decode(path, small, decode):
    with pytest.raises(WeightsError, match=r"not written: decode .*: must be 'safe', or 'vivid:V'"):
        native.save(path, SMALL, {"full": small["full"]}, decode=decode)
    with pytest.raises(WeightsError, match=r"not written: vivid 0\.5: these weights have neither"):
        native.save(path, SMALL, {"full": small["full"]}, decode="vivid:0.5")
    assert not list(path.parent.iterdir())


def test_some_trees(path, small):
    native.save(path, SMALL, {"full": small["full"]})
    loaded = native.load(path)
    assert loaded.trees == ("full",)
    assert loaded.unused == {"full": {}}
    assert_same(loaded.variables, {"full": small["full"]})


def test_tree_order_is_ours(path, small):
    native.save(path, SMALL, dict(reversed(small.items())))
    assert native.load(path).trees == ("full", "instance", "fusion")


@pytest.mark.parametrize("norm", ["group", "none"])
def test_jax_arrays_without_batch_stats(path, norm):
    config = dataclasses.replace(SMALL, norm=norm)
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), networks.abstract(config))
    native.save(path, config, variables)
    assert_same(native.load(path).variables, variables)


def test_types(path, small):
    """Float32 for bfloat16 compute too; float64 for float64."""
    native.save(path, dataclasses.replace(SMALL, compute_dtype="bfloat16"), {"full": small["full"]})
    assert native.load(path).config.compute_dtype == "bfloat16"
    double = dataclasses.replace(SMALL, compute_dtype="float64")
    with pytest.raises(WeightsError, match="! wrong type: full/params/conv1_1/bias is F32, expected F64"):
        native.save(path, double, {"full": small["full"]})
    wide = {
        k: {n: {a: v.astype(np.float64) for a, v in x.items()} for n, x in c.items()} for k, c in small["full"].items()
    }
    native.save(path, double, {"full": wide})
    assert_same(native.load(path).variables["full"], wide)
    wide["params"]["conv1_1"]["bias"] = jnp.zeros(1, jnp.bfloat16)
    with pytest.raises(WeightsError, match="conv1_1/bias is bfloat16, expected F64"):
        native.save(path, double, {"full": wide})


def test_same_weights_same_bytes(tmp_path, small):
    for name in "ab":
        native.save(tmp_path / name, SMALL, small, note="x")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_usual_permissions(tmp_path, path, small):
    native.save(path, SMALL, small)
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_save_is_strict(path, small):
    params = small["full"]["params"]
    params["more"] = {"bias": np.zeros(2, np.float32)}
    del params["conv1_1"]["kernel"]
    params["conv1_2"]["bias"] = np.zeros(9, np.float32)
    params["conv2_1"]["bias"] = params["conv2_1"]["bias"].astype(np.float16)
    with pytest.raises(WeightsError) as error:
        native.save(path, SMALL, small, {"full": {"a": np.zeros(2, np.complex64)}})
    assert lines(error) == [
        f"{path}: not written",
        "  - missing: full/params/conv1_1/kernel (3, 3, 4, 1)",
        "  + left over: full/params/more/bias (2,)",
        "  ! wrong shape: full/params/conv1_2/bias is (9,), expected (1,)",
        "  ! wrong type: full/params/conv2_1/bias is F16, expected F32",
        "  ! wrong type: reference_unused/full/a is complex64, expected one of "
        "BOOL, U8, I8, I16, I32, I64, F16, F32, F64",
    ]
    assert not list(path.parent.iterdir())


def test_save_refuses_what_could_not_be_loaded(path, small):
    for variables, unused, said in (
        ({}, None, "no tree of variables; known: full, instance, fusion"),
        ({"whole": small["full"]}, None, "no such tree: whole; known"),
        ({"full": small["full"]}, {"fusion": {"a": np.zeros(1)}}, r"\+ left over: reference_unused/fusion/a \(1,\)"),
    ):
        with pytest.raises(WeightsError, match=said):
            native.save(path, SMALL, variables, unused)
    config = dataclasses.replace(SMALL)
    object.__setattr__(config, "norm", "layer")  # past the type checks that only tests have
    with pytest.raises(ConfigError, match=r"model.norm: 'layer' is none of batch, group, none"):
        native.save(path, config, small)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(path, small, value):
    native.save(path, SMALL, small)
    before = path.read_bytes()
    bad = small["instance"]["batch_stats"]["norm1"]["var"]
    bad[0] = value
    with pytest.raises(WeightsError, match="! not finite: instance/batch_stats/norm1/var holds NaN or infinity"):
        native.save(path, SMALL, small)
    assert path.read_bytes() == before
    rewrite(path, arrays={"instance/batch_stats/norm1/var": bad})
    with pytest.raises(WeightsError, match="! not finite: instance/batch_stats/norm1/var holds NaN or infinity"):
        native.load(path)


def test_unused_arrays_may_hold_anything(path, small):
    unused = {"full": {"a": np.asarray([np.nan, 1], np.float32)}}
    native.save(path, SMALL, small, unused)
    assert np.array_equal(native.load(path).unused["full"]["a"], unused["full"]["a"], equal_nan=True)


def test_a_failed_write_leaves_the_old_file(path, small, monkeypatch):
    native.save(path, SMALL, small)
    before = path.read_bytes()

    def fail(arrays, filename, metadata):
        Path(filename).write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(native, "save_file", fail)
    with pytest.raises(OSError, match=r"cannot be written \(I/O error: No space left on device\)"):
        native.save(path, SMALL, small)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_no_place_to_write(tmp_path, small):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        native.save(tmp_path / "no" / "some.safetensors", SMALL, small)
    with pytest.raises(IsADirectoryError, match="give the name of a file"):
        native.save(tmp_path, SMALL, small)


def test_a_folder_that_cannot_be_written(path, small, monkeypatch):
    def fail(self, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", fail)
    with pytest.raises(PermissionError, match=r"cannot be written \(Permission denied\)") as error:
        native.save(path, SMALL, small)
    assert error.value.filename == str(path)


def test_load_is_strict(path, small):
    native.save(path, SMALL, small)
    rewrite(
        path,
        arrays={
            "full/params/conv1_1/kernel": None,
            "more": np.zeros(2, np.float32),
            "full/params/conv1_2/bias": np.zeros(9, np.float32),
            "full/params/conv2_1/bias": np.zeros(3, np.float16),
            "reference_unused/whole/a": np.zeros(2, np.float32),
        },
    )
    with pytest.raises(WeightsError) as error:
        native.load(path)
    assert lines(error) == [
        f"{path}: does not hold the weights that its config describes",
        "  - missing: full/params/conv1_1/kernel (3, 3, 4, 1)",
        "  + left over: more (2,)",
        "  + left over: reference_unused/whole/a (2,)",
        "  ! wrong shape: full/params/conv1_2/bias is (9,), expected (1,)",
        "  ! wrong type: full/params/conv2_1/bias is F16, expected F32",
    ]


def test_arrays_of_a_tree_that_the_metadata_does_not_name(path, small):
    native.save(path, SMALL, small)
    rewrite(path, about={"trees": ["full", "fusion"]})
    with pytest.raises(WeightsError, match=r"\+ left over: instance/params/conv1_1/kernel"):
        native.load(path)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"format": 1, "version": "9.9"}, r"format 1, written by jaxcolor 9.9; jaxcolor \S+ reads format 2"),
        ({"format": None}, "format None"),
        ({"trees": ["whole"]}, r"trees \['whole'\] in its metadata; known: full, instance, fusion"),
        ({"trees": []}, "known: full, instance, fusion"),
        ({"trees": ["full", "full"]}, "known: full, instance, fusion"),
        ({"note": None}, "note or config in its metadata is of a wrong type"),
        ({"decode": "loud"}, "decode 'loud': must be 'safe', or 'vivid:V'"),
        ({"decode": None}, "decode None: must be a text"),
        ({"decode": "vivid:0.5"}, "vivid 0.5: these weights have neither a class head"),
        ({"saturation_curve": {"predicted": [0, 2, 1], "wanted": [0, 1, 2]}}, "saturation_curve: must be lists"),
        ({"saturation_curve": {"predicted": [0, 1]}}, "saturation_curve: must be lists"),
        ({"saturation_curve": [1]}, "saturation_curve: must be lists"),
        ({"config": [1]}, "note or config in its metadata is of a wrong type"),
        ({"config": {"depth": 3}, "version": "9.9"}, "model.depth: no such field.*written by jaxcolor 9.9, this is"),
        ({"config": {"width": "wide"}}, "model.width: 'wide' is not of type float"),
        ({"config": {"fusion": {"layers": ["conv99"]}}}, "fusion.layers: 'conv99' is not none, all"),
        ({"config": {"width": float("inf")}}, "its config makes no networks here"),
        ({"config": {"fusion": {"head_channels": -1}}}, "its config makes no networks here"),
    ],
)
def test_metadata_that_cannot_be_used(path, small, about, said):
    native.save(path, SMALL, {"full": small["full"]})
    rewrite(path, about=about)
    with pytest.raises(WeightsError, match=said) as error:
        native.load(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("text", ["{", "[]", "{}", "3"])
def test_metadata_that_cannot_be_read(path, text):
    save_file({"a": np.zeros(1)}, path, metadata={"jaxcolor": text})
    with pytest.raises(WeightsError, match="its metadata cannot be read"):
        native.load(path)


def test_files_of_others(path):
    save_file({"a": np.zeros(1)}, path)
    with pytest.raises(WeightsError, match="not a weights file of jaxcolor: there is no config in its metadata"):
        native.load(path)
    save_file({"a": np.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="not a weights file of jaxcolor"):
        native.load(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html>no such page</html>" * 9])
def test_not_safetensors(path, content):
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged, cut short or not a safetensors file") as error:
        native.load(path)
    assert str(path) in str(error.value)


def test_cut_short(path, small):
    native.save(path, SMALL, small)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(WeightsError, match="damaged, cut short or not a safetensors file"):
        native.load(path)


def test_nothing_to_load(path, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"some\.safetensors"):
        native.load(path)
    with pytest.raises(WeightsError, match=r"is a folder without weights; give a \.safetensors file"):
        native.load(tmp_path)


HEAD = BoxHeadConfig(channels=8, groups=2, threshold=0.125)


@pytest.fixture(scope="module")
def head() -> BoxHeadWeights:
    """Random numbers in every array; not to be changed."""
    rng = np.random.default_rng(1)
    shapes = box_head.abstract(SMALL, HEAD)
    return BoxHeadWeights(HEAD, jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), shapes))


@pytest.mark.parametrize("storage", ["float", "int8"])
def test_a_head_that_finds_boxes(path, small, head, storage):
    native.save(path, SMALL, small, storage=storage, box_head=head)
    loaded = native.load(path)
    assert loaded.box_head is not None
    assert loaded.box_head.config == HEAD
    assert loaded.trees == ("full", "instance", "fusion")
    assert loaded.unused == {"full": {}, "instance": {}, "fusion": {}}
    assert_same(loaded.box_head.variables, head.variables)  # its kernels are too small for few bits
    assert "box_head/params/heat/kernel" in load_file(path)
    native.save(path, *loaded)
    assert_same(native.load(path).box_head.variables, head.variables)


def test_heads_that_cannot_be_written(path, small, head):
    with pytest.raises(WeightsError, match=r"not written: box_head .*beside a tree full"):
        native.save(path, SMALL, {"instance": small["instance"]}, box_head=head)
    other = head._replace(config=dataclasses.replace(HEAD, channels=16))
    with pytest.raises(WeightsError, match=r"! wrong shape: box_head/params/heat/kernel is \(1, 1, 8, 1\), expected"):
        native.save(path, SMALL, small, box_head=other)
    with pytest.raises(WeightsError, match=r"not written: boxes\.taps: backbone 'reference' has no conv9_9"):
        native.save(path, SMALL, small, box_head=head._replace(config=dataclasses.replace(HEAD, taps=("conv9_9",))))
    bad = jax.tree.map(lambda leaf: leaf * np.float32(np.nan), head.variables)
    with pytest.raises(WeightsError, match="! not finite: box_head/params/boxes/bias"):
        native.save(path, SMALL, small, box_head=head._replace(variables=bad))
    assert not list(path.parent.iterdir())


def test_heads_that_cannot_be_read(path, small, head):
    native.save(path, SMALL, {"full": small["full"]}, box_head=head)
    whole = path.read_bytes()
    about = json.loads(safe_open(path, framework="np").metadata()[native.METADATA_KEY])["box_head"]
    for wrong, said in (
        (None, r"\+ left over: box_head/params/boxes/bias"),
        ([], r"box_head \[\]; it is the config of a head"),
        (about | {"depth": 3}, r"box_head\.depth: no such field"),
        (about | {"channels": -1}, r"box_head\.channels: -1, which must be from 1"),
        (about | {"taps": ["conv9_9", "conv7_3"]}, r"boxes\.taps: backbone 'reference' has no conv9_9; it has"),
        (about | {"channels": 16}, "wrong shape: box_head/params/heat/kernel"),
    ):
        rewrite(path, about={"box_head": wrong})
        with pytest.raises(WeightsError, match=said):
            native.load(path)
        path.write_bytes(whole)
    rewrite(path, arrays={"box_head/params/heat/bias": None})
    with pytest.raises(WeightsError, match=r"- missing: box_head/params/heat/bias \(1,\)"):
        native.load(path)

"""Kernels in 8 and 6 bits: how far they are from what was stored, what a file holds, what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from jaxcolor.weights import native, storage
from jaxcolor.weights.reference import WeightsError
from tests.small import MODEL, variables
from tests.weights.conftest import SMALL, assert_same, flat

KERNEL = "full/params/conv3_1/kernel"
SCALE = f"scale/{KERNEL}"


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    """For files of ``SMALL``, whose kernels would all be too small: those of 100 numbers and more are stored so."""
    monkeypatch.setattr(storage, "LEAST", storage.Least(100, 500, 100))
    return tmp_path / "some.safetensors"


@pytest.fixture
def stored(path, small) -> Path:
    native.save(path, SMALL, small, {"full": {"a": np.ones((2, 3), np.int8)}}, "a note", storage="int8")
    return path


def rewrite(path: Path, about=None, arrays=None) -> None:
    """The same file with some of its metadata or arrays replaced; None takes one away."""
    with safe_open(path, framework="np") as file:
        old = json.loads(file.metadata()[native.METADATA_KEY])
    kept = {key: value for key, value in {**load_file(path), **(arrays or {})}.items() if value is not None}
    about = {key: value for key, value in {**old, **(about or {})}.items() if value is not None}
    save_file(kept, path, metadata={native.METADATA_KEY: json.dumps(about)})


kernels = st.builds(
    lambda numbers, exponent: (numbers * 10.0**exponent).astype(np.float32),
    arrays(np.int32, st.tuples(st.just(3), st.integers(1, 5), st.integers(1, 5)), elements=st.integers(-9999, 9999)),
    st.integers(-30, 30),
)


class TestQuantize:
    @given(kernels)
    def test_nothing_is_farther_off_than_half_a_step(self, kernel):
        values, scale = found = storage.quantize(kernel)
        assert (values.dtype, values.shape, scale.dtype, scale.ndim) == (np.int8, kernel.shape, np.float32, 3)
        error = np.abs(found.dequantized().astype(np.float64) - kernel)
        assert (error <= scale * 0.5001).all()
        assert (found.dequantized()[kernel == 0] == 0).all()

    @given(kernels)
    def test_storing_again_changes_no_value(self, kernel):
        first = storage.quantize(kernel).dequantized()
        np.testing.assert_allclose(storage.quantize(first).dequantized(), first, rtol=1e-6)

    @pytest.mark.parametrize("axis", [2, 3])
    def test_scales_lie_along_the_axis_whose_channels_differ(self, axis):
        """Outputs of convolutions are the last axis, those of transposed ones the one before."""
        channels = np.moveaxis(np.float32([1e-3, 1, 1e3, 30, 1e-2])[:, None, None, None], 0, axis)
        kernel = np.random.default_rng(0).uniform(-1, 1, (3, 3, 5, 5)).astype(np.float32) * channels
        found = storage.quantize(kernel)
        assert found.scale.shape == channels.shape
        assert np.abs(found.dequantized() / channels - kernel / channels).max() < 0.5 / 126

    def test_a_channel_of_zeros(self):
        kernel = np.zeros((1, 2, 3), np.float32)
        kernel[..., 0] = 1
        np.testing.assert_array_equal(storage.quantize(kernel).dequantized(), kernel)


class TestSixBits:
    @given(st.integers(0, 2**32 - 1))
    def test_three_bytes_are_four_values(self, seed):
        values = np.random.default_rng(seed).integers(-31, 32, (3, 2, 8)).astype(np.int8)
        packed = storage._four_in_three(values)
        assert (packed.shape, packed.dtype) == ((3, 2, 6), np.uint8)
        np.testing.assert_array_equal(storage._three_to_four(packed), values)

    @given(kernels)
    def test_storing_again_changes_no_value(self, kernel):
        first = storage.quantize(kernel, "int6").dequantized()
        np.testing.assert_allclose(storage.quantize(first, "int6").dequantized(), first, rtol=1e-5)

    def test_scales_have_the_least_squared_error(self):
        kernel = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
        found = storage.quantize(kernel, "int6")
        assert np.abs(found.values).max() == 31
        plain = np.abs(kernel).max(axis=(0, 1, 2)) / 31
        rounded = np.rint(kernel / plain) * plain
        assert np.square(found.dequantized() - kernel).mean() < 0.97 * np.square(rounded - kernel).mean()

    def test_a_file(self, path):
        """Kernels whose last axis is no multiple of 4 have 8 bits, and smaller ones."""
        native.save(path, MODEL, variables(MODEL), storage="int6")
        plain, arrays = flat(variables(MODEL)), load_file(path)
        kinds = {name: array.dtype.name for name, array in arrays.items() if f"scale/{name}" in arrays}
        assert set(kinds.values()) == {"uint8", "int8"}
        loaded = native.load(path)
        assert loaded.storage == "int6"
        read = flat(loaded.variables)
        for name, array in read.items():
            assert array.shape == plain[name].shape
            assert array.dtype == np.float32
            if name not in kinds:
                np.testing.assert_array_equal(array, plain[name])
            else:
                in_6 = plain[name].shape[-1] % 4 == 0 and plain[name].size >= 500
                assert in_6 == (kinds[name] == "uint8")
                assert np.corrcoef(array.ravel(), plain[name].ravel())[0, 1] > 0.99
        again = path.with_name("again.safetensors")
        native.save(again, MODEL, loaded.variables, storage="int6")
        for name, array in flat(native.load(again).variables).items():
            np.testing.assert_allclose(array, read[name], rtol=1e-5, err_msg=name)

    def test_bytes_that_are_no_fours(self, path):
        native.save(path, MODEL, variables(MODEL), storage="int6")
        name = next(n for n, a in load_file(path).items() if a.dtype == np.uint8)
        rewrite(path, arrays={name: load_file(path)[name][..., :-1].copy()})
        with pytest.raises(WeightsError, match=f"wrong shape: {name} is .* multiple of 3 bytes"):
            native.load(path)


def test_a_file(stored, small):
    arrays = load_file(stored)
    large = {name for name, array in arrays.items() if array.dtype == np.int8} - {"reference_unused/full/a"}
    plain = flat(small)
    assert large == {name for name, array in plain.items() if name.endswith("/kernel") and array.size >= 100}
    assert KERNEL in large
    assert {name for name in arrays if name.startswith("scale/")} == {f"scale/{name}" for name in large}
    loaded = native.load(stored)
    assert (loaded.storage, loaded.note, loaded.config) == ("int8", "a note", SMALL)
    read = flat(loaded.variables)
    assert read.keys() == plain.keys()
    for name, array in read.items():
        assert array.dtype == np.float32
        if name in large:
            step = np.broadcast_to(arrays[f"scale/{name}"], array.shape)
            assert (np.abs(array - plain[name]) <= 0.5001 * step).all()
            assert (array != plain[name]).any()
        else:
            np.testing.assert_array_equal(array, plain[name], err_msg=name)
    assert_same(loaded.unused["full"], {"a": np.ones((2, 3), np.int8)})


def test_same_weights_same_bytes(stored, small, tmp_path):
    again = tmp_path / "again.safetensors"
    unused = {"full": {"a": np.ones((2, 3), np.int8)}}
    native.save(again, SMALL, small, unused, "a note", storage="int8")
    assert again.read_bytes() == stored.read_bytes()


def test_a_quarter_of_the_size(tmp_path):
    """As the whole network has it: a kernel that counts beside its bias."""
    rng = np.random.default_rng(0)
    arrays = {"a/kernel": rng.standard_normal((3, 3, 128, 128), np.float32), "a/bias": np.ones(128, np.float32)}
    sizes = {kind: sum(a.nbytes for a in storage.pack(arrays, kind).values()) for kind in storage.STORAGES}
    assert sizes["int8"] < 0.256 * sizes["float"]


def test_floats_are_the_default(path, small):
    native.save(path, SMALL, small)
    assert native.load(path).storage == "float"
    rewrite(path, about={"storage": None})  # as files were before there was a choice
    loaded = native.load(path)
    assert loaded.storage == "float"
    assert_same(loaded.variables, small)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({SCALE: None}, rf"- missing: {SCALE} \(1, 1, 1, 5\)"),
        (
            {SCALE: np.ones(5, np.float32)},
            rf"wrong shape: {SCALE} is \(5,\), expected \(1, 1, 1, 5\) or \(1, 1, 3, 1\)",
        ),
        ({SCALE: np.ones((1, 1, 1, 4), np.float32)}, rf"! wrong shape: {SCALE} is \(1, 1, 1, 4\)"),
        ({SCALE: np.ones((1, 1, 1, 5), np.float16)}, f"! wrong type: {SCALE} is F16, expected F32"),
        ({SCALE: np.full((1, 1, 1, 5), np.nan, np.float32)}, f"! not finite and above 0: {SCALE} holds nan"),
        ({SCALE: np.full((1, 1, 1, 5), np.inf, np.float32)}, f"! not finite and above 0: {SCALE} holds inf"),
        ({SCALE: np.full((1, 1, 1, 5), -1, np.float32)}, rf"! not finite and above 0: {SCALE} holds -1\.0"),
        ({SCALE: np.full((1, 1, 1, 5), 3e38, np.float32)}, f"! not finite: {KERNEL} holds NaN or infinity"),
        (
            {KERNEL: np.ones((3, 3, 3, 5), np.float32)},
            rf"left over: {SCALE} \(1, 1, 1, 5\), of no kernel in 8 or 6 bits",
        ),
        ({"scale/more": np.ones(2, np.float32)}, r"\+ left over: scale/more \(2,\)"),
        ({KERNEL: np.ones((3, 3, 5), np.int8), SCALE: np.ones((1, 1, 5), np.float32)}, f"wrong shape: {KERNEL} is"),
        ({"full/params/conv3_1/bias": np.ones(5, np.int8)}, "wrong type: full/params/conv3_1/bias is I8, expected F32"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_what_is_refused(stored, arrays, said):
    rewrite(stored, arrays=arrays)
    with pytest.raises(WeightsError, match=said) as error:
        native.load(stored)
    assert str(error.value).startswith(f"{stored}: ")


def test_metadata(stored, small):
    rewrite(stored, about={"storage": "int4"})
    with pytest.raises(WeightsError, match="storage 'int4' in its metadata; known: float, int8"):
        native.load(stored)
    rewrite(stored, about={"storage": "float"})  # what a reader does that knows no storage
    with pytest.raises(WeightsError, match=rf"left over: {SCALE}[\s\S]*wrong type: {KERNEL} is I8, expected F32"):
        native.load(stored)


def test_float64_is_not_rounded(path, small):
    double = dataclasses.replace(SMALL, compute_dtype="float64")
    wide = {
        "full": {
            k: {n: {a: v.astype(np.float64) for a, v in x.items()} for n, x in c.items()}
            for k, c in small["full"].items()
        }
    }
    with pytest.raises(WeightsError, match="storage int8 is for float32 weights"):
        native.save(path, double, wide, storage="int8")
    assert not path.exists()


def kinds(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    return {name: array.dtype.name for name, array in arrays.items() if not name.startswith("scale/")}


def test_each_file_has_limits_of_its_own(path):
    """What is stored in how many bits is asked of the file, not of the limits that a reader would write with."""
    given = flat(variables(MODEL))
    sizes = {}
    for least in (storage.Least(200, 2_000, 10**6), storage.Least(200, 500, 10**6)):
        native.save(path, MODEL, variables(MODEL), storage="int6", least=least)
        for name, kind in kinds(load_file(path)).items():
            size, last = given[name].size, given[name].shape[-1]
            few = name.endswith("/kernel") and size >= least.in_8 and not name.startswith("fusion/params/fuse_")
            in_6 = few and size >= least.in_6 and last % 4 == 0
            assert kind == ("uint8" if in_6 else "int8" if few else "float32"), name
        sizes[least.in_6] = path.stat().st_size
        read = flat(native.load(path).variables)
        for name, array in given.items():
            assert np.square(read[name] - array).mean() <= np.square(array).mean() / 400, name
    assert sizes[500] < sizes[2_000]


def test_default_weights_are_read_and_stored_as_before():
    """The limits at width 1 are part of what the default weights are."""
    assert storage.Least() == (100_000, 1_000_000, 2_000)


class TestFusion:
    """A strategy's small kernels in 8 bits, at the size that they have at width 1."""

    @pytest.mark.parametrize("channels", [16, 64, 128, 512])
    def test_error_of_a_head(self, channels):
        """The logit is off by less than 1% of its deviation, whatever the scale of the features' channels."""
        rng = np.random.default_rng(channels)
        kernel = rng.normal(0, 0.02, (3, 3, channels, 16)).astype(np.float32)
        kernel *= np.exp(rng.normal(0, 0.5, (1, 1, channels, 1))).astype(np.float32)
        name = "fusion/params/fuse_conv4_3/full_head/conv1/kernel"
        packed = storage.pack({name: kernel}, "int6")
        assert packed[name].dtype == np.int8
        found = storage.unpack(packed)[name]
        features = np.maximum(rng.standard_normal((1000, 9 * channels)), 0).astype(np.float32)
        exact, stored = (features @ k.reshape(-1, 16) for k in (kernel, found))
        assert np.sqrt(np.square(stored - exact).mean()) < 0.01 * exact.std()

    def test_other_small_kernels_stay(self):
        kernel = np.random.default_rng(0).standard_normal((3, 3, 64, 64)).astype(np.float32)
        for name in ("full/params/conv1_2/kernel", "fusion/params/trunk/conv1_2/kernel"):
            assert storage.pack({name: kernel}, "int8").keys() == {name}
        assert storage.pack({"fusion/params/fuse_conv1_2/full_head/bias": kernel}, "int8").keys() == {
            "fusion/params/fuse_conv1_2/full_head/bias"
        }

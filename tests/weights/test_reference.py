from __future__ import annotations

import errno
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxcolor.models.networks import TREES
from jaxcolor.weights import names, reference
from jaxcolor.weights.reference import WeightsError
from tests.weights.conftest import assert_same

NEEDS_TORCH = "reading .pth files needs PyTorch: pip install 'jaxcolor[torch]'"


class Bomb:
    """Creates a file when unpickled."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason=NEEDS_TORCH)


def one_line(error: pytest.ExceptionInfo, path: Path) -> str:
    """The message, which must be one line that names the file."""
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("tree", TREES)
def test_there_and_back(states, tree):
    translated = reference.variables_from_state(tree, states[tree])
    counters = [key for key in states[tree] if key.endswith("num_batches_tracked")]
    assert set(counters) <= set(translated.unused)
    assert set(translated.unused) == {key for key in states[tree] if names.UNUSED[tree].fullmatch(key)}
    back = reference.state_from_variables(tree, translated.variables, translated.unused)
    assert_same(back, states[tree])
    assert all(array.flags.c_contiguous for array in back.values())


def test_module_prefix(states):
    prefixed = {f"module.{key}": value for key, value in states["fusion"].items()}
    translated = reference.variables_from_state("fusion", prefixed)
    assert all("module" not in key for key in translated.unused)
    back = reference.state_from_variables("fusion", translated.variables, translated.unused, module_prefix=True)
    assert_same(back, prefixed)


def test_unused_arrays_of_each_tree(states):
    kept = {tree: set(reference.variables_from_state(tree, states[tree]).unused) for tree in TREES}
    assert all(key.endswith("num_batches_tracked") for key in kept["full"])
    assert "model_class.0.weight" in kept["instance"] & kept["fusion"]
    assert sum(key.startswith("weight_layerout.") for key in kept["fusion"]) == 12


def test_everything_wrong_is_listed(states):
    state = dict(states["fusion"])
    del state["model1.0.bias"], state["weight_layer2.simple_bg_conv.4.weight"]
    state["model11.0.weight"] = np.zeros((3, 3), np.float32)
    state["module.model1.0.weight"] = state["model1.0.weight"]
    state["model2.0.weight"] = np.zeros((64, 128, 3, 3), np.float32)
    state["model8up.0.weight"] = np.zeros((256, 512, 4, 4), np.float32)
    state["model3.6.running_mean"] = np.zeros(256, np.int64)
    state["model4.6.bias"] = np.full(512, np.nan, np.float32)
    with pytest.raises(WeightsError) as error:
        reference.variables_from_state("fusion", state, "some.pth")
    assert str(error.value).splitlines() == [
        "some.pth: not the weights of the reference's GF",
        "  + left over: module.model1.0.weight (there is model1.0.weight too)",
        "  - missing: model1.0.bias (64,)",
        "  - missing: weight_layer2.simple_bg_conv.4.weight (1, 16, 3, 3)",
        "  + left over: model11.0.weight (3, 3)",
        "  ! wrong shape: model2.0.weight is (64, 128, 3, 3), expected (128, 64, 3, 3)",
        "  ! wrong shape: model8up.0.weight is (256, 512, 4, 4), expected (512, 256, 4, 4)",
        "  ! wrong type: model3.6.running_mean is int64, expected a floating type",
        "  ! not finite: model4.6.bias holds NaN or infinity",
    ]


def test_a_kernel_of_equal_size_in_our_layout_is_refused(states):
    state = {**states["full"], "model2.0.weight": states["full"]["model2.0.weight"].transpose(2, 3, 1, 0)}
    with pytest.raises(WeightsError, match=r"! wrong shape: model2.0.weight is \(3, 3, 64, 128\), expected \(128, 64"):
        reference.variables_from_state("full", state)


def test_the_inverse_is_strict(states):
    variables = reference.variables_from_state("full", states["full"]).variables
    params = {**variables["params"], "more": {"bias": np.zeros(3)}, "output": {"bias": np.zeros(3)}}
    with pytest.raises(WeightsError) as error:
        reference.state_from_variables("full", {**variables, "params": params}, {"model_class.0.bias": np.zeros(529)})
    assert str(error.value).splitlines() == [
        "full: not variables of the reference's GComp",
        "  - missing: params/output/kernel (1, 1, 128, 2)",
        "  + left over: params/more/bias (3,)",
        "  ! wrong shape: params/output/bias is (3,), expected (2,)",
        "  + left over: model_class.0.bias, kept as unused",
    ]


def test_folder_without_the_files(tmp_path):
    (tmp_path / "latest_net_G.pth").touch()
    with pytest.raises(WeightsError, match=r"no latest_net_GComp.pth, latest_net_GF.pth in this folder") as error:
        reference.load(tmp_path)
    one_line(error, tmp_path)


@pytest.mark.parametrize("name", ["latest_net_G.pth", "latest_net_GF.pth"])
def test_one_file_of_the_wrong_branch(tmp_path, name):
    """G has the keys of GComp: nothing but the name could tell."""
    (tmp_path / name).touch()
    with pytest.raises(WeightsError, match=r"must be the full branch, latest_net_GComp\.pth") as error:
        reference.load(tmp_path / name)
    one_line(error, tmp_path / name)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        reference.load(tmp_path / "no.pth")
    assert error.value.errno == errno.ENOENT


def test_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # what makes `import torch` fail
    path = tmp_path / "some.pth"
    path.touch()
    with pytest.raises(WeightsError, match=r"needs PyTorch: pip install 'jaxcolor\[torch\]'$") as error:
        reference.load(path)
    one_line(error, path)


def test_three_files(states, pth_folder):
    loaded = reference.load(pth_folder)
    assert tuple(loaded.variables) == tuple(loaded.unused) == TREES
    for tree in TREES:
        assert_same(
            reference.state_from_variables(tree, loaded.variables[tree], loaded.unused[tree]),
            states[tree],
        )


def test_one_file(states, pth_folder):
    loaded = reference.load(str(pth_folder / "latest_net_GComp.pth"))
    assert tuple(loaded.variables) == tuple(loaded.unused) == ("full",)
    assert_same(loaded.variables["full"], reference.variables_from_state("full", states["full"]).variables)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_reading(torch, tmp_path, zipped):
    """Parameters, views, half precision, counters."""
    path = tmp_path / "some.pth"
    base = torch.arange(24, dtype=torch.float32)
    state = {
        "parameter": torch.nn.Parameter(base.reshape(2, 3, 2, 2)),
        "view": base.reshape(4, 6).T,
        "half": torch.tensor([0.1, 2.0], dtype=torch.float16),
        "bfloat": torch.tensor([0.1, 2.0], dtype=torch.bfloat16),
        "counter": torch.tensor(7),
    }
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    read = reference.read_pth(path)
    expected = {key: value.detach() for key, value in state.items()}
    expected |= {key: expected[key].float() for key in ("half", "bfloat")}
    assert_same(read, {key: value.numpy() for key, value in expected.items()})
    assert read["counter"].shape == ()
    assert read["counter"].dtype == np.int64


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_pickled_code_does_not_run(torch, tmp_path, zipped):
    path, target = tmp_path / "bomb.pth", tmp_path / "boom"
    torch.save({"model1.0.weight": Bomb(target)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        WeightsError, match=r"holds a Python object \(\S*open\), not only tensors; it was not read"
    ) as e:
        reference.load(path)
    one_line(e, path)
    assert not target.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_bare_pickles_do_not_run(torch, tmp_path, protocol):
    path, target = tmp_path / "bomb.pth", tmp_path / "boom"
    path.write_bytes(pickle.dumps({"model1.0.weight": Bomb(target)}, protocol=protocol))
    with pytest.raises(WeightsError) as error:
        reference.load(path)
    one_line(error, path)
    assert not target.exists()


def test_the_environment_cannot_switch_safety_off(torch, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, target = tmp_path / "bomb.pth", tmp_path / "boom"
    torch.save({"model1.0.weight": Bomb(target)}, path)
    with pytest.raises(WeightsError):
        reference.load(path)
    assert not target.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_cut_short(torch, tmp_path, zipped, share):
    path = tmp_path / "short.pth"
    torch.save({f"layer{i}.weight": torch.ones(50) for i in range(20)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match=r"cut short|not a file that PyTorch saved") as error:
        reference.read_pth(path)
    one_line(error, path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>too many downloads</html>", "it begins with b'<!DOCTYPE"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it begins with b'version https:"),
        (b"PK\x03\x04 is no archive", "damaged, cut short or not a file that PyTorch saved"),
        (b"\x80\x02}q\x00.", "damaged, cut short or not a file that PyTorch saved"),
    ],
)
def test_other_files(torch, tmp_path, content, said):
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as error:
        reference.read_pth(path)
    assert said in one_line(error, path)


def test_other_contents(torch, tmp_path):
    path = tmp_path / "other.pth"
    for content, said in (
        (torch.zeros(3), "holds a Tensor, not a state dict"),
        ([1, 2], "holds a list, not a state dict"),
        ({}, "holds nothing"),
        ({"epoch": 3}, "'epoch' holds a int, not a tensor"),
        ({"state_dict": {"a": torch.zeros(3)}}, "'state_dict' holds a dict, not a tensor"),
        ({1: torch.zeros(3)}, "not a state dict: 1 holds a Tensor"),
        ({"a": torch.zeros(3, dtype=torch.float64)}, "a is float64; weights must be float32"),
        ({"a": torch.zeros(3, dtype=torch.complex64)}, "a is complex64; weights must be float32"),
        ({"a": torch.zeros(3, device="meta")}, "a is not a plain dense tensor"),
        ({"a": torch.eye(3).to_sparse()}, "a is not a plain dense tensor"),
    ):
        torch.save(content, path)
        with pytest.raises(WeightsError) as error:
            reference.read_pth(path)
        assert said in one_line(error, path)

"""``scripts/make_default_weights.py``: one command from trained weights to the package's, with a tiny network."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from jaxcolor.config import BoxHeadConfig, FusionConfig, ModelConfig
from jaxcolor.models import box_head
from jaxcolor.weights import native, packaged, storage
from jaxcolor.weights.native import BoxHeadWeights
from tests.small import photo, variables

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_default_weights.py"
CONFIG = ModelConfig(side=64, width=0.0625, outputs=("regression", "classes"), compute_dtype="bfloat16")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_default_weights", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "weights.safetensors"
    native.save(
        path, CONFIG, {"full": variables(dataclasses.replace(CONFIG, compute_dtype="float32"))["full"]}, note="n"
    )
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(4):
        Image.fromarray(photo(np.random.default_rng(number), 70, 90)).save(folder / f"{number}.png")
    return folder


def run(script: ModuleType, out: Path, *arguments: Any) -> int:
    return int(script.main([*(str(a) for a in arguments), "--count=3", "--out", str(out)]))


def test_one_command(script, trained, photos, tmp_path, capsys, monkeypatch):
    arguments = ["--photos", photos, "--decode=vivid:0.5", "--curve", photos, "--storage=int8", "--least-8=1000"]
    assert run(script, tmp_path, trained, *arguments) == 0
    size, vivid, wrote = capsys.readouterr().out.splitlines()
    made = tmp_path / "default.safetensors"
    mb = f"{made.stat().st_size / 1e6:.2f}"
    assert size == f"default.safetensors: {mb} MB, {mb} of 40 MB with others"
    assert vivid.startswith("vivid:0.5, 3 photos: PSNR ")
    between = float(vivid.split("between the two ")[1].removesuffix(" dB"))
    assert 30 < between < 60  # rounded, so not equal
    assert wrote == f"wrote {made}, SHA-256 {packaged.read_registry(tmp_path)['default'].sha256}"
    monkeypatch.setattr(packaged, "folder", lambda: tmp_path)
    loaded = packaged.load()
    config = dataclasses.replace(CONFIG, compute_dtype="float32")
    assert (loaded.storage, loaded.decode, loaded.note, loaded.config) == ("int8", "vivid:0.5", "n", config)
    assert loaded.saturation_curve is not None
    assert len(loaded.saturation_curve.predicted) > 2


def test_small_ones_beside_them(script, trained, photos, tmp_path, capsys, monkeypatch):
    """Another name is another file and limits of its own; both count."""
    monkeypatch.setattr(script, "LEAST", {"fast": storage.Least(in_8=1000, in_6=2000)})
    monkeypatch.setattr(script, "cost", lambda *_: script.Cost((20.0, 20.0), (0.2, 0.2), 50.0, 0.0))
    for name in ("default", "fast"):
        assert run(script, tmp_path, trained, "--photos", photos, "--name", name) == 0
    sizes = {name: (tmp_path / f"{name}.safetensors").stat().st_size for name in ("default", "fast")}
    assert sizes["fast"] < 0.5 * sizes["default"]
    expected = f"fast.safetensors: {sizes['fast'] / 1e6:.2f} MB, {sum(sizes.values()) / 1e6:.2f} of 40 MB with others"
    assert expected in capsys.readouterr().out.splitlines()
    monkeypatch.setattr(packaged, "folder", lambda: tmp_path)
    assert [packaged.load(name).storage for name in ("default", "fast")] == ["int6", "int6"]
    assert packaged.described("fast") == "fast.safetensors"
    monkeypatch.setattr(script, "MOST_BYTES", sum(sizes.values()) - 1)
    assert run(script, tmp_path, trained, "--photos", photos, "--name=fast") == 1
    assert "fast.safetensors: " in capsys.readouterr().err


def test_with_instances(script, photos, tmp_path, capsys, monkeypatch):
    """What rounding the fusion costs is measured too; the instance network is the full-image one, and costs nothing."""
    monkeypatch.setattr(script, "MOST_LPIPS", 0.01)  # an untrained network's patches are coarse
    config = dataclasses.replace(CONFIG, compute_dtype="float32", fusion=FusionConfig(layers=("conv2_2", "conv8_up")))
    trees = {**variables(config), "instance": variables(config)["full"]}
    native.save(tmp_path / "trained.safetensors", config, trees)
    (tmp_path / "out").mkdir()
    arguments = ["--photos", photos, "--storage=int8", "--least-8=1000"]
    assert run(script, tmp_path / "out", tmp_path / "trained.safetensors", *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    alone, together = (float(line.split("between the two ")[1].removesuffix(" dB")) for line in lines[1:3])
    assert (lines[1][:15], lines[2][:26]) == ("safe, 3 photos:", "safe, instances, 3 photos:")
    assert alone != together
    assert min(alone, together) > 30
    loaded = native.load(tmp_path / "out" / "default.safetensors").variables
    assert loaded["instance"]["params"]["conv4_1"]["kernel"] is loaded["full"]["params"]["conv4_1"]["kernel"]


def test_fewer_taps(script, trained, photos, tmp_path, capsys, monkeypatch):
    """The heads of the others are left out, the rest is as it was, and what that costs is measured against all taps."""
    for limit in ("MOST_PSNR", "MOST_LPIPS"):
        monkeypatch.setattr(script, limit, 10.0)
    config = dataclasses.replace(CONFIG, compute_dtype="float32", fusion=FusionConfig(layers=("conv2_2", "conv8_up")))
    trees = variables(config)
    native.save(tmp_path / "trained.safetensors", config, trees)
    (tmp_path / "out").mkdir()
    arguments = [tmp_path / "trained.safetensors", "--photos", photos, "--storage=float"]
    assert run(script, tmp_path / "out", *arguments, "--taps=conv8_up") == 0
    lines = capsys.readouterr().out.splitlines()
    alone, together = (float(line.split("between the two ")[1].removesuffix(" dB")) for line in lines[1:3])
    assert alone == pytest.approx(68.1, abs=0.1)  # equal pictures
    assert together < alone - 1
    stored = native.load(tmp_path / "out" / "default.safetensors")
    assert stored.config.fusion.layers == "conv8_up"
    kept, before = (dict(tree["fusion"]["params"]) for tree in (stored.variables, trees))
    assert set(before) - set(kept) == {"fuse_conv2_2"}
    for ours, theirs in zip(jax.tree.leaves(kept), jax.tree.leaves({k: before[k] for k in kept}), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for weights, taps, said in (
        (tmp_path / "trained.safetensors", "conv3_3", "--taps conv3_3: the weights are fused at conv2_2, conv8_up"),
        (tmp_path / "trained.safetensors", "conv0", "fusion.layers: 'conv0' is not none"),
        (trained, "conv8_up", "--taps conv8_up: the weights have no fusion network"),
    ):
        assert run(script, tmp_path / "out", weights, "--photos", photos, f"--taps={taps}") == 1
        assert said in capsys.readouterr().err


def test_nothing_is_written_where_rounding_costs_too_much(script, trained, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(storage, "LEAST", storage.Least(in_8=0))
    monkeypatch.setattr(storage, "_LEVELS", {"int8": 2})  # hardly more than signs
    assert run(script, tmp_path, trained, "--photos", photos, "--storage=int8") == 1
    captured = capsys.readouterr()
    assert "default.safetensors: costs more than 0.05 dB or 0.001 LPIPS; nothing was written" in captured.err
    assert "safe, 3 photos: PSNR " in captured.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "arguments", "said"),
    [
        ({"MOST_BYTES": 1000}, [], "bytes are more than 1,000; nothing was written"),
        ({}, ["--decode=loud"], "decode 'loud': must be 'safe'"),
        ({}, ["--photos", "empty"], "empty: no photos here"),
    ],
)
def test_what_is_refused(script, trained, photos, tmp_path, capsys, monkeypatch, change, arguments, said):
    for name, value in change.items():
        monkeypatch.setattr(script, name, value)
    (tmp_path / "out").mkdir()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run(script, tmp_path / "out", trained, "--photos", photos, *arguments) == 1
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_weights_that_are_rounded_already(script, trained, photos, tmp_path, capsys):
    loaded = native.load(trained)
    native.save(tmp_path / "rounded.safetensors", CONFIG, loaded.variables, storage="int8")
    assert run(script, tmp_path, tmp_path / "rounded.safetensors", "--photos", photos) == 1
    assert "stored as int8 already; give the weights as trained" in capsys.readouterr().err


HEAD = BoxHeadConfig(channels=8, groups=2, threshold=0.01)


@pytest.fixture(scope="module")
def with_head(trained: Path) -> Path:
    """The same network in few bits, and a head."""
    loaded, path = native.load(trained), trained.with_name("with_head.safetensors")
    head = BoxHeadWeights(HEAD, box_head.init(CONFIG, HEAD, 0))
    native.save(path, CONFIG, loaded.variables, storage="int8", box_head=head)
    return path


def test_the_head_of_another_file(script, trained, with_head, photos, tmp_path, capsys):
    assert run(script, tmp_path, trained, "--photos", photos, "--box-head", with_head) == 0
    found = re.search(r"own boxes: (\d+) found, of which the stored head finds (\S+)%", capsys.readouterr().out)
    assert found is not None
    assert int(found[1]) > 3
    assert float(found[2]) > 80
    made = native.load(tmp_path / "default.safetensors").box_head
    assert made is not None
    assert made.config == HEAD


@pytest.mark.parametrize(("kind", "said"), [("none", "has no head that"), ("other", "on another full-image network")])
def test_heads_that_are_refused(script, trained, with_head, photos, tmp_path, capsys, kind, said):
    loaded = native.load(with_head)
    other = variables(dataclasses.replace(CONFIG, compute_dtype="float32"), seed=1)["full"]
    head = loaded.box_head if kind == "other" else None
    native.save(tmp_path / "other.safetensors", CONFIG, {"full": other}, box_head=head)
    out = tmp_path / "out"
    assert run(script, out, trained, "--photos", photos, "--box-head", tmp_path / "other.safetensors") == 1
    assert said in capsys.readouterr().err
    assert not out.exists()

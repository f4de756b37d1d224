from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.evaluation.metrics import inception
from jaxcolor.weights.reference import WeightsError
from tests.evaluation.metrics.pictures import on_canvas
from tests.recipe import state_dict


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    """Random weights of the published names and shapes. Not to be changed."""
    return state_dict("inception", inception.state_shapes())


def test_names_and_numbers_are_those_of_the_published_network() -> None:
    shapes = inception.state_shapes()
    assert len(shapes) == 94 * 5
    # Inception v3 has 23,834,568 trained parameters with its 1000 classes (and without the auxiliary head).
    trained = sum(np.prod(shape) for name, shape in shapes.items() if ".running_" not in name)
    assert trained == 23_834_568 - 1000 * 2049
    assert shapes["Conv2d_1a_3x3.conv.weight"] == (32, 3, 3, 3)
    assert shapes["Mixed_6c.branch7x7dbl_4.conv.weight"] == (160, 160, 7, 1)
    assert shapes["Mixed_7c.branch_pool.bn.running_mean"] == (192,)


def test_it_is_that_of_pytorch(state: dict[str, np.ndarray]) -> None:
    torch = pytest.importorskip("torch")
    from tests.evaluation.metrics.torch_inception import Inception

    network = Inception().double().eval()
    missing, left_over = network.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
    assert left_over == []
    assert {name for name in missing if not name.endswith("num_batches_tracked")} == {"fc.weight", "fc.bias"}
    # The smallest sides at which the last blocks have more than one cell, so that their pools show.
    x = np.random.default_rng(0).uniform(-1, 1, (2, 107, 123, 3)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(x).permute(0, 3, 1, 2).double()).numpy()
    found = jax.jit(inception.pooled_features)(inception.params_from_state(state), jnp.asarray(x))
    assert found.shape == (2, 2048)
    assert expected.std() > 0.01
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_pictures_are_resized_as_pytorch_does_from_their_extent_alone() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in [(40, 61), (320, 25), (1, 1)]]
    canvas, size = on_canvas(photos, 320, 310, seed=1)
    found = jax.jit(inception.resized)(canvas, size)
    for photo, ours in zip(photos, found, strict=True):
        x = torch.from_numpy(photo).permute(2, 0, 1)[None].double() / 255
        theirs = torch.nn.functional.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
        # Positions are float32: 300 pixels leave 5 digits of the place between two of them.
        np.testing.assert_allclose(ours, (2 * theirs - 1)[0].permute(1, 2, 0), rtol=0, atol=1e-4)
    whole = inception.resized(jnp.asarray(photos[0][None]))
    np.testing.assert_allclose(whole[0], found[0], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_features_from_pictures_are_those_of_pytorch(state: dict[str, np.ndarray]) -> None:
    torch = pytest.importorskip("torch")
    from tests.evaluation.metrics.torch_inception import Inception

    network = Inception().eval()
    network.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
    photo = np.random.default_rng(0).integers(0, 256, (40, 61, 3), dtype=np.uint8)
    x = torch.from_numpy(photo).permute(2, 0, 1)[None] / 255
    x = 2 * torch.nn.functional.interpolate(x, (299, 299), mode="bilinear", align_corners=False) - 1
    with torch.no_grad():
        expected = network(x).numpy()[0]
    canvas, size = on_canvas([photo, photo[:0]], 64, 64, seed=1)
    found, gone = jax.jit(inception.features)(inception.params_from_state(state), canvas, size)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert np.isnan(gone).all()


class TestWeights:
    def test_what_nothing_reads_may_be_there_and_prefixes_may_not(
        self, state: dict[str, np.ndarray], tmp_path: Path
    ) -> None:
        more = {"fc.weight": np.zeros((1008, 2048), np.float32), "fc.bias": np.zeros(1008, np.float32)}
        more["Mixed_5b.branch1x1.bn.num_batches_tracked"] = np.asarray(0)
        path = tmp_path / "inception.npz"
        np.savez(path, **state, **more)
        jax.tree.map(np.testing.assert_array_equal, inception.load(path), inception.params_from_state(state))
        with pytest.raises(WeightsError, match=r"left over: AuxLogits.conv0.bn.bias") as caught:
            inception.params_from_state(state | {"AuxLogits.conv0.bn.bias": np.zeros(128, np.float32)}, str(path))
        assert str(caught.value).startswith(f"{path}: not the Inception network of FID")

    def test_torchvisions_network_is_told_apart(self, state: dict[str, np.ndarray]) -> None:
        with pytest.raises(WeightsError, match="torchvision's Inception v3 is another network"):
            inception.params_from_state(state | {"fc.weight": np.zeros((1000, 2048), np.float32)})

    def test_what_does_not_fit_is_named(self, state: dict[str, np.ndarray]) -> None:
        name = "Mixed_7a.branch3x3_2.bn.running_var"
        for change, line in [
            ({name: np.zeros(7, np.float32)}, rf"! wrong shape: {name} is \(7,\), expected \(320,\)"),
            ({name: np.full(320, -1, np.float32)}, f"{name} is below 0"),
            ({name: np.full(320, np.inf, np.float32)}, f"! not finite: {name}"),
        ]:
            with pytest.raises(WeightsError, match=line):
                inception.params_from_state(state | change)
        with pytest.raises(WeightsError, match=f"- missing: {name}"):
            inception.params_from_state({k: v for k, v in state.items() if k != name})

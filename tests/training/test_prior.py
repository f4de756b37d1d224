"""How frequent colors are in photos: measured, written, read again, and files that are no prior."""

import io
from pathlib import Path

import numpy as np
import pytest
from flax import traverse_util
from PIL import Image

from jaxcolor import color
from jaxcolor.config import Config, ConfigError, DataConfig, ModelConfig, ObjectiveConfig
from jaxcolor.data.sources.registry import make_source
from jaxcolor.models.outputs import ab_distribution
from jaxcolor.models.outputs.classes import WEIGHTS
from jaxcolor.training import prior
from tests.small import FEW, variables


def shares(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(529, 0.3))


def config(path: Path | str, outputs: tuple[str, ...] = ("classes",), rebalancing: float = 0.5) -> Config:
    model = ModelConfig(side=FEW.side, width=FEW.width, fusion=FEW.fusion, outputs=outputs)
    return Config(model=model, objective=ObjectiveConfig(prior=str(path), rebalancing=rebalancing))


def test_what_is_measured_on_photos(tmp_path: Path) -> None:
    """Two photos of one color each, one of half and half: also those of a batch that is not full."""
    red, blue = (200, 60, 50), (40, 70, 190)
    half = np.zeros((128, 128, 3), np.uint8)
    half[:, :64], half[:, 64:] = red, blue
    for name, rgb in (("a", np.full_like(half, red)), ("b", np.full_like(half, red)), ("c", half)):
        Image.fromarray(rgb).save(tmp_path / f"{name}.png")
    settings = DataConfig(path=str(tmp_path), missing_boxes="none")
    measured = prior.measure_prior(make_source(settings, prior.SIDE), settings)
    places = color.ab_to_bin(color.rgb_to_lab(np.array([red, blue]) / 255)[:, 1:] / 110)
    np.testing.assert_allclose(measured[places], [5 / 6, 1 / 6], atol=0.01)  # where they meet, colors mix
    assert measured.sum() == pytest.approx(1, abs=1e-12)
    first = prior.measure_prior(make_source(settings, prior.SIDE), settings, photos=2)
    assert first[places[0]] == 1


def test_round_trip_and_weights_in_every_tree(tmp_path: Path) -> None:
    expected = shares()
    path = tmp_path / "prior.npz"
    prior.save_prior(path, expected, "photos")
    np.testing.assert_array_equal(prior.load_prior(path), expected)
    assert str(np.load(path)["source"]) == "photos"
    settings = config(path, rebalancing=0.7)
    trees = variables(settings.model)
    weighed = prior.with_class_weights(trees, settings)
    weights = ab_distribution.rebalancing_weights(ab_distribution.smooth_prior(expected), 0.7)
    before, after = (traverse_util.flatten_dict(tree) for tree in (trees, weighed))
    assert before.keys() == after.keys()
    changed = {path for path in before if path[-1] == WEIGHTS}
    assert {path[0] for path in changed} == {"full", "instance", "fusion"}
    for name, value in after.items():
        np.testing.assert_array_equal(value, weights if name in changed else before[name])


def test_a_prior_is_read_only_for_a_class_head(tmp_path: Path) -> None:
    trees = {"full": {}}
    assert prior.with_class_weights(trees, config(tmp_path / "missing.npz", ("regression",))) is trees
    assert prior.with_class_weights(trees, config("")) is trees


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


WHOLE = npz(prior=shares())
WITH_NAN, NEGATIVE = shares(), shares()
WITH_NAN[7] = np.nan
NEGATIVE[7], NEGATIVE[8] = -0.5, NEGATIVE[8] + 0.5 + NEGATIVE[7]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(None, id="missing"),
        pytest.param(b"", id="empty"),
        pytest.param(b"no archive", id="text"),
        pytest.param(WHOLE[: len(WHOLE) // 2], id="cut short"),
        pytest.param(WHOLE.replace(b"NUMPY", b"NVMPY"), id="damaged"),
        pytest.param(npz(frequencies=shares()), id="other name"),
        pytest.param(npz(prior=np.array([{}], object)), id="pickle"),
        pytest.param(npz(prior=np.array(["red"])), id="words"),
        pytest.param(npz(prior=np.ones(313) / 313), id="other bins"),
        pytest.param(npz(prior=shares()[None]), id="other shape"),
        pytest.param(npz(prior=WITH_NAN), id="nan"),
        pytest.param(npz(prior=NEGATIVE), id="negative"),
        pytest.param(npz(prior=529 * shares()), id="counts"),
    ],
)
def test_files_that_are_no_prior(data: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "prior.npz"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ConfigError) as error:
        prior.with_class_weights({}, config(path))
    assert str(error.value).startswith(f"objective.prior: {path}: ")
    assert "\n" not in str(error.value)

"""A run from a TFDS data set like ImageNet with a class head, simulated hints and the colorfulness loss."""

import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from flax import traverse_util

from jaxcolor.config import Config, DataConfig
from jaxcolor.data.sources.registry import make_source
from jaxcolor.models.outputs import ab_distribution
from jaxcolor.models.outputs.classes import WEIGHTS
from jaxcolor.training import prior, train
from jaxcolor.weights import native
from tests.data.photo_files import jpeg, prepare_tfds, write_boxes
from tests.training.runs import numbers, stage
from tests.training.steps import assert_same_bits
from tests.training.test_step_outputs import EVERYTHING

tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow_datasets is not installed")

PHOTOS = 24


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Two steps of each stage; three photos of four have boxes, which are detections in a folder."""
    folder = tmp_path_factory.mktemp("imagenet")
    features = {
        "file_name": tfds.features.Text(),
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(num_classes=3),
    }
    photos = [{"file_name": f"n{n:08d}_{n}.JPEG", "image": io.BytesIO(jpeg(n)), "label": n % 3} for n in range(PHOTOS)]
    for n in range(PHOTOS):
        write_boxes(folder / "boxes" / f"n{n:08d}_{n}.npz", [[2, 3, 20, 25], [15, 5, 38, 28]][: n % 4])
    path = prepare_tfds(folder, features, photos, name="imagenet_like")
    data = DataConfig(source="tfds", path=str(path), boxes_path=str(folder / "boxes"), max_crops_per_image=2.0)
    measured = prior.measure_prior(make_source(data, prior.SIDE), data)
    prior.save_prior(folder / "prior.npz", measured, "here")
    return dataclasses.replace(
        EVERYTHING,
        data=data,
        objective=dataclasses.replace(EVERYTHING.objective, prior=str(folder / "prior.npz")),
        full=stage(2),
        instance=stage(2),
        fusion=stage(2, trained="fusion_and_output"),
        log_every=1,
        checkpoint_every=1,
        keep_checkpoints=2,
    )


@pytest.fixture(scope="module")
def finished(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed. Not to be changed."""
    workdir = tmp_path_factory.mktemp("run") / "finished"
    train.train(config, workdir)
    return workdir


def test_every_stage_trains(finished: Path) -> None:
    records = numbers(finished)
    assert [(r["stage"], r["step"]) for r in records] == [
        (s, n) for s in ("full", "instance", "fusion") for n in (1, 2)
    ]
    for record in records:
        assert np.isfinite(record["loss"])
        assert record["grad_norm"] > 0
        assert record["valid_photos"] == 16


def test_every_tree_keeps_the_weights_of_colors_of_its_data(config: Config, finished: Path) -> None:
    measured = prior.load_prior(config.objective.prior)
    expected = ab_distribution.rebalancing_weights(ab_distribution.smooth_prior(measured))
    saved = native.load(finished / train.WEIGHTS_FILE)
    assert saved.config == config.model
    flat = traverse_util.flatten_dict(dict(saved.variables))
    weights = {path[0]: value for path, value in flat.items() if path[-1] == WEIGHTS}
    assert set(weights) == {"full", "instance", "fusion"}
    for value in weights.values():
        np.testing.assert_array_equal(value, expected)
    assert np.ptp(expected) > 0.5


def test_a_resumed_run_is_the_same_to_the_bit(config: Config, finished: Path, tmp_path: Path) -> None:
    """Every stage from its first step on: hints, too, go by the step. Later stages check what they started from."""
    copied = Path(shutil.copytree(finished, tmp_path / "copied"))
    for name in ("full", "instance", "fusion"):
        shutil.rmtree(copied / name / "2")
    (copied / train.WEIGHTS_FILE).unlink()
    train.train(config, copied)
    for name in ("full", "instance", "fusion"):
        assert numbers(copied, (name,)) == numbers(finished, (name,))
    ours, theirs = (native.load(folder / train.WEIGHTS_FILE).variables for folder in (copied, finished))
    assert_same_bits(dict(ours), dict(theirs))

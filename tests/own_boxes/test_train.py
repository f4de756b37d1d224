from __future__ import annotations

import dataclasses
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxcolor.config import BoxHeadConfig, BoxTrainingConfig, ConfigError, DataConfig, StageConfig
from jaxcolor.config_io import from_dict
from jaxcolor.data.types import DataError
from jaxcolor.inference.box_finder import BoxFinder
from jaxcolor.own_boxes.photos import decode_photos, read_arrays
from jaxcolor.own_boxes.train import train
from jaxcolor.runtime.errors import UserError
from jaxcolor.training.checkpoints import CheckpointError
from jaxcolor.weights import native
from tests import small
from tests.own_boxes.test_draw import marked
from tests.weights.conftest import assert_same

MODEL = dataclasses.replace(small.MODEL, side=64, outputs=("regression", "classes"))


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> BoxTrainingConfig:
    """Eight photos; weights without instances."""
    folder = tmp_path_factory.mktemp("own_boxes")
    native.save(folder / "full.safetensors", MODEL, {"full": small.variables(MODEL)["full"]}, note="of random numbers")
    held = marked(8)
    np.save(folder / "photos.npy", held.rgb)
    np.save(folder / "boxes.npy", held.boxes)
    return BoxTrainingConfig(
        weights=str(folder / "full.safetensors"),
        photos=str(folder / "photos.npy"),
        boxes=str(folder / "boxes.npy"),
        head=BoxHeadConfig(channels=8, groups=2),
        stage=StageConfig(steps=4, batch_size=8, learning_rate=3e-3, schedule="cosine", flip=True, crop_area=0.5),
        log_every=1,
        checkpoint_every=2,
    )


@pytest.fixture(scope="module")
def run(config, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    train(config, workdir)
    return workdir


def test_training_writes_the_weights_with_the_head(config, run) -> None:
    found = native.load(run / "weights.safetensors")
    before = native.load(config.weights)
    assert_same(found.variables, before.variables)
    assert found.note == before.note
    assert found.box_head is not None
    assert found.box_head.config == config.head
    boxes = BoxFinder(found.config, found.variables, found.box_head)(list(marked(2).rgb), threshold=0.0)
    assert len(boxes) == 2
    for own in boxes:
        assert len(own.boxes) > 0
        assert own.boxes.min() >= 0
        assert own.boxes.max() <= 40
        assert (np.diff(own.scores) <= 0).all()


def test_a_stopped_run_goes_on_to_the_last_bit(config, run, tmp_path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "boxes" / "4")  # as if it had been killed after the second step
    again = train(config, tmp_path / "run")
    assert_same(again.box_head.variables, native.load(run / "weights.safetensors").box_head.variables)


def test_another_run_is_refused(config, run) -> None:
    with pytest.raises(CheckpointError, match=r"mosaics"):
        train(dataclasses.replace(config, mosaics=0.0), run)


def test_what_cannot_be_trained(config, tmp_path) -> None:
    with pytest.raises(UserError, match=r"batch_size: 6 cannot be split over 8 devices"):
        train(dataclasses.replace(config, stage=dataclasses.replace(config.stage, batch_size=6)), tmp_path)
    with pytest.raises(ConfigError, match="given together with boxes"):
        dataclasses.replace(config, boxes="")
    np.save(tmp_path / "boxes.npy", np.full((8, 3, 4), 7.0))
    with pytest.raises(DataError, match="must be shares of the photo's sides"):
        read_arrays(Path(config.photos), tmp_path / "boxes.npy")
    with pytest.raises(DataError, match=r"float32 \(8, 3, 4\); photos are uint8"):
        read_arrays(Path(config.boxes), Path(config.boxes))


def test_photos_with_box_files(tmp_path) -> None:
    held = marked(2)
    for name in ("images", "images_bbox"):
        (tmp_path / name).mkdir()
    for number, (rgb, boxes) in enumerate(zip(held.rgb, held.boxes, strict=True)):
        Image.fromarray(rgb).resize((80, 40), Image.Resampling.NEAREST).save(tmp_path / "images" / f"{number}.png")
        pixels = boxes[:1] * np.array([80, 40, 80, 40], np.float32)
        np.savez(tmp_path / "images_bbox" / f"{number}.npz", bbox=pixels, scores=np.ones(1, np.float32))
    found = decode_photos(DataConfig(path=str(tmp_path / "images")), 40, 3)
    np.testing.assert_allclose(found.boxes, held.boxes, atol=1e-6)
    assert np.abs(found.rgb.astype(int) - held.rgb).mean() < 12


def test_the_recipe_loads() -> None:
    path = Path(__file__).parents[2] / "configs" / "own_boxes" / "default.py"
    module = runpy.run_path(str(path))
    found = from_dict(BoxTrainingConfig, module["get_config"]().to_dict())
    assert found.compute_dtype == "bfloat16"
    assert "configs/own_boxes/default.py" in module["__doc__"]

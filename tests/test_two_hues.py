"""Two hues: that the pieces fit together, and (slow) that a trained network follows hints but cannot guess."""

import dataclasses
import importlib.util
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor import two_hues
from jaxcolor.config import Config
from jaxcolor.config_io import from_dict
from jaxcolor.models import networks
from jaxcolor.training import train

CONFIG_FILE = Path(__file__).resolve().parents[1] / "configs" / "two_hues.py"


def config() -> Config:
    spec = importlib.util.spec_from_file_location("two_hues_config", CONFIG_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return from_dict(Config, module.get_config().to_dict())


@pytest.mark.slow
def test_measure_and_section() -> None:
    full = config()
    small = dataclasses.replace(
        full,
        model=dataclasses.replace(full.model, width=1 / 64),
        eval=dataclasses.replace(full.eval, photos=3),
    )
    measured = two_hues.measure(small, {"full": networks.init(small.model, 0)["full"]})
    numbers = measured.metrics
    assert (numbers["photos"], numbers["objects"]) == (3, 6)
    assert numbers["psnr_worst"] <= numbers["psnr_first"] <= numbers["psnr_best"]
    # Objects of chroma 28 but for their soft edges.
    assert 17 < numbers["psnr_gray"] < 20
    assert 0 <= numbers["coverage"] <= 1
    assert [len(row) for row in measured.rows] == [3 + two_hues.SAMPLES] * 3
    gray, truth = measured.rows[0][0], measured.rows[0][-1]
    assert np.ptp(gray.astype(int), axis=-1).max() == 0
    assert np.ptp(truth.astype(int), axis=-1).max() > 20
    page = two_hues.section(measured)
    assert page.count("<tr>") == 7
    assert f"{numbers['psnr_gray']:.1f} dB" in page


def test_hints_lie_in_objects_and_outside_of_boxes() -> None:
    boxes = jnp.array([[4, 8, 24, 20], [40, 30, 20, 28]])
    points = np.asarray(two_hues._object_points(boxes, 64))
    assert points.sum(axis=(1, 2)).tolist() == [45, 45]
    for row, (x, y, width, height) in zip(points, boxes.tolist(), strict=True):
        assert row[y : y + height, x : x + width].sum() == 45
        assert row[y + height // 2, x + width // 2] == 1
    outside = np.zeros((1, 64, 64), np.float32)
    outside[0, :, :20] = 1
    lattice = np.asarray(two_hues._background_points(jnp.asarray(outside)))
    assert lattice[0, :, 20:].sum() == 0
    assert lattice.sum() == 4 * 9


@pytest.mark.slow
def test_trained_network_follows_hints(tmp_path: Path) -> None:
    made = config()
    # As many photos as the config's 700 steps of 12, which eight devices cannot share out.
    trained = dataclasses.replace(made, full=dataclasses.replace(made.full, steps=525, batch_size=16))
    numbers = two_hues.measure(trained, train.train(trained, tmp_path)).metrics
    print(numbers)
    # A single answer cannot beat gray; the true colors at five points of each object do, by 5 dB when measured.
    assert numbers["psnr_mean"] < numbers["psnr_gray"] + 0.3
    assert numbers["psnr_given"] > numbers["psnr_gray"] + 3

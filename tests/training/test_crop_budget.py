"""What is said of crops without a place before a run, against what batches then drop."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from jaxcolor.config import Config, DataConfig, StageConfig
from jaxcolor.data.loader import train_batches
from jaxcolor.data.sources.registry import make_source
from jaxcolor.training.crop_budget import budget_line
from jaxcolor.training.stages import STAGES
from tests.data.photo_files import write_boxes, write_photo

SIDE = 16
COUNTS = (1, 1, 1, 1, 2, 2, 5, 11)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photos with boxes, and one without."""
    folder = tmp_path_factory.mktemp("budget") / "photos"
    for place in (folder, folder.with_name("photos_bbox")):
        place.mkdir()
    for number, count in enumerate((*COUNTS, 0)):
        write_photo(folder / f"{number}.jpg")
        boxes = [[x, 2, x + 8, 20] for x in range(count)]
        write_boxes(folder.with_name("photos_bbox") / f"{number}.npz", boxes, np.linspace(0.9, 0.5, count))
    return folder


def config(photos: Path, **data: object) -> Config:
    made = DataConfig(**{"source": "folder", "path": str(photos), "max_crops_per_image": 2.0} | data)  # type: ignore[arg-type]
    return Config(data=made, fusion=StageConfig(steps=50, batch_size=4, trained="fusion"))


def line(config: Config, devices: int = 1, stage: str = "fusion") -> str:
    return budget_line(config, STAGES[stage], make_source(config.data, SIDE), devices)


@pytest.mark.parametrize("batching", ["shuffled", "balanced"])
def test_about_as_many_are_dropped_as_is_said(batching: str, photos: Path) -> None:
    wanted = config(photos, batching=batching, max_crops_per_image=2.0)
    said = line(wanted)
    found = re.match(
        r"stage fusion: about ([\d.]+)% of the boxes used, (\d+) of 21 in an epoch, will find no place", said
    )
    assert found is not None, said
    steps, dropped = 60, 0
    with train_batches(make_source(wanted.data, SIDE), wanted.data, parts="both", side=SIDE, batch_size=4) as batches:
        for _ in range(steps):
            dropped += next(batches).dropped_crops
    assert float(found[1]) == pytest.approx(100 * dropped / (21 * steps / 2), abs=4)  # two steps an epoch
    assert "data.max_crops_per_image 2 gives 4 photos 8 crops" in said


def test_what_is_proposed_drops_next_to_nothing(photos: Path) -> None:
    said = line(config(photos))
    proposed = float(said.rpartition("; ")[2].split()[0])
    again = line(config(photos, max_crops_per_image=proposed))
    assert not again or float(re.search(r"about ([\d.]+)%", again)[1]) <= 1  # type: ignore[index]
    assert line(config(photos, max_crops_per_image=8.0)) == ""


def test_annotated_boxes_are_all_used_and_the_best_are_eight(photos: Path) -> None:
    assert " of 21 in an epoch" in line(config(photos))
    assert " of 24 in an epoch" in line(config(photos, box_choice="all"))
    assert " of 24 in an epoch at most" in line(config(photos, box_choice="threshold"))


def test_devices_share_the_photos(photos: Path) -> None:
    assert "gives 2 photos 4 crops" in line(config(photos), devices=2)
    assert "gives 1 photo 2 crops" in line(config(photos), devices=4)


def test_nothing_is_said_where_nothing_is_known_or_dropped(photos: Path) -> None:
    wanted = config(photos)
    assert line(wanted, stage="full") == line(wanted, stage="instance") == ""
    scenes = dataclasses.replace(wanted, data=DataConfig(source="scenes", max_crops_per_image=1.0))
    assert line(scenes) == ""

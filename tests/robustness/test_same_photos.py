"""Photos and boxes are those that they were by what is in them, not by the path that leads to them."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxcolor.config import Config, DataConfig
from jaxcolor.config_io import setting_differences
from jaxcolor.data.boxes.packed_writer import pack_store
from jaxcolor.data.sources.registry import open_source
from jaxcolor.training.checkpoints import CheckpointError
from jaxcolor.training.compatibility import stage_settings
from jaxcolor.training.stages import STAGES
from jaxcolor.training.train import train
from tests.training.runs import ONLY_FULL, numbers, stage

NAMES = ("a", "b", "c")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    boxes = tmp_path / "photos_bbox"
    boxes.mkdir()
    rng = np.random.default_rng(0)
    for name in NAMES:
        pixels = rng.integers(0, 255, (3, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 30), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
        write_boxes(boxes / f"{name}.npz", [[2, 3, 20, 25]])
    return folder


def write_boxes(path: Path, boxes: list[list[float]], score: float = 0.5) -> None:
    array = np.array(boxes, np.float32)
    np.savez(path, bbox=array, scores=np.full(len(array), score, np.float32))


def differences(one: DataConfig, other: DataConfig) -> list[str]:
    """What a resumed run would be refused for."""
    configs = [Config(data=data) for data in (one, other)]
    found = [stage_settings(config, STAGES["full"]) for config in configs]
    identities = [{"photos": open_source(data).identity()} for data in (one, other)]
    return setting_differences(*found) + setting_differences(*identities)


def test_the_same_under_other_paths(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = DataConfig(path=str(photos))
    shutil.copytree(photos, tmp_path / "moved" / "pictures")
    shutil.copytree(tmp_path / "photos_bbox", tmp_path / "moved" / "found")
    pack_store(tmp_path / "photos_bbox", tmp_path / "packed")
    (tmp_path / "link").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    moved = DataConfig(path="moved/pictures", boxes_path="moved/found", boxes_format="npz")
    for other in (
        DataConfig(path=f"{photos}/"),
        DataConfig(path="photos"),
        DataConfig(path="./photos/../photos"),
        DataConfig(path="link", boxes_path="photos_bbox"),
        moved,
        dataclasses.replace(given, boxes_path="packed"),
        dataclasses.replace(moved, index_path="index.npz", threads=0),
    ):
        assert differences(given, other) == []


def test_lists_are_what_they_name(photos: Path, tmp_path: Path) -> None:
    lists = {"one": "a.png\nb.png\n", "two": "a.png 7\r\nb.png", "turned": "b.png\na.png\n"}
    configs = {}
    for name, text in lists.items():
        (tmp_path / f"{name}.txt").write_text(text)
        configs[name] = DataConfig(path=str(photos), list_path=str(tmp_path / f"{name}.txt"))
    assert differences(configs["one"], configs["two"]) == []
    assert [line.partition(":")[0] for line in differences(configs["one"], configs["turned"])] == ["photos.digest"]


@pytest.mark.parametrize("change", ["box", "score", "entry", "more"])
def test_other_boxes_are_refused(photos: Path, tmp_path: Path, change: str) -> None:
    shutil.copytree(tmp_path / "photos_bbox", tmp_path / "other")
    path = tmp_path / "other" / "b.npz"
    if change == "entry":
        path.unlink()
    else:
        boxes = {"box": [[2, 3, 20, 24]], "score": [[2, 3, 20, 25]], "more": [[2, 3, 20, 25], [0, 0, 9, 9]]}[change]
        write_boxes(path, boxes, 0.6 if change == "score" else 0.5)
    given = DataConfig(path=str(photos), missing_boxes="none")
    found = differences(given, dataclasses.replace(given, boxes_path=str(tmp_path / "other")))
    assert "photos.boxes_digest" in [line.partition(":")[0] for line in found]


def test_masks_count(photos: Path, tmp_path: Path) -> None:
    configs = []
    for number, top in enumerate((3, 3, 4)):
        ring = [2, top, 20, top, 20, 25]
        content = {
            "images": [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate(NAMES)],
            "annotations": [
                {"id": n, "image_id": n, "bbox": [2, 3, 18, 22], "segmentation": [ring]} for n in range(len(NAMES))
            ],
        }
        path = tmp_path / f"instances{number}.json"
        path.write_text(json.dumps(content))
        configs.append(DataConfig(path=str(photos), box_choice="ground_truth", truth_boxes_path=str(path), masks=True))
    assert differences(configs[0], configs[1]) == []
    assert [line.partition(":")[0] for line in differences(configs[0], configs[2])] == ["photos.masks"]


def test_of_a_source_of_ones_own_the_path_counts() -> None:
    mine = [Config(data=DataConfig(source="my_code:Mine", path=path)) for path in ("a", "b")]
    found = [stage_settings(config, STAGES["full"]) for config in mine]
    assert setting_differences(*found) == ["data.path: 'a' -> 'b'"]


def test_a_prior_is_what_is_in_its_file(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.npz" for name in "xyz"]
    for number, path in enumerate(files):
        path.write_bytes(b"one" if number < 2 else b"two")
    configs = [Config(objective=dataclasses.replace(Config().objective, prior=str(path))) for path in files]
    found = [stage_settings(config, STAGES["full"])["objective"] for config in configs]
    assert found[0] == found[1] != found[2]


@pytest.mark.slow
def test_a_run_goes_on_with_photos_that_were_moved(photos: Path, tmp_path: Path) -> None:
    def config(path: Path, steps: int) -> Config:
        data = DataConfig(path=str(path), threads=0)
        return dataclasses.replace(
            ONLY_FULL, data=data, full=stage(steps, batch_size=8), checkpoint_every=1, log_every=1
        )

    train(config(photos, 2), tmp_path / "alone")
    train(config(photos, 1), tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    for name in ("photos", "photos_bbox"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    train(config(tmp_path / "elsewhere" / "photos", 2), tmp_path / "run")
    assert numbers(tmp_path / "run") == numbers(tmp_path / "alone")
    write_boxes(tmp_path / "elsewhere" / "photos_bbox" / "c.npz", [[1, 3, 20, 25]])
    with pytest.raises(CheckpointError, match=r"photos\.boxes_digest: '[0-9a-f]{32}' -> '[0-9a-f]{32}'"):
        train(config(tmp_path / "elsewhere" / "photos", 3), tmp_path / "run")


def test_boxes_for_later_stages_are_looked_at_before_the_first(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "photos" / "a.png")
    data = DataConfig(path=str(tmp_path / "photos"), missing_boxes="none")
    with pytest.raises(ValueError, match="no photo with a usable box for stage part 'instance', which needs instances"):
        train(dataclasses.replace(ONLY_FULL, stages=("full", "instance", "fusion"), data=data), tmp_path / "run")
    assert not (tmp_path / "run").exists()

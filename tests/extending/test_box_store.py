"""Boxes in a form from outside the package: named by a dotted path, nothing in the package edited."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxcolor.config import Config, ConfigError, DataConfig
from jaxcolor.config_io import from_dict
from jaxcolor.data.boxes.base import MissingBoxesError
from jaxcolor.data.boxes.packed_writer import pack_store
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.loader import eval_batches
from jaxcolor.data.sources.registry import make_source
from jaxcolor.data.types import Boxes, DataError

SIDE = 16
NAME = f"{__name__}:CsvStore"


class CsvStore:
    """A file with a line for each box: the photo's key, x0, y0, x1, y1, score."""

    kind = NAME
    note = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, list[list[float]]] = {}
        for line in path.read_text().splitlines():
            key, *numbers = line.split(",")
            self._rows.setdefault(key, []).append([float(number) for number in numbers])

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def keys(self) -> Iterator[str]:
        return iter(self._rows)

    def read(self, key: str) -> Boxes:
        if key not in self._rows:
            raise MissingBoxesError(self.absent(key))
        rows = np.array(self._rows[key], np.float32)
        return Boxes(rows[:, :4], rows[:, 4])

    def absent(self, key: str) -> str:
        return f"{self.path}: no line for photo {key}"


def no_store(path: Path) -> object:
    return {}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos of 40 x 20; the first has two boxes in ``boxes.csv``, the second one has one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for stem in "ab":
        Image.new("RGB", (40, 20), (200, 100, 0)).save(folder / f"{stem}.png")
    (tmp_path / "boxes.csv").write_text("a,0,0,20,20,0.5\nb,0,0,40,10,0.7\na,20,0,40,20,0.9\n")
    return folder


@pytest.mark.parametrize("use", ["detections", "truth"])
def test_batches_of_it(photos: Path, use: str) -> None:
    path = str(photos.with_name("boxes.csv"))
    fields = {"boxes_path": path, "boxes_format": NAME}
    if use == "truth":
        fields = {"truth_boxes_path": path, "truth_boxes_format": NAME, "box_choice": "ground_truth"}
    data = from_dict(Config, {"data": {"path": str(photos), "threads": 0, **fields}}).data
    source = make_source(data, SIDE)
    assert source.describe().startswith(f"{photos}: 2 photos, 2 with")
    with eval_batches(source, data, side=SIDE, batch_size=2) as batches:
        (loaded,) = batches
    assert loaded.batch.crop_to_image.tolist() == [0, 0, 1, -1, -1, -1]
    boxes = sorted(loaded.batch.level_boxes[:2, 0].tolist())
    assert boxes == [[0, 0, SIDE // 2, SIDE], [SIDE // 2, 0, SIDE // 2, SIDE]]


def test_a_photo_without_an_entry(photos: Path) -> None:
    Image.new("RGB", (40, 20)).save(photos / "c.png")
    data = DataConfig(path=str(photos), boxes_path=str(photos.with_name("boxes.csv")), boxes_format=NAME)
    with pytest.raises(MissingBoxesError, match=r"boxes\.csv: no line for photo c; missing_boxes 'none'"):
        make_source(data, SIDE)


def test_it_is_packed_as_others_are(photos: Path, tmp_path: Path) -> None:
    packed = pack_store(photos.with_name("boxes.csv"), tmp_path / "packed", kind=NAME)
    assert open_store(tmp_path / "packed").read("a").scores.tolist() == pytest.approx([0.5, 0.9])
    assert packed.manifest.source_kind == NAME


def test_what_is_no_box_store(photos: Path) -> None:
    with pytest.raises(ConfigError, match=r"^config\.data\.boxes_format: box store 'vok': .* did you mean voc\?"):
        from_dict(Config, {"data": {"boxes_format": "vok"}})
    with pytest.raises(DataError, match="no_store made a dict, which lacks attributes of BoxStore"):
        open_store(photos, f"{__name__}:no_store")
    with pytest.raises(DataError, match=r"CsvStore made a CsvStore, which lacks attributes of MaskedStore"):
        open_store(photos.with_name("boxes.csv"), NAME, masks=True)

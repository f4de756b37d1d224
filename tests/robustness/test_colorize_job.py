"""Jobs of ``jaxcolor colorize``: originals are never lost, and what was finished is kept. The networks are stubbed."""

import os
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from jaxcolor.inference import files as module
from jaxcolor.runtime.errors import UserError


def write_photos(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (20, 10), (number, 0, 0)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def colorize(monkeypatch, tmp_path):
    """Colors photos: the networks add 100 to the green; ``fail_at`` stops them at the photo with that red."""

    def run(photos, output, fail_at=None, **options):
        def many(pictures, boxes, scores, hints):
            for picture in pictures:
                if fail_at is not None and picture[0, 0, 0] == fail_at:
                    raise KeyboardInterrupt
                yield picture + np.array([0, 100, 0], np.uint8)

        fake = Mock(spec=module.Colorizer, uses_boxes=True, iterate=many, many=lambda *given: list(many(*given)))
        fake.samples = lambda pictures, *_, **__: [[picture] for picture in pictures]
        monkeypatch.setattr(module.Colorizer, "from_pretrained", lambda *_, **__: fake)
        given = {"boxes": None, "missing_boxes": "error", "boxes_per_photo": 8, "batch_size": 2, "replace": False}
        module.colorize_files(photos, tmp_path / "w.safetensors", output, **(given | options))

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestOriginals:
    @pytest.mark.parametrize("replace", [False, True])
    @pytest.mark.parametrize("way", ["same", "link", "dots", "one by one", "jpeg", "linked photos"])
    def test_the_folder_of_the_photos_is_no_output(self, way, replace, tmp_path, colorize):
        photos = write_photos(tmp_path / "photos")
        given, output = [photos], photos
        if way == "link":
            output = tmp_path / "link"
            output.symlink_to(photos)
        elif way == "dots":
            output = tmp_path / "photos" / ".." / "photos"
        elif way == "one by one":
            write_photos(tmp_path / "elsewhere", 5)
            given = [tmp_path / "elsewhere" / "4.png", photos / "1.png"]
        elif way == "jpeg":  # no name is the same
            (photos / "0.png").rename(photos / "0.jpg")
            given = [photos / "0.jpg"]
        elif way == "linked photos":
            (tmp_path / "links").mkdir()
            (tmp_path / "links" / "0.png").symlink_to(photos / "0.png")
            given = [tmp_path / "links"]
        before = contents(photos)
        with pytest.raises(UserError, match=r"holds the photo .*originals are never replaced; give another folder"):
            colorize(given, output, replace=replace)
        assert contents(photos) == before

    def test_a_folder_inside_is_fine(self, tmp_path, colorize):
        photos = write_photos(tmp_path / "photos")
        colorize([photos], photos / "colored")
        assert sorted(os.listdir(photos / "colored")) == ["0.png", "1.png", "2.png"]

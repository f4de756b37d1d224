"""Which boxes ``jaxcolor colorize`` hands to the networks; the networks themselves are left out."""

import json
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from jaxcolor.data.boxes.packed_writer import pack_store
from jaxcolor.inference import files as module
from jaxcolor.runtime.errors import UserError


@pytest.fixture
def photos(tmp_path):
    folder, boxes = tmp_path / "photos", tmp_path / "photos_bbox"
    folder.mkdir()
    boxes.mkdir()
    for number, stem in enumerate("ab"):
        Image.new("RGB", (20, 10), (number, 0, 0)).save(folder / f"{stem}.png")  # told apart by their red
    np.savez(boxes / "a.npz", bbox=np.array([[1, 2, 9, 8]], np.float32), scores=np.array([0.5], np.float32))
    return folder


@pytest.fixture
def colour(photos, monkeypatch, tmp_path):
    """Colours the photos; returns the boxes that the networks were given, by photo."""
    given = {}

    def many(pictures, boxes, scores, hints, vivid):
        for picture, corners in zip(pictures, boxes, strict=True):
            given["ab"[picture[0, 0, 0]]] = None if corners is None else corners.tolist()
        return pictures

    fake = Mock(spec=module.Colorizer, uses_boxes=True, finds_boxes=False, iterate=many)
    monkeypatch.setattr(module.Colorizer, "from_pretrained", lambda *_, **__: fake)

    def run(boxes=None, missing_boxes="none"):
        options = {"boxes_per_photo": 8, "batch_size": 2, "replace": True}
        weights, output = tmp_path / "w.safetensors", tmp_path / "out"
        module.colorize_files([photos], weights, output, boxes=boxes, missing_boxes=missing_boxes, **options)
        return given

    return run


def test_boxes_of_any_store(colour, photos, tmp_path):
    wanted = {"a": [[1, 2, 9, 8]], "b": None}
    files = photos.with_name("photos_bbox")
    assert colour() == colour(files) == wanted
    found = tmp_path / "found.json"
    found.write_text(json.dumps([{"image_id": "a.png", "bbox": [1, 2, 8, 6], "score": 0.5}]))
    assert colour(found) == wanted
    pack_store(files, tmp_path / "packed")
    assert colour(tmp_path / "packed") == wanted
    files.rename(tmp_path / "elsewhere")
    assert colour() == {"a": None, "b": None}
    (tmp_path / "packed").rename(files)
    assert colour() == wanted


def test_a_photo_without_boxes_is_left_out(colour, capsys):
    with pytest.raises(UserError, match="1 of 2 photos could not be colored"):
        colour(missing_boxes="error")
    assert "b.npz: no such box file; --missing-boxes none takes its photo" in capsys.readouterr().err


def test_no_such_store(colour, tmp_path):
    with pytest.raises(UserError, match="gone: no such folder or file of boxes"):
        colour(tmp_path / "gone")

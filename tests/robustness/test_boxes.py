"""Boxes in other units, of other sizes, under names written otherwise. The networks are stubbed."""

import dataclasses
import json
import re
import unicodedata
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from jaxcolor.config import DataConfig
from jaxcolor.data.boxes.base import photo_key
from jaxcolor.data.boxes.packed_writer import pack_store
from jaxcolor.data.sources.base import read_list
from jaxcolor.data.sources.registry import open_source
from jaxcolor.data.types import DataError
from jaxcolor.inference import files as module
from jaxcolor.runtime.errors import UserError

SIZE = (96, 64)


@pytest.fixture
def colorize(monkeypatch, tmp_path):
    """Colors photos; returns the boxes that the networks were given, by the order of the photos."""

    def run(photos, boxes=None, missing_boxes="error"):
        given = []

        def iterate(pictures, boxes, scores, hints, vivid):
            given.extend(None if corners is None else corners.tolist() for corners in boxes)
            return pictures

        fake = Mock(spec=module.Colorizer, uses_boxes=True, finds_boxes=False, iterate=iterate)
        monkeypatch.setattr(module.Colorizer, "from_pretrained", lambda *_, **__: fake)
        options = {"missing_boxes": missing_boxes, "boxes_per_photo": 8, "batch_size": 2, "replace": True}
        module.colorize_files([photos], tmp_path / "w.safetensors", tmp_path / "out", boxes=boxes, **options)
        return given

    return run


def write_photos(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.new("RGB", SIZE).save(folder / name)
    return folder


def test_boxes_that_cannot_be_used_are_counted_and_photos_without_any_left_are_named(tmp_path, colorize, capsys):
    files = {
        "shares": [[0.1, 0.15, 0.52, 0.78], [0.2, 0.2, 0.4, 0.5]],
        "xywh": [[60, 40, 30, 20]],
        "nan": [[np.nan, 0, 10, 10], [0, 0, np.inf, 10]],
        "outside": [[200, 0, 220, 10]],
        "some": [[0, 0, 10, 10], [5, 5, 5, 9]],
        "good": [[0, 0, 10, 10]],
    }
    photos = write_photos(tmp_path / "photos", *(f"{name}.png" for name in files))
    (tmp_path / "photos_bbox").mkdir()
    for name, boxes in files.items():
        np.savez(
            tmp_path / "photos_bbox" / f"{name}.npz",
            bbox=np.array(boxes, np.float32),
            scores=np.ones(len(boxes), np.float32),
        )
    colorize(photos)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    named = dict(line.removeprefix(f"warning: {photos}/").split(".png: ") for line in lines[:-1])
    assert named == {
        "shares": "2 of its 2 boxes cannot be used (2 no size); they look like shares of the photo, and boxes are "
        "x0, y0, x1, y1 in pixels",
        "xywh": "1 of its 1 boxes cannot be used (1 inverted)",
        "nan": "2 of its 2 boxes cannot be used (2 not finite)",
        "outside": "1 of its 1 boxes cannot be used (1 outside)",
    }
    assert lines[-1] == (
        "warning: 7 of 9 boxes cannot be used (2 not finite, 1 inverted, 1 outside, 3 no size); boxes are x0, y0, "
        "x1, y1, not x, y, width, height"
    )


def instances(*names, **image):
    images = [{"id": number, "file_name": name, **image} for number, name in enumerate(names)]
    boxes = [{"id": number, "image_id": number, "bbox": [20, 20, 40, 30]} for number in range(len(names))]
    return {"images": images, "annotations": boxes}


FOUND = [[20, 20, 60, 50]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("detections", [False, True])
def test_annotations_in_any_encoding_of_json(encoding, detections, tmp_path, colorize):
    photos = write_photos(tmp_path / "photos", "é.png")
    content = [{"image_id": "é.png", "bbox": [20, 20, 40, 30], "score": 1}] if detections else instances("é.png")
    path = tmp_path / "boxes.json"
    path.write_bytes(json.dumps(content, ensure_ascii=False, indent=1).encode(encoding))
    assert colorize(photos, path) == [FOUND]


@pytest.mark.parametrize("name", [r"C:\scans\2019\beach.png", r"\\server\scans\beach.png", r"scans\2019/beach.png"])
def test_annotations_with_paths_of_windows(name, tmp_path, colorize):
    photos, path = write_photos(tmp_path / "photos", "beach.png"), tmp_path / "boxes.json"
    path.write_text(json.dumps(instances(name)))
    assert colorize(photos, path) == [FOUND]


@pytest.mark.parametrize("photo", ["NFC", "NFD"])
@pytest.mark.parametrize("boxes", ["NFC", "NFD"])
@pytest.mark.parametrize("kind", ["coco", "npz", "packed"])
def test_names_composed_and_decomposed(photo, boxes, kind, tmp_path, colorize):
    stem = "Zürich_Café"
    photos = write_photos(tmp_path / "photos", f"{unicodedata.normalize(photo, stem)}.png")
    path = tmp_path / "boxes"
    if kind == "coco":
        path.write_text(json.dumps(instances(f"{unicodedata.normalize(boxes, stem)}.png")))
    else:
        path.mkdir()
        file = path / f"{unicodedata.normalize(boxes, stem)}.npz"
        np.savez(file, bbox=np.array(FOUND, np.float32), scores=np.ones(1, np.float32))
    if kind == "packed":
        pack_store(path, tmp_path / "packed")
        path = tmp_path / "packed"
    assert colorize(photos, path) == [FOUND]
    assert photo_key(f"{unicodedata.normalize(photo, stem)}.png") == unicodedata.normalize("NFC", stem)


@pytest.mark.parametrize("name", ["1", "0001", "000000000001", "0000000000000001"])
def test_photos_named_by_an_id_with_any_number_of_zeros(name, tmp_path, colorize):
    photos, path = write_photos(tmp_path / "photos", f"{name}.png"), tmp_path / "boxes.json"
    path.write_text(json.dumps([{"image_id": 1, "bbox": [20, 20, 40, 30], "score": 1}]))
    assert colorize(photos, path) == [FOUND]


def test_names_that_are_texts_keep_their_zeros(tmp_path, colorize):
    photos, path = write_photos(tmp_path / "photos", "0001.png"), tmp_path / "boxes.json"
    path.write_text(json.dumps(instances("1.png")))
    with pytest.raises(UserError, match=r"boxes\.json: .*the names differ in leading zeros: 1 for 0001"):
        colorize(photos, path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_of_photos_made_on_windows(encoding, tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("scans\\é.png 3\r\nb.png\r\n".encode(encoding))
    assert read_list(path) == ["scans/é.png", "b.png"]
    path.write_bytes("..\\a.png".encode(encoding))
    with pytest.raises(DataError, match=r"is not below data\.path"):
        read_list(path)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((96, 64), FOUND),
        ((192, 128), [[10, 10, 30, 25]]),
        ((48, 32), [[40, 40, 120, 100]]),
        ((289, 193), [[20 * 96 / 289, 20 * 64 / 193, 60 * 96 / 289, 50 * 64 / 193]]),  # three times the size, rounded
        ((None, None), FOUND),
        ((0, 0), FOUND),
    ],
)
def test_annotations_for_another_size_are_scaled(size, wanted, tmp_path, colorize):
    photos, path = write_photos(tmp_path / "photos", "a.png"), tmp_path / "boxes.json"
    path.write_text(json.dumps(instances("a.png", width=size[0], height=size[1])))
    np.testing.assert_allclose(colorize(photos, path), [wanted], rtol=1e-6)
    source = open_source(DataConfig(source="folder", path=str(photos), boxes_path=str(path)))
    np.testing.assert_allclose(source[0].boxes, wanted, rtol=1e-6)
    whole = np.clip(np.array(wanted), 0, [*SIZE, *SIZE]).astype(int)
    np.testing.assert_array_equal(source.usable(0)[1].boxes, whole)
    assert source.usable_counts.tolist() == [1]


@pytest.mark.parametrize(
    ("size", "wanted"), [((192, 128), [[10, 10, 30, 25]]), ((64, 96), None), ((None, None), FOUND)]
)
def test_packed_annotations_keep_the_size_of_their_photos(size, wanted, tmp_path, colorize, capsys):
    photos, path, packed = write_photos(tmp_path / "photos", "a.png"), tmp_path / "boxes.json", tmp_path / "packed"
    path.write_text(json.dumps(instances("a.png", "other.png", width=size[0], height=size[1])))
    store = pack_store(path, packed)
    assert [store.photo_size(key) for key in ("a", "other", "none")] == [size if size[0] else None] * 2 + [None]
    assert ("sized" in json.loads((packed / "manifest.json").read_text())) == bool(size[0])
    store.verify()
    if wanted is None:
        with pytest.raises(UserError, match="1 of 1 photo could not be colored"):
            colorize(photos, packed)
        assert f"packed: has photo a with {size[0]} x {size[1]} pixels, but it is 96 x 64" in capsys.readouterr().err
    else:
        assert colorize(photos, packed) == [wanted]
        source = open_source(DataConfig(source="folder", path=str(photos), boxes_path=str(packed)))
        np.testing.assert_allclose(source[0].boxes, wanted, rtol=1e-6)


def test_a_message_about_missing_boxes_shows_a_name_that_there_is(tmp_path, colorize, capsys):
    photos, path = write_photos(tmp_path / "photos", "a.png", "b.png", "c.png"), tmp_path / "boxes.json"
    path.write_text(json.dumps(instances("a.png", "IMG_b.png")))
    with pytest.raises(UserError, match="2 of 3 photos could not be colored"):
        colorize(photos, path)
    lines = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert lines[0].endswith("takes its photo for one without boxes (it has boxes for IMG_b and others)")
    assert lines[1].endswith("no boxes for photo c; --missing-boxes none takes its photo for one without boxes")
    with pytest.raises(DataError, match=r"takes them for photos without boxes \(it has boxes for IMG_b and others\)$"):
        open_source(DataConfig(source="folder", path=str(photos), boxes_path=str(path)))


@pytest.mark.parametrize("size", [(64, 96), (96, 96), (128, 192), (100, 64)])
def test_annotations_for_another_aspect_are_refused(size, tmp_path, colorize, capsys):
    photos, path = write_photos(tmp_path / "photos", "a.png", "b.png"), tmp_path / "boxes.json"
    content = instances("a.png", "b.png")
    content["images"][0] |= {"width": size[0], "height": size[1]}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="1 of 2 photos could not be colored"):
        colorize(photos, path)
    said = (
        f"boxes.json: has photo a with {size[0]} x {size[1]} pixels, but it is 96 x 64: its boxes would lie elsewhere"
    )
    assert said in capsys.readouterr().err
    config = DataConfig(source="folder", path=str(photos), boxes_path=str(path))
    with pytest.raises(DataError, match=re.escape(said)):
        open_source(config)
    source = open_source(dataclasses.replace(config, bad_photos="skip"))
    assert [source[n].name for n in range(len(source))] == ["b"]
    assert said in source.skipped[0]


def test_boxes_of_other_photos_are_refused_whatever_is_said_of_missing_ones(tmp_path, colorize):
    photos = write_photos(tmp_path / "photos", "a.png", "b.png")
    beside = tmp_path / "photos_bbox"
    beside.mkdir()
    np.savez(beside / "a.png.npz", bbox=np.array([[0, 0, 10, 10]], np.float32), scores=np.ones(1, np.float32))
    for given in (None, beside):
        with pytest.raises(
            UserError, match="of 1 entry not one fits one of 2 photos: its names have the photo's suffix"
        ):
            colorize(photos, given)
    assert not (tmp_path / "out").exists()


def test_one_photo_of_several_may_lack_an_entry(tmp_path, colorize):
    photos = write_photos(tmp_path / "photos", "a.png", "b.png")
    (tmp_path / "photos_bbox").mkdir()
    np.savez(
        tmp_path / "photos_bbox" / "a.npz",
        bbox=np.array([[0, 0, 10, 10]], np.float32),
        scores=np.ones(1, np.float32),
    )
    assert colorize(photos / "b.png", missing_boxes="none") == [None]

"""COCO as it is downloaded."""

import json
import zipfile

import pytest

from jaxcolor.config import DataConfig
from jaxcolor.data.sources.registry import open_source
from jaxcolor.data.types import DataError
from tests.data.photo_files import contents, jpeg, write_boxes, write_zip

NAMES = [f"{number:012d}.jpg" for number in (9, 25, 30)]
INSTANCES = {
    "images": [{"id": number, "file_name": f"{number:012d}.jpg"} for number in (9, 25, 30, 34)],
    "annotations": [
        {"id": 1, "image_id": 9, "bbox": [1.5, 2, 10, 11]},
        {"id": 2, "image_id": 30, "bbox": [0, 0, 40, 30], "iscrowd": 1},
        {"id": 3, "image_id": 30, "bbox": [3, 4, 5, 6]},
        {"id": 4, "image_id": 34, "bbox": [3, 4, 5, 6]},
    ],
}


def lay_out(path, split="val", *, zipped, inside="", with_boxes=True):
    """What cocodataset.org gives, made small; unpacked or as it comes."""
    photos = {name: jpeg(number) for number, name in enumerate(NAMES)}
    (path / inside).mkdir(parents=True, exist_ok=True)
    folder, boxes = path / inside / f"{split}2017", json.dumps(INSTANCES)
    if zipped:
        write_zip(
            folder.with_suffix(".zip"), {f"{split}2017/": b""} | {f"{split}2017/{n}": d for n, d in photos.items()}
        )
    else:
        folder.mkdir()
        for name, data in photos.items():
            (folder / name).write_bytes(data)
    if with_boxes and zipped:
        members = {f"annotations/{kind}_{split}2017.json": boxes for kind in ("instances", "captions")}
        write_zip(path / "annotations_trainval2017.zip", members, zipfile.ZIP_DEFLATED)
    elif with_boxes:
        (path / "annotations").mkdir(exist_ok=True)
        (path / "annotations" / f"instances_{split}2017.json").write_text(boxes)
    return path


def coco(path, split="val", **fields):
    return open_source(DataConfig(source="coco", path=str(path), split=split, **fields))


@pytest.mark.parametrize("inside", ["", "images"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_annotated_boxes_with_nothing_else(tmp_path, split, inside):
    found = []
    for zipped in (False, True):
        path = lay_out(tmp_path / f"coco{zipped}", split, zipped=zipped, inside=inside)
        source = coco(path, split, box_choice="ground_truth")
        place = path / inside / f"{split}2017{'.zip' * zipped}"
        json_place = path / ("annotations_trainval2017.zip/" * zipped) / f"annotations/instances_{split}2017.json"
        assert source.describe() == (
            f"{place}: 3 photos, 2 with annotated boxes; 2 annotated boxes from {json_place}; "
            "entries of no photo here: 1; 1 of 4 annotations are of crowds: left out"
        )
        found.append(contents(source))
    assert found[0] == found[1]
    assert [photo[0] for photo in found[0]] == [name[:-4] for name in NAMES]
    assert [photo[4] for photo in found[0]] == [[[1.5, 2, 11.5, 13]], [], [[3, 4, 8, 10]]]


def test_detections(tmp_path):
    path = lay_out(tmp_path / "coco", zipped=True, with_boxes=False)  # annotations are not wanted and not missed
    with pytest.raises(
        DataError, match=r"val2017\.zip: no boxes lie with these photos; name some with data\.boxes_path"
    ):
        coco(path)
    assert coco(path, missing_boxes="none").describe() == f"{path}/val2017.zip: 3 photos, 0 with boxes; 0 boxes"
    for name in NAMES:
        write_boxes(path / "val2017_bbox" / f"{name[:-4]}.npz", [[0, 0, 9, 9]])
    assert coco(path).with_boxes() == (0, 1, 2)
    found = tmp_path / "found.json"
    found.write_text(json.dumps([{"image_id": 25, "bbox": [0, 0, 9, 9], "score": 0.5}]))
    assert coco(path, boxes_path=str(found), missing_boxes="none").with_boxes() == (1,)


def test_other_annotated_boxes(tmp_path):
    path = lay_out(tmp_path / "coco", zipped=False)
    write_boxes(tmp_path / "truth" / "000000000025.npz", [[0, 0, 9, 9]])
    other = {"truth_boxes_path": str(tmp_path / "truth"), "box_choice": "ground_truth", "missing_boxes": "none"}
    assert coco(path, **other).with_boxes() == (1,)


@pytest.mark.parametrize("zipped", [False, True])
def test_lists_are_below_the_split(tmp_path, zipped):
    path = lay_out(tmp_path / "coco", zipped=zipped)
    (tmp_path / "list.txt").write_text(f"{NAMES[2]}\n{NAMES[0]}")
    source = coco(path, list_path=str(tmp_path / "list.txt"), box_choice="ground_truth")
    assert [photo[0] for photo in contents(source)] == [NAMES[2][:-4], NAMES[0][:-4]]


def test_what_is_absent_is_named_with_every_place(tmp_path):
    path = lay_out(tmp_path / "coco", zipped=True, with_boxes=False)
    with pytest.raises(DataError) as caught:
        coco(path, "train")
    for place in ("coco/train2017", "coco/train2017.zip", "coco/images/train2017", "coco/images/train2017.zip"):
        assert f"{tmp_path}/{place}" in str(caught.value)
    with pytest.raises(DataError) as caught:
        coco(path, box_choice="ground_truth")
    for place in ("annotations/instances_val2017.json", "annotations_trainval2017.zip"):
        assert f"{path}/{place}" in str(caught.value)
    with pytest.raises(DataError, match=r"data\.split: 'test' is no split of COCO 2017; 'train' or 'val'"):
        coco(path, "test")
    with pytest.raises(DataError, match=r"gone: no such folder"):
        coco(tmp_path / "gone")
    with pytest.raises(DataError, match=r"data\.path is empty"):
        open_source(DataConfig(source="coco"))


def test_a_photo_that_is_not_among_the_images(tmp_path):
    path = lay_out(tmp_path / "coco", zipped=False)
    (path / "val2017" / "000000000031.jpg").write_bytes(jpeg(7))
    with pytest.raises(DataError, match=r"instances_val2017\.json: no boxes for photo 000000000031"):
        coco(path, box_choice="ground_truth")
    assert len(coco(path, box_choice="ground_truth", missing_boxes="none")) == 4

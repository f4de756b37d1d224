"""Names that fit no photo, or only some; boxes in other units: refused before a photo is read, or counted."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from jaxcolor.config import Config, DataConfig, EvalConfig
from jaxcolor.data.boxes.matching import likely_form
from jaxcolor.data.boxes.packed_writer import pack_store
from jaxcolor.data.sources import photo_source as module
from jaxcolor.data.sources.registry import open_source
from jaxcolor.data.tools.pack_photos import Photos
from jaxcolor.data.types import DataError
from jaxcolor.evaluation import run
from jaxcolor.evaluation.predictions import Predictions

SIZE = (96, 64)
BOX = [20.0, 10.0, 60.0, 50.0]


def write_photos(folder, names):
    folder.mkdir()
    for name in names:
        Image.new("RGB", SIZE).save(folder / name)
    return folder


def write_npz(folder, boxes):
    folder.mkdir()
    for name, found in boxes.items():
        array = np.array(found, np.float32).reshape(-1, 4)
        np.savez(folder / f"{name}.npz", bbox=array, scores=np.ones(len(array), np.float32))
    return folder


@pytest.fixture
def unread(monkeypatch):
    """Reading as much as the header of a photo is an error."""

    def fail(*_, **__):
        raise AssertionError("a photo was looked at")

    monkeypatch.setattr(module, "make_index", fail)


COCO = [f"COCO_val2014_{number:012d}.jpg" for number in (139, 285, 632)]
SETS = {
    "cut at the first dot": (
        ["trip0.2019.05.png", "trip1.2019.05.png"],
        ["trip0", "trip1"],
        "its names are cut at the first dot: trip0 for trip0.2019.05",
    ),
    "with the photo's suffix": (
        ["a.jpg", "b.jpg"],
        ["a.jpg", "b.jpg"],
        "its names have the photo's suffix too: a.jpg for a",
    ),
    "COCO 2014 against 2017": (
        COCO,
        ["000000000139", "000000000285"],
        "the names differ in COCO's prefix: 000000000139 for COCO_val2014_000000000139",
    ),
    "ids against COCO 2014": (
        COCO,
        ["139", "285"],
        "the names differ in COCO's prefix and leading zeros: 139 for COCO_val2014_000000000139",
    ),
    "zeros": (["000139.jpg"], ["139"], "the names differ in leading zeros: 139 for 000139"),
    "capitals": (["IMG_1.JPG", "IMG_2.JPG"], ["img_1", "img_2"], "the names differ in capitals: img_1 for IMG_1"),
    "suffix": (
        ["a.png", "b.png"],
        ["a_fake_B", "b_fake_B"],
        "its names have '_fake_B' where the photos' have nothing: a_fake_B beside a",
    ),
    "suffix of the photos": (
        ["a_gray.png", "b_gray.png"],
        ["a", "b"],
        "its names lack '_gray', which the photos' have: a_gray beside a",
    ),
    "Label Studio": (
        ["cat.png", "dog.png"],
        ["0a1b2c3d-cat", "ffee0011-dog"],
        "its names begin with a code of Label Studio's: 0a1b2c3d-cat for cat",
    ),
    "Roboflow": (
        ["cat.png", "dog.png"],
        ["cat_png.rf.8ab1", "dog_png.rf.77c0"],
        "its names end in a code of Roboflow's: cat_png.rf.8ab1 for cat",
    ),
    "escaped": (["my cat.png"], ["my%20cat"], "its names are escaped as addresses are: my%20cat for my cat"),
    "blanks": (["my cat.png"], ["my_cat"], "the names differ in blanks and underscores: my_cat for my cat"),
    "others": (["x.png", "y.png"], ["p", "q"], "p is there, and the photos are called as x"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("missing_boxes", ["error", "none"])
@pytest.mark.parametrize(("photos", "entries", "said"), SETS.values(), ids=SETS)
def test_no_entry_fits(tmp_path, unread, photos, entries, said, missing_boxes, packed):
    folder = write_photos(tmp_path / "photos", photos)
    boxes = write_npz(tmp_path / "boxes", {name: [BOX] for name in entries})
    if packed:
        boxes = tmp_path / "packed"
        pack_store(tmp_path / "boxes", boxes)
    with pytest.raises(DataError) as error:
        open_source(DataConfig(path=str(folder), boxes_path=str(boxes), missing_boxes=missing_boxes))
    what = f"{len(entries)} entr{'ies' if len(entries) > 1 else 'y'}"
    one_of = f"{len(photos)} photo{'s' * (len(photos) > 1)}"
    assert str(error.value) == (
        f"{boxes}: of {what} not one fits one of {one_of}: {said}; name boxes of these photos, or none"
    )


def test_ids_of_another_set(tmp_path, unread):
    folder = write_photos(tmp_path / "photos", ["000000000001.png", "000000000002.png"])
    found = tmp_path / "found.json"
    found.write_text(json.dumps([{"image_id": 1001, "bbox": [1, 2, 30, 40], "score": 0.9}]))
    with pytest.raises(DataError, match=r"found\.json: of 1 entry .*: 000000001001 is there, .* as 000000000001;"):
        open_source(DataConfig(path=str(folder), boxes_path=str(found), missing_boxes="none"))


def test_ids_for_photos_with_names(tmp_path, unread):
    folder = write_photos(tmp_path / "photos", ["kitchen.png", "garden.png"])
    found = tmp_path / "found.json"
    found.write_text(json.dumps([{"image_id": 1, "bbox": [1, 2, 30, 40], "score": 0.9}]))
    with pytest.raises(DataError, match=r"; ids name their photos by `jaxcolor boxes pack --images FILE`, a file that"):
        open_source(DataConfig(path=str(folder), boxes_path=str(found)))


@pytest.mark.parametrize("missing_boxes", ["error", "none"])
def test_packing_boxes_of_others(tmp_path, missing_boxes):
    folder = write_photos(tmp_path / "photos", ["a.png"])
    write_npz(tmp_path / "photos_bbox", {"b": [BOX]})
    with pytest.raises(DataError, match="of 1 entry not one fits one of 1 photo"):
        Photos(DataConfig(path=str(folder), missing_boxes=missing_boxes))


@pytest.mark.parametrize("field", ["boxes_path", "truth_boxes_path"])
def test_annotations_of_others(tmp_path, unread, field):
    folder = write_photos(tmp_path / "photos", ["a.png"])
    write_npz(tmp_path / "photos_bbox", {"a": [BOX]})
    truth = tmp_path / "instances.json"
    truth.write_text(
        json.dumps(
            {"images": [{"id": 1, "file_name": "b.png"}], "annotations": [{"id": 1, "image_id": 1, "bbox": BOX}]}
        )
    )
    with pytest.raises(DataError, match=r"instances\.json: of 1 entry not one fits one of 1 photo: b is there"):
        open_source(DataConfig(path=str(folder), missing_boxes="none", **{field: str(truth)}))


def test_masks_of_others(tmp_path, unread):
    folder, truth = write_photos(tmp_path / "photos", ["a.png"]), tmp_path / "instances.json"
    one = {"id": 1, "image_id": 1, "bbox": BOX, "segmentation": [[20, 10, 60, 10, 60, 50]]}
    truth.write_text(json.dumps({"images": [{"id": 1, "file_name": "b.png"}], "annotations": [one]}))
    config = DataConfig(
        path=str(folder), truth_boxes_path=str(truth), masks=True, box_choice="ground_truth", missing_boxes="none"
    )
    with pytest.raises(DataError, match=r"instances\.json: of 1 entry not one fits"):
        open_source(config)


def test_detections_that_nobody_needs_may_be_of_others(tmp_path):
    folder = write_photos(tmp_path / "photos", ["a.png"])
    write_npz(tmp_path / "photos_bbox", {"b": [BOX]})
    write_npz(tmp_path / "truth", {"a": [BOX]})
    config = DataConfig(path=str(folder), box_choice="ground_truth", truth_boxes_path=str(tmp_path / "truth"))
    assert len(open_source(config).with_boxes()) == 1


def test_no_entry_at_all_is_no_box(tmp_path):
    folder = write_photos(tmp_path / "photos", ["a.png"])
    (tmp_path / "found.json").write_text("[]")
    source = open_source(DataConfig(path=str(folder), boxes_path=str(tmp_path / "found.json"), missing_boxes="none"))
    assert source.with_boxes() == ()


def test_what_fits_in_part_is_counted(tmp_path):
    folder = write_photos(tmp_path / "photos", [f"{name}.png" for name in "abcde"])
    share = [0.2, 0.1, 0.6, 1.0]
    boxes = {"a": [BOX, share], "b": [share, share], "c": [], "x": [BOX], "y": [BOX], "z": [BOX]}
    write_npz(tmp_path / "photos_bbox", boxes)
    described = open_source(DataConfig(path=str(folder), missing_boxes="none")).describe()
    assert "5 photos, 1 with boxes; 1 box from " in described
    assert described.endswith(
        ", 3 dropped (3 no size); photos without an entry: 2; entries of no photo here: 3; "
        "photos whose boxes look like shares of the photo in place of pixels: 1"
    )


@pytest.mark.parametrize("missing_boxes", ["error", "none"])
def test_boxes_that_are_shares_of_the_photo(tmp_path, unread, missing_boxes):
    folder = write_photos(tmp_path / "photos", ["a.png", "b.png"])
    write_npz(tmp_path / "photos_bbox", {"a": [[0.25, 0.5, 1.02, 1.0]], "b": [[0, 0, 1, 1], [np.nan, 0, 1, 1]]})
    said = (
        r"photos_bbox: boxes are x0, y0, x1, y1 in pixels, and all 3 of these photos lie between 0 and 1, like shares "
        r"of the photo \(0\.25, 0\.5, 1\.02, 1\); multiply them by its width and height"
    )
    with pytest.raises(DataError, match=said):
        open_source(DataConfig(path=str(folder), missing_boxes=missing_boxes))


def test_boxes_of_which_none_can_be_used(tmp_path):
    folder = write_photos(tmp_path / "photos", ["a.png", "b.png"])
    write_npz(tmp_path / "photos_bbox", {"a": [[60, 40, 30, 20]], "b": [[200, 10, 220, 20]]})
    said = r"photos_bbox: of 2 boxes not one can be used \(1 inverted, 1 outside\); boxes are x0, y0, x1, y1 in pixels"
    with pytest.raises(DataError, match=rf"{said}, not x, y, width, height$"):
        open_source(DataConfig(path=str(folder), missing_boxes="none"))


def test_lvis_names_its_photos_by_their_addresses(tmp_path):
    folder = write_photos(tmp_path / "photos", ["000000000139.png"])
    image = {"id": 139, "coco_url": "http://images.cocodataset.org/val2017/000000000139.jpg"}
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps({"images": [image], "annotations": [{"id": 1, "image_id": 139, "bbox": BOX}]}))
    assert open_source(DataConfig(path=str(folder), boxes_path=str(path)))[0].boxes.tolist() == [[20, 10, 80, 60]]


def test_panoptic_annotations_are_named(tmp_path):
    folder = write_photos(tmp_path / "photos", ["a.png"])
    entry = {"image_id": 1, "file_name": "a.png", "segments_info": [{"id": 7, "bbox": BOX}]}
    path = tmp_path / "panoptic.json"
    path.write_text(json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [entry]}))
    with pytest.raises(DataError, match=r"panoptic\.json: COCO's panoptic annotations, which are not read; boxes of"):
        open_source(DataConfig(path=str(folder), boxes_path=str(path)))


@pytest.mark.parametrize("bad_photos", ["error", "skip"])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("val/a.png", r"1 of its 1 photo is not there; the first: .*val/a\.png; a\.png is there: lines name photos"),
        ("sets\\val\\a.png", r"; a\.png is there: lines name photos by their place below data\.path"),
        ("c.png", r"1 of its 1 photo is not there; the first: .*photos/c\.png$"),
        ("/data/a.png", r"'/data/a\.png' is not below data\.path; lines name photos by their place below it: a\.png"),
    ],
)
def test_lists_of_which_nothing_is_there(tmp_path, line, said, bad_photos):
    folder = write_photos(tmp_path / "photos", ["a.png", "b.png"])
    (tmp_path / "list.txt").write_text(line)
    config = DataConfig(
        path=str(folder), list_path=str(tmp_path / "list.txt"), missing_boxes="none", bad_photos=bad_photos
    )
    with pytest.raises(DataError, match=said):
        open_source(config)


def test_predictions_of_other_photos(tmp_path):
    folder = write_photos(tmp_path / "theirs", ["a_fake_B.png", "b_fake_B.png"])
    theirs = Predictions("theirs", folder)
    said = r"predictions theirs: .*theirs: of 2 pictures not one fits one of 3 photos: its names have '_fake_B' where "
    with pytest.raises(DataError, match=said):
        theirs.check_fits(["a", "b", "c"])
    theirs.check_fits(["c", "b_fake_B"])
    assert theirs.left_over(["c", "b_fake_B"]) == 1


def test_an_evaluation_of_predictions_of_others_reads_no_photo(tmp_path, monkeypatch):
    photos = write_photos(tmp_path / "photos", ["a.png", "b.png", "c.png"])
    theirs = Predictions("theirs", write_photos(tmp_path / "theirs", ["c_out.png"]))

    def fail(*_, **__):
        raise AssertionError("a batch was asked for")

    monkeypatch.setattr(run, "eval_batches", fail)
    data = DataConfig(path=str(photos), source="folder", missing_boxes="none")
    config = Config(eval=EvalConfig(data=data, metrics="", photos=2))
    said = r"theirs: of 1 picture not one fits one of 2 photos: c_out is there, and the photos are called as a; each"
    with pytest.raises(DataError, match=said):
        run.compare(config, [], [theirs])
    with pytest.raises(AssertionError, match="a batch was asked for"):  # of all three, it would have begun
        run.compare(dataclasses.replace(config, eval=dataclasses.replace(config.eval, photos=0)), [], [fitting(theirs)])


def fitting(predictions):
    """The same folder with a picture of a photo."""
    Image.new("RGB", SIZE).save(predictions.folder / "c.png")
    return Predictions("fitting", predictions.folder)


def test_forms_of_many_names():
    photos = [f"photo_{number:07d}" for number in range(20_000)]
    assert likely_form([f"{name}_x" for name in photos[:1000]], photos).startswith("its names have '_x'")
    assert likely_form([f"other{number:012d}" for number in range(1000)], photos) == ""

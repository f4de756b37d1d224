import json
import math
import pickle
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcolor.data.box_files import read_boxes
from jaxcolor.data.box_stores.coco import read_detections, read_instances
from jaxcolor.data.box_stores.opening import find_kind, open_store
from jaxcolor.data.box_stores.store import (
    BoxStore,
    MissingBoxesError,
    check_complete,
    no_boxes,
    npz_store,
    photo_key,
)
from jaxcolor.data.box_stores.voc import read_voc
from jaxcolor.data.photos import DataError

SHARED = Path(__file__).parents[3] / "shared" / "data"
VAL = SHARED / "coco_val2017"


def write_json(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def image(number, name):
    return {"id": number, "file_name": name, "width": 64, "height": 48}


def annotation(number, of, bbox=(1, 2, 3, 4), **fields):
    return {"id": number, "image_id": of, "bbox": list(bbox), "category_id": 1, "iscrowd": 0, **fields}


def detection(of, bbox=(1, 2, 3, 4), score=0.5, **fields):
    return {"image_id": of, "category_id": 1, "bbox": list(bbox), "score": score, **fields}


def one_line(caught):
    return "\n" not in str(caught.value)


class TestKeys:
    @pytest.mark.parametrize(
        ("name", "key"),
        [
            ("n01440764_10026.JPEG", "n01440764_10026"),
            ("train/n01440764/n01440764_10026.JPEG", "n01440764_10026"),
            ("a.b.jpg", "a.b"),
            ("a.b", "a.b"),
            ("x.jpg.png", "x.jpg"),
            (139, "000000000139"),
            (1234567890123, "1234567890123"),
            ("фото 1.webp", "фото 1"),
        ],
    )
    def test_photo_key(self, name, key):
        assert photo_key(name) == key


class TestNpz:
    def test_folder(self, tmp_path):
        np.savez(tmp_path / "b.c.npz", bbox=np.ones((1, 4), np.float32), scores=np.ones(1, np.float32))
        np.savez(tmp_path / "a.npz", bbox=np.ones((0, 4), np.float32), scores=np.ones(0, np.float32))
        (tmp_path / "._a.npz").write_bytes(b"left by another system")
        store = open_store(tmp_path)
        assert isinstance(store, BoxStore)
        assert (store.kind, len(store), list(store.keys())) == ("npz", 2, ["a", "b.c"])
        assert "a" in store
        assert "b" not in store
        assert len(store.read("b.c").boxes) == 1
        with pytest.raises(MissingBoxesError, match=r"b\.npz: no such box file"):
            store.read("b")

    def test_no_folder_has_no_entries(self, tmp_path):
        store = npz_store(tmp_path / "gone")
        assert (len(store), list(store.keys()), "a" in store) == (0, [], False)


class TestComplete:
    def test_counts_and_names(self, tmp_path):
        store = npz_store(tmp_path)
        check_complete(store, [])
        with pytest.raises(MissingBoxesError, match=r"x\.npz: no such box file; data.missing_boxes 'none' takes its"):
            check_complete(store, ["x"])
        with pytest.raises(
            MissingBoxesError, match=r"x0\.npz: no such box file; the same for 5 more of 6 photos \(x1, x2, x3 …\)"
        ) as caught:
            check_complete(store, [f"x{i}" for i in range(6)])
        assert one_line(caught)


class TestInstances:
    def test_reads(self, tmp_path):
        path = write_json(
            tmp_path / "instances.json",
            {
                "images": [image(7, "val/b.jpg"), image(3, "a.png"), image(5, "c.jpg")],
                "annotations": [
                    annotation(1, 7, [1.5, 2, 10, 20]),
                    annotation(2, 3),
                    annotation(3, 7, [0, 0, 5, 5]),
                    annotation(4, 7, iscrowd=1),
                ],
            },
        )
        store = open_store(path)
        assert isinstance(store, BoxStore)
        assert (store.kind, len(store), list(store.keys())) == ("coco_instances", 3, ["a", "b", "c"])
        assert store.note == "1 of 4 annotations are of crowds: left out"
        boxes, scores = store.read("b")
        assert boxes.tolist() == [[1.5, 2, 11.5, 22], [0, 0, 5, 5]]
        assert scores.tolist() == [1, 1]
        assert boxes.dtype == scores.dtype == np.float32
        assert len(store.read("c").boxes) == 0
        with pytest.raises(MissingBoxesError, match=r"instances\.json: no boxes for photo d"):
            store.read("d")
        copy = pickle.loads(pickle.dumps(store))
        assert copy.read("b").boxes.tolist() == boxes.tolist()

    def test_iscrowd_may_be_absent(self, tmp_path):
        entry = annotation(1, 7)
        del entry["iscrowd"]
        path = write_json(tmp_path / "i.json", {"images": [image(7, "b.jpg")], "annotations": [entry]})
        assert len(read_instances(path).read("b").boxes) == 1

    @pytest.mark.parametrize(
        ("images", "annotations", "message"),
        [
            ([image(1, "a.jpg"), image(1, "b.jpg")], [], "image 1: its id 1 is that of an image before it"),
            ([image(1, "x/a.jpg"), image(2, "y/a.png")], [], "images 1 and 2 are both called a"),
            ([image(None, "a.jpg")], [], "image 0: 'id' is absent or null"),
            ([image(True, "a.jpg")], [], "image 0: 'id' is True"),
            ([image(1.0, "a.jpg")], [], "image 0: 'id' is 1.0"),
            ([image(-1, "a.jpg")], [], "image 0: 'id' is -1"),
            ([{"id": 1}], [], "image 0: 'file_name' is absent or null"),
            ([image(1, "")], [], "image 0: 'file_name' is ''"),
            ([17], [], "image 0: 17; it must be an object"),
            ("a.jpg", [], "'images' is a text; it must be a list"),
            ([], None, "'annotations' is null; it must be a list"),
            ([], [annotation(1, 7)], "annotation 0: image_id 7 is not among the images"),
            ([image(1, "a")], [annotation(1, 1), annotation(1, 1)], "annotation 1: its id 1 is that of an annotation"),
            ([image(1, "a")], [annotation(1, 1, iscrowd=2)], "annotation 0: 'iscrowd' is 2; it must be 0 or 1"),
            ([image(1, "a")], [annotation(1, 1, iscrowd=[1])], "annotation 0: 'iscrowd' is"),
            ([image(1, "a")], [annotation(1, 1, iscrowd=None)], "annotation 0: 'iscrowd' is absent or null"),
            ([image(1, "a")], [annotation(1, 1, [1, 2, 3])], "annotation 0: 'bbox' is"),
            ([image(1, "a")], [annotation(1, 1, [1, 2, 3, "4"])], "annotation 0: 'bbox' is"),
            ([image(1, "a")], [annotation(1, 1, [1, 2, 3, True])], "annotation 0: 'bbox' is"),
            ([image(1, "a")], [annotation(1, 1, [1, 2, 3, math.nan])], "annotation 0: 'bbox' is .*finite"),
            ([image(1, "a")], [annotation(1, 1, [1, 2, 3, math.inf])], "annotation 0: 'bbox' is .*finite"),
            ([image(1, "a")], [annotation(1, 1, [1, 2, 3, 10**400])], "annotation 0: 'bbox' is .*finite"),
            ([image(1, "a")], [annotation(1, 1, bbox=()) | {"bbox": None}], "annotation 0: 'bbox' is absent or null"),
        ],
    )
    def test_wrong_contents(self, tmp_path, images, annotations, message):
        path = write_json(tmp_path / "wrong.json", {"images": images, "annotations": annotations})
        with pytest.raises(DataError, match=rf"wrong\.json: {message}") as caught:
            read_instances(path)
        assert one_line(caught)

    def test_other_files(self, tmp_path):
        with pytest.raises(DataError, match=r"w\.json: no 'images' in it; it has 'info'"):
            read_instances(write_json(tmp_path / "w.json", {"info": 1}))
        with pytest.raises(DataError, match=r"w\.json: no 'annotations' in it; it has 'images'"):
            read_instances(write_json(tmp_path / "w.json", {"images": []}))
        with pytest.raises(DataError, match=r"w\.json: not COCO annotations: .* this is a list"):
            read_instances(write_json(tmp_path / "w.json", []))


class TestDetections:
    def test_ids_in_twelve_digits(self, tmp_path):
        entries = [detection(139, score=0.75), detection(42, [0, 0, 9, 9]), detection(139, [5, 5, 1, 1], 1)]
        store = open_store(write_json(tmp_path / "d.json", entries))
        assert isinstance(store, BoxStore)
        assert (store.kind, list(store.keys())) == ("coco_detections", ["000000000042", "000000000139"])
        boxes, scores = store.read(photo_key(139))
        assert boxes.tolist() == [[1, 2, 4, 6], [5, 5, 6, 6]]
        assert scores.tolist() == [0.75, 1]

    def test_file_names_from_images(self, tmp_path):
        info = write_json(tmp_path / "info.json", {"images": [image(9, "val/b.jpg"), image(8, "a.jpg")]})
        path = write_json(tmp_path / "d.json", [detection(9)])
        store = open_store(path, images=info)
        assert list(store.keys()) == ["a", "b"]
        assert len(store.read("a").boxes) == 0  # looked at, nothing found
        assert len(store.read("b").boxes) == 1
        with pytest.raises(DataError, match=r"d\.json: entry 0: image_id 10 is not among the images of .*info\.json"):
            read_detections(write_json(path, [detection(10)]), info)
        with pytest.raises(DataError, match="a file of images is for COCO detection results"):
            open_store(write_json(tmp_path / "i.json", {"images": [], "annotations": []}), images=info)

    def test_file_names_as_ids(self, tmp_path):
        path = write_json(tmp_path / "d.json", [detection("x/a.jpg"), detection("x/a.jpg")])
        assert len(read_detections(path).read("a").boxes) == 2
        with pytest.raises(DataError, match=r"images 'x/a\.jpg' and 'y/a\.jpg' are both called a"):
            read_detections(write_json(path, [detection("x/a.jpg"), detection("y/a.jpg")]))

    def test_nothing_found(self, tmp_path):
        assert len(read_detections(write_json(tmp_path / "d.json", []))) == 0

    def test_what_is_not_needed_may_be_absent(self, tmp_path):
        entry = detection(1)
        del entry["category_id"]
        assert len(read_detections(write_json(tmp_path / "d.json", [entry]))) == 1

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ({}, "'image_id' is absent or null"),
            (detection([1]), r"'image_id' is \[1\]"),
            (detection(1, score=None), "'score' is absent or null; it must be a finite number"),
            (detection(1, score="0.5"), "'score' is '0.5'"),
            (detection(1, score=math.nan), "'score' is nan"),
            (detection(1, score=10**400), "'score' is a number beyond all sizes"),
            (detection(1, [1, 2]), r"'bbox' is \[1, 2\]"),
            ({"image_id": 1, "score": 1, "segmentation": {}}, "'bbox' is absent or null"),
            (None, "null; it must be an object"),
        ],
    )
    def test_wrong_contents(self, tmp_path, entry, message):
        path = write_json(tmp_path / "wrong.json", [detection(1), entry])
        with pytest.raises(DataError, match=rf"wrong\.json: entry 1: {message}") as caught:
            read_detections(path)
        assert one_line(caught)

    @pytest.mark.parametrize("read", [read_detections, read_instances])
    def test_wrong_files(self, tmp_path, read):
        path = tmp_path / "wrong.json"
        with pytest.raises(DataError, match=r"wrong\.json: cannot read this file: No such file"):
            read(path)
        whole = json.dumps([detection(1)]).encode()
        for broken in (b"", b"text", whole[:-9], whole + b"]", b"\xff\xfe\x00", b"[" * 100_000, pickle.dumps([1])):
            path.write_bytes(broken)
            with pytest.raises(DataError, match=r"wrong\.json: ") as caught:
                read(path)
            assert one_line(caught)
        with pytest.raises(DataError, match=r"wrong\.json: "):
            read(write_json(path, "17"))


def voc(*objects, head="", root="annotation"):
    body = "".join(f"<object><name>x</name>{inner}</object>" for inner in objects)
    return f"{head}<{root}><filename>%s</filename><size><width>9</width></size>{body}</{root}>"


def bndbox(x0="1", y0="1", x1="5", y1="6"):
    return f"<bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>"


class TestVoc:
    def test_reads(self, tmp_path):
        part = f"<part><name>head</name>{bndbox()}</part>"
        text = voc(
            bndbox() + "<difficult>1</difficult><truncated>1</truncated>" + part, bndbox(" 48.5 ", 1, "195", "371\n")
        )
        (tmp_path / "a.xml").write_text(text)
        (tmp_path / "b.xml").write_text(voc())
        (tmp_path / "notes.txt").write_text("no annotation")
        store = open_store(tmp_path)
        assert isinstance(store, BoxStore)
        assert (store.kind, list(store.keys())) == ("voc", ["a", "b"])
        boxes, scores = store.read("a")
        assert boxes.tolist() == [[0, 0, 5, 6], [47.5, 0, 195, 371]]
        assert scores.tolist() == [1, 1]
        assert len(store.read("b").boxes) == 0
        with pytest.raises(MissingBoxesError, match=r"c\.xml: no such box file"):
            store.read("c")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "cannot read this XML file: no element found"),
            ("hello", "cannot read this XML file: syntax error"),
            (voc(bndbox())[:-20], "cannot read this XML file"),
            ('<?xml version="1.0" encoding="no-such"?>' + voc(), "cannot read this XML file: unknown encoding"),
            (voc(root="html"), "not a VOC annotation: its root is <html>"),
            (voc(""), "object 0 has no <bndbox>; it must have one"),
            (voc(bndbox(), bndbox() * 2), "object 1 has 2 <bndbox>; it must have one"),
            (voc("<bndbox><xmin>1</xmin></bndbox>"), "object 0: its <bndbox> has no <ymin>"),
            (voc(bndbox("1</xmin><xmin>2")), "object 0: its <bndbox> has 2 <xmin>"),
            (voc(bndbox(y1="six")), "object 0: <ymax> is 'six'; it must be a finite number"),
            (voc(bndbox(x1="nan")), "object 0: <xmax> is 'nan'"),
            (voc(bndbox(x1="inf")), "object 0: <xmax> is 'inf'"),
            (voc(bndbox("")), "object 0: <xmin> is ''"),
            (voc(head="<!DOCTYPE annotation>"), "has a document type declaration"),
            (voc("&b;", head='<!DOCTYPE a [<!ENTITY a "x"><!ENTITY b "&a;&a;">]>'), "has a document type declaration"),
            (voc("&f;", head='<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/hosts">]>'), "has a document type"),
        ],
    )
    def test_wrong_files(self, tmp_path, text, message):
        (tmp_path / "w.xml").write_text(text)
        with pytest.raises(DataError, match=rf"w\.xml: {message}") as caught:
            read_voc(tmp_path / "w.xml")
        assert one_line(caught)

    def test_declarations_are_seen_in_any_encoding(self, tmp_path):
        text = '<?xml version="1.0" encoding="UTF-16"?>' + voc(head="<!DOCTYPE a>")
        (tmp_path / "w.xml").write_bytes(text.encode("utf-16"))
        with pytest.raises(DataError, match="document type declaration"):
            read_voc(tmp_path / "w.xml")

    def test_no_file(self, tmp_path):
        with pytest.raises(DataError, match=r"w\.xml: cannot read this file: No such file"):
            read_voc(tmp_path / "w.xml")


class TestFindingOut:
    def test_folders(self, tmp_path):
        with pytest.raises(DataError, match=r"no boxes here: neither \.npz nor \.xml files, and no packed store"):
            find_kind(tmp_path)
        (tmp_path / "a.xml").write_text(voc())
        assert find_kind(tmp_path) == "voc"
        (tmp_path / "a.npz").write_bytes(b"")
        with pytest.raises(DataError, match=r"box files of two kinds, \.npz and \.xml"):
            find_kind(tmp_path)
        assert open_store(tmp_path, "voc").kind == "voc"
        (tmp_path / "a.xml").unlink()
        assert find_kind(tmp_path) == "npz"

    def test_files(self, tmp_path):
        assert find_kind(write_json(tmp_path / "a.json", " \n[]")) == "coco_detections"
        assert find_kind(write_json(tmp_path / "a.json", "{}")) == "coco_instances"
        for text in ("", "PK", "\ufeff[]"):
            with pytest.raises(DataError, match=r"a\.json: not a file of boxes"):
                find_kind(write_json(tmp_path / "a.json", text))

    def test_what_cannot_be(self, tmp_path):
        with pytest.raises(DataError, match="gone: no such folder or file of boxes"):
            open_store(tmp_path / "gone")
        with pytest.raises(DataError, match="a folder; boxes of kind coco_instances are none"):
            open_store(tmp_path, "coco_instances")
        with pytest.raises(DataError, match="a file; boxes of kind voc are none"):
            open_store(write_json(tmp_path / "a.json", "[]"), "voc")


numbers = st.floats(-1e4, 1e4, width=32)
sizes = st.floats(0, 1e4, width=32)
rows = st.lists(st.tuples(numbers, numbers, sizes, sizes, st.floats(0, 1, width=32)), max_size=4)
stems = st.text(string.ascii_letters + "éжß日🙂 .-_", min_size=1, max_size=8).map(lambda s: "p" + s)


@settings(max_examples=60, deadline=None)
@given(photos=st.dictionaries(stems, rows, max_size=5), order=st.randoms())
def test_coco_round_trip(tmp_path_factory, photos, order):
    """Whatever the order of images and annotations, each photo gets its own boxes, as x, y, x + width, y + height."""
    folder = tmp_path_factory.mktemp("coco")
    ids = {name: 3 * number + 1 for number, name in enumerate(photos)}
    images = [image(ids[name], f"folder/{name}.jpg") for name in photos]
    found = [detection(ids[name], box[:4], box[4]) for name, boxes in photos.items() for box in boxes]
    annotations = [annotation(number, d["image_id"], d["bbox"]) for number, d in enumerate(found)]
    order.shuffle(images)
    numbered = list(zip(found, annotations, strict=True))
    # Boxes of one photo keep their order, so only the photos are shuffled.
    weight = {i: order.random() for i in ids.values()}
    numbered.sort(key=lambda pair: weight[pair[0]["image_id"]])
    truth = write_json(folder / "i.json", {"images": images, "annotations": [a for _, a in numbered]})
    results = write_json(folder / "d.json", [d for d, _ in numbered])
    for store in (read_instances(truth), read_detections(results, truth)):
        assert list(store.keys()) == sorted(photos)
        check_complete(store, list(photos))
        for name, boxes in photos.items():
            exact = np.array(boxes, np.float64).reshape(-1, 5)
            corners = np.concatenate([exact[:, :2], exact[:, :2] + exact[:, 2:4]], axis=1).astype(np.float32)
            np.testing.assert_array_equal(store.read(name).boxes, corners)
            if store.kind == "coco_detections":
                np.testing.assert_array_equal(store.read(name).scores, exact[:, 4].astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 500)] * 4), max_size=5))
def test_voc_round_trip(tmp_path_factory, boxes):
    """Pixels x0 … x1 - 1 counted from 0 are x0 + 1 … x1 counted from 1."""
    path = tmp_path_factory.mktemp("voc") / "a.xml"
    path.write_text(voc(*(bndbox(x0 + 1, y0 + 1, x1, y1) for x0, y0, x1, y1 in boxes)))
    assert read_voc(path).boxes.tolist() == [list(map(float, box)) for box in boxes]


def test_no_boxes():
    boxes, scores = no_boxes()
    assert boxes.shape == (0, 4)
    assert scores.shape == (0,)


@pytest.mark.skipif(not VAL.exists(), reason=f"no real photos at {VAL}")
class TestRealData:
    def test_detections_are_those_of_the_box_files(self):
        files, results = open_store(VAL / "images_bbox"), open_store(VAL / "detections_val2017.json")
        compared = 0
        for key in files.keys():  # noqa: SIM118  (a store is no mapping)
            boxes, scores = read_boxes(VAL / "images_bbox" / f"{key}.npz")
            assert (key in results) == (len(boxes) > 0)
            if key in results:
                np.testing.assert_allclose(results.read(key).boxes, boxes, atol=0.02)  # two decimals, x and width
                np.testing.assert_allclose(results.read(key).scores, scores, atol=6e-4)
                compared += len(boxes)
        assert compared == 685

    def test_instances(self):
        store = open_store(VAL / "instances_val2017.json")
        assert len(store) == 111
        assert store.note == "11 of 949 annotations are of crowds: left out"
        photos = {path.stem for path in (VAL / "images").iterdir()}
        assert set(store.keys()) <= photos
        assert sum(len(store.read(key).boxes) for key in store.keys()) == 938  # noqa: SIM118

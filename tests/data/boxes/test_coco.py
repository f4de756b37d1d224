"""Box stores of COCO's JSON files."""

import json
import math
import pickle
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcolor.data.boxes.base import BoxStore, MaskedStore, MissingBoxesError, check_complete, photo_key
from jaxcolor.data.boxes.coco import read_detections, read_instances
from jaxcolor.data.boxes.npz import read_npz
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.types import DataError
from tests.data.boxes.box_texts import annotation, detection, image, one_line, write_json

SHARED = Path(__file__).parents[4] / "shared" / "data"

VAL = SHARED / "coco_val2017"


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

    def test_masks_in_the_order_of_the_boxes(self, tmp_path):
        square = [[0, 0, 4, 0, 4, 4, 0, 4]]
        entries = [
            annotation(1, 7, segmentation=square),
            annotation(2, 3, segmentation={"size": [2, 2], "counts": [1, 3]}),
            annotation(3, 7, segmentation=[[4, 2, 6, 2, 6, 3, 4, 3]]),
            annotation(4, 7, iscrowd=1),  # needs none
        ]
        content = {"images": [image(7, "b.jpg"), image(3, "a.jpg"), image(5, "c.jpg")], "annotations": entries}
        path = write_json(tmp_path / "i.json", content)
        assert not isinstance(open_store(path), MaskedStore)
        store = pickle.loads(pickle.dumps(open_store(path, masks=True)))
        assert isinstance(store, MaskedStore)
        assert isinstance(store, BoxStore)
        first, second = store.masks("b", (8, 5))
        assert len(store.read("b").boxes) == 2
        assert first.shape == (5, 8)
        assert (first.sum(), second.sum()) == (16, 2)
        assert store.masks("c", (8, 5)) == store.masks("gone", (8, 5)) == []
        assert store.masks("a", (2, 2))[0].tolist() == [[False, True], [True, True]]
        with pytest.raises(DataError, match=r"i\.json: photo a: a mask of 2 x 2 pixels for a photo of 8 x 5"):
            store.masks("a", (8, 5))

    def test_masks_that_are_not_there(self, tmp_path):
        path = write_json(tmp_path / "i.json", {"images": [image(7, "b.jpg")], "annotations": [annotation(1, 7)]})
        assert len(open_store(path).read("b").boxes) == 1
        with pytest.raises(DataError, match=r"i\.json: annotation 0: no mask: 'segmentation' is absent"):
            open_store(path, masks=True)
        path = write_json(tmp_path / "d.json", [detection(1)])
        with pytest.raises(DataError, match=r"d\.json: boxes of kind coco_detections come without masks; data\.masks"):
            open_store(path, masks=True)

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


@pytest.mark.skipif(not VAL.exists(), reason=f"no real photos at {VAL}")
class TestRealData:
    def test_detections_are_those_of_the_box_files(self):
        files, results = open_store(VAL / "images_bbox"), open_store(VAL / "detections_val2017.json")
        compared = 0
        for key in files.keys():  # noqa: SIM118  (a store is no mapping)
            boxes, scores = read_npz(VAL / "images_bbox" / f"{key}.npz")
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

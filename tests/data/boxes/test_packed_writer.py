"""Making packed stores."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jaxcolor.data.boxes.packed import PackedStore
from jaxcolor.data.boxes.packed_writer import PackedWriter, pack_store
from jaxcolor.data.boxes.registry import find_kind, open_store
from jaxcolor.data.types import Boxes, DataError
from tests.data.boxes.packed_files import BOXES, assert_same, beside, many, npz_folder, write

SHARED = Path(__file__).parents[4] / "shared" / "data"

VAL = SHARED / "coco_val2017"


class TestWriting:
    def test_nothing_is_left_of_a_failure(self, tmp_path):
        def stopped():
            yield "a", BOXES
            assert len(beside(tmp_path / "s")) == 1
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_all(tmp_path / "s", stopped())
        assert beside(tmp_path / "s") == []
        with pytest.raises(DataError, match="x: no photo in it, nothing to pack"):
            write_all(tmp_path / "s", [])
        assert beside(tmp_path / "s") == []

    def test_replaces_only_packed_stores_and_only_if_asked(self, tmp_path):
        path = tmp_path / "s"
        write(path, {"a": BOXES})
        with pytest.raises(DataError, match="s: exists; give --force to replace it"):
            write(path, many(3))
        with pytest.raises(ZeroDivisionError), PackedWriter(path, source_kind="npz", source_name="x", replace=True):
            raise ZeroDivisionError
        assert list(PackedStore(path).keys()) == ["a"]
        assert len(write(path, many(3), replace=True)) == 3
        assert beside(path) == ["s"]
        photos = tmp_path / "photos"
        photos.mkdir()
        with pytest.raises(DataError, match="photos: exists and is no packed box store: not replaced"):
            write(photos, many(3), replace=True)
        assert photos.exists()

    def test_threshold_must_be_true(self, tmp_path):
        store = write(tmp_path / "s", {"a": BOXES}, detector="yolo", threshold=0.5)
        assert str(store.manifest) == ("2 boxes of 1 photo, from made up (npz); found by yolo, scores of at least 0.5")
        with pytest.raises(DataError, match=r"photo a: has a box of score 0.5, below the threshold 0.7"):
            write(tmp_path / "t", {"a": BOXES}, threshold=0.7)
        with pytest.raises(DataError, match="threshold nan: not a finite number"):
            write(tmp_path / "t", {"a": BOXES}, threshold=float("nan"))
        seven = Boxes(np.ones((1, 4), np.float32), np.array([0.7], np.float32))  # as float32 below 0.7 as float64
        write(tmp_path / "t", {"a": seven}, threshold=0.7)

    def test_no_place_to_write(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            write(tmp_path / "file" / "s", {"a": BOXES})


def write_all(path, photos):
    with PackedWriter(path, source_kind="npz", source_name="x") as writer:
        for key, boxes in photos:
            writer.add(key, boxes)


class TestPacking:
    def test_from_a_folder(self, tmp_path, capsys):
        folder = npz_folder(tmp_path / "boxes", {"b": BOXES, "a": Boxes(BOXES.boxes[:0], BOXES.scores[:0])})
        store = pack_store(folder, tmp_path / "new" / "store", detector="by hand")
        assert find_kind(store.path) == "packed"
        assert open_store(store.path).kind == "packed"
        facts = dataclasses.asdict(store.manifest)
        sha = facts.pop("content_sha256")
        assert len(sha) == 64
        assert facts == {
            "source_kind": "npz",
            "source_name": "boxes",
            "detector": "by hand",
            "threshold": None,
            "note": "",
            "images": 2,
            "boxes": 2,
            "records_per_shard": 1 << 18,
            "sized": 0,
        }
        assert list(store.keys()) == ["a", "b"]
        assert capsys.readouterr().err == ""  # no bar where nobody looks
        with pytest.raises(DataError, match="is a packed box store already"):
            pack_store(store.path, tmp_path / "again")

    def test_a_bad_file_stops_it(self, tmp_path):
        folder = npz_folder(tmp_path / "boxes", {"a": BOXES})
        (folder / "b.npz").write_bytes(b"rubbish")
        with pytest.raises(DataError, match=r"b\.npz: cannot read this box file"):
            pack_store(folder, tmp_path / "s")
        assert beside(folder) == ["boxes"]

    def test_existing_output_costs_no_reading(self, tmp_path):
        with pytest.raises(DataError, match="exists; give --force"):
            pack_store(tmp_path / "gone", tmp_path)

    @pytest.mark.skipif(not VAL.exists(), reason=f"no real photos at {VAL}")
    @pytest.mark.parametrize("name", ["images_bbox", "detections_val2017.json", "instances_val2017.json"])
    def test_real_data(self, tmp_path, name):
        source = open_store(VAL / name)
        store = pack_store(VAL / name, tmp_path / "s")
        assert list(store.keys()) == list(source.keys())
        assert store.note == source.note
        for key in source.keys():  # noqa: SIM118  (a store is no mapping)
            assert_same(store.read(key), source.read(key))
        store.verify()

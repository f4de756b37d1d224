"""What all box stores share, folders of box files, and finding out what a path is."""

import numpy as np
import pytest

from jaxcolor.data.boxes.base import BoxStore, MissingBoxesError, check_complete, photo_key
from jaxcolor.data.boxes.npz import npz_store
from jaxcolor.data.boxes.registry import find_kind, open_store
from jaxcolor.data.types import DataError, no_boxes
from tests.data.boxes.box_texts import one_line, voc, write_json


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
        with pytest.raises(MissingBoxesError, match=r"x\.npz: no such box file; missing_boxes 'none' takes its"):
            check_complete(store, ["x"])
        with pytest.raises(
            MissingBoxesError, match=r"x0\.npz: no such box file; the same for 5 more of 6 photos \(x1, x2, x3 …\)"
        ) as caught:
            check_complete(store, [f"x{i}" for i in range(6)])
        assert one_line(caught)


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
        assert find_kind(write_json(tmp_path / "a.json", "\ufeff[]")) == "coco_detections"  # as Windows writes it
        for text in ("", "PK"):
            with pytest.raises(DataError, match=r"a\.json: not a file of boxes"):
                find_kind(write_json(tmp_path / "a.json", text))

    def test_what_cannot_be(self, tmp_path):
        with pytest.raises(DataError, match="gone: no such folder or file of boxes"):
            open_store(tmp_path / "gone")
        with pytest.raises(DataError, match="a folder; boxes of kind coco_instances are none"):
            open_store(tmp_path, "coco_instances")
        with pytest.raises(DataError, match="a file; boxes of kind voc are none"):
            open_store(write_json(tmp_path / "a.json", "[]"), "voc")


def test_no_boxes():
    boxes, scores = no_boxes()
    assert boxes.shape == (0, 4)
    assert scores.shape == (0,)

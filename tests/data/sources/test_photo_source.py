import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxcolor.boxes import DroppedBoxes
from jaxcolor.config import DataConfig
from jaxcolor.data.boxes.npz import read_npz
from jaxcolor.data.boxes.packed_writer import pack_store
from jaxcolor.data.sources.photo_source import PhotoSource
from jaxcolor.data.sources.registry import make_source, open_source
from jaxcolor.data.sources.scenes import SceneSource
from jaxcolor.data.types import DataError, Source, usable_boxes
from tests.data.photo_files import write_boxes, write_photo

SHARED = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def folder(tmp_path):
    """Four photos: two with boxes, one with none, one whose boxes are all unusable."""
    photos, boxes = tmp_path / "photos", tmp_path / "photos_bbox"
    for name in ("b.png", "a.jpg", "d.JPEG", "c.webp"):
        write_photo(photos / name)
    write_boxes(boxes / "a.npz", [[1, 2, 20, 25], [5, 5, 30, 30]])
    write_boxes(boxes / "b.npz")
    write_boxes(boxes / "c.npz", [[50, 50, 60, 60], [np.nan, 0, 1, 1], [3, 3, 3.5, 9]])
    write_boxes(boxes / "d.npz", [[30, 10, 99, 99]], dtype=np.float64)
    (photos / "notes.txt").write_text("no photo")
    (photos / "._a.jpg").write_bytes(b"left by another system")
    return photos


def config(folder, **fields):
    return DataConfig(path=str(folder), **fields)


class TestFolder:
    def test_lists_reads_and_counts(self, folder, capsys):
        source = open_source(config(folder))
        assert isinstance(source, Source)
        assert len(source) == 4
        assert [source[i].name for i in range(4)] == ["a", "b", "c", "d"]
        assert source.with_boxes() == (0, 3)
        assert source.dropped == DroppedBoxes(not_finite=1, outside=1, no_size=1)
        line = (
            f"{folder}: 4 photos (1 other file not looked at), 2 with boxes; 3 boxes from {folder}_bbox, "
            "3 dropped (1 not finite, 1 outside, 1 no size)"
        )
        assert source.describe() == line
        assert capsys.readouterr().err == line + "\n"
        photo = source[3]
        assert photo.rgb.shape == (30, 40, 3)
        assert photo.size == (40, 30)
        assert photo.truth_boxes is None
        assert usable_boxes(photo, "top_k").boxes.tolist() == [[30, 10, 40, 30]]

    @pytest.mark.parametrize(("cwd", "path", "told"), [("", "photos", "photos_bbox"), ("photos", ".", None)])
    def test_boxes_beside_a_relative_path(self, folder, monkeypatch, cwd, path, told):
        monkeypatch.chdir(folder.parent / cwd)
        source = open_source(config(path))
        assert f"3 boxes from {told or f'{folder}_bbox'}, " in source.describe()

    def test_past_the_end(self, folder):
        source = open_source(config(folder))
        for index in (-1, 4):
            with pytest.raises(IndexError, match="of 4"):
                source[index]

    def test_boxes_refer_to_the_photo_as_shown(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        write_photo(tmp_path / "p" / "a.jpg", 40, 30, exif=exif)
        write_boxes(tmp_path / "p_bbox" / "a.npz", [[0, 32, 20, 39]])  # outside of 40 x 30, inside of 30 x 40
        source = open_source(config(tmp_path / "p"))
        assert source.with_boxes() == (0,)
        assert usable_boxes(source[0], "all").boxes.tolist() == [[0, 32, 20, 39]]

    def test_other_boxes_folder(self, folder, tmp_path):
        write_boxes(tmp_path / "other" / "b.npz", [[0, 0, 9, 9]])
        source = open_source(config(folder, boxes_path=str(tmp_path / "other"), missing_boxes="none"))
        assert source.with_boxes() == (1,)

    def test_missing_box_file(self, folder):
        (folder.with_name("photos_bbox") / "b.npz").unlink()
        for bad_photos in ("error", "skip"):  # missing_boxes decides, not bad_photos
            with pytest.raises(DataError, match=r"b\.npz: no such box file; missing_boxes 'none'"):
                open_source(config(folder, bad_photos=bad_photos))
        source = open_source(config(folder, missing_boxes="none"))
        assert len(source) == 4
        assert source[1].boxes.shape == (0, 4)

    def test_two_photos_of_one_name(self, folder):
        write_photo(folder / "a.png")
        with pytest.raises(DataError, match=r"a\.jpg and .*a\.png: two photos of one name"):
            open_source(config(folder))

    def test_no_folder_or_no_photos(self, tmp_path, folder):
        with pytest.raises(DataError, match=r"data\.path is empty"):
            open_source(DataConfig())
        with pytest.raises(DataError, match="nowhere: no such folder"):
            open_source(config(tmp_path / "nowhere"))
        with pytest.raises(DataError, match=r"a\.jpg: not a folder"):
            open_source(config(folder / "a.jpg"))
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="empty: no photos in this folder"):
            open_source(config(tmp_path / "empty"))

    def test_unreadable_header_or_box_file(self, folder, capsys):
        (folder / "b.png").write_bytes(b"\x89PNG but not really")
        with pytest.raises(DataError, match=r"b\.png: cannot read this photo"):
            open_source(config(folder))
        (folder.with_name("photos_bbox") / "d.npz").write_bytes(b"rubbish")
        capsys.readouterr()
        source = open_source(config(folder, bad_photos="skip"))
        lines = capsys.readouterr().err.splitlines()
        assert [source[i].name for i in range(len(source))] == ["a", "c"]
        assert len(source.skipped) == 2
        assert "b.png" in lines[0]
        assert "d.npz" in lines[1]
        assert source.describe().endswith("; 2 unreadable photos skipped")

    def test_nothing_readable(self, tmp_path):
        (tmp_path / "p").mkdir()
        (tmp_path / "p" / "a.jpg").write_bytes(b"")
        with pytest.raises(DataError, match=r"none of its 1 photo can be used; the first: .*a\.jpg"):
            open_source(config(tmp_path / "p", bad_photos="skip", missing_boxes="none"))


class TestTruth:
    def test_replaces_detections(self, folder, tmp_path):
        for stem in "abc":
            write_boxes(tmp_path / "truth" / f"{stem}.npz", [[0, 0, 10, 10]] * (stem != "a"), scores=None)
        fields = {"truth_boxes_path": str(tmp_path / "truth"), "box_choice": "ground_truth"}
        with pytest.raises(DataError, match=r"truth.*d\.npz: no such box file"):
            open_source(config(folder, **fields))
        write_boxes(tmp_path / "truth" / "d.npz")
        (folder.with_name("photos_bbox") / "a.npz").unlink()  # nobody needs the detections
        source = open_source(config(folder, **fields))
        assert source.with_boxes() == (1, 2)
        used = usable_boxes(source[1], "ground_truth")
        assert used.boxes.tolist() == [[0, 0, 10, 10]]
        assert used.scores.tolist() == [1.0]

    def test_beside_detections(self, folder, tmp_path):
        write_boxes(tmp_path / "truth" / "a.npz", [[0, 0, 10, 10]])
        source = open_source(config(folder, truth_boxes_path=str(tmp_path / "truth"), missing_boxes="none"))
        assert source.with_boxes() == (0, 3)
        assert len(source[0].truth_boxes) == 1
        assert len(source[1].truth_boxes) == 0

    def test_asked_for_but_not_given(self, folder, tmp_path):
        with pytest.raises(DataError, match=r"needs data\.truth_boxes_path"):
            open_source(config(folder, box_choice="ground_truth"))
        with pytest.raises(DataError, match=r"truth_boxes_path: .*gone: no such folder"):
            open_source(config(folder, truth_boxes_path=str(tmp_path / "gone")))
        with pytest.raises(DataError, match="photo a: no annotated boxes"):
            usable_boxes(open_source(config(folder))[0], "ground_truth")


class TestBoxFiles:
    def test_reads(self, tmp_path):
        path = tmp_path / "a.npz"
        np.savez(path, bbox=np.ones((2, 4), np.float16), scores=np.ones(2), labels=np.arange(2))
        boxes, scores = read_npz(path)
        assert boxes.dtype == scores.dtype == np.float32
        np.savez_compressed(path, bbox=np.full((1, 4), 1e300), scores=np.ones(1))
        assert np.isinf(read_npz(path).boxes).all()

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"boxes": np.ones((1, 4)), "scores": np.ones(1)}, "has no 'bbox'; it has boxes, scores"),
            ({"bbox": np.ones((1, 4))}, "has no 'scores'; it has bbox"),
            ({}, "has no 'bbox'; it has nothing"),
            ({"bbox": np.ones((4, 1)), "scores": np.ones(4)}, r"'bbox' has shape \(4, 1\); it must be \(N, 4\)"),
            ({"bbox": np.ones(4), "scores": np.ones(4)}, r"'bbox' has shape \(4,\)"),
            ({"bbox": np.float32(1), "scores": np.ones(4)}, r"'bbox' has shape \(\)"),
            ({"bbox": np.ones((2, 4)), "scores": np.ones(3)}, r"'scores' has shape \(3,\); it must be \(2,\)"),
            ({"bbox": np.ones((2, 4)), "scores": np.ones((2, 1))}, r"'scores' has shape \(2, 1\)"),
            ({"bbox": np.ones((2, 4), int), "scores": np.ones(2)}, "'bbox' is of type int64"),
            ({"bbox": np.ones((2, 4), complex), "scores": np.ones(2)}, "'bbox' is of type complex128"),
            ({"bbox": np.ones((2, 4)), "scores": np.array(["a", "b"])}, "'scores' is of type <U1"),
            ({"bbox": np.array([[None] * 4]), "scores": np.ones(1)}, "pickled data"),
        ],
    )
    def test_wrong_contents(self, tmp_path, arrays, message):
        path = tmp_path / "wrong.npz"
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=rf"wrong\.npz: .*{message}") as caught:
            read_npz(path)
        assert "\n" not in str(caught.value)

    def test_wrong_files(self, tmp_path):
        path = tmp_path / "wrong.npz"
        with pytest.raises(DataError, match=r"wrong\.npz: cannot read"):
            read_npz(path)
        with path.open("wb") as file:
            np.save(file, np.ones((2, 4)))
        with pytest.raises(DataError, match=r"wrong\.npz: not a box file: one bare array"):
            read_npz(path)
        write_boxes(path, [[0, 0, 1, 1]])
        whole = path.read_bytes()
        for broken in (b"", b"text", whole[: len(whole) // 2], whole[:60] + bytes(40) + whole[100:]):
            path.write_bytes(broken)
            with pytest.raises(DataError, match=r"wrong\.npz: "):
                read_npz(path)


def test_make_source(folder):
    assert isinstance(make_source(config(folder), 64), PhotoSource)
    scenes = make_source(DataConfig(source="scenes", seed=3, split="held_out"), 64)
    assert isinstance(scenes, SceneSource)
    assert (scenes.photo_side, scenes.seed, scenes.split) == (256, 3, "held_out")


@pytest.mark.skipif(not SHARED.exists(), reason=f"no real photos at {SHARED}")
def test_real_photos():
    source = open_source(DataConfig(path=str(SHARED / "coco_val2017" / "images")))
    assert len(source) == 119
    assert len(source.with_boxes()) == 115
    photo = source[0]
    assert photo.name == "000000000139"
    assert len(usable_boxes(photo, "all").boxes) > 0


class TestBoxStores:
    """Whatever holds the boxes, the folder hands out the same."""

    def of(self, folder, boxes, **fields):
        source = open_source(config(folder, boxes_path=str(boxes), **fields))
        return [(p.name, p.boxes.tolist(), p.scores.tolist()) for p in (source[i] for i in range(len(source)))]

    def test_packed(self, folder, tmp_path):
        (folder.with_name("photos_bbox") / "c.npz").unlink()
        write_boxes(folder.with_name("photos_bbox") / "c.npz", [[3, 3, 9, 9]])
        files = folder.with_name("photos_bbox")
        pack_store(files, tmp_path / "packed")
        assert self.of(folder, tmp_path / "packed") == self.of(folder, files)
        files.rename(tmp_path / "elsewhere")
        (tmp_path / "packed").rename(files)  # beside the photos any store is found
        assert open_source(config(folder)).with_boxes() == (0, 2, 3)

    def test_coco_and_voc(self, folder, tmp_path):
        images = [{"id": n, "file_name": f"{stem}.jpg"} for n, stem in enumerate("abcd")]
        annotations = [
            {"id": 0, "image_id": 0, "bbox": [1, 2, 19, 23], "iscrowd": 0},
            {"id": 1, "image_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ]
        path = tmp_path / "truth.json"
        path.write_text(json.dumps({"images": images, "annotations": annotations}))
        (tmp_path / "voc").mkdir()
        for stem in "abcd":
            box = "<object><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>25</ymax></bndbox></object>"
            (tmp_path / "voc" / f"{stem}.xml").write_text(f"<annotation>{box * (stem == 'a')}</annotation>")
        wanted = [("a", [[1, 2, 20, 25]], [1]), ("b", [], []), ("c", [], []), ("d", [], [])]
        assert self.of(folder, path) == self.of(folder, tmp_path / "voc") == wanted
        source = open_source(config(folder, truth_boxes_path=str(path), box_choice="ground_truth"))
        assert source.with_boxes() == (0,)
        assert source.describe().endswith("; 1 of 2 annotations are of crowds: left out")

    def test_missing_ones_are_counted_and_named(self, folder, tmp_path):
        path = tmp_path / "found.json"
        path.write_text(json.dumps([{"image_id": "b.png", "bbox": [0, 0, 9, 9], "score": 1}]))
        message = r"found\.json: no boxes for photo a; the same for 2 more of 4 photos \(c, d\); missing_boxes 'none'"
        for bad_photos in ("error", "skip"):
            with pytest.raises(DataError, match=message):
                self.of(folder, path, bad_photos=bad_photos)
        assert [len(boxes) for _, boxes, _ in self.of(folder, path, missing_boxes="none")] == [0, 1, 0, 0]

    def test_what_cannot_be_opened(self, folder, tmp_path):
        with pytest.raises(DataError, match=r"data\.boxes_path: .*gone: no such folder or file"):
            self.of(folder, tmp_path / "gone", missing_boxes="none")
        with pytest.raises(DataError, match=r"data\.boxes_path: .*photos: no boxes here"):
            self.of(folder, folder, missing_boxes="none")

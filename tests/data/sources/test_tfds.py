"""Photos of TFDS data sets, which are written here by TFDS itself."""

import io
import json
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from jaxcolor.config import DataConfig
from jaxcolor.data.sources.base import PhotoSet
from jaxcolor.data.sources.registry import open_source
from jaxcolor.data.sources.tfds import TfdsSet, find_features
from jaxcolor.data.types import DataError, Entry, usable_boxes
from tests.data.photo_files import contents, jpeg, prepare_tfds

tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow_datasets is not installed")
F = tfds.features

OWN = {
    "file_name": F.Text(),
    "image": F.Image(encoding_format="jpeg"),
    "boxes": F.Tensor(shape=(None, 4), dtype=np.float32),
    "scores": F.Tensor(shape=(None,), dtype=np.float32),
}
LIKE_COCO = {
    "image": F.Image(encoding_format="jpeg"),
    "image/filename": F.Text(),
    "objects": F.Sequence({"bbox": F.BBoxFeature(), "is_crowd": np.bool_}),
}


def own_example(number, count, name=None):
    """As our own data set ``colorization`` has it."""
    first = np.arange(count, dtype=np.float32)[:, None]
    boxes = np.concatenate([first, first + 0.5, first + 9, first + 8], axis=1)
    name = f"photo_{number}.jpg" if name is None else name
    scores = np.linspace(0.9, 0.5, count, dtype=np.float32)
    return {"file_name": name, "image": io.BytesIO(jpeg(number)), "boxes": boxes, "scores": scores}


def coco_example(number, boxes, crowd=()):
    """As TFDS's ``coco`` has it: boxes as shares of a photo of 40 x 30."""
    objects = [
        {"bbox": F.BBox(ymin=y0 / 30, xmin=x0 / 40, ymax=y1 / 30, xmax=x1 / 40), "is_crowd": row in crowd}
        for row, (x0, y0, x1, y1) in enumerate(boxes)
    ]
    return {"image": io.BytesIO(jpeg(number)), "image/filename": f"{number:012d}.jpg", "objects": objects}


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return io.BytesIO(file.getvalue())


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return prepare_tfds(tmp_path_factory.mktemp("own"), OWN, [own_example(n, n % 3) for n in range(12)])


def source(path, **fields):
    return open_source(DataConfig(source="tfds", path=str(path), **fields))


def copy(path, tmp_path):
    shutil.copytree(path, tmp_path / "copy")
    return tmp_path / "copy"


class TestBoxesInRecords:
    def test_detections(self, own, tmp_path):
        found = source(own)
        assert found.describe() == (
            f"{own} train: 12 photos (photos in image, named by file_name), 8 with boxes; 12 boxes from its records"
        )
        for index, (name, rgb, boxes, scores, truth) in enumerate(contents(found)):
            number = int(name.removeprefix("photo_"))
            wanted = own_example(number, number % 3)
            assert len(rgb) == 40 * 30 * 3
            assert (boxes, scores, truth) == (wanted["boxes"].tolist(), wanted["scores"].tolist(), None)
            assert found.crop_count(index) == number % 3 == len(found.usable(index)[1].boxes)
            assert found.usable(index)[0] == (40, 30)
        np.savez(tmp_path / "photo_4.npz", bbox=np.ones((1, 4)) * [0, 0, 5, 5], scores=np.ones(1))
        other = source(own, boxes_path=str(tmp_path), missing_boxes="none")
        assert [found[i].name for i in other.with_boxes()] == ["photo_4"]

    def test_annotated(self, tmp_path):
        # Shares in float32 times the size would be 8.999999 and 22.00001 for some of these.
        boxes = [[x, y, x + 7, y + 11] for x in range(30) for y in range(18)]
        examples = [coco_example(1, boxes), coco_example(2, [[0, 0, 40, 30], [1.25, 2, 9, 9]], crowd=[0])]
        examples.append(coco_example(3, []))
        path = prepare_tfds(tmp_path, LIKE_COCO, examples)
        with pytest.raises(DataError, match="no boxes lie with these photos"):
            source(path)
        found = source(path, box_choice="ground_truth")
        photos = {found[i].name: found[i] for i in range(3)}
        assert usable_boxes(photos["000000000001"], "ground_truth").boxes.tolist() == boxes
        assert photos["000000000002"].truth_boxes.tolist() == [[1.25, 2, 9, 9]]
        assert photos["000000000003"].truth_boxes.shape == (0, 4)
        assert len(found.with_boxes()) == 2
        assert found.describe().endswith("2 with annotated boxes; 541 annotated boxes from its records")

    def test_rounding_of_shares(self):
        entry = Entry(
            "a", own_example, "a.jpg", truth_shares=np.array([[1 / 3, np.nan, 9999.99 / 10000, 1]], np.float32)
        )
        assert entry.truth((10_000, 9)).boxes[0, [0, 2, 3]].tolist() == np.float32([3333.33, 9999.99, 9]).tolist()


class TestFinding:
    def test_by_name(self, own, monkeypatch, tmp_path):
        wanted = contents(source(own))
        root = own.parents[1]
        for name in ("made", "made:1.0.0"):
            assert contents(source(name, data_dir=str(root))) == wanted
        monkeypatch.setenv("TFDS_DATA_DIR", str(root))
        assert contents(source("made")) == wanted
        monkeypatch.delenv("TFDS_DATA_DIR")
        monkeypatch.setenv("HOME", str(tmp_path))
        with pytest.raises(DataError, match=rf"made: no such data set in {tmp_path}/tensorflow_datasets .*has nothing"):
            source("made")

    def test_configs_and_versions(self, own, tmp_path):
        for place in (
            "coco/2014/1.1.0",
            "coco/2017/1.1.0",
            "coco/2017/1.10.0",
            "coco/2017/9.9.9.incompleteX",
            "old/3.0.0",
        ):
            shutil.copytree(own, tmp_path / place)
        where = {"data_dir": str(tmp_path)}
        assert source("coco/2017", **where).where == f"{tmp_path}/coco/2017/1.10.0 train"
        assert source("coco/2017:1.1.0", **where).where == f"{tmp_path}/coco/2017/1.1.0 train"
        with pytest.raises(DataError, match="coco: has several configs; name one: coco/2014, coco/2017"):
            source("coco", **where)
        with pytest.raises(DataError, match=r"coco/2017:2\.0\.0: no such data set in .*; there is 1\.1\.0, 1\.10\.0"):
            source("coco/2017:2.0.0", **where)
        with pytest.raises(DataError, match=r"coc: no such data set in .* has coco, old\. Prepare it with"):
            source("coc", **where)

    def test_splits(self, own):
        everything = contents(source(own))
        assert contents(source(own, split="train[3:7]")) == everything[3:7]
        assert contents(source(own, split="train[50%:]")) == everything[6:]
        for split in ("test", "train[", "", "train[x:]"):
            with pytest.raises(
                DataError, match=r"data\.split: .* is no split of .*, nor part of one; it has train \(12\)"
            ):
                source(own, split=split)
        with pytest.raises(DataError, match=r"data\.split: .*has no photos"):
            source(own, split="train[12:]")

    def test_not_there(self, tmp_path):
        with pytest.raises(DataError, match=r"data\.path is empty"):
            source("")
        with pytest.raises(DataError, match=r"no folder with dataset_info\.json"):
            source(tmp_path)
        with pytest.raises(DataError, match=r"data\.list_path: is for folders and zip files"):
            source("made", list_path="list.txt")

    def test_tfrecord(self, own, tmp_path):
        path = copy(own, tmp_path)
        info = json.loads((path / "dataset_info.json").read_text())
        (path / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
        with pytest.raises(
            DataError, match=r"prepared as tfrecord.*; convert it with jaxcolor data convert .*copy DST"
        ):
            source(path)
        (path / "dataset_info.json").write_text("{")
        with pytest.raises(DataError, match=r"dataset_info\.json: cannot read this file"):
            source(path)

    def test_without_the_package(self, own, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
        with pytest.raises(DataError, match="needs the package tensorflow_datasets: pip install tensorflow-datasets"):
            source(own)


class TestFeatures:
    IMAGE = F.Image(encoding_format="jpeg")

    def test_numbers_name_what_has_no_name(self, tmp_path):
        features = {"image": self.IMAGE, "caption": F.Text()}
        examples = [{"image": io.BytesIO(jpeg(n)), "caption": "a dog"} for n in range(3)]
        found = source(prepare_tfds(tmp_path, features, examples), missing_boxes="none")
        assert [found[i].name for i in range(3)] == ["000000000000", "000000000001", "000000000002"]
        assert "named by their number" in found.describe()

    def test_image_beside_others(self, tmp_path):
        features = {"image": self.IMAGE, "depth": F.Image(encoding_format="jpeg"), "mask": F.LabeledImage(labels=2)}
        examples = [
            {"image": io.BytesIO(jpeg(0)), "depth": io.BytesIO(jpeg(1)), "mask": png(np.zeros((9, 9), np.uint8))}
        ]
        found = source(prepare_tfds(tmp_path / "a", features, examples), missing_boxes="none")
        entry = found.photos.entry(0)
        assert entry.file.data == jpeg(0)
        features["photo"] = features.pop("image")
        examples[0]["photo"] = examples[0].pop("image")
        path = prepare_tfds(
            tmp_path / "b", features, [{**examples[0], "depth": io.BytesIO(b""), "photo": io.BytesIO(b"")}]
        )
        with pytest.raises(DataError, match="has several images, depth, photo, and none of them is called image"):
            source(path)

    def test_nested_and_pictures_in_sequences(self, tmp_path):
        features = {
            "photo": F.FeaturesDict({"pixels": self.IMAGE, "file_name": F.Text()}),
            "crops": F.Sequence({"image": self.IMAGE}),
        }
        examples = [{"photo": {"pixels": io.BytesIO(jpeg(5)), "file_name": "x/y.jpg"}, "crops": []}]
        found = source(prepare_tfds(tmp_path, features, examples), missing_boxes="none")
        assert found.describe().startswith(
            f"{tmp_path}/made/1.0.0 train: 1 photo (photos in photo/pixels, named by photo/f"
        )
        assert found[0].name == "y"

    def test_no_photo(self, tmp_path):
        with pytest.raises(DataError, match="has no image among its features x"):
            source(prepare_tfds(tmp_path / "a", {"x": np.int64}, [{"x": 1}]))
        depth = F.Image(shape=(None, None, 1), dtype=np.float32)
        with pytest.raises(DataError, match="x: its image is of float32, which no photo is"):
            find_features("x", F.FeaturesDict({"image": depth}))

    def test_png(self, tmp_path):
        rgb = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
        path = prepare_tfds(tmp_path, {"image": F.Image()}, [{"image": png(rgb)}])
        assert source(path, missing_boxes="none")[0].rgb.tolist() == rgb.tolist()


class TestDamage:
    def shard(self, path):
        return next(path.glob("*.array_record*"))

    def test_no_photo_in_a_record(self, tmp_path, capsys):
        broken = {**own_example(1, 1), "image": io.BytesIO(b"rubbish")}
        path = prepare_tfds(tmp_path, OWN, [own_example(0, 2), broken])
        message = r"made-train\.array_record-00000-of-00001: record \d \(photo_1\): cannot read this photo: "
        with pytest.raises(DataError, match=message):
            source(path)
        capsys.readouterr()
        found = source(path, bad_photos="skip")
        assert [photo[0] for photo in contents(found)] == ["photo_0"]
        assert capsys.readouterr().err.startswith("skipped: ")

    def test_boxes_without_scores(self, tmp_path):
        broken = {**own_example(1, 1), "scores": np.ones(2, np.float32)}
        path = prepare_tfds(tmp_path, OWN, [broken])
        with pytest.raises(DataError, match=r"record 0 \(photo_1\): 4 corners of boxes for 2 scores"):
            source(path)

    def test_two_of_one_name(self, tmp_path):
        path = prepare_tfds(tmp_path, OWN, [own_example(0, 0), own_example(1, 0, "photo_0.png")])
        with pytest.raises(DataError, match=r"photo 0 \(photo_0\) and .*photo 1 \(photo_0\): two photos of one name"):
            source(path)

    def test_no_name(self, tmp_path):
        path = prepare_tfds(tmp_path, OWN, [own_example(0, 0, "")])
        with pytest.raises(DataError, match="record 0: its file_name is no name"):
            source(path)

    @pytest.mark.parametrize("change", ["gone", "cut", "rubbish", "flipped"])
    def test_files(self, own, tmp_path, change):
        path = copy(own, tmp_path)
        shard = self.shard(path)
        data = bytearray(shard.read_bytes())
        if change == "gone":
            shard.unlink()
        elif change == "cut":
            shard.write_bytes(data[: len(data) // 2])
        elif change == "rubbish":
            shard.write_bytes(b"rubbish")
        else:
            data[data.index(b"photo_") + 40] ^= 0xFF
            shard.write_bytes(data)
        with pytest.raises(DataError, match=r"made-train\.array_record-00000-of-00001: ") as caught:
            contents(source(path))
        assert "\n" not in str(caught.value)

    def test_another_count(self, own, tmp_path):
        path = copy(own, tmp_path)
        info = (path / "dataset_info.json").read_text()
        (path / "dataset_info.json").write_text(info.replace('"12"', '"13"'))
        with pytest.raises(DataError, match="it has 12 records where 13 were prepared"):
            source(path)


def test_as_tfds_reads_them(own):
    photos = TfdsSet(str(own), "", "train[2:9]")
    assert isinstance(photos, PhotoSet)
    assert photos.keys() is None
    builder = tfds.builder_from_directory(str(own))
    records = builder.as_data_source("train[2:9]", decoders={"image": tfds.decode.SkipDecoding()})
    assert len(records) == len(photos) == 7
    for number in range(7):
        entry, record = photos.entry(number), records[number]
        assert entry.name + ".jpg" == record["file_name"].decode()
        assert entry.file.data == record["image"]
        assert entry.detections.boxes.tolist() == record["boxes"].tolist()
        assert entry.detections.scores.tolist() == record["scores"].tolist()
    for number in (-1, 7):
        with pytest.raises(IndexError, match="of 7"):
            photos.entry(number)


def test_tensorflow_is_not_imported(own):
    code = f"""
        import sys
        from jaxcolor.config import DataConfig
        from jaxcolor.data.sources.registry import open_source
        assert "tensorflow_datasets" not in sys.modules, "imported before it is needed"
        source = open_source(DataConfig(source="tfds", path={str(own)!r}))
        assert source[0].rgb.shape == (30, 40, 3)
        assert "tensorflow_datasets" in sys.modules
        assert "tensorflow" not in sys.modules, "TensorFlow was imported"
    """
    subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(code)], check=True, timeout=120)

"""``data pack`` and ``boxes show`` of what training takes: zip files, lists, COCO's downloads, TFDS data sets."""

import io
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxcolor.cli import main
from jaxcolor.config import DataConfig
from jaxcolor.data.sources.registry import open_source
from jaxcolor.runtime import progress
from tests.data.photo_files import contents, jpeg, prepare_tfds, write_boxes, write_zip

F = tfds.features
NAMES = ("a", "b", "c.d")


@pytest.fixture
def folder(tmp_path):
    """Three photos with 0, 1 and 2 boxes in a folder beside."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, name in enumerate(NAMES):
        (photos / f"{name}.jpg").write_bytes(jpeg(number))
        write_boxes(tmp_path / "photos_bbox" / f"{name}.npz", [(k, k, k + 9, k + 8) for k in range(number)])
    return photos


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def named_records(tmp_path, folder):
    """The photos as a TFDS data set that has no boxes, in an order of its own."""
    examples = [{"file_name": name, "image": io.BytesIO(data)} for name, data in files(folder).items()]
    return prepare_tfds(tmp_path / "d", {"file_name": F.Text(), "image": F.Image(encoding_format="jpeg")}, examples)


def packed(tmp_path, photos, *options, output="set", split="train"):
    """What training sees of the data set that is made."""
    assert main(["data", "pack", str(photos), "-o", str(tmp_path / output), *options]) == 0
    return contents(open_source(DataConfig(source="tfds", path=str(tmp_path / output), split=split)))


def file_names(path):
    source = tfds.builder_from_directory(str(path)).as_data_source(split="train")
    return [source[number]["file_name"].decode() for number in range(len(source))]


def test_the_same_from_every_place(folder, tmp_path):
    wanted = contents(open_source(DataConfig(path=str(folder))))
    boxes = str(tmp_path / "photos_bbox")
    assert packed(tmp_path, folder, output="a") == wanted  # the boxes beside are found
    zipped = write_zip(tmp_path / "photos.zip", {f"x/{name}": data for name, data in files(folder).items()})
    assert packed(tmp_path, zipped, output="b") == wanted
    coco = tmp_path / "coco"
    coco.mkdir()
    write_zip(coco / "val2017.zip", {f"val2017/{name}": data for name, data in files(folder).items()})
    arguments = ["--source", "coco", "--split", "val", "--boxes", boxes]
    assert packed(tmp_path, coco, *arguments, output="c", split="val") == wanted
    named_records(tmp_path, folder)
    arguments = ["--source", "tfds", "--data-dir", str(tmp_path / "d"), "--boxes", boxes]
    assert sorted(packed(tmp_path, "made", *arguments, output="e")) == sorted(wanted)
    for name in "abe":
        assert sorted(file_names(tmp_path / name)) == [f"{name}.jpg" for name in NAMES]


def test_a_list_and_its_order(folder, tmp_path):
    (tmp_path / "list.txt").write_text("c.d.jpg\na.jpg\n")
    found = packed(tmp_path, folder, "--list", str(tmp_path / "list.txt"))
    assert [photo[0] for photo in found] == ["c.d", "a"]


def test_boxes_that_lie_with_the_photos(folder, tmp_path):
    first = packed(tmp_path, folder, output="first")
    again = packed(tmp_path, tmp_path / "first", "--source", "tfds", output="again")
    assert again == first
    assert file_names(tmp_path / "again") == file_names(tmp_path / "first")
    assert [len(photo[2]) for photo in again] == [0, 1, 2]
    part = packed(tmp_path, tmp_path / "first", "--source", "tfds", "--split", "train[1:]", output="part")
    assert part == first[1:]
    arguments = ["--source", "tfds", "--output-split", "mine"]
    assert packed(tmp_path, tmp_path / "first", *arguments, output="other", split="mine") == first


def test_split_names_are_looked_at_first(folder, tmp_path, capsys):
    arguments = ["data", "pack", str(folder), "-o", str(tmp_path / "set")]
    assert main([*arguments, "--split", "train+test"]) == 1
    assert "--output-split 'train+test': must be lower-case letters" in capsys.readouterr().err
    assert main([*arguments, "--split", "val"]) == 0
    assert "val: 3 photos" in capsys.readouterr().out


def test_no_boxes_at_all(folder, tmp_path, capsys):
    path = named_records(tmp_path, folder)
    arguments = ["data", "pack", str(path), "--source", "tfds", "-o", str(tmp_path / "set")]
    assert main(arguments) == 1
    assert "no boxes lie with these photos" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
    found = packed(tmp_path, path, "--source", "tfds", "--missing-boxes", "none")
    assert [len(photo[2]) for photo in found] == [0, 0, 0]


def test_names_in_records_are_compared_with_the_boxes_before_anything_is_written(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    path, boxes = named_records(tmp_path, folder), tmp_path / "photos_bbox"
    for name in ("a", "c.d"):
        (boxes / f"{name}.npz").unlink()
    command = ["data", "pack", str(path), "--source", "tfds", "--boxes", str(boxes)]
    assert main([*command, "-o", str(tmp_path / "set")]) == 1
    error = capsys.readouterr().err
    assert "no such box file; the same for 1 more of 3 photos" in error
    assert "pack: " not in error  # no photo was packed
    index = tmp_path / "i.npz"
    assert main([*command, "-o", str(tmp_path / "set"), "--index", str(index)]) == 1
    assert "the same for 1 more of 3 photos" in capsys.readouterr().err
    assert np.load(index)["sizes"].tolist() == [[40, 30]] * 3


def test_an_index_of_other_photos_is_refused(folder, tmp_path, capsys):
    index = ["--index", str(tmp_path / "i.npz")]
    packed(tmp_path, folder, *index)
    (folder / "a.jpg").write_bytes(jpeg(9, 50, 50))
    assert main(["data", "pack", str(folder), "-o", str(tmp_path / "again"), *index]) == 1
    assert "i.npz: these photos have changed since it was made" in capsys.readouterr().err


def test_show(folder, tmp_path, capsys):
    assert main(["boxes", "show", str(folder)]) == 0
    table = capsys.readouterr().out.partition("\n")[2]
    assert "boxes a photo: mean 1.00, most 2" in table
    packed(tmp_path, folder)
    capsys.readouterr()
    page, index = tmp_path / "p.html", tmp_path / "i.npz"
    arguments = ["boxes", "show", str(tmp_path / "set"), "--source", "tfds"]
    assert main([*arguments, "--page", str(page), "--index", str(index)]) == 0
    head, _, rest = capsys.readouterr().out.partition("\n")
    assert head.startswith(f"{tmp_path / 'set'} train: 3 photos")
    assert rest == f"{table}wrote {page}\n"
    assert f"{tmp_path / 'set'} train" in page.read_text()
    assert index.exists()


def test_show_coco(folder, tmp_path, capsys):
    write_zip(tmp_path / "val2017.zip", {f"val2017/{n}.jpg": jpeg(n) for n in (1, 2)})
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in (1, 2)]
    annotations = [{"id": 1, "image_id": 2, "bbox": [1, 2, 10, 11]}]
    (tmp_path / "i.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    arguments = ["boxes", "show", str(tmp_path), "--source", "coco", "--split", "val"]
    assert main([*arguments, "--boxes", str(tmp_path / "i.json")]) == 0
    assert f"{tmp_path / 'val2017.zip'}: 2 photos, 1 with boxes; 1 box from" in capsys.readouterr().out

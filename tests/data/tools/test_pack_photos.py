import io
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxcolor.cli import main
from jaxcolor.config import DataConfig
from jaxcolor.data.boxes.base import MissingBoxesError
from jaxcolor.data.tools.colorization import Colorization, PackedPhoto, write_data_set
from jaxcolor.data.tools.pack_photos import Photos
from jaxcolor.data.types import Boxes, DataError
from jaxcolor.runtime.atomic import partial_path
from jaxcolor.runtime.errors import UserError
from tests.data.tfds_files import photo

ROOT = Path(__file__).parents[3]
VAL = ROOT.parent / "shared" / "data" / "coco_val2017"


def boxes_of(number):
    return Boxes(np.full((number % 3, 4), number, np.float32), np.full(number % 3, 0.5, np.float32))


def made_up(count):
    return [PackedPhoto(f"photo {number}.jpg", photo(number), boxes_of(number)) for number in range(count)]


def read(folder, split="train"):
    """What TFDS reads there, the photos as bytes."""
    decoders = {"image": tfds.decode.SkipDecoding()}
    source = tfds.builder_from_directory(str(folder)).as_data_source(split=split, decoders=decoders)
    return [source[number] for number in range(len(source))]


def assert_same(examples, photos):
    assert [example["file_name"].decode() for example in examples] == [photo.name for photo in photos]
    for example, wanted in zip(examples, photos, strict=True):
        assert example["image"] == wanted.data
        for key, array in (("boxes", wanted.boxes.boxes), ("scores", wanted.boxes.scores)):
            np.testing.assert_array_equal(example[key], array)
            assert example[key].dtype == np.float32
            assert example[key].shape == array.shape


@pytest.fixture
def folder(tmp_path):
    """Three photos, of three kinds, with box files."""
    photos = tmp_path / "photos"
    photos.mkdir()
    (tmp_path / "boxes").mkdir()
    files = {"a.jpg": photo(0), "b.png": photo(1, format_="PNG"), "c.JPEG": photo(2, mode="L")}
    for number, (name, data) in enumerate(files.items()):
        (photos / name).write_bytes(data)
        boxes = boxes_of(number)
        np.savez(tmp_path / "boxes" / f"{Path(name).stem}.npz", bbox=boxes.boxes, scores=boxes.scores)
    return photos


def config(folder):
    return DataConfig(path=str(folder), boxes_path=str(folder.parent / "boxes"))


def pack(folder, *options):
    arguments = ["data", "pack", str(folder), "-o", str(folder.parent / "set"), "--boxes", str(folder.parent / "boxes")]
    return main([*arguments, *options])


def test_records_hold_what_was_given_in_its_order_over_several_shards(tmp_path):
    photos = made_up(7)
    written = write_data_set(photos, tmp_path / "set", name="mine", split="held_out", shard=2 * len(photos[0].data))
    assert written.shards > 2
    assert (written.photos, written.boxes) == (7, sum(len(photo.boxes.boxes) for photo in photos))
    assert_same(read(tmp_path / "set", "held_out"), photos)
    builder = tfds.builder_from_directory(str(tmp_path / "set"))
    assert builder.name == "mine"
    assert builder.info.splits["held_out"].num_shards == written.shards
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]


def test_tfds_decodes_the_photos(tmp_path):
    photos = made_up(2)
    write_data_set(photos, tmp_path / "set")
    source = tfds.builder_from_directory(str(tmp_path / "set")).as_data_source(split="train")
    np.testing.assert_array_equal(source[1]["image"], np.asarray(Image.open(io.BytesIO(photos[1].data))))


def test_the_builder_makes_the_same_records(tmp_path):
    photos = made_up(4)
    builder = Colorization(lambda: photos, data_dir=str(tmp_path), file_format="array_record")
    builder.download_and_prepare()
    assert_same(read(builder.data_path), photos)


def test_photos_are_not_held(tmp_path):
    """What was written is given up: no more than a few photos live at a time."""

    class Name(str):  # of str itself there are no weak references
        pass

    alive, most = weakref.WeakSet(), 0

    def photos():
        nonlocal most
        for number in range(50):
            name = Name(f"{number}.jpg")
            alive.add(name)
            most = max(most, len(alive))
            yield PackedPhoto(name, photo(0), boxes_of(number))
            del name

    write_data_set(photos(), tmp_path / "set")
    assert most <= 3


@pytest.mark.parametrize(("name", "split"), [("Mine", "train"), ("a-b", "train"), ("a", "../b"), ("a", ""), ("1", "a")])
def test_names_that_tfds_cannot_have_are_refused(tmp_path, name, split):
    with pytest.raises(DataError, match="must be lower-case letters"):
        write_data_set(made_up(1), tmp_path / "set", name=name, split=split)
    assert not list(tmp_path.iterdir())


def test_an_error_leaves_nothing(tmp_path):
    def photos():
        yield from made_up(3)
        raise DataError("made up")

    twice = [*made_up(2), PackedPhoto("folder/photo 1.png", photo(1, format_="PNG"), boxes_of(1))]
    for wrong, message in (
        (photos(), "made up"),
        ([], "no photo to write"),
        (twice, r"folder/photo 1\.png: there are two photos of the name photo 1"),
    ):
        with pytest.raises(DataError, match=message):
            write_data_set(wrong, tmp_path / "set")
        assert not list(tmp_path.iterdir())


def test_a_name_that_is_not_utf8_is_left_out_by_name(folder, capsys):
    odd = "caf\udce9.png"
    try:
        (folder / odd).write_bytes(photo(3, format_="PNG"))
    except OSError:
        pytest.skip("this file system takes names of UTF-8 alone")
    np.savez(folder.parent / "boxes" / "caf\udce9.npz", bbox=boxes_of(1).boxes, scores=boxes_of(1).scores)
    said = "caf\\udce9.png: this name is not UTF-8, as names in a data set are; rename it"
    assert pack(folder) == 1
    assert capsys.readouterr().err.endswith(f"jaxcolor data: {said}\n")
    assert pack(folder, "--bad-photos", "skip") == 0
    assert f"skipped: {said}" in capsys.readouterr().err
    assert len(read(folder.parent / "set")) == 3


def test_what_a_killed_run_left_is_replaced_and_what_others_made_is_not(tmp_path):
    code = (
        "import os\nfrom pathlib import Path\nfrom jaxcolor.data.tools.colorization import write_data_set\n"
        "from tests.data.tools.test_pack_photos import made_up\n"
        "def photos():\n    yield from made_up(3)\n    os._exit(9)\n"
        f"write_data_set(photos(), Path({str(tmp_path / 'set')!r}), shard=1)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert killed.returncode == 9
    assert os.listdir(tmp_path) == [".set.part"]
    photos = made_up(2)
    write_data_set(photos, tmp_path / "set")
    assert_same(read(tmp_path / "set"), photos)
    assert os.listdir(tmp_path) == ["set"]

    foreign = partial_path(tmp_path / "other")
    foreign.mkdir()
    (foreign / "precious").write_text("")
    with pytest.raises(UserError, match="is not what jaxcolor leaves"):
        write_data_set(photos, tmp_path / "other")
    assert (foreign / "precious").exists()


def test_the_command_keeps_the_files_as_they_are(folder, capsys):
    assert pack(folder) == 0
    wanted = [
        PackedPhoto(path.name, path.read_bytes(), boxes_of(number))
        for number, path in enumerate(sorted(folder.iterdir()))
    ]
    assert_same(read(folder.parent / "set"), wanted)
    printed = capsys.readouterr()
    assert "\r" not in printed.err
    assert "train: 3 photos" in printed.out
    assert "3 boxes" in printed.out
    assert pack(folder) == 1
    assert "set: exists" in capsys.readouterr().err


BAD_PHOTOS = {
    "empty": (lambda: b"", "cannot read this photo"),
    "no photo": (lambda: b"text", "cannot read this photo"),
    "cut off": (lambda: photo(9)[:-200], "cannot read this photo"),
    "WEBP": (lambda: photo(9, format_="WEBP"), "is WEBP; only JPEG and PNG"),
}


@pytest.mark.parametrize("case", BAD_PHOTOS)
def test_photos_that_cannot_be_packed_are_named(folder, case, capsys):
    data, message = BAD_PHOTOS[case]
    (folder / "b.png").write_bytes(data())
    assert pack(folder) == 1
    assert f"{folder / 'b.png'}: {message}" in capsys.readouterr().err
    assert sorted(path.name for path in folder.parent.iterdir()) == ["boxes", "photos"]
    assert pack(folder, "--bad-photos", "skip") == 0
    assert f"skipped: {folder / 'b.png'}: {message}" in capsys.readouterr().err
    assert [example["file_name"] for example in read(folder.parent / "set")] == [b"a.jpg", b"c.JPEG"]


def test_photos_without_an_entry_are_counted_and_named(folder, capsys):
    for name in ("a", "b"):
        (folder.parent / "boxes" / f"{name}.npz").unlink()
    with pytest.raises(MissingBoxesError, match=r"a\.npz: no such box file; the same for 1 more of 3 photos \(b\)"):
        Photos(config(folder))
    assert pack(folder, "--missing-boxes", "none") == 0
    assert [len(example["boxes"]) for example in read(folder.parent / "set")] == [0, 0, 2]


def test_folders_that_cannot_be_packed_are_named(folder):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        Photos(config(folder.parent / "nowhere"))
    with pytest.raises(DataError, match="boxes: no photos in this folder"):
        Photos(config(folder.parent / "boxes"))
    (folder / "a.png").write_bytes(photo(0, format_="PNG"))
    with pytest.raises(DataError, match=r"a\.jpg and .*a\.png: two photos of one name"):
        Photos(config(folder))


@pytest.mark.skipif(not VAL.is_dir(), reason="no photos of COCO here")
def test_photos_of_coco(tmp_path):
    photos = Photos(DataConfig(path=str(VAL / "images")))
    written = write_data_set(photos, tmp_path / "set")
    assert_same(read(tmp_path / "set"), list(photos))
    assert json.loads((tmp_path / "set" / "dataset_info.json").read_text())["name"] == "colorization"
    assert written.photos == len(photos)

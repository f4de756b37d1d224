"""``boxes detect`` of what training takes: zip files, lists, COCO's downloads, TFDS data sets."""

import io

import numpy as np
import pytest

from jaxcolor.cli import main
from jaxcolor.config import DataConfig
from jaxcolor.data.boxes.packed import PackedStore
from jaxcolor.data.sources.registry import open_photos, open_source
from tests.data.photo_files import prepare_tfds, write_zip
from tests.detection import toy

BRIGHT = "tests.detection.toy:Bright"


@pytest.fixture
def photos(tmp_path):
    return toy.make_photos(tmp_path / "photos", 20)


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command; answers exit status, what was printed, errors."""

    def run(path, *arguments, store="store", detector=BRIGHT):
        command = ["boxes", "detect", str(path), "-o", str(tmp_path / store), "--detector", detector]
        status = main([*command, "--photos-per-part", "3", *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def store_of(run, tmp_path):
    """The store of some photos, with the entries as they can be compared."""

    def store_of(path, *arguments, store):
        status, _, err = run(path, *arguments, store=store)
        assert status == 0, err
        found = PackedStore(tmp_path / store)
        found.verify()
        return found, entries(found)

    return store_of


def entries(store):
    return {key: [array.tolist() for array in store.read(key)] for key in store.keys()}  # noqa: SIM118


def tfds_set(folder, photos, *, rename=lambda name: name, replace=None):
    """A TFDS data set of the photos of a folder, which are named in its records."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow_datasets is not installed")
    features = {"file_name": tfds.features.Text(), "image": tfds.features.Image(encoding_format="png")}
    files = {rename(path.name): (replace or {}).get(path.name, path.read_bytes()) for path in sorted(photos.iterdir())}
    examples = [{"file_name": f"n01/{name}", "image": io.BytesIO(data)} for name, data in files.items()]
    return prepare_tfds(folder, features, examples)


def test_zip_file(store_of, photos, tmp_path):
    zipped = write_zip(tmp_path / "p.zip", {f"a/{p.name}": p.read_bytes() for p in photos.iterdir()})
    of_folder, wanted = store_of(photos, store="folder")
    of_zip, found = store_of(zipped, store="zip")
    assert found == wanted
    assert of_zip.manifest.content_sha256 == of_folder.manifest.content_sha256
    assert of_zip.manifest.source_name == "p.zip"


def test_damaged_member(run, photos, tmp_path):
    names = sorted(p.name for p in photos.iterdir())
    zipped = write_zip(tmp_path / "p.zip", {name: (photos / name).read_bytes() for name in names})
    data = bytearray(zipped.read_bytes())
    data[data.index((photos / names[3]).read_bytes()) + 40] ^= 1
    zipped.write_bytes(data)
    status, out, err = run(zipped, "--bad-photos", "skip")
    assert status == 0
    assert out.endswith(f"1 of 20 photos cannot be read: {names[3][:-4]}: left out\n")
    assert f"left out: {zipped}: cannot read {names[3]} in it" in err

    # Mended, with "error": only the part with the bad one is done again.
    assert run(zipped, store="again")[0] == 1
    with zipped.open("r+b") as file:
        file.write(write_zip(tmp_path / "q.zip", {name: (photos / name).read_bytes() for name in names}).read_bytes())
    status, out, err = run(zipped, store="again")
    assert (status, out.endswith("of 20 photos\n")) == (0, True)
    assert "detect: 17 of 20 photos done before" in err


def test_list(store_of, photos, tmp_path):
    names = sorted(p.name for p in photos.iterdir())[5:9][::-1]
    (tmp_path / "list.txt").write_text("".join(f"{name} 0\n" for name in names))
    found, _ = store_of(photos, "--list", str(tmp_path / "list.txt"), store="some")
    assert list(found.keys()) == [name[:-4] for name in names]


def test_coco(store_of, photos, tmp_path):
    _, wanted = store_of(photos, store="folder")
    (tmp_path / "coco").mkdir()
    write_zip(tmp_path / "coco" / "val2017.zip", {f"val2017/{p.name}": p.read_bytes() for p in photos.iterdir()})
    store, found = store_of(tmp_path / "coco", "--source", "coco", "--split", "val", store="coco_store")
    assert found == wanted
    assert store.manifest.source_name == "val2017.zip"


def test_tfds(run, store_of, photos, tmp_path):
    _, wanted = store_of(photos, store="folder")
    tfds_set(tmp_path / "d", photos)
    arguments = ["--source", "tfds", "--data-dir", str(tmp_path / "d"), "--split", "train"]
    with pytest.raises(RuntimeError, match="out of memory"):
        run("made", *arguments, detector="tests.detection.toy:failing")
    status, out, err = run("made", *arguments)
    assert (status, out.splitlines()[-1]) == (0, f"wrote {tmp_path / 'store'}: 16 boxes of 20 photos")
    assert "detect: 6 of 20 photos done before" in err
    store = PackedStore(tmp_path / "store")
    store.verify()
    assert entries(store) == wanted
    assert store.manifest.source_name == "made/1.0.0 train"
    config = DataConfig(source="tfds", path="made", data_dir=str(tmp_path / "d"), boxes_path=str(tmp_path / "store"))
    assert int(open_source(config).usable_counts.sum()) == 16


def test_index_is_that_of_training(run, photos, tmp_path, monkeypatch):
    path, index = tfds_set(tmp_path / "d", photos), tmp_path / "i.npz"
    assert run(path, "--source", "tfds", "--index", str(index))[0] == 0
    config = DataConfig(
        source="tfds", path=str(path), boxes_path=str(tmp_path / "store"), index_path=str(index), missing_boxes="none"
    )
    monkeypatch.setattr(
        "jaxcolor.data.sources.photo_source.make_index", lambda *_, **__: pytest.fail("there is an index")
    )
    assert len(open_source(config)) == 20
    toy.make_photos(tmp_path / "others", 4)
    status, _, err = run(tmp_path / "others", "--index", str(index), store="s2")
    assert status == 1
    assert "i.npz: it is of other photos" in err


def test_another_data_set_does_not_go_on(run, photos, tmp_path):
    path, other = tfds_set(tmp_path / "d", photos), toy.make_photos(tmp_path / "other", 21)
    min(other.iterdir()).unlink()  # as many as before, but others
    with pytest.raises(RuntimeError):
        run(path, "--source", "tfds", detector="tests.detection.toy:failing")
    status, _, err = run(tfds_set(tmp_path / "e", other), "--source", "tfds")
    assert status == 1
    assert "unfinished work of another run: photos_identity differ" in err


def test_records_that_hold_no_photo(run, photos, tmp_path):
    bad = sorted(p.name for p in photos.iterdir())[7]
    path = tfds_set(tmp_path / "d", photos, replace={bad: b"\x89PNG no photo"})
    status, _, err = run(path, "--source", "tfds")
    assert status == 1
    assert f"1 of 20 photos cannot be read: {bad[:-4]}; no store was written" in err
    assert err.count(f"({bad[:-4]}): cannot read this photo") == 1


@pytest.mark.parametrize(
    ("format_", "message"), [("packed", "there are boxes for it twice"), ("npz", "there are two of this name")]
)
def test_two_records_of_one_name(run, photos, tmp_path, format_, message):
    names = sorted(p.name for p in photos.iterdir())
    path = tfds_set(tmp_path / "d", photos, rename=lambda name: f"x/{names[0]}" if name == names[5] else name)
    assert len(open_photos(DataConfig(source="tfds", path=str(path)))) == 20
    status, _, err = run(path, "--source", "tfds", "--format", format_)
    assert status == 1
    assert f"photo {names[0][:-4]}: {message}" in err
    assert not (tmp_path / "store").exists()
    # With an index before the work.
    index = tmp_path / "i.npz"
    status, _, err = run(path, "--source", "tfds", "--index", str(index), store="late")
    assert status == 1
    assert "two photos of one name" in err
    assert not index.exists()
    assert not (tmp_path / ".late.detect").exists()


def test_arguments_of_another_source(run, photos, tmp_path):
    status, _, err = run(photos, "--data-dir", str(tmp_path))
    assert status == 1
    assert err == "jaxcolor boxes: --data-dir is for --source tfds, which is not given\n"
    assert "data.path: gone: no such folder or zip file" in run("gone")[2]
    assert "data.list_path: is for folders" in run("gone", "--source", "tfds", "--list", "l.txt")[2]


def test_photos_are_not_named_after_their_folders(store_of, photos, tmp_path):
    """A list reaches into subfolders; a photo is known by its stem."""
    (photos / "sub").mkdir()
    first = min(p for p in photos.iterdir() if p.is_file())
    first.rename(photos / "sub" / first.name)
    (tmp_path / "list.txt").write_text(f"sub/{first.name}\n")
    store, _ = store_of(photos, "--list", str(tmp_path / "list.txt"), store="s")
    assert list(store.keys()) == [first.stem]
    np.testing.assert_array_equal(store.read(first.stem).boxes, [toy.rectangle(0)])

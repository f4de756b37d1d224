"""Names and sizes of photos kept in a file."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from jaxcolor.config import DataConfig
from jaxcolor.data.sources import index as module
from jaxcolor.data.sources.index import make_index, read_index, write_index
from jaxcolor.data.sources.photo_source import FolderSet
from jaxcolor.data.sources.registry import open_source
from jaxcolor.data.sources.tfds import TfdsSet
from jaxcolor.data.sources.zip_file import ZipSet
from jaxcolor.data.types import DataError
from tests.data.photo_files import contents, jpeg, prepare_tfds, write_boxes, write_photo, write_zip


@pytest.fixture
def photos(tmp_path):
    """Five photos of different sizes, one of them lying on its side, two with boxes."""
    folder = tmp_path / "photos"
    for number in range(4):
        write_photo(folder / f"{number}.jpg", 40 + number, 30)
        write_boxes(tmp_path / "photos_bbox" / f"{number}.npz", [[0, 0, 9, 9], [41, 3, 99, 9]] * (number % 2))
    exif = Image.Exif()
    exif[0x0112] = 6
    write_photo(folder / "turned.jpg", 40, 30, exif=exif)
    write_boxes(tmp_path / "photos_bbox" / "turned.npz", [[0, 32, 20, 39]])
    return folder


def source(photos, **fields):
    return open_source(DataConfig(path=str(photos), **fields))


def test_written_once_then_read(photos, tmp_path, monkeypatch):
    path = tmp_path / "deep" / "index.npz"
    plain = source(photos)
    first = source(photos, index_path=str(path))
    assert path.is_file()
    assert [p.name for p in path.parent.iterdir()] == ["index.npz"]
    monkeypatch.setattr(module, "read_size", None)  # no photo is looked at again
    monkeypatch.setattr(module, "check_header", None)
    second = source(photos, index_path=str(path), threads=0)
    for found in (first, second):
        assert contents(found) == contents(plain)
        assert found.describe() == plain.describe()
        assert [found.crop_count(i) for i in range(5)] == [0, 1, 0, 2, 1]
        assert [found.usable(i)[0] for i in range(5)] == [(40, 30), (41, 30), (42, 30), (43, 30), (30, 40)]


def test_what_is_in_it(photos, tmp_path):
    folder = FolderSet(photos)
    made = make_index(folder, threads=3, skip_bad=False)
    write_index(tmp_path / "i.npz", made, folder.identity())
    found = read_index(tmp_path / "i.npz", folder)
    assert list(found.keys) == ["0", "1", "2", "3", "turned"]
    assert found.sizes.tolist() == [[40, 30], [41, 30], [42, 30], [43, 30], [30, 40]]
    assert (found.bad, found.detections, found.truth) == ({}, None, None)


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_threads_see_the_same(tmp_path, threads):
    members = {f"{n:03}.jpg": jpeg(n, 20 + n % 7, 30) for n in range(200)} | {"150.jpg": b"rubbish"}
    photos = ZipSet(write_zip(tmp_path / "p.zip", members))
    found = make_index(photos, threads=threads, skip_bad=True)
    assert found.sizes[:150, 0].tolist() == [20 + n % 7 for n in range(150)]
    assert list(found.bad) == [150]
    before = threading.active_count()
    with pytest.raises(DataError, match=r"150\.jpg: cannot read this photo"):
        make_index(photos, threads=threads, skip_bad=False)
    assert threading.active_count() == before


def test_sizes_that_are_not_asked_for(photos):
    found = make_index(FolderSet(photos), threads=0, skip_bad=False, sized=np.arange(5) == 3)
    assert found.sizes.tolist() == [[0, 0], [0, 0], [0, 0], [43, 30], [0, 0]]


def test_a_bar_only_when_it_takes_long(photos, capsys, monkeypatch):
    make_index(FolderSet(photos), threads=0, skip_bad=False)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(module, "_QUIET_SECONDS", 0)
    make_index(FolderSet(photos), threads=0, skip_bad=False)
    assert capsys.readouterr().err == ""  # this is no terminal
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True)
    make_index(FolderSet(photos), threads=0, skip_bad=False)
    assert "reading sizes of photos" in capsys.readouterr().err


class TestBadPhotos:
    def test_error_writes_nothing(self, photos, tmp_path):
        (photos / "2.jpg").write_bytes(b"rubbish")
        with pytest.raises(DataError, match=r"2\.jpg: cannot read this photo"):
            source(photos, index_path=str(tmp_path / "i.npz"))
        assert not (tmp_path / "i.npz").exists()

    def test_skipped_ones_are_told_every_time(self, photos, tmp_path, capsys):
        (photos / "2.jpg").write_bytes(b"rubbish")
        path = str(tmp_path / "i.npz")
        told = []
        for _ in range(2):
            found = source(photos, index_path=path, bad_photos="skip")
            assert [photo[0] for photo in contents(found)] == ["0", "1", "3", "turned"]
            assert found.usable(3)[0] == (30, 40)
            told.append(capsys.readouterr().err)
        assert told[0] == told[1]
        assert told[0].startswith(f"skipped: {photos}/2.jpg: cannot read this photo")
        with pytest.raises(DataError, match=r"2\.jpg: cannot read this photo"):
            source(photos, index_path=path)
        write_photo(photos / "2.jpg")  # put right
        with pytest.raises(DataError, match="these photos have changed since it was made"):
            source(photos, index_path=path)


class TestRefused:
    @pytest.fixture
    def path(self, photos, tmp_path):
        source(photos, index_path=str(tmp_path / "i.npz"))
        return tmp_path / "i.npz"

    def refused(self, photos, path, message):
        with pytest.raises(DataError, match=rf"data\.index_path: .*{path.name}: {message}") as caught:
            source(photos, index_path=str(path), missing_boxes="none")
        assert "\n" not in str(caught.value)

    def test_other_photos(self, photos, path, tmp_path):
        photos.rename(tmp_path / "moved")
        assert len(source(tmp_path / "moved", index_path=str(path), missing_boxes="none")) == 5
        write_photo(photos / "0.jpg")
        self.refused(photos, path, r"these photos have changed since it was made: .*5 photos\), not of .*1 photo")
        members = {p.name: p.read_bytes() for p in (tmp_path / "moved").iterdir()}
        self.refused(
            write_zip(tmp_path / "p.zip", members), path, r"it is of other photos: .*\(folder.*not of .*\(zip, 5"
        )

    def test_changed_photos(self, photos, path):
        write_photo(photos / "1.jpg", 400, 300)
        self.refused(photos, path, "these photos have changed since it was made")

    def test_another_list(self, photos, path, tmp_path):
        (tmp_path / "list.txt").write_text("1.jpg\n0.jpg")
        with pytest.raises(DataError, match=r"changed since it was made: .*5 photos\), not of .*2 photos"):
            source(photos, index_path=str(path), list_path=str(tmp_path / "list.txt"))

    def test_damaged(self, photos, path, tmp_path):
        whole = path.read_bytes()
        for data in (b"", b"rubbish", whole[:-40], whole[: len(whole) // 2], whole.replace(b"turned", b"gedreh")):
            path.write_bytes(data)
            self.refused(photos, path, "cannot read this index of photos: ")
        path.unlink()
        path.mkdir()
        self.refused(photos, path, "cannot read this index of photos: ")

    @pytest.mark.parametrize(
        ("name", "array", "message"),
        [
            ("sizes", np.zeros((5, 2), np.int32), "photos without a size"),
            ("sizes", np.ones((4, 2), np.int32), r"sizes are int32 \(4, 2\) for 5 photos"),
            ("sizes", np.ones((5, 2)), "sizes are float64"),
            ("name_ends", np.array([1, 2, 3, 4, 11]), "names do not fill 10 bytes"),
            ("bad", np.array([7]), "argument 2 is shorter"),
            ("truth", np.zeros((3, 5), np.int32), r"truth are \(3, 5\)"),
            ("about", np.frombuffer(b'{"format": "x"}', np.uint8), "its format is 'x'"),
            ("about", np.frombuffer(b"[]", np.uint8), "list indices"),
            ("about", np.array([{}]), "pickled data"),
        ],
    )
    def test_tables_that_cannot_be(self, photos, path, name, array, message):
        with np.load(path) as archive:
            arrays = dict(archive)
        np.savez(path, **{**arrays, name: array})
        self.refused(photos, path, f"cannot read this index of photos: .*{message}")

    def test_another_version(self, photos, path, monkeypatch):
        monkeypatch.setattr(module, "VERSION", 2)
        self.refused(photos, path, "version 1 of the format; this jaxcolor reads 2")

    def test_no_place(self, photos, tmp_path):
        (tmp_path / "file").write_text("")
        self.refused(photos, tmp_path / "file" / "i.npz", "cannot be written: ")


def test_of_tfds_no_record_is_read(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow_datasets is not installed")
    features = {
        "file_name": tfds.features.Text(),
        "image": tfds.features.Image(encoding_format="jpeg"),
        "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
        "scores": tfds.features.Tensor(shape=(None,), dtype=np.float32),
    }
    boxes = np.array([[0, 0, 9, 9], [50, 0, 60, 9]], np.float32)
    examples = [
        {
            "file_name": f"{n}.jpg",
            "image": io.BytesIO(jpeg(n, 40 + n, 30)),
            "boxes": boxes[: n % 3],
            "scores": np.ones(n % 3, np.float32),
        }
        for n in range(7)
    ]
    path = prepare_tfds(tmp_path / "tfds", features, examples)
    fields = {"source": "tfds", "index_path": str(tmp_path / "i.npz")}
    first = source(path, **fields)
    with monkeypatch.context() as patch:
        patch.setattr(TfdsSet, "_record", None)
        second = source(path, **fields)
        assert second.describe() == first.describe()
        assert "4 with boxes; 4 boxes from its records, 2 dropped (2 outside)" in first.describe()
        np.savez(tmp_path / "4.npz", bbox=boxes, scores=np.ones(2))
        other = source(path, boxes_path=str(tmp_path), missing_boxes="none", **fields)
    assert contents(second) == contents(first)
    assert [other[i].name for i in other.with_boxes()] == ["4"]
    with pytest.raises(DataError, match="it is of other photos"):
        source(path, split="train[1:]", **fields)

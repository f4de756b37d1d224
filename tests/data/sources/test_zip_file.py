"""Photos in zip files, and boxes in them."""

import json
import pickle
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcolor.config import DataConfig
from jaxcolor.data.archive import Archive, inside_zip, read_bytes
from jaxcolor.data.boxes.base import same_spelling
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.sources.base import PhotoSet
from jaxcolor.data.sources.registry import open_source
from jaxcolor.data.sources.zip_file import ZipSet
from jaxcolor.data.transforms import read_size
from jaxcolor.data.types import DataError
from tests.data.photo_files import contents, jpeg, write_boxes, write_zip

PHOTO = jpeg(0)
SEGMENT = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\"), min_size=1).filter(
    lambda name: name not in (".", "..", "__MACOSX") and not name.startswith(".")
)


def source(path, **fields):
    return open_source(DataConfig(path=str(path), missing_boxes="none", **fields))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_wherever_they_lie(tmp_path, method):
    members = {
        "x/": b"",
        "x/b.jpg": jpeg(1),
        "a.JPG": jpeg(0),
        "x/y/c.jpeg": jpeg(2),
        "__MACOSX/x/._b.jpg": b"not a photo",
        "x/._b.jpg": b"nor this",
        "__MACOSX/d.jpg": b"nor this",
        "x/readme.txt": b"text",
    }
    photos = ZipSet(write_zip(tmp_path / "p.zip", members, method))
    assert isinstance(photos, PhotoSet)
    assert list(photos.keys()) == ["a", "b", "c"]
    assert [photos.entry(i).file.data for i in range(3)] == [jpeg(0), jpeg(1), jpeg(2)]
    assert photos.entry(1).file.where == f"{tmp_path}/p.zip/x/b.jpg"
    assert source(tmp_path / "p.zip").describe() == (
        f"{tmp_path}/p.zip: 3 photos (1 other member not looked at), 0 with boxes; 0 boxes"
    )


@given(st.dictionaries(st.lists(SEGMENT, min_size=1, max_size=3).map("/".join), st.booleans(), min_size=1))
def test_names(tmp_path_factory, places):
    members = {f"{place}.jpg" if is_photo else f"{place}.txt": place.encode() for place, is_photo in places.items()}
    path = write_zip(tmp_path_factory.mktemp("zips") / "p.zip", members)
    wanted = sorted(place + ".jpg" for place, is_photo in places.items() if is_photo)
    stems = [same_spelling(place.rsplit("/")[-1].removesuffix(".jpg")) for place in wanted]
    if not wanted:
        with pytest.raises(DataError, match=r"no photos in this zip file .*; \d+ other members"):
            ZipSet(path)
    elif len(set(stems)) < len(stems):
        with pytest.raises(DataError, match="two photos of one name"):
            ZipSet(path)
    else:
        photos = ZipSet(path)
        assert list(photos.keys()) == stems
        assert [photos.entry(i).file.data.decode() + ".jpg" for i in range(len(photos))] == wanted


def test_headers_of_jpegs_alone_are_read_in_part(tmp_path):
    noise = jpeg(3, 700, 500, quality=100) + bytes(200_000)
    photos = ZipSet(write_zip(tmp_path / "p.zip", {"a.jpg": noise, "b.png": noise}))
    begin = photos.header(0)
    assert len(begin.data) == 65536 < len(noise)
    assert read_size(begin) == (700, 500)
    assert photos.header(1) is None


def test_a_header_longer_than_what_is_read(tmp_path):
    # Two blocks of metadata of 64 KB before the size is told.
    long = PHOTO[:2] + (b"\xff\xed\xff\xff" + bytes(65533)) * 2 + PHOTO[2:]
    write_boxes(tmp_path / "p_bbox" / "a.npz", [[0, 0, 9, 99]])
    found = source(write_zip(tmp_path / "p.zip", {"a.jpg": long}))
    assert found.usable(0)[0] == (40, 30)
    assert found.usable(0)[1].boxes.tolist() == [[0, 0, 9, 30]]


class TestDamage:
    def broken(self, tmp_path, change, method=zipfile.ZIP_STORED):
        path = write_zip(tmp_path / "p.zip", {"a.jpg": PHOTO, "b.jpg": jpeg(1)}, method)
        data = bytearray(path.read_bytes())
        change(data)
        path.write_bytes(data)
        return path

    def test_checksum(self, tmp_path):
        def change(data):
            data[data.index(PHOTO) + len(PHOTO) // 2] ^= 1

        with pytest.raises(DataError, match=r"p\.zip: cannot read a\.jpg in it: Bad CRC-32") as caught:
            source(self.broken(tmp_path, change))
        assert "\n" not in str(caught.value)

    def test_checksum_of_what_is_read_later(self, tmp_path):
        big = PHOTO + bytes(100_000)
        path = write_zip(tmp_path / "p.zip", {"a.jpg": big, "b.jpg": PHOTO})
        data = path.read_bytes()
        path.write_bytes(data.replace(big, big[:-1] + b"x"))
        found = source(path)
        with pytest.raises(DataError, match=r"p\.zip: cannot read a\.jpg in it: Bad CRC-32"):
            found[0]
        assert found[1].name == "b"

    def test_deflated_rubbish(self, tmp_path):
        def change(data):
            start = data.index(b"a.jpg") + len(b"a.jpg")
            data[start : start + 200] = b"\xff" * 200

        path = self.broken(tmp_path, change, zipfile.ZIP_DEFLATED)
        with pytest.raises(DataError, match=r"p\.zip: cannot read a\.jpg in it: "):
            source(path)
        found = source(path, bad_photos="skip")
        assert [photo[0] for photo in contents(found)] == ["b"]
        assert found.describe().endswith("; 1 unreadable photo skipped")

    @pytest.mark.parametrize(
        ("place", "value", "message"), [(8, 1, "is encrypted"), (10, 99, "compression method is not supported")]
    )
    def test_what_python_cannot_read(self, tmp_path, place, value, message):
        def change(data):
            # In the central directory, and in the member's own header, which lacks the first two bytes of that.
            data[data.index(b"PK\1\2") + place] = data[data.index(b"PK\3\4") + place - 2] = value

        with pytest.raises(DataError, match=rf"p\.zip: cannot read a\.jpg in it: .*{message}") as caught:
            source(self.broken(tmp_path, change))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("keep", [0, 10, 0.5, 0.98])
    def test_cut_off(self, tmp_path, keep):
        def change(data):
            del data[keep if isinstance(keep, int) else int(len(data) * keep) :]

        with pytest.raises(DataError, match=r"p\.zip: not a zip file, or its end is cut off"):
            source(self.broken(tmp_path, change))

    def test_not_there(self, tmp_path):
        with pytest.raises(DataError, match=r"gone\.zip: no such folder or zip file"):
            source(tmp_path / "gone.zip")
        with pytest.raises(DataError, match=r"gone\.zip: cannot read this zip file: No such file"):
            Archive(tmp_path / "gone.zip")

    def test_a_photo_twice(self, tmp_path):
        with pytest.raises(DataError, match=r"p\.zip/a\.jpg and .*p\.zip/x/a\.png: two photos of one name"):
            source(write_zip(tmp_path / "p.zip", {"a.jpg": PHOTO, "x/a.png": PHOTO}))


def test_identity_is_of_names_and_contents(tmp_path):
    def identity(name, members):
        return ZipSet(write_zip(tmp_path / name, members)).identity()

    first = identity("a.zip", {"a.jpg": PHOTO, "notes": b""})
    assert first.same(identity("b.zip", {"a.jpg": PHOTO}))
    assert not first.same(identity("a.zip", {"a.jpg": jpeg(1)}))
    assert not first.same(identity("a.zip", {"b.jpg": PHOTO}))
    assert not first.same(identity("a.zip", {"a.jpg": PHOTO, "b.jpg": PHOTO}))


class TestBoxesInside:
    ENTRY = "annotations/instances.json"

    @pytest.fixture
    def path(self, tmp_path):
        content = {
            "images": [{"id": 1, "file_name": "a.jpg"}],
            "annotations": [{"id": 1, "image_id": 1, "bbox": [1, 2, 3, 4]}],
        }
        members = {self.ENTRY: json.dumps(content), "found.json": '[{"image_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]'}
        return write_zip(tmp_path / "boxes.zip", members, zipfile.ZIP_DEFLATED)

    def test_reads(self, path):
        store = open_store(path / self.ENTRY)
        assert store.kind == "coco_instances"
        assert store.read("a").boxes.tolist() == [[1, 2, 4, 6]]
        assert pickle.loads(pickle.dumps(store)).read("a").boxes.tolist() == [[1, 2, 4, 6]]
        assert open_store(path / "found.json", images=path / self.ENTRY).read("a").boxes.tolist() == [[0, 0, 1, 1]]

    def test_paths(self, path, tmp_path):
        assert inside_zip(path / self.ENTRY) == (path, self.ENTRY)
        for other in (path, tmp_path, tmp_path / "gone" / "a.json"):
            assert inside_zip(other) is None
        assert read_bytes(path, 4) == b"PK\3\4"
        assert read_bytes(path / "found.json", 2) == b"[{"

    def test_wrong(self, path, tmp_path):
        with pytest.raises(
            DataError, match=r"boxes\.zip: has no member a/b\.json; \.json in it: annotations/instances"
        ):
            open_store(path / "a" / "b.json")
        with pytest.raises(DataError, match="no such folder or file of boxes"):
            open_store(tmp_path / "gone.zip" / "b.json")
        with pytest.raises(DataError, match=r"boxes\.zip: not a file of boxes.* a member of a zip file is named by"):
            open_store(path)
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(DataError, match=r"boxes\.zip: not a zip file, or its end is cut off"):
            open_store(path / self.ENTRY)

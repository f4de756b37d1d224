"""Lists of photos, and the names of many."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcolor.config import DataConfig
from jaxcolor.data.sources.base import read_list, refuse_shared_keys
from jaxcolor.data.sources.registry import open_source
from jaxcolor.data.types import DataError, Names
from tests.data.photo_files import write_boxes, write_photo, write_zip

FILE_NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"], exclude_characters="/\\"), min_size=1).filter(
    lambda name: name not in (".", "..")
)


class TestNames:
    @given(st.lists(st.text(st.characters()) | st.just("caf\udce9.jpg")))
    def test_is_the_list_it_was_made_of(self, texts):
        # Only the lone surrogates that stand for bytes of a file's name can be kept.
        texts = [t.encode("utf-8", "ignore").decode() if t != "caf\udce9.jpg" else t for t in texts]
        names = Names.of(texts)
        assert len(names) == len(texts)
        assert list(names) == texts
        assert list(names[1:3]) == texts[1:3]
        assert pickle.loads(pickle.dumps(names)) == names == Names(names.text, names.ends)

    def test_ends(self):
        names = Names.of(["a", "", "bc"])
        assert names[-1] == "bc"
        for index in (3, -4):
            with pytest.raises(IndexError, match="of 3"):
                names[index]

    @pytest.mark.parametrize("ends", [[1, 2], [3, 2, 4], [-1, 4], [], [1, 5]])
    def test_ends_that_do_not_fit(self, ends):
        with pytest.raises(ValueError, match="names do not fill 4 bytes"):
            Names(b"abcd", np.array(ends, np.int64))

    def test_digest_tells_them_apart(self):
        lists = [["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"], []]
        assert len({Names.of(names).digest() for names in lists}) == len(lists)

    def test_a_million_are_cheap_to_pickle(self):
        names = Names.of(map(str, range(10_000)))
        assert len(pickle.dumps(names)) < 38_890 + 8 * 10_000 + 500

    def test_shared_keys(self):
        refuse_shared_keys(["a", "b"], lambda number: number)
        with pytest.raises(DataError, match="1 and 3: two photos of one name"):
            refuse_shared_keys(["x", "a", "y", "a", "x"], lambda number: number)


@given(st.lists(st.tuples(st.lists(FILE_NAMES, max_size=2), FILE_NAMES, st.sampled_from(["", " 0", "\t12", "  7 "]))))
def test_lists_are_read_as_they_were_written(tmp_path_factory, entries):
    places = ["/".join([*folders, name]) + ".jpg" for folders, name, _ in entries]
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    path.write_text("\n".join(place + label for place, (_, _, label) in zip(places, entries, strict=True)))
    if places:
        assert read_list(path) == places
    else:
        with pytest.raises(DataError, match="names no photo"):
            read_list(path)


@pytest.fixture(params=["folder", "zip"])
def photos(request, tmp_path):
    """The same four photos in a folder and in a zip file, with boxes for all; what ``data.path`` is for them."""
    folder = tmp_path / "photos"
    for name in ("b.png", "a.jpg", "d.JPEG", "c.webp"):
        write_photo(folder / name)
        write_boxes(tmp_path / "photos_bbox" / f"{name[0]}.npz", [[0, 0, 9, 9]] if name[0] in "ad" else [])
    write_photo(folder / "abbey" / "my photo 7.jpg")
    write_boxes(tmp_path / "photos_bbox" / "my photo 7.npz", [[0, 0, 9, 9]])
    if request.param == "folder":
        return folder
    members = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return write_zip(tmp_path / "photos.zip", members)


def source_of(photos, tmp_path, text, **fields):
    path = tmp_path / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_source(DataConfig(path=str(photos), list_path=str(path), **fields))


def names(source):
    return [source[i].name for i in range(len(source))]


def test_in_its_order_and_below_the_folder(photos, tmp_path):
    source = source_of(photos, tmp_path, "d.JPEG 3\r\n\nabbey/my photo 7.jpg\n  a.jpg\t12  ")
    assert names(source) == ["d", "my photo 7", "a"]
    assert source.with_boxes() == (0, 1, 2)
    (tmp_path / "photos_bbox" / "b.npz").unlink()  # of a photo that is not on the list
    assert names(source_of(photos, tmp_path, b"\xef\xbb\xbfa.jpg")) == ["a"]


def test_photos_that_are_not_there(photos, tmp_path, capsys):
    text = "a.jpg\nx.jpg\nd.JPEG\ny.jpg"
    with pytest.raises(DataError, match=r"list\.txt: 2 of its 4 photos are not there; the first: .*x\.jpg"):
        source_of(photos, tmp_path, text, missing_boxes="none")
    source = source_of(photos, tmp_path, text, missing_boxes="none", bad_photos="skip")
    assert names(source) == ["a", "d"]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert all(line.startswith("skipped: ") and f"{name}.jpg" in line for line, name in zip(told, "xy", strict=True))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no photo"),
        (" \n\n", "names no photo"),
        ("a.jpg\nnotes.txt", r"line 2: 'notes\.txt' names no photo"),
        ("a.jpg\n\n12", "line 3: '12' names no photo"),
        ("a.jpg b", r"line 1: 'a\.jpg b' names no photo"),
        (b"\x00\xff\xfe", "line 1: .* names no photo"),
        ("/photos/a.jpg", r"line 1: '/photos/a\.jpg' is not below data\.path"),
        ("x/../../a.jpg", r"line 1: 'x/\.\./\.\./a\.jpg' is not below data\.path"),
    ],
)
def test_wrong_lists(photos, tmp_path, text, message):
    with pytest.raises(DataError, match=rf"data\.list_path: .*list\.txt: {message}") as caught:
        source_of(photos, tmp_path, text)
    assert "\n" not in str(caught.value)


def test_no_list_or_a_photo_twice(photos, tmp_path):
    with pytest.raises(DataError, match=r"gone\.txt: cannot read this list: No such file"):
        open_source(DataConfig(path=str(photos), list_path=str(tmp_path / "gone.txt")))
    with pytest.raises(DataError, match=r"x/a\.jpg and .*y/a\.jpg: two photos of one name"):
        source_of(photos, tmp_path, "x/a.jpg\ny/a.jpg")

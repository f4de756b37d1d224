"""Box stores of Pascal VOC's XML files."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcolor.data.boxes.base import BoxStore, MissingBoxesError
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.boxes.voc import read_voc
from jaxcolor.data.types import DataError
from tests.data.boxes.box_texts import bndbox, one_line, voc


class TestVoc:
    def test_reads(self, tmp_path):
        part = f"<part><name>head</name>{bndbox()}</part>"
        text = voc(
            bndbox() + "<difficult>1</difficult><truncated>1</truncated>" + part, bndbox(" 48.5 ", 1, "195", "371\n")
        )
        (tmp_path / "a.xml").write_text(text)
        (tmp_path / "b.xml").write_text(voc())
        (tmp_path / "notes.txt").write_text("no annotation")
        store = open_store(tmp_path)
        assert isinstance(store, BoxStore)
        assert (store.kind, list(store.keys())) == ("voc", ["a", "b"])
        boxes, scores = store.read("a")
        assert boxes.tolist() == [[0, 0, 5, 6], [47.5, 0, 195, 371]]
        assert scores.tolist() == [1, 1]
        assert len(store.read("b").boxes) == 0
        with pytest.raises(MissingBoxesError, match=r"c\.xml: no such box file"):
            store.read("c")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "cannot read this XML file: no element found"),
            ("hello", "cannot read this XML file: syntax error"),
            (voc(bndbox())[:-20], "cannot read this XML file"),
            ('<?xml version="1.0" encoding="no-such"?>' + voc(), "cannot read this XML file: unknown encoding"),
            (voc(root="html"), "not a VOC annotation: its root is <html>"),
            (voc(""), "object 0 has no <bndbox>; it must have one"),
            (voc(bndbox(), bndbox() * 2), "object 1 has 2 <bndbox>; it must have one"),
            (voc("<bndbox><xmin>1</xmin></bndbox>"), "object 0: its <bndbox> has no <ymin>"),
            (voc(bndbox("1</xmin><xmin>2")), "object 0: its <bndbox> has 2 <xmin>"),
            (voc(bndbox(y1="six")), "object 0: <ymax> is 'six'; it must be a finite number"),
            (voc(bndbox(x1="nan")), "object 0: <xmax> is 'nan'"),
            (voc(bndbox(x1="inf")), "object 0: <xmax> is 'inf'"),
            (voc(bndbox("")), "object 0: <xmin> is ''"),
            (voc(head="<!DOCTYPE annotation>"), "has a document type declaration"),
            (voc("&b;", head='<!DOCTYPE a [<!ENTITY a "x"><!ENTITY b "&a;&a;">]>'), "has a document type declaration"),
            (voc("&f;", head='<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/hosts">]>'), "has a document type"),
        ],
    )
    def test_wrong_files(self, tmp_path, text, message):
        (tmp_path / "w.xml").write_text(text)
        with pytest.raises(DataError, match=rf"w\.xml: {message}") as caught:
            read_voc(tmp_path / "w.xml")
        assert one_line(caught)

    def test_declarations_are_seen_in_any_encoding(self, tmp_path):
        text = '<?xml version="1.0" encoding="UTF-16"?>' + voc(head="<!DOCTYPE a>")
        (tmp_path / "w.xml").write_bytes(text.encode("utf-16"))
        with pytest.raises(DataError, match="document type declaration"):
            read_voc(tmp_path / "w.xml")

    def test_no_file(self, tmp_path):
        with pytest.raises(DataError, match=r"w\.xml: cannot read this file: No such file"):
            read_voc(tmp_path / "w.xml")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 500)] * 4), max_size=5))
def test_voc_round_trip(tmp_path_factory, boxes):
    """Pixels x0 … x1 - 1 counted from 0 are x0 + 1 … x1 counted from 1."""
    path = tmp_path_factory.mktemp("voc") / "a.xml"
    path.write_text(voc(*(bndbox(x0 + 1, y0 + 1, x1, y1) for x0, y0, x1, y1 in boxes)))
    assert read_voc(path).boxes.tolist() == [list(map(float, box)) for box in boxes]

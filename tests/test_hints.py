"""Hints of a person: where they lie on canvas and crops, the hints file, and everything that can be wrong with both."""

import json
import math
import os
import unicodedata
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcolor import color, hints
from jaxcolor.hints import (
    Hint,
    HintError,
    Hints,
    PhotoHints,
    hints_in_boxes,
    hints_on_canvas,
    match_hints,
    network_hint_channels,
    place_hints,
    read_hints,
)

SIDE = 16
PHOTO = (40, 30)
"""Width, height."""
RED, BLUE = (200, 30, 40), (30, 40, 200)


def ab(rgb):
    lab = color.rgb_to_lab(np.array(rgb, np.float32) / 255)
    return lab[1:] / 110


def canvas(*of_photo, size=PHOTO, side=SIDE, boxes=None):
    return hints_on_canvas(place_hints(of_photo, size, boxes), size, side)


def same(a, b):
    np.testing.assert_array_equal(a.ab, b.ab)
    np.testing.assert_array_equal(a.mask, b.mask)


@st.composite
def photos(draw):
    """Size, hints in it, and boxes in whole pixels."""
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))

    def hint():
        x = draw(st.floats(0, width, exclude_max=True))
        y = draw(st.floats(0, height, exclude_max=True))
        rgb = tuple(draw(st.integers(0, 255)) for _ in range(3))
        return Hint(x, y, rgb, draw(st.floats(0.01, 50)))

    def box():
        x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        return [x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))]

    some_hints = [hint() for _ in range(draw(st.integers(0, 4)))]
    return (width, height), some_hints, np.array([box() for _ in range(draw(st.integers(1, 3)))])


def slow(of_photo, box, side):
    """Pixel by pixel and hint by hint."""
    x0, y0, x1, y1 = box
    across, down = (x1 - x0) / side, (y1 - y0) / side
    found = Hints(np.zeros((side, side, 2), np.float32), np.zeros((side, side, 1), bool))
    for hint in of_photo:
        for i in range(side):
            for j in range(side):
                near = (x0 + (j + 0.5) * across - hint.x) ** 2 + (y0 + (i + 0.5) * down - hint.y) ** 2 <= hint.radius**2
                here = math.floor((hint.x - x0) / across) == j and math.floor((hint.y - y0) / down) == i
                if near or here:
                    found.ab[i, j], found.mask[i, j] = ab(hint.rgb), True
    return found


class TestPainting:
    @given(photos())
    def test_equals_painting_pixel_by_pixel(self, photo):
        size, of_photo, boxes = photo
        placed = place_hints(of_photo, size)
        crops = hints_in_boxes(placed, boxes, 8)
        whole = hints_on_canvas(placed, size, 8)
        for found, box in [*zip(zip(*crops, strict=True), boxes, strict=True), (whole, [0, 0, *size])]:
            expected = slow(of_photo, box.tolist() if isinstance(box, np.ndarray) else box, 8)
            np.testing.assert_array_equal(found[1], expected.mask)
            np.testing.assert_allclose(found[0], expected.ab, atol=1e-6)

    @given(photos())
    def test_a_point_in_a_box_lands_in_its_crop(self, photo):
        """At the pixel whose part of the photo holds the point, with the color of the last hint there."""
        size, of_photo, boxes = photo
        crops = hints_in_boxes(place_hints(of_photo, size), boxes, SIDE)
        for mask, (x0, y0, x1, y1) in zip(crops.mask[..., 0], boxes.tolist(), strict=True):
            for hint in of_photo:
                if x0 <= hint.x < x1 and y0 <= hint.y < y1:
                    column, row = (hint.x - x0) / (x1 - x0) * SIDE, (hint.y - y0) / (y1 - y0) * SIDE
                    assert mask[min(int(row), SIDE - 1), min(int(column), SIDE - 1)]

    @given(st.data())
    def test_mirrored(self, data):
        """Sizes whose distances are exact, so that no rounding tells left from right."""
        width = SIDE * data.draw(st.integers(1, 8))
        x, y = data.draw(st.integers(0, width - 1)) + 0.5, data.draw(st.integers(0, 29)) + 0.5
        radius = data.draw(st.floats(0.1, 20))
        there = canvas(Hint(x, y, RED, radius), size=(width, 30))
        mirrored = canvas(Hint(width - x, y, RED, radius), size=(width, 30))
        same(mirrored, Hints(there.ab[:, ::-1], there.mask[:, ::-1]))

    @given(photos(), st.randoms())
    def test_boxes_in_another_order(self, photo, random):
        size, of_photo, boxes = photo
        order = random.sample(range(len(boxes)), len(boxes))
        placed = place_hints(of_photo, size)
        plain = hints_in_boxes(placed, boxes, SIDE)
        same(hints_in_boxes(placed, boxes[order], SIDE), Hints(plain.ab[order], plain.mask[order]))

    def test_later_hints_lie_over_earlier_ones(self):
        at = (20.0, 15.0)
        found = canvas(Hint(*at, RED, 10), Hint(*at, BLUE, 3))
        np.testing.assert_allclose(found.ab[8, 8], ab(BLUE), atol=1e-6)
        np.testing.assert_allclose(found.ab[8, 6], ab(RED), atol=1e-6)
        same(canvas(Hint(*at, BLUE, 3), Hint(*at, RED, 10)), canvas(Hint(*at, RED, 10)))

    def test_a_radius_beyond_all_sizes_covers_the_photo(self):
        assert canvas(Hint(0, 29.9, RED, 1e300)).mask.all()

    def test_no_hints(self):
        assert not canvas().mask.any()
        assert hints_in_boxes(place_hints([], PHOTO), np.array([[0, 0, 4, 4]]), SIDE).ab.shape == (1, SIDE, SIDE, 2)
        assert hints_in_boxes(place_hints([Hint(1, 1, RED)], PHOTO), np.zeros((0, 4)), SIDE).mask.shape[0] == 0

    def test_an_enlarged_crop_has_the_resolution_of_the_crop(self):
        """One photo pixel in a crop of 4 x 4: a disc of 16 across, not a block of the canvas."""
        placed = place_hints([Hint(12.0, 12.0, RED, 0.5)], (256, 256))
        assert hints_on_canvas(placed, (256, 256), 64).mask.sum() == 1
        area = hints_in_boxes(placed, np.array([[10, 10, 14, 14]]), 64).mask.sum()
        assert area == pytest.approx(math.pi * 8**2, rel=0.05)

    def test_radius_that_is_not_given(self):
        assert place_hints([Hint(3, 4, RED)], (200, 1000)).radius.tolist() == [10.0]
        assert canvas(Hint(20, 15, RED), size=(40, 30), side=256).mask.sum() > 9


class TestObjects:
    BOXES = np.array([[0, 0, 4, 4], [8, 4, 24, 28], [-10, -10, 6, 10]], np.float32)

    def test_points_lie_in_the_inner_half_of_the_box(self):
        placed = place_hints([Hint.on_object(1, RED)], PHOTO, self.BOXES)
        assert placed.xy.tolist() == [[16, 16], [12, 16], [20, 16], [16, 10], [16, 22]]
        np.testing.assert_allclose(placed.ab, [ab(RED)] * 5, atol=1e-6)
        crop = hints_in_boxes(placed, self.BOXES[1:2], SIDE).mask[0, :, :, 0]
        assert crop.any()
        assert not crop[: SIDE // 4 - 1].any()
        assert not crop[:, -SIDE // 4 + 1 :].any()

    def test_only_the_part_in_the_photo_counts(self):
        placed = place_hints([Hint.on_object(2, RED)], PHOTO, self.BOXES)
        assert placed.xy[0].tolist() == [3, 5]

    def test_radius_fits_the_box_unless_given(self):
        size = (4000, 3000)
        radii = [place_hints([Hint.on_object(1, RED, r)], size, self.BOXES).radius.tolist() for r in (None, 7)]
        assert radii == [[2.0] * 5, [7.0] * 5]

    def test_points_and_objects_keep_their_order(self):
        mixed = [Hint(1, 2, RED, 1), Hint.on_object(0, BLUE), Hint(3, 4, "#ffffff", 2)]
        placed = place_hints(mixed, PHOTO, self.BOXES)
        assert placed.xy[[0, -1]].tolist() == [[1, 2], [3, 4]]
        assert placed.radius[[0, -1]].tolist() == [1, 2]
        np.testing.assert_allclose(placed.ab[1:-1], [ab(BLUE)] * 5, atol=1e-6)
        np.testing.assert_allclose(placed.ab[-1], 0, atol=1e-3)


@pytest.mark.parametrize(
    ("hint", "message"),
    [
        (Hint(40, 3, RED), "x 40 lies outside the photo, which is 40 px wide"),
        (Hint(3, 30.0, RED), "y 30.0 lies outside the photo, which is 30 px high"),
        (Hint(-0.1, 3, RED), "x -0.1 lies outside"),
        (Hint(math.nan, 3, RED), "x is nan; it must be a finite number"),
        (Hint(3, math.inf, RED), "y is inf"),
        (Hint(True, 3, RED), "x is True"),
        (Hint(10**400, 3, RED), "x is a number beyond all sizes"),
        (Hint(np.float64(50), 3, RED), "x 50.0 lies outside"),
        (Hint(3, None, RED), "needs x and y, or the number of an object"),
        (Hint(3, 3, (256, 0, 0)), r"rgb is \(256, 0, 0\); it must be three whole numbers"),
        (Hint(3, 3, (-1, 0, 0)), "rgb is"),
        (Hint(3, 3, (0.5, 0, 0)), "rgb is"),
        (Hint(3, 3, (True, 0, 0)), "rgb is"),
        (Hint(3, 3, (1, 2)), "rgb is"),
        (Hint(3, 3, "red"), "rgb is 'red'"),
        (Hint(3, 3, "#12345"), "rgb is"),
        (Hint(3, 3, "#1234567"), "rgb is"),
        (Hint(3, 3, None), "rgb is None"),
        (Hint(3, 3, RED, 0), "radius is 0; it must be a number of pixels above 0"),
        (Hint(3, 3, RED, -1.0), "radius is -1.0"),
        (Hint(3, 3, RED, math.nan), "radius is nan"),
        (Hint.on_object(3, RED), "no object 3 in this photo; its 3 boxes are counted from 0"),
        (Hint.on_object(-1, RED), "no object -1"),
        (Hint.on_object(True, RED), "no object True"),
        (Hint.on_object(1, RED), "the box of object 1 has no pixel in the photo"),
        (Hint.on_object(2, RED), "the box of object 2 has no pixel in the photo"),
        (Hint(3, 3, RED, None, 0), "has a point and an object"),
    ],
)
def test_hints_that_cannot_be_placed(hint, message):
    boxes = np.array([[0, 0, 5, 5], [50, 0, 60, 10], [math.nan, 0, 60, 10]])
    with pytest.raises(HintError, match=rf"^cat\.jpg: hint 1: {message}"):
        place_hints([Hint(1, 1, RED), hint], PHOTO, boxes, "cat.jpg")


def test_a_photo_without_boxes_has_no_objects():
    with pytest.raises(HintError, match=r"^photo: hint 0: no object 0 in this photo; it has no boxes$"):
        place_hints([Hint.on_object(0, RED)], PHOTO)


def test_too_many_hints():
    with pytest.raises(HintError, match=r"^photo: 1001 hints; at most 1000"):
        place_hints([Hint(1, 1, RED)] * 1001, PHOTO)


@pytest.mark.parametrize(("convention", "empty"), [("reference", -0.5), ("siggraph17", 0.0)])
@pytest.mark.parametrize("xp", [np, jnp])
def test_network_channels(convention, empty, xp):
    found = canvas(Hint(20, 15, RED, 3))
    channels = network_hint_channels(Hints(xp.asarray(found.ab) + 0.25, xp.asarray(found.mask)), convention)
    assert isinstance(channels, type(xp.zeros(0)))
    assert channels.dtype == np.float32
    mask = found.mask[..., 0]
    np.testing.assert_allclose(channels[mask], [[*(ab(RED) + 0.25), empty + 1]] * mask.sum(), atol=1e-6)
    np.testing.assert_array_equal(channels[~mask], [[0, 0, empty]] * (~mask).sum())


@pytest.fixture
def file(tmp_path):
    return tmp_path / "hints.json"


class TestFile:
    CONTENT = '{"é.jpg": [{"x": 1, "y": 2.5, "rgb": [1, 2, 3]}, {"object": 4, "rgb": "#FF8000", "radius": 2}], "b": []}'

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
    def test_with_and_without_a_byte_order_mark(self, file, encoding):
        file.write_text(self.CONTENT, encoding=encoding)
        expected = (Hint(1, 2.5, [1, 2, 3]), Hint.on_object(4, "#FF8000", 2))
        assert read_hints(file) == {"é.jpg": PhotoHints(expected), "b": PhotoHints()}

    def test_a_session(self, file):
        file.write_text(
            '{"a": {"hints": [{"object": 0, "rgb": "#FF8000"}], "boxes": [[1, 2, 3.5, 4]], "vivid": 0.5}, "b": []}'
        )
        found = read_hints(file)["a"]
        assert found.hints == (Hint.on_object(0, "#FF8000"),)
        assert found.boxes.tolist() == [[1, 2, 3.5, 4]]
        assert found.vivid == 0.5
        file.write_text('{"a": {"vivid": 0}}')
        assert read_hints(file) == {"a": PhotoHints((), None, 0)}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", ": cannot read this JSON file: "),
            ("[]", ": not a hints file: it must be an object"),
            ("{'a': []}", ": cannot read this JSON file: "),
            ('{"a": [], "a": []}', ": cannot read this JSON file: 'a' is given twice"),
            ('{"a": {}}', ": 'a': {} is not a list of hints"),
            ('{"a": {"hint": []}}', ": 'a': no such field 'hint'; known: hints, boxes, vivid"),
            ('{"a": {"hints": {}}}', ": 'a': hints: {} is not a list of hints"),
            ('{"a": {"hints": [3]}}', ": 'a': hint 0: 3 is not an object"),
            ('{"a": {"boxes": {}}}', ": 'a': boxes: must be a list of at most 1000 boxes"),
            ('{"a": {"boxes": [[0, 0, 1]]}}', r": 'a': box 0 is \[0, 0, 1\]; it must be \[x0, y0, x1, y1\]"),
            ('{"a": {"boxes": [[0, 0, 1, 1], [3, 0, 2, 1]]}}', ": 'a': box 1 is"),
            ('{"a": {"boxes": [[0, 0, true, 1]]}}', ": 'a': box 0 is"),
            ('{"a": {"vivid": 1.5}}', ": 'a': vivid is 1.5; it must be from 0 to 1"),
            ('{"a": {"vivid": "1"}}', ": 'a': vivid is '1'"),
            ('{"a": [3]}', ": 'a': hint 0: 3 is not an object"),
            ('{"a": [{"x": 1, "y": 2}]}', ": 'a': hint 0: has no 'rgb'"),
            ('{"a": [{"x": 1, "rgb": "#000000"}]}', ": 'a': hint 0: must have 'x' and 'y', or 'object'"),
            ('{"a": [{"rgb": "#000000"}]}', "must have 'x' and 'y', or 'object'"),
            ('{"a": [{"x": 1, "y": 2, "object": 1, "rgb": "#000000"}]}', "must have 'x' and 'y', or 'object'"),
            ('{"a": [{"x": 1, "object": 1, "rgb": "#000000"}]}', "must have 'x' and 'y', or 'object'"),
            ('{"a": [{"x": 1, "y": 1, "rgb": "#0000"}]}', ": 'a': hint 0: rgb is '#0000'"),
            ('{"a": [{"x": 1, "y": 1, "rgb": [0, 0, 1e999]}]}', r"rgb is \[0, 0, inf\]"),
            ('{"a": [{"x": 1, "y": 1, "rgb": [0, 0, [0]]}]}', "rgb is"),
            ('{"a": [{"x": "1", "y": 1, "rgb": "#000000"}]}', "x is '1'; it must be a finite number"),
            ('{"a": [{"x": 1, "y": null, "rgb": "#000000"}]}', "y is None"),
            ('{"a": [{"x": NaN, "y": 1, "rgb": "#000000"}]}', "NaN is no JSON number"),
            ('{"a": [{"x": 1e999, "y": 1, "rgb": "#000000"}]}', "x is inf"),
            ('{"a": [{"x": 1, "y": 1, "rgb": "#000000", "radius": 0}]}', "radius is 0"),
            ('{"a": [{"x": 1, "y": 1, "rgb": "#000000", "radius": null}]}', "radius is None"),
            ('{"a": [{"object": 1.0, "rgb": "#000000"}]}', "object is 1.0"),
            ('{"a": [{"object": -1, "rgb": "#000000"}]}', "object is -1"),
            (
                '{"a": [{"x": 1, "y": 1, "rgb": "#000000"}, {"X": 1}]}',
                "hint 1: no such field 'X'; known: x, y, rgb, rad",
            ),
            ('{"a": [{"radios": 1}]}', "hint 0: no such field 'radios'; did you mean 'radius'?"),
            ('{"a": ' + "[" * 100_000, "nested too deep"),
            (f'{{"a": [{{"x": {"9" * 5000}}}]}}', "cannot read this JSON file: "),
            (json.dumps({"a": [{"x": 1, "y": 1, "rgb": "#000000"}] * 1001}), "'a': 1001 hints; at most 1000"),
        ],
    )
    def test_contents_that_are_refused(self, file, content, message):
        file.write_text(content)
        with pytest.raises(HintError, match=message.replace("?", r"\?")) as error:
            read_hints(file)
        assert str(error.value).startswith(f"{file}: ")
        assert len(str(error.value)) < 500
        assert "\n" not in str(error.value)

    def test_other_encodings(self, file):
        file.write_bytes(self.CONTENT.encode("utf-16"))
        with pytest.raises(HintError, match="cannot read this JSON file: 'utf-8' codec"):
            read_hints(file)

    def test_files_that_cannot_be_read(self, file, monkeypatch):
        with pytest.raises(HintError, match="cannot read this hints file: No such file"):
            read_hints(file)
        with pytest.raises(HintError, match="cannot read this hints file: Is a directory"):
            read_hints(file.parent)
        monkeypatch.setattr(hints, "MAX_FILE_BYTES", 1 << 20)
        file.write_bytes(b"{" + b" " * (1 << 20) + b"}")
        with pytest.raises(HintError, match="larger than 1 MiB"):
            read_hints(file)

    def test_a_pipe(self):
        """``--hints <(command)``."""
        read, write = os.pipe()
        os.write(write, b'{"a": []}')
        os.close(write)
        assert read_hints(Path(f"/dev/fd/{read}")) == {"a": PhotoHints()}
        os.close(read)


class TestMatching:
    PHOTOS = (Path("in/cat.jpg"), Path("in/dog.x.png"), Path("in/Caf\u00e9.jpg"), Path("in/dog"))
    ONE, TWO = PhotoHints((Hint(1, 1, RED),)), PhotoHints((Hint(2, 2, BLUE),))

    def test_by_name_or_stem(self):
        found = match_hints({"cat.jpg": self.ONE, "dog.x": self.TWO, "dog": PhotoHints()}, self.PHOTOS, "hints.json")
        assert found == {self.PHOTOS[0]: self.ONE, self.PHOTOS[1]: self.TWO, self.PHOTOS[3]: PhotoHints()}

    def test_names_in_another_form_of_unicode(self):
        name = unicodedata.normalize("NFD", "Caf\u00e9")
        assert match_hints({name: self.ONE}, self.PHOTOS, "h") == {self.PHOTOS[2]: self.ONE}

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (
                ("cat", "cet.jpg", "x"),
                r"2 of the 3 photos it names are not among the 4 to color; the first: 'cet\.jpg'; "
                r"did you mean 'cat\.jpg'\?$",
            ),
            (("in/cat.jpg",), "1 of the 1 photos"),
            (("cat", "cat.jpg"), r"'cat' and 'cat\.jpg' both name in/cat\.jpg; keep one"),
        ],
    )
    def test_names_that_are_refused(self, names, message):
        with pytest.raises(HintError, match=f"^h.json: {message}"):
            match_hints(dict.fromkeys(names, self.ONE), self.PHOTOS, "h.json")

    def test_two_photos_of_one_name(self):
        with pytest.raises(HintError, match=r"'a' may be x/a\.jpg or y/a\.png; rename one"):
            match_hints({"a": self.ONE}, [Path("x/a.jpg"), Path("y/a.png")], "h.json")

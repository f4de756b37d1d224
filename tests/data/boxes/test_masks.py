"""Annotated masks: COCO's forms of them, and the pixels that they cover."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcolor.data.boxes.masks import Masks, Polygons, RunLengths, draw, parse_segmentation
from jaxcolor.data.types import DataError

PICTURE = np.zeros((5, 7), bool)
PICTURE[1:4, 2:6] = True
PICTURE[2, 3] = False
COMPRESSED = ";32NO012004"
"""PICTURE as COCO's own code writes it (pycocotools 2.0)."""


def polygon(*points):
    return parse_segmentation("here", [[float(v) for point in points for v in point]])


def runs_of(picture):
    """Lengths of runs down the columns, found pixel by pixel."""
    counts, inside = [0], False
    for pixel in picture.T.ravel().tolist():
        if pixel != inside:
            counts.append(0)
            inside = pixel
        counts[-1] += 1
    return counts


class TestRuns:
    def test_list_and_compressed_text(self):
        for counts in (runs_of(PICTURE), COMPRESSED):
            mask = parse_segmentation("here", {"size": [5, 7], "counts": counts})
            np.testing.assert_array_equal(draw(mask, (7, 5)), PICTURE)

    def test_compressed_differences_may_be_negative_and_long(self):
        """Texts as COCO's own code writes them."""
        small = np.zeros((6, 9), bool)
        small[1:6, 1] = small[2, 3] = small[:, 5] = small[:, 7] = True
        small[3, 7] = False
        large = np.zeros((40, 60), bool)
        large[3:36, 5:7] = large[:, 30] = True
        large[20, 9] = True
        large[1:3, 50] = True
        for picture, text in ((small, "758L15MMKO5"), (large, "[6Q170Q3PO[f0W1VNjNdD")):
            height, width = picture.shape
            mask = parse_segmentation("here", {"size": [height, width], "counts": text})
            np.testing.assert_array_equal(draw(mask, (width, height)), picture)

    def test_empty_and_full(self):
        for counts, value in (([12], False), ([0, 12], True)):
            mask = parse_segmentation("here", {"size": [3, 4], "counts": counts})
            assert (draw(mask, (4, 3)) == value).all()

    def test_another_photo(self):
        mask = parse_segmentation("here", {"size": [5, 7], "counts": COMPRESSED})
        with pytest.raises(ValueError, match="a mask of 7 x 5 pixels for a photo of 5 x 7"):
            draw(mask, (5, 7))

    @settings(deadline=None, max_examples=50)
    @given(seed=st.integers(0, 999), height=st.integers(1, 9), width=st.integers(1, 9))
    def test_any_picture(self, seed, height, width):
        picture = np.random.default_rng(seed).random((height, width)) < 0.5
        mask = parse_segmentation("here", {"size": [height, width], "counts": runs_of(picture)})
        np.testing.assert_array_equal(draw(mask, (width, height)), picture)


class TestPolygons:
    def test_centres_decide(self):
        """Whole pixels exactly; of others those whose centre is inside."""
        covered = draw(polygon((2, 1), (6, 1), (6, 4), (2, 4)), (8, 5))
        expected = np.zeros((5, 8), bool)
        expected[1:4, 2:6] = True
        np.testing.assert_array_equal(covered, expected)
        np.testing.assert_array_equal(draw(polygon((1.6, 0.7), (6.4, 0.7), (6.4, 4.4), (1.6, 4.4)), (8, 5)), expected)
        assert not draw(polygon((1.6, 1), (2.4, 1), (2, 1.4)), (8, 5)).any()

    def test_a_hole_of_its_own_edge_and_several_polygons(self):
        ring = polygon((0, 0), (6, 0), (6, 6), (0, 6), (0, 0), (2, 2), (4, 2), (4, 4), (2, 4), (2, 2))
        expected = np.ones((6, 6), bool)
        expected[2:4, 2:4] = False
        np.testing.assert_array_equal(draw(ring, (6, 6)), expected)
        both = parse_segmentation("here", [[0, 0, 3, 0, 3, 6, 0, 6], [1, 0, 6, 0, 6, 3, 1, 3]])
        union = np.zeros((6, 6), bool)
        union[:, :3] = union[:3] = True
        np.testing.assert_array_equal(draw(both, (6, 6)), union)

    def test_outside_of_the_photo(self):
        covered = draw(polygon((-9, -9), (99, -9), (99, 2), (-9, 2)), (4, 5))
        np.testing.assert_array_equal(covered, np.arange(5)[:, None].repeat(4, 1) < 2)

    @settings(deadline=None, max_examples=60)
    @given(seed=st.integers(0, 9999), corners=st.integers(3, 7), size=st.tuples(st.integers(1, 14), st.integers(1, 14)))
    def test_any_polygon(self, seed, corners, size):
        """Against rays counted one by one; mirrored and shifted it covers the mirrored and shifted pixels."""
        width, height = size
        points = np.random.default_rng(seed).uniform(0, 1, (corners, 2)).astype(np.float32) * [width, height]
        covered = draw(polygon(*points.tolist()), size)
        assert covered.shape == (height, width)
        ring = np.asarray(points, np.float32).astype(float).tolist()
        for y, x in np.ndindex(height, width):
            crossed = 0
            for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
                if (y0 <= y + 0.5) != (y1 <= y + 0.5):
                    crossed += x0 + (y + 0.5 - y0) * (x1 - x0) / (y1 - y0) <= x + 0.5
            assert covered[y, x] == crossed % 2
        mirrored = draw(polygon(*([width - x, y] for x, y in points.tolist())), size)
        assert (mirrored != covered[:, ::-1]).sum() <= 1  # a centre on an edge, rounded
        shifted = draw(polygon(*([x + 2, y + 1] for x, y in points.tolist())), (width + 2, height + 1))
        assert (shifted[1:, 2:] != covered).sum() <= 1
        assert not shifted[0].any()
        assert not shifted[:, :2].any()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "no mask: 'segmentation' is absent"),
        ([], "no mask: 'segmentation' is empty"),
        ("text", "no mask"),
        ([[1, 2, 3, 4]], "a polygon is x, y of at least three points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "a polygon is"),
        ([[1, 2, 3, 4, 5, float("nan")]], "a polygon is"),
        ([[1, 2, 3, 4, 5, 10**400]], "a polygon is"),
        ([[1, 2, 3, 4, 5, "6"]], "a polygon is"),
        ([[1, 2, 3, 4, 5, True]], "a polygon is"),
        ([{"x": 1}], "a polygon is"),
        ({}, "'size' of its runs"),
        ({"size": [5], "counts": [5]}, "'size' of its runs"),
        ({"size": [0, 5], "counts": [0]}, "'size' of its runs"),
        ({"size": [2.0, 5], "counts": [10]}, "'size' of its runs"),
        ({"size": [2, 5], "counts": None}, "'counts' are lengths"),
        ({"size": [2, 5], "counts": [-1, 11]}, "'counts' are lengths"),
        ({"size": [2, 5], "counts": [5.0, 5]}, "'counts' are lengths"),
        ({"size": [2, 5], "counts": [5, 4]}, "its runs have 9 pixels, 5 x 2 are 10"),
        ({"size": [5, 7], "counts": COMPRESSED[:-1]}, "its runs have"),
        ({"size": [5, 7], "counts": COMPRESSED + "P"}, "'counts' are lengths"),  # more was to come
        ({"size": [5, 7], "counts": "é" + COMPRESSED}, "'counts' are lengths"),
        ({"size": [5, 7], "counts": "o" * 99}, "'counts' are lengths"),
        ({"size": [5, 7], "counts": "\x00"}, "'counts' are lengths"),
    ],
)
def test_wrong_masks(value, message):
    with pytest.raises(DataError, match=f"here: .*{message}") as caught:
        parse_segmentation("here", value)
    assert "\n" not in str(caught.value)


def test_many_in_one():
    runs = RunLengths((2, 1), np.array([0, 2]))
    several = [polygon((0, 0), (4, 0), (4, 4)), runs, parse_segmentation("h", [[0, 0, 1, 0, 1, 1], [2, 2, 4, 2, 4, 4]])]
    masks = pickle.loads(pickle.dumps(Masks(several)))
    assert len(masks) == 3
    for number, mask in enumerate(several):
        found = masks[number]
        assert type(found) is type(mask)
        if isinstance(mask, Polygons):
            np.testing.assert_array_equal(draw(found, (4, 4)), draw(mask, (4, 4)))
    assert masks[1].size == (2, 1)
    assert len(Masks([])) == 0

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from jaxcolor.boxes import (
    CropContext,
    DroppedBoxes,
    best_scores,
    choose,
    clean_boxes,
    crop_boxes,
    level_boxes,
    mirror_boxes,
    shared_windows,
)

GOLDEN = Path(__file__).parent / "goldens" / "boxes.npz"


@st.composite
def photos_with_boxes(draw, max_side=500):
    """A photo's size and cleaned boxes in it."""
    width, height = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    rows = []
    for _ in range(draw(st.integers(0, 6))):
        x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        rows.append([x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))])
    return (width, height), np.array(rows, np.int32).reshape(-1, 4)


def reference(box, photo_size, side):
    """The rule of the reference code, spelled out for one box and level."""
    starts, sizes = [], []
    for axis in (0, 1):
        start = int(box[axis] / photo_size[axis] * side)
        end = int(box[axis + 2] / photo_size[axis] * side)
        if end - start < 1:
            if side - end > 1:
                end += 1
            else:
                start -= 1
            sizes.append(1)
        else:
            sizes.append(end - start)
        starts.append(start)
    return [*starts, *sizes]


class TestLevelBoxes:
    def test_golden_of_the_reference(self):
        with np.load(GOLDEN) as golden:
            table, columns = golden["table"], golden["columns"].tolist()
        assert len(table) == 400
        rows = [dict(zip(columns, map(int, row), strict=True)) for row in table]
        assert sum(r["x0"] == r["x1"] or r["y0"] == r["y1"] for r in rows) == 8
        for r in rows:
            box = np.array([[r["x0"], r["y0"], r["x1"], r["y1"]]], np.int32)
            side = r["level_size"]
            x0, y0, width, height = level_boxes(box, (r["width"], r["height"]), side, levels=1)[0, 0].tolist()
            padding = (x0, side - x0 - width, y0, side - y0 - height, width, height)
            assert padding == tuple(r[c] for c in ("L_pad", "R_pad", "T_pad", "B_pad", "box_width", "box_height")), r

    @given(photos_with_boxes(), st.sampled_from([16, 24, 64, 176, 256]))
    def test_every_level_equals_the_rule_for_one(self, photo, side):
        size, boxes = photo
        got = level_boxes(boxes, size, side)
        assert got.dtype == np.int32
        wanted = [[reference(box, size, side // 2**level) for level in range(4)] for box in boxes.tolist()]
        np.testing.assert_array_equal(got, np.array(wanted, np.int32).reshape(-1, 4, 4))

    @given(photos_with_boxes(), st.sampled_from([8, 16, 40, 64, 256]))
    def test_lies_on_the_grid_and_has_a_size(self, photo, side):
        size, boxes = photo
        got = level_boxes(boxes, size, side)
        sides = np.array([side, side // 2, side // 4, side // 8])[:, None]
        assert (got[..., 2:] >= 1).all()
        assert (got[..., :2] >= 0).all()
        assert (got[..., :2] + got[..., 2:] <= sides).all()

    def test_order_of_operations_counts(self):
        # Exact arithmetic, or x * side / width, would give another cell in these cases.
        cases = [(x, w) for w in range(1, 200) for x in range(w) if int(x / w * 88) != x * 88 // w]
        assert cases
        for x, width in cases:
            got = level_boxes(np.array([[x, 0, width, 1]], np.int32), (width, 1), 88)
            assert got[0, 0, 0] == int(x / width * 88)

    def test_grid_of_one_cell(self):
        assert level_boxes(np.array([[0, 0, 3, 3]], np.int32), (9, 9), 8)[0, 3].tolist() == [0, 0, 1, 1]

    def test_no_boxes(self):
        assert level_boxes(np.zeros((0, 4), np.int32), (10, 10), 64).shape == (0, 4, 4)

    def test_bad_sizes(self):
        with pytest.raises(ValueError, match="0 x 5 pixels"):
            level_boxes(np.zeros((0, 4), np.int32), (0, 5), 64)
        with pytest.raises(ValueError, match="side 4 has no 4 levels"):
            level_boxes(np.zeros((0, 4), np.int32), (5, 5), 4)


class TestCleaning:
    def test_reasons_in_their_order(self):
        nan, inf = np.nan, np.inf
        boxes = np.array(
            [
                [1.9, 2.9, 5.9, 6.9],  # kept, truncated
                [nan, 0, 5, 5],
                [0, 0, inf, 5],
                [5, 5, 2, 9],  # inverted
                [-9, 0, -1, 5],  # outside
                [11, 0, 15, 5],  # outside
                [-3, -3, 4, 4],  # kept, clipped
                [2.1, 0, 2.9, 5],  # no width after truncation
                [3, 4, 8, 4],  # no height
                [0, 0, 5, 5],  # score NaN
                [8, 6, 99, 99],  # kept, clipped
            ],
            np.float32,
        )
        scores = np.ones(len(boxes), np.float32)
        scores[9] = nan
        clean = clean_boxes(boxes, scores, (10, 8))
        assert clean.boxes.tolist() == [[1, 2, 5, 6], [0, 0, 4, 4], [8, 6, 10, 8]]
        assert clean.boxes.dtype == np.int32
        assert clean.kept.tolist() == [0, 6, 10]
        assert clean.dropped == DroppedBoxes(not_finite=3, inverted=1, outside=2, no_size=2)
        assert str(clean.dropped) == "3 not finite, 1 inverted, 2 outside, 2 no size"
        assert clean.dropped.total == 8

    def test_touching_the_border_from_outside_has_no_size(self):
        assert clean_boxes(np.array([[10.0, 0, 12, 5]]), None, (10, 8)).dropped == DroppedBoxes(no_size=1)

    @given(
        npst.arrays(np.float32, st.tuples(st.integers(0, 8), st.just(4)), elements=st.floats(width=32)),
        st.tuples(st.integers(1, 300), st.integers(1, 300)),
    )
    def test_every_box_is_kept_or_counted_and_can_be_cut(self, boxes, size):
        clean = clean_boxes(boxes, None, size)
        assert len(clean.boxes) + clean.dropped.total == len(boxes)
        x0, y0, x1, y1 = clean.boxes.T
        assert (x0 >= 0).all()
        assert (y0 >= 0).all()
        assert (x0 < x1).all()
        assert (y0 < y1).all()
        assert (x1 <= size[0]).all()
        assert (y1 <= size[1]).all()

    @given(photos_with_boxes())
    def test_clean_boxes_stay(self, photo):
        size, boxes = photo
        clean = clean_boxes(boxes.astype(np.float32), np.ones(len(boxes), np.float32), size)
        np.testing.assert_array_equal(clean.boxes, boxes)
        assert clean.dropped.total == 0

    def test_counts_add_up(self):
        assert DroppedBoxes(1, 2, 3, 4) + DroppedBoxes(1, 1, 1, 1) == DroppedBoxes(2, 3, 4, 5)
        assert str(DroppedBoxes()) == "none"
        with pytest.raises(TypeError):
            DroppedBoxes() + 1

    def test_photo_without_size(self):
        with pytest.raises(ValueError, match="3 x 0"):
            clean_boxes(np.zeros((0, 4)), None, (3, 0))


class TestChoice:
    scores = np.array([0.5, 0.9, 0.5, 0.7, 0.9], np.float32)

    def test_top_k_is_stable(self):
        assert choose("top_k", self.scores, k=4).tolist() == [1, 4, 3, 0]
        assert choose("top_k", self.scores, k=9).tolist() == [1, 4, 3, 0, 2]
        assert best_scores(self.scores, 1).tolist() == [1]

    def test_threshold_includes_its_value(self):
        assert choose("threshold", self.scores, threshold=float(np.float32(0.7))).tolist() == [1, 3, 4]

    @pytest.mark.parametrize("choice", ["all", "ground_truth"])
    def test_all(self, choice):
        assert choose(choice, self.scores, k=1).tolist() == [0, 1, 2, 3, 4]

    def test_random_k(self):
        picks = [choose("random_k", self.scores, k=2, rng=np.random.default_rng(s)).tolist() for s in range(200)]
        assert all(len(set(p)) == 2 and p == sorted(p) for p in picks)
        counts = np.bincount(np.ravel(picks), minlength=5)
        assert (np.abs(counts - 80) < 5 * np.sqrt(80)).all()
        assert picks[3] == choose("random_k", self.scores, k=2, rng=np.random.default_rng(3)).tolist()

    @pytest.mark.parametrize("choice", ["top_k", "random_k", "threshold", "all", "ground_truth"])
    def test_of_none(self, choice):
        rows = choose(choice, np.zeros(0, np.float32), rng=np.random.default_rng(0))
        assert rows.shape == (0,)

    def test_random_k_without_generator(self):
        with pytest.raises(ValueError, match="random generator"):
            choose("random_k", self.scores)


def test_choices_are_those_of_the_config():
    from typing import get_args, get_type_hints

    from jaxcolor.boxes import BoxChoice
    from jaxcolor.config import DataConfig

    assert "box_choice" in {f.name for f in dataclasses.fields(DataConfig)}
    assert get_args(get_type_hints(DataConfig)["box_choice"]) == get_args(BoxChoice)


@given(photos_with_boxes())
def test_mirroring_twice_changes_nothing(photo):
    (width, _), boxes = photo
    once = mirror_boxes(boxes, width)
    assert (once[:, 0] >= 0).all()
    assert (once[:, 2] <= width).all()
    np.testing.assert_array_equal(mirror_boxes(once, width), boxes)


class TestCropsWithContext:
    @given(photos_with_boxes())
    def test_without_context_crops_are_the_boxes(self, photo):
        size, boxes = photo
        np.testing.assert_array_equal(crop_boxes(boxes, size, CropContext()), boxes)

    @given(photos_with_boxes(), st.floats(0, 4), st.floats(0, 1))
    def test_they_hold_their_boxes_and_lie_in_the_photo(self, photo, share, least):
        size, boxes = photo
        crops = crop_boxes(boxes, size, CropContext(share, least))
        # A border that is no whole pixel is rounded, at both ends alike.
        assert (crops[:, :2] <= boxes[:, :2]).all()
        assert (crops[:, 2:] >= boxes[:, 2:]).all()
        assert (crops[:, :2] >= 0).all()
        assert (crops[:, 2:] <= size).all()
        wanted = np.minimum(size, np.maximum((boxes[:, 2:] - boxes[:, :2]) * (1 + share), np.array(size) * least))
        assert (np.abs(crops[:, 2:] - crops[:, :2] - wanted) <= 1).all()

    def test_they_are_centered_and_moved_at_the_photos_border(self):
        boxes = np.array([[40, 40, 60, 50], [0, 0, 10, 10], [95, 90, 100, 100]], np.int32)
        crops = crop_boxes(boxes, (100, 100), CropContext(1.0, 0.25))
        np.testing.assert_array_equal(crops, [[30, 33, 70, 58], [0, 0, 25, 25], [75, 75, 100, 100]])


class TestSharedWindows:
    CONTEXT = CropContext(1.0, 0.35)

    @given(photos_with_boxes())
    def test_each_box_is_shown_with_surroundings_at_nearly_its_own_scale(self, photo):
        size, boxes = photo
        windows, window_of = shared_windows(boxes, size, self.CONTEXT)
        assert set(window_of.tolist()) == set(range(len(windows)))
        first = [window_of.tolist().index(i) for i in range(len(windows))]
        assert first == sorted(first)
        assert (windows[:, :2] >= 0).all()
        assert (windows[:, 2:] <= size).all()
        shown, own = windows[window_of], crop_boxes(boxes, size, self.CONTEXT)
        needed = crop_boxes(boxes, size, CropContext(0.5))
        assert (shown[:, :2] <= needed[:, :2] + 1).all()
        assert (shown[:, 2:] >= needed[:, 2:] - 1).all()
        area, least = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (shown, own))
        assert (area <= 1.15**2 * least + 1).all()

    def test_neighbors_share_one_and_others_keep_their_own(self):
        boxes = np.array([[300, 200, 340, 240], [10, 10, 40, 40], [360, 230, 400, 250], [0, 0, 640, 480]], np.int32)
        windows, window_of = shared_windows(boxes, (640, 480), self.CONTEXT)
        assert window_of.tolist() == [0, 1, 0, 2]
        assert windows.tolist() == [[208, 136, 432, 304], [0, 0, 224, 168], [0, 0, 640, 480]]

    def test_tight_crops_are_shared_by_boxes_that_are_nearly_the_same(self):
        boxes = np.array([[10, 10, 90, 90], [10, 10, 88, 90], [40, 40, 60, 60]], np.int32)
        windows, window_of = shared_windows(boxes, (100, 100), CropContext())
        assert windows.tolist() == [[10, 10, 90, 90], [40, 40, 60, 60]]
        assert window_of.tolist() == [0, 0, 1]

from __future__ import annotations

import numpy as np
import pytest

from jaxcolor.data.types import Boxes, no_boxes
from jaxcolor.evaluation.detection import average_precision, match, scores_of


def boxes(*rows: tuple[float, ...]) -> Boxes:
    """x0, y0, x1, y1, score each."""
    array = np.array(rows, np.float32).reshape(-1, 5)
    return Boxes(array[:, :4], array[:, 4])


def test_average_precision_by_hand() -> None:
    # Right, wrong, right of three objects: precision 1 to recall 1/3, then 2/3 to recall 2/3, then none.
    right = np.array([True, False, True])
    expected = (34 * 1 + 33 * 2 / 3) / 101  # recalls 0.00 to 0.33 are 34 of the 101, 0.34 to 0.66 are 33
    assert average_precision(np.array([0.9, 0.8, 0.7]), right, 3) == pytest.approx(expected)
    assert average_precision(np.array([0.7, 0.8, 0.9]), right[::-1], 3) == pytest.approx(expected)


def test_average_precision_at_its_ends() -> None:
    assert average_precision(np.array([0.5]), np.array([True]), 1) == 1
    assert average_precision(np.zeros(0), np.zeros(0, bool), 2) == 0
    assert np.isnan(average_precision(np.array([0.5]), np.array([False]), 0))


def test_each_object_is_found_once_by_the_best_score() -> None:
    truth = [np.array([[0, 0, 10, 10]])]
    found = match([boxes((0, 0, 10, 9, 0.5), (0, 0, 10, 10, 0.4), (50, 50, 60, 60, 0.9))], truth)
    np.testing.assert_allclose(found.scores, [0.9, 0.5, 0.4])
    assert found.right[0].tolist() == [False, True, False]  # the better box came second
    # IoU 0.9 is not enough for 0.95: there the exact one has it.
    assert found.right[-1].tolist() == [False, False, True]
    assert found.found.tolist() == [[True]] * 10


def test_a_detection_takes_the_object_that_it_overlaps_most() -> None:
    truth = [np.array([[0, 0, 10, 10], [2, 0, 12, 10]])]
    found = match([boxes((2, 0, 12, 10, 0.9), (0, 0, 10, 10, 0.8))], truth)
    assert found.right.all()
    first_only = match([boxes((2, 0, 12, 10, 0.9))], truth)
    assert first_only.found[0].tolist() == [False, True]


def test_scores_by_size_over_photos() -> None:
    truth = [np.array([[0, 0, 20, 20], [100, 100, 200, 200]]), np.zeros((0, 4)), np.array([[0, 0, 32, 128]])]
    found = scores_of(
        match([boxes((0, 0, 20, 20, 0.9)), boxes((0, 0, 5, 5, 0.95)), boxes((0, 0, 32, 100, 0.3))], truth)
    )
    assert found.objects == {"all": 3, "below 32": 1, "32 to 64": 0, "above 64": 2}  # sqrt(32 * 128) is 64
    assert found.recall["all"] == pytest.approx(2 / 3)
    assert found.recall["below 32"] == 1
    assert np.isnan(found.recall["32 to 64"])
    assert found.recall["above 64"] == 0.5
    # Wrong, right, right: precision at best 2/3 to recall 2/3, 67 of 101 recalls.
    assert found.average_precision_50 == pytest.approx(67 * 2 / 3 / 101)
    # IoU of the last is 100/128: right up to 0.75; beyond only the first photo's, precision 1/2 to recall 1/3.
    assert found.average_precision == pytest.approx((6 * 67 * 2 / 3 + 4 * 34 / 2) / 101 / 10)
    assert (found.photos, found.detections) == (3, 3)


def test_only_the_best_count() -> None:
    many = boxes((0, 0, 10, 10, 0.1), *[(50, 50, 60, 60, 0.5)] * 3)
    assert match([many], [np.array([[0, 0, 10, 10]])], most=4).found.all()
    assert not match([many], [np.array([[0, 0, 10, 10]])], most=3).found.any()


def test_nothing_found_and_nothing_there() -> None:
    found = scores_of(match([no_boxes(), no_boxes()], [np.zeros((0, 4)), np.array([[0, 0, 9, 9]])]))
    assert found.recall["all"] == 0
    assert found.average_precision == 0
    with pytest.raises(ValueError, match="1 photos with detections, 0 with annotated boxes"):
        match([no_boxes()], [])

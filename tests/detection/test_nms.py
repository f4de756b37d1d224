import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcolor.detection.model_file import nms


def overlap(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union else 0.0


def literal(boxes, scores, classes, most):
    """The algorithm as it is told in words, box by box."""
    kept = []
    for row in sorted(range(len(boxes)), key=lambda row: (-scores[row], row)):
        if all(classes[row] != classes[other] or overlap(boxes[row], boxes[other]) <= most for other in kept):
            kept.append(row)
    return kept


corner = st.integers(0, 12)
side = st.integers(0, 8)
found = st.lists(st.tuples(corner, corner, side, side, st.integers(0, 5), st.integers(0, 2)), max_size=12)


@settings(deadline=None, max_examples=300)
@given(found=found, most=st.sampled_from([0.0, 0.2, 0.45, 0.5, 0.7, 1.0]))
def test_is_the_literal_one(found, most):
    rows = np.array(found, np.float64).reshape(-1, 6)
    boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
    scores, classes = rows[:, 4] / 5, rows[:, 5].astype(np.int64)
    assert nms(boxes, scores, classes, most).tolist() == literal(boxes, scores, classes, most)


def test_far_classes_and_coordinates():
    # By offsets of class times size these coordinates would lose their digits.
    boxes = np.array([[0, 0, 1e-3, 1e-3], [0, 0, 1e-3, 1e-3], [1e6, 0, 1e6 + 1, 1]])
    assert nms(boxes, np.array([0.5, 0.9, 0.7]), np.array([10**9, 10**9, 0]), 0.5).tolist() == [1, 2]


@pytest.mark.parametrize("most", [0.3, 0.7])
def test_thousands(most):
    rng = np.random.default_rng(0)
    corners = rng.random((3000, 2)) * 600
    boxes = np.concatenate([corners, corners + 20 + rng.random((3000, 2)) * 60], axis=1)
    scores, classes = rng.random(3000), rng.integers(0, 80, 3000)
    kept = nms(boxes, scores, classes, most)
    assert (np.diff(scores[kept]) <= 0).all()
    assert 100 < len(kept) < 3000

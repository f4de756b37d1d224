"""Which boxes an evaluation measures: annotated ones or those in use, whatever the crops show around them."""

import numpy as np
import pytest
from PIL import Image

from jaxcolor.boxes import level_boxes
from jaxcolor.data.collate import collate
from jaxcolor.data.eval_targets import EvalSize, boxes_of_crops, make_target, stack
from jaxcolor.data.types import Example, Photo

SIDE = 16


def photo(truth: np.ndarray | None = None, size: tuple[int, int] = (32, 64)) -> Photo:
    none = np.zeros((0, 4), np.float32)
    return Photo("p", Image.new("RGB", size), none, np.zeros(0, np.float32), truth)


def example(windows: list[list[int]], scores: list[float]) -> Example:
    """Crops of these windows, x0, y0, x1, y1 on the canvas."""
    cells = level_boxes(np.array(windows, np.int32).reshape(-1, 4), (SIDE, SIDE), SIDE)
    crops = np.zeros((len(windows), SIDE, SIDE, 3), np.uint8)
    return Example(np.zeros((SIDE, SIDE, 3), np.uint8), crops, cells, np.array(scores, np.float32))


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        # 32 x 64 pixels: 8 to 20 of 32 are 4 to 10 of 16, 3 to 30 of 64 are 0 to 7.
        (EvalSize(SIDE, False), [[4, 0, 6, 7]]),
        # From the canvas outwards to the photo's own size.
        (EvalSize(64, True), [[8, 0, 12, 28]]),
    ],
)
def test_boxes_in_use_are_those_on_the_canvas(at: EvalSize, expected: list[list[int]]) -> None:
    used = np.array([[8, 3, 20, 30]], np.int32)
    found = make_target(photo(), used, SIDE, at)
    assert found.used.tolist() == expected
    assert not found.annotated
    assert found.objects.shape == (0, 4)
    none = make_target(photo(), used[:0], SIDE, at)
    assert none.used.shape == (0, 4)


def test_annotated_boxes_are_measured_even_if_there_are_none() -> None:
    used, at = np.array([[8, 3, 20, 30]], np.int32), EvalSize(SIDE, False)
    truth = np.array([[0, 0, 32, 32]], np.float32)
    photos = [make_target(photo(t), used, SIDE, at) for t in (truth, truth[:0], None)]
    examples = [example([[4, 0, 10, 7]], [1])] * 3
    batch, _, _ = collate([*examples, None], device_count=2, capacity=2, side=SIDE, with_full=True)
    found = stack([*photos, None], at, batch, [*examples, None], 2)
    assert found.annotated.tolist() == [True, True, False, False]
    assert [boxes.tolist() for boxes in found.measured] == [[[0, 0, 16, 8]], [], [[4, 0, 6, 7]], []]
    assert found.crop_boxes.tolist() == [[4, 0, 6, 7], [4, 0, 6, 7], [4, 0, 6, 7], [0, 0, 0, 0]]


@pytest.mark.parametrize("device_count", [1, 2])
def test_a_crop_keeps_its_box_whatever_it_shows_and_whichever_are_dropped(device_count: int) -> None:
    """Crops show more than their boxes; the first photo loses one, and two of its crops show the same."""
    windows = [[[0, 0, 8, 8], [0, 0, 8, 8], [4, 4, 16, 16]], [[2, 2, 9, 9]]]
    examples = [example(windows[0], [0.9, 0.8, 0.1]), example(windows[1], [0.5])]
    capacity = 4 // device_count if device_count == 2 else 3
    batch, dropped, _ = collate(examples, device_count=device_count, capacity=capacity, side=SIDE, with_full=True)
    assert dropped == 1
    used = [np.array([[1, 1, 3, 3], [2, 2, 4, 4], [9, 9, 2, 2]], np.int32), np.array([[4, 4, 2, 2]], np.int32)]
    found = boxes_of_crops(batch, examples, used, device_count)
    assert found.tolist() == [[1, 1, 3, 3], [2, 2, 4, 4], [4, 4, 2, 2], [0, 0, 0, 0]][: len(found)]

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcolor.data.collate import collate, crops_per_device, photos_per_device
from jaxcolor.data.types import DataError, Example

SIDE = 8


def made_up(photo, scores):
    """A photo whose crops can be told apart: crop i of photo p is filled with 16 p + i + 1."""
    count = len(scores)
    marks = (16 * photo + np.arange(count) + 1).astype(np.uint8)
    return Example(
        np.full((SIDE, SIDE, 3), photo + 1, np.uint8),
        np.broadcast_to(marks[:, None, None, None], (count, SIDE, SIDE, 3)).copy(),
        np.broadcast_to(marks[:, None, None], (count, 4, 4)).astype(np.int32),
        np.array(scores, np.float32),
    )


def unpack(batch, device_count):
    """Marks of the crops of every photo of the batch, in order."""
    photos = len(batch.is_real) // device_count
    marks = [[] for _ in batch.is_real]
    for device, (crops, index, boxes) in enumerate(
        zip(*(np.split(x, device_count) for x in (batch.crop_rgb, batch.crop_to_image, batch.level_boxes)), strict=True)
    ):
        for crop, owner, place in zip(crops, index, boxes, strict=True):
            if owner < 0:
                assert owner == -1
                assert not crop.any()
                assert not place.any()
                continue
            assert 0 <= owner < photos
            assert (place == crop[0, 0, 0]).all()
            assert (crop == crop[0, 0, 0]).all()
            marks[device * photos + owner].append(int(crop[0, 0, 0]))
    return marks


@given(
    st.sampled_from([1, 2, 4]),
    st.integers(1, 3),
    st.integers(1, 9),
    st.data(),
)
def test_packing_keeps_the_best_of_each_device(device_count, per_device, capacity, data):
    count = device_count * per_device
    score_lists = data.draw(
        st.lists(
            st.one_of(st.none(), st.lists(st.sampled_from([0.1, 0.5, 0.9]), max_size=6)),
            min_size=count,
            max_size=count,
        )
    )
    examples = [None if s is None else made_up(p, s) for p, s in enumerate(score_lists)]
    batch, dropped, _ = collate(examples, device_count=device_count, capacity=capacity, side=SIDE, with_full=True)
    assert batch.crop_rgb.shape == (device_count * capacity, SIDE, SIDE, 3)
    assert batch.is_real.tolist() == [e is not None for e in examples]
    assert batch.full_rgb[:, 0, 0, 0].tolist() == [0 if e is None else p + 1 for p, e in enumerate(examples)]

    wanted = [[] for _ in examples]
    lost = 0
    for device in range(device_count):
        photos = range(device * per_device, (device + 1) * per_device)
        crops = [(-s, i, p) for p in photos for i, s in enumerate(score_lists[p] or [])]
        for _, i, p in sorted(crops)[:capacity]:
            wanted[p].append(16 * p + i + 1)
        lost += max(0, len(crops) - capacity)
    assert unpack(batch, device_count) == [sorted(w) for w in wanted]
    assert dropped == lost


def test_boxes_of_one_score_are_dropped_evenly():
    # Annotated boxes all have score 1. Stage fusion leaves out photos without a crop, so none may lose all of its own.
    examples = [made_up(p, [1.0] * count) for p, count in enumerate([9, 2, 6, 1])]
    batch, dropped, _ = collate(examples, device_count=1, capacity=10, side=SIDE, with_full=True)
    assert dropped == 8
    assert unpack(batch, 1) == [[1, 2, 3, 4], [17, 18], [33, 34, 35], [49]]


def test_without_crops_or_full_pictures():
    batch, dropped, _ = collate([made_up(0, []), None], device_count=2, capacity=0, side=SIDE, with_full=False)
    assert [len(x) for x in batch] == [0, 0, 0, 0, 2, 0, 0]
    assert batch.level_boxes.shape == (0, 4, 4)
    assert [x.dtype for x in batch[:6]] == [np.uint8, np.uint8, np.int32, np.int32, bool, bool]
    assert dropped == 0


def test_numbers():
    assert photos_per_device(16, 4) == 4
    assert crops_per_device(16, 3.0) == 48
    assert crops_per_device(3, 1.5) == 5
    assert crops_per_device(30, 0.1) == 3
    assert crops_per_device(1, 0.01) == 1
    with pytest.raises(DataError, match="10 photos do not divide evenly among 4 devices; 8 or 12 would"):
        photos_per_device(10, 4)
    with pytest.raises(DataError, match="0 photos do not divide evenly among 8 devices; 8 or 16 would"):
        photos_per_device(0, 8)
    with pytest.raises(DataError, match="0 devices"):
        photos_per_device(4, 0)
    for budget in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(DataError, match="max_crops_per_image"):
            crops_per_device(4, budget)

"""Crops of several sides: which side a box is seen at, the places of each, and what the loader makes of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jaxcolor.batch import split_by_side
from jaxcolor.boxes import CropContext, crop_boxes, crop_sides
from jaxcolor.config import Config, ConfigError, DataConfig
from jaxcolor.config_io import from_dict
from jaxcolor.data.collate import CropPlaces, collate, crop_places
from jaxcolor.data.loader import eval_batches, train_batches
from jaxcolor.data.transforms import example
from jaxcolor.data.types import DataError, Example, Photo

SIDES = (8, 16, 32)
SIZES = ((8, 8), (9, 7), (9, 8), (16, 16), (4, 64), (17, 16), (32, 32), (60, 40), (1, 1))
"""Width and height of boxes, and below the sides they are seen at."""
SEEN_AT = (8, 8, 16, 16, 16, 32, 32, 32, 8)


def boxes_of(sizes):
    return np.array([[1, 2, 1 + width, 2 + height] for width, height in sizes], np.int32).reshape(-1, 4)


def test_a_box_is_seen_at_the_smallest_side_that_holds_its_pixels():
    assert crop_sides(boxes_of(SIZES), SIDES).tolist() == list(SEEN_AT)
    assert crop_sides(boxes_of(SIZES), (32,)).tolist() == [32] * len(SIZES)
    assert crop_sides(boxes_of(()), SIDES).shape == (0,)
    huge = np.array([[0, 0, 200_000, 200_000]], np.int32)  # more pixels than 32 bits count
    assert crop_sides(huge, SIDES).tolist() == [32]


@given(st.integers(0, 99), st.lists(st.floats(0.01, 10), min_size=1, max_size=3))
def test_places_sum_to_the_capacity_and_follow_the_shares(capacity, shares):
    config = DataConfig(crop_sides=SIDES[: len(shares)], crop_shares=tuple(shares))
    places = crop_places(capacity, config, 32)
    assert sum(of.places for of in places) == capacity
    sides = [of.side for of in places]
    assert sides == sorted(set(sides), reverse=True)
    for side, share in zip(SIDES, shares, strict=False):
        count = dict(places).get(side, 0)
        assert abs(count - capacity * share / sum(shares)) <= 1.001
        assert not capacity or side not in sides or count > 0


def made_up(number, sides):
    """A photo whose crops can be told apart: crop i is filled with 16 x number + i + 1, its box has as many cells."""
    marks = [16 * number + i + 1 for i in range(len(sides))]
    boxes = np.array([[[0, 0, mark, 1]] * 4 for mark in marks], np.int32).reshape(-1, 4, 4)
    crops = [np.full((side, side, 3), mark, np.uint8) for side, mark in zip(sides, marks, strict=True)]
    return Example(np.zeros((32, 32, 3), np.uint8), crops, boxes, np.ones(len(sides), np.float32))


@given(
    st.lists(st.lists(st.sampled_from(SIDES), max_size=5), min_size=4, max_size=4),
    st.lists(st.integers(0, 4), min_size=3, max_size=3),
)
def test_every_crop_that_there_is_room_for_stands_at_a_side(crops, counts):
    """Two devices of two photos; who is dropped does not depend on the sides, and only what finds no place moves."""
    places = [CropPlaces(side, count) for side, count in zip(SIDES[::-1], counts, strict=True)]
    examples = [made_up(number, sides) for number, sides in enumerate(crops)]
    options = {"device_count": 2, "side": 32, "with_full": False}
    batch, dropped, moved = collate(examples, capacity=places, **options)
    at_canvas = [e._replace(crop_rgb=[np.full((32, 32, 3), crop[0, 0]) for crop in e.crop_rgb]) for e in examples]
    plain, also_dropped, _ = collate(at_canvas, capacity=sum(counts), **options)
    assert dropped == also_dropped
    owners, boxes = (split_by_side(a, batch.crops, 2) for a in (batch.crop_to_image, batch.level_boxes))
    found, at_other_side, fitting = set(), 0, True
    for of_side, own, box in zip(batch.crops, owners, boxes, strict=True):
        assert len(of_side) == len(own)
        for k, (crop, owner, mark) in enumerate(zip(of_side, own, box[:, 0, 2], strict=True)):
            if owner < 0:
                assert owner == -1
                assert not crop.any()
                assert not mark
                continue
            assert (crop == mark).all()
            photo = owner + 2 * (k // (len(own) // 2))
            wanted = crops[photo][mark - 1 - 16 * photo]
            at_other_side += wanted != len(crop)
            found.add((photo, mark))
    marks = np.repeat(np.arange(2), sum(counts)) * 2 + plain.crop_to_image
    assert found == {
        (p, m) for p, m, own in zip(marks, plain.level_boxes[:, 0, 2], plain.crop_to_image, strict=True) if own >= 0
    }
    assert moved == at_other_side
    for device in range(2):
        wanted = [*crops[2 * device], *crops[2 * device + 1]]
        fitting &= all(wanted.count(of.side) <= of.places for of in places)
    assert moved == 0 or not fitting


def test_what_moves_is_resized_from_its_side_the_largest_box_upward_and_the_smallest_down():
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 256, (side, side, 3), np.uint8) for side in (8, 8, 32, 32)]
    e = made_up(0, (8, 8, 32, 32))._replace(crop_rgb=crops)
    options = {"device_count": 1, "side": 32, "with_full": False}
    batch, dropped, moved = collate([e], capacity=[CropPlaces(32, 2), CropPlaces(16, 1), CropPlaces(8, 1)], **options)
    assert (dropped, moved) == (0, 1)
    assert batch.level_boxes[:, 0, 2].tolist() == [3, 4, 2, 1]
    resized = Image.fromarray(crops[1]).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(batch.smaller_crops[0][0], resized)
    batch, _, moved = collate([e], capacity=[CropPlaces(32, 1), CropPlaces(8, 3)], **options)
    assert moved == 1
    assert batch.level_boxes[:, 0, 2].tolist() == [4, 1, 2, 3]


def test_one_side_is_what_there_was():
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8))
    plain, one = (
        example(rgb, boxes_of(SIZES[:3]), np.ones(3, np.float32), 32, crop_sides=sides) for sides in ((), (32,))
    )
    for ours, other in zip(plain.crop_rgb, one.crop_rgb, strict=True):
        np.testing.assert_array_equal(ours, other)
    for capacity in (4, (CropPlaces(32, 4),)):
        batch, _, moved = collate([one], device_count=1, capacity=capacity, side=32, with_full=True)
        assert batch.smaller_crops == ()
        assert batch.crop_rgb.shape == (4, 32, 32, 3)
        assert moved == 0


class InMemory:
    """Photos with boxes."""

    def __init__(self, photos):
        self.photos = photos

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        return self.photos[index]

    def picture(self, index, least_side=None):
        raise NotImplementedError  # of stage full

    def crop_count(self, index):
        return len(self.photos[index].boxes)

    def with_boxes(self):
        return range(len(self.photos))

    def describe(self):
        return f"{len(self)} photos in memory"


def source(count=8):
    rng = np.random.default_rng(1)
    photos = []
    for number in range(count):
        rgb = Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8))
        boxes = boxes_of([SIZES[(number + i) % 7] for i in range(3)]).astype(np.float32)
        photos.append(Photo(f"photo {number}", rgb, boxes, np.ones(3, np.float32)))
    return InMemory(photos)


def test_the_loader_cuts_each_box_at_its_side_and_counts():
    config = DataConfig(crop_sides=SIDES, crop_shares=(0.5, 0.25, 0.25), max_crops_per_image=4.0, threads=0)
    photos = source()
    with eval_batches(photos, config, side=32, batch_size=4, device_count=2) as batches:
        loaded = next(batches)
    batch = loaded.batch
    assert [crops.shape for crops in batch.crops] == [(4, 32, 32, 3), (4, 16, 16, 3), (8, 8, 8, 3)]
    assert dict(loaded.crops_by_side) == {
        crops.shape[1]: int((own >= 0).sum())
        for crops, own in zip(batch.crops, split_by_side(batch.crop_to_image, batch.crops, 2), strict=True)
    }
    assert sum(dict(loaded.crops_by_side).values()) == 12
    assert loaded.counts == {
        "dropped_crops": 0,
        "skipped_photos": 0,
        "gray_photos": 0,
        "moved_crops": loaded.moved_crops,
        **{f"crops_{side}": count for side, count in loaded.crops_by_side},
    }
    box = photos[0].boxes[0].astype(int)
    crop = photos[0].image.crop(tuple(box)).resize((8, 8), Image.Resampling.BILINEAR)
    smallest = split_by_side(batch.crop_to_image, batch.crops, 2)[2]
    assert any((batch.smaller_crops[1][k] == np.asarray(crop)).all() for k in np.flatnonzero(smallest == 0))


def test_the_loader_chooses_sides_by_what_crops_show():
    photos, config = source(1), DataConfig(crop_sides=SIDES, max_crops_per_image=9.0, threads=0)
    context = CropContext(1.0)
    with eval_batches(photos, config, side=32, batch_size=1, context=context) as batches:
        loaded = next(batches)
    cut = crop_boxes(photos[0].boxes.astype(np.int32), (64, 48), context)
    assert loaded.crops_by_side == tuple((s, int((crop_sides(cut, SIDES) == s).sum())) for s in reversed(SIDES))
    assert loaded.crops_by_side != tuple((s, SEEN_AT[:3].count(s)) for s in reversed(SIDES))


def test_stage_instance_has_a_place_for_every_photo():
    config = DataConfig(crop_sides=SIDES, threads=0)
    with train_batches(source(), config, parts="instance", side=32, batch_size=8, device_count=1) as batches:
        batch = next(batches).batch
    assert [len(crops) for crops in batch.crops] == [3, 2, 3]
    assert sorted(batch.crop_to_image) == list(range(8))
    assert all(crops.any(axis=(1, 2, 3)).all() for crops in batch.crops)


@pytest.mark.parametrize(
    ("sides", "shares", "message"),
    [
        ((12, 16), (), r"crop_sides: \(12, 16\), which must be multiples of 8, ascending"),
        ((0, 16), (), "multiples of 8"),
        ((16, 8), (), "ascending"),
        ((16, 16), (), "ascending"),
        ((16, 4096), (), "at most"),
        ((16, 32), (0.5,), r"crop_shares: \(0.5,\), which must be a number above 0 for each of crop_sides"),
        ((16, 32), (0.5, 0.0), "crop_shares"),
        ((16, 32), (0.5, float("nan")), "crop_shares"),
        ((), (1.0,), "crop_shares"),
    ],
)
def test_sides_that_do_not_fit_are_refused(sides, shares, message):
    with pytest.raises(ConfigError, match=message):
        DataConfig(crop_sides=sides, crop_shares=shares)


def test_a_crop_is_not_larger_than_the_canvas():
    config = DataConfig(crop_sides=(16, 64), threads=0)
    with pytest.raises(DataError, match=r"data\.crop_sides: \(16, 64\), which must be at most model\.side, 32"):
        eval_batches(source(), config, side=32, batch_size=4)


def test_sides_are_read_from_files_of_settings():
    config = from_dict(Config, {"data": {"crop_sides": [64, 128], "crop_shares": [1, 0.5]}})
    assert config.data.crop_sides == (64, 128)
    assert config.data.crop_shares == (1.0, 0.5)
    with pytest.raises(ConfigError, match=r"config\.data\.crop_sides: 'large' is not of type int"):
        from_dict(Config, {"data": {"crop_sides": ["large"]}})
    with pytest.raises(ConfigError, match=r"config\.data\.crop_sides: 64 is not a list of whole numbers"):
        from_dict(Config, {"data": {"crop_sides": 64}})

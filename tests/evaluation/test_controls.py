import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcolor.batch import Batch
from jaxcolor.data.loader import LoadedBatch
from jaxcolor.evaluation.controls import crop_donors, crop_of_object, exchanged_places, other_crops, photo_of_crop
from tests.evaluation.batches import BOXES, example, loaded

COUNTS = st.lists(st.integers(0, 3), min_size=4, max_size=4)


def batch_with(counts: list[int], device_count: int, filled: int = 0) -> LoadedBatch:
    """Photos with so many boxes each; the last ``filled`` places are empty."""
    examples = [example(i, [[0, 0, 8, 8]] * n) for i, n in enumerate(counts)]
    return loaded([*examples[: len(examples) - filled], *[None] * filled], device_count)


@settings(deadline=None, max_examples=25)
@given(counts=COUNTS)
def test_donors_are_crops_of_other_photos_the_same_on_any_devices(counts: list[int]) -> None:
    chosen = []
    for device_count in (1, 2, 4):
        batch = batch_with(counts, device_count).batch
        owner, donors = photo_of_crop(batch, device_count), crop_donors(batch, device_count)
        real = np.flatnonzero(owner >= 0)
        assert np.bincount(owner[real], minlength=4).tolist() == counts
        assert (donors[owner < 0] == -1).all()
        if sum(n > 0 for n in counts) < 2:
            assert (donors == -1).all()
        else:
            assert (owner[donors[real]] != owner[real]).all()
            assert (owner[donors[real]] >= 0).all()
            if 2 * max(counts) <= sum(counts):
                assert sorted(donors[real]) == real.tolist()
        pixels = other_crops(batch, donors).crop_rgb[real]
        chosen.append(pixels)
    np.testing.assert_array_equal(chosen[0], chosen[1])
    np.testing.assert_array_equal(chosen[0], chosen[2])


def test_other_crops_changes_nothing_but_the_pixels_of_crops() -> None:
    batch = loaded([example(i, boxes) for i, boxes in enumerate(BOXES)]).batch
    donors = crop_donors(batch, 1)
    changed = other_crops(batch, donors)
    for name in ("full_rgb", "crop_to_image", "level_boxes", "is_real"):
        np.testing.assert_array_equal(getattr(changed, name), getattr(batch, name))
    real = np.flatnonzero(batch.crop_to_image >= 0)
    np.testing.assert_array_equal(changed.crop_rgb[real], batch.crop_rgb[donors[real]])
    assert all((changed.crop_rgb[i] != batch.crop_rgb[i]).any() for i in real)


def test_crops_that_stay_while_places_are_exchanged() -> None:
    batch = loaded([example(i, boxes) for i, boxes in enumerate(BOXES)]).batch
    masks = np.random.default_rng(0).random((len(batch.crop_rgb), 2, 2)) < 0.5
    batch = batch._replace(crop_mask=masks)
    donors = crop_donors(batch, 1)

    def shown(of: Batch) -> list[tuple[bytes, ...]]:
        return sorted(
            tuple(
                np.ascontiguousarray(part[i]).tobytes()
                for part in (of.crop_rgb, of.crop_to_image, of.level_boxes, of.crop_mask)
            )
            for i in np.flatnonzero(of.crop_to_image >= 0)
        )

    exchanged = exchanged_places(batch, donors)
    assert exchanged is not None
    assert shown(exchanged) == shown(other_crops(batch, donors)) != shown(batch)
    np.testing.assert_array_equal(exchanged.crop_rgb, batch.crop_rgb)
    # A crop that is given twice.
    twice = batch_with([1, 0, 3, 0], 1).batch
    assert exchanged_places(twice, crop_donors(twice, 1)) is None


def test_places_that_only_fill_up_neither_give_nor_take() -> None:
    batch = batch_with([1, 1, 2, 0], 2).batch
    batch = batch._replace(is_real=np.array([True, True, False, True]))
    assert set(photo_of_crop(batch, 2)) == {-1, 0, 1}
    donors = crop_donors(batch, 2)
    assert (photo_of_crop(batch, 2)[donors[donors >= 0]] < 2).all()


def test_the_crop_that_shows_an_object() -> None:
    objects = np.array([[0, 0, 10, 10], [20, 20, 10, 10], [0, 0, 4, 4]])
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 12], [21, 20, 10, 10], [50, 50, 5, 5]])
    assert crop_of_object(objects, boxes, np.array([True] * 4)).tolist() == [0, 2, -1]
    # Crops of other photos do not count, however well they lie.
    assert crop_of_object(objects, boxes, np.array([False, True, False, True])).tolist() == [1, -1, -1]
    assert crop_of_object(objects, boxes, np.zeros(4, bool)).tolist() == [-1, -1, -1]
    assert crop_of_object(objects[:0], boxes, np.ones(4, bool)).tolist() == []

"""Simulated hints against painting them one after another, and against the distributions they are said to have."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcolor.config import ConfigError
from jaxcolor.hints import Hints
from jaxcolor.models import hint_simulation
from jaxcolor.models.hint_simulation import HintConfig, crop_hints, no_hints, random_points, simulate_hints

SIDE = 16
ON = HintConfig(enabled=True)
ONE_PIXEL = HintConfig(enabled=True, max_patch=1, location="uniform", reveal_all=0.0)
MANY = 2048

simulated = jax.jit(simulate_hints, static_argnames="config")
random = jax.jit(random_points, static_argnames=("count", "patch", "location"))
reveal = jax.jit(hint_simulation._reveal, static_argnames="largest")
cropped = jax.jit(crop_hints)


def colors(count, side=SIDE, dtype=np.float32, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, (count, side, side, 2)), dtype)


def same(a, b):
    np.testing.assert_array_equal(a.ab, b.ab)
    np.testing.assert_array_equal(a.mask, b.mask)


def painted(truth, patches):
    """One patch after another."""
    ab, mask = np.zeros(truth.shape), np.zeros((*truth.shape[:3], 1), bool)
    for photo, rows in enumerate(zip(*map(np.asarray, patches), strict=True)):
        for top, left, side, shown in zip(*rows, strict=True):
            if shown:
                place = photo, slice(top, top + side), slice(left, left + side)
                ab[place] = np.asarray(truth, np.float64)[place].mean(axis=(0, 1))
                mask[place] = True
    return Hints(ab, mask)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 32, 33, 70]))
def test_equals_painting_one_after_another(seed, count):
    rng = np.random.default_rng(seed)
    side = rng.integers(1, 10, (2, count)).astype(np.int32)
    top, left = (rng.integers(0, SIDE - side + 1).astype(np.int32) for _ in range(2))
    patches = hint_simulation._Patches(*map(jnp.asarray, (top, left, side, rng.random((2, count)) < 0.3)))
    truth = colors(2, seed=seed)
    found, expected = reveal(truth, patches, largest=9), painted(truth, patches)
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_allclose(found.ab, expected.ab, atol=1e-6)


@pytest.fixture(scope="module")
def counts():
    """Points of each picture."""
    return np.asarray(simulated(jax.random.key(0), colors(MANY, 32), ONE_PIXEL).mask.sum(axis=(1, 2, 3)))


class TestNumberOfPoints:
    """A patch of one pixel, so that points can be counted (of 2048 pictures 2% have two at one place)."""

    def test_is_geometric_from_0(self, counts):
        for n in range(5):
            expected = 0.125 * 0.875**n
            assert abs((counts == n).mean() - expected) < 4 * math.sqrt(expected / MANY), n
        assert abs(counts.mean() - 7) < 4 * math.sqrt(56 / MANY)

    def test_has_a_limit(self, counts):
        assert counts.max() > 32
        limited = dataclasses.replace(ONE_PIXEL, max_points=8)
        fewer = np.asarray(simulated(jax.random.key(0), colors(MANY, 32), limited).mask.sum(axis=(1, 2, 3)))
        np.testing.assert_array_equal(fewer[counts < 8], counts[counts < 8])
        assert 6 <= fewer[counts >= 10].min() <= fewer.max() == 8


def test_shares_of_pictures_with_hints_and_with_all_of_them():
    truth = colors(MANY)
    hints = simulated(jax.random.key(2), truth, dataclasses.replace(ONE_PIXEL, reveal_all=0.1, probability=0.5))
    share = np.asarray(hints.mask.any(axis=(1, 2, 3))).mean()
    assert abs(share - 0.5 * (1 - 0.125 * 0.9)) < 4 * 0.5 / math.sqrt(MANY)
    whole = np.asarray(hints.mask.all(axis=(1, 2, 3)))
    assert abs(whole.mean() - 0.05) < 4 * math.sqrt(0.05 / MANY)
    np.testing.assert_array_equal(hints.ab[whole], truth[whole])


@pytest.mark.parametrize("location", ["gaussian", "uniform"])
def test_where_points_lie(location):
    mask = np.asarray(random(jax.random.key(3), colors(MANY), 1, patch=1, location=location).mask)[..., 0]
    edges = np.arange(1, SIDE)
    if location == "uniform":
        expected = edges / SIDE
    else:  # what lies outside the picture is moved to its edge
        expected = np.array([0.5 * (1 + math.erf((e - SIDE / 2) / (SIDE / 4) / math.sqrt(2))) for e in edges])
    for axis in (1, 2):
        place = mask.any(axis=axis).argmax(axis=1)
        below = (place[:, None] < edges).mean(axis=0)
        assert np.abs(below - expected).max() < 1.63 / math.sqrt(MANY)  # Kolmogorov-Smirnov, 1%
    across, down = (mask.any(axis=axis).argmax(axis=1) for axis in (1, 2))
    assert abs(np.corrcoef(across, down)[0, 1]) < 4 / math.sqrt(MANY)


def test_sides_of_patches_are_uniform():
    hints = simulated(jax.random.key(4), colors(MANY, 32), dataclasses.replace(ON, max_points=1, reveal_all=0.0))
    sides = np.sqrt(np.asarray(hints.mask.sum(axis=(1, 2, 3))))
    found = np.bincount(sides[sides > 0].astype(int), minlength=11) / (sides > 0).sum()
    assert np.abs(found[1:10] - 1 / 9).max() < 4 * math.sqrt(1 / 9 / MANY)
    assert found[0] == found[10] == 0


def test_patches_no_larger_than_the_picture():
    hints = simulated(jax.random.key(5), colors(64, 4), dataclasses.replace(ON, min_patch=9, reveal_all=0.0))
    filled = np.asarray(hints.mask.mean(axis=(1, 2, 3)))
    assert set(filled.tolist()) == {0.0, 1.0}


def test_a_picture_s_hints_do_not_depend_on_the_others():
    key, truth = jax.random.key(6), colors(6)
    few, many = simulated(key, truth[:4], ON), simulated(key, truth, ON)
    same(few, Hints(many.ab[:4], many.mask[:4]))
    assert len({np.asarray(m).tobytes() for m in many.mask}) > 3
    assert not np.array_equal(many.mask, simulated(jax.random.key(7), truth, ON).mask)


@pytest.mark.parametrize("mapping", ["shard_map", "pmap"])
def test_each_device_draws_its_own(mapping):
    """Equal, to the bit, to what each device's key gives on one."""
    key, truth = jax.random.key(6), colors(4)

    def per_device(truth):
        return simulate_hints(jax.random.fold_in(key, jax.lax.axis_index("data")), truth, ON)

    if mapping == "pmap":
        found = jax.pmap(per_device, axis_name="data", devices=jax.devices()[:2])(truth.reshape(2, 2, SIDE, SIDE, 2))
    else:
        mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
        spec = jax.sharding.PartitionSpec("data")
        found = jax.jit(jax.shard_map(per_device, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))(truth)
    parts = [simulated(jax.random.fold_in(key, d), truth[2 * d : 2 * d + 2], ON) for d in range(2)]
    assert not np.array_equal(parts[0].mask, parts[1].mask)
    for a, b in zip(found, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(np.asarray(a).reshape(4, *a.shape[-3:]), np.concatenate(b))


def test_bfloat16_truth_and_off():
    truth = colors(8, dtype=jnp.bfloat16)
    hints = simulated(jax.random.key(8), truth, ON)
    assert hints.ab.dtype == jnp.float32
    assert hints.mask.any()
    assert not np.asarray(hints.ab)[~np.asarray(hints.mask)[..., 0]].any()
    same(hints, simulated(jax.random.key(8), truth.astype(jnp.float32), ON))
    same(simulated(jax.random.key(8), truth, HintConfig()), no_hints(truth))
    assert not no_hints(truth).mask.any()


class TestRandomPoints:
    def test_fewer_are_the_first_of_more(self):
        truth = colors(4, 32)
        previous = random(jax.random.key(0), truth, 0)
        assert not previous.mask.any()
        for count in (1, 10, 40):
            hints = random(jax.random.key(0), truth, count)
            assert (hints.mask | ~previous.mask).all()
            assert hints.mask.sum() > previous.mask.sum()
            previous = hints
        one = random(jax.random.key(0), truth, 1)
        np.testing.assert_array_equal(one.mask.sum(axis=(1, 2, 3)), [36] * 4)
        for ab, mask, true in zip(one.ab, one.mask[..., 0], truth, strict=True):
            np.testing.assert_allclose(ab[mask], np.broadcast_to(true[mask].mean(axis=0), (36, 2)), atol=1e-6)

    def test_a_photo_s_points_do_not_depend_on_its_batch(self):
        truth = colors(4)
        together = random(jax.random.key(1), truth, 3)
        apart = random(jax.random.key(1), truth[2:], 3, numbers=jnp.array([2, 3]))
        same(apart, Hints(together.ab[2:], together.mask[2:]))


@st.composite
def boxes_on_canvas(draw, whole=True):
    """x0, y0, width, height on a canvas of side 16."""
    rows = []
    for _ in range(4):
        x0, y0 = (draw(st.integers(0, SIDE - 1)) for _ in range(2))
        rows.append([x0, y0, draw(st.integers(1, SIDE - x0)), draw(st.integers(1, SIDE - y0))])
    return np.array(rows, np.int32)


@pytest.fixture(scope="module")
def hints():
    """Of two photos."""
    return random(jax.random.key(9), colors(2), 10, patch=3)


class TestCropHints:
    OWNERS = jnp.array([0, 1, -1, 1])

    @settings(max_examples=20, deadline=None)
    @given(boxes_on_canvas())
    def test_every_pixel_is_that_of_the_photo_under_it(self, hints, boxes):
        found = cropped(hints, boxes, self.OWNERS)
        for crop, ((x0, y0, width, height), photo) in enumerate(zip(boxes.tolist(), [0, 1, -1, 1], strict=True)):
            rows = [math.floor(y0 + (i + 0.5) * height / SIDE) for i in range(SIDE)]
            columns = [math.floor(x0 + (i + 0.5) * width / SIDE) for i in range(SIDE)]
            expected = np.asarray(hints.ab[photo])[np.ix_(rows, columns)] * (photo >= 0)
            np.testing.assert_array_equal(found.ab[crop], expected)
            mask = np.asarray(hints.mask[photo])[np.ix_(rows, columns)] & (photo >= 0)
            np.testing.assert_array_equal(found.mask[crop], mask)
            # The crop is at least as large as the box, so nothing that lies in the box is lost.
            inside = np.asarray(hints.ab[photo])[y0 : y0 + height, x0 : x0 + width].reshape(-1, 2) * (photo >= 0)
            assert {*map(tuple, np.asarray(found.ab[crop]).reshape(-1, 2))} == {*map(tuple, inside)}

    @settings(max_examples=10, deadline=None)
    @given(boxes_on_canvas(), st.permutations(range(4)))
    def test_mirrored_and_in_another_order(self, hints, boxes, order):
        plain = cropped(hints, boxes, self.OWNERS)
        mirrored = np.column_stack([SIDE - boxes[:, 0] - boxes[:, 2], boxes[:, 1:]])[order]
        flipped = Hints(hints.ab[:, :, ::-1], hints.mask[:, :, ::-1])
        found = cropped(flipped, mirrored, self.OWNERS[np.array(order)])
        same(found, Hints(plain.ab[np.array(order), :, ::-1], plain.mask[np.array(order), :, ::-1]))

    def test_boxes_that_are_not_whole(self, hints):
        third = cropped(hints, jnp.array([[16 / 3, 0.0, 16 / 3, 16.0]]), jnp.array([1]))
        columns = [math.floor(16 / 3 + (i + 0.5) / 3) for i in range(SIDE)]
        np.testing.assert_array_equal(third.ab[0], hints.ab[1][:, jnp.array(columns)])

    def test_a_batch_without_crops(self, hints):
        assert cropped(hints, jnp.zeros((0, 4), jnp.int32), jnp.zeros(0, jnp.int32)).ab.shape == (0, SIDE, SIDE, 2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("probability", 1.5),
        ("probability", math.nan),
        ("reveal_all", -0.1),
        ("stop_probability", 0.0),
        ("stop_probability", 1.0),
        ("max_points", 0),
        ("min_patch", 0),
        ("min_patch", 10),
        ("max_patch", 65),
    ],
)
def test_configs_that_cannot_be(field, value):
    with pytest.raises(ConfigError, match=rf"^{field}: "):
        HintConfig(**{field: value})

"""Samples: hints where an object's color fits, one call for each result, the same whatever the batch."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor import color
from jaxcolor.batch import Batch
from jaxcolor.config import ModelConfig
from jaxcolor.inference import sampling
from jaxcolor.inference.palette import Palette
from jaxcolor.models import networks
from jaxcolor.models.networks import LabBatch
from tests import small

SIDE = 32
MODEL = dataclasses.replace(small.TWO, side=SIDE, outputs=("regression", "classes"))
PLACE, SHOW = jax.jit(sampling.place_points), jax.jit(sampling.object_hints)
BOXES = [[[0, 0, 16, 16], [4, 4, 12, 12]], [], [[20, 8, 32, 32]]]


def batch(order: tuple[int, ...] = (0, 1, 2), capacity: int = 5) -> Batch:
    return small.batch([small.example(i, BOXES[i], SIDE) for i in order], capacity)


@pytest.fixture(scope="module")
def variables() -> dict[str, Any]:
    return small.variables(MODEL)


@jax.jit
def _samples(variables: dict[str, Any], of: Batch, numbers: jax.Array) -> sampling.Samples:
    lab, boxes = networks.to_lab(of, MODEL), of.level_boxes[:, 0]
    return sampling.sample(networks.build(MODEL), variables, lab, boxes, jax.random.key(3), 3, numbers=numbers)


def run(variables: dict[str, Any], of: Batch, numbers: tuple[int, ...]) -> sampling.Samples:
    return jax.device_get(_samples(variables, of, jnp.asarray(numbers)))


def test_samples_are_the_hinted_predictions_whatever_else_is_in_the_batch(variables: dict[str, Any]) -> None:
    found = run(variables, batch(capacity=6), (0, 1, 2))
    assert found.ab.shape == (3, 3, SIDE, SIDE, 2)
    assert found.draws.choice.shape == (3, 6 + 3)
    np.testing.assert_array_equal(found.draws.choice[0], 0)  # the most probable first
    assert found.draws.valid[:, 0].all()
    # Another order of photos.
    other = run(variables, batch((2, 0, 1), capacity=6), (2, 0, 1))
    np.testing.assert_allclose(other.ab[:, [1, 2, 0]], found.ab, atol=2e-5)

    # Another number of places for crops: one of the three that hold none is missing.
    fewer, drawn = batch(capacity=5), (found.draws.choice[1], found.draws.ab[1])
    objects = jax.tree.map(lambda rows: jnp.asarray(np.delete(rows, 5, axis=0)), (found.objects, found.palettes, drawn))
    nets = networks.build(MODEL)

    def by_hand(v: Any, of: Batch, objects: sampling.Objects, palettes: Palette, drawn: Any) -> jax.Array:
        lab = networks.to_lab(of, MODEL)
        first = sampling.colored(nets, v, lab)
        points = sampling.place_points(first.frequencies, lab, objects, palettes)
        return networks.predict(nets, v, of, sampling.object_hints(points, lab, *drawn)).ab

    expected = jax.jit(by_hand)(variables, fewer, *objects)
    np.testing.assert_allclose(found.ab[1], expected, atol=2e-5)


def lab_batch(of: Batch) -> LabBatch:
    return networks.to_lab(of, ModelConfig(side=SIDE))


def palettes(count: int, *colors: tuple[float, float]) -> Palette:
    """The same two equally probable colors for every object."""
    ab = np.tile(np.array(colors, np.float32), (count, 1, 1))
    shape = ab.shape[:2]
    return Palette(jnp.zeros((*shape, 3)), jnp.asarray(ab), jnp.full(shape, 1 / len(colors)), jnp.ones(shape, bool))


WARM, COLD = (0.4, 0.4), (-0.2, -0.4)


def distribution(warm: np.ndarray) -> jax.Array:
    """Logits of distributions that are all at WARM with the given probability, else at COLD."""
    index = np.asarray(color.ab_to_bin(np.array([WARM, COLD])))
    probability = np.full((*warm.shape, color.BINS), 1e-9, np.float32)
    probability[..., index[0]], probability[..., index[1]] = warm + 1e-9, 1 - warm + 1e-9
    return jnp.log(jnp.asarray(probability))


def test_objects_show_their_colors_in_their_boxes_and_smaller_ones_on_top() -> None:
    lab = lab_batch(batch())
    objects = sampling.batch_objects(lab, lab.level_boxes[:, 0])
    assert objects.crop_to_image.tolist() == [0, 0, 2, -1, -1, 0, 1, 2]
    assert objects.boxes[5:].tolist() == [[0, 0, SIDE, SIDE]] * 3
    frequencies = distribution(np.full((3, 8, 8), 0.5))
    points = PLACE(frequencies, lab, objects, palettes(8, WARM, COLD))
    np.testing.assert_allclose(points.evidence[6], 1, atol=1e-3)  # a photo without boxes: 16 points
    assert (np.asarray(points.evidence[3]) == -1).all()  # padding
    ab = jnp.arange(8, dtype=jnp.float32)[:, None] / 10 + jnp.array([[0.01, 0.02]])
    hints = SHOW(points, lab, jnp.zeros(8, jnp.int32), ab)
    shown, mask = np.asarray(hints.full.ab[..., 0]), np.asarray(hints.full.mask[..., 0])
    assert (shown[~mask] == 0).all()
    inner, outer = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
    inner[4:12, 4:12], outer[:16, :16] = True, True

    def colors(of: np.ndarray) -> dict[float, int]:
        values, counts = np.unique(of.round(2), return_counts=True)
        return {round(float(value), 2): count for value, count in zip(values, counts.tolist(), strict=True)}

    assert colors(shown[0][mask[0] & inner]) == {0.11: 16}
    assert colors(shown[0][mask[0] & outer & ~inner]) == {0.01: 12}
    assert colors(shown[0][mask[0] & ~outer]) == {0.51: 12}
    assert colors(shown[1][mask[1]]) == {0.61: 16}
    # In the crops, those of the photo that lie in them.
    assert np.asarray(hints.crop.mask[:3]).any(axis=(1, 2, 3)).all()
    assert not np.asarray(hints.crop.mask[3:]).any()


def test_objects_are_boxes_not_what_their_crops_show() -> None:
    """Crops with context reach beyond the boxes: palettes and background go by the boxes."""
    lab = lab_batch(batch((2,), capacity=1))  # its crop: x from 20, y from 8
    objects = sampling.batch_objects(lab, jnp.array([[24, 16, 8, 8]]))
    weights = np.asarray(objects.weights)
    assert np.argwhere(weights[0] > 0.05 * weights[0].max()).min(axis=0).tolist() == [4, 6]
    background = np.ones((8, 8))
    background[4:6, 6:8] = 0
    np.testing.assert_array_equal(weights[1], background)
    assert objects.boxes[0].tolist() == [24, 16, 8, 8]


def test_a_color_is_shown_where_it_is_plausible() -> None:
    lab = lab_batch(batch((1,), capacity=1))
    objects = sampling.batch_objects(lab, lab.level_boxes[:, 0])
    warm = np.zeros((1, 8, 8))
    warm[:, 4:] = 1  # the lower half of the background
    points = PLACE(distribution(warm), lab, objects, palettes(2, WARM, COLD))
    for choice, half in ((0, slice(16, 32)), (1, slice(0, 16))):
        hints = SHOW(points, lab, jnp.full(2, choice), jnp.array([WARM, WARM]))
        rows = np.flatnonzero(np.asarray(hints.full.mask[0, ..., 0]).any(axis=1))
        assert len(rows)
        assert set(rows) <= set(range(SIDE)[half])


def test_a_color_that_fits_nowhere_is_shown_where_it_fits_best() -> None:
    lab = lab_batch(batch((1,), capacity=1))
    objects = sampling.batch_objects(lab, lab.level_boxes[:, 0])
    warm = np.zeros((1, 8, 8))
    warm[0, 0, 3:5] = 1e-3  # none of the points lies here, but next to them
    warm[0, 1, 1] = 1e-4
    points = PLACE(distribution(warm), lab, objects, palettes(2, WARM, COLD))
    hints = SHOW(points, lab, jnp.zeros(2, jnp.int32), jnp.array([WARM, WARM]))
    assert np.argwhere(np.asarray(hints.full.mask[0, ..., 0])).tolist() == [[4, 4]]


def test_the_full_tree_alone(variables: dict[str, Any]) -> None:
    nets, lab = networks.build(MODEL), networks.to_lab(batch(), MODEL)
    found = jax.jit(lambda v: sampling.colored(nets, v, lab))({"full": variables["full"]})
    expected = jax.jit(lambda v: networks.run_full(nets, v, lab.full.inputs).ab)(variables)
    np.testing.assert_allclose(found.ab, expected, atol=1e-6)
    assert found.frequencies.shape == (3, 8, 8, color.BINS)

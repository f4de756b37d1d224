"""Masks, points and support of drawn colors."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcolor.inference import alternatives
from jaxcolor.inference.palette import box_masks
from tests.inference.choice import BLUE, GREEN, RED, bumps

INDEX = jnp.array([0, 0, 1, 0, -1])


def test_smaller_boxes_lie_in_front() -> None:
    boxes = jnp.array([[0, 0, 6, 6], [4, 4, 4, 4], [0, 0, 2, 2], [0, 0, 3, 3], [0, 0, 0, 0]])
    masks = np.asarray(box_masks(boxes, 8))
    found = np.asarray(alternatives.front_masks(jnp.asarray(masks), INDEX))
    np.testing.assert_array_equal(found[0], masks[0] * (1 - masks[1]) * (1 - masks[3]))
    np.testing.assert_array_equal(found[1:4], masks[1:4])  # the third is of another photo
    assert not found[4].any()


def test_a_box_is_whole_if_nothing_would_be_left() -> None:
    boxes = jnp.array([[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 2, 4], [2, 0, 2, 4]])
    masks = box_masks(boxes, 8)
    found = alternatives.front_masks(masks, jnp.zeros(4, jnp.int32))
    np.testing.assert_array_equal(found, masks)


def test_points_lie_apart_in_the_object_where_its_color_is_plausible() -> None:
    logits = np.broadcast_to(bumps((1, GREEN)), (1, 16, 16, 529)).copy()
    logits[0, :8] = bumps((0.6, RED), (0.4, BLUE))  # the upper half
    boxes = jnp.array([[2, 2, 12, 12], [0, 0, 0, 0]])
    draw = jax.jit(alternatives.alternatives, static_argnames=("side", "count"), static_argnums=5)
    found = draw(jax.random.key(0), jnp.asarray(logits), jnp.zeros((1, 16, 16)), boxes, jnp.array([0, -1]), 16, count=4)
    np.testing.assert_array_equal(found.valid[:, 0], True)
    assert not found.shown[:, 1].any()  # padding
    seen = set()
    for result in range(4):
        cells = np.asarray(found.cells[result, 0])[np.asarray(found.shown[result, 0])]
        assert 2 <= len(cells) <= alternatives.POINTS
        assert ((cells >= 2) & (cells < 14)).all()
        apart = np.linalg.norm(cells[:, None] - cells, axis=-1) + 99 * np.eye(len(cells))
        assert apart.min() >= 3  # a quarter of the box's side
        green = np.abs(found.ab[result, 0] * 110 - np.array(GREEN)).max() < 3
        assert ((cells[:, 1] >= 8) == green).all()
        seen.add(green)
        background = np.asarray(found.cells[result, 2])[np.asarray(found.shown[result, 2])]
        assert len(background) >= 2
        assert not ((background >= 2) & (background < 14)).all(axis=1).any()
    assert seen == {True, False}

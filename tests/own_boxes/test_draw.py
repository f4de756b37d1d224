from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxcolor.config import StageConfig
from jaxcolor.own_boxes import draw as module
from jaxcolor.own_boxes.draw import mosaic, move_boxes
from jaxcolor.own_boxes.photos import HeldPhotos

draw = functools.partial(jax.jit, static_argnums=(3, 4, 5), static_argnames="mosaics")(module.draw)
WHOLE = StageConfig(steps=1, flip=False, crop_area=1.0)


def marked(count: int = 6, side: int = 40) -> HeldPhotos:
    """Black photos with one white rectangle each, which is its box."""
    rng = np.random.default_rng(0)
    rgb, boxes = np.zeros((count, side, side, 3), np.uint8), np.zeros((count, 3, 4), np.float32)
    for photo, own in zip(rgb, boxes, strict=True):
        x, y = rng.integers(0, side // 2, 2)
        width, height = rng.integers(8, side // 2, 2)
        photo[y : y + height, x : x + width] = 255
        own[0] = np.array([x, y, x + width, y + height]) / side
    return HeldPhotos(rgb, boxes)


def white_box(picture: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(picture[..., 0] >= 128)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / len(picture)


def test_boxes_follow_windows_and_flips() -> None:
    settings = dataclasses.replace(WHOLE, flip=True, crop_area=0.4, crop_visible=0.1)
    drawn = jax.device_get(draw(marked(), jax.random.key(1), jnp.int32(3), 12, 64, settings))
    assert drawn.rgb.shape == (12, 64, 64, 3)
    seen = drawn.valid.any(axis=1)
    assert seen.sum() >= 8
    for picture, boxes, valid in zip(drawn.rgb[seen], drawn.boxes[seen], drawn.valid[seen], strict=True):
        assert valid.tolist() == [True, False, False]
        np.testing.assert_allclose(white_box(picture), boxes[0], atol=1.5 / 64)


def test_mosaics_hold_four_photos() -> None:
    drawn = jax.device_get(draw(marked(), jax.random.key(0), jnp.int32(0), 2, 64, WHOLE, mosaics=0.5))
    assert drawn.valid.sum(axis=1).tolist() == [1, 3]  # four objects, three places
    np.testing.assert_allclose(white_box(drawn.rgb[0]), drawn.boxes[0, 0], atol=1.5 / 64)
    quarter = white_box(drawn.rgb[1, :32, :32]) / 2
    np.testing.assert_allclose(quarter, drawn.boxes[1, 0], atol=1.5 / 64)
    right = white_box(drawn.rgb[1, :32, 32:]) / 2 + [0.5, 0, 0.5, 0]
    np.testing.assert_allclose(right, drawn.boxes[1, 1], atol=1.5 / 64)


def test_a_mosaic_has_the_boxes_first_that_are_boxes() -> None:
    boxes = jnp.tile(jnp.array([[[0.0, 0, 1, 1], [0.5, 0.5, 1, 1]]]), (4, 1, 1))
    valid = jnp.array([[False, False], [False, False], [False, True], [False, True]])
    _, found, there = mosaic(jnp.zeros((4, 8, 8, 3)), boxes, valid)
    assert there.tolist() == [[True, True]]
    np.testing.assert_allclose(found[0], [[0.25, 0.75, 0.5, 1], [0.75, 0.75, 1, 1]])


def test_boxes_that_hardly_show_are_none() -> None:
    boxes = jnp.array([[[0.0, 0, 0.5, 0.5], [0.4, 0.4, 0.9, 0.9], [0, 0, 0, 0]]])
    window = jnp.array([[0.4, 0.4, 0.5, 0.5]])
    moved, valid = move_boxes(boxes, window, jnp.array([False]), 0.05)
    assert valid.tolist() == [[False, True, False]]  # of the first 4% are in the window
    np.testing.assert_allclose(moved[0, :2], [[0, 0, 0.2, 0.2], [0, 0, 1, 1]], atol=1e-6)
    mirrored, _ = move_boxes(boxes, window, jnp.array([True]), 0.05)
    np.testing.assert_allclose(mirrored[0, 0], [0.8, 0, 1, 0.2], atol=1e-6)


def test_every_photo_is_seen_once_in_a_pass() -> None:
    held = marked(6)
    names = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    held = held._replace(rgb=np.broadcast_to(names, held.rgb.shape).copy())
    seen = [draw(held, jax.random.key(0), jnp.int32(i), 3, 8, WHOLE).rgb[:, 0, 0, 0] for i in range(4)]
    first, second = np.concatenate(seen[:2]), np.concatenate(seen[2:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(6))
    assert first.tolist() != second.tolist()

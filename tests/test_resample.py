"""Bilinear resampling against one that is written out pixel by pixel, and against JAX's and PyTorch's own."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxcolor import resample

Box = tuple[int, int, int, int]


def sample(feature: np.ndarray, y: float, x: float) -> np.ndarray:
    """Bilinear value at pixel coordinates (centres at whole numbers), edges clamped."""
    height, width = feature.shape[:2]
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    upper = (1 - across) * feature[top, left] + across * feature[top, right]
    lower = (1 - across) * feature[bottom, left] + across * feature[bottom, right]
    return (1 - down) * upper + down * lower


def bilinear(feature: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w, C) to (height, width, C): half-pixel centres, no antialiasing."""
    in_height, in_width = feature.shape[:2]
    return np.array(
        [
            [
                sample(feature, (y + 0.5) * in_height / height - 0.5, (x + 0.5) * in_width / width - 0.5)
                for x in range(width)
            ]
            for y in range(height)
        ]
    )


def slow_paste(feature: np.ndarray, box: Box, height: int, width: int) -> np.ndarray:
    x0, y0, w, h = box
    canvas = np.zeros((height, width, feature.shape[2]))
    canvas[y0 : y0 + h, x0 : x0 + w] = bilinear(feature, h, w)
    return canvas


def slow_crop(feature: np.ndarray, box: Box, height: int, width: int) -> np.ndarray:
    x0, y0, w, h = box
    return bilinear(feature[y0 : y0 + h, x0 : x0 + w], height, width)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@st.composite
def canvases(draw: st.DrawFn) -> tuple[int, int, list[Box]]:
    """Height, width and one to three boxes on it: of size 1 and touching borders as often as not."""
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))

    def span(side: int) -> tuple[int, int]:
        size = draw(st.one_of(st.just(1), st.just(side), st.integers(1, side)))
        start = draw(st.one_of(st.just(0), st.just(side - size), st.integers(0, side - size)))
        return start, size

    boxes = []
    for _ in range(draw(st.integers(1, 3))):
        (x0, w), (y0, h) = span(width), span(height)
        boxes.append((x0, y0, w, h))
    return height, width, boxes


@settings(max_examples=60, deadline=None)
@given(canvases(), st.integers(1, 9), st.integers(1, 9))
def test_paste_equals_the_slow_one(canvas: tuple[int, int, list[Box]], h: int, w: int) -> None:
    height, width, boxes = canvas
    feature = random(len(boxes), h, w, 2)
    pasted = resample.paste(feature, np.array(boxes, np.int32), height, width)
    expected = [slow_paste(f, box, height, width) for f, box in zip(feature, boxes, strict=True)]
    np.testing.assert_allclose(pasted, expected, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(canvases(), st.integers(1, 9), st.integers(1, 9))
def test_crop_equals_the_slow_one(canvas: tuple[int, int, list[Box]], h: int, w: int) -> None:
    height, width, boxes = canvas
    feature = random(len(boxes), height, width, 2)
    cropped = resample.crop(feature, np.array(boxes, np.int32), h, w)
    expected = [slow_crop(f, box, h, w) for f, box in zip(feature, boxes, strict=True)]
    np.testing.assert_allclose(cropped, expected, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(*(st.integers(1, 12) for _ in range(4)))
def test_resize_equals_the_slow_one(h: int, w: int, height: int, width: int) -> None:
    feature = random(2, h, w, 3)
    expected = [bilinear(f, height, width) for f in feature]
    np.testing.assert_allclose(resample.resize(feature, height, width), expected, atol=1e-12)


SIZES = [((8, 8), (5, 13)), ((7, 4), (14, 8)), ((16, 16), (3, 1)), ((1, 6), (4, 4)), ((9, 9), (9, 9))]


@pytest.mark.parametrize(("given", "wanted"), SIZES)
def test_resize_equals_jax(given: tuple[int, int], wanted: tuple[int, int]) -> None:
    feature = random(2, *given, 3).astype(np.float32)
    expected = jax.image.resize(feature, (2, *wanted, 3), method="linear", antialias=False)
    np.testing.assert_allclose(resample.resize(feature, *wanted), expected, atol=2e-6)


@pytest.mark.parametrize(("given", "wanted"), SIZES)
def test_resize_equals_pytorch(given: tuple[int, int], wanted: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install 'jaxcolor[torch]'")
    feature = random(2, *given, 3)
    planes = torch.from_numpy(feature.transpose(0, 3, 1, 2).copy())
    expected = torch.nn.functional.interpolate(planes, size=wanted, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(resample.resize(feature, *wanted), expected.numpy().transpose(0, 2, 3, 1), atol=1e-12)


BOXES = np.array([[0, 0, 16, 16], [3, 5, 1, 1], [15, 15, 1, 1], [0, 9, 16, 2], [6, 0, 10, 16]], np.int32)


@pytest.mark.parametrize("function", [resample.paste, resample.crop])
def test_numpy_and_jax_agree(function: Callable[..., Any]) -> None:
    feature = random(len(BOXES), 16, 16, 3).astype(np.float32)
    ours = function(feature, BOXES, 16, 16)
    theirs = function(jnp.asarray(feature), jnp.asarray(BOXES), 16, 16)
    assert isinstance(ours, np.ndarray)
    assert isinstance(theirs, jax.Array)
    assert ours.dtype == theirs.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_rows_of_a_paste_sum_to_one_in_the_box_and_to_zero_outside(out: int, given: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, out))
    start = data.draw(st.integers(0, out - size))
    matrix = resample.paste_map(np.array([start]), np.array([size]), out, given, np.float64)[0]
    rows = np.arange(out)
    inside = (rows >= start) & (rows < start + size)
    np.testing.assert_allclose(matrix.sum(axis=1), inside, atol=1e-12)
    assert (matrix >= 0).all()
    assert ((matrix > 0).sum(axis=1) <= 2).all()
    np.testing.assert_array_equal(resample.inside(np.array([[start, 0, size, 1]]), 1, out)[0, 0], inside)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_rows_of_a_crop_read_the_box_alone(out: int, given: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, given))
    start = data.draw(st.integers(0, given - size))
    matrix = resample.crop_map(np.array([start]), np.array([size]), out, given, np.float64)[0]
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    assert (matrix[:, :start] == 0).all()
    assert (matrix[:, start + size :] == 0).all()


def test_inside_a_box_of_the_canvas() -> None:
    inside = resample.inside(np.array([[1, 0, 2, 1], [0, 1, 1, 2]]), 3, 4)
    assert inside.dtype == np.bool_
    np.testing.assert_array_equal(inside[0], [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(inside[1], [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]])


def test_what_sticks_out_of_the_canvas_is_cut_off() -> None:
    feature = random(1, 4, 4, 1)
    pasted = resample.paste(feature, np.array([[-2, 1, 6, 8]]), 5, 5)
    expected = np.zeros((1, 5, 5, 1))
    expected[0, 1:, :4] = bilinear(feature[0], 8, 6)[:4, 2:]
    np.testing.assert_allclose(pasted, expected, atol=1e-12)


@pytest.mark.parametrize("side", [64, 256])
def test_bfloat16_keeps_its_positions(side: int) -> None:
    """Bfloat16 counts to 256 in steps of 2: positions computed in it would be off by pixels."""
    ramp = np.broadcast_to(np.linspace(0, 1, side)[None, :, None, None], (1, side, side, 1)).astype(np.float32)
    box = np.array([[1, side // 3, side // 2, side // 2 + 1]], np.int32)
    for function in (resample.paste, resample.crop):
        exact = function(ramp, box, side, side)
        rough = function(jnp.asarray(ramp, jnp.bfloat16), jnp.asarray(box), side, side)
        assert rough.dtype == jnp.bfloat16
        # Two products and a sum of numbers up to 1, each with 8 bits.
        np.testing.assert_allclose(np.asarray(rough, np.float32), exact, atol=0.02)
    matrix = resample.paste_map(jnp.asarray(box[:, 1]), jnp.asarray(box[:, 3]), side, side, jnp.bfloat16)
    sums = np.asarray(matrix, np.float32).sum(axis=2)
    np.testing.assert_allclose(sums, resample.inside(box[:, [1, 0, 3, 2]], 3, side)[:, 2], atol=0.01)


def test_one_compile_serves_all_boxes() -> None:
    traces = []

    @jax.jit
    def both(feature: jax.Array, boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
        traces.append(boxes.shape)
        return resample.paste(feature, boxes, 16, 16), resample.crop(feature, boxes, 16, 16)

    feature = random(1, 16, 16, 1).astype(np.float32)
    for box in BOXES:
        pasted, cropped = both(feature, box[None])
        np.testing.assert_allclose(pasted, resample.paste(feature, box[None], 16, 16), atol=2e-6)
        np.testing.assert_allclose(cropped, resample.crop(feature, box[None], 16, 16), atol=2e-6)
    assert traces == [(1, 4)]


def test_gradient_of_a_paste_is_its_transpose() -> None:
    """What is pasted outside the box of nothing: no gradient; a box of one pixel reads the crop's middle."""
    feature = jnp.asarray(random(1, 4, 4, 1), jnp.float32)
    box = jnp.asarray([[3, 3, 1, 1]])
    gradient = jax.grad(lambda f: resample.paste(f, box, 8, 8).sum())(feature)[0, ..., 0]
    expected = np.zeros((4, 4))
    expected[1:3, 1:3] = 0.25
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize(("in_side", "out_side"), [(40, 16), (33, 16), (16, 16), (10, 16), (7, 3)])
def test_shrinking_is_pillows_bilinear(in_side: int, out_side: int) -> None:
    pixels = np.random.default_rng(in_side).uniform(0, 255, (in_side, in_side)).astype(np.float32)
    expected = np.asarray(Image.fromarray(pixels).resize((out_side, out_side), Image.Resampling.BILINEAR))
    whole = np.array([0.0]), np.array([float(in_side)])
    rows = resample.shrink_map(*whole, out_side, in_side, np.float64)[0]
    np.testing.assert_allclose(rows @ pixels @ rows.T, expected, atol=1e-2)
    np.testing.assert_allclose(rows.sum(axis=1), 1)


@settings(max_examples=50)
@given(st.floats(0, 20), st.floats(0.05, 30), st.integers(1, 24))
def test_shrinking_reads_nothing_outside_its_window(start: float, size: float, out_side: int) -> None:
    size = min(size, 24 - start)
    rows = resample.shrink_map(np.array([start]), np.array([size]), out_side, 24, np.float64)[0]
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    sample = np.arange(24)
    assert (rows[:, (sample + 1 < start) | (sample > start + size)] == 0).all()

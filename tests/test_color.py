"""Colour against the reference's goldens and against scikit-image, in NumPy and in JAX."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import lab2rgb, rgb2lab

from jaxcolor import color

GOLDEN = dict(np.load(Path(__file__).parent / "goldens" / "color.npz"))
CORNERS = np.array([[r, g, b] for r in (0, 1) for g in (0, 1) for b in (0, 1)], np.float64)

both = pytest.mark.parametrize("to_array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
ToArray = Callable[..., Any]


@both
class TestGoldens:
    def test_rgb_to_lab(self, to_array: ToArray) -> None:
        lab = color.rgb_to_lab(to_array(GOLDEN["rgb"]))
        luminance, ab = color.normalize_lab(lab)
        np.testing.assert_allclose(luminance, GOLDEN["lab_norm"][..., :1], atol=1e-4, rtol=0)
        np.testing.assert_allclose(ab, GOLDEN["lab_norm"][..., 1:], atol=1e-4, rtol=0)

    @pytest.mark.parametrize(("given", "expected"), [("lab_norm", "rgb_back"), ("wild_lab_norm", "wild_rgb")])
    def test_lab_to_rgb(self, to_array: ToArray, given: str, expected: str) -> None:
        lab = to_array(GOLDEN[given])
        rgb = color.lab_to_rgb(color.denormalize_lab(lab[..., :1], lab[..., 1:]), clip=False)
        np.testing.assert_allclose(rgb, GOLDEN[expected], atol=1e-4, rtol=0)
        clipped = color.lab_to_rgb(color.denormalize_lab(lab[..., :1], lab[..., 1:]))
        np.testing.assert_allclose(clipped, GOLDEN[expected].clip(0, 1), atol=1e-4, rtol=0)

    def test_wild_colours_are_clamped_below_and_not_above(self, to_array: ToArray) -> None:
        rgb = color.lab_to_rgb(to_array(GOLDEN["wild_lab_norm"]) * np.float32(110), clip=False)
        assert rgb.min() >= 0
        assert rgb.max() > 1

    def test_bins(self, to_array: ToArray) -> None:
        np.testing.assert_array_equal(color.ab_to_bin(to_array(GOLDEN["lab_norm"][..., 1:])), GOLDEN["ab_index"])
        mean = color.mean_ab(to_array(GOLDEN["bins_prob"]))
        np.testing.assert_allclose(mean, GOLDEN["bins_mean_ab"], atol=1e-4, rtol=0)


@both
def test_it_answers_in_kind_and_in_the_type_given(to_array: ToArray) -> None:
    rgb = to_array(GOLDEN["rgb"])
    lab = color.rgb_to_lab(rgb)
    for result in (lab, color.lab_to_rgb(lab), *color.normalize_lab(lab), color.ab_range(lab[..., 1:])):
        assert type(result) is type(rgb)
        assert result.dtype == np.float32
    assert color.quantize_rgb(rgb).dtype == np.uint8
    assert color.ab_to_bin(lab[..., 1:] / 110).dtype == np.int32


def test_float64_stays_float64_and_agrees_with_scikit_image() -> None:
    rgb = np.random.default_rng(0).random((50, 40, 3))
    lab = color.rgb_to_lab(rgb)
    assert lab.dtype == np.float64
    np.testing.assert_allclose(lab, rgb2lab(rgb), atol=5e-3)  # the reference rounds its matrices to six digits
    np.testing.assert_allclose(color.lab_to_rgb(lab), lab2rgb(rgb2lab(rgb)), atol=5e-4)


def test_known_colours() -> None:
    lab = color.rgb_to_lab(np.array([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]))
    expected = [[0, 0, 0], [100, 0, 0], [53.24, 80.09, 67.2], [87.73, -86.18, 83.18], [32.3, 79.19, -107.86]]
    np.testing.assert_allclose(lab, expected, atol=0.02)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float64, (7, 3), elements=st.floats(0, 1)))
def test_colours_in_gamut_come_back(rgb: np.ndarray) -> None:
    lab = color.rgb_to_lab(rgb)
    assert (lab[..., 0] > -1e-3).all()
    assert (lab[..., 0] < 100.01).all()
    np.testing.assert_allclose(color.lab_to_rgb(lab), rgb, atol=2e-5)
    luminance, ab = color.normalize_lab(lab)
    assert np.abs(luminance).max() < 0.5001
    assert np.abs(ab).max() < 1
    np.testing.assert_allclose(color.denormalize_lab(luminance, ab), lab, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.uint8, (16, 3)))
def test_eight_bit_colours_come_back_exactly_in_float32(rgb: np.ndarray) -> None:
    for to_array in (np.asarray, jnp.asarray):
        back = color.quantize_rgb(color.lab_to_rgb(color.rgb_to_lab(color.unit_rgb(to_array(rgb)))))
        np.testing.assert_array_equal(back, rgb)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 255))
def test_gray_has_no_colour(level: int) -> None:
    lab = color.rgb_to_lab(color.unit_rgb(np.full((1, 3), level, np.uint8)))
    assert np.abs(lab[..., 1:]).max() < 0.02


def test_numpy_and_jax_agree() -> None:
    rgb = np.random.default_rng(1).random((32, 32, 3)).astype(np.float32)
    lab = color.rgb_to_lab(rgb)
    np.testing.assert_allclose(color.rgb_to_lab(jnp.asarray(rgb)), lab, atol=1e-3)
    np.testing.assert_allclose(color.lab_to_rgb(jnp.asarray(lab)), color.lab_to_rgb(lab), atol=1e-5)


@pytest.mark.parametrize("convert", [color.rgb_to_lab, color.lab_to_rgb])
def test_gradients_are_finite_at_the_corners_of_the_cube(convert: Callable[[Any], Any]) -> None:
    """Black and white are where powers and clamps bend."""
    points = CORNERS if convert is color.rgb_to_lab else color.rgb_to_lab(CORNERS)
    points = jnp.asarray(np.concatenate([points, [[0.0, 0, 0], [0.04045] * 3, [100, 0, 0]]]), jnp.float32)
    jacobian = jax.vmap(jax.jacobian(convert))(points)
    assert np.isfinite(jacobian).all()
    assert np.abs(jacobian[1:7]).max() > 0  # and not all cut off


def test_gradient_of_lab_is_that_of_finite_differences() -> None:
    rgb = np.random.default_rng(2).uniform(0.1, 0.9, (5, 3))
    with jax.enable_x64(True):
        jacobian = jax.vmap(jax.jacobian(color.rgb_to_lab))(jnp.asarray(rgb))
    for channel in range(3):
        shift = 1e-6 * np.eye(3)[channel]
        slope = (color.rgb_to_lab(rgb + shift) - color.rgb_to_lab(rgb - shift)) / 2e-6
        np.testing.assert_allclose(jacobian[..., channel], slope, rtol=1e-5, atol=1e-5)


@both
def test_quantize_rounds_to_nearest_and_clips(to_array: ToArray) -> None:
    values = np.array([[-0.5, 0, 0.4 / 255], [0.6 / 255, 254.4 / 255, 254.6 / 255], [1, 1.5, 100]], np.float32)
    np.testing.assert_array_equal(
        color.quantize_rgb(to_array(values)), np.array([[0, 0, 0], [1, 254, 255], [255, 255, 255]])
    )
    every = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    np.testing.assert_array_equal(color.quantize_rgb(color.unit_rgb(to_array(every))), every)


@both
def test_ab_range_adds_the_spans_of_both_channels(to_array: ToArray) -> None:
    ab = np.zeros((3, 4, 5, 2), np.float32)
    ab[0, 1, 2] = (0.3, -0.1)
    ab[1, 0, 0], ab[1, 3, 4] = (-0.2, 0.5), (0.4, 0.25)
    # Constant colour, however strong, is no variety.
    ab[2] = 0.7
    np.testing.assert_allclose(color.ab_range(to_array(ab)), [0.4, 0.6 + 0.5, 0], atol=1e-6)


class TestBins:
    def test_there_are_529_of_them(self) -> None:
        assert color.BINS == 529
        centers = color.bin_centers()
        assert len(np.unique(centers, axis=0)) == 529
        assert (centers.min(), centers.max()) == (-1, 1)

    @both
    def test_a_centre_lies_in_its_own_bin(self, to_array: ToArray) -> None:
        np.testing.assert_array_equal(color.ab_to_bin(to_array(color.bin_centers())), np.arange(529))

    @settings(max_examples=50, deadline=None)
    @given(st.floats(-1, 1), st.floats(-1, 1))
    def test_no_centre_is_nearer_than_that_of_the_bin(self, a: float, b: float) -> None:
        distance = np.hypot(*(color.bin_centers() - [a, b]).T)
        (chosen,) = color.ab_to_bin(np.array([[a, b]]))
        assert distance[chosen] <= distance.min() + 1e-9

    @both
    def test_certainty_has_the_bins_centre_as_its_mean(self, to_array: ToArray) -> None:
        certain = np.eye(529, dtype=np.float32)
        np.testing.assert_allclose(color.mean_ab(to_array(certain)), color.bin_centers(), atol=1e-6)
        half = (certain[0] + certain[528]) / 2
        np.testing.assert_allclose(color.mean_ab(to_array(half)), [0, 0], atol=1e-6)


def test_without_color_keeps_the_lightness() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    gray = color.without_color(rgb)
    assert gray.shape == (40, 50)
    assert gray.dtype == np.uint8
    lightness = [color.rgb_to_lab(color.unit_rgb(p))[..., 0] for p in (rgb, np.stack([gray] * 3, axis=-1))]
    np.testing.assert_allclose(*lightness, atol=0.5)  # 8 bits have steps of up to 0.9 in the darkest
    np.testing.assert_array_equal(color.without_color(np.stack([gray] * 3, axis=-1)), gray)

"""Color against the reference's goldens and against scikit-image, in NumPy and in JAX."""

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
from jaxcolor.runtime.errors import UserError

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

    def test_wild_colors_are_clamped_below_and_not_above(self, to_array: ToArray) -> None:
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


def test_known_colors() -> None:
    lab = color.rgb_to_lab(np.array([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]))
    expected = [[0, 0, 0], [100, 0, 0], [53.24, 80.09, 67.2], [87.73, -86.18, 83.18], [32.3, 79.19, -107.86]]
    np.testing.assert_allclose(lab, expected, atol=0.02)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float64, (7, 3), elements=st.floats(0, 1)))
def test_colors_in_gamut_come_back(rgb: np.ndarray) -> None:
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
def test_eight_bit_colors_come_back_exactly_in_float32(rgb: np.ndarray) -> None:
    for to_array in (np.asarray, jnp.asarray):
        back = color.quantize_rgb(color.lab_to_rgb(color.rgb_to_lab(color.unit_rgb(to_array(rgb)))))
        np.testing.assert_array_equal(back, rgb)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 255))
def test_gray_has_no_color(level: int) -> None:
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
    jacobian = jax.jit(jax.vmap(jax.jacobian(convert)))(points)
    assert np.isfinite(jacobian).all()
    assert np.abs(jacobian[1:7]).max() > 0  # and not all cut off


def test_gradient_of_lab_is_that_of_finite_differences() -> None:
    rgb = np.random.default_rng(2).uniform(0.1, 0.9, (5, 3))
    with jax.enable_x64(True):
        jacobian = jax.jit(jax.vmap(jax.jacobian(color.rgb_to_lab)))(jnp.asarray(rgb))
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
    # Constant color, however strong, is no variety.
    ab[2] = 0.7
    np.testing.assert_allclose(color.ab_range(to_array(ab)), [0.4, 0.6 + 0.5, 0], atol=1e-6)


def lines_to_extremes(seed: int, lines: int = 400) -> np.ndarray:
    """Lab, (lines, 60, 3): from gray to chroma 200 at an L* and a hue of each line; a quarter near the yellow corner.

    There gamut is not star-shaped: red leaves the cube and comes back.
    """
    rng = np.random.default_rng(seed)
    lightness, hue = rng.uniform(0, 100, lines), rng.uniform(0, 360, lines)
    lightness[::4], hue[::4] = rng.uniform(90, 99, lines // 4), rng.uniform(95, 115, lines // 4)
    chroma = np.linspace(0, 200, 60)
    a, b = (chroma * f(np.radians(hue))[:, None] for f in (np.cos, np.sin))
    return np.stack([np.broadcast_to(lightness[:, None], a.shape), a, b], axis=-1)


def excess(lab: np.ndarray) -> np.ndarray:
    """How far the 8-bit steps of sRGB would have to go beyond 0 and 255; an independent way to linear RGB."""
    root = np.stack([lab[..., 0] + 16, lab[..., 0] + 16, lab[..., 0] + 16], axis=-1) / 116
    root = root + np.stack([lab[..., 1] / 500, np.zeros_like(lab[..., 0]), -lab[..., 2] / 200], axis=-1)
    xyz = np.where(root > 6 / 29, root**3, 3 * (6 / 29) ** 2 * (root - 4 / 29)) * [0.95047, 1, 1.08883]
    to_xyz = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    linear = np.linalg.solve(np.array(to_xyz), xyz[..., None])[..., 0]
    return np.maximum(linear - 1, -linear).max(axis=-1)


class TestGamut:
    @settings(max_examples=5, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def test_lightness_and_hue_are_kept_to_extremes(self, seed: int) -> None:
        lab = lines_to_extremes(seed).astype(np.float32)
        fitted = color.fit_gamut(lab)
        assert excess(fitted.astype(np.float64)).max() < 3e-4
        np.testing.assert_array_equal(fitted[..., 0], lab[..., 0])
        cross = fitted[..., 1] * lab[..., 2] - fitted[..., 2] * lab[..., 1]
        np.testing.assert_allclose(cross, 0, atol=1e-2)  # of products up to 40,000
        assert (fitted[..., 1:] * lab[..., 1:] >= 0).all()
        shown = color.quantize_rgb(color.lab_to_rgb(fitted))
        assert np.abs(color.rgb_to_lab(color.unit_rgb(shown, np.float64))[..., 0] - lab[..., 0]).max() < 0.5

    def test_it_is_the_largest_chroma_in_gamut_and_never_falls(self) -> None:
        lab = lines_to_extremes(0)
        fitted = color.fit_gamut(lab)
        chroma, given = (np.hypot(x[..., 1], x[..., 2]) for x in (fitted, lab))
        assert np.diff(chroma, axis=1).min() > -0.1  # bisection's steps
        some, scales = lab[:8], np.linspace(0, 1, 801)[:, None, None]
        scan = np.repeat(some[None], 801, axis=0)
        scan[..., 1:] *= scales[..., None]
        largest = np.max(np.where(excess(scan) <= 1e-4, scales, 0), axis=0) * given[:8]
        np.testing.assert_allclose(chroma[:8], largest, atol=0.5)  # the scan's steps are 0.25

    @both
    def test_colors_in_gamut_are_untouched(self, to_array: ToArray) -> None:
        rng = np.random.default_rng(0)
        levels = np.concatenate([rng.integers(0, 256, (20000, 3)), 255 * CORNERS, np.arange(256)[:, None].repeat(3, 1)])
        lab = color.rgb_to_lab(color.unit_rgb(levels.astype(np.uint8)))
        np.testing.assert_array_equal(color.fit_gamut(to_array(lab)), lab)

    def test_clipping_alone_moves_lightness(self) -> None:
        """What the mapping is for."""
        lab = lines_to_extremes(1)
        clipped = color.rgb_to_lab(color.lab_to_rgb(lab))
        assert np.abs(clipped - lab)[..., 0].max() > 14

    def test_numpy_and_jax_agree(self) -> None:
        lab = lines_to_extremes(2).astype(np.float32)
        fitted = jax.jit(color.fit_gamut)(lab)
        assert fitted.dtype == np.float32
        np.testing.assert_allclose(fitted, color.fit_gamut(lab), atol=0.1)

    def test_one_color_and_none(self) -> None:
        red = np.array([50.0, 300, 0])
        np.testing.assert_allclose(color.fit_gamut(red), color.fit_gamut(red[None])[0])
        assert color.fit_gamut(np.zeros((0, 4, 3))).shape == (0, 4, 3)

    def test_beyond_white_is_gray(self) -> None:
        np.testing.assert_array_equal(color.fit_gamut(np.array([[101.0, 5, 5]])), [[101, 0, 0]])


def test_lightness_is_that_of_lab() -> None:
    rgb = np.concatenate([np.random.default_rng(0).integers(0, 256, (5000, 3)), np.arange(256)[:, None].repeat(3, 1)])
    lightness = color.lightness(rgb.astype(np.uint8))
    assert lightness.dtype == np.float32
    np.testing.assert_allclose(lightness, color.rgb_to_lab(rgb / 255)[:, 0], atol=1e-4)


class TestSaturation:
    @both
    def test_saturate_scales_chroma_alone(self, to_array: ToArray) -> None:
        ab = np.random.default_rng(0).normal(0, 20, (50, 2)).astype(np.float32)
        more = np.asarray(color.saturate(to_array(ab), 1.5))
        np.testing.assert_allclose(np.hypot(*more.T), 1.5 * np.hypot(*ab.T), rtol=1e-5)
        np.testing.assert_allclose(np.arctan2(*more.T), np.arctan2(*ab.T), rtol=1e-4)
        np.testing.assert_array_equal(color.saturate(to_array(ab), 0.0), np.zeros_like(ab))

    @pytest.mark.parametrize("match", ["quantiles", "means"])
    def test_calibration_finds_a_known_gain(self, match: Any) -> None:
        true = np.random.default_rng(0).gamma(2, 12, 20_000)
        predicted = np.minimum(true / 2, 10 + true / 8)
        curve = color.calibrate_saturation(predicted, true, match)
        ab = np.stack([predicted, np.zeros_like(predicted)], axis=-1)
        vivid = color.apply_saturation(curve, ab)[..., 0]
        middle = predicted < np.quantile(predicted, 0.95)  # beyond the last knot the gain stays
        assert np.abs(vivid - true)[middle].max() < 2.5
        assert np.abs(predicted - true)[middle].max() > 20

    def test_quantiles_match_the_distribution_and_means_the_pixels(self) -> None:
        """Predictions that know half of the truth's spread: each way does what it is for."""
        rng = np.random.default_rng(0)
        known, unknown = rng.gamma(3, 6, (2, 50_000))
        predicted, true = 0.5 * known + 5, known + unknown
        vivid = {}
        for match in ("quantiles", "means"):
            curve = color.calibrate_saturation(predicted, true, match)  # type: ignore[arg-type]
            vivid[match] = color.apply_saturation(curve, np.stack([0 * predicted, predicted], axis=-1))[..., 1]
        shares = np.linspace(0.05, 0.95, 10)
        np.testing.assert_allclose(np.quantile(vivid["quantiles"], shares), np.quantile(true, shares), rtol=0.03)
        error = {match: np.mean((v - true) ** 2) for match, v in vivid.items()}
        assert error["means"] < error["quantiles"] < np.mean((predicted - true) ** 2)
        np.testing.assert_allclose(vivid["means"].mean(), true.mean(), rtol=0.01)

    @settings(max_examples=40, deadline=None)
    @given(
        arrays.arrays(np.float64, 30, elements=st.floats(0, 150)),
        arrays.arrays(np.float64, 30, elements=st.floats(0, 150)),
        st.sampled_from(["quantiles", "means"]),
        st.floats(0, 1),
    )
    def test_a_curve_keeps_order_and_hue(
        self, predicted: np.ndarray, true: np.ndarray, match: Any, strength: float
    ) -> None:
        curve = color.calibrate_saturation(predicted, true, match, knots=8)
        assert (np.diff(curve.predicted) > 0).all()
        assert (np.diff(curve.wanted) >= -1e-9).all()
        chroma = np.linspace(0, 200, 301)
        ab = np.stack([0.6 * chroma, -0.8 * chroma], axis=-1)
        vivid = color.apply_saturation(curve, ab, strength)
        assert (np.diff(np.hypot(*vivid.T)) >= -1e-6).all()
        np.testing.assert_allclose(0.8 * vivid[:, 0], -0.6 * vivid[:, 1], rtol=1e-9)
        np.testing.assert_array_equal(color.apply_saturation(curve, ab, 0.0), ab)

    def test_means_that_fall_are_pooled(self) -> None:
        curve = color.calibrate_saturation(np.array([1.0, 2, 3, 4]), np.array([10.0, 40, 20, 50]), "means", knots=4)
        assert curve == color.SaturationCurve((0, 1, 2, 3, 4), (0, 10, 30, 30, 50))

    def test_in_jax_too_with_gradients_at_gray(self) -> None:
        curve = color.SaturationCurve((0.0, 10.0, 30.0), (0.0, 20.0, 40.0))
        ab = np.array([[0, 0], [5, 0], [0, 20], [-60, 0]], np.float32)
        vivid = jax.jit(lambda x: color.apply_saturation(curve, x))(ab)
        np.testing.assert_allclose(vivid, [[0, 0], [10, 0], [0, 30], [-80, 0]], rtol=1e-6)
        np.testing.assert_allclose(color.apply_saturation(curve, ab), vivid, rtol=1e-6)
        assert color.apply_saturation(curve, ab).dtype == np.float32
        gradient = jax.grad(lambda x: color.apply_saturation(curve, x).sum())(jnp.asarray(ab))
        np.testing.assert_allclose(gradient[0], [2, 2], rtol=1e-5)

    def test_gray_predictions_calibrate_to_nothing(self) -> None:
        curve = color.calibrate_saturation(np.zeros(10), np.full(10, 30.0))
        ab = np.ones((3, 2))
        np.testing.assert_array_equal(color.apply_saturation(curve, ab), ab)

    @pytest.mark.parametrize(
        ("predicted", "true", "message"),
        [
            ([], [], "0 predicted"),
            ([1.0], [1.0, 2], "1 predicted and 2"),
            ([np.nan], [1.0], "finite"),
            ([-1.0], [1.0], "0"),
        ],
    )
    def test_what_cannot_be_calibrated(self, predicted: list[float], true: list[float], message: str) -> None:
        with pytest.raises(UserError, match=message):
            color.calibrate_saturation(np.array(predicted, np.float64), np.array(true, np.float64))


class TestBins:
    def test_there_are_529_of_them(self) -> None:
        assert color.BINS == 529
        centers = color.bin_centers()
        assert len(np.unique(centers, axis=0)) == 529
        assert (centers.min(), centers.max()) == (-1, 1)

    @both
    def test_a_center_lies_in_its_own_bin(self, to_array: ToArray) -> None:
        np.testing.assert_array_equal(color.ab_to_bin(to_array(color.bin_centers())), np.arange(529))

    @settings(max_examples=50, deadline=None)
    @given(st.floats(-1, 1), st.floats(-1, 1))
    def test_no_center_is_nearer_than_that_of_the_bin(self, a: float, b: float) -> None:
        distance = np.hypot(*(color.bin_centers() - [a, b]).T)
        (chosen,) = color.ab_to_bin(np.array([[a, b]]))
        assert distance[chosen] <= distance.min() + 1e-9

    @both
    def test_certainty_has_the_bins_center_as_its_mean(self, to_array: ToArray) -> None:
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

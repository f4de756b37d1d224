"""ab from the canvas to the photo's size: strips, edges, and what join makes of it."""

import tracemalloc
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxcolor import color
from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.inference.upsample import Upsampling, join, luma_slope, reduced, strips, upsampled
from jaxcolor.runtime.errors import UserError
from tests.small import FEW, photo, variables


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def canvas_ab(side: int = 16, seed: int = 0, scale: float = 30) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, (side, side, 2)).astype(np.float32)


def whole(rgb: np.ndarray, ab: np.ndarray, upsampling: Upsampling, strip_pixels: int = 1 << 30) -> np.ndarray:
    return np.concatenate([strip.lab for strip in upsampled(rgb, ab, upsampling, strip_pixels)])


def resized(plane: np.ndarray, height: int, width: int, resampling: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize((width, height), resampling))


@pytest.mark.parametrize("upsampling", ["luma_slope", "bilinear"])
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 800), st.integers(0, 1000))
def test_strips_equal_the_whole(upsampling: Any, height: int, width: int, strip_pixels: int, seed: int) -> None:
    rgb, ab = noise(height, width, seed), canvas_ab(seed=seed)
    expected = whole(rgb, ab, upsampling)
    assert expected.shape == (height, width, 3)
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(whole(rgb, ab, upsampling, strip_pixels), expected)
    np.testing.assert_array_equal(expected[..., 0], color.lightness(rgb))


@pytest.mark.parametrize(("height", "pixels"), [(1, 1), (10, 35), (10, 1000), (7, 1)])
def test_strips_cover_the_rows_once(height: int, pixels: int) -> None:
    parts = list(strips(height, 10, pixels))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(height))
    assert all(part.stop - part.start == 1 or (part.stop - part.start) * 10 <= pixels for part in parts)


@pytest.mark.parametrize(("height", "width"), [(50, 70), (9, 300), (16, 16), (5, 3)])
def test_reduced_is_what_the_networks_see(height: int, width: int) -> None:
    rgb = noise(height, width)
    expected = np.asarray(Image.fromarray(rgb).resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(reduced(rgb, 16), expected)


def test_bilinear_is_pillows() -> None:
    rgb, ab = noise(50, 70), canvas_ab()
    got = whole(rgb, ab, "bilinear")
    for channel in range(2):
        expected = resized(ab[..., channel], 50, 70, Image.Resampling.BILINEAR)
        np.testing.assert_allclose(got[..., 1 + channel], expected, atol=1e-4)


def test_luma_slope_is_its_definition() -> None:
    """Written out pixel by pixel."""
    rgb, ab = noise(40, 56), canvas_ab()
    light = color.rgb_to_lab(reduced(rgb, 16) / 255)[..., 0]
    detail = color.rgb_to_lab(rgb / 255)[..., 0] - resized(light, 40, 56, Image.Resampling.BICUBIC)
    got = whole(rgb, ab, "luma_slope")
    for channel in range(2):
        slope = np.zeros((16, 16))
        for i in range(16):
            for j in range(16):
                rows, columns = (np.clip(np.arange(k - 1, k + 2), 0, 15) for k in (i, j))
                window = np.ix_(rows, columns)
                covariance = np.cov(light[window].ravel(), ab[..., channel][window].ravel(), bias=True)
                slope[i, j] = covariance[0, 1] / (covariance[0, 0] + 100)
        expected = resized(ab[..., channel], 40, 56, Image.Resampling.BICUBIC)
        expected = expected + resized(slope, 40, 56, Image.Resampling.BILINEAR) * detail
        np.testing.assert_allclose(got[..., 1 + channel], expected, atol=2e-3)


def test_slopes_are_batched_and_of_both_worlds() -> None:
    rng = np.random.default_rng(0)
    light, ab = rng.uniform(0, 100, (3, 8, 9)), rng.normal(0, 30, (3, 8, 9, 2))
    slopes = luma_slope(light, ab)
    for one, its_light, its_ab in zip(slopes, light, ab, strict=True):
        np.testing.assert_allclose(one, luma_slope(its_light, its_ab))
    on_device = luma_slope(jnp.asarray(light, jnp.float32), jnp.asarray(ab, jnp.float32))
    np.testing.assert_allclose(on_device, slopes, atol=1e-3)
    np.testing.assert_allclose(luma_slope(light, np.stack([2 * light, 0 * light], axis=-1), 0.0)[..., 0], 2, rtol=1e-6)


def test_a_sharp_edge_keeps_its_color_on_its_side() -> None:
    """A dark red and a light blue half whose edge falls inside a canvas pixel."""
    rgb = np.empty((96, 96, 3), np.uint8)
    rgb[:, :45], rgb[:, 45:] = (120, 30, 30), (150, 190, 255)
    truth = color.rgb_to_lab(color.unit_rgb(rgb))
    ab = np.stack([resized(truth[..., i], 8, 8, Image.Resampling.BILINEAR) for i in (1, 2)], axis=-1)
    error = {kind: np.abs(whole(rgb, ab, kind) - truth)[:, 36:54].mean() for kind in ("luma_slope", "bilinear")}
    assert error["luma_slope"] < 0.5 * error["bilinear"]


def test_a_flat_photo_has_flat_color() -> None:
    rgb = np.full((31, 47, 3), 90, np.uint8)
    ab = np.tile(np.float32([20, -10]), (16, 16, 1))
    for kind in ("luma_slope", "bilinear"):
        np.testing.assert_allclose(whole(rgb, ab, kind)[..., 1:], np.broadcast_to([20, -10], (31, 47, 2)), atol=1e-4)


class TestJoin:
    @pytest.mark.parametrize("upsampling", ["luma_slope", "bilinear"])
    @pytest.mark.parametrize("scale", [0.2, 1.0])
    def test_lightness_is_kept_whatever_the_color(self, upsampling: Any, scale: float) -> None:
        rgb = noise(60, 70)
        result = join(rgb, canvas_ab(scale=scale), upsampling=upsampling)
        before, after = (color.rgb_to_lab(color.unit_rgb(x, np.float64))[..., 0] for x in (rgb, result))
        assert np.abs(after - before).max() < 0.5
        clipped = join(rgb, canvas_ab(scale=scale), upsampling=upsampling, gamut="clip")
        moved = np.abs(color.rgb_to_lab(color.unit_rgb(clipped, np.float64))[..., 0] - before).max()
        assert moved > 5

    def test_saturation_scales_chroma_and_0_is_gray(self) -> None:
        rgb, ab = photo(np.random.default_rng(0), 40, 50), canvas_ab(scale=0.03)
        chroma = [
            np.linalg.norm(color.rgb_to_lab(color.unit_rgb(join(rgb, ab, saturation=s)))[..., 1:], axis=-1).mean()
            for s in (0.0, 0.5, 1.0, 2.0)
        ]
        assert chroma[0] < 0.02
        np.testing.assert_allclose(chroma[1:], np.array([0.5, 1, 2]) * chroma[2], rtol=0.05)

    def test_memory_is_that_of_strips(self) -> None:
        rgb = np.tile(noise(50, 50), (30, 20, 1))
        ab = canvas_ab(side=64, scale=0.02)
        join(rgb[:50], ab)  # what is made once
        tracemalloc.start()
        try:
            result = join(rgb, ab)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < result.nbytes + 12e6  # the whole photo's Lab in float32 would be 18e6

    def test_reading_only_arrays_and_views(self) -> None:
        """As Pillow hands them out, and as a turned photo is."""
        rgb = noise(30, 40)
        rgb.flags.writeable = False
        np.testing.assert_array_equal(join(np.rot90(rgb), canvas_ab()), join(np.rot90(rgb).copy(), canvas_ab()))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"upsampling": "cubic"}, "upsampling 'cubic': must be luma_slope or bilinear"),
            ({"gamut": "none"}, "gamut 'none': must be chroma or clip"),
            ({"saturation": -1.0}, "saturation -1.0: must be finite and at least 0"),
            ({"saturation": float("nan")}, "saturation nan"),
        ],
    )
    def test_what_there_is_not(self, options: dict[str, Any], message: str) -> None:
        unchecked: Any = getattr(join, "__wrapped__", join)
        with pytest.raises(UserError, match=message):
            unchecked(noise(8, 8), canvas_ab(), **options)


def test_the_colorizer_hands_its_choices_on() -> None:
    trees = {"full": variables(FEW)["full"]}
    rgb = photo(np.random.default_rng(0), 30, 40)
    plain = Colorizer(FEW, trees)(rgb)
    gray = Colorizer(FEW, trees, upsampling="bilinear", saturation=0.0)
    shown, bilinear = gray(rgb), gray(rgb, saturation=1.0)
    assert not np.array_equal(plain, bilinear)
    assert np.abs(plain.astype(int) - bilinear).mean() < 20
    assert (shown.max(axis=-1) - shown.min(axis=-1)).max() <= 1
    with pytest.raises(UserError, match="saturation -2"):
        gray(rgb, saturation=-2.0)

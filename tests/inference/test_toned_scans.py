"""Scans of toned prints (sepia, cyanotype): they are read as L*, and nothing of their tone is left in the result."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxcolor import color
from jaxcolor.data.transforms import read_rgb
from jaxcolor.inference.colorizer import Colorizer
from tests.robustness.photos import SRGB_PRIMARIES, curve, gray_profile, parametric, rgb_profile
from tests.small import MODEL, photo, variables

TONES = {"sepia": (0.95, 0.78, 0.55), "cyanotype": (0.45, 0.65, 0.9)}


@pytest.fixture(scope="module")
def colorizer() -> Colorizer:
    return Colorizer(MODEL, {"full": variables(MODEL)["full"]})


def toned(tone: tuple[float, float, float]) -> np.ndarray:
    """A scan of a print in one ink on paper."""
    density = photo(np.random.default_rng(3), 40, 56).mean(axis=-1, keepdims=True) / 255
    return np.rint(255 * density * np.array(tone)).astype(np.uint8)


@pytest.mark.parametrize("tone", TONES)
def test_only_the_lightness_of_a_toned_scan_counts(colorizer: Colorizer, tone: str) -> None:
    scan = toned(TONES[tone])
    assert np.ptp(scan.astype(int), axis=-1).max() > 50
    neutral = color.without_color(scan)
    from_scan, from_neutral = colorizer(scan).astype(int), colorizer(neutral).astype(int)
    # The neutral twin is rounded to whole levels, which random networks amplify.
    difference = np.abs(from_scan - from_neutral)
    assert difference.mean() < 1
    assert difference.max() < 10
    assert np.ptp(from_scan, axis=-1).max() > 10
    np.testing.assert_allclose(color.lightness(from_scan.astype(np.uint8)), color.lightness(scan), atol=0.5)


def test_without_chroma_the_result_is_neutral(colorizer: Colorizer) -> None:
    scan = toned(TONES["sepia"])
    result = colorizer(scan, saturation=0.0).astype(int)
    assert np.ptp(result, axis=-1).max() <= 1
    assert np.abs(result - color.without_color(scan)[..., None]).max() <= 1


def test_the_profile_of_a_toned_scan_decides_its_lightness(tmp_path: Path) -> None:
    """A scanner's gamma of 1.8: L* follows from the profile's own primaries and curve."""
    scan, path = toned(TONES["sepia"]), tmp_path / "scan.png"
    Image.fromarray(scan).save(path, icc_profile=rgb_profile(curve(461), SRGB_PRIMARIES))
    luminance = ((scan / 255) ** (461 / 256)) @ np.array(SRGB_PRIMARIES)[:, 1]
    expected = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)
    read = read_rgb(path)
    np.testing.assert_allclose(color.lightness(read), expected, atol=1.0)
    Image.fromarray(scan).save(
        path, icc_profile=rgb_profile(parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    )
    np.testing.assert_array_equal(read_rgb(path), scan)
    assert np.abs(color.lightness(scan) - expected).mean() > 3  # without the profile it would be another one


def test_a_profile_for_gray_on_a_toned_scan_is_left_aside(tmp_path: Path) -> None:
    scan, path = toned(TONES["sepia"]), tmp_path / "scan.png"
    Image.fromarray(scan).save(path, icc_profile=gray_profile(curve(256)))
    np.testing.assert_array_equal(read_rgb(path), scan)

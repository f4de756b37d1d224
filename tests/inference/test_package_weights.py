"""The weights that come with the package, on the demo's photographs, against the numbers that they had at first."""

import functools
import importlib.resources

import numpy as np
import pytest
from PIL import Image

from jaxcolor import Colorizer
from jaxcolor.color import without_color
from jaxcolor.demo_photos import FOLDER
from jaxcolor.weights import packaged

NAMES = ("astronaut", "rocket", "chelsea")
SLOW_ROCKET = pytest.param("rocket", 2, 26.21, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def fast() -> Colorizer:
    if packaged.FAST not in packaged.read_registry(packaged.folder()):
        pytest.skip("this package has no fast weights")
    return Colorizer.from_pretrained("fast")


def psnr(result: np.ndarray, other: np.ndarray) -> float:
    """In dB, of 8-bit pictures."""
    return float(10 * np.log10(255**2 / np.square(result.astype(np.float64) - other).mean()))


def photograph(name: str) -> np.ndarray:
    with Image.open(FOLDER / f"{name}.jpg") as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def colorizer() -> Colorizer:
    return Colorizer.from_pretrained()


@functools.cache
def colored(of: Colorizer, name: str, vivid: float) -> np.ndarray:
    """Several tests look at it."""
    return of(photograph(name), vivid=vivid)


@pytest.mark.parametrize(
    ("name", "safe", "vivid"), [("astronaut", 25.17, 22.39), ("rocket", 26.33, 25.95), ("chelsea", 22.07, 23.85)]
)
def test_colors_of_photographs(colorizer: Colorizer, name: str, safe: float, vivid: float) -> None:
    """PSNR at the photo's own size; the truth's own colors are not read but for their L*."""
    truth = photograph(name)
    for strength, expected in ((0, safe), (0.75, vivid)):
        assert psnr(colored(colorizer, name, strength), truth) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(
    ("name", "safe", "vivid"), [("astronaut", 23.61, 22.30), ("rocket", 26.03, 25.28), ("chelsea", 21.71, 23.19)]
)
def test_fast_colors_of_photographs(fast: Colorizer, name: str, safe: float, vivid: float) -> None:
    truth = photograph(name)
    for strength, expected in ((0, safe), (0.75, vivid)):
        assert psnr(colored(fast, name, strength), truth) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(("name", "objects", "fused"), [("chelsea", 2, 22.11), SLOW_ROCKET])
def test_they_find_objects_and_look_at_each(colorizer: Colorizer, name: str, objects: int, fused: float) -> None:
    """By the head that comes with them."""
    truth = photograph(name)
    found = colorizer.find_boxes([truth])[0]
    assert len(found.boxes) == objects
    result = colorizer(truth, "auto")
    assert psnr(result, truth) == pytest.approx(fused, abs=0.05)
    assert not np.array_equal(result, colored(colorizer, name, 0))


def test_fast_weights_take_boxes(fast: Colorizer) -> None:
    assert fast.uses_boxes
    assert not fast.finds_boxes
    truth = photograph("rocket")
    assert psnr(fast(truth, [[20, 20, 200, 200]]), truth) == pytest.approx(26.23, abs=0.05)


def test_fast_colors_are_near_the_default_ones(colorizer: Colorizer, fast: Colorizer) -> None:
    """They are distilled from them: nearer to them than gray is, on the whole, and hardly farther from the truth."""
    rows = []
    for name in NAMES:
        truth = photograph(name)
        gray = np.repeat(without_color(truth)[..., None], 3, axis=-1)
        wide, narrow = colored(colorizer, name, 0), colored(fast, name, 0)
        rows.append((psnr(gray, wide), psnr(narrow, wide), psnr(wide, truth), psnr(narrow, truth)))
    of_gray, near, wide_to_truth, narrow_to_truth = np.mean(rows, axis=0)
    assert near > of_gray + 1
    assert narrow_to_truth > wide_to_truth - 1


def test_fast_weights_are_small(fast: Colorizer) -> None:
    entry = packaged.read_registry(packaged.folder())[packaged.FAST]
    assert fast.config.width <= 0.5
    assert fast.config.side == 256
    assert fast.has_classes
    with importlib.resources.as_file(packaged.folder() / entry.file) as path:
        assert path.stat().st_size <= 12e6


def test_all_weights_are_below_40_megabytes() -> None:
    with importlib.resources.as_file(packaged.folder()) as folder:
        assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) <= 40e6


def test_they_are_safe_unless_told_otherwise(colorizer: Colorizer) -> None:
    assert colorizer.vivid == 0
    assert colorizer.has_classes
    assert colorizer.uses_boxes
    assert colorizer.finds_boxes

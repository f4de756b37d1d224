"""The weights that come with the package, on the demo's photographs, against the numbers that they had at first."""

import numpy as np
import pytest
from PIL import Image

from jaxcolor import Colorizer
from jaxcolor.demo_photos import FOLDER


@pytest.fixture(scope="module")
def colorizer() -> Colorizer:
    return Colorizer.from_pretrained()


@pytest.mark.parametrize(
    ("name", "safe", "vivid"), [("astronaut", 24.41, 21.60), ("rocket", 25.90, 25.40), ("chelsea", 22.24, 23.95)]
)
def test_colors_of_photographs(colorizer: Colorizer, name: str, safe: float, vivid: float) -> None:
    """PSNR at the photo's own size; the truth's own colors are not read but for their L*."""
    with Image.open(FOLDER / f"{name}.jpg") as image:
        truth = np.asarray(image.convert("RGB"))
    for strength, expected in ((0, safe), (0.75, vivid)):
        result = colorizer(truth, vivid=strength)
        psnr = 10 * np.log10(255**2 / np.square(result.astype(np.float64) - truth).mean())
        assert psnr == pytest.approx(expected, abs=0.05)


def test_they_are_safe_unless_told_otherwise(colorizer: Colorizer) -> None:
    assert colorizer.vivid == 0
    assert colorizer.has_classes
    assert not colorizer.uses_boxes

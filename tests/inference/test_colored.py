"""What ``Colorizer`` returns is an array, and shows itself in notebooks."""

import base64
import io
import pickle
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcolor import Colorizer
from jaxcolor.inference.colored import Colored
from jaxcolor.inference.upsample import without_color
from tests import small

RGB = small.photo(np.random.default_rng(0), 30, 500)


def pictures(html: str) -> list[Image.Image]:
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="(\w+)"', html)
    assert [name for _, name in found] == ["gray", "colored"]
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data, _ in found]


@pytest.mark.parametrize("scale", [None, 257])
def test_before_and_after_side_by_side(scale: int | None) -> None:
    pixels = RGB if scale is None else RGB.astype(np.uint16) * scale
    html = pixels.view(Colored)._repr_html_()
    assert html is not None
    before, after = pictures(html)
    assert before.size == after.size == (360, 22)
    shrunk = Image.fromarray(RGB)
    shrunk.thumbnail((360, 360))
    np.testing.assert_array_equal(np.asarray(after), np.asarray(shrunk))
    np.testing.assert_array_equal(np.asarray(before), without_color(np.asarray(shrunk)))
    assert len(html) < 60_000


def test_it_is_an_array_for_all_else(tmp_path: Path) -> None:
    colored = RGB.copy().view(Colored)
    np.testing.assert_array_equal(colored, RGB)
    for computed in (colored + 1, colored / 255, colored == RGB, np.minimum(colored, 9), colored.mean(axis=2)):
        assert type(computed) is np.ndarray
    assert isinstance(colored.mean(), np.floating)
    assert isinstance(colored.max(), np.uint8)
    assert jnp.asarray(colored).shape == RGB.shape
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(colored)), RGB)
    Image.fromarray(colored).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), RGB)


def test_only_pictures_are_shown() -> None:
    colored = RGB.copy().view(Colored)
    assert colored[:5, :7]._repr_html_() is not None
    assert colored.shape == RGB.shape
    for other in (colored[..., 0], colored[0], colored[:0], colored.astype(np.float32)):
        assert other._repr_html_() is None


def test_colorizer_returns_it() -> None:
    colorizer = Colorizer(small.MODEL, {"full": small.variables()["full"]})
    first, second = colorizer.many([RGB, RGB[:, :40]])
    assert isinstance(first, Colored)
    assert isinstance(second, np.ndarray)
    assert colorizer(RGB)._repr_html_() == first._repr_html_()

"""Forms in which photos are given."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcolor.data.types import DataError
from jaxcolor.inference.photos import read_photo
from tests.small import photo

RGB = photo(np.random.default_rng(0), 6, 9)
GRAY = RGB[..., 0]
THREE_GRAY = np.repeat(GRAY[..., None], 3, axis=-1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    Image.fromarray(RGB).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (RGB, RGB),
        (jnp.asarray(RGB), RGB),
        (RGB[::-1, ::2], RGB[::-1, ::2]),
        (GRAY, THREE_GRAY),
        (jnp.asarray(GRAY), THREE_GRAY),
        (RGB.astype(np.uint16) * 257, RGB),
        (RGB.astype(">u2") * 257 + 128, RGB),  # what 8 bits cannot say is rounded
        (GRAY.astype(np.uint16) * 257 - 128, THREE_GRAY),
        (jnp.asarray(GRAY, jnp.uint16) * 257, THREE_GRAY),
        (Image.fromarray(RGB), RGB),
        (Image.fromarray(GRAY), THREE_GRAY),
        (Image.fromarray(GRAY.astype(np.uint16) * 257), THREE_GRAY),
        (Image.merge("RGBA", [*Image.fromarray(RGB).split(), Image.new("L", (9, 6), 255)]), RGB),
    ],
)
def test_what_is_taken(given: Any, expected: np.ndarray) -> None:
    found = read_photo(given)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_files_and_pictures_are_upright(file: Path, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_photo(file), RGB)
    np.testing.assert_array_equal(read_photo(str(file)), RGB)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned 90 degrees clockwise
    Image.fromarray(np.rot90(RGB)).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        np.testing.assert_array_equal(read_photo(opened), RGB)
        assert opened.getexif()[0x0112] == 6  # the caller's is as it was


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (RGB.astype(np.float32), r"\(6, 9, 3\) float32"),
        (jnp.asarray(GRAY, jnp.float32), r"\(6, 9\) float32"),
        (RGB.astype(np.int32), r"\(6, 9, 3\) int32"),
        (RGB > 100, r"\(6, 9, 3\) bool"),
        (RGB[..., :2], r"\(6, 9, 2\) uint8"),
        (RGB[None], r"\(1, 6, 9, 3\) uint8"),
        (RGB[:0], r"\(0, 9, 3\) uint8"),
        (RGB.tolist(), "list"),
        (RGB.tobytes(), "bytes"),
        (None, "NoneType"),
    ],
)
def test_anything_else_says_what_is_taken(given: Any, named: str) -> None:
    taken = (
        r"a photo is a path, a PIL image, or a NumPy or JAX array, \(H, W\) or \(H, W, 3\), of uint8 or uint16; not "
    )
    with pytest.raises(ValueError, match=f"^{taken}{named}$"):
        read_photo(given)


def test_what_cannot_be_read(file: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: cannot read this photo"):
        read_photo(file.with_name("none.png"))
    with pytest.raises(DataError, match="this picture cannot be used: its pixels are floating-point numbers"):
        read_photo(Image.fromarray(GRAY.astype(np.float32)))

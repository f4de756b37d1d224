"""Results of 16 bits a channel: the luminance of 16-bit gray is never rounded to 8."""

import io
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageCms

from jaxcolor import color
from jaxcolor.cli import main
from jaxcolor.data.transforms import read_image, read_wide_gray
from jaxcolor.data.types import DataError, Encoded
from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.inference.pictures import Saving, encode
from jaxcolor.inference.upsample import join
from jaxcolor.weights import native
from tests import small

tifffile = pytest.importorskip("tifffile")

HEIGHT, WIDTH = 40, 60
LEVELS = np.linspace(8000, 52000, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
"""Eighteen levels to one of 8 bits."""


def encoded(pixels: np.ndarray, form: str = "TIFF", **settings: object) -> Encoded:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=form, **settings)
    return Encoded("old", file.getvalue())


def lightness(rgb: np.ndarray) -> np.ndarray:
    return color.rgb_to_lab(rgb / 65535)[..., 0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("w") / "small.safetensors"
    native.save(path, small.MODEL, {"full": small.variables()["full"]})
    return path


@pytest.mark.parametrize("form", ["TIFF", "PNG"])
def test_wide_gray_is_read_whole(form: str) -> None:
    np.testing.assert_array_equal(read_wide_gray(encoded(LEVELS, form)), LEVELS)
    np.testing.assert_array_equal(read_wide_gray(Image.fromarray(LEVELS)), LEVELS)


def test_wide_gray_is_turned_and_agrees_with_8_bits() -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo = encoded(LEVELS, exif=exif)
        wide = read_wide_gray(photo)
        assert wide is not None
        np.testing.assert_array_equal(color.to_8_bits(wide), np.asarray(read_image(photo))[..., 0])


def test_white_may_be_low_or_a_profile_say() -> None:
    inverted = encoded(LEVELS, tiffinfo={262: 0})
    np.testing.assert_array_equal(read_wide_gray(inverted), 65535 - LEVELS)
    linear = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    rgb = encoded(LEVELS, icc_profile=bytes(linear))
    assert read_wide_gray(rgb) is None  # of RGB, which Little CMS converts in 8 bits


def test_other_photos_are_not_wide() -> None:
    assert read_wide_gray(encoded(small.photo(np.random.default_rng(0)))) is None
    assert read_wide_gray(encoded(color.to_8_bits(LEVELS))) is None
    with pytest.raises(DataError, match=r"^old: cannot read this photo"):
        read_wide_gray(Encoded("old", b"II*\0"))


@pytest.mark.parametrize("saturation", [0.0, 1.0])
def test_lightness_is_kept_in_16_bits(saturation: float) -> None:
    ab = np.random.default_rng(0).uniform(-0.15, 0.15, (8, 8, 2)).astype(np.float32)
    photo = np.repeat(color.to_8_bits(LEVELS)[..., None], 3, axis=-1)
    truth = lightness(np.repeat(LEVELS[..., None], 3, axis=-1))
    result = join(photo, ab, saturation=saturation, wide_gray=LEVELS, bits=16)
    assert result.dtype == np.uint16
    error = np.abs(lightness(result) - truth).max()
    rounded = np.abs(lightness(join(photo, ab, saturation=saturation, bits=16)) - truth).max()
    assert error < 0.02  # the matrices' six digits, and what mapping into the gamut adds
    assert rounded > 0.1
    # The picture is the same else.
    eight = join(photo, ab, saturation=saturation)
    assert np.abs(color.to_8_bits(result).astype(int) - eight).max() <= 2


def test_gray_lightness_is_that_of_lab() -> None:
    every = np.arange(0, 65536, 7, dtype=np.uint16)
    lab = color.rgb_to_lab(np.repeat(every[:, None], 3, axis=1) / 65535)
    np.testing.assert_allclose(color.gray_lightness(every), lab[:, 0], atol=1e-5)


def test_files_are_read_by_others(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 65536, (31, 17, 3), dtype=np.uint16)
    encode(tmp_path / "a.tif", rgb, Saving("tiff16", weights="w"))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), rgb)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        (page,) = file.pages
        assert (page.photometric.name, page.bitspersample, page.shape) == ("RGB", 16, (31, 17, 3))
    with Image.open(tmp_path / "a.tif") as image:  # which has no 16-bit colors
        np.testing.assert_array_equal(np.asarray(image), rgb >> 8)


def test_colorizer_gives_16_bits(weights: Path) -> None:
    colorizer = Colorizer.from_pretrained(weights, bits=16, saturation=0.1)  # strong colors are mapped, to 0.1 of L*
    wide, eight = colorizer.many([LEVELS, color.to_8_bits(LEVELS)])
    assert (wide.dtype, eight.dtype) == (np.uint16, np.uint16)
    given = lightness(np.repeat(LEVELS[..., None], 3, axis=-1))
    assert np.abs(lightness(wide) - given).max() < 0.02
    again = colorizer(jnp.asarray(LEVELS))
    np.testing.assert_array_equal(again, colorizer(Image.fromarray(LEVELS)))
    plain = Colorizer.from_pretrained(weights, saturation=0.1)(LEVELS)
    assert plain.dtype == np.uint8
    assert np.abs(color.to_8_bits(again).astype(int) - plain).max() <= 2


def test_command(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(LEVELS).save(tmp_path / "in" / "old.tif", dpi=(300, 300))
    pages = [Image.fromarray(small.photo(np.random.default_rng(n), 8, 8)) for n in range(3)]
    pages[0].save(tmp_path / "in" / "pages.tif", save_all=True, append_images=pages[1:])
    command = ["colorize", str(tmp_path / "in"), "-w", str(weights), "-o", str(tmp_path / "out")]
    assert main([*command, "--format", "tiff16", "--side-by-side", "--saturation", "0.1"]) == 0
    result = tifffile.imread(tmp_path / "out" / "old.tif")
    assert (result.shape, result.dtype) == ((HEIGHT, WIDTH, 3), np.uint16)
    assert np.abs(lightness(result) - lightness(np.repeat(LEVELS[..., None], 3, axis=-1))).max() < 0.02
    assert len(np.unique(result[..., 1])) > 1000
    assert tifffile.imread(tmp_path / "out" / "pages.tif").dtype == np.uint16
    beside = tifffile.imread(tmp_path / "out" / "old.side_by_side.tif")
    assert (beside.shape, beside.dtype) == ((HEIGHT, 2 * WIDTH + 2, 3), np.uint8)
    said = capsys.readouterr().err
    assert f"{tmp_path / 'in' / 'pages.tif'}: of its 3 pictures the first is colored\n" in said
    assert "old.tif: of its" not in said

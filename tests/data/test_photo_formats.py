"""Files that are not plain 8-bit JPEGs: what each becomes, in training and when it is colored."""

import io
import struct
import zlib
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from jaxcolor.cli import main
from jaxcolor.config import DataConfig, FusionConfig
from jaxcolor.data.loader import eval_batches, train_batches
from jaxcolor.data.sources.registry import make_source
from jaxcolor.data.transforms import read_rgb, read_size
from jaxcolor.data.types import DataError
from jaxcolor.weights import native
from tests.small import FEW, variables

SIDE = 16
RAMP = np.linspace(0, 255, 24).astype(np.uint8)[None, :, None] * np.ones((20, 1, 3), np.uint8)
COLOUR = np.dstack([RAMP[..., 0], RAMP[..., 0][:, ::-1], np.full((20, 24), 90, np.uint8)])


def encoded(image, form, **options):
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


def sixteen_bit(form):
    wide = RAMP[..., 0].astype(np.uint16) * 257
    return encoded(Image.fromarray(wide), form)


def sixteen_bit_rgb():
    """A PNG of 16 bits a channel, which Pillow reads but cannot write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in COLOUR.astype(np.uint16) * 257)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 24, 20, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def several(form):
    first, second = Image.fromarray(COLOUR), Image.new("RGB", (24, 20), "red")
    return encoded(first, form, save_all=True, append_images=[second], **({"lossless": True} if form == "WEBP" else {}))


def bomb():
    """A PNG whose header claims 20,000 x 20,000 pixels, in a few hundred bytes."""
    whole = encoded(Image.new("L", (8, 8)), "PNG")
    header = b"IHDR" + struct.pack(">II", 20_000, 20_000) + whole[24:29]
    return whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]


def with_profile():
    """A photo that says it is in another colour space than sRGB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    return encoded(Image.fromarray(COLOUR), "PNG", icc_profile=profile)


JPEG = encoded(Image.fromarray(COLOUR), "JPEG", quality=95)
NOISE = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG")

GOOD = {
    "gray_jpeg.jpg": (encoded(Image.fromarray(RAMP[..., 0]), "JPEG", quality=95), RAMP, 3),
    "gray16.png": (sixteen_bit("PNG"), RAMP, 0),
    "gray16.tif": (sixteen_bit("TIFF"), RAMP, 0),
    "rgb16.png": (sixteen_bit_rgb(), COLOUR, 0),
    "cmyk.jpg": (encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG", quality=95), COLOUR, 25),
    "cmyk.tif": (encoded(Image.fromarray(COLOUR).convert("CMYK"), "TIFF"), COLOUR, 1),
    "palette.png": (encoded(Image.fromarray(COLOUR).quantize(255), "PNG"), COLOUR, 20),
    "palette.gif": (encoded(Image.fromarray(COLOUR).quantize(255), "GIF"), COLOUR, 20),
    "animated.gif": (several("GIF"), COLOUR, 40),
    "animated.webp": (several("WEBP"), COLOUR, 0),
    "animated.png": (several("PNG"), COLOUR, 0),
    "pages.tif": (several("TIFF"), COLOUR, 0),
    "really_a_png.jpg": (encoded(Image.fromarray(COLOUR), "PNG"), COLOUR, 0),
    "really_a_jpeg.png": (JPEG, COLOUR, 40),
    "profile.png": (with_profile(), COLOUR, 0),
    "one_pixel.png": (encoded(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"), np.full((1, 1, 3), (9, 8, 7)), 0),
}
"""File, the pixels it must show, and how far they may be off."""

BAD = {
    "bomb.png": (bomb(), "decompression bomb"),
    "truncated.jpg": (NOISE[: len(NOISE) // 2], "truncated"),
    "text.jpg": (b"dear diary", "cannot identify image file"),
    "page.png": (b"<html><body>404</body></html>", "cannot identify image file"),
    "empty.jpg": (b"", "the file is empty"),
    "float.tif": (encoded(Image.fromarray(RAMP[..., 0].astype(np.float32)), "TIFF"), "floating-point"),
    "zeros.jpg": (bytes(5000), "cannot identify image file"),
}
"""File, and what the line about it says."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p").mkdir()
    for number, (name, (data, *_)) in enumerate((GOOD | BAD).items()):
        (tmp_path / "p" / f"{number:02d}_{name}").write_bytes(data)
    return tmp_path / "p"


def found(folder: Path, names) -> set[str]:
    return {path.stem for path in folder.iterdir() if path.name[3:] in names}


@pytest.mark.parametrize("name", GOOD)
def test_what_it_shows(tmp_path, name):
    data, shown, tolerance = GOOD[name]
    (tmp_path / name).write_bytes(data)
    rgb = read_rgb(tmp_path / name)
    assert read_size(tmp_path / name) == rgb.shape[1::-1]
    assert np.abs(rgb.astype(int) - shown).max() <= tolerance


@pytest.mark.parametrize("name", BAD)
def test_what_is_said_of_it(tmp_path, name):
    data, said = BAD[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"{name}: cannot read this photo: .*{said}") as caught:
        read_rgb(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_large_text_in_a_png_is_no_way_in(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "a" * 80_000_000, zip=True)
    path = tmp_path / "text_bomb.png"
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match=r"text_bomb\.png: cannot read this photo"):
        read_rgb(path)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_names_counts_and_goes_on(folder, capsys, workers):
    config = DataConfig(path=str(folder), missing_boxes="none", bad_photos="skip", workers=workers)
    source = make_source(config, SIDE)
    with train_batches(source, config, parts="full", side=SIDE, batch_size=4) as batches:
        seen = list(islice(batches, 2 * len(GOOD | BAD) // 4))
    assert {name for loaded in seen for name in loaded.names} == found(folder, GOOD)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped:")]
    assert {line.split(": cannot")[0].rpartition("/")[2] for line in told} == {
        path.name for path in folder.iterdir() if path.name[3:] in BAD
    }
    assert len(told) == len(BAD)
    with eval_batches(source, config, side=SIDE, batch_size=4) as batches:
        assert {name for loaded in batches for name in loaded.names} - {""} == found(folder, GOOD)


def test_training_stops_at_the_first_by_default(folder):
    config = DataConfig(path=str(folder), missing_boxes="none")
    with pytest.raises(DataError, match="cannot read this photo"):
        make_source(config, SIDE)
    for name in set(BAD) - {"truncated.jpg"}:
        next(folder.glob(f"??_{name}")).unlink()
    source = make_source(config, SIDE)  # which sees headers, and that one is whole
    with (
        train_batches(source, config, parts="full", side=SIDE, batch_size=4) as batches,
        pytest.raises(DataError, match=r"truncated\.jpg: cannot read this photo"),
    ):
        list(islice(batches, 8))


def test_colorizing_tells_each_and_does_the_others(folder, tmp_path, capsys):
    config = replace(FEW, side=32, fusion=FusionConfig(layers=("conv2_2",)))
    native.save(tmp_path / "w.safetensors", config, variables(config))
    status = main(["colorize", str(folder), "-w", str(tmp_path / "w.safetensors"), "-o", str(tmp_path / "out")])
    lines = capsys.readouterr().err.splitlines()
    assert status == 1
    named = [line for line in lines if line.startswith("left out:")]
    assert {line.split(": cannot")[0].rpartition("/")[2][3:] for line in named} == set(BAD)
    assert lines[-1] == (
        f"jaxcolor colorize: {len(BAD)} of {len(GOOD | BAD)} photos could not be colored; they are named above"
    )
    assert {path.stem for path in (tmp_path / "out").iterdir()} == found(folder, GOOD)
    for path in (tmp_path / "out").iterdir():
        (original,) = folder.glob(f"{path.stem}.*")
        assert read_size(path) == read_size(original)

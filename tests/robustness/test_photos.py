"""Photos of every kind that is not plain: each is shown right, or refused in one line that names it."""

from __future__ import annotations

import io
import os
import stat
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from jaxcolor.config import DataConfig
from jaxcolor.data.sources.registry import make_source
from jaxcolor.data.transforms import check_header, read_encoded, read_image, read_rgb, read_size, upright_rgb
from jaxcolor.data.types import DataError, Encoded
from jaxcolor.inference.result_paths import plan
from jaxcolor.runtime.errors import UserError
from tests.data.photo_files import write_zip
from tests.robustness.photos import (
    BARS,
    COLORS,
    SRGB_PRIMARIES,
    WIDE_PRIMARIES,
    curve,
    encoded,
    exif,
    gray_profile,
    packed,
    parametric,
    profile,
    rgb_profile,
    tiff,
)

SIZE = (24, 10)
GRAY = np.repeat(BARS[..., None], 3, axis=-1)
ODD = np.ascontiguousarray(BARS[:, :23])
WIDE = BARS.astype(np.uint16) * 257
TWELVE = np.rint(BARS / 255 * 4095).astype(np.uint16)
PREMULTIPLIED = np.dstack([BARS // 2, np.full_like(BARS, 128)])


def planes(rgb: np.ndarray, dtype: str = "u1") -> list[bytes]:
    return [rgb[..., channel].astype(dtype).tobytes() for channel in range(rgb.shape[-1])]


def turned(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels to store, which a viewer turns into these."""
    undo = {1: rgb, 2: rgb[:, ::-1], 3: rgb[::-1, ::-1], 4: rgb[::-1], 5: rgb.swapaxes(0, 1)}
    undo |= {6: np.rot90(rgb), 7: rgb[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(rgb, -1)}
    return np.ascontiguousarray(undo[orientation])


EXACT = {
    "white0_1bit": (tiff([packed(BARS < 128, 1)], SIZE, (1,), 0), np.where(GRAY < 128, 0, 255)),
    "black0_1bit": (tiff([packed(BARS < 128, 1)], SIZE, (1,), 1), np.where(GRAY < 128, 255, 0)),
    "white0_4bit": (tiff([packed(15 - BARS // 17, 4)], SIZE, (4,), 0), GRAY // 17 * 17),
    "white0_8bit": (tiff([(255 - BARS).tobytes()], SIZE, (8,), 0), GRAY),
    "white0_16bit": (tiff([(65535 - WIDE).astype("<u2").tobytes()], SIZE, (16,), 0), GRAY),
    "white0_16bit_deflate": (tiff([(65535 - WIDE).astype("<u2").tobytes()], SIZE, (16,), 0, deflate=True), GRAY),
    "gray16_big": (tiff([WIDE.astype(">u2").tobytes()], SIZE, (16,), 1, order=">"), GRAY),
    "gray16_deflate": (tiff([WIDE.astype("<u2").tobytes()], SIZE, (16,), 1, deflate=True), GRAY),
    "gray12": (tiff([packed(TWELVE, 12)], SIZE, (12,), 1), GRAY),
    "gray12_odd": (tiff([packed(TWELVE[:, :23], 12)], (23, 10), (12,), 1), GRAY[:, :23]),
    "gray12_deflate": (tiff([packed(TWELVE, 12)], SIZE, (12,), 1, deflate=True), GRAY),
    "rgb16": (tiff([(COLORS.astype("<u2") * 257).tobytes()], SIZE, (16,) * 3, 2), COLORS),
    "planar8": (tiff(planes(COLORS), SIZE, (8,) * 3, 2, tags={284: (2,)}), COLORS),
    "planar8_deflate": (tiff(planes(COLORS), SIZE, (8,) * 3, 2, tags={284: (2,)}, deflate=True), COLORS),
    "planar16_deflate": (
        tiff(planes(COLORS.astype(int) * 257, "<u2"), SIZE, (16,) * 3, 2, tags={284: (2,)}, deflate=True),
        COLORS,
    ),
    "planar_gray8": (tiff([BARS.tobytes()], SIZE, (8,), 1, tags={284: (2,)}), GRAY),
    "premultiplied": (
        tiff([PREMULTIPLIED.tobytes()], SIZE, (8, 8), 1, tags={338: (1,)}),
        np.rint(GRAY // 2 + 127.0),
    ),
    "pgm16.pgm": (b"P5 24 10 65535\n" + WIDE.astype(">u2").tobytes(), GRAY),
    "pgm12.pgm": (b"P5 24 10 4095\n" + TWELVE.astype(">u2").tobytes(), GRAY),
    "pgm.pgm": (b"P5 24 10 255\n" + BARS.tobytes(), GRAY),
    "ppm.ppm": (b"P6 24 10 255\n" + COLORS.tobytes(), COLORS),
}
"""File and the pixels that it shows, at most 1 off."""

REFUSED = {
    "white0_12bit": (tiff([packed(TWELVE, 12)], SIZE, (12,), 0), "kind of pixels is not read"),
    "white0_16bit_big": (tiff([WIDE.tobytes()], SIZE, (16,), 0, order=">"), "kind of pixels is not read"),
    "signed8": (tiff([BARS.tobytes()], SIZE, (8,), 1, tags={339: (2,)}), "signed"),
    "signed16": (tiff([WIDE.tobytes()], SIZE, (16,), 1, tags={339: (2,)}), "signed"),
    "signed32": (tiff([WIDE.astype("<i4").tobytes()], SIZE, (32,), 1, tags={339: (2,)}), "signed"),
    "gray32": (tiff([WIDE.astype("<u4").tobytes()], SIZE, (32,), 1), "32 bits a channel"),
    "float32": (tiff([WIDE.astype("<f4").tobytes()], SIZE, (32,), 1, tags={339: (3,)}), "floating-point"),
    "white0_float32": (tiff([WIDE.astype("<f4").tobytes()], SIZE, (32,), 0, tags={339: (3,)}), "floating-point"),
    "planar16": (tiff(planes(COLORS.astype(int) * 257, "<u2"), SIZE, (16,) * 3, 2, tags={284: (2,)}), "in planes"),
    "planar_white0": (tiff([BARS.tobytes()], SIZE, (8,), 0, tags={284: (2,)}), "in planes"),
    "planar_gray4": (tiff([packed(BARS // 17, 4)], SIZE, (4,), 1, tags={284: (2,)}), "in planes"),
    "ycbcr": (tiff([COLORS.tobytes()], SIZE, (8,) * 3, 6), "YCbCr"),
    "lab": (tiff([COLORS.tobytes()], SIZE, (8,) * 3, 8), "CIELAB"),
    "inks": (tiff([bytes(960)], SIZE, (8,) * 4, 5, tags={332: (2,)}), "inks"),
    "float.pgm": (b"Pf 24 10 -1.0\n" + BARS.astype("<f4").tobytes(), "floating-point"),
}
"""File and what the line about it says."""


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / (name if "." in name else f"{name}.tif")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", EXACT)
def test_shown_as_it_is(tmp_path, name):
    data, shown = EXACT[name]
    for photo in (written(tmp_path, name, data), Encoded(name, data)):
        got = read_rgb(photo)
        assert read_size(photo) == got.shape[1::-1] == shown.shape[1::-1]
        assert np.abs(got.astype(int) - shown).max() <= 1


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(tmp_path, name):
    data, said = REFUSED[name]
    path = written(tmp_path, name, data)
    with pytest.raises(DataError, match=rf"{path.name}: cannot read this photo: .*{said}") as caught:
        read_rgb(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["gray", "deflate", "rgb", "gray16"])
def test_turned_tiff(tmp_path, orientation, kind):
    shown = COLORS if kind == "rgb" else GRAY
    stored = turned(shown, orientation)
    pixels = stored if kind == "rgb" else stored[..., 0]
    pixels = pixels.astype("<u2") * 257 if kind == "gray16" else pixels
    bits = (8,) * 3 if kind == "rgb" else (16,) if kind == "gray16" else (8,)
    data = tiff(
        [pixels.tobytes()],
        stored.shape[1::-1],
        bits,
        2 if kind == "rgb" else 1,
        tags={274: (orientation,)},
        deflate=kind == "deflate",
    )
    path = written(tmp_path, "turned", data)
    for photo in (path, Encoded("turned", data)):
        assert read_size(photo) == SIZE
        np.testing.assert_array_equal(read_rgb(photo), shown)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(np.asarray(upright_rgb(opened)), shown)
        np.testing.assert_array_equal(np.asarray(upright_rgb(opened)), shown)  # not turned again


def srgb(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055) * 255


RAMP = np.arange(256, dtype=np.uint8)[None]
WIDE_RAMP = np.linspace(0, 65535, 997).astype(np.uint16)[None]
DEVICE = np.linspace(0, 1, 256)
SRGB_CURVE = parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)

GRAY_CURVES = {
    "linear": (curve(), lambda x: x),
    "gamma1.0": (curve(256), lambda x: x),
    "gamma1.8": (curve(461), lambda x: x ** (461 / 256)),
    "gamma2.2": (curve(563), lambda x: x ** (563 / 256)),
    "table": (curve(0, 16384, 65535), lambda x: np.interp(x, [0, 0.5, 1], [0, 16384 / 65535, 1])),
    "para0": (parametric(0, 1.8), lambda x: x**1.8),
    "para1": (parametric(1, 2.0, 1.25, -0.25), lambda x: np.maximum(1.25 * x - 0.25, 0) ** 2),
    "srgb": (SRGB_CURVE, lambda x: np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)),
}


@pytest.mark.parametrize("name", GRAY_CURVES)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_gray_profile_is_applied(name, form):
    tone, luminance = GRAY_CURVES[name]
    icc = gray_profile(tone)
    if form == "WEBP":  # which stores gray as RGB, that a profile for gray does not fit
        data = encoded(Image.fromarray(RAMP), "WEBP", lossless=True, icc_profile=icc)
        assert (read_rgb(Encoded("gray", data))[0, :, 0] == RAMP[0]).all()
        return
    got = read_rgb(Encoded("gray", encoded(Image.fromarray(RAMP), form, icc_profile=icc)))
    assert (got[..., 0] == got[..., 2]).all()
    assert np.abs(got[0, :, 0] - srgb(luminance(DEVICE))).max() <= 1
    got = read_rgb(Encoded("gray16", encoded(Image.fromarray(WIDE_RAMP), form, icc_profile=icc)))
    assert np.abs(got[0, :, 0] - srgb(luminance(WIDE_RAMP[0] / 65535))).max() <= 1


def test_gray_profile_with_transparency_and_white_at_zero():
    icc = gray_profile(curve(256))
    both = np.dstack([RAMP, np.full_like(RAMP, 255)])
    got = read_rgb(Encoded("la", encoded(Image.fromarray(both), "PNG", icc_profile=icc)))
    assert np.abs(got[0, :, 0] - srgb(DEVICE)).max() <= 1
    data = tiff([(65535 - WIDE).astype("<u2").tobytes()], SIZE, (16,), 0, tags={34675: (7, len(icc), icc)})
    got = read_rgb(Encoded("white0", data))
    assert np.abs(got[..., 0] - srgb(BARS / 255)).max() <= 1


def test_gray_curve_to_lightness():
    icc = gray_profile(curve(256), pcs=b"Lab ")  # half is L* 50
    got = read_rgb(Encoded("lab", encoded(Image.fromarray(RAMP), "PNG", icc_profile=icc)))[0, :, 0]
    lightness = DEVICE * 100
    linear = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    assert np.abs(got - srgb(linear)).max() <= 1


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_wide_gamut_profile_is_applied(form):
    icc = rgb_profile(curve(563), WIDE_PRIMARIES)
    # Sixteen colors that sRGB has too, in blocks that survive a JPEG.
    colors = np.random.default_rng(0).integers(90, 170, (2, 8, 3))
    blocks = np.repeat(np.repeat(colors, 16, axis=0), 16, axis=1).astype(np.uint8)
    lossless = {"lossless": True} if form == "WEBP" else {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    data = encoded(Image.fromarray(blocks), form, icc_profile=icc, **lossless)
    to_srgb = np.linalg.inv(np.array(SRGB_PRIMARIES).T) @ np.array(WIDE_PRIMARIES).T
    expected = srgb((blocks / 255.0) ** (563 / 256) @ to_srgb.T)
    assert np.abs(expected - blocks).max() > 10
    got = read_rgb(Encoded("wide", data)).astype(int)
    assert np.abs(got - expected)[4::16, 4::16].max() <= (4 if form == "JPEG" else 1.5)


def test_linear_rgb_profile_and_gray_with_one_of_rgb():
    icc = rgb_profile(curve(256))
    for image in (Image.fromarray(RAMP), Image.fromarray(RAMP).convert("RGB"), Image.fromarray(RAMP).convert("RGBA")):
        got = read_rgb(Encoded("linear", encoded(image, "PNG", icc_profile=icc)))
        assert np.abs(got[0, :, 1] - srgb(DEVICE)).max() <= 1.5


@pytest.mark.parametrize(
    "icc",
    [
        rgb_profile(SRGB_CURVE),
        gray_profile(curve(256)),
        b"no profile" * 30,
        rgb_profile(curve(256))[:200],
        profile(b"GRAY", {}),
        b"",
    ],
    ids=["srgb", "of gray", "none", "cut", "without curve", "empty"],
)
def test_profiles_that_change_nothing(icc):
    """That of sRGB itself, of another color space than the pixels, or damaged."""
    data = encoded(Image.fromarray(COLORS), "PNG", icc_profile=icc)
    np.testing.assert_array_equal(read_rgb(Encoded("rgb", data)), COLORS)


def test_what_was_read_is_not_converted_again():
    turn = {"icc_profile": rgb_profile(curve(256)), "exif": exif(6)}
    image = read_image(Encoded("a", encoded(Image.fromarray(COLORS), "PNG", **turn)))
    assert image.size == SIZE[::-1]
    np.testing.assert_array_equal(np.asarray(upright_rgb(image)), np.asarray(image))


RESOLUTIONS = {
    "text": (282, 2, 6, b"three\0"),
    "nan": (282, 5, 1, struct.pack("<II", 0, 0)),
    "negative": (282, 10, 1, struct.pack("<ii", -1, 3)),
    "huge": (282, 5, 1, struct.pack("<II", 2**32 - 1, 1)),
    "double": (282, 12, 1, struct.pack("<d", float("nan"))),
    "infinite": (282, 11, 1, struct.pack("<f", float("inf"))),
    "outside": (282, 5, 1000, b"\xff\xff\xff\x00"),
}


@pytest.mark.filterwarnings("ignore:Tag data larger than file")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("name", RESOLUTIONS)
def test_turned_by_the_tag_alone(name, form):
    stored = Image.fromarray(turned(GRAY, 6))
    if form == "TIFF":
        tag, *entry = RESOLUTIONS[name]
        tags = {274: (6,), tag: tuple(entry), 296: (2,)}
        data = tiff([np.asarray(stored).tobytes()], stored.size, (8,) * 3, 2, tags=tags)
    else:
        data = encoded(stored, form, exif=exif(6, RESOLUTIONS[name]), quality=100)
    photo = Encoded("a", data)
    assert read_size(photo) == SIZE
    got = read_rgb(photo).astype(int)
    assert got.shape == GRAY.shape
    assert np.abs(got - GRAY).mean() <= 6


def test_exif_that_is_none_turns_nothing():
    data = encoded(Image.fromarray(COLORS), "PNG", exif=b"Exif\0\0no such thing")
    np.testing.assert_array_equal(read_rgb(Encoded("a", data)), COLORS)
    assert read_size(Encoded("a", data)) == SIZE


FOREIGN = {
    "EPS": encoded(Image.fromarray(COLORS), "EPS"),
    "AVIF": b"\0\0\0\x1cftypavif" + bytes(50),
    "ICNS": b"icns\0\0\0\x10ic07\0\0\0\x08",
    "ICO": encoded(Image.fromarray(COLORS), "ICO"),
    "PDF": b"%PDF-1.4 ",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_formats_are_not_opened(tmp_path, monkeypatch, name):
    canary = tmp_path / "started"
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n: > {canary}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    path = written(tmp_path, "harbour.jpg", FOREIGN[name])
    for read in (read_rgb, read_size, check_header):
        with pytest.raises(DataError, match=rf"harbour\.jpg: .* no photo of a format that is read \({name}\)"):
            read(path)
    assert not canary.exists()


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "m.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "m.jpg")
    (tmp_path / "folder.jpg").mkdir()
    said = {"m": "no regular file", "link": "no regular file", "folder": "a folder"}
    for stem, reason in said.items():
        for read in (read_rgb, read_size, check_header, read_encoded):
            with pytest.raises(DataError, match=rf"{stem}\.jpg: cannot read this photo: it is {reason}"):
                read(tmp_path / f"{stem}.jpg")


@pytest.mark.parametrize(
    "error", [MemoryError(), OverflowError("too large"), RuntimeError("odd"), AssertionError(), RecursionError("deep")]
)
def test_nothing_but_a_data_error_comes_out(tmp_path, monkeypatch, error):
    path = written(tmp_path, "b.jpg", encoded(Image.fromarray(COLORS), "JPEG"))
    with Image.open(path) as opened:

        def fail(*_):
            raise error

        monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
        with pytest.raises(DataError, match=r"b\.jpg: cannot read this photo: ."):
            read_rgb(path)
        with pytest.raises(DataError, match=r"this picture cannot be used: ."):
            upright_rgb(opened)
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(DataError, match=r"b\.jpg: cannot read this photo: ."):
        read_size(path)


def test_interrupting_is_no_fault_of_the_photo(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    path = written(tmp_path, "b.jpg", encoded(Image.fromarray(COLORS), "JPEG"))
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(KeyboardInterrupt):
        read_rgb(path)


def test_sixteen_bit_gray_with_a_transparent_level():
    wide = np.array([[0, 257 * 100, 65535]], np.uint16)
    data = io.BytesIO()
    Image.fromarray(wide).save(data, "PNG", transparency=257 * 100)
    assert read_rgb(Encoded("a", data.getvalue()))[0, :, 0].tolist() == [0, 255, 255]


def test_photos_of_other_formats_are_mentioned_once(tmp_path, capsys):
    folder = tmp_path / "p"
    folder.mkdir()
    jpeg = encoded(Image.fromarray(COLORS), "JPEG")
    files = {"a.jpg": jpeg, "b.JFIF": jpeg, "c.jpe": jpeg, "d.pgm": EXACT["pgm16.pgm"][0]}
    others = {"e.avif": b"", "f.jp2": b"", "g.JXL": b"", "h.dng": b"", "notes.txt": b"", ".i.avif": b""}
    for name, data in (files | others).items():
        (folder / name).write_bytes(data)
    said = "4 of formats that are not read: e.avif, f.jp2, g.JXL and 1 more; convert them to JPEG, PNG or TIFF"
    assert [path.name for path in plan([folder], tmp_path)] == sorted(files)
    assert capsys.readouterr().err == f"{folder}: files left out: {said}\n"
    for place, kind in ((folder, "files"), (write_zip(tmp_path / "p.zip", files | others), "members")):
        source = make_source(DataConfig(path=str(place), missing_boxes="none"), 16)
        assert len(source) == 4
        assert f"5 other {kind} not looked at, {said}" in source.describe()
        np.testing.assert_array_equal(source[3].rgb, GRAY)
    for name in files:
        (folder / name).unlink()
    with pytest.raises(UserError, match=rf"no photos here \(.*; {said}\)"):
        plan([folder], tmp_path)
    with pytest.raises(DataError, match=f"no photos in this folder.*, {said}"):
        make_source(DataConfig(path=str(folder), missing_boxes="none"), 16)


def test_a_fifo_among_the_photos_of_a_set(tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(encoded(Image.fromarray(COLORS), "JPEG"))
    os.mkfifo(tmp_path / "m.jpg")
    source = make_source(DataConfig(path=str(tmp_path), missing_boxes="none", bad_photos="skip"), 16)
    assert len(source) == 1
    assert "m.jpg: cannot read this photo: it is no regular file" in capsys.readouterr().err


def test_boxes_of_a_turned_tiff_are_used(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p_bbox").mkdir()
    stored = turned(GRAY, 6)[..., 0]
    (tmp_path / "p" / "pier.tif").write_bytes(tiff([stored.tobytes()], (10, 24), (8,), 1, tags={274: (6,)}))
    np.savez(tmp_path / "p_bbox" / "pier.npz", bbox=np.array([[17, 2, 23, 9]], np.float32), scores=np.ones(1))
    source = make_source(DataConfig(path=str(tmp_path / "p")), 16)
    size, usable = source.usable(0)
    assert size == source[0].size == SIZE
    assert usable.boxes.tolist() == [[17, 2, 23, 9]]

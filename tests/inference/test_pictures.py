"""Results as files: metadata carried over, formats, notes."""

import io
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational

from jaxcolor.cli import main
from jaxcolor.data.types import Encoded
from jaxcolor.inference.made_with import is_made_with
from jaxcolor.inference.pictures import (
    SUFFIXES,
    ExifTags,
    Metadata,
    PictureFormat,
    Saving,
    encode,
    read_metadata,
    side_by_side,
    srgb_profile,
)
from jaxcolor.inference.xmp import SOURCE_TYPE, annotated
from jaxcolor.runtime.errors import UserError
from jaxcolor.weights import native
from tests import small

RGB = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
XMP = b"""<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<r:Description r:about="uuid:1" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:Make="Leica"
 xmlns:I="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:dc="http://purl.org/dc/elements/1.1/">
<I:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/print</I:DigitalSourceType>
<dc:creator><r:Seq><r:li>M\xc3\xbcller &amp; Sohn</r:li></r:Seq></dc:creator></r:Description></r:RDF></x:xmpmeta>
<?xpacket end="w"?>\0\0"""
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
EVENT = "{http://ns.adobe.com/xap/1.0/sType/ResourceEvent#}"


def photo_file(kind: str) -> Encoded:
    """A photo that lies on its side, with all that a camera or a scanner writes."""
    first = {0x0112: 6, 271: "Leica", 306: "1936:05:01 12:00:00", 315: "A. Müller".encode()}
    details = {0x829A: IFDRational(1, 60), 0xA002: 30, 0xA003: 20, 0xA001: 65535}
    position = {1: "N", 2: (48.0, 8.0, 0.0)}
    settings: dict[str, Any] = {"dpi": (300, 600)}
    if kind == "TIFF":
        settings["tiffinfo"] = {**first, 700: XMP, 0x8769: details, 0x8825: position}
    else:
        settings["exif"] = ExifTags(first, details, position).tobytes()
    if kind == "PNG":
        settings["pnginfo"] = PngInfo()
        settings["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    elif kind != "TIFF":
        settings["xmp"] = XMP
    file = io.BytesIO()
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(file, format=kind, **settings)
    return Encoded("old", file.getvalue())


def written(form: PictureFormat, metadata: Metadata) -> tuple[Image.Image, tuple[str, ...]]:
    file = io.BytesIO()
    pixels = RGB if form != "tiff16" else RGB.astype(np.uint16) * 257
    lost = encode(file, pixels, Saving(form, weights="coco <1>"), metadata)
    image = Image.open(file)
    image.load()
    return image, lost


def packet(image: Image.Image) -> ET.Element:
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or image.getexif()[700]
    return ET.fromstring(xmp.strip())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("form", list(SUFFIXES))
def test_metadata_is_carried_over(kind: str, form: PictureFormat) -> None:
    image, lost = written(form, read_metadata(photo_file(kind)))
    assert lost == ()
    exif = image.getexif()
    assert (exif[271], exif[306]) == ("Leica", "1936:05:01 12:00:00")
    assert exif[315].encode("latin-1").decode() == "A. Müller"
    assert exif[0x0112] == 1
    details = exif.get_ifd(0x8769)
    assert float(details[0x829A]) == pytest.approx(1 / 60)
    assert (details[0xA002], details[0xA003], details[0xA001]) == (20, 30, 1)
    assert exif.get_ifd(0x8825)[1] == "N"
    assert not exif.get_ifd(0x0201 if form.startswith("tiff") else 1)
    assert image.info["icc_profile"] == srgb_profile()
    if form != "webp" and kind != "WEBP":  # which has no place for it
        assert image.info["dpi"] == pytest.approx((600, 300), abs=0.1)  # it lay on its side
    xmp = packet(image)
    assert "Müller & Sohn" in "".join(xmp.itertext())
    text = ET.tostring(xmp, "unicode")
    assert "Orientation" not in text
    assert "digitalsourcetype/print" not in text
    note = next(d for d in xmp.iter(f"{RDF}Description") if d.get(f"{IPTC}DigitalSourceType"))
    assert note.get(f"{IPTC}DigitalSourceType") == SOURCE_TYPE
    assert note.get(f"{RDF}about") == "uuid:1"
    assert "by the weights coco <1>;" in str(xmp.find(f".//{EVENT}parameters").text)  # type: ignore[union-attr]
    if form in ("png", "tiff", "tiff16"):
        assert np.array_equal(np.asarray(image), RGB)


def test_a_photo_without_metadata_gets_the_note_alone() -> None:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, format="PNG")
    metadata = read_metadata(Encoded("a", file.getvalue()))
    assert metadata == Metadata()
    first, second = io.BytesIO(), io.BytesIO()
    encode(first, RGB, Saving(), metadata)
    encode(second, RGB, Saving(), metadata)
    assert first.getvalue() == second.getvalue()
    image = Image.open(first)
    assert not image.getexif()
    assert SOURCE_TYPE in image.info["XML:com.adobe.xmp"]
    assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"])))


@pytest.mark.parametrize("data", [b"", b"no photo", b"II*\0\x08\0\0\0\xff\xff"])
def test_what_cannot_be_read_carries_nothing(data: bytes) -> None:
    assert read_metadata(Encoded("a", data)) == Metadata()


def test_a_thumbnail_is_dropped(tmp_path: Path) -> None:
    small = io.BytesIO()
    Image.fromarray(RGB).save(small, format="JPEG")
    exif = Image.Exif()
    exif[271] = "Leica"
    exif.get_ifd(1).update({0x0103: 6, 0x0201: 200, 0x0202: len(small.getvalue())})
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).save(path, exif=exif)
    image, _ = written("jpeg", read_metadata(path))
    assert not image.getexif().get_ifd(1)
    assert image.getexif()[271] == "Leica"


def test_what_has_no_room_in_a_jpeg_is_named() -> None:
    exif = ExifTags({270: b"x" * 66_000}, {}, {})
    large = XMP.replace(b"Leica", b"y" * 66_000)
    _, lost = written("jpeg", Metadata(exif, large))
    assert lost == ("XMP", "EXIF")
    image, lost = written("png", Metadata(exif, large))
    assert lost == ()
    assert len(image.getexif()[270]) == 66_000


@pytest.mark.parametrize(
    "xmp",
    [
        b"no XML",
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x:xmpmeta xmlns:x="adobe:ns:meta/">&a;</x:xmpmeta>',
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>',
        b"\xff\xfe\x00",
        b" " * (2 << 20),
    ],
)
def test_xmp_that_cannot_be_read_is_replaced(xmp: bytes) -> None:
    made, whole = annotated(xmp, "w")
    assert not whole
    assert made == annotated(None, "w")[0]


@pytest.mark.parametrize("form", get_args(PictureFormat))
def test_a_result_says_with_what_it_was_made(form: PictureFormat, tmp_path: Path) -> None:
    """Also one of a photo that is a result itself, whose settings are not its own."""
    file = tmp_path / "picture"
    rgb = np.zeros((4, 5, 3), np.uint16 if form == "tiff16" else np.uint8)
    first, second = '{"vivid": 0.1}', '{"vivid": 0.2}'
    encode(file, rgb, Saving(form, settings=first))
    assert [is_made_with(file, line) for line in (first, second, "")] == [True, False, False]
    encode(file, rgb, Saving(form, settings=second), read_metadata(file))
    assert [is_made_with(file, line) for line in (first, second)] == [False, True]


def test_a_history_goes_on() -> None:
    once, _ = annotated(XMP, "first")
    twice, whole = annotated(once, "second")
    assert whole
    root = ET.fromstring(twice.strip())
    steps = [str(step.text) for step in root.iter(f"{EVENT}parameters")]
    assert [("first" in step, "second" in step) for step in steps] == [(True, False), (False, True)]
    assert sum(bool(d.get(f"{IPTC}DigitalSourceType")) for d in root.iter(f"{RDF}Description")) == 1


@pytest.mark.parametrize(
    ("saving", "message"),
    [
        (Saving("bmp"), "format 'bmp': must be png, jpeg, webp, tiff, tiff16"),  # type: ignore[arg-type]
        (Saving("png", 90), "quality 90: is for jpeg and webp; png loses nothing"),
        (Saving("jpeg", 0), "quality 0: must be from 1 to 100"),
    ],
)
def test_settings_that_are_refused(saving: Saving, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        saving.check()


def test_quality_is_heeded() -> None:
    for form in ("jpeg", "webp"):
        sizes = []
        for quality in (30, 95):
            file = io.BytesIO()
            encode(file, RGB, Saving(form, quality))  # type: ignore[arg-type]
            sizes.append(len(file.getvalue()))
        assert sizes[0] < sizes[1]


def test_side_by_side() -> None:
    both = side_by_side(RGB, 255 - RGB)
    assert np.array_equal(both[:, :20], RGB)
    assert np.array_equal(both[:, -20:], 255 - RGB)
    assert (both[:, 20:-20] == 255).all()


class TestCommand:
    """``jaxcolor colorize`` with such settings."""

    @pytest.fixture
    def weights(self, tmp_path: Path) -> Path:
        path = tmp_path / "small.safetensors"
        native.save(path, small.MODEL, {"full": small.variables()["full"]})
        return path

    def test_a_photo_keeps_its_metadata(
        self, tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "old.tif").write_bytes(photo_file("TIFF").data)
        out = tmp_path / "out"
        command = ["colorize", str(tmp_path / "in"), "-w", str(weights), "-o", str(out)]
        assert main([*command, "--format", "jpeg", "--quality", "90", "--side-by-side"]) == 0
        assert sorted(path.name for path in out.iterdir()) == ["old.jpg", "old.side_by_side.jpg"]
        image = Image.open(io.BytesIO((out / "old.jpg").read_bytes()))
        assert (image.format, image.size) == ("JPEG", (20, 30))
        assert image.getexif()[271] == "Leica"
        assert "by the weights small.safetensors;" in "".join(packet(image).itertext())
        both = np.asarray(Image.open(out / "old.side_by_side.jpg"))
        assert both.shape == (30, 42, 3)
        assert np.ptp(both[:, :20].astype(int), axis=2).max() <= 2
        assert main([*command, "--format", "jpeg"]) == 0
        assert "1 of 1 photo is in" in capsys.readouterr().err
        assert main([*command, "--quality", "90"]) == 1
        assert capsys.readouterr().err == "jaxcolor colorize: quality 90: is for jpeg and webp; png loses nothing\n"

    def test_16_bit_gray(self, tmp_path: Path, weights: Path) -> None:
        levels = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)
        Image.fromarray(levels).save(tmp_path / "old.tif")
        out = tmp_path / "out"
        command = ["colorize", str(tmp_path / "old.tif"), "-w", str(weights), "-o", str(out), "--saturation", "0"]
        assert main(command) == 0
        found = np.asarray(Image.open(out / "old.png"))
        assert np.abs(found - levels[..., None] / 257).max() <= 1

"""HEIC: read where the extra is installed, and else named with what to install."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxcolor.data import formats
from jaxcolor.data.sources.base import unread_photos
from jaxcolor.data.transforms import count_pictures, read_image, read_size, read_wide_gray
from jaxcolor.data.types import DataError, Encoded
from jaxcolor.inference.pictures import read_metadata

BEGINS = b"\0\0\0\x18ftypheic\0\0\0\0"
RGB = np.zeros((40, 64, 3), np.uint8) + np.arange(0, 192, 3, dtype=np.uint8)[:, None]
RGB[:20, :, 2] += 50


def heic(**settings: object) -> Encoded:
    """A picture whose left is dark and whose upper half is blue."""
    pytest.importorskip("pillow_heif", reason="needs the extra heic")
    formats.register_heif()
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, format=formats.HEIF, quality=90, **settings)
    return Encoded("phone", file.getvalue())


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(formats, "HEIF_IS_READ", False)
    (tmp_path / "a.jpg").write_bytes(BEGINS)
    said = r"a\.jpg: cannot read this photo: HEIC is read with an extra: pip install 'jaxcolor\[heic\]'; or convert it"
    with pytest.raises(DataError, match=said):
        read_image(tmp_path / "a.jpg")
    monkeypatch.setattr("jaxcolor.data.sources.base.UNREAD_SUFFIXES", (".avif", ".heic"))
    assert unread_photos(["a.HEIC", "b.jpg"]).endswith(
        "a.HEIC; convert them to JPEG, PNG or TIFF (HEIC: or pip install 'jaxcolor[heic]')"
    )
    assert not unread_photos(["c.avif"]).endswith(")")


def test_folders_list_what_can_be_read() -> None:
    listed = ".heic" in formats.PHOTO_SUFFIXES
    assert listed == formats.HEIF_IS_READ
    assert listed != (".heic" in formats.UNREAD_SUFFIXES)


def test_pixels_and_size() -> None:
    photo = heic()
    pixels = np.asarray(read_image(photo)).astype(int)
    assert np.abs(pixels - RGB).mean() < 4
    assert read_size(photo) == (64, 40)
    assert read_wide_gray(photo) is None
    assert count_pictures(photo) == 1


def test_it_is_turned_once_and_metadata_kept() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[271] = 6, "Phone"
    photo = heic(exif=exif.tobytes())
    pixels = np.asarray(read_image(photo)).astype(int)
    assert np.abs(pixels - np.rot90(RGB, -1)).mean() < 4
    assert read_size(photo) == (40, 64)
    metadata = read_metadata(photo)
    assert metadata.exif is not None
    assert metadata.exif.first[271] == "Phone"


def test_of_several_the_main_one_is_read() -> None:
    photo = heic(save_all=True, append_images=[Image.new("RGB", (64, 40), "red")], primary_index=0)
    assert count_pictures(photo) == 2
    assert np.abs(np.asarray(read_image(photo)).astype(int) - RGB).mean() < 4


@pytest.mark.parametrize("cut", [16, 100, -200])
def test_a_damaged_one_is_refused(cut: int) -> None:
    with pytest.raises(DataError, match="phone: cannot read this photo"):
        read_image(Encoded("phone", heic().data[:cut]))

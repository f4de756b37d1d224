import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jaxcolor.boxes import boxes_in_window, level_boxes, mirror_boxes
from jaxcolor.data.transforms import WHOLE, Augment, example, is_gray, random_window, read_rgb, read_size
from jaxcolor.data.types import DataError
from tests.data.plainly import cut, mirror, resize

ORIENTATION = 0x0112


def picture(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@st.composite
def pictures_with_boxes(draw):
    width, height = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    rows = []
    for _ in range(draw(st.integers(0, 3))):
        x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        rows.append([x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))])
    return picture(width, height, draw(st.integers(0, 99))), np.array(rows, np.int32).reshape(-1, 4)


class TestMirror:
    @given(pictures_with_boxes())
    def test_mirror_then_cut_is_cut_then_mirror(self, photo):
        rgb, boxes = photo
        for box, mirrored in zip(boxes, mirror_boxes(boxes, rgb.shape[1]), strict=True):
            np.testing.assert_array_equal(cut(mirror(rgb), mirrored), mirror(cut(rgb, box)))

    @given(pictures_with_boxes())
    def test_mirrored_example_is_the_mirror_of_the_plain_one(self, photo):
        rgb, boxes = photo
        scores = np.ones(len(boxes), np.float32)
        plain, mirrored = (example(Image.fromarray(rgb), boxes, scores, 16, mirrored=m) for m in (False, True))
        np.testing.assert_array_equal(mirrored.full_rgb, plain.full_rgb[:, ::-1])
        assert len(mirrored.crop_rgb) == len(plain.crop_rgb) == len(boxes)
        for ours, other in zip(mirrored.crop_rgb, plain.crop_rgb, strict=True):
            np.testing.assert_array_equal(ours, other[:, ::-1])
        # And, but for the last bit of Pillow's rounding, the plain one of a mirrored photo.
        other = example(Image.fromarray(mirror(rgb)), mirror_boxes(boxes, rgb.shape[1]), scores, 16)
        np.testing.assert_array_equal(mirrored.level_boxes, other.level_boxes)
        np.testing.assert_allclose(mirrored.full_rgb.astype(int), other.full_rgb, atol=1)
        for ours, theirs in zip(mirrored.crop_rgb, other.crop_rgb, strict=True):
            np.testing.assert_allclose(ours.astype(int), theirs, atol=1)


class TestWindow:
    @given(pictures_with_boxes(), st.integers(0, 99), st.floats(0.05, 1), st.floats(1, 2))
    def test_window_then_cut_is_cut_then_window(self, photo, seed, area, aspect):
        rgb, boxes = photo
        size = rgb.shape[1::-1]
        window = random_window(Augment(area=area, aspect=aspect), np.random.default_rng(seed)).pixels(size)
        x0, y0, x1, y1 = window.tolist()
        assert 0 <= x0 < x1 <= size[0]
        assert 0 <= y0 < y1 <= size[1]
        inside, kept = boxes_in_window(boxes, window)
        shown = cut(rgb, window)
        for row, box in enumerate(boxes):
            visible = np.concatenate([np.maximum(box[:2], window[:2]), np.minimum(box[2:], window[2:])])
            if (visible[2:] > visible[:2]).all():
                (place,) = np.flatnonzero(kept == row)
                np.testing.assert_array_equal(cut(shown, inside[place]), cut(rgb, visible))
            else:
                assert row not in kept

    @given(pictures_with_boxes(), st.floats(0, 1))
    def test_boxes_hardly_visible_are_left_out(self, photo, share):
        rgb, boxes = photo
        window = np.array([0, 0, (rgb.shape[1] + 1) // 2, rgb.shape[0]])
        _, kept = boxes_in_window(boxes, window, share)
        inside = np.minimum(boxes[:, 2:], window[2:]) - boxes[:, :2]
        shares = np.maximum(inside, 0).prod(axis=1) / (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        certain = np.abs(shares - share) > 1e-9
        assert ((shares >= share) & (shares > 0))[certain].tolist() == np.isin(np.arange(len(boxes)), kept)[
            certain
        ].tolist()

    def test_area_is_uniform_and_the_rest_untouched(self):
        rng = np.random.default_rng(0)
        windows = np.array([random_window(Augment(area=0.2, aspect=1.0), rng) for _ in range(2000)])
        areas = (windows[:, 2:] - windows[:, :2]).prod(axis=1)
        assert np.abs(np.quantile(areas, [0.25, 0.5, 0.75]) - [0.4, 0.6, 0.8]).max() < 0.03
        state = rng.bit_generator.state
        assert random_window(Augment(aspect=2.0), rng) == WHOLE
        assert rng.bit_generator.state == state


class TestGray:
    @given(pictures_with_boxes(), st.integers(0, 20))
    def test_small_photos_by_every_pixel(self, photo, tolerance):
        rgb = photo[0][:64, :64] // 12 + 100
        spread = int(np.ptp(rgb.astype(int), axis=-1).max())
        assert is_gray(Image.fromarray(rgb), tolerance) == (spread <= tolerance)

    def test_jpeg_of_a_gray_photo_in_colour(self):
        data = io.BytesIO()
        plane = np.repeat(picture(300, 200)[..., :1], 3, axis=-1)
        Image.fromarray(plane).save(data, "JPEG", quality=75)
        assert is_gray(Image.open(data), 8)
        tinted = plane.copy()
        tinted[60:140, 100:200, 0] = 255 - tinted[60:140, 100:200, 0]
        assert not is_gray(Image.fromarray(tinted), 8)


class TestExample:
    def test_crop_comes_from_the_original(self):
        rgb = picture(200, 120)
        boxes = np.array([[10, 20, 60, 100], [0, 0, 200, 120]], np.int32)
        scores = np.array([0.5, 0.25], np.float32)
        got = example(Image.fromarray(rgb), boxes, scores, 32)
        image = Image.fromarray(rgb)
        np.testing.assert_array_equal(got.full_rgb, image.resize((32, 32), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(
            got.crop_rgb[0], image.crop((10, 20, 60, 100)).resize((32, 32), Image.Resampling.BILINEAR)
        )
        np.testing.assert_array_equal(got.crop_rgb[1], got.full_rgb)
        np.testing.assert_array_equal(got.level_boxes, level_boxes(boxes, (200, 120), 32))
        np.testing.assert_array_equal(got.scores, scores)

    def test_parts_that_nobody_reads(self):
        got = example(
            Image.fromarray(picture(20, 20)), np.zeros((0, 4), np.int32), np.zeros(0, np.float32), 16, with_full=False
        )
        assert got.full_rgb is None
        assert len(got.crop_rgb) == 0
        assert got.level_boxes.shape == (0, 4, 4)

    def test_resize_is_antialiased(self):
        stripes = np.zeros((64, 64, 3), np.uint8)
        stripes[:, ::2] = 200
        assert np.ptp(resize(stripes, 8)[:, 1:-1]) <= 1


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


class TestReading:
    @pytest.mark.parametrize("suffix", ["png", "bmp"])
    def test_lossless(self, tmp_path, suffix):
        rgb = picture(13, 7)
        path = saved(tmp_path / f"a.{suffix}", Image.fromarray(rgb))
        np.testing.assert_array_equal(read_rgb(path), rgb)
        assert read_size(path) == (13, 7)

    @pytest.mark.parametrize("suffix", ["jpg", "webp"])
    def test_lossy(self, tmp_path, suffix):
        path = saved(tmp_path / f"a.{suffix}", Image.new("RGB", (40, 24), (200, 30, 60)), quality=95)
        assert read_rgb(path).shape == (24, 40, 3)
        np.testing.assert_allclose(read_rgb(path).mean((0, 1)), (200, 30, 60), atol=4)

    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, tmp_path, suffix, orientation):
        # Left half dark; red in the corner at top left of the stored pixels.
        stored = np.zeros((16, 32, 3), np.uint8)
        stored[:, 16:] = 255
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        path = saved(tmp_path / f"a.{suffix}", Image.fromarray(stored), exif=exif, quality=95)
        shown = {
            1: stored,
            2: stored[:, ::-1],
            3: stored[::-1, ::-1],
            4: stored[::-1],
            5: stored.swapaxes(0, 1),
            6: np.rot90(stored, -1),
            7: np.rot90(stored[::-1], 1),
            8: np.rot90(stored, 1),
        }[orientation]
        got = read_rgb(path)
        assert read_size(path) == got.shape[1::-1]
        np.testing.assert_allclose(got.astype(int), shown, atol=30)

    def test_gray_and_cmyk(self, tmp_path):
        gray = saved(tmp_path / "gray.png", Image.new("L", (4, 3), 90))
        np.testing.assert_array_equal(read_rgb(gray), np.full((3, 4, 3), 90))
        cmyk = saved(tmp_path / "cmyk.jpg", Image.new("CMYK", (16, 16), (0, 0, 0, 0)))
        assert read_rgb(cmyk).min() > 250
        one_bit = saved(tmp_path / "bit.png", Image.new("1", (4, 3), 1))
        np.testing.assert_array_equal(read_rgb(one_bit), np.full((3, 4, 3), 255))

    def test_sixteen_bit_gray_is_scaled(self, tmp_path):
        wide = np.array([[0, 257, 257 * 128, 65535]], np.uint16)
        path = saved(tmp_path / "wide.png", Image.fromarray(wide))
        assert read_rgb(path)[0, :, 0].tolist() == [0, 1, 128, 255]

    def test_transparency_lies_on_white(self, tmp_path):
        rgba = np.zeros((1, 3, 4), np.uint8)
        rgba[0, :, 3] = (0, 255, 51)
        path = saved(tmp_path / "a.png", Image.fromarray(rgba))
        assert read_rgb(path)[0, :, 0].tolist() == [255, 0, 204]
        palette = Image.new("P", (2, 1))
        palette.putpalette([10, 20, 30, 40, 50, 60])
        palette.putdata([0, 1])
        path = saved(tmp_path / "p.png", palette, transparency=1)
        assert read_rgb(path)[0].tolist() == [[10, 20, 30], [255, 255, 255]]

    @pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp"])
    @pytest.mark.parametrize("keep", [0, 3, 40, 600])
    def test_truncated(self, tmp_path, suffix, keep):
        whole = io.BytesIO()
        Image.fromarray(picture(64, 64)).save(whole, {"jpg": "jpeg"}.get(suffix, suffix))
        path = tmp_path / f"broken.{suffix}"
        path.write_bytes(whole.getvalue()[:keep])
        with pytest.raises(DataError, match=rf"broken\.{suffix}: cannot read this photo: .") as caught:
            read_rgb(path)
        assert "\n" not in str(caught.value)

    def test_missing_and_foreign(self, tmp_path):
        with pytest.raises(DataError, match=r"none\.jpg: cannot read"):
            read_rgb(tmp_path / "none.jpg")
        (tmp_path / "text.jpg").write_text("no photo")
        with pytest.raises(DataError, match=r"text\.jpg: cannot read"):
            read_rgb(tmp_path / "text.jpg")
        with pytest.raises(DataError, match=r"text\.jpg: cannot read"):
            read_size(tmp_path / "text.jpg")

    def test_bomb(self, tmp_path, monkeypatch):
        path = saved(tmp_path / "big.png", Image.new("L", (50, 50)))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(DataError, match=r"big.png: .*decompression bomb"):
            read_rgb(path)

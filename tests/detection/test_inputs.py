import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcolor.color import rgb_to_lab
from jaxcolor.detection.inputs import detector_gray, paint, place

sizes = st.tuples(st.integers(1, 900), st.integers(1, 900))
fits = st.sampled_from(["letterbox", "stretch"])


def onto(placed, boxes):
    """Boxes of the photo on the canvas, computed otherwise than by scale and origin."""
    shares = boxes / np.array([*placed.photo_size, *placed.photo_size])
    low, high = [placed.left, placed.top] * 2, [placed.left + placed.width, placed.top + placed.height] * 2
    return (1 - shares) * low + shares * high


@settings(deadline=None)
@given(photo=sizes, canvas=sizes, fit=fits, shares=st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_boxes_come_back(photo, canvas, fit, shares):
    placed = place(photo, canvas, fit)
    boxes = np.array([shares]) * [*photo, *photo]
    np.testing.assert_allclose(placed.back(onto(placed, boxes)), boxes, atol=1e-6)
    assert 0 <= placed.left <= placed.left + placed.width <= canvas[0]
    assert 0 <= placed.top <= placed.top + placed.height <= canvas[1]


@settings(deadline=None)
@given(photo=st.tuples(st.integers(30, 900), st.integers(30, 900)))
def test_letterbox_keeps_the_aspect_and_touches(photo):
    placed = place(photo, (640, 480), "letterbox")
    assert placed.width == 640 or placed.height == 480
    assert abs(placed.width / placed.height / (photo[0] / photo[1]) - 1) < 1 / min(placed.width, placed.height)


@settings(deadline=None, max_examples=50)
@given(
    photo=st.tuples(st.integers(20, 120), st.integers(20, 120)),
    canvas=st.tuples(st.integers(60, 200), st.integers(60, 200)),
    fit=fits,
    corner=st.tuples(st.floats(0, 0.6), st.floats(0, 0.6)),
)
def test_what_is_painted_lies_where_boxes_say(photo, canvas, fit, corner):
    """A white rectangle of the photo, found again on the canvas, comes back within a pixel of canvas or photo."""
    width, height = photo
    x, y = int(corner[0] * width), int(corner[1] * height)
    box = np.array([x, y, x + width // 3, y + height // 3])
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    placed = place(photo, canvas, fit)
    y, x = np.nonzero(paint(pixels, canvas, placed)[..., 0] >= 128)
    found = placed.back(np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float64))[0]
    a_pixel = max(1.0, width / placed.width, height / placed.height)
    assert np.abs(found - box).max() <= a_pixel


def test_paper_around_the_photo():
    placed = place((10, 20), (40, 40), "letterbox")
    assert placed == ((10, 20), 10, 0, 20, 40)
    canvas = paint(np.full((20, 10, 3), 7, np.uint8), (40, 40), placed)
    assert (canvas[:, 10:30] == 7).all()
    assert (canvas[:, :10] == 114).all()
    assert (canvas[:, 30:] == 114).all()


@pytest.mark.parametrize("photo", [(5000, 1), (1, 5000)])
def test_thin_photos(photo):
    placed = place(photo, (64, 64), "letterbox")
    assert min(placed.width, placed.height) == 1
    assert paint(np.zeros((photo[1], photo[0], 3), np.uint8), (64, 64), placed).shape == (64, 64, 3)


def test_the_gray_is_l_in_eight_bits():
    axis = np.array([0, 1, 5, 10, 11, 12, 40, 77, 128, 200, 254, 255], np.uint8)
    rgb = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 12, 3)
    gray = detector_gray(rgb)
    assert gray.dtype == np.uint8
    assert (gray[..., :1] == gray).all()
    lightness = rgb_to_lab(rgb / 255.0)[..., 0] * 2.55
    assert np.abs(gray[..., 0] - lightness).max() < 0.51


def test_gray_stays_in_order():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=-1)
    values = detector_gray(ramp)[0, :, 0].astype(int)
    assert (np.diff(values) >= 0).all()
    assert values[[0, 255]].tolist() == [0, 255]
    assert values[119] == 128  # L* of mid gray is 50

import numpy as np

from jaxcolor.color import rgb_to_lab
from jaxcolor.detection.gray import detector_gray


def test_is_l_in_eight_bits():
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

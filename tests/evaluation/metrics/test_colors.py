import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from jaxcolor.evaluation import metrics
from jaxcolor.evaluation.metrics.colors import COLORLESS_CHROMA
from tests.evaluation.metrics.pictures import batch

# Sharma, Wu and Dalal 2005, table 1: L*, a*, b* of two colors, and their difference.
SHARMA = """
50.0000   2.6772 -79.7751  50.0000   0.0000 -82.7485  2.0425
50.0000   3.1571 -77.2803  50.0000   0.0000 -82.7485  2.8615
50.0000   2.8361 -74.0200  50.0000   0.0000 -82.7485  3.4412
50.0000  -1.3802 -84.2814  50.0000   0.0000 -82.7485  1.0000
50.0000  -1.1848 -84.8006  50.0000   0.0000 -82.7485  1.0000
50.0000  -0.9009 -85.5211  50.0000   0.0000 -82.7485  1.0000
50.0000   0.0000   0.0000  50.0000  -1.0000   2.0000  2.3669
50.0000  -1.0000   2.0000  50.0000   0.0000   0.0000  2.3669
50.0000   2.4900  -0.0010  50.0000  -2.4900   0.0009  7.1792
50.0000   2.4900  -0.0010  50.0000  -2.4900   0.0010  7.1792
50.0000   2.4900  -0.0010  50.0000  -2.4900   0.0011  7.2195
50.0000   2.4900  -0.0010  50.0000  -2.4900   0.0012  7.2195
50.0000  -0.0010   2.4900  50.0000   0.0009  -2.4900  4.8045
50.0000  -0.0010   2.4900  50.0000   0.0010  -2.4900  4.8045
50.0000  -0.0010   2.4900  50.0000   0.0011  -2.4900  4.7461
50.0000   2.5000   0.0000  50.0000   0.0000  -2.5000  4.3065
50.0000   2.5000   0.0000  73.0000  25.0000 -18.0000 27.1492
50.0000   2.5000   0.0000  61.0000  -5.0000  29.0000 22.8977
50.0000   2.5000   0.0000  56.0000 -27.0000  -3.0000 31.9030
50.0000   2.5000   0.0000  58.0000  24.0000  15.0000 19.4535
50.0000   2.5000   0.0000  50.0000   3.1736   0.5854  1.0000
50.0000   2.5000   0.0000  50.0000   3.2972   0.0000  1.0000
50.0000   2.5000   0.0000  50.0000   1.8634   0.5757  1.0000
50.0000   2.5000   0.0000  50.0000   3.2592   0.3350  1.0000
60.2574 -34.0099  36.2677  60.4626 -34.1751  39.4387  1.2644
63.0109 -31.0961  -5.8663  62.8187 -29.7946  -4.0864  1.2630
61.2901   3.7196  -5.3901  61.4292   2.2480  -4.9620  1.8731
35.0831 -44.1164   3.7933  35.0232 -40.0716   1.5901  1.8645
22.7233  20.0904 -46.6940  23.0331  14.9730 -42.5619  2.0373
36.4612  47.8580  18.3852  36.2715  50.5065  21.2231  1.4146
90.8027  -2.0831   1.4410  91.1528  -1.6435   0.0447  1.4441
90.9257  -0.5406  -0.9208  88.6381  -0.8985  -0.7239  1.5381
 6.7747  -0.2908  -2.4247   5.8714  -0.0985  -2.2286  0.6377
 2.0776   0.0795  -1.1350   0.9033  -0.0636  -0.5514  0.9082
"""


@pytest.mark.parametrize("jit", [False, True])
def test_ciede2000_of_the_papers_test_data(jit: bool) -> None:
    table = np.array([line.split() for line in SHARMA.split("\n") if line], np.float32)
    assert table.shape == (34, 7)
    first, second = jnp.asarray(table[:, :3]), jnp.asarray(table[:, 3:6])
    function = jax.jit(metrics.ciede2000) if jit else metrics.ciede2000
    np.testing.assert_allclose(function(first, second), table[:, 6], rtol=0, atol=1e-4)


def test_ciede2000_is_that_of_scikit_image_everywhere() -> None:
    rng = np.random.default_rng(0)
    a = (rng.random((4000, 3)) * [100, 220, 220] - [0, 110, 110]).astype(np.float32)
    b = (rng.random((4000, 3)) * [100, 220, 220] - [0, 110, 110]).astype(np.float32)
    b[:1000] = a[:1000] + 0.3 * rng.standard_normal((1000, 3))  # near
    a[1000:1500, 1:] = 0  # gray
    b[1250:1600, 1:] = 0
    expected = deltaE_ciede2000(a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_allclose(metrics.ciede2000(jnp.asarray(a), jnp.asarray(b)), expected, rtol=1e-5, atol=1e-4)


def test_delta_e_2000_of_pictures_is_that_of_scikit_image() -> None:
    predictions, truths = batch()
    found = jax.jit(metrics.delta_e_2000)(predictions, truths)
    expected = deltaE_ciede2000(rgb2lab(np.asarray(truths)), rgb2lab(np.asarray(predictions))).mean(axis=(1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_picture_does_not_differ_from_itself() -> None:
    same = jnp.concatenate([batch()[1], jnp.zeros((1, 40, 40, 3), jnp.uint8)])
    for function in (metrics.delta_e_2000, jax.jit(metrics.delta_e_2000)):
        np.testing.assert_array_equal(function(same, same), 0)


def test_masks_choose_pixels() -> None:
    p, t = batch(["noise"])
    mask = jnp.zeros((1, 40, 40), bool).at[:, 3:20, 8:30].set(True)
    expected = jax.jit(metrics.delta_e_2000)(p[:, 3:20, 8:30], t[:, 3:20, 8:30])
    np.testing.assert_allclose(jax.jit(metrics.delta_e_2000)(p, t, mask), expected, rtol=1e-5)


def hasler(picture: np.ndarray, absolute: bool) -> float:
    """The paper's formula in float64, by NumPy's own statistics."""
    r, g, b = picture.reshape(-1, 3).astype(np.float64).T
    rg, yb = r - g, 0.5 * (r + g) - b
    if absolute:
        rg, yb = np.abs(rg), np.abs(yb)
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


@pytest.mark.parametrize("absolute", [False, True])
def test_colorfulness(absolute: bool) -> None:
    function = metrics.colorfulness_abs if absolute else metrics.colorfulness_hs
    pictures = jnp.concatenate(batch())
    found = jax.jit(function)(pictures)
    np.testing.assert_allclose(found, [hasler(np.asarray(p), absolute) for p in pictures], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("function", [metrics.colorfulness_hs, metrics.colorfulness_abs])
def test_gray_pictures_have_no_color_and_flat_ones_no_spread(function) -> None:
    gray = jnp.asarray(np.repeat(np.random.default_rng(0).integers(0, 256, (2, 9, 9, 1), np.uint8), 3, axis=-1))
    np.testing.assert_array_equal(function(gray), 0)
    np.testing.assert_array_equal(function(jnp.zeros_like(gray)), 0)
    red = jnp.zeros((1, 9, 9, 3), jnp.uint8).at[..., 0].set(255)
    np.testing.assert_allclose(function(red), 0.3 * np.hypot(255, 127.5), rtol=1e-6)


def test_the_two_conventions_differ_where_signs_do() -> None:
    halves = np.zeros((1, 2, 2, 3), np.uint8)
    halves[0, 0], halves[0, 1] = [200, 0, 100], [0, 200, 100]  # rg is +-200, yb 0
    np.testing.assert_allclose(metrics.colorfulness_hs(jnp.asarray(halves)), 200, rtol=1e-6)
    np.testing.assert_allclose(metrics.colorfulness_abs(jnp.asarray(halves)), 60, rtol=1e-6)


def test_mean_chroma_says_which_photos_have_no_color() -> None:
    pictures = jnp.concatenate(batch())
    expected = [np.hypot(*np.moveaxis(rgb2lab(np.asarray(p))[..., 1:], -1, 0)).mean() for p in pictures]
    np.testing.assert_allclose(jax.jit(metrics.mean_chroma)(pictures), expected, rtol=1e-3, atol=1e-4)
    gray = jnp.repeat(pictures[..., :1], 3, axis=-1)
    assert np.asarray(metrics.mean_chroma(gray)).max() < 0.1 < COLORLESS_CHROMA
    # What lies beyond a photo in its canvas does not count.
    size = jnp.tile(jnp.array([[8, 6]]), (len(pictures), 1))
    np.testing.assert_allclose(
        metrics.mean_chroma(pictures, size=size), metrics.mean_chroma(pictures[:, :8, :6]), rtol=1e-5
    )

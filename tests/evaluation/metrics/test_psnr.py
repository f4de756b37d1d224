import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2lab
from skimage.metrics import peak_signal_noise_ratio

from jaxcolor.evaluation import metrics
from tests.evaluation.metrics.pictures import KINDS, batch, pair


def test_psnr_is_that_of_scikit_image() -> None:
    predictions, truths = batch()
    found = jax.jit(metrics.psnr)(predictions, truths)
    expected = [
        peak_signal_noise_ratio(np.asarray(t), np.asarray(p), data_range=255)
        for p, t in zip(predictions, truths, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_psnr_ab_is_that_of_scikit_images_lab() -> None:
    predictions, truths = batch()
    found = jax.jit(metrics.psnr_ab)(predictions, truths)
    square = np.square(rgb2lab(np.asarray(predictions)) - rgb2lab(np.asarray(truths)))[..., 1:]
    expected = 10 * np.log10(255**2 / square.mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_psnr_ab_does_not_see_lightness() -> None:
    gray = jnp.asarray(pair("gray")[0][None])
    darker = gray // 2
    assert metrics.psnr(gray, darker)[0] < 20
    assert metrics.psnr_ab(gray, darker)[0] > 90  # not infinite: the white of the matrix is that of six digits


def test_masks_choose_pixels() -> None:
    prediction, truth = pair("near")
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 3:20, 8:30] = True
    p, t, m = jnp.asarray(prediction[None]), jnp.asarray(truth[None]), jnp.asarray(mask)
    expected = peak_signal_noise_ratio(truth[mask[0]], prediction[mask[0]], data_range=255)
    np.testing.assert_allclose(metrics.psnr(p, t, m), [expected], rtol=0, atol=1e-4)
    # What lies outside the mask does not matter.
    other = jnp.where(m[..., None], p, 0)
    for metric in (metrics.psnr, metrics.psnr_ab):
        np.testing.assert_array_equal(metric(other, t, m), metric(p, t, m))


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.psnr_ab])
def test_identical_pictures_are_infinitely_alike(metric) -> None:
    same = batch(KINDS)[1]
    assert np.isposinf(metric(same, same)).all()
    black = jnp.zeros((1, 5, 5, 3), jnp.uint8)
    assert np.isposinf(metric(black, black)).all()


@settings(deadline=None, max_examples=20)
@given(base=st.integers(0, 200), step=st.integers(1, 55), seed=st.integers(0, 99))
def test_properties(base: int, step: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (jnp.asarray(rng.integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)) for _ in range(2))
    np.testing.assert_array_equal(metrics.psnr(a, b), metrics.psnr(b, a))
    np.testing.assert_array_equal(metrics.psnr_ab(a, b), metrics.psnr_ab(b, a))
    # A constant error of d is 20 log10(255 / d), both ways: no wrap-around of uint8.
    flat = jnp.full((1, 16, 16, 3), base, jnp.uint8)
    expected = 20 * np.log10(255 / step)
    np.testing.assert_allclose(metrics.psnr(flat, flat + jnp.uint8(step)), [expected], rtol=1e-5)
    np.testing.assert_allclose(metrics.psnr(flat + jnp.uint8(step), flat), [expected], rtol=1e-5)
    # The errors of a mask and of its complement make up the whole.
    mask = jnp.asarray(rng.random((1, 16, 16)) < 0.3).at[0, 0, 0].set(True).at[0, 0, 1].set(False)
    parts = [float(10 ** (-metrics.psnr(a, b, m)[0] / 10) * m.mean()) for m in (mask, ~mask)]
    np.testing.assert_allclose(sum(parts), float(10 ** (-metrics.psnr(a, b)[0] / 10)), rtol=1e-4)

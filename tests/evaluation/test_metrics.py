import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from jaxcolor.evaluation import metrics
from tests.evaluation.batches import photo


def pair(kind: str, side: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(sum(map(ord, kind)))
    truth = photo(rng, side)
    if kind == "noise":
        return rng.integers(0, 256, (side, side, 3), dtype=np.uint8), truth
    if kind == "near":
        return np.clip(truth.astype(int) + rng.integers(-2, 3, truth.shape), 0, 255).astype(np.uint8), truth
    if kind == "gray":
        return np.repeat(truth.mean(axis=-1, keepdims=True).astype(np.uint8), 3, axis=-1), truth
    # Bright and almost flat: where float32 loses variances to cancellation.
    bright = rng.integers(253, 256, truth.shape, dtype=np.uint8)
    return bright, np.full_like(truth, 254)


KINDS = ["noise", "near", "gray", "bright"]


def skimage_ssim_map(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    _, full = structural_similarity(
        truth,
        prediction,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2,
        full=True,
    )
    return full.mean(axis=-1)[5:-5, 5:-5]


def test_psnr_is_that_of_scikit_image() -> None:
    predictions, truths = (np.stack(x) for x in zip(*map(pair, KINDS), strict=True))
    found = jax.jit(metrics.psnr)(jnp.asarray(predictions), jnp.asarray(truths))
    expected = [peak_signal_noise_ratio(t, p, data_range=255) for p, t in zip(predictions, truths, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_ssim_is_that_of_scikit_image(kind: str) -> None:
    prediction, truth = pair(kind)
    found = jax.jit(metrics.ssim_map)(jnp.asarray(prediction[None]), jnp.asarray(truth[None]))[0]
    expected = skimage_ssim_map(prediction, truth)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    mean = metrics.ssim(jnp.asarray(prediction[None]), jnp.asarray(truth[None]))
    np.testing.assert_allclose(mean, [expected.mean()], rtol=0, atol=5e-5)


def test_masks_choose_pixels_and_window_centres() -> None:
    prediction, truth = pair("near")
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 3:20, 8:30] = True
    p, t, m = jnp.asarray(prediction[None]), jnp.asarray(truth[None]), jnp.asarray(mask)
    expected = peak_signal_noise_ratio(truth[mask[0]], prediction[mask[0]], data_range=255)
    np.testing.assert_allclose(metrics.psnr(p, t, m), [expected], rtol=0, atol=1e-4)
    inside = skimage_ssim_map(prediction, truth)[mask[0, 5:-5, 5:-5]].mean()
    np.testing.assert_allclose(metrics.ssim(p, t, m), [inside], rtol=0, atol=1e-5)
    # What lies outside the mask does not matter to PSNR.
    other = jnp.where(m[..., None], p, 0)
    np.testing.assert_array_equal(metrics.psnr(other, t, m), metrics.psnr(p, t, m))


def test_an_empty_mask_has_no_value_and_does_not_touch_its_neighbours() -> None:
    prediction, truth = pair("near")
    p, t = (jnp.asarray(np.stack([x, x])) for x in (prediction, truth))
    mask = jnp.stack([jnp.zeros((40, 40), bool), jnp.ones((40, 40), bool)])
    for metric in (metrics.psnr, metrics.ssim):
        empty, whole = metric(p, t, mask)
        assert np.isnan(empty)
        np.testing.assert_allclose(whole, metric(p, t)[1], rtol=1e-6)


def test_a_mask_in_the_border_has_pixels_but_no_window_centre() -> None:
    prediction, truth = pair("near")
    mask = np.zeros((1, 40, 40), bool)
    mask[:, :5] = True
    args = jnp.asarray(prediction[None]), jnp.asarray(truth[None]), jnp.asarray(mask)
    assert np.isfinite(metrics.psnr(*args)[0])
    assert np.isnan(metrics.ssim(*args)[0])


def test_identical_pictures() -> None:
    _, truth = pair("gray")
    same = jnp.asarray(truth[None])
    assert np.isposinf(metrics.psnr(same, same)[0])
    np.testing.assert_allclose(metrics.ssim(same, same), 1, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(base=st.integers(0, 200), step=st.integers(1, 55), seed=st.integers(0, 99))
def test_properties(base: int, step: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (jnp.asarray(rng.integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)) for _ in range(2))
    np.testing.assert_array_equal(metrics.psnr(a, b), metrics.psnr(b, a))
    np.testing.assert_allclose(metrics.ssim(a, b), metrics.ssim(b, a), atol=1e-6)
    assert -1.0001 <= float(metrics.ssim(a, b)[0]) <= 1.0001
    # A constant error of d is 20 log10(255 / d), both ways: no wrap-around of uint8.
    flat = jnp.full((1, 16, 16, 3), base, jnp.uint8)
    expected = 20 * np.log10(255 / step)
    np.testing.assert_allclose(metrics.psnr(flat, flat + jnp.uint8(step)), [expected], rtol=1e-5)
    np.testing.assert_allclose(metrics.psnr(flat + jnp.uint8(step), flat), [expected], rtol=1e-5)
    # The errors of a mask and of its complement make up the whole.
    mask = jnp.asarray(rng.random((1, 16, 16)) < 0.3).at[0, 0, 0].set(True).at[0, 0, 1].set(False)
    parts = [float(10 ** (-metrics.psnr(a, b, m)[0] / 10) * m.mean()) for m in (mask, ~mask)]
    np.testing.assert_allclose(sum(parts), float(10 ** (-metrics.psnr(a, b)[0] / 10)), rtol=1e-4)


def test_a_picture_smaller_than_the_window_is_refused() -> None:
    small = jnp.zeros((1, 10, 40, 3), jnp.uint8)
    with pytest.raises(ValueError, match="at least 11x11 pixels, not 10x40"):
        metrics.ssim(small, small)

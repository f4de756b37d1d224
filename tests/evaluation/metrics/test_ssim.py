import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from jaxcolor.evaluation import metrics
from tests.evaluation.metrics.pictures import KINDS, batch, pair

BOTH = pytest.mark.parametrize("metric", [metrics.ssim, metrics.ssim_uniform7])


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


@pytest.mark.parametrize("kind", KINDS)
def test_ssim_is_that_of_scikit_image(kind: str) -> None:
    prediction, truth = pair(kind)
    found = jax.jit(metrics.ssim_map)(jnp.asarray(prediction[None]), jnp.asarray(truth[None]))[0]
    expected = skimage_ssim_map(prediction, truth)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    mean = metrics.ssim(jnp.asarray(prediction[None]), jnp.asarray(truth[None]))
    np.testing.assert_allclose(mean, [expected.mean()], rtol=0, atol=5e-5)


def test_ssim_uniform7_is_scikit_images_default() -> None:
    predictions, truths = batch()
    found = jax.jit(metrics.ssim_uniform7)(predictions, truths)
    expected = [
        structural_similarity(*map(np.asarray, p), channel_axis=-1) for p in zip(truths, predictions, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_masks_choose_window_centres() -> None:
    prediction, truth = pair("near")
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 3:20, 8:30] = True
    p, t, m = jnp.asarray(prediction[None]), jnp.asarray(truth[None]), jnp.asarray(mask)
    inside = skimage_ssim_map(prediction, truth)[mask[0, 5:-5, 5:-5]].mean()
    np.testing.assert_allclose(metrics.ssim(p, t, m), [inside], rtol=0, atol=1e-5)
    _, uniform = structural_similarity(truth, prediction, channel_axis=2, full=True)
    inside = uniform.mean(axis=-1)[3:-3, 3:-3][mask[0, 3:-3, 3:-3]].mean()
    np.testing.assert_allclose(metrics.ssim_uniform7(p, t, m), [inside], rtol=0, atol=1e-5)


def test_an_empty_mask_has_no_value_and_does_not_touch_its_neighbors() -> None:
    p, t = batch(["near", "near"])
    mask = jnp.stack([jnp.zeros((40, 40), bool), jnp.ones((40, 40), bool)])
    for metric in (metrics.psnr, metrics.psnr_ab, metrics.ssim, metrics.ssim_uniform7, metrics.delta_e_2000):
        empty, whole = jax.jit(metric)(p, t, mask)
        assert np.isnan(empty)
        np.testing.assert_allclose(whole, jax.jit(metric)(p, t)[1], rtol=1e-6)


@pytest.mark.parametrize(("metric", "border"), [(metrics.ssim, 5), (metrics.ssim_uniform7, 3)])
def test_a_mask_in_the_border_has_pixels_but_no_window_centre(metric, border: int) -> None:
    mask = np.zeros((1, 40, 40), bool)
    mask[:, :border] = True
    args = (*batch(["near"]), jnp.asarray(mask))
    assert np.isfinite(metrics.psnr(*args)[0])
    assert np.isnan(metric(*args)[0])
    assert np.isfinite(metric(*args[:2], args[2].at[:, border, 20].set(True))[0])


@BOTH
def test_identical_pictures(metric) -> None:
    same = jnp.concatenate([batch()[1], jnp.zeros((1, 40, 40, 3), jnp.uint8)])
    np.testing.assert_allclose(metric(same, same), 1, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99))
def test_properties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (jnp.asarray(rng.integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)) for _ in range(2))
    for metric in map(jax.jit, (metrics.ssim, metrics.ssim_uniform7)):
        np.testing.assert_allclose(metric(a, b), metric(b, a), atol=1e-6)
        assert -1.0001 <= float(metric(a, b)[0]) <= 1.0001


@BOTH
def test_a_picture_smaller_than_the_window_is_refused(metric) -> None:
    side = 11 if metric is metrics.ssim else 7
    small = jnp.zeros((1, side - 1, 40, 3), jnp.uint8)
    with pytest.raises(ValueError, match=f"at least {side}x{side} pixels, not {side - 1}x40"):
        metric(small, small)


@BOTH
def test_a_photo_smaller_than_the_window_on_a_canvas_has_no_value(metric) -> None:
    side = 11 if metric is metrics.ssim else 7
    p, t = batch(["near", "near"])
    found = metric(p, t, size=jnp.array([[side - 1, 40], [side, side]]))
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1], metric(p[1:, :side, :side], t[1:, :side, :side])[0], rtol=1e-5)

"""A photo in the corner of a larger canvas measures what it measures alone, whatever lies beside it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.evaluation import metrics
from tests.evaluation.metrics.pictures import on_canvas

PAIRS = [metrics.psnr, metrics.psnr_ab, metrics.ssim, metrics.ssim_uniform7, metrics.delta_e_2000]
SINGLES = [metrics.colorfulness_hs, metrics.colorfulness_abs]
NAMES = [metric.__name__ for metric in PAIRS + SINGLES]
CANVAS = (34, 37)
SHAPES = [(11, 33), (26, 17), CANVAS]


@jax.jit
def measure(prediction: jax.Array, truth: jax.Array, size: jax.Array | None, mask: jax.Array | None = None) -> dict:
    """Everything at once: each shape is compiled once."""
    pairs = {metric.__name__: metric(prediction, truth, mask, size) for metric in PAIRS}
    return pairs | {metric.__name__: metric(prediction, size) for metric in SINGLES}


def photos(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    truths = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]
    return [np.clip(t + rng.normal(0, 20, t.shape), 0, 255).astype(np.uint8) for t in truths], truths


@pytest.mark.parametrize("seed", range(3))
def test_padded_is_unpadded(seed: int) -> None:
    predictions, truths = photos(seed)
    p, size = on_canvas(predictions, *CANVAS, seed)
    t, _ = on_canvas(truths, *CANVAS, seed + 1)
    found = measure(p, t, size)
    for i, (prediction, truth) in enumerate(zip(predictions, truths, strict=True)):
        alone = measure(jnp.asarray(prediction[None]), jnp.asarray(truth[None]), None)
        for name in NAMES:
            np.testing.assert_allclose(found[name][i], alone[name][0], rtol=1e-5, err_msg=name)


def test_masks_and_sizes_together() -> None:
    rng = np.random.default_rng(0)
    p, t = (jnp.asarray(rng.integers(0, 256, (1, *CANVAS, 3), dtype=np.uint8)) for _ in range(2))
    mask = jnp.asarray(rng.random((1, *CANVAS)) < 0.5)
    height, width = SHAPES[1]
    found = measure(p, t, jnp.array([[height, width]]), mask)
    alone = measure(*(x[:, :height, :width] for x in (p, t)), None, mask[:, :height, :width])
    for name in NAMES:
        np.testing.assert_allclose(found[name], alone[name], rtol=1e-5, err_msg=name)


def test_photos_of_a_batch_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(1)
    p, t = (jnp.asarray(rng.integers(0, 256, (3, *CANVAS, 3), dtype=np.uint8)) for _ in range(2))
    size = jnp.array([[20, 23], [34, 37], [0, 0]])
    found = measure(p, t, size)
    other = measure(p.at[1:].set(0), t.at[1:].set(255), size)
    for name in NAMES:
        np.testing.assert_array_equal(found[name][0], other[name][0], err_msg=name)
        assert np.isfinite(found[name][1]), name
        assert np.isnan(found[name][2]), name  # nothing of it is there

"""Fusion whose weights fade toward the borders of crops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxcolor import resample
from jaxcolor.config import FusionConfig
from jaxcolor.models.feathered import FADE, fade
from jaxcolor.models.fusion import fusion_strategy
from jaxcolor.models.ops.blend import membership, sum_per_image
from tests.small import MODEL

FEATHERED = dataclasses.replace(MODEL, head_init="he", fusion=FusionConfig(strategy="feathered"))


def test_the_window_is_one_in_the_middle_and_falls_at_inner_borders_only() -> None:
    window = np.asarray(fade(jnp.array([[8, 0, 16, 32], [0, 0, 32, 32], [0, 0, 0, 0]]), 32, 32))
    columns = (np.arange(16) + 0.5) / 16
    expected = np.minimum(1, np.minimum(columns, 1 - columns) / FADE)
    np.testing.assert_allclose(window[0, 16, 8:24], expected, rtol=1e-6)
    np.testing.assert_array_equal(window[0, :, 16], 1)  # from the photo's top to its bottom
    np.testing.assert_array_equal(window[1], 1)  # the whole photo
    assert np.isfinite(np.log(window)).all()  # of padding too


def test_shares_sum_to_one_and_vanish_at_the_border() -> None:
    rng = np.random.default_rng(0)
    full = jnp.asarray(rng.standard_normal((3, 16, 16, 6)), jnp.float32)
    instance = jnp.asarray(rng.standard_normal((4, 8, 8, 6)), jnp.float32)
    index, boxes = jnp.array([2, 0, -1, 2]), jnp.array([[2, 2, 12, 12], [1, 2, 14, 8], [0, 0, 0, 0], [4, 4, 8, 8]])
    module = fusion_strategy(FEATHERED)
    arguments = (full, instance, index, boxes)
    (fused, weights), _ = module.init_with_output(jax.random.key(0), *arguments)
    total = weights.full + sum_per_image(weights.instance, membership(index, 3))
    np.testing.assert_allclose(total, 1, atol=1e-5)
    inside = np.asarray(resample.inside(boxes, 16, 16))
    assert (np.asarray(weights.instance)[~inside] == 0).all()
    np.testing.assert_array_equal(weights.full[1], 1)  # no boxes
    np.testing.assert_allclose(fused[1], full[1], rtol=1e-6)
    alone = np.asarray(weights.instance[1])
    assert alone[2, 1:15].max() < 0.55 * alone[6, 8]
    assert alone[6, 8] > 0.1


def test_crops_of_several_sides_are_placed_as_one_side_is() -> None:
    """Constant features say the same at any side, away from the borders that convolutions pad."""
    full = jnp.ones((1, 32, 32, 6))
    index, boxes = jnp.array([0, 0]), jnp.array([[0, 0, 16, 32], [16, 0, 16, 32]])
    module = fusion_strategy(FEATHERED)
    crops = jnp.ones((2, 16, 16, 6))
    (_, plain), tree = module.init_with_output(jax.random.key(0), full, crops, index, boxes)
    _, found = module.apply(tree, full, (crops[:1], jnp.ones((1, 32, 32, 6))), index, boxes)
    np.testing.assert_allclose(found.instance[:, 12:20], plain.instance[:, 12:20], atol=1e-5)
    _, same = module.apply(tree, full, (crops[:1], crops[1:]), index, boxes)
    np.testing.assert_allclose(same.instance, plain.instance, atol=1e-6)

"""Fusion by gates."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxcolor import resample
from jaxcolor.config import FusionConfig
from jaxcolor.models import networks
from jaxcolor.models.fusion import fusion_strategy
from jaxcolor.models.ops.blend import membership, sum_per_image
from tests.small import MODEL, batch, example, variables

GATED = dataclasses.replace(MODEL, head_init="he", fusion=FusionConfig(strategy="gated"))
INDEX = jnp.array([2, 0, -1, 2, 0])
BOXES = jnp.array([[0, 0, 8, 8], [1, 2, 4, 5], [0, 0, 8, 8], [3, 3, 5, 5], [0, 0, 3, 8]])


def features(scale: float = 1.0) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.standard_normal((3, 8, 8, 6)) * scale), jnp.asarray(
        rng.standard_normal((5, 4, 4, 6)) * scale
    )


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_weights_are_shares_of_what_boxes_cover(scale: float) -> None:
    full, instance = features(scale)
    module = fusion_strategy(GATED)
    given = (full, instance, INDEX, BOXES)
    fused, weights = jax.jit(module.apply)(jax.jit(module.init)(jax.random.key(0), *given), *given)
    assert np.isfinite(fused).all()
    total = weights.full + sum_per_image(weights.instance, membership(INDEX, 3))
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert (weights.full >= 0).all()
    assert (weights.instance >= 0).all()
    inside = np.asarray(resample.inside(BOXES, 8, 8))
    assert (weights.instance[~inside] == 0).all()
    assert (weights.instance[2] == 0).all()  # padding
    np.testing.assert_array_equal(weights.full[1], 1)  # no boxes
    np.testing.assert_allclose(fused[1], full[1], rtol=1e-6)


@pytest.mark.parametrize("against", [0.0, 20.0, 60.0, 200.0])
def test_gradients_are_finite_however_closed_the_gates_are(against: float) -> None:
    full, instance = (x.astype(jnp.float32) for x in features())
    module = fusion_strategy(GATED)
    params = jax.jit(module.init)(jax.random.key(0), full, instance, INDEX, BOXES)
    flat = traverse_util.flatten_dict(params)
    params = traverse_util.unflatten_dict(
        {path: x + against if path[1:] == ("full_head", "conv3", "bias") else x for path, x in flat.items()}
    )

    def loss(params: object, full: jax.Array, instance: jax.Array) -> jax.Array:
        fused, weights = module.apply(params, full, instance, INDEX, BOXES)
        return (fused**2).mean() + weights.full.mean()

    for gradient in jax.tree.leaves(jax.jit(jax.grad(loss, (0, 1, 2)))(params, full, instance)):
        assert np.isfinite(gradient).all()


def test_one_gate_is_the_softmax_of_two() -> None:
    """With a single instance the gate's sigmoid of a difference is the learned strategy's softmax."""
    full, instance = features()
    one = (INDEX[:1], BOXES[:1])
    gated = fusion_strategy(GATED)
    learned = fusion_strategy(dataclasses.replace(GATED, fusion=FusionConfig(outside="masked")))
    params = jax.jit(gated.init)(jax.random.key(0), full, instance[:1], *one)
    expected = jax.jit(learned.apply)(params, full, instance[:1], *one)
    found = jax.jit(gated.apply)(params, full, instance[:1], *one)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_whole_model_runs() -> None:
    shown = batch([example(0, [[1, 1, 9, 9]]), example(1)], capacity=2)
    prediction = jax.jit(functools.partial(networks.predict, networks.build(GATED)))(variables(GATED), shown)
    assert np.abs(prediction.ab[0] - prediction.full_ab[0]).max() > 1e-3
    np.testing.assert_array_equal(prediction.ab[1], prediction.full_ab[1])

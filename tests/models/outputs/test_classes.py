"""The class head's loss against its definition, and its colors."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor import color
from jaxcolor.models.outputs import ab_distribution
from jaxcolor.models.outputs.classes import Classes, ClassOutput

SIDE = 16


def true_ab() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (2, SIDE, SIDE, 2)).astype(np.float32)


def output(side: int = 4) -> ClassOutput:
    logits = 2 * np.random.default_rng(1).standard_normal((2, side, side, 529))
    prior = np.random.default_rng(2).dirichlet(np.full(529, 0.3))
    return ClassOutput(jnp.asarray(logits, jnp.float32), jnp.asarray(ab_distribution.rebalancing_weights(prior)))


def test_cross_entropy() -> None:
    """Every fourth pixel; the five nearest of all bins; weighed by the nearest."""
    predicted, truth = output(), true_ab().astype(np.float64)
    exact = np.asarray(predicted.logits, np.float64)
    log_probability = exact - np.log(np.exp(exact).sum(axis=-1, keepdims=True))
    expected = np.zeros(2)
    for i, y, x in np.ndindex(2, 4, 4):
        distance = np.linalg.norm((color.bin_centers() - truth[i, 4 * y, 4 * x]) * 110, axis=1)
        nearest = np.argsort(distance)[:5]
        target = np.exp(-(distance[nearest] ** 2) / (2 * 5.0**2))
        loss = -(target / target.sum() * log_probability[i, y, x, nearest]).sum()
        expected[i] += predicted.weights[nearest[0]] * loss / 16
    np.testing.assert_allclose(Classes.loss(predicted, jnp.asarray(true_ab())), expected, rtol=1e-4)


@pytest.mark.parametrize("side", [5, 12, 32])
def test_grids_that_do_not_fit(side: int) -> None:
    with pytest.raises((ValueError, TypeError)):
        Classes.loss(output(side), jnp.asarray(true_ab()))


def test_a_certain_class_is_its_color() -> None:
    """In every pixel, also between those that have logits."""
    bins = [150, 377]
    logits = jnp.stack([jnp.full((4, 4, 529), -50.0).at[..., index].set(50.0) for index in bins])
    colors = Classes.decode(ClassOutput(logits, jnp.ones(529)), (SIDE, SIDE))
    expected = np.broadcast_to(color.bin_centers()[bins][:, None, None], (2, SIDE, SIDE, 2))
    np.testing.assert_allclose(colors, expected, atol=1e-6)


def test_frequencies_are_those_before_the_weights() -> None:
    """A network that fits the weighted loss has probabilities in proportion to weight x frequency."""
    predicted = output()
    frequency = np.random.default_rng(3).dirichlet(np.ones(529), (2, 4, 4))
    fitted = predicted._replace(logits=jnp.log(jnp.asarray(frequency * np.asarray(predicted.weights), jnp.float32)))
    odds = np.exp(np.asarray(fitted.frequencies, np.float64))
    np.testing.assert_allclose(odds / odds.sum(axis=-1, keepdims=True), frequency, rtol=1e-3, atol=1e-8)

"""The loss against its formula and PyTorch's; sums over parts; which pictures take part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.models.outputs.regression import Regression
from jaxcolor.training.losses import any_crop, colorful, sum_of_valid

DELTA = 1 / 110


def colours() -> tuple[jax.Array, jax.Array]:
    """Predicted and true ab whose differences lie on both sides of delta."""
    rng = np.random.default_rng(0)
    ab, true_ab = rng.uniform(-0.5, 0.5, (2, 3, 8, 8, 2))
    ab[:, :4] = true_ab[:, :4] + rng.uniform(-DELTA, DELTA, (3, 4, 8, 2))
    return jnp.asarray(ab, jnp.float32), jnp.asarray(true_ab, jnp.float32)


def test_the_formula() -> None:
    ab, true_ab = (np.asarray(a, np.float64) for a in colours())
    difference = np.abs(ab - true_ab)
    assert (difference < DELTA).any()
    assert (difference > DELTA).any()
    each = np.where(difference < DELTA, difference**2 / (2 * DELTA), difference - DELTA / 2)
    expected = 10 * each.sum(axis=-1).mean(axis=(1, 2))
    np.testing.assert_allclose(Regression.loss(*colours()), expected, rtol=1e-4)


def test_pytorchs_smooth_l1() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install 'jaxcolor[torch]'")
    ab, true_ab = (torch.from_numpy(np.array(a)) for a in colours())
    ab.requires_grad_()
    each = torch.nn.functional.smooth_l1_loss(ab, true_ab, beta=DELTA, reduction="none").sum(-1)
    expected = 10 * each.mean((1, 2))
    expected.sum().backward()
    np.testing.assert_allclose(Regression.loss(*colours()), expected.detach().numpy(), rtol=1e-4)
    gradient = jax.grad(lambda ab: Regression.loss(ab, colours()[1]).sum())(colours()[0])
    np.testing.assert_allclose(gradient, ab.grad.numpy(), rtol=1e-3, atol=1e-5)


def test_no_error_no_loss_and_each_picture_for_itself() -> None:
    ab, true_ab = colours()
    mixed = Regression.loss(true_ab.at[1].set(ab[1]), true_ab)
    assert mixed[0] == mixed[2] == 0
    assert mixed[1] == Regression.loss(ab, true_ab)[1] > 0


VALID = {
    "uneven": [1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 0, 1],
    "all": [1] * 16,
    "none": [0] * 16,
    "one": [0] * 15 + [1],
}


def test_sums_of_parts_add_up_to_the_mean_over_all() -> None:
    losses = np.random.default_rng(0).uniform(0, 5, 16).astype(np.float32)
    for numbers in VALID.values():
        valid = np.array(numbers, bool)
        sums, counts = jax.vmap(sum_of_valid)(losses.reshape(8, 2), valid.reshape(8, 2))
        assert counts.sum() == valid.sum()
        assert sums.sum() == pytest.approx(losses[valid].sum(), rel=1e-6)
    # Devices with one valid picture of two would weigh it double in a mean of means.
    uneven = np.array(VALID["uneven"], bool).reshape(8, 2)
    means = [row[mask].mean() for row, mask in zip(losses.reshape(8, 2), uneven, strict=True) if mask.any()]
    assert np.mean(means) != pytest.approx(losses[uneven.ravel()].mean(), rel=1e-2)


def test_a_loss_that_is_not_valid_may_be_anything() -> None:
    losses, valid = jnp.array([1.0, jnp.nan, 3.0]), jnp.array([True, False, True])
    (total, count), gradient = jax.value_and_grad(sum_of_valid, has_aux=True)(losses, valid)
    assert (total, count) == (4.0, 2)
    np.testing.assert_array_equal(gradient, [1, 0, 1])


def test_low_chroma() -> None:
    """In units of ab*: spans of 0, 9.9, 10.1 and 6 + 6."""
    spans = np.array([[0, 0], [9.9, 0], [0, 10.1], [6, 6]], np.float32)
    ab = np.zeros((4, 8, 8, 2), np.float32) + 0.3
    ab[:, 2, 3] += spans / 110
    true_ab = jnp.asarray(ab)
    np.testing.assert_array_equal(colorful(true_ab, 10.0), [False, False, True, True])
    np.testing.assert_array_equal(colorful(true_ab, 0.0), [True] * 4)
    np.testing.assert_array_equal(colorful(true_ab, 11.0), [False, False, False, True])


def test_photos_with_a_valid_crop() -> None:
    index = jnp.array([0, 0, 1, -1, 3])
    valid = jnp.array([False, True, False, True, True])
    np.testing.assert_array_equal(any_crop(valid, index, 4), [True, False, False, True])

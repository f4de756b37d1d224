import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.evaluation import metrics


def test_the_mask_of_an_extent() -> None:
    size = jnp.array([[2, 3], [4, 5], [0, 5], [-3, 2], [9, 9]])
    expected = np.zeros((5, 4, 5), bool)
    expected[0, :2, :3] = True
    expected[1] = expected[4] = True
    np.testing.assert_array_equal(metrics.extent_mask(size, 4, 5), expected)


@pytest.mark.parametrize(("side", "window", "count"), [(11, 11, 1), (10, 11, 0), (40, 7, 34), (1, 7, -5)])
def test_whole_windows(side: int, window: int, count: int) -> None:
    np.testing.assert_array_equal(metrics.whole_windows(jnp.array([[side, side]]), window), [[count, count]])


def test_what_counts_lies_in_the_mask_and_in_the_photo() -> None:
    mask = jnp.asarray(np.random.default_rng(0).random((2, 6, 7)) < 0.5)
    size = jnp.array([[3, 4], [6, 7]])
    assert metrics.counted(None, None, 6, 7) is None
    np.testing.assert_array_equal(metrics.counted(mask, None, 6, 7), mask)
    both = metrics.counted(mask, size, 6, 7)
    np.testing.assert_array_equal(both[0, :3, :4], mask[0, :3, :4])
    assert int(both[0].sum()) == int(mask[0, :3, :4].sum())
    np.testing.assert_array_equal(both[1], mask[1])


def test_what_does_not_count_may_be_anything() -> None:
    values = jnp.array([[[1.0, 3.0, jnp.nan, jnp.inf]], [[2.0, 4.0, 6.0, 8.0]]])
    mask = jnp.array([[[True, True, False, False]], [[True, True, True, True]]])
    np.testing.assert_array_equal(metrics.masked_mean(values, mask), [2, 5])
    np.testing.assert_array_equal(metrics.masked_mean(values[1:], None), [5])

"""The two ways of blending: the kernel, here interpreted, against the matrix products."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor import models
from jaxcolor.models import blend_kernel, blending

IMAGES, SIDE = 3, 20
INDEX = np.array([2, 0, -1, 2, 0, 0], np.int32)
BOXES = np.array([[0, 0, 20, 20], [3, 5, 1, 9], [4, 4, 9, 9], [15, 2, 5, 18], [2, 11, 17, 1], [7, 6, 6, 8]], np.int32)


def arguments(channels: int = 32, crop_side: int = SIDE, dtype: Any = jnp.float32) -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(0)
    weight = rng.random((len(INDEX), SIDE, SIDE)) * (INDEX >= 0)[:, None, None]
    return (
        jnp.asarray(rng.standard_normal((IMAGES, SIDE, SIDE, channels)), dtype),
        jnp.asarray(rng.random((IMAGES, SIDE, SIDE)), jnp.float32),
        jnp.asarray(rng.standard_normal((len(INDEX), crop_side, crop_side, channels)), dtype),
        jnp.asarray(weight, jnp.float32),
        jnp.asarray(INDEX),
        jnp.asarray(BOXES),
    )


@pytest.mark.parametrize(("channels", "crop_side"), [(16, SIDE), (48, SIDE), (16, 12)])
def test_the_kernel_gives_the_plain_numbers(channels: int, crop_side: int) -> None:
    given = arguments(channels, crop_side)
    np.testing.assert_allclose(blend_kernel.blend(*given), blending.plain(*given), atol=2e-5)


def test_its_gradients_are_the_plain_ones() -> None:
    given = arguments()
    flowing = jnp.asarray(np.random.default_rng(1).standard_normal(given[0].shape), jnp.float32)

    def gradients(way: Any) -> Any:
        return jax.grad(lambda *first: (way(*first, *given[4:]) * flowing).sum(), argnums=(0, 1, 2, 3))(*given[:4])

    for ours, theirs in zip(gradients(blend_kernel.blend), gradients(blending.plain), strict=True):
        assert np.abs(theirs).max() > 0.5
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_bfloat16_is_as_close_as_its_digits_allow() -> None:
    exact = np.asarray(blending.plain(*arguments()))
    kernel = blend_kernel.blend(*arguments(dtype=jnp.bfloat16))
    assert kernel.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(kernel, np.float32), exact, atol=0.03)


def test_what_lies_outside_the_boxes_is_not_read() -> None:
    """A crop that covers nothing of a photo must not cost, and cannot harm, its pixels."""
    full, full_weight, instance, weight, index, boxes = arguments()
    wild = instance.at[2].set(np.nan)  # padding
    given = (full, full_weight, wild, weight, index, boxes)
    np.testing.assert_array_equal(blend_kernel.blend(*given), blend_kernel.blend(*arguments()))


def test_crops_are_ordered_by_photo() -> None:
    order, first = blend_kernel._by_photo(jnp.asarray(INDEX), IMAGES)
    np.testing.assert_array_equal(order, [1, 4, 5, 0, 3, 2])
    np.testing.assert_array_equal(first, [0, 3, 3, 5])


@pytest.mark.parametrize(
    ("channels", "dtype", "crops", "expected"),
    [(64, "bfloat16", 1, True), (48, "float32", 1, True), (12, "float32", 1, False), (64, "float32", 0, False)],
)
def test_where_there_is_a_kernel(
    monkeypatch: pytest.MonkeyPatch, channels: int, dtype: str, crops: int, expected: bool
) -> None:
    feature = jnp.zeros((crops, 8, 8, channels), dtype)
    assert blending.kernel_for(feature) is None  # here is no GPU
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert (blending.kernel_for(feature) is blend_kernel.blend) == expected


def test_there_is_none_where_jax_has_no_pallas_for_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.delattr(models, "blend_kernel")
    monkeypatch.setitem(sys.modules, "jaxcolor.models.blend_kernel", None)
    assert blending.kernel_for(jnp.zeros((1, 8, 8, 64))) is None

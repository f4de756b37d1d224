"""The ways of blending: row by row, and the kernel, here interpreted, against the matrix products."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.models.ops import blend, blend_rows, implementation
from jaxcolor.models.ops.triton import blend as triton_blend

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


WAYS = pytest.mark.parametrize("way", [triton_blend.box_blend, blend_rows.box_blend], ids=["kernel", "rows"])


@WAYS
@pytest.mark.parametrize(("channels", "crop_side"), [(48, SIDE), (16, 12)])
def test_every_way_gives_the_plain_numbers(way: blend.Blend, channels: int, crop_side: int) -> None:
    given = arguments(channels, crop_side)
    np.testing.assert_allclose(way(*given), blend.plain(*given), atol=2e-5)


@WAYS
def test_gradients_are_the_plain_ones(way: blend.Blend) -> None:
    given = arguments()
    flowing = jnp.asarray(np.random.default_rng(1).standard_normal(given[0].shape), jnp.float32)

    def gradients(way: Any) -> Any:
        gradient = jax.jit(jax.grad(lambda *first: (way(*first, *given[4:]) * flowing).sum(), argnums=(0, 1, 2, 3)))
        return gradient(*given[:4])

    for ours, theirs in zip(gradients(way), gradients(blend.plain), strict=True):
        assert np.abs(theirs).max() > 0.5
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@WAYS
def test_bfloat16_is_as_close_as_its_digits_allow(way: blend.Blend) -> None:
    exact = np.asarray(blend.plain(*arguments()))
    blended = way(*arguments(dtype=jnp.bfloat16))
    assert blended.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(blended, np.float32), exact, atol=0.03)


@WAYS
def test_what_sticks_out_of_the_canvas_is_cut_off(way: blend.Blend) -> None:
    *given, boxes = arguments()
    boxes = boxes.at[0].set(jnp.array([-4, -3, 30, 12])).at[3].set(jnp.array([15, 16, 9, 9]))
    np.testing.assert_allclose(way(*given, boxes), blend.plain(*given, boxes), atol=2e-5)


@WAYS
def test_padding_is_not_read(way: blend.Blend) -> None:
    full, full_weight, instance, weight, index, boxes = arguments()
    wild = instance.at[2].set(np.nan)  # padding
    given = (full, full_weight, wild, weight, index, boxes.at[2].set(jnp.array([-7, 3, 100, 90])))
    np.testing.assert_array_equal(way(*given), way(*arguments()))


def test_crops_are_ordered_by_photo() -> None:
    order, first = triton_blend._by_photo(jnp.asarray(INDEX), IMAGES)
    np.testing.assert_array_equal(order, [1, 4, 5, 0, 3, 2])
    np.testing.assert_array_equal(first, [0, 3, 3, 5])


@pytest.mark.parametrize(
    ("backend", "channels", "dtype", "crops", "expected"),
    [
        ("cpu", 12, "float64", 1, blend_rows.box_blend),
        ("cpu", 12, "float32", 0, blend.plain),
        ("tpu", 64, "bfloat16", 1, blend.plain),
        ("gpu", 64, "bfloat16", 1, triton_blend.box_blend),
        ("gpu", 48, "float32", 1, triton_blend.box_blend),
        ("gpu", 12, "float32", 1, blend.plain),
        ("gpu", 64, "float32", 0, blend.plain),
    ],
)
def test_which_implementation_runs_where(
    monkeypatch: pytest.MonkeyPatch, backend: str, channels: int, dtype: str, crops: int, expected: blend.Blend
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(implementation, "_capability", lambda: 9.0)
    assert blend.implementation_for(np.zeros((crops, 8, 8, channels), dtype)) is expected

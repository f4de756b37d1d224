"""Gradient accumulation: a batch in equal parts, one after another, in the memory of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

T = TypeVar("T")


def sum_over_parts(function: Callable[[Any], T], batch: Any, parts: int) -> T:
    """The sum of ``function(part)`` over equal parts of a batch, which are consecutive along axis 0.

    Crops are packed part by part (``jaxcolor.data.collate`` with that many more groups), so ``crop_to_image`` counts
    the photos of the part.

    Raises:
      ValueError: an array of the batch cannot be cut into that many equal parts.
    """
    if parts == 1:
        return function(batch)

    def cut(array: jax.Array) -> jax.Array:
        if array.shape[0] % parts:
            raise ValueError(f"{array.shape[0]} pictures cannot be cut into {parts} equal parts")
        return array.reshape(parts, array.shape[0] // parts, *array.shape[1:])

    def add(total: T, part: Any) -> tuple[T, None]:
        return jax.tree.map(jnp.add, total, function(part)), None

    cuts = jax.tree.map(cut, batch)
    shapes = jax.eval_shape(function, jax.tree.map(lambda array: array[0], cuts))
    total, _ = jax.lax.scan(add, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes), cuts)
    return total

"""How the trained parameters lie while they are optimized: whole on every device, or a part on each (ZeRO-1).

Seen from one device, inside the mapped step. A part is of every array, flattened and filled up with zeros until it
divides evenly; zeros stay zeros under every rule there is, and so count for no norm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxcolor.runtime.parallel import AXIS

Flat = dict[str, Any]
"""Parameters, gradients or the like by name."""


class Layout(NamedTuple):
    """The four ways between whole arrays and those that a device optimizes."""

    summed: Callable[[Flat], Flat]
    """This device's gradients (whole) -> the sum over the devices (own part)."""
    own: Callable[[Flat], Flat]
    """Parameters (whole, the same on every device) -> own part."""
    whole: Callable[[Flat, Flat], Flat]
    """Own part, and arrays of the whole's shapes -> whole."""
    total: Callable[[jax.Array], Float[jax.Array, ""]]
    """A sum over own parts -> the sum over everything."""


WHOLE = Layout(
    summed=lambda gradients: jax.lax.psum(gradients, AXIS),
    own=lambda params: params,
    whole=lambda own, like: own,
    total=lambda number: number,
)
"""Every device does all of the work."""


def _filled(array: jax.Array) -> jax.Array:
    return jnp.pad(array.reshape(-1), (0, -array.size % jax.lax.axis_size(AXIS)))


def _scattered(gradients: Flat) -> Flat:
    return {k: jax.lax.psum_scatter(_filled(g), AXIS, tiled=True) for k, g in gradients.items()}


def _own(params: Flat) -> Flat:
    def part(array: jax.Array) -> jax.Array:
        length = -(-array.size // jax.lax.axis_size(AXIS))
        return jax.lax.dynamic_slice(_filled(array), (jax.lax.axis_index(AXIS) * length,), (length,))

    return {k: part(p) for k, p in params.items()}


def _gathered(own: Flat, like: Mapping[str, Any]) -> Flat:
    return {k: jax.lax.all_gather(p, AXIS, tiled=True)[: like[k].size].reshape(like[k].shape) for k, p in own.items()}


SHARDED = Layout(summed=_scattered, own=_own, whole=_gathered, total=lambda number: jax.lax.psum(number, AXIS))
"""Every device does its part, and holds no more of what the optimizer remembers."""

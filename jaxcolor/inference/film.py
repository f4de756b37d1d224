"""Films: chroma steadied over frames where nothing moves, on the canvas.

Networks color each frame by itself, and what they make of two frames that hardly differ may differ: colors flicker. The
color of a pixel is here a running mean over the frames in which its lightness did not change,

    n = min(n_before * still + 1, frames),    mean = mean_before + (lab - mean_before) / n,

where ``still`` falls from 1 to 0 as the L* around the pixel departs from the mean's: where something moves the frame's
own color stands at once, elsewhere ``frames`` frames are averaged, at first all that there are. The mean is one of L*
too, so that slow changes add up until they count, and grain does not. A new scene starts from nothing.

What is carried from frame to frame is explicit, of fixed size, and all that a film needs to go on.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32, UInt8

from jaxcolor import color
from jaxcolor.batch import Array
from jaxcolor.config import FilmConfig

CELL = 8
"""Pixels of the canvas a side, whose mean L* is compared to find new scenes: what moves by little does not count."""
_NO_PICTURE = -1000.0
"""L* from which every picture differs."""


class FilmState(NamedTuple):
    """What a film's next frame needs of those before."""

    last: Float32[Array, "S S"]
    """L* of the last frame."""
    mean: Float32[Array, "S S 3"]
    """L* and normalized ab, steadied; ab is the last frame's result."""
    count: Float32[Array, "S S"]
    """Of how many frames ``mean`` is the mean; 0 before the first."""


def start(side: int) -> FilmState:
    """Before the first frame, which begins a scene; ``side`` is the canvas's."""
    last = jnp.full((side, side), _NO_PICTURE, jnp.float32)
    return FilmState(last, jnp.zeros((side, side, 3), jnp.float32), jnp.zeros((side, side), jnp.float32))


@functools.partial(jax.jit, static_argnames="settings")
def scene_cuts(state: FilmState, canvas: UInt8[Array, "T S S 3"], settings: FilmConfig) -> Bool[Array, " T"]:
    """Which frames begin a scene.

    Args:
      state: after the frame before the first of these.
      canvas: the frames, sRGB; only L* is read.
      settings: see ``FilmConfig``.
    """
    light = jnp.concatenate([state.last[None], _lightness(canvas)])
    cells = light.reshape(len(light), light.shape[1] // CELL, CELL, -1, CELL).mean(axis=(2, 4))
    changed = jnp.abs(cells[1:] - cells[:-1]) > settings.still
    return changed.mean(axis=(1, 2)) > settings.cut


@functools.partial(jax.jit, static_argnames="settings")
def steady(
    state: FilmState,
    canvas: UInt8[Array, "T S S 3"],
    ab: Float[Array, "T S S 2"],
    cuts: Bool[Array, " T"],
    is_real: Bool[Array, " T"],
    settings: FilmConfig,
) -> tuple[FilmState, Float32[Array, "T S S 2"]]:
    """The next frames of a film, steadied; the result does not depend on how a film is cut into calls.

    Args:
      state: after the frame before the first of these.
      canvas: the frames, sRGB; only L* is read.
      ab: normalized, each frame by itself.
      cuts: which frames begin a scene, from ``scene_cuts``.
      is_real: False marks frames that only fill up the last call of a film: they leave no trace.
      settings: see ``FilmConfig``.

    Returns:
      The state after the last frame, and the frames' ab.
    """

    def step(
        before: FilmState, frame: tuple[jax.Array, jax.Array, jax.Array, jax.Array]
    ) -> tuple[FilmState, jax.Array]:
        light, ab, cut, real = frame
        still = stillness(light - before.mean[..., 0], settings.still)
        count = jnp.minimum(jnp.where(cut, 0.0, before.count * still) + 1, settings.frames)
        lab = jnp.concatenate([light[..., None], ab], axis=-1)
        mean = before.mean + (lab - before.mean) / count[..., None]
        after = FilmState(light, mean, count)
        return jax.tree.map(lambda new, old: jnp.where(real, new, old), after, before), mean[..., 1:]

    return jax.lax.scan(step, state, (_lightness(canvas), ab.astype(jnp.float32), cuts, is_real))


def stillness(change: Float[Array, "*batch H W"], still: float) -> Float[Array, "*batch H W"]:
    """1 where L* did not change, exp(-1) at ``still``, 0 from about one and a half times that.

    Args:
      change: of L*; its root mean square over 3 x 3 pixels counts, edges repeated.
      still: in units of L*.
    """
    return jnp.exp(-jnp.square(_window_mean(jnp.square(change)) / still**2))


def flicker(lightness: Float[Array, "T H W"], ab: Float[Array, "T H W 2"], unchanged: float = 1.0) -> Float[Array, ""]:
    """Mean absolute change of ab from frame to frame where L* did not change, in the units of ``ab``; 0: steady.

    Args:
      lightness: L* of the frames, before grain where it is known.
      ab: of the frames.
      unchanged: largest root mean square of the change of L*, over 3 x 3 pixels, that is none.
    """
    change = jnp.sqrt(_window_mean(jnp.square(lightness[1:] - lightness[:-1])))
    where = (change <= unchanged)[..., None]
    return jnp.mean(jnp.abs(ab[1:] - ab[:-1]), where=jnp.broadcast_to(where, ab[1:].shape))


def _lightness(canvas: UInt8[Array, "T S S 3"]) -> Float32[Array, "T S S"]:
    return color.rgb_to_lab(color.unit_rgb(jnp.asarray(canvas)))[..., 0]


def _window_mean(planes: Float[Array, "*batch H W"]) -> Float[Array, "*batch H W"]:
    """Means of 3 x 3 windows, edges repeated."""
    height, width = planes.shape[-2:]
    padded = jnp.pad(planes, [(0, 0)] * (planes.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    rows = padded[..., :height, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    return (rows[..., :width] + rows[..., 1:-1] + rows[..., 2:]) / 9

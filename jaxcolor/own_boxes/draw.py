"""What one step sees: windows of the held photos, mirrored or not, and mosaics of four of them, with their boxes.

Pure functions of a key and the step, on the device.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, UInt8

from jaxcolor import resample
from jaxcolor.config import StageConfig
from jaxcolor.own_boxes.photos import HeldPhotos

_LEAST_SIDE = 1 / 128
"""Boxes narrower than this share of the canvas, two pixels of 256, are none."""


class Drawn(NamedTuple):
    """Pictures of one device's part of a step."""

    rgb: UInt8[jax.Array, "B S S 3"]
    boxes: Float[jax.Array, "B K 4"]
    """As shares of the picture's sides."""
    valid: Bool[jax.Array, "B K"]


def mosaic_count(pictures: int, share: float) -> int:
    """How many of so many pictures are mosaics."""
    return round(pictures * share)


def draw(
    held: HeldPhotos,
    key: jax.Array,
    step: Int[jax.Array, ""],
    count: int,
    side: int,
    settings: StageConfig,
    mosaics: float = 0.0,
) -> Drawn:
    """The pictures of a step: photos are shuffled anew for each pass.

    Args:
      held: photos on this device.
      key: of the seed and the device.
      step: from 0.
      count: B.
      side: S, a multiple of 2.
      settings: flip, crop_area, crop_aspect, crop_visible.
      mosaics: share of the pictures that are mosaics, the last ones.
    """
    fours = mosaic_count(count, mosaics)
    plain, used = count - fours, count + 3 * fours
    rows, keys = _shuffled(key, step, used, len(held.rgb))
    windows, flips = _windows(keys, settings)
    rgb = _cut(jnp.asarray(held.rgb)[rows], windows, flips, side)
    boxes, valid = move_boxes(jnp.asarray(held.boxes)[rows], windows, flips, settings.crop_visible)
    if not fours:
        return Drawn(_rounded(rgb), boxes, _large(boxes, valid))
    four_rgb, four_boxes, four_valid = mosaic(rgb[plain:], boxes[plain:], valid[plain:])
    valid = jnp.concatenate([_large(boxes[:plain], valid[:plain]), _large(four_boxes, four_valid)])
    return Drawn(
        _rounded(jnp.concatenate([rgb[:plain], four_rgb])), jnp.concatenate([boxes[:plain], four_boxes]), valid
    )


def _shuffled(key: jax.Array, step: Int[jax.Array, ""], count: int, total: int) -> tuple[jax.Array, jax.Array]:
    """Photos of a step, and a key for each place."""
    position = step * count + jnp.arange(count)
    first = position[0] // total
    order_key, own_key = jax.random.split(key)
    passes = -(-count // total) + 1
    orders = jnp.stack([jax.random.permutation(jax.random.fold_in(order_key, first + i), total) for i in range(passes)])
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(own_key, position)
    return orders[position // total - first, position % total], keys


def _windows(keys: jax.Array, settings: StageConfig) -> tuple[Float[jax.Array, "n 4"], Bool[jax.Array, " n"]]:
    """x, y, width, height of each window as shares of the photo, and whether it is mirrored."""
    share, bend, x, y, coin = jax.vmap(lambda k: jax.random.uniform(k, (5,), jnp.float32))(keys).T
    area = settings.crop_area + share * (1 - settings.crop_area)
    factor = jnp.exp((bend - 0.5) * math.log(settings.crop_aspect)) if settings.crop_area < 1 else jnp.ones(len(x))
    width, height = jnp.minimum(1, jnp.sqrt(area) * factor), jnp.minimum(1, jnp.sqrt(area) / factor)
    windows = jnp.stack([x * (1 - width), y * (1 - height), width, height], axis=1)
    return windows, (coin < 0.5) if settings.flip else jnp.zeros(len(x), bool)


def _cut(
    photos: UInt8[jax.Array, "n C C 3"], windows: Float[jax.Array, "n 4"], flips: Bool[jax.Array, " n"], side: int
) -> Float[jax.Array, "n {side} {side} 3"]:
    """The windows at the canvas's size, bilinear."""
    pixels = windows * photos.shape[1]
    rows = resample.crop_map(pixels[:, 1], pixels[:, 3], side, photos.shape[1], jnp.float32)
    columns = resample.crop_map(pixels[:, 0], pixels[:, 2], side, photos.shape[2], jnp.float32)
    columns = jnp.where(flips[:, None, None], columns[:, ::-1], columns)
    across = jnp.einsum("byi,bijc->byjc", rows, photos.astype(jnp.float32), precision="highest")
    return jnp.einsum("bxj,byjc->byxc", columns, across, precision="highest")


def move_boxes(
    boxes: Float[jax.Array, "n K 4"],
    windows: Float[jax.Array, "n 4"],
    flips: Bool[jax.Array, " n"],
    least_visible: float,
) -> tuple[Float[jax.Array, "n K 4"], Bool[jax.Array, "n K"]]:
    """Boxes of photos as they lie in a window of each.

    Args:
      boxes: as shares of the photo's sides; those without area are none.
      windows: x, y, width, height, likewise.
      flips: whether the window is mirrored.
      least_visible: share of a box's area that must lie in the window.

    Returns:
      Boxes cut at the window's edges, as shares of its sides, and which are boxes.
    """
    area = (boxes[..., 2:] - boxes[..., :2]).prod(axis=-1)
    start, size = jnp.tile(windows[:, None, :2], 2), jnp.tile(windows[:, None, 2:], 2)
    moved = jnp.clip((boxes - start) / size, 0, 1)
    left = (moved[..., 2:] - moved[..., :2]).prod(axis=-1) * windows[:, None, 2:].prod(axis=-1)
    mirrored = jnp.stack([1 - moved[..., 2], moved[..., 1], 1 - moved[..., 0], moved[..., 3]], axis=-1)
    valid = (area > 0) & (left > 0) & (left >= least_visible * area)
    return jnp.where(flips[:, None, None], mirrored, moved), valid


def mosaic(
    rgb: Float[jax.Array, "n S S 3"], boxes: Float[jax.Array, "n K 4"], valid: Bool[jax.Array, "n K"]
) -> tuple[Float[jax.Array, "n/4 S S 3"], Float[jax.Array, "n/4 K 4"], Bool[jax.Array, "n/4 K"]]:
    """Each four pictures at half the side as one, in two rows; of their boxes the first K that are boxes."""
    count, side, most = len(rgb) // 4, rgb.shape[1], boxes.shape[1]
    half = rgb.reshape(count, 2, 2, side // 2, 2, side // 2, 2, 3).mean(axis=(4, 6))
    joined = half.transpose(0, 1, 3, 2, 4, 5).reshape(count, side, side, 3)
    corner = jnp.array([[0, 0], [1, 0], [0, 1], [1, 1]], boxes.dtype)
    moved = (boxes.reshape(count, 4, most, 4) + jnp.tile(corner, 2)[:, None]) / 2
    all_valid = valid.reshape(count, 4 * most)
    rows = jnp.argsort(~all_valid, axis=1, stable=True)[:, :most]
    chosen = jnp.take_along_axis(moved.reshape(count, 4 * most, 4), rows[..., None], axis=1)
    return joined, chosen, jnp.take_along_axis(all_valid, rows, axis=1)


def _large(boxes: jax.Array, valid: jax.Array) -> jax.Array:
    """Those that have at least two pixels in width and height."""
    return valid & ((boxes[..., 2:] - boxes[..., :2]) >= _LEAST_SIDE).all(axis=-1)


def _rounded(rgb: jax.Array) -> jax.Array:
    return jnp.clip(jnp.round(rgb), 0, 255).astype(jnp.uint8)

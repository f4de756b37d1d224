"""Simulated color hints, made on the device from the true color: for training, and for measuring what hints bring.

Training simulates a person as Zhang et al. 2017 ("Real-Time User-Guided Image Colorization with Learned Deep Priors",
section 3.1): a few square patches of a photo show the mean of their true color. All photos and points at once, with
static shapes, no scatter and no loop: which patches cover a pixel is a bit set, the AND of one of its row and one of
its column. For 16 photos of 256 x 256 and 64 points XLA counts 37 MFLOP and 41 MB read and written (10 ms on two CPU
cores), where a training step of stage 1 takes 7.2 TFLOP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Num

from jaxcolor.batch import Array, split_by_side
from jaxcolor.config import HintConfig, HintLocation
from jaxcolor.hints import BatchHints, Hints

_WORD = 32


class _Patches(NamedTuple):
    """K square patches of each of B pictures, in canvas pixels."""

    top: Int[jax.Array, "B K"]
    left: Int[jax.Array, "B K"]
    side: Int[jax.Array, "B K"]
    shown: Bool[jax.Array, "B K"]


def no_hints(true_ab: Float[jax.Array, "B H W 2"]) -> Hints:
    """The empty hint for such pictures."""
    ab = _at_least_float32(true_ab)
    return Hints(jnp.zeros_like(ab), jnp.zeros((*ab.shape[:-1], 1), bool))


def simulate_hints(
    key: jax.Array,
    true_ab: Float[jax.Array, "B H W 2"],
    config: HintConfig,
    first: Int[jax.Array, ""] | int = 0,
) -> Hints:
    """What a person could have hinted at, drawn anew for each picture.

    Args:
      key: of the seed and the step.
      true_ab: normalized ab of the pictures, whole photos or crops.
      config: how many, how large, where.
      first: number of the first picture in the whole batch. A picture's hints depend on the key and its number alone,
        so they do not change with the number of devices.

    Returns:
      Hints in at least float32; later patches lie over earlier ones.
    """
    if not config.enabled:
        return no_hints(true_ab)
    truth = _at_least_float32(true_ab)
    keys = _fold_in_each(key, first + jnp.arange(truth.shape[0]))
    hinted, length, whole = jax.vmap(_uniform)(keys).T
    # The inverse of the geometric distribution's 1 - (1 - p)^(n + 1).
    count = jnp.floor(jnp.log1p(-length) / jnp.log1p(-config.stop_probability))
    count = jnp.where(hinted < config.probability, count, 0)
    patch = (config.min_patch, config.max_patch)
    drawn = _draw(keys, config.max_points, truth.shape[1:3], patch, config.location)
    drawn = drawn._replace(shown=jnp.arange(config.max_points) < count[:, None])
    hints = _reveal(truth, drawn, config.max_patch)
    all_shown = ((hinted < config.probability) & (whole < config.reveal_all))[:, None, None, None]
    return Hints(jnp.where(all_shown, truth, hints.ab), hints.mask | all_shown)


def random_points(
    key: jax.Array,
    true_ab: Float[jax.Array, "B H W 2"],
    count: int,
    *,
    numbers: Int[jax.Array, " B"] | None = None,
    patch: int = 6,
    location: HintLocation = "gaussian",
) -> Hints:
    """``count`` random points of each picture show their true color: the hints by which Zhang et al. 2017 is measured.

    The published curve (PSNR against 0, 1, 10, 50, 100, ... points) has patches of 6 x 6 pixels, drawn around the
    middle as in training. The points for a smaller count are the first of those for a larger one.

    Args:
      key: of the measurement's seed.
      true_ab: normalized ab.
      count: points of every picture; static.
      numbers: of the pictures in their data set, so that a photo's points do not depend on its batch; None: its row.
      patch: side of a point's patch, in pixels.
      location: where points lie.
    """
    if not count:
        return no_hints(true_ab)
    truth = _at_least_float32(true_ab)
    keys = _fold_in_each(key, jnp.arange(truth.shape[0]) if numbers is None else numbers)
    return _reveal(truth, _draw(keys, count, truth.shape[1:3], (patch, patch), location), patch)


def crop_hints(
    hints: Hints, boxes: Num[jax.Array, "M 4"], crop_to_image: Int[jax.Array, " M"], side: int | None = None
) -> Hints:
    """The photos' hints as they lie in crops: cut out and resized by nearest neighbor, as crops are resized.

    Args:
      hints: of the photos on the canvas, (B, S, S).
      boxes: x0, y0, width, height of each crop in canvas pixels, whole (``level_boxes[:, 0]``) or not.
      crop_to_image: the photo of each crop, -1 for padding, which gets no hints.
      side: of the crops; None: the canvas's.

    Returns:
      Hints of the crops, (M, side, side).
    """
    height, width = hints.mask.shape[1:3]
    rows = _nearest(boxes[:, 1], boxes[:, 3], height, side or height)
    columns = _nearest(boxes[:, 0], boxes[:, 2], width, side or width)
    place = (jnp.maximum(crop_to_image, 0)[:, None, None], rows[:, :, None], columns[:, None, :])
    mask = hints.mask[place] & (crop_to_image >= 0)[:, None, None, None]
    return Hints(jnp.where(mask, hints.ab[place], 0), mask)


def hints_by_side(
    hints: Hints,
    boxes: Num[jax.Array, "M 4"],
    crop_to_image: Int[jax.Array, " M"],
    crops: Sequence[Array],
    parts: int = 1,
) -> BatchHints:
    """The photos' hints, on them and as they lie in the crops of every side; further arguments as ``split_by_side``."""
    of_boxes, of_owners = (split_by_side(values, crops, parts) for values in (boxes, crop_to_image))
    each = zip(of_boxes, of_owners, crops, strict=True)
    first, *smaller = (crop_hints(hints, own, photo, crop.shape[1]) for own, photo, crop in each)
    return BatchHints(hints, first, tuple(smaller))


def _nearest(
    start: Num[jax.Array, " M"], size: Num[jax.Array, " M"], length: int, count: int
) -> Int[jax.Array, "M {count}"]:
    """The pixel of a canvas of ``length`` in which the center of each of a crop's ``count`` lies, along one axis."""
    real = jnp.promote_types(start.dtype, jnp.float32)
    within = (jnp.arange(count, dtype=real) + 0.5) * size[:, None].astype(real) / count
    return jnp.clip(jnp.floor(start[:, None].astype(real) + within).astype(jnp.int32), 0, length - 1)


def _at_least_float32(values: jax.Array) -> jax.Array:
    """Means over patches need more digits than bfloat16 has."""
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def _fold_in_each(key: jax.Array, numbers: Int[jax.Array, " B"]) -> jax.Array:
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)


def _uniform(key: jax.Array) -> jax.Array:
    return jax.random.uniform(key, (3,), jnp.float32)  # whatever JAX_ENABLE_X64 says


def _draw(
    keys: jax.Array, count: int, shape: tuple[int, ...], patch: tuple[int, int], location: HintLocation
) -> _Patches:
    """``count`` patches for each picture's key, with sides from ``patch[0]`` to ``patch[1]``, all of them shown."""
    each = jax.vmap(_fold_in_each, in_axes=(0, None))(keys, jnp.arange(1, count + 1))
    uniform = jax.vmap(jax.vmap(_uniform))(each)
    smallest, largest = (min(side, *shape) for side in patch)
    side = smallest + jnp.floor(uniform[..., 0] * (largest + 1 - smallest)).astype(jnp.int32)
    side = jnp.minimum(side, largest)  # where the product was rounded up
    top, left = (_start(uniform[..., 1 + axis], shape[axis] - side, location) for axis in range(2))
    return _Patches(top, left, side, jnp.ones_like(side, bool))


def _start(
    uniform: Float[jax.Array, "B K"], room: Int[jax.Array, "B K"], location: HintLocation
) -> Int[jax.Array, "B K"]:
    """The first row or column of a patch that can begin at 0 to ``room``, from a number uniform in [0, 1)."""
    places = room.astype(uniform.dtype) + 1
    if location == "uniform":
        at = uniform * places
    else:
        normal = jnp.sqrt(2.0) * jax.lax.erf_inv(2 * uniform - 1)
        at = places / 2 + places / 4 * normal
    return jnp.clip(jnp.floor(at), 0, places - 1).astype(jnp.int32)


def _reveal(truth: Float[jax.Array, "B H W 2"], patches: _Patches, largest: int) -> Hints:
    """Each patch's pixels have the mean of the true color over it; later patches lie over earlier ones."""
    last = _last_patch(patches, truth.shape[1], truth.shape[2])
    means = _patch_means(truth, patches, min(largest, *truth.shape[1:3]))
    mask = last >= 0
    painted = jnp.take_along_axis(means, jnp.maximum(last, 0).reshape(last.shape[0], -1, 1), axis=1)
    return Hints(jnp.where(mask[..., None], painted.reshape(truth.shape), 0), mask[..., None])


def _patch_means(truth: Float[jax.Array, "B H W 2"], patches: _Patches, largest: int) -> Float[jax.Array, "B K 2"]:
    """The mean color of each patch, read from a window of the largest side: sums of a whole picture lose digits."""
    offset = jnp.arange(largest)
    rows = jnp.minimum(patches.top[..., None] + offset, truth.shape[1] - 1)
    columns = jnp.minimum(patches.left[..., None] + offset, truth.shape[2] - 1)
    photo = jnp.arange(truth.shape[0])[:, None, None, None]
    values = truth[photo, rows[..., :, None], columns[..., None, :]]
    within = offset < patches.side[..., None]
    within = within[..., :, None] & within[..., None, :]
    total = jnp.where(within[..., None], values, 0).sum(axis=(2, 3))
    return total / jnp.square(patches.side)[..., None].astype(total.dtype)


def _last_patch(patches: _Patches, height: int, width: int) -> Int[jax.Array, "B {height} {width}"]:
    """The number of the last patch that covers each pixel; -1 where none does."""
    rows = _bits(patches.top, patches.side, patches.shown, height)
    columns = _bits(patches.left, patches.side, patches.shown, width)
    covering = rows[..., :, None] & columns[..., None, :]
    highest = _WORD - 1 - jax.lax.clz(covering).astype(jnp.int32)
    number = highest + _WORD * jnp.arange(rows.shape[1])[:, None, None]
    return jnp.where(covering > 0, number, -1).max(axis=1)


def _bits(
    start: Int[jax.Array, "B K"], side: Int[jax.Array, "B K"], shown: Bool[jax.Array, "B K"], length: int
) -> jax.Array:
    """For each row (or column) of a picture the set of patches on it: patch k is bit k % 32 of word k // 32.

    Returns:
      uint32 (B, ceil(K / 32), length).
    """
    line = jnp.arange(length)
    on = (line >= start[..., None]) & (line < (start + side)[..., None]) & shown[..., None]
    batch, count = start.shape
    words = -(-count // _WORD)
    on = jnp.pad(on, ((0, 0), (0, words * _WORD - count), (0, 0))).reshape(batch, words, _WORD, length)
    bit = jnp.left_shift(jnp.uint32(1), jnp.arange(_WORD, dtype=jnp.uint32))
    return jnp.where(on, bit[:, None], jnp.uint32(0)).sum(axis=2, dtype=jnp.uint32)

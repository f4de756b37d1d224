"""What happens to a batch's pictures on the device, before the networks see them: jitter, mixtures, old photos.

Pure functions of a key; a photo's numbers depend on the key and its place in the whole batch, and its crops share them.
Where all of ``AugmentConfig`` is 0, as by default, none of it is computed.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, UInt8

from jaxcolor import color
from jaxcolor.batch import Array, Batch, split_by_side
from jaxcolor.config import AugmentConfig
from jaxcolor.models.networks import LabBatch, Picture

LUMA = (0.299, 0.587, 0.114)
"""Of ITU-R BT.601: what is kept where saturation varies."""

_MIX_AREA = (0.15, 0.5)
"""Smallest and largest share of a photo that ``cutmix`` covers."""

_MOST_SIDE = 2**13
"""No canvas is larger."""

_BLUR_REACH = 4
"""Pixels to each side that a blurred pixel is made of: nearly three standard deviations of the default's strongest
blur; of a stronger one the tails are cut."""


def photo_keys(key: jax.Array, numbers: Int[jax.Array, " N"]) -> jax.Array:
    """A key for each of these photos, by its number in the whole batch."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)


def augment_rgb(
    batch: Batch,
    key: jax.Array,
    config: AugmentConfig,
    first: Int[jax.Array, ""],
    owners: Int[jax.Array, " M"],
    mix: bool,
    parts: int = 1,
) -> Batch:
    """Jitter of photos and crops, and mixtures of photos.

    Args:
      batch: of this device.
      key: of the seed, the stage and the step.
      config: how much of each.
      first: number of the device's first photo in the whole batch.
      owners: each crop's photo among those of the device.
      mix: whether photos may be mixed: they have no crops in this stage.
      parts: of an accumulation, as in ``split_by_side``.
    """
    photos, crops = jnp.asarray(batch.full_rgb), [jnp.asarray(of_side) for of_side in batch.crops]
    if config.color_jitter:
        photos = jitter(photos, photo_keys(key, first + jnp.arange(len(photos))), config.color_jitter)
        own = split_by_side(owners, crops, parts)
        each = zip(crops, own, strict=True)
        crops = [jitter(of_side, photo_keys(key, first + of), config.color_jitter) for of_side, of in each]
    if config.cutmix and mix:
        keys = photo_keys(jax.random.fold_in(key, 1), first + jnp.arange(len(photos)))
        photos = cutmix(photos, keys, config.cutmix)
    return batch._replace(full_rgb=photos, crop_rgb=crops[0], smaller_crops=tuple(crops[1:]))


def augment_luminance(
    batch: LabBatch,
    key: jax.Array,
    config: AugmentConfig,
    first: Int[jax.Array, ""],
    owners: Int[jax.Array, " M"],
    parts: int = 1,
) -> LabBatch:
    """Some photos, with their crops, become old ones: their L alone, the color to predict stays.

    Args:
      batch: of this device, without hints.
      key: of the seed, the stage and the step.
      config: how many and how old.
      first: number of the device's first photo in the whole batch.
      owners: each crop's photo among those of the device.
      parts: of an accumulation, as in ``split_by_side``.
    """
    if not config.old_photos:
        return batch
    key = jax.random.fold_in(key, 2)

    def aged(picture: Picture, keys: jax.Array, grain_keys: jax.Array) -> Picture:
        luminance = old_photo(picture.luminance, keys, grain_keys, config)
        return picture._replace(inputs=jnp.concatenate([luminance, picture.inputs[..., 1:]], axis=-1))

    photos = photo_keys(key, first + jnp.arange(len(batch.full.ab)))
    crops = photo_keys(key, first + owners)
    # A crop's own grain is known by its box: its place in the batch changes with the number of devices.
    fold = jax.vmap(jax.random.fold_in)
    x, y, width, height = batch.level_boxes[:, 0].T
    own = fold(fold(crops, x + y * _MOST_SIDE), width + height * _MOST_SIDE)
    of_crops, of_grain = (split_by_side(keys, [of.ab for of in batch.crops], parts) for keys in (crops, own))
    seen = [aged(*each) for each in zip(batch.crops, of_crops, of_grain, strict=True)]
    return batch._replace(full=aged(batch.full, photos, photos), crop=seen[0], smaller=tuple(seen[1:]))


def jitter(photos: UInt8[Array, "B S S 3"], keys: jax.Array, amount: float) -> UInt8[jax.Array, "B S S 3"]:
    """Exposure, contrast and saturation of each photo times its own factors between exp(-amount) and exp(amount)."""
    spread = jax.vmap(lambda k: jax.random.uniform(k, (3,), jnp.float32, -amount, amount))(keys)
    exposure, contrast, saturation = jnp.exp(spread).T[:, :, None, None, None]
    x = jnp.asarray(photos).astype(jnp.float32)
    luma = (x * jnp.array(LUMA)).sum(axis=-1, keepdims=True)
    x = luma + saturation * (x - luma)
    mean = luma.mean(axis=(1, 2), keepdims=True)
    x = exposure * (mean + contrast * (x - mean))
    return jnp.clip(jnp.round(x), 0, 255).astype(jnp.uint8)


def cutmix(photos: UInt8[Array, "B S S 3"], keys: jax.Array, share: float) -> UInt8[jax.Array, "B S S 3"]:
    """A ``share`` of the photos has a rectangle of the next photo in the batch at the same place (Yun et al. 2019).

    An object then stands without its scene, and a photo that is seen again is not the same picture.
    """
    photos = jnp.asarray(photos)
    side = photos.shape[1]
    coin, area, bend, x, y = jax.vmap(lambda k: jax.random.uniform(k, (5,), jnp.float32))(keys).T
    area = _MIX_AREA[0] + area * (_MIX_AREA[1] - _MIX_AREA[0])
    stretch = jnp.exp2(bend - 0.5)
    width, height = jnp.sqrt(area) * stretch, jnp.sqrt(area) / stretch
    line = (jnp.arange(side) + 0.5) / side
    columns = (line >= (x * (1 - width))[:, None]) & (line < (x * (1 - width) + width)[:, None])
    rows = (line >= (y * (1 - height))[:, None]) & (line < (y * (1 - height) + height)[:, None])
    inside = rows[:, :, None] & columns[:, None, :] & (coin < share)[:, None, None]
    return jnp.where(inside[..., None], jnp.roll(photos, 1, axis=0), photos)


def old_photo(
    luminance: Float[jax.Array, "B S S 1"], keys: jax.Array, grain_keys: jax.Array, config: AugmentConfig
) -> Float[jax.Array, "B S S 1"]:
    """A share of ``config.old_photos`` faded (less contrast, at some gray), blurred and grainy, each to its own degree.

    Args:
      luminance: normalized L.
      keys: of the photos, by which they are chosen and how old they are.
      grain_keys: of the pictures' grain.
      config: the strongest of each.
    """
    coin, fade, lift, blur, grain = jax.vmap(lambda k: jax.random.uniform(k, (5,), jnp.float32))(keys).T[
        :, :, None, None, None
    ]
    x = luminance.astype(jnp.float32)
    contrast = 1 - fade * (1 - config.faded_contrast)
    x = -0.5 + lift * (1 - contrast) + contrast * (x + 0.5)
    x = _blurred(x, blur[:, 0, 0, 0] * config.blur)
    noise = jax.vmap(lambda k: jax.random.normal(k, luminance.shape[1:], jnp.float32))(grain_keys)
    x = jnp.clip(x + noise * grain * (config.grain / color.L_SCALE), -0.5, 0.5)
    return jnp.where(coin < config.old_photos, x.astype(luminance.dtype), luminance)


def _blurred(x: Float[jax.Array, "B S S 1"], sigma: Float[jax.Array, " B"]) -> Float[jax.Array, "B S S 1"]:
    """Each picture under its own Gaussian, edges repeated."""
    offset = jnp.arange(-_BLUR_REACH, _BLUR_REACH + 1)
    weights = jnp.exp(-jnp.square(offset) / (2 * jnp.square(jnp.maximum(sigma, 0.1)))[:, None])
    weights = weights / weights.sum(axis=1, keepdims=True)
    for axis in (1, 2):
        pad = [(_BLUR_REACH, _BLUR_REACH) if a == axis else (0, 0) for a in range(4)]
        padded, side = jnp.pad(x, pad, mode="edge"), x.shape[axis]
        shifted = [jax.lax.slice_in_dim(padded, i, i + side, axis=axis) for i in range(2 * _BLUR_REACH + 1)]
        x = sum(w[:, None, None, None] * part for w, part in zip(weights.T, shifted, strict=True))
    return x

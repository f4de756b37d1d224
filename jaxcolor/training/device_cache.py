"""Photos and their boxes held in the devices' memory: decoded and reduced once, shuffled and cut out on the devices.

A set that fits is read from the disk once, and no host is busy while steps run: 80,000 photos at 320 x 320 are 25 GB, a
share of them on each device. What a step sees is a function of the seed, the step, the device's share and the number of
devices, so a resumed run repeats it exactly; with another number of devices the order is another. Crops are cut from
the photos as they are held: ``data.cache_side`` says how much finer than the canvas that is.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Key, UInt8
from PIL import Image
from tqdm import tqdm

from jaxcolor import resample
from jaxcolor.batch import LEVELS, PADDING, Array, Batch
from jaxcolor.boxes import CropContext, enlarge
from jaxcolor.config import ConfigError, DataConfig, StageConfig
from jaxcolor.data.box_selection import select_boxes
from jaxcolor.data.collate import crops_per_device
from jaxcolor.data.loader import Parts, photos_for
from jaxcolor.data.transforms import WHOLE, is_gray
from jaxcolor.data.types import DataError, Source

_ROUNDING = 1e-4
"""Added before a float32 is cut to a whole number, so that what should be whole is not one less."""
_AHEAD = 4
"""Photos under way for each thread."""


class Held(NamedTuple):
    """What a device holds."""

    photos: UInt8[Array, "N C C 3"]
    boxes: Float32[Array, "N K 4"]
    """x0, y0, x1, y1 as shares of the photo's width and height, best first; zeros fill up. K is 0 in stage full."""


def cache_side(config: DataConfig, side: int) -> int:
    """Side of the photos that are held for a canvas of ``side``."""
    return config.cache_side or side * 5 // 4


def load(
    source: Source,
    config: DataConfig,
    parts: Parts,
    side: int,
    devices: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Held:
    """Decode this process's share of all photos, with a progress bar.

    Args:
      source: photos.
      config: threads, choice of boxes, what is done about photos that are unreadable or gray.
      parts: what the stage reads; without ``full`` alone, photos without boxes are left out.
      side: S of the canvas; photos are held at ``cache_side``, their aspect not kept, as on the canvas.
      devices: of this process; N is a multiple of it.
      process_index: of this process.
      process_count: how many there are; each reads an equal run of the photos.

    Raises:
      DataError: a photo cannot be used and is not to be skipped; or there are fewer photos than devices.
    """
    held = cache_side(config, side)
    numbers = photos_for(source, parts)
    share = len(numbers) // process_count
    numbers = numbers[process_index * share : (process_index + 1) * share]
    most_boxes = 0 if parts == "full" else config.boxes_per_photo

    def decode(number: int) -> Held | str:
        try:
            photo = source[number] if most_boxes else source.picture(number, held if config.jpeg_draft else None)
        except DataError as error:
            if config.bad_photos == "error":
                raise
            return str(error)
        if config.gray_photos != "keep" and is_gray(photo.image, config.gray_tolerance):
            line = f"photo {photo.name}: it is gray; data.gray_photos is {config.gray_photos!r}"
            if config.gray_photos == "error":
                raise DataError(line)
            return line
        boxes = np.zeros((most_boxes, 4), np.float32)
        if most_boxes:
            found = select_boxes(photo, config, most_boxes, WHOLE, 0.0, np.random.default_rng(0)).boxes
            boxes[: len(found)] = found / np.array([*photo.size, *photo.size])
        return Held(np.asarray(photo.image.resize((held, held), Image.Resampling.BILINEAR)), boxes)

    kept = 0
    photos, boxes = np.empty((share, held, held, 3), np.uint8), np.empty((share, most_boxes, 4), np.float32)
    for result in tqdm(
        _in_threads(decode, numbers, config.threads), total=share, desc="decode", unit="photo", disable=None
    ):
        if isinstance(result, str):
            print(f"skipped: {result}", file=sys.stderr)
        else:
            photos[kept], boxes[kept] = result
            kept += 1
    if kept < devices:
        raise DataError(f"data.cache: {kept} photos cannot be shared out among {devices} devices")
    return Held(*(array[: kept - kept % devices] for array in (photos, boxes)))


def _in_threads(work: object, numbers: Sequence[int], threads: int) -> Iterator[Held | str]:
    """Results in order; never more under way than a few for each thread."""
    ahead = max(1, threads) * _AHEAD
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for start in range(0, len(numbers), ahead):
            yield from pool.map(work, numbers[start : start + ahead])  # type: ignore[arg-type]


def check(config: DataConfig, name: str, stage: StageConfig) -> None:
    """Whether a stage can be fed from the devices' memory.

    Raises:
      ConfigError: a setting that only the data loader knows.
    """
    if stage.accumulate > 1:
        raise ConfigError(f"data.cache: {config.cache!r} is for {name}.accumulate 1, not {stage.accumulate}")
    if name != "full" and config.masks:
        raise ConfigError(f"data.cache: {config.cache!r} holds no masks; data.masks must be False")
    if name != "full" and config.crop_sides:
        raise ConfigError(f"data.cache: {config.cache!r} cuts all crops at one side; data.crop_sides must be empty")
    if name == "fusion" and config.box_choice == "random_k":
        raise ConfigError(f"data.cache: {config.cache!r} holds the same boxes for every visit, not 'random_k'")


class _Windows(NamedTuple):
    """Parts of photos, as shares of their width and height."""

    start: Float[jax.Array, "B 2"]
    """x0, y0."""
    size: Float[jax.Array, "B 2"]


def draw(
    held: Held,
    key: Key[jax.Array, ""],
    step: Int[jax.Array, ""],
    *,
    count: int,
    side: int,
    stage: StageConfig,
    parts: Parts = "full",
    context: CropContext = CropContext(),  # noqa: B008 (immutable)
    max_crops_per_image: float = 1.0,
) -> Batch:
    """One device's part of a step: photos shuffled anew for each pass, windows and flips as ``Augment``, crops.

    Args:
      held: what the device holds.
      key: of the seed and the device.
      step: from 0.
      count: photos that the device takes a step.
      side: S of the canvas.
      stage: flip, crop_area, crop_aspect, crop_visible.
      parts: ``full``: no crops. ``instance``: of each photo one box at random, no windows. ``both``: all boxes.
      context: what crops show around their boxes.
      max_crops_per_image: as ``DataConfig``'s; where there are more, every photo keeps its best ones.
    """
    total = len(held.photos)
    position = step * count + jnp.arange(count)
    first = position[0] // total
    order_key, own_key = jax.random.split(key)
    passes = -(-count // total) + 1
    orders = jnp.stack([jax.random.permutation(jax.random.fold_in(order_key, first + i), total) for i in range(passes)])
    chosen = orders[position // total - first, position % total]
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(own_key, position)
    share, bend, x, y, coin = jax.vmap(lambda k: jax.random.uniform(k, (5,), jnp.float32))(keys).T
    windowed = stage.crop_area < 1 and parts != "instance"
    area = stage.crop_area + share * (1 - stage.crop_area) if windowed else jnp.ones(count)
    factor = jnp.exp((bend - 0.5) * math.log(stage.crop_aspect)) if windowed else jnp.ones(count)
    size = jnp.minimum(1, jnp.sqrt(area)[:, None] * jnp.stack([factor, 1 / factor], axis=1))
    windows = _Windows(jnp.stack([x, y], axis=1) * (1 - size), size)
    mirrored = coin < 0.5 if stage.flip else jnp.zeros(count, bool)
    photos = jnp.asarray(held.photos)[chosen]
    full = photos[:0, :side, :side] if parts == "instance" else _mirrored(_cut(photos, windows, side), mirrored)
    if parts == "full":
        return batch_of(full)
    shown = _boxes_in_windows(jnp.asarray(held.boxes)[chosen], windows, stage.crop_visible)
    if parts == "instance":
        capacity, shown = count, _one_of(shown, jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, 1))
    else:
        capacity = min(crops_per_device(count, max_crops_per_image), shown.valid.size)
    owners, inner = _packed(shown, capacity, context)
    own = jnp.maximum(owners, 0)
    outer = _Windows(windows.start[own] + inner.start * windows.size[own], inner.size * windows.size[own])
    crops = _mirrored(_cut(photos[own], outer, side), mirrored[own])
    crops = jnp.where((owners >= 0)[:, None, None, None], crops, 0)
    left = jnp.where(mirrored[own], 1 - inner.start[:, 0] - inner.size[:, 0], inner.start[:, 0])
    places = _level_boxes(inner._replace(start=inner.start.at[:, 0].set(left)), side)
    return Batch(full, crops, owners, places, jnp.ones(count, bool))


def batch_of(photos: UInt8[Array, "B S S 3"]) -> Batch:
    """Photos as a batch without crops."""
    count, side = photos.shape[:2]
    return Batch(
        full_rgb=photos,
        crop_rgb=jnp.zeros((0, side, side, 3), jnp.uint8),
        crop_to_image=jnp.zeros(0, jnp.int32),
        level_boxes=jnp.zeros((0, LEVELS, 4), jnp.int32),
        is_real=jnp.ones(count, bool),
    )


class _Shown(NamedTuple):
    """Boxes in their windows."""

    start: Float[jax.Array, "B K 2"]
    """As shares of the window."""
    size: Float[jax.Array, "B K 2"]
    valid: Bool[jax.Array, "B K"]


def _boxes_in_windows(boxes: Float[jax.Array, "B K 4"], windows: _Windows, visible: float) -> _Shown:
    low, high = boxes[..., :2], boxes[..., 2:]
    start, end = windows.start[:, None], (windows.start + windows.size)[:, None]
    inside_low, inside_high = jnp.clip(low, start, end), jnp.clip(high, start, end)
    area, kept = jnp.prod(high - low, axis=-1), jnp.prod(inside_high - inside_low, axis=-1)
    size = windows.size[:, None]
    return _Shown((inside_low - start) / size, (inside_high - inside_low) / size, (kept > 0) & (kept >= visible * area))


def _one_of(shown: _Shown, keys: Key[jax.Array, " B"]) -> _Shown:
    """A random one of each photo's boxes, as its only one."""
    scores = jax.vmap(lambda k: jax.random.uniform(k, (shown.valid.shape[1],)))(keys)
    best = jnp.argmax(jnp.where(shown.valid, scores, -1), axis=1)[:, None]
    return _Shown(*(jnp.take_along_axis(x, best[..., None] if x.ndim == 3 else best, axis=1) for x in shown))


def _packed(shown: _Shown, capacity: int, context: CropContext) -> tuple[Int[jax.Array, " M"], _Windows]:
    """The owners of ``capacity`` crops, and where in their windows they are; the first boxes of all photos first."""
    images = len(shown.valid)
    valid = shown.valid.T.ravel()  # by rank, then by photo
    order = jnp.argsort(~valid, stable=True)[:capacity]
    rank, owner = order // images, order % images
    start, size = enlarge(shown.start[owner, rank], shown.size[owner, rank], jnp.ones(2), context)
    return jnp.where(valid[order], owner, PADDING).astype(jnp.int32), _Windows(start, size)


def _level_boxes(places: _Windows, side: int) -> Int[jax.Array, "M L 4"]:
    """As ``boxes.level_boxes``, of shares."""
    sides = jnp.array([side >> level for level in range(LEVELS)])[:, None]
    start = (places.start[:, None] * sides + _ROUNDING).astype(jnp.int32)
    end = ((places.start + places.size)[:, None] * sides + _ROUNDING).astype(jnp.int32)
    end = jnp.minimum(end, sides)
    thin = end - start < 1
    start = jnp.where(thin & (sides - end <= 1), jnp.maximum(start - 1, 0), start)
    return jnp.concatenate([start, jnp.where(thin, 1, end - start)], axis=-1)


def _cut(photos: UInt8[jax.Array, "B C C 3"], windows: _Windows, side: int) -> UInt8[jax.Array, "B {side} {side} 3"]:
    """Each photo's window at the canvas's size, as Pillow's ``BILINEAR`` would reduce it."""
    pixels, held = photos.astype(jnp.float32), photos.shape[1]
    start, size = windows.start * held, windows.size * held
    rows = resample.shrink_map(start[:, 1], size[:, 1], side, held, pixels.dtype)
    columns = resample.shrink_map(start[:, 0], size[:, 0], side, held, pixels.dtype)
    across = jnp.einsum("byi,bijc->byjc", rows, pixels, precision="highest")
    shown = jnp.einsum("bxj,byjc->byxc", columns, across, precision="highest")
    return jnp.clip(jnp.round(shown), 0, 255).astype(jnp.uint8)


def _mirrored(pictures: jax.Array, which: Bool[jax.Array, " B"]) -> jax.Array:
    return jnp.where(which[:, None, None, None], pictures[:, :, ::-1], pictures)

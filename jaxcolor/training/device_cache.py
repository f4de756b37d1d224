"""Photos of stage full held in the devices' memory: decoded and reduced once, shuffled and augmented on the devices.

A set that fits is then read from the disk once, and no host is busy while steps run: 80,000 photos at 320 x 320 are
25 GB, a share of them on each device. What a step sees is a function of the seed, the step, the device's share and the
number of devices, so a resumed run repeats it exactly; with another number of devices the order is another.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from tqdm import tqdm

from jaxcolor import resample
from jaxcolor.batch import LEVELS, Array, Batch
from jaxcolor.config import ConfigError, DataConfig, StageConfig
from jaxcolor.data.transforms import is_gray
from jaxcolor.data.types import DataError, Source

_AHEAD = 4
"""Photos under way for each thread."""


def cache_side(config: DataConfig, side: int) -> int:
    """Side of the photos that are held for a canvas of ``side``."""
    return config.cache_side or side * 5 // 4


def load_photos(
    source: Source, config: DataConfig, side: int, devices: int, process_index: int = 0, process_count: int = 1
) -> UInt8[np.ndarray, "N C C 3"]:
    """Decode this process's share of all photos, with a progress bar.

    Args:
      source: photos.
      config: threads, what is done about photos that are unreadable or gray.
      side: S of the canvas; photos are held at ``cache_side``, their aspect not kept, as on the canvas.
      devices: of this process; N is a multiple of it.
      process_index: of this process.
      process_count: how many there are; each reads an equal run of the photos.

    Raises:
      DataError: a photo cannot be used and is not to be skipped; or there are fewer photos than devices.
    """
    held = cache_side(config, side)
    share = len(source) // process_count
    numbers = range(process_index * share, (process_index + 1) * share)

    def decode(number: int) -> np.ndarray | str:
        try:
            photo = source.picture(number, held if config.jpeg_draft else None)
        except DataError as error:
            if config.bad_photos == "error":
                raise
            return str(error)
        if config.gray_photos != "keep" and is_gray(photo.image, config.gray_tolerance):
            line = f"photo {photo.name}: it is gray; data.gray_photos is {config.gray_photos!r}"
            if config.gray_photos == "error":
                raise DataError(line)
            return line
        return np.asarray(photo.image.resize((held, held), Image.Resampling.BILINEAR))

    kept = 0
    photos = np.empty((share, held, held, 3), np.uint8)
    for result in tqdm(
        _in_threads(decode, numbers, config.threads), total=share, desc="decode", unit="photo", disable=None
    ):
        if isinstance(result, str):
            print(f"skipped: {result}", file=sys.stderr)
        else:
            photos[kept] = result
            kept += 1
    if kept < devices:
        raise DataError(f"data.cache: {kept} photos cannot be shared out among {devices} devices")
    return photos[: kept - kept % devices]


def _in_threads(work: object, numbers: range, threads: int) -> Iterator[np.ndarray | str]:
    """Results in order; never more under way than a few for each thread."""
    ahead = max(1, threads) * _AHEAD
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for start in range(0, len(numbers), ahead):
            yield from pool.map(work, numbers[start : start + ahead])  # type: ignore[arg-type]


def check(config: DataConfig, stage: StageConfig) -> None:
    """Whether a stage can be fed from the devices' memory.

    Raises:
      ConfigError: a setting that only the data loader knows.
    """
    if stage.accumulate > 1:
        raise ConfigError(f"data.cache: {config.cache!r} is for full.accumulate 1, not {stage.accumulate}")


def draw(
    photos: UInt8[Array, "N C C 3"], key: jax.Array, step: Int[jax.Array, ""], count: int, side: int, stage: StageConfig
) -> UInt8[jax.Array, "{count} {side} {side} 3"]:
    """The photos of one device's part of a step: shuffled anew for each pass, windows and flips as ``Augment``.

    Args:
      photos: that the device holds.
      key: of the seed and the device.
      step: from 0.
      count: photos that the device takes a step.
      side: S of the canvas.
      stage: flip, crop_area, crop_aspect.
    """
    held, total = photos.shape[1], len(photos)
    position = step * count + jnp.arange(count)
    first = position[0] // total
    order_key, own_key = jax.random.split(key)
    passes = -(-count // total) + 1
    orders = jnp.stack([jax.random.permutation(jax.random.fold_in(order_key, first + i), total) for i in range(passes)])
    chosen = orders[position // total - first, position % total]
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(own_key, position)
    share, bend, x, y, coin = jax.vmap(lambda k: jax.random.uniform(k, (5,), jnp.float32))(keys).T
    area = stage.crop_area + share * (1 - stage.crop_area)
    factor = jnp.exp((bend - 0.5) * math.log(stage.crop_aspect)) if stage.crop_area < 1 else jnp.ones(count)
    width, height = jnp.minimum(1, jnp.sqrt(area) * factor), jnp.minimum(1, jnp.sqrt(area) / factor)
    boxes = jnp.stack([x * (1 - width), y * (1 - height), width, height], axis=1) * held
    pixels = jnp.asarray(photos)[chosen].astype(jnp.float32)
    shown = _windows(pixels, boxes, side)
    if stage.flip:
        shown = jnp.where((coin < 0.5)[:, None, None, None], shown[:, :, ::-1], shown)
    return jnp.clip(jnp.round(shown), 0, 255).astype(jnp.uint8)


def _windows(
    pixels: Float[jax.Array, "B C C 3"], boxes: Float[jax.Array, "B 4"], side: int
) -> Float[jax.Array, "B {side} {side} 3"]:
    """Each photo's window (x0, y0, width, height in pixels, not whole) at the canvas's size, bilinear."""
    rows = resample.crop_map(boxes[:, 1], boxes[:, 3], side, pixels.shape[1], pixels.dtype)
    columns = resample.crop_map(boxes[:, 0], boxes[:, 2], side, pixels.shape[2], pixels.dtype)
    across = jnp.einsum("byi,bijc->byjc", rows, pixels, precision="highest")
    return jnp.einsum("bxj,byjc->byxc", columns, across, precision="highest")


def batch_of(photos: UInt8[jax.Array, "B S S 3"]) -> Batch:
    """Photos as a batch without crops."""
    count, side = photos.shape[:2]
    return Batch(
        full_rgb=photos,
        crop_rgb=jnp.zeros((0, side, side, 3), jnp.uint8),
        crop_to_image=jnp.zeros(0, jnp.int32),
        level_boxes=jnp.zeros((0, LEVELS, 4), jnp.int32),
        is_real=jnp.ones(count, bool),
    )

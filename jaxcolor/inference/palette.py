"""The plausible colors of each object with their probabilities, and combinations of them drawn for whole photos.

An object is a weight for each cell of the class logits' grid: a box, a mask, the surroundings of a clicked point, or
what no box covers (``background_masks``). Objects of all photos of a batch lie on one axis, as crops do;
``crop_to_image`` names the photo of each, and -1 marks padding.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jaxcolor import color
from jaxcolor.models.outputs import ab_distribution

Pooling = Literal["mixture", "geometric"]
"""How the distributions of an object's pixels become one; see ``pool_distributions``."""

PALETTE_COLORS = 4
"""How many colors a palette has at most."""

MIDDLE = 0.1
"""Standard deviation of the window through which a box is read, as a share of its sides (``middle_weights``)."""

_GAMUT_TOLERANCE = 0.25
"""How far, in units of Lab, a color may move when it is clipped to sRGB."""
_BISECTIONS = 12


class Palette(NamedTuple):
    """The colors of N objects, the most probable first; entries that are not ``valid`` are gray, of probability 0."""

    rgb: Float[jax.Array, "N K 3"]
    """SRGB in [0, 1] at the object's mean L*; chroma is reduced where that is out of gamut."""
    ab: Float[jax.Array, "N K 2"]
    """Normalized ab of the mode, not reduced."""
    probability: Float[jax.Array, "N K"]
    """Sums to 1 for each object that is not padding."""
    valid: Bool[jax.Array, "N K"]


class Draws(NamedTuple):
    """C results for each of B photos, as one color for each of their N objects."""

    choice: Int[jax.Array, "C N"]
    """Which color of its palette each object has."""
    rgb: Float[jax.Array, "C N 3"]
    ab: Float[jax.Array, "C N 2"]
    probability: Float[jax.Array, "C B"]
    """Of each photo's combination: the product over its objects."""
    valid: Bool[jax.Array, "C B"]
    """False where a photo has fewer different combinations; there the most probable one is repeated."""


@functools.partial(jax.jit, static_argnames=("count", "min_distance", "pooling"))
def object_palettes(
    logits: Float[jax.Array, "B h w 529"],
    masks: Float[jax.Array, "N h w"],
    crop_to_image: Int[jax.Array, " N"],
    luminance: Float[jax.Array, "B h w"],
    count: int = PALETTE_COLORS,
    min_distance: float = ab_distribution.MODE_DISTANCE,
    pooling: Pooling = "mixture",
) -> Palette:
    """The plausible colors of every object of a batch.

    Args:
      logits: over ab bins, or log probabilities. Of a network trained with rebalanced classes, those after
        ``ab_distribution.undo_rebalancing``: its own overstate rare colors.
      masks: weight of each cell in each object, at least 0.
      crop_to_image: the photo of each object; -1: padding.
      luminance: normalized L on the same grid.
      count: K, static.
      min_distance: of two colors, in units of ab*.
      pooling: see ``pool_distributions``.

    Returns:
      Palettes; without a valid color for padding and for masks that are 0 everywhere.
    """
    masks = jnp.where((crop_to_image >= 0)[:, None, None], masks, 0).astype(jnp.float32)
    pooled = pool_distributions(logits, masks, crop_to_image, pooling)
    ab, probability, valid = ab_distribution.modes(pooled, count, min_distance)
    mean = (masks * luminance.astype(jnp.float32)[crop_to_image]).sum(axis=(1, 2)) / _total(masks)
    level = jnp.broadcast_to(mean[:, None, None], (*ab.shape[:2], 1))
    return Palette(in_gamut_rgb(level, ab), ab, probability, valid)


def pool_distributions(
    logits: Float[jax.Array, "B h w 529"],
    masks: Float[jax.Array, "N h w"],
    crop_to_image: Int[jax.Array, " N"],
    pooling: Pooling = "mixture",
) -> Float[jax.Array, "N 529"]:
    """One distribution over bins for each object; all 0 where its mask is.

    ``mixture``, the weighted mean of the pixels' probabilities, is the distribution of the color of a pixel of the
    object. If the object has one unknown color, each pixel's distribution is that of the object, and so is their mean:
    probabilities that are calibrated for pixels are calibrated for objects. If it has parts of several colors, each is
    a mode. ``geometric``, the mean of log probabilities, is a product of experts at temperature 1 / (number of pixels):
    sharper, but one pixel that rules a color out (a highlight, a hand over a shirt) rules it out for the whole object.
    An untempered product would take the pixels for independent evidence, which they are not, and be certain of
    anything.
    """
    log_probability = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    values = jnp.exp(log_probability) if pooling == "mixture" else log_probability
    images = jax.nn.one_hot(crop_to_image, logits.shape[0])
    # One product for all objects; gathering each object's photo would copy its distributions once for every object.
    share = jnp.einsum("nb,nhw->nbhw", images, masks / _total(masks)[:, None, None])
    pooled = jnp.einsum("nbhw,bhwq->nq", share, values, precision=jax.lax.Precision.HIGHEST)
    there = (share > 0).any(axis=(1, 2, 3))[:, None]
    return jnp.where(there, pooled if pooling == "mixture" else jax.nn.softmax(pooled, axis=-1), 0)


def in_gamut_rgb(
    luminance: Float[jax.Array, "*shape 1"], ab: Float[jax.Array, "*shape 2"]
) -> Float[jax.Array, "*shape 3"]:
    """SRGB in [0, 1] of normalized L and ab; out of gamut the greatest chroma of the same L* and hue, by bisection."""

    def lab(share: jax.Array) -> jax.Array:
        return color.denormalize_lab(luminance, ab * share)

    def fits(share: jax.Array) -> jax.Array:
        # ``lab_to_rgb`` clamps on its way, so only what comes back unchanged was in gamut.
        moved = color.rgb_to_lab(color.lab_to_rgb(lab(share))) - lab(share)
        return jnp.abs(moved).max(axis=-1, keepdims=True) < _GAMUT_TOLERANCE

    def halve(_: jax.Array, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) / 2
        inside = fits(middle)
        return jnp.where(inside, middle, low), jnp.where(inside, high, middle)

    whole = jnp.ones_like(luminance)
    low, _ = jax.lax.fori_loop(0, _BISECTIONS, halve, (jnp.zeros_like(whole), whole))
    return color.lab_to_rgb(lab(jnp.where(fits(whole), whole, low)))


def box_masks(boxes: Int[jax.Array, "N 4"], side: int) -> Float[jax.Array, "N {side} {side}"]:
    """1 inside each box (x0, y0, width, height in cells, as a level of ``Batch.level_boxes``), 0 outside."""
    cells = jnp.arange(side)
    columns, rows = (
        (cells >= boxes[:, i, None]) & (cells < (boxes[:, i] + boxes[:, i + 2])[:, None]) for i in range(2)
    )
    return (rows[:, :, None] & columns[:, None, :]).astype(jnp.float32)


def grid_boxes(boxes: Int[jax.Array, "N 4"], stride: int) -> Int[jax.Array, "N 4"]:
    """Boxes x0, y0, width, height of the canvas in cells of ``stride`` pixels, as a level of ``Batch.level_boxes``."""
    start, end = boxes[:, :2] // stride, (boxes[:, :2] + boxes[:, 2:]) // stride
    return jnp.concatenate([start, jnp.maximum(end - start, jnp.minimum(boxes[:, 2:], 1))], axis=1)


def middle_weights(boxes: Int[jax.Array, "N 4"], side: int, cells: int) -> Float[jax.Array, "N {cells} {cells}"]:
    """How much each cell says about the object in a box: a Gaussian window (``MIDDLE``) around the box's middle.

    A box's edges and corners show what is behind its object; its middle shows the object most often. The window lies on
    the canvas's pixels. A cell stands for one of them, the first of its block, since features are reduced by taking
    every other pixel and so are the targets of the class head's loss; a pixel between cells has the interpolated
    distribution of those around it. So a box that no cell's own pixel lies in has weights too.

    Args:
      boxes: x0, y0, width, height in canvas pixels; of width and height 0: padding, without weight.
      side: of the canvas, in pixels.
      cells: of the grid, along each axis; a divisor of ``side``.
    """
    pixel = jnp.arange(side)
    at = jnp.minimum(pixel * (cells / side), cells - 1)  # the last pixels lie beyond the last cell's own
    nearby = jnp.maximum(1 - jnp.abs(at[:, None] - jnp.arange(cells)), 0)

    def along(axis: int) -> jax.Array:
        start, size = boxes[:, axis, None], boxes[:, axis + 2, None]
        place = (pixel + 0.5 - start) / jnp.maximum(size, 1)
        window = jnp.where(
            (pixel >= start) & (pixel < start + size), jnp.exp(-jnp.square((place - 0.5) / MIDDLE) / 2), 0
        )
        return jnp.matmul(window, nearby, precision=jax.lax.Precision.HIGHEST)

    return along(1)[:, :, None] * along(0)[:, None, :]


def background_masks(
    masks: Float[jax.Array, "N h w"], crop_to_image: Int[jax.Array, " N"], images: int
) -> Float[jax.Array, "{images} h w"]:
    """What no object covers, of each photo: 1 - the greatest of its objects' weights (0 to 1)."""
    owner = jnp.where(crop_to_image >= 0, crop_to_image, images)
    covered = jax.ops.segment_max(masks, owner, num_segments=images + 1)[:images]
    return 1 - jnp.maximum(covered, 0)


@functools.partial(jax.jit, static_argnames=("images", "count"))
def draw_object_colors(
    key: jax.Array,
    palettes: Palette,
    crop_to_image: Int[jax.Array, " N"],
    images: int,
    count: int,
    numbers: Int[jax.Array, " {images}"] | None = None,
) -> Draws:
    """Different combinations of the objects' colors for each photo, the most probable combination first.

    Objects choose independently. The others are drawn without replacement in proportion to their probability, by
    stochastic beam search (Kool, van Hoof, Welling, ICML 2019): Gumbel noise on all combinations at once, of which only
    ``count`` are ever looked at. They follow by descending probability. The same key and number give the same result,
    whatever else is in the batch.

    Args:
      key: from ``jax.random.key``.
      palettes: of all objects; background is one more object of its photo.
      crop_to_image: the photo of each object; -1: padding.
      images: B, static.
      count: C, static.
      numbers: of the photos in their data set, so that a photo's results do not depend on its batch; None: its row.
    """
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(images) if numbers is None else numbers)
    logs = jnp.log(jnp.where(palettes.valid, palettes.probability, 0))
    no_choice = jnp.where(jnp.arange(logs.shape[1]) == 0, 0.0, -jnp.inf)

    def of_photo(photo: jax.Array, its_key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        own = (crop_to_image == photo) & palettes.valid[:, 0]
        return _draw(its_key, jnp.where(own[:, None], logs, no_choice), own, count)

    choices, log_probability, valid = jax.vmap(of_photo)(jnp.arange(images), keys)
    objects = jnp.arange(len(crop_to_image))
    choice = choices[jnp.maximum(crop_to_image, 0), :, objects].T
    rgb, ab = (values[objects, choice] for values in (palettes.rgb, palettes.ab))
    return Draws(choice, rgb, ab, jnp.exp(log_probability).T, valid.T)


def _draw(
    key: jax.Array, logs: Float[jax.Array, "N K"], own: Bool[jax.Array, " N"], count: int
) -> tuple[Int[jax.Array, "C N"], Float[jax.Array, " C"], Bool[jax.Array, " C"]]:
    """Combinations of one photo: their choices, log probabilities, and whether there are so many."""
    objects, colors = logs.shape
    beam = jnp.where(jnp.arange(count) == 0, 0.0, -jnp.inf)
    start = (beam, beam, jnp.zeros((count, objects), jnp.int32))
    (log_probability, _, choices), _ = jax.lax.scan(
        functools.partial(_extend, key=key, colors=colors),
        start,
        (jnp.arange(objects), jnp.cumsum(own) - own, logs),
    )
    # Palettes begin with their most probable color.
    choices = jnp.concatenate([jnp.zeros((1, objects), jnp.int32), choices])
    log_probability = jnp.concatenate([logs[:, 0].sum()[None], log_probability])
    valid = jnp.isfinite(log_probability) & (choices != 0).any(axis=1).at[0].set(True)
    first = jnp.argsort(~valid, stable=True)[:count]
    choices, log_probability, valid = choices[first], log_probability[first], valid[first]
    rank = jnp.where(valid, -log_probability, jnp.inf).at[0].set(-jnp.inf)
    order = jnp.argsort(rank, stable=True)
    choices, log_probability, valid = choices[order], log_probability[order], valid[order]
    return (
        jnp.where(valid[:, None], choices, 0),
        jnp.where(valid, log_probability, log_probability[0]),
        valid,
    )


def _extend(
    state: tuple[jax.Array, jax.Array, jax.Array],
    item: tuple[jax.Array, jax.Array, jax.Array],
    key: jax.Array,
    colors: int,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
    """One more object: the best C of C x K continued combinations, by perturbed log probability.

    The perturbed log probabilities of a combination's continuations are Gumbel variables whose greatest is its own.
    """
    log_probability, perturbed, choices = state
    place, number, logs = item  # number: among the photo's own objects
    child = log_probability[:, None] + logs
    alive = jnp.isfinite(child)
    noise = jax.random.gumbel(jax.random.fold_in(key, number), child.shape)
    free = jnp.where(alive, child, 0) + noise
    greatest = jnp.where(alive, free, -jnp.inf).max(axis=1, keepdims=True)
    below = jnp.where(alive, free - greatest, -1)  # 0 for the greatest itself
    parent = jnp.where(jnp.isfinite(perturbed), perturbed, 0)[:, None]
    gap = parent - free + jnp.log(-jnp.expm1(below))
    truncated = parent - jax.nn.relu(gap) - jnp.log1p(jnp.exp(-jnp.abs(gap)))
    best, index = jax.lax.top_k(jnp.where(alive, truncated, -jnp.inf).reshape(-1), len(choices))
    choices = choices[index // colors].at[:, place].set(index % colors)
    return (child.reshape(-1)[index], best, choices), None


def _total(masks: Float[jax.Array, "N h w"]) -> Float[jax.Array, " N"]:
    total = masks.sum(axis=(1, 2))
    return jnp.where(total > 0, total, 1)

"""Several plausible results of each photo: one color is drawn for each object, given as hints, and the rest regressed.

Pure functions over the networks, with static shapes; a batch's photos, crops and objects at once, one call of the
networks for the palettes and one for each result. An object is a crop's box (not its crop, which may show more around
it), or a photo's background: what none of its boxes covers. Objects lie on one axis of N = M + B, the M crops first.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxcolor import color
from jaxcolor.color import AB_SCALE
from jaxcolor.hints import BatchHints, Hints
from jaxcolor.inference.palette import (
    PALETTE_COLORS,
    Draws,
    Palette,
    background_masks,
    box_masks,
    draw_object_colors,
    grid_boxes,
    middle_weights,
    object_palettes,
)
from jaxcolor.models.fusion import membership
from jaxcolor.models.hint_simulation import hints_by_side
from jaxcolor.models.networks import LabBatch, Networks, Variables, run_full, run_fused, with_hints
from jaxcolor.models.outputs.classes import Classes

GRID = 4
"""Points of an object along each axis of its box."""
PATCH_SHARE = 1 / 8
"""Side of a point's patch, as a share of the box's shorter side."""
LARGEST_PATCH = 6 / 256
"""Its limit, as a share of the canvas: the patch by which hints are measured (``hint_simulation.random_points``)."""
LEAST_EVIDENCE = 0.5
"""A point shows its object's color if it is there at least this share as probable as in the whole object."""


class Colored(NamedTuple):
    """What the networks say about the photos of a batch."""

    ab: Float[jax.Array, "B S S 2"]
    """Normalized: fused where a photo has crops and there is a fusion tree, the full tree's elsewhere."""
    frequencies: Float[jax.Array, "B h w 529"]
    """Logits of how frequent colors are (``ClassOutput.frequencies``), of the same networks."""


class Objects(NamedTuple):
    """The crops' boxes and the photos' backgrounds."""

    weights: Float[jax.Array, "N h w"]
    """How much each cell of the class head's grid counts: the middle of a box, all of a background."""
    crop_to_image: Int[jax.Array, " N"]
    """The photo of each; -1: padding."""
    boxes: Int[jax.Array, "N 4"]
    """x0, y0, width, height on the canvas; of a background all of it."""


class Points(NamedTuple):
    """Where objects show a color: ``GRID`` x ``GRID`` patches in the box of each."""

    owner: Int[jax.Array, "B S S"]
    """The object and point of each pixel, as N x P flattened; -1: none. The smallest box has what lies in several."""
    evidence: Float[jax.Array, "N P K"]
    """Probability of each of the palette's colors at the point over that in the whole object; -1: no such point."""


class Samples(NamedTuple):
    """C results of each photo, and what they were drawn from."""

    ab: Float[jax.Array, "C B S S 2"]
    """The most probable combination of colors first."""
    draws: Draws
    palettes: Palette
    objects: Objects


def colored(nets: Networks, variables: Variables, lab: LabBatch) -> Colored:
    """Colors and distributions of a batch in inference mode; the networks must have the output head ``classes``.

    Args:
      nets: from ``networks.build``.
      variables: all three trees, or ``full`` alone.
      lab: the batch, with hints or without.
    """
    full = run_full(nets, variables, lab.full.inputs)
    found = Colored(full.ab, full.outputs["classes"].frequencies)
    if "fusion" not in variables:
        return found
    fusion = run_fused(nets, variables, lab, full.taps)
    has_crops = membership(lab.crop_to_image, found.ab.shape[0]).any(axis=1)[:, None, None, None]
    fused = Colored(fusion.ab, fusion.outputs["classes"].frequencies)
    return jax.tree.map(lambda with_crops, without: jnp.where(has_crops, with_crops, without), fused, found)


def batch_objects(lab: LabBatch, boxes: Int[jax.Array, "M 4"]) -> Objects:
    """The boxes of a batch's crops and, after them, the background of each of its photos.

    Args:
      lab: the batch.
      boxes: x0, y0, width, height of each crop's box in canvas pixels. ``lab.level_boxes`` says where the crops lie,
        which is the same without ``model.crop_context`` only.
    """
    images, side = lab.full.ab.shape[:2]
    stride = 2**Classes.level
    masks = box_masks(grid_boxes(boxes, stride), side // stride)
    whole = jnp.tile(jnp.array([0, 0, side, side], boxes.dtype), (images, 1))
    background = background_masks(masks, lab.crop_to_image, images)
    return Objects(
        jnp.concatenate([middle_weights(boxes, side, side // stride), background]),
        jnp.concatenate([lab.crop_to_image, jnp.arange(images, dtype=lab.crop_to_image.dtype)]),
        jnp.concatenate([boxes, whole]),
    )


def batch_palettes(
    frequencies: Float[jax.Array, "B h w 529"], lab: LabBatch, objects: Objects, count: int = PALETTE_COLORS
) -> Palette:
    """The plausible colors of every object of a batch, at most ``count`` each."""
    stride = lab.full.ab.shape[1] // frequencies.shape[1]
    luminance = lab.full.luminance[:, ::stride, ::stride, 0]
    return object_palettes(frequencies, objects.weights, objects.crop_to_image, luminance, count)


def place_points(
    frequencies: Float[jax.Array, "B h w 529"], lab: LabBatch, objects: Objects, palettes: Palette
) -> Points:
    """Where the objects' colors can be hinted at, and how well each of their colors fits there.

    An object of parts (a car with its windows, a background of sky and grass) has a color in its palette for each; a
    hint must not paint the sky green. So each point knows how probable every color is at its place.
    """
    images, side = lab.full.ab.shape[:2]
    count, crops = len(objects.crop_to_image), len(lab.crop_to_image)
    start, size = objects.boxes[:, :2], objects.boxes[:, 2:]
    center = start[:, None] + (jnp.arange(GRID)[:, None] + 0.5) / GRID * size[:, None]  # (N, GRID, 2): x, y
    largest = max(1, round(LARGEST_PATCH * side))
    patch = jnp.clip(jnp.round(size.min(axis=1) * PATCH_SHARE).astype(jnp.int32), 1, largest)
    first = jnp.floor(center - patch[:, None, None] / 2 + 0.5).astype(jnp.int32)
    pixel = jnp.arange(side)[:, None, None]

    # Of each row (column) of the canvas the row (column) of the grid whose patches lie on it, or -1.
    on = (pixel >= first[:, None]) & (pixel < (first + patch[:, None, None])[:, None])  # (N, S, GRID, 2)
    line = jnp.where(on, jnp.arange(GRID)[:, None], -1).max(axis=2)
    row, column = line[:, :, None, 1], line[:, None, :, 0]
    point = jnp.where((row >= 0) & (column >= 0), row * GRID + column, -1)

    # What lies in several boxes is the smallest one's; the background has what is left.
    order = jnp.argsort((jnp.arange(count) < crops) - size.prod(axis=1), stable=True)
    rank = jnp.zeros(count, jnp.int32).at[order].set(jnp.arange(count, dtype=jnp.int32))[:, None, None]
    photo = jnp.where(objects.crop_to_image >= 0, objects.crop_to_image, images)
    inside = box_masks(objects.boxes, side) > 0
    front = jax.ops.segment_max(jnp.where(inside, rank, -1), photo, num_segments=images + 1)
    own = inside & (front[photo] == rank)
    number = jnp.arange(count)[:, None, None] * GRID * GRID + point
    owner = jax.ops.segment_max(jnp.where(own & (point >= 0), number, -1), photo, num_segments=images + 1)[:images]

    stride = side // frequencies.shape[1]
    at = jnp.clip(jnp.floor(center).astype(jnp.int32), 0, side - 1)
    ys, xs = jnp.repeat(at[..., 1], GRID, axis=1), jnp.tile(at[..., 0], (1, GRID))  # (N, P)
    local = jax.nn.softmax(frequencies.astype(jnp.float32), axis=-1)
    local = local[jnp.maximum(objects.crop_to_image, 0)[:, None], ys // stride, xs // stride]
    share = jnp.einsum("npq,nkq->npk", local, _nearest_bins(palettes), precision=jax.lax.Precision.HIGHEST)
    evidence = share / jnp.maximum(palettes.probability[:, None], 1e-6)
    there = jnp.take_along_axis(own.reshape(count, -1), ys * side + xs, axis=1) & (objects.crop_to_image >= 0)[:, None]
    return Points(owner, jnp.where(there[..., None], evidence, -1))


def _nearest_bins(palettes: Palette) -> Float[jax.Array, "N K 529"]:
    """1 for the bins that are nearest to each of a palette's colors: those whose mass is its probability."""
    centers = jnp.asarray(color.bin_centers(), jnp.float32)
    distance = AB_SCALE**2 * jnp.square(palettes.ab[:, :, None] - centers).sum(axis=-1)
    distance = jnp.where(palettes.valid[..., None], distance, jnp.inf)
    nearest = jnp.argmin(distance, axis=1)[:, None] == jnp.arange(distance.shape[1])[:, None]
    return (nearest & palettes.valid[..., None]).astype(jnp.float32)


def object_hints(
    points: Points, lab: LabBatch, choice: Int[jax.Array, " N"], ab: Float[jax.Array, "N 2"]
) -> BatchHints:
    """One color for each object as hints on the photos and their crops.

    Args:
      points: from ``place_points``.
      lab: the batch.
      choice: which color of its palette each object has.
      ab: that color, normalized.
    """
    evidence = jnp.take_along_axis(points.evidence, choice[:, None, None], axis=2)[..., 0]
    enough = (evidence >= LEAST_EVIDENCE) | (evidence >= evidence.max(axis=1, keepdims=True))
    shown = (enough & (evidence >= 0)).reshape(-1)
    place = jnp.maximum(points.owner, 0)
    mask = ((points.owner >= 0) & shown[place])[..., None]
    hints = Hints(jnp.where(mask, ab[place // points.evidence.shape[1]], 0), mask)
    return hints_by_side(hints, lab.level_boxes[:, 0], lab.crop_to_image, [crops.ab for crops in lab.crops])


def sample(
    nets: Networks,
    variables: Variables,
    lab: LabBatch,
    boxes: Int[jax.Array, "M 4"],
    key: jax.Array,
    count: int,
    *,
    numbers: Int[jax.Array, " B"] | None = None,
    colors: int = PALETTE_COLORS,
) -> Samples:
    """``count`` results of every photo, in inference mode, with 1 + ``count`` calls of the networks.

    Args:
      nets: with the output head ``classes``.
      variables: all three trees, or ``full`` alone.
      lab: the batch; hints that it has are seen by the palettes, and give way to those of the samples.
      boxes: of the crops' objects, see ``batch_objects``.
      key: of the draws.
      count: C, static.
      numbers: of the photos, so that a photo's results do not depend on its batch; None: its row.
      colors: of a palette at most, static.
    """
    objects = batch_objects(lab, boxes)
    frequencies = colored(nets, variables, lab).frequencies
    palettes = batch_palettes(frequencies, lab, objects, colors)
    draws = draw_object_colors(key, palettes, objects.crop_to_image, lab.full.ab.shape[0], count, numbers)
    points = place_points(frequencies, lab, objects, palettes)

    def result(drawn: tuple[jax.Array, jax.Array]) -> jax.Array:
        hinted = with_hints(lab, object_hints(points, lab, *drawn), nets.full.config)
        return colored(nets, variables, hinted).ab

    return Samples(jax.lax.map(result, (draws.choice, draws.ab)), draws, palettes, objects)

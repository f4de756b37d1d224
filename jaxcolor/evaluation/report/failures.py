"""The failure finder, after the paper's section on failure cases: each photo gets a score for each kind of failure.

Four kinds (``KINDS``), each 0 where nothing is wrong and higher where more is, NaN where it cannot be asked:

* washed out: less color than photos of that kind have;
* bleeding: color that changes where neither the photo's lightness nor its true color does, along borders of boxes;
* overlapping boxes: wrong color where two boxes lie on each other;
* missed objects: annotated boxes that the network was given no box for.

The paper shows such cases and gives no numbers; the definitions are ours. What looks at pixels is a pure function over
a batch, for ``jax.jit``, so that every photo is measured while its pictures are on the device; what compares photos
with each other is NumPy on the host.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxcolor import color, resample
from jaxcolor.batch import Batch
from jaxcolor.evaluation.controls import COVERS, iou
from jaxcolor.models.fusion import membership, sum_per_image
from jaxcolor.runtime.parallel import SPLIT, Devices

BORDER = 1 / 32
"""How far from a box's border bleeding is looked for, inside and outside; of the canvas' side."""
STEP = 1 / 64
"""Distance over which changes of lightness and color are taken, and within which they belong together; of the side."""
EDGE = 10.0
"""Change of L* over that distance that is an edge: color may change there as it likes."""
VISIBLE = 2.3
"""Change of ab* that can just be seen (Mahy et al. 1994): smaller ones, 8-bit rounding among them, bleed nowhere."""
NEIGHBORS = 8
"""Photos of the most similar gray that say how much color is usual."""

_HISTOGRAM, _LAYOUT = 16, 4
_AT_ONCE = 512
"""Photos whose distances to all others are held at once."""


class Kind(NamedTuple):
    """A kind of failure, for a person."""

    title: str
    unit: str
    description: str
    """What the score says."""


KINDS = {
    "washed_out": Kind(
        "washed out",
        "ab*",
        f"How far the mean chroma lies below what is usual: the median true chroma of the {NEIGHBORS} photos that "
        "look most alike in gray, or the photo's own if that is less.",
    ),
    "bleeding": Kind(
        "bleeding",
        "ab*",
        "Along the border of the worst box: color that visibly changes where neither the lightness nor the true "
        f"color does, mean change over {STEP:.1%} of the side.",
    ),
    "overlapping": Kind(
        "overlapping boxes",
        "ab*",
        "Color error where boxes lie on each other, spread over all that boxes cover: large overlaps with wrong "
        "colors score high.",
    ),
    "missed": Kind(
        "missed objects",
        "of the photo",
        f"Share of the photo in annotated boxes that no box of the network meets with an IoU of {COVERS:g}.",
    ),
}
"""Score -> what it is."""


def failure_measures(
    prediction: UInt8[jax.Array, "B S S 3"],
    truth: UInt8[jax.Array, "B S S 3"],
    boxes: Int[jax.Array, "M 4"],
    crop_to_image: Int[jax.Array, " M"],
) -> dict[str, Float[jax.Array, " B"]]:
    """What the pixels of a batch say about failures; pure, for ``jax.jit``.

    Args:
      prediction: sRGB of the system that is judged.
      truth: sRGB.
      boxes: x0, y0, width, height on the canvas (level 0).
      crop_to_image: photo of each box, -1 for padding.

    Returns:
      One value a photo: ``chroma`` and ``chroma_truth``, mean of sqrt(a*^2 + b*^2); ``covered``, share of the picture
      in boxes; ``bleeding``, NaN without a border of a box inside the picture; ``overlapping``, NaN with fewer than
      two boxes. The last two are those of ``KINDS``.
    """
    side = truth.shape[1]
    member = membership(crop_to_image, truth.shape[0])
    inside = resample.inside(boxes, side, side)
    cover = sum_per_image(inside.astype(jnp.float32), member)
    predicted, true = (color.rgb_to_lab(color.unit_rgb(rgb)) for rgb in (prediction, truth))
    error = jnp.linalg.norm(predicted[..., 1:] - true[..., 1:], axis=-1)
    covered = (cover > 0).sum(axis=(1, 2))
    overlapping = jnp.where(cover > 1, error, 0).sum(axis=(1, 2)) / jnp.maximum(covered, 1)
    return {
        "chroma": _chroma(predicted),
        "chroma_truth": _chroma(true),
        "covered": covered / side**2,
        "bleeding": _worst_border(_unexplained(predicted, true), boxes, crop_to_image),
        "overlapping": jnp.where(member.sum(axis=1) > 1, overlapping, jnp.nan),
    }


def _chroma(lab: Float[jax.Array, "B S S 3"]) -> Float[jax.Array, " B"]:
    return jnp.linalg.norm(lab[..., 1:], axis=-1).mean(axis=(1, 2))


def _unexplained(predicted: Float[jax.Array, "B S S 3"], true: Float[jax.Array, "B S S 3"]) -> jax.Array:
    """Visible change of the predicted ab* beyond the truth's nearby, less of it the more lightness changes nearby."""
    reach = max(1, round(STEP * true.shape[1]))
    edge = _highest(_change(true[..., :1], reach), reach)
    allowed = _highest(_change(true[..., 1:], reach), reach)
    excess = jnp.maximum(_change(predicted[..., 1:], reach) - allowed - VISIBLE, 0)
    return excess * jnp.clip(1 - edge / EDGE, 0, 1)


def _change(values: Float[jax.Array, "B S S C"], distance: int) -> Float[jax.Array, "B S S"]:
    """How far apart the values left and right of a pixel are, or above and below it: the larger of the two."""
    side, before = values.shape[1], distance // 2
    padded = jnp.pad(values, ((0, 0), (before, distance - before), (before, distance - before), (0, 0)), mode="edge")
    across = padded[:, before : before + side, distance:] - padded[:, before : before + side, :side]
    down = padded[:, distance:, before : before + side] - padded[:, :side, before : before + side]
    return jnp.maximum(jnp.linalg.norm(across, axis=-1), jnp.linalg.norm(down, axis=-1))


def _highest(values: Float[jax.Array, "B S S"], reach: int) -> Float[jax.Array, "B S S"]:
    """The highest value within ``reach`` pixels, across and down."""
    window = (1, 2 * reach + 1, 2 * reach + 1)
    return jax.lax.reduce_window(values, -jnp.inf, jax.lax.max, window, (1, 1, 1), "SAME")


def _worst_border(
    values: Float[jax.Array, "B S S"], boxes: Int[jax.Array, "M 4"], crop_to_image: Int[jax.Array, " M"]
) -> Float[jax.Array, " B"]:
    """Mean of the values along the border of each box; of a photo's boxes the highest, NaN without any.

    Sides on the picture's own edge are no borders: nothing can bleed over them.
    """
    side = values.shape[1]
    band = max(1, round(BORDER * side))
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    inner_start = jnp.where(start > 0, start + band, start)
    inner_end = jnp.where(end < side, end - band, end)
    outer = resample.inside(jnp.concatenate([start - band, end - start + 2 * band], axis=1), side, side)
    inner = resample.inside(jnp.concatenate([inner_start, inner_end - inner_start], axis=1), side, side)
    border = outer & ~inner
    of_photo = values[jnp.maximum(crop_to_image, 0)]
    pixels = border.sum(axis=(1, 2))
    mean = jnp.where(border, of_photo, 0).sum(axis=(1, 2)) / jnp.maximum(pixels, 1)
    counts = membership(crop_to_image, len(values)) & (pixels > 0)
    return jnp.where(counts.any(axis=1), jnp.where(counts, mean, 0).max(axis=1), jnp.nan)


def gray_descriptor(truth: UInt8[jax.Array, "B S S 3"]) -> Float[jax.Array, "B 48"]:
    """What a photo looks like in gray, to find its like; pure, for ``jax.jit``.

    Lightness from 0 to 1 at 16 evenly spaced ranks of its pixels, then its mean in each of 4 x 4 fields, then its
    standard deviation in each.
    """
    lightness = color.rgb_to_lab(color.unit_rgb(truth))[..., 0] / 100
    count, side = lightness.shape[:2]
    ranks = (np.arange(_HISTOGRAM) + 0.5) / _HISTOGRAM * side**2
    spread = jnp.sort(lightness.reshape(count, -1), axis=1)[:, ranks.astype(int)]
    fields = lightness.reshape(count, _LAYOUT, side // _LAYOUT, _LAYOUT, side // _LAYOUT)
    parts = [spread, *(part.reshape(count, -1) for part in (fields.mean(axis=(2, 4)), fields.std(axis=(2, 4))))]
    return jnp.concatenate(parts, axis=1)


def usual_chroma(
    descriptors: Float[np.ndarray, "P D"], chroma_truth: Float[np.ndarray, " P"], neighbors: int = NEIGHBORS
) -> Float[np.ndarray, " P"]:
    """For each photo the median true chroma of those that look most alike in gray, itself left out.

    Args:
      descriptors: of the gray photos (``gray_descriptor``); each number counts by its spread over the photos.
      chroma_truth: mean chroma of the photos.
      neighbors: how many of the others are asked; all where there are fewer.

    Returns:
      In the units of ``chroma_truth``; NaN for a photo alone.
    """
    count = len(descriptors)
    near = min(neighbors, count - 1)
    if near < 1:
        return np.full(count, np.nan)
    spread = descriptors.std(axis=0)
    scaled = (descriptors - descriptors.mean(axis=0)) / np.where(spread > 0, spread, 1)
    square = np.square(scaled).sum(axis=1)
    usual = np.empty(count)
    for start in range(0, count, _AT_ONCE):
        part = slice(start, min(start + _AT_ONCE, count))
        distance = square[part, None] + square - 2 * scaled[part] @ scaled.T
        distance[np.arange(part.stop - start), np.arange(start, part.stop)] = np.inf
        nearest = np.argpartition(distance, near - 1, axis=1)[:, :near]
        usual[part] = np.median(chroma_truth[nearest], axis=1)
    return usual


def missed_share(annotated: Int[np.ndarray, "K 4"], boxes: Int[np.ndarray, "N 4"], side: int) -> float:
    """Share of the canvas in annotated boxes that no box covers with an IoU of ``COVERS``; 0 where none is missed.

    Both as x0, y0, width, height on a canvas of this side.
    """
    seen = np.zeros((side, side), bool)
    for x, y, width, height in annotated[(iou(annotated, boxes) < COVERS).all(axis=1)].tolist():
        seen[y : y + height, x : x + width] = True
    return float(seen.mean())


def find(
    measures: Mapping[str, Float[np.ndarray, " P"]],
    descriptors: Float[np.ndarray, "P D"],
    missed: Float[np.ndarray, " P"] | None = None,
) -> dict[str, Float[np.ndarray, " P"]]:
    """The scores of ``KINDS`` for all photos.

    Args:
      measures: from ``failure_measures``, all photos of the set joined.
      descriptors: from ``gray_descriptor``.
      missed: from ``missed_share``, NaN for a photo without annotations; None where no photo has any.

    Returns:
      Kind -> one score a photo, 0 or more; ``missed`` only where given.
    """
    usual = np.minimum(usual_chroma(descriptors, measures["chroma_truth"]), measures["chroma_truth"])
    found = {
        "washed_out": np.maximum(usual - measures["chroma"], 0),
        "bleeding": measures["bleeding"],
        "overlapping": measures["overlapping"],
    }
    return found if missed is None or np.isnan(missed).all() else {**found, "missed": missed}


class Measured(NamedTuple):
    """The photos of one batch, on the host."""

    measures: dict[str, Float[np.ndarray, " B"]]
    """From ``failure_measures``."""
    descriptors: Float[np.ndarray, "B 48"]
    """From ``gray_descriptor``."""


def measure(batch: Batch, ab: Any, devices: Devices) -> Measured:
    """The part of the failure finder that looks at pixels, on the model's canvas whatever the size of the comparison.

    Args:
      batch: host arrays.
      ab: predicted normalized ab (B, S, S, 2), on the devices.
      devices: where to run.
    """
    own = (batch.full_rgb, np.ascontiguousarray(np.asarray(batch.level_boxes)[:, 0]), batch.crop_to_image)
    with jax.default_matmul_precision("highest"):
        found = _compiled(devices)(*(devices.split(part) for part in own), ab)
    measures, descriptors = devices.fetch(found, SPLIT)
    return Measured(measures, descriptors)


@functools.lru_cache(maxsize=4)
def _compiled(devices: Devices) -> Callable[..., Any]:
    def of_device(
        truth: jax.Array, boxes: jax.Array, crop_to_image: jax.Array, ab: jax.Array
    ) -> tuple[dict[str, jax.Array], jax.Array]:
        luminance, _ = color.normalize_lab(color.rgb_to_lab(color.unit_rgb(truth)))
        lab = color.denormalize_lab(luminance, ab.astype(luminance.dtype))
        prediction = color.quantize_rgb(color.lab_to_rgb(lab))
        return failure_measures(prediction, truth, boxes, crop_to_image), gray_descriptor(truth)

    return devices.map(of_device, in_specs=(SPLIT,) * 4, out_specs=(SPLIT, SPLIT))


def on_canvas(objects: Int[np.ndarray, "K 4"], size: tuple[int, int], side: int) -> Int[np.ndarray, "K 4"]:
    """Annotated boxes of a photo compared at ``size`` (height, width) on the canvas, rounded outwards."""
    scale = side / np.array([size[1], size[0]])
    start = np.floor(objects[:, :2] * scale)
    end = np.ceil((objects[:, :2] + objects[:, 2:]) * scale)
    return np.concatenate([start, end - start], axis=1).astype(np.int32)

"""Scenes with two hues measured: the mean, samples, palettes and their calibration, with the full-image network.

What ``configs/two_hues.py`` trains; ``data.sources.scenes`` has the arithmetic of what can be reached.
"""

from __future__ import annotations

import base64
import functools
import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from markupsafe import Markup
from PIL import Image

from jaxcolor import color
from jaxcolor.batch import Batch
from jaxcolor.config import Config, ModelConfig
from jaxcolor.data.collate import collate
from jaxcolor.data.sources.scenes import PHOTO_PER_CANVAS, Scene, scene_source
from jaxcolor.data.transforms import example
from jaxcolor.data.types import usable_boxes
from jaxcolor.evaluation import diversity
from jaxcolor.hints import BatchHints, Hints
from jaxcolor.inference.palette import (
    Palette,
    background_masks,
    box_masks,
    draw_object_colors,
    middle_weights,
    object_palettes,
)
from jaxcolor.models import networks
from jaxcolor.models.hint_simulation import no_hints
from jaxcolor.runtime.contact_sheet import tile_grid

SAMPLES = 4
SHOWN = 6
"""Photos in the picture."""
_BATCH = 32
_CELL_LEVEL = 2
"""Of ``Batch.level_boxes``: the class head's grid."""
_POINT_RADIUS = 1
"""Hints are 3 x 3 canvas pixels."""


class Colored(NamedTuple):
    """Results for B photos with M objects, C samples each."""

    mean: UInt8[jax.Array, "B S S 3"]
    """The regression without hints."""
    samples: UInt8[jax.Array, "C B S S 3"]
    """The most probable combination of colors first."""
    given: UInt8[jax.Array, "B S S 3"]
    """With the true colors as hints, at the same points: how far the network follows hints."""
    palette: Palette
    """Of the M objects, then of the B backgrounds."""


class Measured(NamedTuple):
    """Numbers by name, and rows of pictures: gray, mean, samples, truth."""

    metrics: dict[str, float]
    rows: list[list[UInt8[np.ndarray, "S S 3"]]]


@functools.partial(jax.jit, static_argnames=("config", "count"))
def colorize(key: jax.Array, variables: networks.Variables, batch: Batch, config: ModelConfig, count: int) -> Colored:
    """The mean and ``count`` samples of every photo, by two calls of the full-image network.

    The class distribution of the middle of each object's box and of what no box covers becomes a palette; one color of
    each is drawn and given as a hint at a few points, and the regression head does the rest.

    Args:
      key: of the draws.
      variables: with the tree ``full``.
      batch: photos, and the boxes of their objects.
      config: with the output heads ``regression`` and ``classes``.
      count: C.
    """
    nets, lab = networks.build(config), networks.to_lab(batch, config)
    images, side = lab.full.ab.shape[:2]
    plain = networks.run_full(nets, variables, lab.full.inputs, ("regression", "classes"))
    logits = plain.outputs["classes"].frequencies
    cells = logits.shape[1]
    outer = box_masks(lab.level_boxes[:, _CELL_LEVEL], cells)
    background = background_masks(outer, lab.crop_to_image, images)
    masks = jnp.concatenate([middle_weights(lab.level_boxes[:, 0], side, cells), background])
    owner = jnp.concatenate([lab.crop_to_image, jnp.arange(images)])
    level = lab.full.luminance[:, :: side // cells, :: side // cells, 0]
    palette = object_palettes(logits, masks, owner, level)
    draws = draw_object_colors(key, palette, owner, images, count)
    points = jnp.concatenate(
        [
            _object_points(lab.level_boxes[:, 0], side),
            _background_points(background_masks(box_masks(lab.level_boxes[:, 0], side), lab.crop_to_image, images)),
        ]
    )
    owned = jax.nn.one_hot(owner, images)
    shown = jnp.einsum("nb,nhw->bhw", owned, points) > 0
    drawn = jnp.einsum("nb,nhw,cnk->cbhwk", owned, points, draws.ab)
    hint_ab = jnp.concatenate([drawn, (shown[..., None] * lab.full.ab)[None]]).reshape(-1, side, side, 2)
    many = jax.tree.map(lambda x: jnp.tile(x, (count + 1, 1, 1, 1)), lab.full)
    hints = BatchHints(Hints(hint_ab, jnp.tile(shown[..., None], (count + 1, 1, 1, 1))), no_hints(lab.crop.ab))
    hinted = networks.with_hints(lab._replace(full=many), hints, config).full
    ab = networks.run_full(nets, variables, hinted.inputs, ("regression",)).ab
    results = _rgb8(hinted.luminance, ab).reshape(count + 1, images, side, side, 3)
    return Colored(_rgb8(lab.full.luminance, plain.ab), results[:-1], results[-1], palette)


def _object_points(boxes: Int[jax.Array, "M 4"], side: int) -> Float[jax.Array, "M S S"]:
    """1 on five patches of each box: its center, and half-way from there to each side."""
    share = jnp.array([[0.5, 0.5], [0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]])
    place = jnp.floor(boxes[:, None, :2] + share * boxes[:, None, 2:])
    near = jnp.abs(jnp.arange(side) - place[..., None]) <= _POINT_RADIUS
    return (near[:, :, 1, :, None] & near[:, :, 0, None, :]).any(axis=1).astype(jnp.float32)


def _background_points(
    outside: Float[jax.Array, "B S S"],
) -> Float[jax.Array, "B S S"]:
    """1 on a lattice of patches, four by four, where no box is."""
    side = outside.shape[1]
    step = side // 4
    near = jnp.abs(jnp.arange(side) % step - step // 2) <= _POINT_RADIUS
    return outside * (near[:, None] & near)


def _rgb8(luminance: jax.Array, ab: jax.Array) -> UInt8[jax.Array, "B S S 3"]:
    return color.quantize_rgb(color.lab_to_rgb(color.denormalize_lab(luminance, ab.astype(jnp.float32))))


def measure(config: Config, variables: networks.Variables, key: jax.Array | None = None) -> Measured:
    """The numbers of ``config.eval.photos`` held-back scenes.

    ``psnr_…`` are of the squared error of object pixels, averaged over photos before the logarithm, as the scenes'
    arithmetic is: ``gray`` (the best single answer), ``mean`` (the regression), the ``first``, ``best`` and ``worst``
    of each photo's samples, and ``given`` (the true colors as hints). ``coverage`` and ``calibration_error`` are those
    of the objects' palettes (``evaluation.diversity``), of the shares of the pixels that the palettes read, and
    ``calibration_error_objects`` that of the one color that an object has most of: soft edges, which fade into gray,
    and background beside a small object have shares, but never happen. ``first_probability`` is the first colors',
    0.5 at best.

    Args:
      config: of the run; its ``eval.data`` are scenes.
      variables: with the tree ``full``.
      key: of the draws; None: of ``config.seed``.
    """
    key = jax.random.key(config.seed) if key is None else key
    source = scene_source(config.eval.data, config.model.side)
    count = min(config.eval.photos, len(source))
    errors: dict[str, list[Any]] = {}
    palettes: list[tuple[Any, ...]] = []
    rows: list[list[Any]] = []
    for start in range(0, count, _BATCH):
        scenes = [source.scene(index) for index in range(start, min(start + _BATCH, count))]
        batch = _batch(scenes, config)
        colored = jax.device_get(colorize(jax.random.fold_in(key, start), variables, batch, config.model, SAMPLES))
        truth, objects = batch.full_rgb[: len(scenes)], np.stack([_object_pixels(scene) for scene in scenes])
        gray = np.asarray(color.without_color(truth))[..., None].repeat(3, axis=-1)
        results = np.concatenate([gray[None], *(r[:, : len(scenes)] for r in _results(colored))])
        for name, error in _errors(results, truth, objects >= 0).items():
            errors.setdefault(name, []).append(error)
        real = np.flatnonzero(batch.crop_to_image >= 0)
        true_ab = _true_ab(truth, objects, batch.crop_to_image[real])
        palette = colored.palette
        shares = _color_shares(palette, batch, config.model.side, real)
        palettes.append((palette.ab[real], palette.probability[real], palette.valid[real], true_ab, shares))
        rows += [[*results[:-1, row], truth[row]] for row in range(min(len(scenes), SHOWN - len(rows)))]
    ab, probability, valid, true_ab, shares = (np.concatenate(values) for values in zip(*palettes, strict=True))
    covered = diversity.palette_coverage(ab, valid, true_ab)
    outcomes = {"": shares, "_objects": diversity.happened(ab, valid, true_ab)}
    calibration = {of: diversity.reliability(probability, outcome) for of, outcome in outcomes.items()}
    mean = {name: float(np.concatenate(values).mean()) for name, values in errors.items()}
    metrics = {f"psnr_{name}": round(10 * math.log10(255**2 / error), 3) for name, error in mean.items()}
    metrics |= {
        "coverage": round(float(covered.mean()), 4),
        **{f"calibration_error{of}": round(found.expected_error, 4) for of, found in calibration.items()},
        "first_probability": round(float(probability[:, 0].mean()), 4),
        "objects": len(covered),
        "photos": count,
    }
    return Measured(metrics, rows)


def _results(colored: Colored) -> tuple[UInt8[np.ndarray, "_ B S S 3"], ...]:
    """Mean, samples, and with the true hints, each on a leading axis; on the host."""
    mean, samples, given, _ = colored
    return np.asarray(mean)[None], np.asarray(samples), np.asarray(given)[None]


def _errors(
    results: UInt8[np.ndarray, "K B S S 3"], truth: UInt8[np.ndarray, "B S S 3"], inside: Bool[np.ndarray, "B S S"]
) -> dict[str, Float[np.ndarray, " B"]]:
    """Mean squared error of each photo's object pixels; of gray, mean, samples, true hints."""
    error = 255.0**2 / 10 ** (diversity.psnr(results, truth, inside) / 10)
    gray, mean, *samples, given = error
    best, worst = np.min(samples, axis=0), np.max(samples, axis=0)
    return {"gray": gray, "mean": mean, "first": samples[0], "best": best, "worst": worst, "given": given}


def _batch(scenes: Sequence[Scene], config: Config) -> Batch:
    """A full batch of scenes; the last one is filled with padding, so that all have one shape."""
    data, side, examples = config.eval.data, config.model.side, []
    for scene in scenes:
        found = usable_boxes(scene.photo, "all")
        examples.append(example(scene.photo.image, found.boxes, found.scores, side))
    padded = [*examples, *[None] * (_BATCH - len(examples))]
    capacity = _BATCH * data.scenes.max_objects
    return collate(padded, device_count=1, capacity=capacity, side=side, with_full=True)[0]


def _object_pixels(scene: Scene) -> Int[np.ndarray, "S S"]:
    """The object of each canvas pixel that shows nothing but one object; -1 elsewhere."""
    side = scene.object_map.shape[0] // PHOTO_PER_CANVAS
    blocks = scene.object_map.reshape(side, PHOTO_PER_CANVAS, side, PHOTO_PER_CANVAS)
    low, high = blocks.min(axis=(1, 3)), blocks.max(axis=(1, 3))
    return np.where(low == high, low, -1)


def _true_ab(
    truth: UInt8[np.ndarray, "B S S 3"], objects: Int[np.ndarray, "B S S"], owner: Int[np.ndarray, " M"]
) -> Float[np.ndarray, "M 2"]:
    """The color that most of each object has; a photo's objects follow each other in the order of their numbers."""
    ab = np.asarray(color.normalize_lab(color.rgb_to_lab(color.unit_rgb(truth)))[1])
    number = np.arange(len(owner)) - np.searchsorted(owner, owner)
    return diversity.true_modes(ab[owner], (objects[owner] == number[:, None, None]).astype(np.float32))


def _color_shares(palette: Palette, batch: Batch, side: int, crops: Int[np.ndarray, " M"]) -> Float[np.ndarray, "M K"]:
    """The shares of the objects' pixels by color, at the class head's own pixels, as the palettes weigh them."""
    cells = side >> _CELL_LEVEL
    weights = np.asarray(middle_weights(jnp.asarray(batch.level_boxes[crops, 0]), side, cells))
    lab = color.rgb_to_lab(color.unit_rgb(batch.full_rgb[:, :: side // cells, :: side // cells]))
    ab = np.asarray(color.normalize_lab(lab)[1])[batch.crop_to_image[crops]]
    of_crop = np.asarray(palette.ab)[crops], np.asarray(palette.valid)[crops]
    return diversity.color_shares(*of_crop, ab, weights)


def sheet(rows: Sequence[Sequence[UInt8[np.ndarray, "S S 3"]]], enlarge: int = 2) -> Image.Image:
    """The rows of ``Measured`` as one picture."""
    side = enlarge * rows[0][0].shape[0]
    pictures = [
        Image.fromarray(np.asarray(p)).resize((side, side), Image.Resampling.NEAREST) for row in rows for p in row
    ]
    headings = ["gray", "mean", *(f"sample {n + 1}" for n in range(len(rows[0]) - 3)), "truth"]
    return tile_grid(pictures, [""] * len(pictures), columns=len(headings), tile=(side, side), headings=headings)


def section(measured: Measured) -> Markup:
    """The picture and the numbers as a part of ``report.html``."""
    m, buffer = measured.metrics, io.BytesIO()
    sheet(measured.rows).save(buffer, "PNG")
    cells = {
        "gray, the best single answer": f"{m['psnr_gray']:.1f} dB",
        "mean (regression)": f"{m['psnr_mean']:.1f} dB",
        "most probable sample": f"{m['psnr_first']:.1f} dB",
        f"best of {SAMPLES} samples": f"{m['psnr_best']:.1f} dB",
        "true colors as hints": f"{m['psnr_given']:.1f} dB",
        "palette coverage": f"{100 * m['coverage']:.1f}%",
        "calibration error": f"{100 * m['calibration_error']:.1f}%",
    }
    rows = Markup().join(Markup("<tr><td>{}</td><td>{}</td></tr>").format(*cell) for cell in cells.items())
    return Markup(
        '<p class="lead">Each pattern has two opposite hues, and a coin, which gray does not show, decides. PSNR of '
        "object pixels; {photos:.0f} scenes, {objects:.0f} objects, none seen in training.</p>"
        '<figure class="card scroll"><img alt="gray, mean, samples, truth" src="data:image/png;base64,{png}"></figure>'
        '<div class="card scroll"><table>{rows}</table></div>'
    ).format(png=base64.b64encode(buffer.getvalue()).decode(), rows=rows, **m)

"""The protocol: which pictures are compared, where, and for which systems; batches in, ``Results`` out.

A photo is compared at the canvas: the truth is its 8-bit ``full_rgb``, the prediction is the truth's own L* joined with
the predicted ab, taken to sRGB, clipped to gamut channel by channel and rounded to 8 bit. Systems and controls are
those of ``results.SYSTEMS`` and ``results.CONTROLS``; objects are the union of the boxes that are in the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from jaxcolor import color, resample
from jaxcolor.batch import Batch
from jaxcolor.config import ModelConfig
from jaxcolor.data.pipeline import Loaded
from jaxcolor.errors import UserError
from jaxcolor.evaluation import metrics
from jaxcolor.evaluation.controls import crop_donors, no_boxes, other_crops, photo_of_crop
from jaxcolor.evaluation.results import CONTROLS, METRICS, PSNR_CAP, RESAMPLES, SYSTEMS, Results, Shown
from jaxcolor.models.backbone import network_input
from jaxcolor.models.dual_branch import TREES, Networks, Picture, Variables, build, picture, predict, run_full
from jaxcolor.models.fusion import membership
from jaxcolor.parallel import REPLICATED, SPLIT, Devices

Scores = dict[str, jax.Array]
"""Metric -> one value a photo."""


class _Measured(NamedTuple):
    """One batch on the host: system -> metric -> (B,), and system -> pictures."""

    scores: dict[str, dict[str, np.ndarray]]
    pictures: dict[str, UInt8[jax.Array, "B S S 3"]]
    """Still on the devices: only the few that are shown are fetched."""


def systems_of(variables: Variables) -> tuple[str, ...]:
    """The systems that a set of trees can run: ``fused`` needs all three.

    Raises:
      UserError: no ``full`` tree.
    """
    if "full" not in variables:
        raise UserError(f"cannot evaluate without the tree 'full'; the weights hold {', '.join(variables) or 'none'}")
    return SYSTEMS if all(tree in variables for tree in TREES) else SYSTEMS[:2]


def colorized(luminance: Float[jax.Array, "B S S 1"], ab: Float[jax.Array, "B S S 2"]) -> UInt8[jax.Array, "B S S 3"]:
    """Normalised L and ab as the 8-bit sRGB picture that is compared."""
    return color.quantize_rgb(color.lab_to_rgb(color.denormalize_lab(luminance, ab)))


def score(
    prediction: UInt8[jax.Array, "B S S 3"],
    truth: UInt8[jax.Array, "B S S 3"],
    objects: Bool[jax.Array, "B S S"],
) -> Scores:
    """All of ``METRICS``, float32 (B,); NaN where a photo has no such pixels (``*_objects`` without boxes)."""
    similarity = metrics.ssim_map(prediction, truth)
    return {
        "psnr": metrics.psnr(prediction, truth),
        "ssim": similarity.mean(axis=(1, 2)),
        "psnr_objects": metrics.psnr(prediction, truth, objects),
        "ssim_objects": metrics.masked_mean(similarity, metrics.inner(objects)),
        "psnr_background": metrics.psnr(prediction, truth, ~objects),
        "ssim_background": metrics.masked_mean(similarity, metrics.inner(~objects)),
    }


def _colours(networks: Networks, variables: Variables, batch: Batch, shown: Picture, has_boxes: jax.Array) -> Scores:
    """Predicted ab of each system; ``has_boxes`` are the photos for which ``fused`` is the fusion tree's output."""
    colours = {"gray": jnp.zeros_like(shown.ab)}
    if len(systems_of(variables)) < len(SYSTEMS):
        return {**colours, "full": run_full(networks, variables, network_input(shown.luminance)).ab}
    prediction = predict(networks, variables, batch)
    # Not ``prediction.ab``: a control hides boxes, and must not change what is asked of photos that never had any.
    fused = jnp.where(has_boxes[:, None, None, None], prediction.fused_ab, prediction.full_ab)
    return {**colours, "full": prediction.full_ab, "fused": fused}


def _measure(networks: Networks) -> Callable[..., tuple[dict[str, Scores], dict[str, jax.Array]]]:
    """The function of one device."""

    def measure(
        variables: Variables, batch: Batch, photo: Int[jax.Array, " M"]
    ) -> tuple[dict[str, Scores], dict[str, jax.Array]]:
        """Scores and pictures of every system; ``photo`` is the ``image_index`` that says where objects are."""
        truth = jnp.asarray(batch.full_rgb)
        side = truth.shape[1]
        member = membership(photo, truth.shape[0])
        inside = resample.inside(batch.level_boxes[:, 0], side, side)
        objects = (member[:, :, None, None] & inside[None]).any(axis=1)
        shown = picture(truth, networks.full.config)
        colours = _colours(networks, variables, batch, shown, member.any(axis=1))
        pictures = {name: colorized(shown.luminance, ab) for name, ab in colours.items()}
        return {name: score(rgb, truth, objects) for name, rgb in pictures.items()}, pictures

    return measure


@functools.lru_cache(maxsize=4)
def _compiled(model: ModelConfig, devices: Devices) -> Callable[..., Any]:
    """Kept, so that an evaluation every so many steps of a training run compiles once."""
    return devices.map(_measure(build(model)), takes=(REPLICATED, SPLIT, SPLIT), gives=(SPLIT, SPLIT))


class Evaluator:
    """Measures batches on the devices of this process; compiled once per shape of batch."""

    def __init__(self, model: ModelConfig, variables: Variables, devices: Devices) -> None:
        """Puts the variables on the devices.

        Raises:
          UserError: no ``full`` tree, or a canvas too small for SSIM's window.
        """
        if model.side < metrics.SSIM_WINDOW:
            raise UserError(
                f"evaluation needs a canvas of at least {metrics.SSIM_WINDOW} pixels for SSIM, not {model.side}"
            )
        self.systems = systems_of(variables)
        self.devices = devices
        kept = TREES if self.systems == SYSTEMS else ("full",)
        self._variables = devices.replicate({tree: variables[tree] for tree in kept})
        self._function = _compiled(model, devices)

    def _run(self, batch: Batch, photo: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
        # A measurement: TF32 or bfloat16 products on accelerators would move colours by more than 8-bit rounding.
        with jax.default_matmul_precision("highest"):
            scores, pictures = self._function(self._variables, self.devices.split(batch), self.devices.split(photo))
        return self.devices.fetch(scores, SPLIT), pictures

    def measure(self, batch: Batch, controls: bool) -> _Measured:
        """Scores and pictures of the systems that the variables allow, and of the controls if asked for.

        Args:
          batch: host arrays; photos a multiple of the device count.
          controls: measure ``results.CONTROLS`` too (only where there is a fused system).
        """
        photo = np.asarray(batch.image_index)
        scores, pictures = self._run(batch, photo)
        if controls and "fused" in self.systems:
            donors = crop_donors(batch, self.devices.local_count)
            changed = {"no_boxes": no_boxes(batch), "other_crops": other_crops(batch, donors)}
            for control, other in changed.items():
                other_scores, other_pictures = self._run(other, photo)
                scores[control], pictures[control] = other_scores["fused"], other_pictures["fused"]
            owner = photo_of_crop(batch, self.devices.local_count)
            lone = np.isin(np.arange(len(batch.full_rgb)), owner[(owner >= 0) & (donors < 0)])
            scores["other_crops"] = {m: np.where(lone, np.nan, v) for m, v in scores["other_crops"].items()}
        return _Measured(scores, pictures)


def _show(loaded: Loaded, measured: _Measured, devices: Devices, places: np.ndarray) -> list[Shown]:
    """The photos at these places of the batch, with all their pictures."""
    host = {name: devices.fetch(rgb, SPLIT) for name, rgb in measured.pictures.items()}
    owner = photo_of_crop(loaded.batch, devices.local_count)
    return [
        Shown(
            loaded.names[i],
            np.asarray(loaded.batch.level_boxes)[owner == i, 0],
            {**{name: rgb[i] for name, rgb in host.items()}, "truth": np.asarray(loaded.batch.full_rgb[i])},
            {name: float(scores["psnr"][i]) for name, scores in measured.scores.items()},
        )
        for i in places
    ]


class _Row(NamedTuple):
    """What is kept of a photo; JSON types, so that processes can send it to each other."""

    batch: int
    name: str
    boxes: int
    scores: dict[str, dict[str, float]]


def evaluate(
    model: ModelConfig,
    variables: Variables,
    batches: Iterable[Loaded],
    devices: Devices,
    *,
    controls: bool = True,
    shown_photos: int = 0,
    progress: Callable[[int], object] = lambda photos: None,
) -> Results:
    """Measure every valid photo of the batches once.

    Args:
      model: the architecture of the variables.
      variables: ``full`` alone, or all three trees.
      batches: host batches laid out for ``devices.count`` devices; with several processes, each one's own part.
      devices: where to run. All processes get the results of all photos; the pictures are the first process's.
      controls: measure the controls too.
      shown_photos: keep the pictures of this many photos, from the first.
      progress: called with the number of photos after each batch.

    Raises:
      UserError: see ``Evaluator``; or there is not one valid photo.
    """
    evaluator = Evaluator(model, variables, devices)
    rows: list[_Row] = []
    shown: list[Shown] = []
    dropped = skipped = 0
    for number, loaded in enumerate(batches):
        measured = evaluator.measure(loaded.batch, controls)
        valid = np.flatnonzero(loaded.batch.image_valid)
        owner = photo_of_crop(loaded.batch, devices.local_count)
        counts = np.bincount(owner[owner >= 0], minlength=len(loaded.batch.full_rgb))
        for i in valid.tolist():
            of_photo = {s: {m: float(v[i]) for m, v in of.items()} for s, of in measured.scores.items()}
            rows.append(_Row(number, loaded.names[i], int(counts[i]), of_photo))
        if len(shown) < shown_photos and devices.is_first:
            shown += _show(loaded, measured, devices, valid[: shown_photos - len(shown)])
        dropped += loaded.dropped_crops
        skipped += len(loaded.skipped)
        progress(len(valid))
    shares = devices.gather([rows, dropped, skipped])
    # Batch by batch, and in each the processes one after another: the order of one process alone.
    merged = sorted((_Row(*row) for share in shares for row in share[0]), key=lambda row: row.batch)
    if not merged:
        raise UserError("there is no photo to evaluate")
    scores = {
        system: {m: np.array([row.scores[system][m] for row in merged]) for m in METRICS}
        for system in (*SYSTEMS, *CONTROLS)  # in this order: jit sorts the keys
        if system in merged[0].scores
    }
    protocol = describe(model.side, evaluator.systems, tuple(c for c in CONTROLS if c in scores))
    return Results(
        tuple(row.name for row in merged),
        np.array([row.boxes for row in merged]),
        scores,
        sum(share[1] for share in shares),
        sum(share[2] for share in shares),
        protocol,
        tuple(shown),
    )


def describe(side: int, systems: tuple[str, ...], controls: tuple[str, ...]) -> dict[str, Any]:
    """The choices behind the numbers, for ``metrics.json``."""
    missing = [s for s in SYSTEMS if s not in systems]
    return {
        "systems": list(systems),
        "systems_left_out": f"{', '.join(missing)}: the weights hold only the full tree" if missing else None,
        "canvas": side,
        "pictures": "truth: the photo at the canvas, 8-bit sRGB; prediction: its own L* with the predicted ab, clipped "
        "to sRGB channel by channel, rounded to 8 bit",
        "psnr": "dB, 10 log10(255^2 / MSE) per photo over RGB together, then the mean over photos",
        "psnr_cap_db": PSNR_CAP,
        "psnr_cap": "in means a photo counts this much at most (an identical picture is infinite); psnr_capped counts",
        "ssim": "Gaussian 11x11, sigma 1.5, K1 0.01, K2 0.03, range 255, mean of R, G, B, whole windows only",
        "objects": "pixels in the union of the boxes in the batch; windows of SSIM by their centre; photos without "
        "such pixels are left out",
        "background": "pixels outside all boxes; of a photo without boxes, all",
        "fused": "the fusion tree where a photo has boxes, the full tree elsewhere",
        "controls": {
            "no_boxes": "the fusion tree without any crop",
            "other_crops": "each crop's pixels from another photo of the same batch, boxes kept; photos of a batch in "
            "which no other photo has crops are left out",
        }
        if controls
        else None,
        "controls_elsewhere": "photos without boxes get the full tree's output, as in fused" if controls else None,
        "interval_95": f"percentile bootstrap over photos, {RESAMPLES} resamples, fixed seed",
        "precision": "products in full float32 (matmul precision highest)",
    }

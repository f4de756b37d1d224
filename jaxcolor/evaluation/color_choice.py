"""What choosing colors is worth: the hint curve, and the diversity, calibration and best of results that were drawn.

Measured of a batch where its photos are measured (``Evaluator.measure``), summed up over all photos here. Everything
that a photo contributes is of JSON types, so that processes can send it to each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxcolor.batch import Batch
from jaxcolor.evaluation import diversity
from jaxcolor.evaluation.controls import photo_of_crop
from jaxcolor.evaluation.predictors import Predictors, Sampled
from jaxcolor.evaluation.scorer import Scorer, Truth
from jaxcolor.evaluation.statistics import Mean, mean_over_objects, mean_over_photos
from jaxcolor.runtime.parallel import SPLIT, Devices

Scores = dict[str, dict[str, np.ndarray]]
"""System -> metric -> (B,)."""


class SampledPhoto(NamedTuple):
    """A photo with the results drawn for it, to look at."""

    name: str
    boxes: Int[np.ndarray, "N 4"]
    """x0, y0, width, height on the pictures."""
    truth: UInt8[np.ndarray, "S S 3"]
    samples: tuple[UInt8[np.ndarray, "S S 3"], ...]
    """The most probable one first."""


class Diversity(NamedTuple):
    """What was measured of ``samples`` results of P photos and of the palettes of their N boxes."""

    samples: int
    scores: dict[str, Float[np.ndarray, "K P"]]
    """Metric -> of each sample."""
    higher_is_better: dict[str, bool]
    pairwise: dict[str, Float[np.ndarray, " P"]]
    """Metric -> mean over all pairs of a photo's samples; empty with a single one."""
    photo: Int[np.ndarray, " N"]
    """The photo of each box, by its place among the results'."""
    covered: Float[np.ndarray, " N"]
    """1 where the palette has the color that most of the object has, else 0."""
    probability: Float[np.ndarray, "N C"]
    """Of each color of the palette."""
    happened: Float[np.ndarray, "N C"]
    """Share of the object's pixels that are nearest to each color; NaN: no such color."""
    pictures: tuple[SampledPhoto, ...] = ()

    def summary(self, caps: Mapping[str, float]) -> dict[str, Any]:
        """What ``metrics.json`` holds of it, NaN included; ``caps``: what a photo counts at most in a metric's mean."""
        table = diversity.reliability(self.probability, self.happened)
        best = {
            metric: diversity.best_of(
                np.minimum(values, caps.get(metric, np.inf)), higher_is_better=self.higher_is_better[metric]
            )
            for metric, values in self.scores.items()
        }
        colors = (~np.isnan(self.happened)).sum(axis=1)
        return {
            "samples": self.samples,
            "best_of": {m: [_described(mean_over_photos(row)) for row in rows] for m, rows in best.items()},
            "pairwise": {metric: _described(mean_over_photos(v)) for metric, v in self.pairwise.items()},
            "boxes": len(self.photo),
            "palette_colors": float(colors.mean()) if len(colors) else None,
            "coverage": _described(mean_over_objects(self.covered, self.photo)) if len(self.photo) else None,
            "calibration": {
                "expected_error": table.expected_error,
                "edges": table.edges.tolist(),
                "counts": table.counts.tolist(),
                "probability": table.probability.tolist(),
                "frequency": table.frequency.tolist(),
            },
        }


def _described(mean: Mean) -> dict[str, Any]:
    return {"mean": mean.value, "interval_95": mean.interval, "count": mean.photos}


def hint_scores(
    predictors: Predictors,
    scorer: Scorer,
    truth: Truth,
    batch: Batch,
    numbers: Int[np.ndarray, " B"],
    counts: Sequence[int],
) -> Scores:
    """``full+10``, ``fused+10``, … -> metric -> (B,): the systems where so many random points show their true color."""
    found = {}
    for count in counts:
        for system, ab in predictors.hinted(batch, numbers, count).items():
            found[f"{system}+{count}"] = scorer.score(truth, scorer.pictures(truth, ab))
    return found


class SampleScores(NamedTuple):
    """What is measured of a batch's samples; pictures on the devices."""

    pictures: tuple[Any, ...]
    scores: dict[str, Float[np.ndarray, "K B"]]
    pairwise: dict[str, Float[np.ndarray, " B"]]
    palettes: Sampled
    """On the host, without the samples."""


def sample_scores(
    predictors: Predictors,
    scorer: Scorer,
    truth: Truth,
    batch: Batch,
    numbers: Int[np.ndarray, " B"],
    count: int,
    devices: Devices,
) -> SampleScores:
    """Scores of each of ``count`` samples, distances between them, and the palettes of the batch's boxes.

    Distances come from the metrics' own programs, one sample in the place of the truth: nothing more is compiled.
    """
    boxes, size = (devices.fetch(part, SPLIT) for part in (truth.boxes, truth.size))
    owner = photo_of_crop(batch, devices.local_count)
    found = predictors.sampled(batch, canvas_boxes(boxes, size, owner, batch.full_rgb.shape[1]), numbers, count)
    pictures = tuple(scorer.pictures(truth, ab) for ab in found.ab)
    measured = [scorer.score(truth, rgb) for rgb in pictures]
    pairs = [scorer.score(truth._replace(rgb=a), b) for a, b in itertools.combinations(pictures, 2)]
    names = best_of_metrics(scorer)
    distances = [name for name, higher in names.items() if not higher]
    return SampleScores(
        pictures,
        {name: np.stack([one[name] for one in measured]) for name in names},
        {name: np.mean([pair[name] for pair in pairs], axis=0) for name in distances if pairs},
        devices.fetch(found._replace(ab=()), SPLIT),
    )


def canvas_boxes(
    boxes: Int[np.ndarray, "M 4"], size: Int[np.ndarray, "B 2"], owner: Int[np.ndarray, " M"], side: int
) -> Int[np.ndarray, "M 4"]:
    """Boxes in pixels of the comparison, in canvas pixels: x0, y0, width, height, each at least 1; zeros for padding.

    Args:
      boxes: of the crops' objects: x0, y0, width, height.
      size: height and width of each photo in the comparison.
      owner: the photo of each crop; -1: padding.
      side: of the canvas.
    """
    scale = side / size[np.maximum(owner, 0), ::-1]
    start = np.minimum(np.rint(boxes[:, :2] * scale), side - 1)
    end = np.minimum(np.rint((boxes[:, :2] + boxes[:, 2:]) * scale), side)
    found = np.concatenate([start, np.maximum(end - start, 1)], axis=1).astype(np.int32)
    return np.where((owner >= 0)[:, None], found, 0)


def best_of_metrics(scorer: Scorer) -> dict[str, bool]:
    """PSNR and the perceptual metrics that are measured -> whether higher is better."""
    chosen = [metric for metric in scorer.choice.measured if metric.name == "psnr" or metric.load is not None]
    return {metric.name: metric.direction == "higher" for metric in chosen if metric.direction != "neither"}


def sample_rows(measured: SampleScores, batch: Batch, devices: Devices) -> list[dict[str, Any]]:
    """Of each photo of the batch, in JSON types: its samples' scores and distances, and its boxes' palettes."""
    palettes = measured.palettes
    owner = photo_of_crop(batch, devices.local_count)
    crops = np.flatnonzero(owner >= 0)
    ab, valid, weights = (np.asarray(x)[crops] for x in (palettes.palette_ab, palettes.valid, palettes.weights))
    photo_ab = np.asarray(palettes.true_ab)[owner[crops]]
    covered = diversity.palette_coverage(ab, valid, diversity.true_modes(photo_ab, weights))
    happened = diversity.color_shares(ab, valid, photo_ab, weights)
    probability = np.clip(np.asarray(palettes.probability)[crops].astype(np.float64), 0, 1)

    def row(photo: int) -> dict[str, Any]:
        own = owner[crops] == photo
        return {
            "scores": {m: v[:, photo].astype(float).tolist() for m, v in measured.scores.items()},
            "pairwise": {m: float(v[photo]) for m, v in measured.pairwise.items()},
            "covered": covered[own].tolist(),
            "probability": probability[own].tolist(),
            "happened": happened[own].tolist(),
        }

    return [row(photo) for photo in range(len(batch.full_rgb))]


def merged(
    rows: Sequence[dict[str, Any]], higher_is_better: dict[str, bool], pictures: tuple[SampledPhoto, ...]
) -> Diversity:
    """The rows of all photos (``sample_rows``), put together."""
    boxes = [len(row["covered"]) for row in rows]

    def of_boxes(name: str) -> Float[np.ndarray, "N C"]:
        colors = max((len(one) for row in rows for one in row[name]), default=0)
        return np.array([one for row in rows for one in row[name]], np.float64).reshape(sum(boxes), colors)

    scores = {m: np.array([row["scores"][m] for row in rows]).T for m in rows[0]["scores"]}
    return Diversity(
        len(next(iter(scores.values()))),
        scores,
        higher_is_better,
        {m: np.array([row["pairwise"][m] for row in rows]) for m in rows[0]["pairwise"]},
        np.repeat(np.arange(len(rows)), boxes),
        np.array([one for row in rows for one in row["covered"]], np.float64),
        of_boxes("probability"),
        of_boxes("happened"),
        pictures,
    )


def photo_numbers(batch: Batch, number: int, devices: Devices) -> Int[np.ndarray, " B"]:
    """The place in the data set of each photo of this process's part of batch ``number``."""
    photos = len(batch.full_rgb)
    first = (number * devices.process_count + devices.process_index) * photos
    return first + np.arange(photos)


def hint_summary(scores: Scores, caps: Mapping[str, float]) -> dict[str, Any]:
    """``full`` and ``fused`` -> number of points -> metric -> mean; what ``metrics.json`` holds of the hint curve."""
    found: dict[str, Any] = {}
    for name, of in scores.items():
        system, _, count = name.partition("+")
        means = {m: mean_over_photos(np.minimum(v, caps.get(m, np.inf))) for m, v in of.items()}
        found.setdefault(system, {})[count] = {
            **{m: mean.value for m, mean in means.items()},
            "interval_95": {m: mean.interval for m, mean in means.items()},
        }
    return found

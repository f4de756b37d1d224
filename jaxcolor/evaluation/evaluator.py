"""The evaluation protocol: which pictures are measured, where, and for which systems; batches in, ``Results`` out.

The ground truth is the photo's 8-bit pixels at the size of the comparison; the prediction is the truth's own L* joined
with the predicted ab, taken to sRGB, clipped to gamut channel by channel and rounded to 8 bit. Systems and controls are
those of ``predictors.SYSTEMS`` and ``predictors.CONTROLS``, and the pictures of others; objects are the union of the
boxes that are in the batch, and each object by itself: the annotated ones, or in a data set without annotations the
boxes in use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcolor.batch import Batch
from jaxcolor.data.eval_targets import EvalTargets
from jaxcolor.data.loader import LoadedBatch
from jaxcolor.evaluation import color_choice
from jaxcolor.evaluation.controls import photo_of_crop
from jaxcolor.evaluation.metrics import fid, inception, registry
from jaxcolor.evaluation.objects import NO_OBJECTS, Objects
from jaxcolor.evaluation.predictions import Predictions
from jaxcolor.evaluation.predictors import (
    CONTROLS,
    INSTANCE,
    OWN_SYSTEMS,
    SYSTEMS,
    TRUTH,
    Predictors,
    without_donors,
)
from jaxcolor.evaluation.protocol import describe, describe_choice
from jaxcolor.evaluation.report import failures
from jaxcolor.evaluation.report.contact_sheet import fitted
from jaxcolor.evaluation.results import Results, Shown
from jaxcolor.evaluation.scorer import Scorer, Truth
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.parallel import SPLIT, Devices

SAMPLED_PHOTOS = 6
"""Photos whose samples are kept to look at, from the first."""


class _Row(NamedTuple):
    """What is kept of a photo; JSON types, so that processes can send it to each other."""

    batch: int
    name: str
    boxes: int
    scores: dict[str, dict[str, float]]
    """By system; and of ``truth``."""
    annotated: bool
    """Whether ``objects`` are annotated ones."""
    objects: list[list[int]]
    object_sides: list[float]
    """Geometric mean of each object's sides on the model's canvas."""
    object_scores: list[dict[str, dict[str, float]]]
    failures: dict[str, float]
    """What the failure finder measures of a photo; ``missed`` too. Empty where only others' pictures take part."""
    descriptor: list[float]
    """What the photo looks like in gray."""
    chroma: float
    """Mean chroma of the true photo."""
    hinted: dict[str, dict[str, float]]
    """By system and number of points (``color_choice.hint_scores``)."""
    sampled: dict[str, Any]
    """``color_choice.sample_rows``; empty where nothing is drawn."""


class _Batch(NamedTuple):
    """One batch, measured: numbers on the host, pictures still on the devices, since only few are shown."""

    scores: dict[str, dict[str, np.ndarray]]
    object_scores: dict[str, dict[str, np.ndarray]]
    truth: Truth
    chroma: np.ndarray
    pictures: dict[str, Any]
    failures: failures.Measured | None
    hinted: color_choice.Scores
    sampled: color_choice.SampleScores | None


class _Tally:
    """What is added up over the batches of this process."""

    def __init__(self) -> None:
        self.dropped = self.skipped = self.reduced = self.moved = 0
        self.crops: Counter[int] = Counter()
        """By the side that they are seen at, with ``data.crop_sides``."""
        self.resized: dict[str, int] = {}
        self.missing: dict[str, list[str]] = {}
        self.features: dict[str, fid.Sums] = {}


class Evaluator:
    """Measures batches on the devices; compiled once for each shape of batch."""

    def __init__(
        self,
        predictors: Predictors,
        scorer: Scorer,
        devices: Devices,
        predictions: Sequence[Predictions] = (),
        threads: int = 1,
        truth_statistics: fid.Statistics | None = None,
        hint_points: Sequence[int] = (),
        samples: int = 0,
    ) -> None:
        """What takes part.

        Args:
          predictors: the checkpoints.
          scorer: the metrics.
          devices: where to run.
          predictions: result pictures of others.
          threads: how many read these.
          truth_statistics: what FID needs of the true photos, where it is known.
          hint_points: numbers of random points of true color with which the studied weights are measured again.
          samples: results drawn of each photo, where those weights have a class head.
        """
        self.predictors = predictors
        self.scorer = scorer
        self.devices = devices
        self.predictions = predictions
        self.threads = threads
        self.truth_statistics = truth_statistics
        """Known from the end of ``evaluate`` on, if FID is measured."""
        self.hint_points = tuple(hint_points) if predictors.has_hints else ()
        self.samples = samples if predictors.has_samples else 0
        self.tally = _Tally()

    def pictures(
        self, loaded: LoadedBatch, targets: EvalTargets, truth: Truth, colors: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The pictures of every system, at the size of the comparison, on the devices; ``colors``: our predicted ab."""
        side = loaded.batch.full_rgb.shape[1]
        gray = self.devices.split(np.zeros((len(loaded.batch.full_rgb), side, side, 2), np.float32))
        pictures = {name: self.scorer.pictures(truth, ab) for name, ab in {"gray": gray, **colors}.items()}
        for prediction in self.predictions:
            found = prediction.read(loaded.names, targets.size, self.scorer.choice.side, self.threads)
            pictures[prediction.name] = self.devices.split(found.rgb)
            there = {name for name, is_there in zip(loaded.names, found.there, strict=True) if is_there}
            absent = [name for name in loaded.names if name and name not in there]
            self.tally.missing.setdefault(prediction.name, []).extend(absent)
            self.tally.resized[prediction.name] = self.tally.resized.get(prediction.name, 0) + found.resized
        return pictures

    def measure(self, loaded: LoadedBatch, number: int = 0) -> _Batch:
        """All numbers of batch ``number``; what is not there, or has no meaning, is NaN."""
        batch, targets = loaded.batch, loaded.compared
        if targets is None:
            raise ValueError("a batch without the ground truth; eval_batches makes it where compare_at is given")
        truth = self.scorer.place(batch, targets)
        colors, instance_ab = self.predictors(batch, targets.canvases)
        pictures = self.pictures(loaded, targets, truth, colors)
        scores = {name: self.scorer.score(truth, rgb) for name, rgb in pictures.items()}
        instance = None if instance_ab is None or not truth.objects else (colors["full"], instance_ab)
        objects = self.scorer.score_objects(truth, pictures, instance)
        undefined = self._undefined(loaded, batch)
        for name, lost in undefined.items():
            scores[name] = {m: np.where(lost, np.nan, v) for m, v in scores[name].items()}
            of_lost = lost[truth.object_rows]
            objects[name] = {m: np.where(of_lost, np.nan, v) for m, v in objects[name].items()}
        self._add_features(truth, pictures, np.asarray(batch.is_real), undefined)
        main = next((colors[system] for system in ("fused", "full") if system in colors), None)
        found = None if main is None else failures.measure(batch, main, self.devices)
        of_truth, chroma = self.scorer.of_truth(truth)
        numbers = color_choice.photo_numbers(batch, number, self.devices)
        choosing = (self.predictors, self.scorer, truth, batch, numbers)
        hinted = color_choice.hint_scores(*choosing, self.hint_points)
        sampled = color_choice.sample_scores(*choosing, self.samples, self.devices) if self.samples else None
        return _Batch({**scores, TRUTH: of_truth}, objects, truth, chroma, pictures, found, hinted, sampled)

    def _undefined(self, loaded: LoadedBatch, batch: Batch) -> dict[str, np.ndarray]:
        """System -> photos of the batch for which it says nothing, bool (B,)."""
        lost = {"other_crops": without_donors(batch, self.devices)} if "other_crops" in self.predictors.controls else {}
        for prediction in self.predictions:
            absent = set(self.tally.missing[prediction.name])
            lost[prediction.name] = np.array([not name or name in absent for name in loaded.names])
        return lost

    def _add_features(
        self, truth: Truth, pictures: dict[str, Any], valid: np.ndarray, undefined: dict[str, np.ndarray]
    ) -> None:
        if not self.scorer.has_fid:
            return
        wanted = pictures if self.truth_statistics is not None else {**pictures, TRUTH: truth.rgb}
        for name, rgb in wanted.items():
            there = valid & ~undefined.get(name, np.zeros_like(valid))
            sums = self.tally.features.get(name, fid.no_photos(inception.WIDTH))
            self.tally.features[name] = fid.add(sums, self.scorer.features(truth, rgb)[there])

    def show(
        self, loaded: LoadedBatch, pictures: Mapping[str, Any], scores: Mapping[str, Any], places: Any
    ) -> list[Shown]:
        """The photos at these places of the batch, with all their pictures; native ones fitted into the canvas."""
        host = {name: self.devices.fetch(rgb, SPLIT) for name, rgb in pictures.items()}
        targets = loaded.compared
        assert targets is not None
        host[TRUTH] = targets.rgb
        side = loaded.batch.full_rgb.shape[1]
        owner = photo_of_crop(loaded.batch, self.devices.local_count)
        shown = []
        for i in places.tolist():
            height, width = targets.size[i].tolist()
            boxes = np.rint(targets.crop_boxes[owner == i] * (side / max(width, height))).astype(np.int32)
            panels = {name: fitted(rgb[i, :height, :width], side) for name, rgb in host.items()}
            psnr = {name: float(scores[name]["psnr"][i]) for name in pictures if name in scores}
            shown.append(Shown(loaded.names[i], boxes, panels, psnr))
        return shown

    def show_samples(
        self, loaded: LoadedBatch, sampled: color_choice.SampleScores, places: np.ndarray
    ) -> list[color_choice.SampledPhoto]:
        """The photos at these places of the batch, with their samples."""
        named = {str(i): rgb for i, rgb in enumerate(sampled.pictures)}
        return [
            color_choice.SampledPhoto(s.name, s.boxes, s.panels[TRUTH], tuple(s.panels[name] for name in named))
            for s in self.show(loaded, named, {}, places)
        ]

    def rows(self, number: int, loaded: LoadedBatch, measured: _Batch) -> list[_Row]:
        """One for each valid photo of the batch."""
        batch, targets = loaded.batch, loaded.compared
        assert targets is not None
        owner = photo_of_crop(batch, self.devices.local_count)
        counts = np.bincount(owner[owner >= 0], minlength=len(batch.full_rgb))
        of_row: dict[int, list[int]] = {}
        for place, row in enumerate(measured.truth.object_rows.tolist()):
            of_row.setdefault(row, []).append(place)
        sampled = measured.sampled
        of_samples = [] if sampled is None else color_choice.sample_rows(sampled, batch, self.devices)
        objects = targets.measured
        to_canvas = batch.full_rgb.shape[1] / np.sqrt(targets.size.prod(axis=1))
        return [
            _Row(
                number,
                loaded.names[i],
                int(counts[i]),
                {s: {m: float(v[i]) for m, v in of.items()} for s, of in measured.scores.items()},
                bool(targets.annotated[i]),
                objects[i].tolist() if i in of_row else [],
                (np.sqrt(objects[i][:, 2:].prod(axis=1)) * to_canvas[i]).tolist() if i in of_row else [],
                [
                    {s: {m: float(v[k]) for m, v in of.items()} for s, of in measured.object_scores.items()}
                    for k in of_row.get(i, [])
                ],
                *self._failures(loaded, targets, measured.failures, owner, i),
                float(measured.chroma[i]),
                {s: {m: float(v[i]) for m, v in of.items()} for s, of in measured.hinted.items()},
                of_samples[i] if of_samples else {},
            )
            for i in np.flatnonzero(batch.is_real).tolist()
        ]

    def _failures(
        self, loaded: LoadedBatch, targets: EvalTargets, found: failures.Measured | None, owner: np.ndarray, i: int
    ) -> tuple[dict[str, float], list[float]]:
        if found is None:
            return {}, []
        side = loaded.batch.full_rgb.shape[1]
        height, width = targets.size[i].tolist()
        annotated = failures.on_canvas(targets.objects[i], (height, width), side)
        boxes = failures.on_canvas(targets.crop_boxes[owner == i], (height, width), side)
        missed = {"missed": failures.missed_share(annotated, boxes, side)}
        return {m: float(v[i]) for m, v in found.measures.items()} | missed, found.descriptors[i].tolist()


def evaluate(
    evaluator: Evaluator,
    batches: Iterable[LoadedBatch],
    *,
    shown_photos: int = 0,
    progress: Callable[[int], object] = lambda photos: None,
) -> Results:
    """Measure every valid photo of the batches once.

    Args:
      evaluator: systems and metrics; made for one evaluation.
      batches: host batches with the ground truth (``eval_batches`` with ``compare_at``), laid out for the evaluator's
        devices; with several processes, each one's own part. All processes get the results of all photos; the
        pictures are the first process's.
      shown_photos: keep the pictures of this many photos, from the first.
      progress: called with the number of photos after each batch.

    Raises:
      UserError: there is not one valid photo, or predictions are of none of them.
    """
    devices, tally = evaluator.devices, evaluator.tally
    rows: list[_Row] = []
    shown: list[Shown] = []
    drawn: list[color_choice.SampledPhoto] = []
    for number, loaded in enumerate(batches):
        measured = evaluator.measure(loaded, number)
        valid = np.flatnonzero(loaded.batch.is_real)
        rows += evaluator.rows(number, loaded, measured)
        if len(shown) < shown_photos and devices.is_first:
            places = valid[: shown_photos - len(shown)]
            shown += evaluator.show(loaded, measured.pictures, measured.scores, places)
        if measured.sampled is not None and len(drawn) < SAMPLED_PHOTOS and devices.is_first:
            drawn += evaluator.show_samples(loaded, measured.sampled, valid[: SAMPLED_PHOTOS - len(drawn)])
        tally.dropped += loaded.dropped_crops
        tally.moved += loaded.moved_crops
        tally.crops.update(dict(loaded.crops_by_side))
        tally.skipped += len(loaded.skipped)
        tally.reduced += loaded.compared.reduced if loaded.compared is not None else 0
        progress(len(valid))
    by_side = {str(side): count for side, count in tally.crops.items()}
    counts = [tally.dropped, tally.skipped, tally.reduced, tally.resized, tally.missing, by_side, tally.moved]
    shares = devices.gather([rows, *counts])
    # Batch by batch, and in each the processes one after another: the order of one process alone.
    merged = sorted((_Row(*row) for share in shares for row in share[0]), key=lambda row: row.batch)
    if not merged:
        raise UserError("there is no photo to evaluate")
    names = [prediction.name for prediction in evaluator.predictions]
    missing = {name: sorted(m for share in shares for m in share[5].get(name, [])) for name in names}
    own = evaluator.predictors
    protocol = describe(evaluator.scorer, tuple(own.systems), own.controls, own.vivid_temperature, own.canvases)
    protocol["reduced_photos"] = sum(share[3] for share in shares)
    if by_side:
        each = [f"{sum(share[6].get(side, 0) for share in shares)} at {side}" for side in by_side]
        moved = f"{sum(share[7] for share in shares)} found no place at their own"
        protocol["crops_by_side"] = f"{', '.join(each)}; {moved}"
    protocol["resized_predictions"] = {name: sum(share[4].get(name, 0) for share in shares) for name in names}
    photos = [row.name for row in merged]
    for prediction in evaluator.predictions:
        prediction.check_fits(photos)
    protocol["unused_predictions"] = {p.name: p.left_over(photos) for p in evaluator.predictions}
    if evaluator.hint_points or evaluator.samples:
        protocol |= describe_choice(evaluator.hint_points, evaluator.samples)
    scores, truth = _scores(merged, evaluator)
    objects = _merged_objects(merged, list(scores))
    if evaluator.scorer.per_object:
        annotated = "the data set's annotated boxes"
        protocol["objects_measured"] = (
            annotated if objects.annotated else "the boxes in use: there are no annotated ones"
        )
    return Results(
        tuple(row.name for row in merged),
        np.array([row.boxes for row in merged]),
        scores,
        sum(share[1] for share in shares),
        sum(share[2] for share in shares),
        protocol,
        tuple(shown),
        truth,
        objects,
        missing,
        _distances(evaluator),
        _facets(merged),
        np.array([row.chroma for row in merged]),
        {**registry.builtin_columns(), **registry.columns(evaluator.scorer.choice.measured)},
        {
            s: {m: np.array([row.hinted[s][m] for row in merged]) for m in evaluator.scorer.choice.metrics}
            for s in merged[0].hinted
        },
        color_choice.merged(
            [row.sampled for row in merged], color_choice.best_of_metrics(evaluator.scorer), tuple(drawn)
        )
        if merged[0].sampled
        else None,
    )


def _facets(rows: Sequence[_Row]) -> dict[str, np.ndarray]:
    """What a photo has once: the share of it in boxes, and the failure finder's scores."""
    if not rows[0].failures:
        return {}
    measures = {m: np.array([row.failures[m] for row in rows]) for m in rows[0].failures}
    # Without any annotation nothing can be missed: the score would only say so.
    missed = measures["missed"] if any(row.annotated and row.objects for row in rows) else None
    found = failures.find(measures, np.array([row.descriptor for row in rows]), missed)
    return {"covered": measures["covered"], **found}


def _scores(
    rows: Sequence[_Row], evaluator: Evaluator
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Scores of every system, in the order of reading, and what was measured of the true photos."""
    order = (*OWN_SYSTEMS, *evaluator.predictors.systems, *(p.name for p in evaluator.predictions), *CONTROLS)
    scores = {
        system: {m: np.array([row.scores[system][m] for row in rows]) for m in evaluator.scorer.choice.metrics}
        for system in dict.fromkeys(order)  # in this order: jit sorts the keys
        if system in rows[0].scores
    }
    truth = {m: np.array([row.scores[TRUTH][m] for row in rows]) for m in evaluator.scorer.choice.of_truth}
    for of in scores.values():
        of |= {f"delta_{metric}": np.abs(of[metric] - values) for metric, values in truth.items()}
    return scores, truth


def _merged_objects(rows: Sequence[_Row], systems: Sequence[str]) -> Objects:
    """Annotated objects, where the data set has any; a photo without annotations then has no objects."""
    annotated = any(row.annotated for row in rows)
    found = [
        (i, *one)
        for i, row in enumerate(rows)
        if row.annotated or not annotated
        for one in zip(row.objects, row.object_sides, row.object_scores, strict=True)
    ]
    if not found:
        return NO_OBJECTS._replace(annotated=annotated)
    photo, boxes, sides, scores = zip(*found, strict=True)
    metrics = list(scores[0][systems[0]])
    measured = [s for s in (*SYSTEMS[:2], INSTANCE, *systems) if s in scores[0]]
    return Objects(
        np.array(photo),
        np.array(boxes, np.int32),
        {s: {m: np.array([of[s][m] for of in scores]) for m in metrics} for s in dict.fromkeys(measured)},
        np.array(sides),
        annotated,
    )


def _distances(evaluator: Evaluator) -> dict[str, float]:
    """FID of every system against the ground truth, over the photos of all processes."""
    found = {}
    for name, own in evaluator.tally.features.items():
        count, total, products = evaluator.devices.total((np.int64(own.count), own.total, own.products))
        found[name] = fid.Sums(int(count), total, products).statistics()
    truth = found.pop(TRUTH, evaluator.truth_statistics)
    evaluator.truth_statistics = truth
    return {} if truth is None else {name: fid.distance(one, truth) for name, one in found.items()}

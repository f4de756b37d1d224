"""What an evaluation found: values of every photo and system, and the means, intervals and differences over them."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from jaxcolor.evaluation.predictors import CONTROLS, SYSTEMS
from jaxcolor.evaluation.scorer import COLORFULNESS
from jaxcolor.evaluation.statistics import Mean, mean_over_objects, mean_over_photos
from jaxcolor.runtime.errors import UserError

DIFFERENCES = (("full", "gray"), ("fused", "full"), ("fused", "no_boxes"), ("fused", "other_crops"))
"""Compared with every other system, too: the last of ``SYSTEMS`` that there is."""

PSNR_CAP = 100.0
"""PSNR of a photo in means, dB, at most: an identical picture is infinitely good, its mean would say nothing else."""


class Record(NamedTuple):
    """One photo under one system."""

    name: str
    system: str
    boxes: int
    """How many boxes of the photo were in the batch."""
    metrics: dict[str, float]
    """NaN: not defined for this photo; infinity: nothing differs."""


class Shown(NamedTuple):
    """A photo for the contact sheet and the report."""

    name: str
    boxes: Int[np.ndarray, "N 4"]
    """x0, y0, width, height on the canvas."""
    panels: dict[str, UInt8[np.ndarray, "S S 3"]]
    """Pictures by system (and control), and ``truth``."""
    psnr: dict[str, float]
    """Whole picture, dB, by system (and control)."""


class Objects(NamedTuple):
    """Every annotated object by itself; K of all photos."""

    photo: Int[np.ndarray, " K"]
    """The photo, by its place among the results'."""
    boxes: Int[np.ndarray, "K 4"]
    """x0, y0, width, height in pixels of the comparison."""
    scores: dict[str, dict[str, np.ndarray]]
    """System or control -> metric -> (K,) float64."""


NO_OBJECTS = Objects(np.zeros(0, np.int64), np.zeros((0, 4), np.int32), {})


@dataclasses.dataclass(frozen=True)
class Results:
    """Everything that was measured; P photos in the order of the source.

    Attributes:
      names: of the photos.
      boxes: how many boxes of each photo were in its batch.
      scores: system or control -> metric -> one value a photo (float64; NaN: not defined; infinity: identical).
      dropped_crops: crops that did not fit ``max_crops_per_image``.
      skipped_photos: photos that could not be read (``bad_photos`` ``skip``).
      protocol: the choices behind the numbers, in words and numbers.
      pictures: the first few photos, to look at.
      truth: what is measured of the true photos, metric -> (P,).
      objects: annotated objects, each by itself.
      missing: system -> photos of which its folder held no picture.
      fid: system -> Frechet Inception distance.
      facets: what a photo has once, whatever the system -> (P,): ``covered``, the share of it in boxes, and the
        failure finder's scores (``failures.KINDS``).
    """

    names: tuple[str, ...]
    boxes: Int[np.ndarray, " P"]
    scores: dict[str, dict[str, np.ndarray]]
    dropped_crops: int
    skipped_photos: int
    protocol: dict[str, Any]
    pictures: tuple[Shown, ...]
    truth: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    objects: Objects = NO_OBJECTS
    missing: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    fid: dict[str, float] = dataclasses.field(default_factory=dict)
    facets: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics of photos, in the order of reading."""
        return tuple(next(iter(self.scores.values()), ()))

    @property
    def others(self) -> tuple[str, ...]:
        """Systems that are neither of ``SYSTEMS`` nor controls."""
        return tuple(s for s in self.scores if s not in (*SYSTEMS, *CONTROLS))

    @functools.cached_property
    def records(self) -> list[Record]:
        """One row per photo and system, photo by photo."""
        return [
            Record(name, system, int(self.boxes[i]), {m: float(v[i]) for m, v in scores.items()})
            for i, name in enumerate(self.names)
            for system, scores in self.scores.items()
        ]

    def _capped(self, system: str, metric: str) -> Float[np.ndarray, " P"]:
        values = self.scores[system][metric]
        return np.minimum(values, PSNR_CAP) if metric.startswith("psnr") else values

    def mean(self, system: str, metric: str) -> Mean:
        """Mean over the photos for which the metric is defined; a photo's PSNR counts 100 dB at most."""
        above: Bool[np.ndarray, " P"] = self.scores[system][metric] > PSNR_CAP
        return mean_over_photos(self._capped(system, metric))._replace(
            capped=int(above.sum()) if metric.startswith("psnr") else 0
        )

    def difference(self, better: str, worse: str, metric: str) -> Mean:
        """Mean of ``better`` - ``worse`` photo by photo, over the photos for which both are defined."""
        return mean_over_photos(self._capped(better, metric) - self._capped(worse, metric))

    def _object_values(self, system: str, metric: str) -> Float[np.ndarray, " K"]:
        values = self.objects.scores[system][metric]
        return np.minimum(values, PSNR_CAP) if metric.startswith("psnr") else values

    def object_mean(self, system: str, metric: str) -> Mean:
        """Mean over annotated objects, each counting once; the interval draws photos."""
        return mean_over_objects(self._object_values(system, metric), self.objects.photo)

    def object_difference(self, better: str, worse: str, metric: str) -> Mean:
        """Mean of ``better`` - ``worse`` object by object."""
        values = self._object_values(better, metric) - self._object_values(worse, metric)
        return mean_over_objects(values, self.objects.photo)

    def _pairs(self) -> list[tuple[str, str]]:
        best = next((s for s in reversed(SYSTEMS) if s in self.scores), None)
        pairs = [(b, w) for b, w in DIFFERENCES if b in self.scores and w in self.scores]
        return pairs + [(best, other) for other in self.others if best is not None]

    def _summary(self, system: str) -> dict[str, Any]:
        means = {metric: self.mean(system, metric) for metric in self.metrics}
        summary: dict[str, Any] = {
            **{metric: mean.value for metric, mean in means.items()},
            "interval_95": {metric: mean.interval for metric, mean in means.items()},
            "photos": {metric: mean.photos for metric, mean in means.items()},
            "psnr_capped": {metric: mean.capped for metric, mean in means.items() if metric.startswith("psnr")},
        }
        for metric in COLORFULNESS:
            if metric in means and metric in self.truth:
                there = ~np.isnan(self.scores[system][metric])
                of_truth = self.truth[metric][there].mean() if there.any() else math.nan
                own = means[metric].value
                summary[f"delta_of_mean_{metric}"] = None if own is None else abs(own - of_truth)
        if system in self.fid:
            summary["fid"] = self.fid[system]
        if system in self.objects.scores:
            of_objects = {m: self.object_mean(system, m) for m in self.objects.scores[system]}
            summary["per_object"] = {
                **{metric: mean.value for metric, mean in of_objects.items()},
                "interval_95": {metric: mean.interval for metric, mean in of_objects.items()},
                "objects": {metric: mean.photos for metric, mean in of_objects.items()},
            }
        return summary

    def _difference(self, better: str, worse: str) -> dict[str, Any]:
        def told(mean: Mean, counted: str) -> dict[str, Any]:
            return {"mean": mean.value, "interval_95": mean.interval, counted: mean.photos}

        found: dict[str, Any] = {m: told(self.difference(better, worse, m), "photos") for m in self.metrics}
        if self.objects.scores:
            metrics = next(iter(self.objects.scores.values()))
            found["per_object"] = {m: told(self.object_difference(better, worse, m), "objects") for m in metrics}
        return found

    def to_metrics(self) -> dict[str, Any]:
        """Plain JSON types, without NaN or infinity: what ``metrics.json`` holds.

        ``gray``, ``full``, ``fused`` (those that the weights allow) -> the metrics, and of each its ``interval_95``,
        the number of ``photos`` behind it and how many were ``psnr_capped``, ``per_object`` values where objects were
        annotated, ``fid`` and ``delta_of_mean_…`` where measured; ``others`` -> the same for every other system,
        ``controls`` -> for each control; ``differences`` -> ``<better>_minus_<worse>`` -> metric -> paired mean;
        ``truth`` -> means of the true photos.
        """
        systems = [system for system in SYSTEMS if system in self.scores]
        summaries = {system: self._summary(system) for system in self.scores}
        return strict(
            {
                **{system: summaries[system] for system in systems},
                "others": {system: summaries[system] for system in self.others},
                "controls": {control: summaries[control] for control in CONTROLS if control in self.scores},
                "differences": {f"{b}_minus_{w}": self._difference(b, w) for b, w in self._pairs()},
                "truth": {metric: mean_over_photos(values).value for metric, values in self.truth.items()},
                "photos": len(self.names),
                "photos_with_boxes": int((self.boxes > 0).sum()),
                "objects": len(self.objects.photo),
                "dropped_crops": self.dropped_crops,
                "skipped_photos": self.skipped_photos,
                "missing": self.missing,
                "protocol": self.protocol,
            }
        )

    def columns(self) -> dict[str, list[Any]]:
        """The records as columns, for tables of any kind: ``name``, ``system``, ``boxes`` and the metrics.

        Colourfulness of the truth comes as rows of a system ``truth`` of which nothing else is defined.
        """
        rows = [(r.name, r.system, r.boxes, r.metrics) for r in self.records]
        for i, name in enumerate(self.names if self.truth else ()):
            rows.append((name, "truth", int(self.boxes[i]), {m: float(v[i]) for m, v in self.truth.items()}))
        return {
            "name": [row[0] for row in rows],
            "system": [row[1] for row in rows],
            "boxes": [row[2] for row in rows],
            **{metric: [row[3].get(metric, math.nan) for row in rows] for metric in self.metrics},
        }

    def to_csv(self) -> str:
        """The columns as CSV text: empty where a metric is not defined, ``inf`` where nothing differs."""
        return _csv(self.columns())

    def objects_to_csv(self) -> str:
        """A row for each annotated object and system."""
        metrics = next(iter(self.objects.scores.values()), {})
        columns: dict[str, list[Any]] = {k: [] for k in ("name", "system", "x0", "y0", "width", "height", *metrics)}
        for system, scores in self.objects.scores.items():
            for k, photo in enumerate(self.objects.photo.tolist()):
                values = (self.names[photo], system, *self.objects.boxes[k].tolist(), *(scores[m][k] for m in metrics))
                for column, value in zip(columns.values(), values, strict=True):
                    column.append(value)
        return _csv(columns)

    def write_parquet(self, path: Path) -> None:
        """The columns as a Parquet file.

        Raises:
          UserError: pyarrow is not installed.
        """
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise UserError("Parquet files need pyarrow: pip install jaxcolor[parquet]") from error
        pyarrow.parquet.write_table(pyarrow.table(self.columns()), path)


def _csv(columns: Mapping[str, Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow(["" if v != v else f"{v:.6g}" if isinstance(v, float) else v for v in row])
    return text.getvalue()


def strict(value: Any) -> Any:
    """Nested values as plain JSON types; numbers that JSON does not know (NaN, infinity) become None."""
    if isinstance(value, Mapping):
        return {str(k): strict(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [strict(v) for v in value]
    if isinstance(value, np.generic):
        return strict(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flat_metrics(results: Results) -> dict[str, float]:
    """Means as ``<system>_<metric>``, those of the last system also as ``<metric>``; NaN where there is none."""
    systems = [system for system in SYSTEMS if system in results.scores]
    means = {f"{s}_{m}": results.mean(s, m).value for s in systems for m in results.metrics}
    named = {name: math.nan if value is None else value for name, value in means.items()}
    return {**named, **{m: named[f"{systems[-1]}_{m}"] for m in results.metrics}}

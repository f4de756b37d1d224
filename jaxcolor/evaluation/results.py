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

from jaxcolor.evaluation.color_choice import Diversity, hint_summary
from jaxcolor.evaluation.metrics.colors import COLORLESS_CHROMA
from jaxcolor.evaluation.metrics.metric import Column
from jaxcolor.evaluation.metrics.registry import builtin_columns
from jaxcolor.evaluation.objects import NO_OBJECTS, OBJECT_DIFFERENCES, Objects, ObjectSummary
from jaxcolor.evaluation.predictors import CONTROLS, OWN_SYSTEMS, SYSTEMS
from jaxcolor.evaluation.statistics import Mean, described, mean_over_photos
from jaxcolor.runtime.errors import UserError

DIFFERENCES = (
    ("full", "gray"),
    ("full_vivid", "full"),
    ("fused", "full"),
    ("fused_vivid", "fused"),
    ("full_canvases", "full"),
    ("fused_canvases", "fused"),
    ("fused", "no_boxes"),
    ("fused", "other_crops"),
)
"""And the last of ``SYSTEMS`` that there is minus every other system; of objects ``OBJECT_DIFFERENCES`` too."""

_SAME_WITHOUT_BOXES = frozenset({"full", "fused", "no_boxes", "other_crops"})
"""All are the full tree's output of a photo without boxes."""


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
      objects: each by itself: annotated ones, or those of the boxes that were used.
      missing: system -> photos of which its folder held no picture.
      fid: system -> Frechet Inception distance.
      facets: what a photo has once, whatever the system -> (P,): ``covered``, the share of it in boxes, and the
        failure finder's scores (``failures.KINDS``).
      chroma: mean chroma of the true photos, (P,); empty: not measured, and no photo is taken for colorless.
      metric_columns: metric -> how it is shown; those that were measured, and all built-in ones.
      hint_scores: ``full+10``, ``fused+10``, … -> metric -> (P,): with so many random points of true color.
      diversity: of the results that were drawn; None: none were.
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
    chroma: Float[np.ndarray, " C"] = dataclasses.field(default_factory=lambda: np.zeros(0))
    metric_columns: Mapping[str, Column] = dataclasses.field(default_factory=builtin_columns)
    hint_scores: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    diversity: Diversity | None = None

    @property
    def colorless(self) -> Bool[np.ndarray, " P"]:
        """The photos whose ground truth has no color (``metrics.colors.COLORLESS_CHROMA``)."""
        return self.chroma < COLORLESS_CHROMA if len(self.chroma) else np.zeros(len(self.names), bool)

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics of photos, in the order of reading."""
        return tuple(next(iter(self.scores.values()), ()))

    @property
    def others(self) -> tuple[str, ...]:
        """Systems that are neither of ``OWN_SYSTEMS`` nor controls."""
        return tuple(s for s in self.scores if s not in (*OWN_SYSTEMS, *CONTROLS))

    @functools.cached_property
    def records(self) -> list[Record]:
        """One row per photo and system, photo by photo."""
        return [
            Record(name, system, int(self.boxes[i]), {m: float(v[i]) for m, v in scores.items()})
            for i, name in enumerate(self.names)
            for system, scores in self.scores.items()
        ]

    def _cap(self, metric: str) -> float:
        column = self.metric_columns.get(metric)
        return math.inf if column is None or column.cap is None else column.cap

    def _capped(self, system: str, metric: str) -> Float[np.ndarray, " P"]:
        return np.minimum(self.scores[system][metric], self._cap(metric))

    def mean(self, system: str, metric: str) -> Mean:
        """Mean over the photos for which the metric is defined; a photo's PSNR counts 100 dB at most."""
        above: Bool[np.ndarray, " P"] = self.scores[system][metric] > self._cap(metric)
        return mean_over_photos(self._capped(system, metric))._replace(capped=int(above.sum()))

    def difference(self, better: str, worse: str, metric: str) -> Mean:
        """Mean of ``better`` - ``worse`` photo by photo, over the photos for which both are defined."""
        return mean_over_photos(self._capped(better, metric) - self._capped(worse, metric))

    @functools.cached_property
    def per_object(self) -> ObjectSummary:
        """Means and differences over objects."""
        return ObjectSummary(self.objects, self.metric_columns, self.colorless)

    def _pairs(self) -> list[tuple[str, str]]:
        best = next((s for s in reversed(SYSTEMS) if s in self.scores), None)
        pairs = [(b, w) for b, w in DIFFERENCES if b in self.scores and w in self.scores]
        if not (self.boxes > 0).any():  # a difference of 0 would look like one that was measured
            pairs = [pair for pair in pairs if not _SAME_WITHOUT_BOXES.issuperset(pair)]
        return pairs + [(best, other) for other in self.others if best is not None]

    def _summary(self, system: str) -> dict[str, Any]:
        means = {metric: self.mean(system, metric) for metric in self.metrics}
        values = {metric: self._capped(system, metric) for metric in self.metrics}
        capped = [m for m in self.metrics if math.isfinite(self._cap(m))]
        summary = described(means, values, self.colorless, "photos", capped)
        for metric, of_truth in self.truth.items():
            there = ~np.isnan(self.scores[system][metric])
            own = means[metric].value
            of_mean = of_truth[there].mean() if there.any() else math.nan
            summary[f"delta_of_mean_{metric}"] = None if own is None else abs(own - of_mean)
        if system in self.fid:
            summary["fid"] = self.fid[system]
        return summary | self.per_object.summary(system)

    def _difference(self, better: str, worse: str) -> dict[str, Any]:
        def described(mean: Mean, counted: str) -> dict[str, Any]:
            return {"mean": mean.value, "interval_95": mean.interval, counted: mean.photos}

        found: dict[str, Any] = {}
        if better in self.scores and worse in self.scores:
            found |= {m: described(self.difference(better, worse, m), "photos") for m in self.metrics}
        if self.objects.scores:
            found["per_object"] = self.per_object.paired(better, worse)
        return found

    def to_metrics(self) -> dict[str, Any]:
        """Plain JSON types, without NaN or infinity: what ``metrics.json`` holds.

        ``gray``, ``full``, ``fused`` and their ``…_vivid``, ``…_canvases`` (those that there are) -> the metrics, and
        of each its ``interval_95``, the number of ``photos`` behind it, how many were ``psnr_capped``, its mean
        ``without_colorless`` photos and its ``median``; ``per_object`` values where there are objects, with the same
        keys and ``by_size``; ``fid`` and ``delta_of_mean_…`` where measured. ``others`` -> the same for every
        other system, ``controls`` -> for each control; ``objects_only`` -> ``instance`` -> ``per_object``;
        ``objects_with_crop`` (``ObjectSummary.with_crop``);
        ``differences`` -> ``<better>_minus_<worse>`` -> metric -> paired mean; ``truth`` -> means of the true photos;
        ``columns`` -> how each metric is shown. Where they were measured: ``hint_curve`` -> system -> number of points
        -> metrics; ``diversity`` (``Diversity.summary``).
        """
        systems = [system for system in OWN_SYSTEMS if system in self.scores]
        caps = {metric: self._cap(metric) for metric in self.metrics}
        choice: dict[str, Any] = {"hint_curve": hint_summary(self.hint_scores, caps)} if self.hint_scores else {}
        choice |= {"diversity": self.diversity.summary(caps)} if self.diversity is not None else {}
        summaries = {system: self._summary(system) for system in self.scores}
        of_objects = self.objects.scores
        pairs = [*self._pairs(), *((b, w) for b, w in OBJECT_DIFFERENCES if b in of_objects and w in of_objects)]
        shown = {key for summary in summaries.values() for key in summary} & set(self.metric_columns)
        return strict(
            {
                **{system: summaries[system] for system in systems},
                "others": {system: summaries[system] for system in self.others},
                "controls": {control: summaries[control] for control in CONTROLS if control in self.scores},
                "objects_only": {s: self.per_object.summary(s) for s in of_objects if s not in self.scores},
                "differences": {f"{b}_minus_{w}": self._difference(b, w) for b, w in pairs},
                "truth": {metric: mean_over_photos(values).value for metric, values in self.truth.items()},
                "photos": len(self.names),
                "photos_with_boxes": int((self.boxes > 0).sum()),
                "colorless_photos": int(self.colorless.sum()),
                "objects": len(self.objects.photo),
                "objects_annotated": self.objects.annotated,
                "objects_by_size": self.per_object.counts(),
                "objects_with_crop": self.per_object.with_crop(),
                "dropped_crops": self.dropped_crops,
                "skipped_photos": self.skipped_photos,
                "missing": self.missing,
                "columns": {key: c._asdict() for key, c in self.metric_columns.items() if key in shown},
                "protocol": self.protocol,
                **choice,
            }
        )

    def columns(self) -> dict[str, list[Any]]:
        """The records as columns, for tables of any kind: ``name``, ``system``, ``boxes`` and the metrics.

        What is measured of the true photos comes as rows of a system ``truth`` of which nothing else is defined.
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
        """A row for each object and system (``Objects.csv_columns``)."""
        return _csv(self.objects.csv_columns(self.names))

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
        writer.writerow(["" if v != v else f"{v:.6g}" if isinstance(v, float) else _plain_cell(v) for v in row])
    return text.getvalue()


def _plain_cell(value: Any) -> Any:
    """A cell; a text that spreadsheets would run as a formula is given their mark of plain text, an apostrophe."""
    if not isinstance(value, str):
        return value
    return writable(f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value)


def writable(text: str) -> str:
    """A text that UTF-8 can hold: bytes of file names that are not UTF-8 are escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def strict(value: Any) -> Any:
    """Nested values as plain JSON types; numbers that JSON does not know (NaN, infinity) become None."""
    if isinstance(value, str):
        return writable(value)
    if isinstance(value, Mapping):
        return {writable(str(k)): strict(v) for k, v in value.items()}
    if isinstance(value, Sequence):
        return [strict(v) for v in value]
    if isinstance(value, np.generic):
        return strict(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flat_metrics(results: Results) -> dict[str, float]:
    """Means as ``<system>_<metric>``, those of the last of ``SYSTEMS`` also as ``<metric>``; NaN: none."""
    systems = [system for system in SYSTEMS if system in results.scores]
    own = [system for system in OWN_SYSTEMS if system in results.scores]
    means = {f"{s}_{m}": results.mean(s, m).value for s in own for m in results.metrics}
    named = {name: math.nan if value is None else value for name, value in means.items()}
    return {**named, **{m: named[f"{systems[-1]}_{m}"] for m in results.metrics}}

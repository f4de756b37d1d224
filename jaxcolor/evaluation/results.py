"""What an evaluation found: one row per photo and system, and the means, intervals and differences over photos."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

METRICS = ("psnr", "ssim", "psnr_objects", "ssim_objects", "psnr_background", "ssim_background")
"""Of the whole picture, inside the union of the photo's boxes, and outside it."""

SYSTEMS = ("gray", "full", "fused")
"""ab = 0; the full-image network alone; the dual-branch model (the full tree where a photo has no boxes)."""
CONTROLS = ("no_boxes", "other_crops")
"""The dual-branch model with all crops taken away, and with another photo's crops in their place."""

DIFFERENCES = (("full", "gray"), ("fused", "full"), ("fused", "no_boxes"), ("fused", "other_crops"))

PSNR_CAP = 100.0
"""PSNR of a photo in means, dB, at most: an identical picture is infinitely good, its mean would say nothing else."""

RESAMPLES = 1000
BOOTSTRAP_SEED = 0


class Record(NamedTuple):
    """One photo under one system."""

    name: str
    system: str
    boxes: int
    """How many boxes of the photo were in the batch."""
    metrics: dict[str, float]
    """NaN: not defined for this photo; infinity: nothing differs."""


class Mean(NamedTuple):
    """A mean over photos."""

    value: float | None
    """None if it is defined for no photo."""
    interval: tuple[float, float] | None
    """95% bootstrap interval over photos; None for fewer than 2."""
    photos: int
    """For how many photos it is defined."""
    capped: int
    """How many of them stood above ``PSNR_CAP``."""


class Shown(NamedTuple):
    """A photo for the contact sheet and the report."""

    name: str
    boxes: Int[np.ndarray, "N 4"]
    """x0, y0, width, height on the canvas."""
    panels: dict[str, UInt8[np.ndarray, "S S 3"]]
    """Pictures by system (and control), and ``truth``."""
    psnr: dict[str, float]
    """Whole picture, dB, by system (and control)."""


def mean_over_photos(values: Float[np.ndarray, " P"]) -> Mean:
    """Mean of finite values with its 95% percentile bootstrap interval; NaN are left out, see ``Mean.photos``."""
    kept = values[~np.isnan(values)].astype(np.float64)
    if not len(kept):
        return Mean(None, None, 0, 0)
    if len(kept) == 1:
        return Mean(float(kept[0]), None, 1, 0)
    # The same draws for every metric of as many photos; one row at a time, for sources of any length.
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    means = [kept[rng.integers(len(kept), size=len(kept))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Mean(float(kept.mean()), (float(low), float(high)), len(kept), 0)


@dataclasses.dataclass(frozen=True)
class Results:
    """Everything that was measured; P photos in the order of the source.

    Attributes:
      names: of the photos.
      boxes: how many boxes of each photo were in its batch.
      scores: system or control -> metric -> one value a photo (float64; NaN: not defined; infinity: identical).
      dropped_crops: crops that did not fit ``budget_per_image``.
      skipped_photos: photos that could not be read (``bad_photos`` ``skip``).
      protocol: the choices behind the numbers, in words and numbers.
      pictures: the first few photos, to look at.
    """

    names: tuple[str, ...]
    boxes: Int[np.ndarray, " P"]
    scores: dict[str, dict[str, np.ndarray]]
    dropped_crops: int
    skipped_photos: int
    protocol: dict[str, Any]
    pictures: tuple[Shown, ...]

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

    def _summary(self, system: str) -> dict[str, Any]:
        means = {metric: self.mean(system, metric) for metric in METRICS}
        return {
            **{metric: mean.value for metric, mean in means.items()},
            "interval_95": {metric: mean.interval for metric, mean in means.items()},
            "photos": {metric: mean.photos for metric, mean in means.items()},
            "psnr_capped": {metric: mean.capped for metric, mean in means.items() if metric.startswith("psnr")},
        }

    def to_metrics(self) -> dict[str, Any]:
        """Plain JSON types, without NaN or infinity: what ``metrics.json`` holds.

        ``gray``, ``full``, ``fused`` (those that the weights allow) -> the six metrics, and of each its
        ``interval_95``, the number of ``photos`` behind it and how many were ``psnr_capped``; ``controls`` -> the
        same for each control; ``differences`` -> ``<better>_minus_<worse>`` -> metric -> paired mean.
        """
        differences = {
            f"{better}_minus_{worse}": {
                metric: {"mean": mean.value, "interval_95": mean.interval, "photos": mean.photos}
                for metric in METRICS
                for mean in [self.difference(better, worse, metric)]
            }
            for better, worse in DIFFERENCES
            if better in self.scores and worse in self.scores
        }
        return strict(
            {
                **{system: self._summary(system) for system in SYSTEMS if system in self.scores},
                "controls": {control: self._summary(control) for control in CONTROLS if control in self.scores},
                "differences": differences,
                "photos": len(self.names),
                "photos_with_boxes": int((self.boxes > 0).sum()),
                "dropped_crops": self.dropped_crops,
                "skipped_photos": self.skipped_photos,
                "protocol": self.protocol,
            }
        )

    def to_csv(self) -> str:
        """The records as CSV text: empty where a metric is not defined, ``inf`` where nothing differs."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["name", "system", "boxes", *METRICS])
        for record in self.records:
            values = [record.metrics[m] for m in METRICS]
            writer.writerow(
                [record.name, record.system, record.boxes, *("" if math.isnan(v) else f"{v:.6g}" for v in values)]
            )
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
    means = {f"{s}_{m}": results.mean(s, m).value for s in systems for m in METRICS}
    named = {name: math.nan if value is None else value for name, value in means.items()}
    return {**named, **{m: named[f"{systems[-1]}_{m}"] for m in METRICS}}

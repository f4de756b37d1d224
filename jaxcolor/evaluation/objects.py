"""Objects by themselves: means and differences over all of them, by size, and over those that a crop shows."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxcolor.evaluation.metrics.metric import Column
from jaxcolor.evaluation.predictors import INSTANCE
from jaxcolor.evaluation.statistics import Mean, described, mean_over_objects, plain_mean

OBJECT_DIFFERENCES = ((INSTANCE, "full"), ("fused", INSTANCE))
"""Of objects alone."""
WITH_CROP_DIFFERENCES = (
    (INSTANCE, "full"),
    ("fused", "full"),
    ("fused", INSTANCE),
    ("fused", "no_boxes"),
    ("fused", "other_crops"),
)
"""Over the objects that a crop shows."""
BETTER = "better_of_both"
"""For each object and metric the better of ``full`` and ``instance``: what a perfect choice between them gives."""

SIZE_CLASSES = {
    "below 16": (0, 16),
    "16 to 32": (16, 32),
    "32 to 64": (32, 64),
    "64 to 128": (64, 128),
    "128 and above": (128, math.inf),
}
"""Title -> least side, and the one that it stays below: geometric mean of a box's sides on the model's canvas."""


class Objects(NamedTuple):
    """Every object by itself; K of all photos."""

    photo: Int[np.ndarray, " K"]
    """The photo, by its place among the results'."""
    boxes: Int[np.ndarray, "K 4"]
    """x0, y0, width, height in pixels of the comparison."""
    scores: dict[str, dict[str, np.ndarray]]
    """System, control or ``instance`` -> metric -> (K,) float64; NaN for what is not defined."""
    sides: Float[np.ndarray, " K"] = np.zeros(0)
    """Geometric mean of the sides on the model's canvas, pixels; empty: not known."""
    annotated: bool = True
    """Whether these are annotated boxes; else the boxes that were used, as the data set has no annotations."""

    @property
    def size_classes(self) -> dict[str, Bool[np.ndarray, " K"]]:
        """Title -> its objects, of the ``SIZE_CLASSES`` that have any."""
        found = {title: (self.sides >= low) & (self.sides < high) for title, (low, high) in SIZE_CLASSES.items()}
        return {title: among for title, among in found.items() if among.any()}

    @property
    def with_crop(self) -> Bool[np.ndarray, " K"]:
        """The objects of which the instance network says something, because a crop shows them."""
        alone = self.scores.get(INSTANCE)
        return np.zeros(len(self.photo), bool) if alone is None else ~np.isnan(alone["psnr"])

    def csv_columns(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """A row for each system and object; ``side`` and ``size`` as on the model's canvas.

        Args:
          names: of the photos.
        """
        count = len(self.photo)
        size = np.full(count, "", object)
        for title, among in self.size_classes.items():
            size[among] = title
        shared = {
            "name": [names[photo] for photo in self.photo.tolist()],
            **dict(zip(("x0", "y0", "width", "height"), self.boxes.T.tolist(), strict=True)),
            "side": (self.sides if len(self.sides) else np.full(count, np.nan)).tolist(),
            "size": size.tolist(),
        }
        metrics = next(iter(self.scores.values()), {})
        repeated = {key: values * len(self.scores) for key, values in shared.items()}
        return {
            "name": repeated.pop("name"),
            "system": [system for system in self.scores for _ in range(count)],
            **repeated,
            **{m: [value for of in self.scores.values() for value in of[m].tolist()] for m in metrics},
        }


NO_OBJECTS = Objects(np.zeros(0, np.int64), np.zeros((0, 4), np.int32), {})


@dataclasses.dataclass(frozen=True)
class ObjectSummary:
    """What ``metrics.json`` says of objects: each counts once, intervals draw whole photos.

    Attributes:
      objects: what was measured.
      columns: metric -> its cap and which values are better.
      colorless: the photos without color, (P,).
    """

    objects: Objects
    columns: Mapping[str, Column]
    colorless: Bool[np.ndarray, " P"]

    @functools.cached_property
    def _classes(self) -> dict[str, Bool[np.ndarray, " K"]]:
        return self.objects.size_classes

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics of objects, in the order of reading."""
        return tuple(next(iter(self.objects.scores.values()), ()))

    def _cap(self, metric: str) -> float:
        column = self.columns.get(metric)
        return math.inf if column is None or column.cap is None else column.cap

    def values(self, system: str, metric: str) -> Float[np.ndarray, " K"]:
        """Of every object, at most the metric's cap; of ``BETTER`` NaN where a metric knows no better."""
        if system != BETTER:
            return np.minimum(self.objects.scores[system][metric], self._cap(metric))
        direction = self.columns[metric].direction if metric in self.columns else "neither"
        both = [self.values(one, metric) for one in ("full", INSTANCE)]
        if direction == "neither":
            return np.full(len(both[0]), np.nan)
        return np.maximum(*both) if direction == "higher" else np.minimum(*both)

    def mean(self, system: str, metric: str) -> Mean:
        """Mean over all objects for which the metric is defined."""
        above = self.objects.scores[system][metric] > self._cap(metric)
        found = mean_over_objects(self.values(system, metric), self.objects.photo)
        return found._replace(capped=int(above.sum()))

    def difference(self, better: str, worse: str, metric: str, among: Any = slice(None)) -> Mean:
        """Mean of ``better`` - ``worse`` object by object; ``among``: a mask of the objects that count."""
        values = self.values(better, metric) - self.values(worse, metric)
        return mean_over_objects(values[among], self.objects.photo[among])

    def counts(self, among: Any = slice(None)) -> dict[str, int]:
        """Size class -> how many of the objects that ``among`` marks."""
        found = {title: int(of_class[among].sum()) for title, of_class in self._classes.items()}
        return {title: count for title, count in found.items() if count}

    def summary(self, system: str) -> dict[str, Any]:
        """``per_object`` of a system: means with intervals, counts, medians, and the means of each size class."""
        if system not in self.objects.scores:
            return {}
        metrics = self.metrics
        values = {m: self.values(system, m) for m in metrics}
        means = {m: self.mean(system, m) for m in metrics}
        capped = [m for m in metrics if math.isfinite(self._cap(m))]
        summary = described(means, values, self.colorless[self.objects.photo], "objects", capped)
        summary["by_size"] = {
            title: {
                **{m: plain_mean(v[among]) for m, v in values.items()},
                "objects": {m: int((~np.isnan(v[among])).sum()) for m, v in values.items()},
            }
            for title, among in self._classes.items()
        }
        return {"per_object": summary}

    def paired(self, better: str, worse: str, among: Bool[np.ndarray, " K"] | None = None) -> dict[str, Any]:
        """Metric -> mean of ``better`` - ``worse`` with its interval and count; ``by_size`` the same for each class.

        Args:
          better: a system.
          worse: another.
          among: the objects that count; None: all.
        """
        counted = np.ones(len(self.objects.photo), bool) if among is None else among

        def of_objects(mask: Bool[np.ndarray, " K"]) -> dict[str, Any]:
            found = {m: self.difference(better, worse, m, mask) for m in self.metrics}
            return {
                m: {"mean": mean.value, "interval_95": mean.interval, "objects": mean.photos}
                for m, mean in found.items()
            }

        classes = {title: of_class & counted for title, of_class in self._classes.items()}
        by_size = {title: of_objects(mask) for title, mask in classes.items() if among is None or mask.any()}
        return {**of_objects(counted), "by_size": by_size}

    def with_crop(self) -> dict[str, Any]:
        """All systems over the same objects, those that a crop shows: ``objects_with_crop``; empty where none is.

        ``objects`` and ``objects_by_size``: how many; ``systems`` -> system, also ``instance`` and ``better_of_both``
        (``BETTER``) -> metric -> mean, and ``by_size``; ``differences`` as those of all objects.
        """
        shown, there = self.objects.with_crop, self.objects.scores
        if not shown.any():
            return {}

        def means(system: str, mask: Bool[np.ndarray, " K"]) -> dict[str, Any]:
            return {m: plain_mean(self.values(system, m)[mask]) for m in self.metrics}

        counts = self.counts(shown)
        order = [s for system in there for s in ((system, BETTER) if system == INSTANCE else (system,))]
        return {
            "objects": int(shown.sum()),
            "objects_by_size": counts,
            "systems": {
                s: {**means(s, shown), "by_size": {title: means(s, self._classes[title] & shown) for title in counts}}
                for s in order
                if s != BETTER or "full" in there
            },
            "differences": {
                f"{b}_minus_{w}": self.paired(b, w, shown)
                for b, w in WITH_CROP_DIFFERENCES
                if b in there and w in there
            },
        }

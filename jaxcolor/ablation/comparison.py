"""Variants against a baseline: means over photos and seeds, and differences with paired bootstrap intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from jaxcolor.ablation.outcome import AblationError, Cost, Outcome
from jaxcolor.evaluation.metrics.psnr import PSNR_CAP
from jaxcolor.evaluation.results import strict
from jaxcolor.evaluation.statistics import BOOTSTRAP_SEED, RESAMPLES

SYSTEM = "fused"
"""The system that is compared: the dual-branch model (the full tree where a photo has no boxes)."""


class Difference(NamedTuple):
    """Variant minus baseline."""

    value: float | None
    """Mean over seeds and photos; None if it is defined for none."""
    interval: tuple[float, float] | None
    """95% percentile bootstrap interval over seeds and photos; None for fewer than 2 photos."""
    photos: int
    """For how many it is defined."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A variant in the table."""

    name: str
    runs: int
    """How often it was run; the variants that train nothing, once."""
    means: Mapping[str, float | None]
    """Metric -> mean over runs and photos."""
    differences: Mapping[str, Difference]
    """Metric -> against the baseline; empty for the baseline itself."""
    cost: Cost
    """Seconds are the mean over runs."""
    weights_of: str
    per_run: Mapping[str, Sequence[float | None]]
    """Metric -> mean over photos of each run."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All of an ablation."""

    name: str
    baseline: str
    photos: int
    metrics: tuple[str, ...]
    """All that every variant was measured by."""
    shown: tuple[str, ...]
    """Those of the table."""
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    """Metrics that some variant was not measured by, or that the table was to show and nobody measured."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, without NaN or infinity."""
        values = dataclasses.asdict(self)
        for row, own in zip(values["rows"], self.rows, strict=True):
            row["differences"] = {metric: d._asdict() for metric, d in own.differences.items()}
        return strict({**values, "system": SYSTEM, "resamples": RESAMPLES})


def compare_variants(
    name: str, baseline: str, outcomes: Mapping[str, Sequence[Outcome]], shown: Sequence[str] = ()
) -> Comparison:
    """The table of an ablation.

    Args:
      name: of the ablation.
      baseline: the variant that the others are compared with.
      outcomes: variant -> its runs, one a seed, or a single one that stands for all.
      shown: metrics of the table; empty: all that there are.

    Raises:
      AblationError: runs on different photos, or one without the system that is compared.
    """
    photos = outcomes[baseline][0].names
    for variant, runs in outcomes.items():
        for run in runs:
            if run.names != photos:
                raise AblationError(
                    f"variant {variant}: measured on other photos ({len(run.names)}) than {baseline} ({len(photos)}); "
                    "eval.data of all variants must name the same ones"
                )
            if SYSTEM not in run.scores:
                raise AblationError(f"variant {variant}: no scores of the system {SYSTEM!r}")
    measured = [set(run.scores[SYSTEM]) for runs in outcomes.values() for run in runs]
    every = dict.fromkeys(metric for runs in outcomes.values() for run in runs for metric in run.scores[SYSTEM])
    metrics = tuple(metric for metric in every if all(metric in of for of in measured))
    tables = {
        variant: {metric: np.stack([_capped(metric, run.scores[SYSTEM][metric]) for run in runs]) for metric in metrics}
        for variant, runs in outcomes.items()
    }
    rows = [_row(v, runs, tables[v], None if v == baseline else tables[baseline]) for v, runs in outcomes.items()]
    chosen = tuple(metric for metric in shown or metrics if metric in metrics)
    left_out = tuple(metric for metric in dict.fromkeys((*every, *shown)) if metric not in metrics)
    return Comparison(name, baseline, len(photos), metrics, chosen, tuple(rows), left_out)


def _row(
    name: str, runs: Sequence[Outcome], own: Mapping[str, np.ndarray], baseline: Mapping[str, np.ndarray] | None
) -> Row:
    seconds = float(np.mean([run.cost.train_seconds for run in runs]))  # all else is the same in every run
    return Row(
        name,
        len(runs),
        {metric: _mean(values) for metric, values in own.items()},
        {metric: paired_difference(own[metric], values) for metric, values in (baseline or {}).items()},
        dataclasses.replace(runs[0].cost, train_seconds=seconds),
        runs[0].weights_of,
        {metric: [_mean(run) for run in values] for metric, values in own.items()},
    )


def _capped(metric: str, values: np.ndarray) -> np.ndarray:
    return np.minimum(values, PSNR_CAP) if metric.startswith("psnr") else values


def _mean(values: np.ndarray) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmean(values))


def paired_difference(variant: Float64[np.ndarray, "K P"], baseline: Float64[np.ndarray, "J P"]) -> Difference:
    """Mean of variant - baseline over seeds and photos, and its 95% percentile bootstrap interval.

    Photos are paired, and so are seeds: the k-th run of both saw the same photos in the same order. A resample draws
    as many photos and as many seeds as there are, each with replacement. What was run once stands for every seed.

    Args:
      variant: scores by seed and photo; NaN where not defined.
      baseline: likewise; as many seeds, or one of both has a single one.
    """
    difference = variant - baseline
    difference = difference[:, ~np.isnan(difference).all(axis=0)]
    seeds, photos = difference.shape
    if not photos:
        return Difference(None, None, 0)
    known = ~np.isnan(difference)
    values = np.where(known, difference, 0.0)
    value = float(values.sum() / known.sum())
    if photos < 2:
        return Difference(value, None, photos)
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    means = []
    for _ in range(RESAMPLES):
        times = np.bincount(rng.integers(seeds, size=seeds), minlength=seeds).astype(np.float64)
        drawn = rng.integers(photos, size=photos)
        count = (times @ known)[drawn].sum()
        if count:
            means.append((times @ values)[drawn].sum() / count)
    low, high = np.percentile(means, [2.5, 97.5])
    return Difference(value, (float(low), float(high)), photos)

"""Means and how sure they are: percentile bootstrap over photos, with a fixed seed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

RESAMPLES = 1000
BOOTSTRAP_SEED = 0


class Mean(NamedTuple):
    """A mean over photos, or over the objects of photos."""

    value: float | None
    """None if it is defined for none."""
    interval: tuple[float, float] | None
    """95% bootstrap interval over photos; None for fewer than 2."""
    photos: int
    """For how many photos (of objects: for how many objects) it is defined."""
    capped: int
    """How many of them stood above the metric's cap (``metrics.Metric.cap``)."""


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


def mean_over_objects(values: Float[np.ndarray, " K"], photo: Int[np.ndarray, " K"]) -> Mean:
    """Mean over objects; whole photos are drawn for its interval, since objects of one photo are no separate chances.

    Args:
      values: one an object; NaN are left out.
      photo: the photo that each belongs to.
    """
    there = ~np.isnan(values)
    kept = values[there].astype(np.float64)
    if not len(kept):
        return Mean(None, None, 0, 0)
    _, group = np.unique(photo[there], return_inverse=True)
    sums, counts = np.bincount(group, kept), np.bincount(group)
    if len(counts) == 1:
        return Mean(float(kept.mean()), None, len(kept), 0)
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    draws = (rng.integers(len(counts), size=len(counts)) for _ in range(RESAMPLES))
    low, high = np.percentile([sums[drawn].sum() / counts[drawn].sum() for drawn in draws], [2.5, 97.5])
    return Mean(float(kept.mean()), (float(low), float(high)), len(kept), 0)


def median(values: Float[np.ndarray, " N"]) -> float | None:
    """Median of what is not NaN; None where nothing is left."""
    kept = values[~np.isnan(values)]
    return float(np.median(kept)) if len(kept) else None


def plain_mean(values: Float[np.ndarray, " N"]) -> float | None:
    """Mean of what is not NaN; None where nothing is left."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else None


def described(
    means: Mapping[str, Mean],
    values: Mapping[str, Float[np.ndarray, " N"]],
    colorless: Bool[np.ndarray, " N"],
    counted: str,
    capped: Collection[str],
) -> dict[str, Any]:
    """Means and what a mean may hide: how sure it is, colorless photos, the median, capped values.

    Args:
      means: of each metric.
      values: that they are the means of.
      colorless: values of photos without color.
      counted: key of the numbers of values.
      capped: metrics whose values are capped.
    """
    return {
        **{metric: mean.value for metric, mean in means.items()},
        "interval_95": {metric: mean.interval for metric, mean in means.items()},
        counted: {metric: mean.photos for metric, mean in means.items()},
        "psnr_capped": {metric: mean.capped for metric, mean in means.items() if metric in capped},
        "without_colorless": {metric: plain_mean(v[~colorless]) for metric, v in values.items()},
        "median": {metric: median(v) for metric, v in values.items()},
    }

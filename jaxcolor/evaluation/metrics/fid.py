"""Frechet Inception Distance (Heusel et al. 2017): from features to statistics to one number, in float64 on the host.

Sums can be added up batch by batch and process by process; what they give does not depend on how photos were dealt out,
but for the last bits. FID has a bias that falls with the number of photos: compare it only between sets of equal size,
and with fewer than some thousands of photos not at all with published numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxcolor.runtime.atomic import atomic_write
from jaxcolor.runtime.errors import UserError, one_line
from jaxcolor.runtime.regular_file import DAMAGED, open_regular

FORMAT = 1
"""Version of the files; a file of another one is refused."""


class StatisticsError(UserError):
    """Statistics that cannot be used: too few photos, features that are no numbers, or a file that is damaged."""


@dataclass(frozen=True)
class Statistics:
    """Mean and covariance (over N - 1) of the features of some photos."""

    count: int
    mean: Float[np.ndarray, " D"]
    covariance: Float[np.ndarray, "D D"]


@dataclass(frozen=True)
class Sums:
    """What is added up over photos, float64."""

    count: int
    total: Float[np.ndarray, " D"]
    """Sum of the features."""
    products: Float[np.ndarray, "D D"]
    """Sum of their outer products. Those of float32 features are exact: rounding begins with the sums."""

    def statistics(self) -> Statistics:
        """Mean and covariance of all photos so far.

        Raises:
          StatisticsError: fewer than two photos.
        """
        if self.count < 2:
            raise StatisticsError(f"FID needs at least 2 photos in each set, not {self.count}")
        mean = self.total / self.count
        return Statistics(self.count, mean, (self.products - np.outer(self.total, mean)) / (self.count - 1))


def no_photos(width: int) -> Sums:
    """The sums to begin with, for features of that width."""
    return Sums(0, np.zeros(width), np.zeros((width, width)))


def add(sums: Sums, features: Float[np.ndarray, "B D"]) -> Sums:
    """The sums with one more batch; rows that stand for no photo must have been taken out.

    Raises:
      StatisticsError: features that are NaN or infinite.
    """
    wide = features.astype(np.float64)
    if not np.isfinite(wide).all():
        raise StatisticsError("features of FID that are NaN or infinite: a photo without pixels, or damaged weights")
    return Sums(sums.count + len(wide), sums.total + wide.sum(axis=0), sums.products + wide.T @ wide)


def distance(first: Statistics, second: Statistics) -> float:
    """``|m1 - m2|^2 + trace(C1 + C2 - 2 sqrt(C1 C2))``, at least 0.

    The trace of sqrt(C1 C2) is the sum of the singular values of sqrt(C1) sqrt(C2): the square roots are of symmetric
    matrices, which always have them, so sets smaller than the features are wide need no epsilon and nothing complex
    comes out, as it can from ``scipy.linalg.sqrtm(C1 @ C2)``.

    Raises:
      ValueError: features of different widths.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"features of different widths: {first.mean.size} and {second.mean.size}")
    root = np.linalg.svd(_square_root(first.covariance) @ _square_root(second.covariance), compute_uv=False).sum()
    traces = np.trace(first.covariance) + np.trace(second.covariance)
    return max(float(np.square(first.mean - second.mean).sum() + traces - 2 * root), 0.0)


def _square_root(covariance: Float[np.ndarray, "D D"]) -> Float[np.ndarray, "D D"]:
    """The symmetric square root."""
    values, vectors = np.linalg.eigh(covariance)
    # Rounding turns eigenvalues of 0 into some 1e-16 of the largest, whose roots would be 1e-8 of its root.
    values = np.where(values > len(values) * np.finfo(np.float64).eps * values.max(), values, 0)
    return (vectors * np.sqrt(values)) @ vectors.T


def save(path: Path, statistics: Statistics, source: Mapping[str, Any]) -> None:
    """Write statistics as ``.npz`` (``mu`` and ``sigma`` as pytorch-fid names them), whole or not at all.

    Args:
      path: the file; its folder must exist.
      statistics: what to keep.
      source: what they were computed from, as JSON can hold it: photos, their preparation, weights.

    Raises:
      OSError: the file cannot be written.
    """
    about = json.dumps({"format": FORMAT, **source}, sort_keys=True)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, mu=statistics.mean, sigma=statistics.covariance, count=statistics.count, source=about)


def load(path: Path) -> tuple[Statistics, dict[str, Any]]:
    """Statistics and the source that they were saved with.

    Raises:
      OSError: no such file, or it cannot be read.
      StatisticsError: it is damaged or of another form; one line that names it.
    """
    try:
        with open_regular(path) as file, np.load(file, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["source"]))
            count, mean, covariance = int(arrays["count"]), arrays["mu"], arrays["sigma"]
        version = about.pop("format")
    except DAMAGED as error:
        raise StatisticsError(f"{path}: damaged or not statistics of FID ({one_line(error)})") from error
    if version != FORMAT:
        raise StatisticsError(f"{path}: format {version}, this version reads {FORMAT}; remove it")
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise StatisticsError(f"{path}: mu is {mean.shape} and sigma {covariance.shape}")
    if mean.dtype != np.float64 or covariance.dtype != np.float64:
        raise StatisticsError(f"{path}: mu is {mean.dtype} and sigma {covariance.dtype}, expected float64")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise StatisticsError(f"{path}: holds NaN or infinity")
    return Statistics(count, mean, covariance), about


def cache_file(folder: Path, source: Mapping[str, Any]) -> Path:
    """Where statistics of a source are kept."""
    digest = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()
    return folder / f"fid-{digest[:16]}.npz"


def cached(folder: Path, source: Mapping[str, Any], compute: Callable[[], Statistics]) -> Statistics:
    """Statistics of a source, computed once and then read from ``folder``, which is made if need be.

    Args:
      folder: of the files; one for each source.
      source: everything that the statistics depend on, as JSON can hold it. Other values, other statistics.
      compute: called when there is no file yet.

    Raises:
      OSError: a file cannot be read or written.
      StatisticsError: the file is damaged, or its statistics are of another source.
    """
    path = cache_file(folder, source)
    if path.exists():
        found, about = load(path)
        if about != json.loads(json.dumps(source)):
            raise StatisticsError(f"{path}: holds statistics of another source, {json.dumps(about)[:200]}; remove it")
        return found
    folder.mkdir(parents=True, exist_ok=True)
    found = compute()
    save(path, found, source)
    return found

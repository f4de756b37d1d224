"""How right alternatives are: best of k samples, coverage by palettes, calibration.

NumPy on the host, over any number of photos and objects. Samples lie on a leading axis K, pictures on B, objects on N;
ab is normalized, distances on the ab plane are in units of ab*.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from jaxcolor import color
from jaxcolor.color import AB_SCALE
from jaxcolor.models.outputs import ab_distribution

COVERAGE_DISTANCE = ab_distribution.MODE_DISTANCE / 2
"""A palette covers a truth that is as near as this to one of its colors, in units of ab*: 15. Half the least distance
of two colors, so that hardly ever two cover the same truth; one and a half bins, so that the grid is no obstacle."""
RELIABILITY_BINS = 10


class Reliability(NamedTuple):
    """How often, or to which share, what was given a probability happens, by probability."""

    edges: Float[np.ndarray, " bins+1"]
    """Of the bins, equally wide from 0 to 1; a probability on an edge is in the bin above it."""
    counts: Int[np.ndarray, " bins"]
    """How many events are in each."""
    probability: Float[np.ndarray, " bins"]
    """Mean of those in the bin; NaN in an empty one."""
    frequency: Float[np.ndarray, " bins"]
    """Mean outcome; NaN in an empty one."""
    expected_error: float
    """Expected calibration error: mean over all events of |frequency - probability| of their bin; NaN without any."""


def psnr(
    samples: Num[np.ndarray, "K B H W 3"],
    truth: Num[np.ndarray, "B H W 3"],
    mask: Bool[np.ndarray, "B H W"] | None = None,
) -> Float[np.ndarray, "K B"]:
    """PSNR of each sample in dB, of 8-bit pictures; infinity where nothing differs, NaN where no pixel counts."""
    square = ((samples.astype(np.float64) - truth.astype(np.float64)) ** 2).mean(axis=-1)
    counted = np.ones(truth.shape[:3], bool) if mask is None else mask
    pixels = counted.sum(axis=(1, 2))
    total = np.where(counted, square, 0).sum(axis=(2, 3))
    error = np.where(pixels > 0, total / np.maximum(pixels, 1), np.nan)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255.0**2 / error)


def best_of(scores: Float[np.ndarray, "K B"], *, higher_is_better: bool) -> Float[np.ndarray, "K B"]:
    """Row k - 1: the best score among the first k samples. NaN are passed over unless all so far are."""
    return (np.fmax if higher_is_better else np.fmin).accumulate(scores, axis=0)


def true_modes(
    ab: Float[np.ndarray, "N h w 2"], masks: Float[np.ndarray, "N h w"], sigma: float = ab_distribution.MODE_SIGMA
) -> Float[np.ndarray, "N 2"]:
    """The color that most of each object has: the highest mode of its colors, as a palette's are found.

    Args:
      ab: normalized, of each object's own photo.
      masks: weight of each pixel, at least 0.
      sigma: smoothing of the colors' distribution before its mode is looked for, in units of ab*.

    Returns:
      Normalized ab; NaN for an object whose mask is 0.
    """
    objects, bins = len(ab), color.BINS
    index = color.ab_to_bin(np.clip(ab, -1, 1)) + bins * np.arange(objects)[:, None, None]
    weights = np.bincount(index.ravel(), masks.ravel(), minlength=objects * bins).reshape(objects, bins)
    peak = color.bin_centers()[ab_distribution.smooth_prior(weights, sigma).argmax(axis=1)]
    near = ab_plane_distance(ab, peak[:, None, None]) <= COVERAGE_DISTANCE
    local = np.where(near, masks, 0)[..., None]
    mass = local.sum(axis=(1, 2))
    mean = (local * ab).sum(axis=(1, 2)) / np.where(mass > 0, mass, 1)
    mean = np.where(mass > 0, mean, peak)
    return np.where(weights.sum(axis=1, keepdims=True) > 0, mean, np.nan)


def ab_plane_distance(first: Float[np.ndarray, "*#shape 2"], second: Float[np.ndarray, "*#shape 2"]) -> Any:
    """Euclidean distance of normalized ab in units of ab*; the shapes broadcast."""
    return AB_SCALE * np.sqrt(((first - second) ** 2).sum(axis=-1))


def palette_coverage(
    palette_ab: Float[np.ndarray, "N K 2"],
    valid: Bool[np.ndarray, "N K"],
    true_ab: Float[np.ndarray, "N 2"],
    threshold: float = COVERAGE_DISTANCE,
) -> Float[np.ndarray, " N"]:
    """1 where a valid color of the object's palette is within ``threshold`` (units of ab*) of the truth, else 0.

    NaN where the ground truth is; an object whose palette is empty is not covered.
    """
    distance = np.where(valid, ab_plane_distance(palette_ab, true_ab[:, None]), np.inf)
    covered = (distance <= threshold).any(axis=1)
    return np.where(np.isnan(true_ab).any(axis=1), np.nan, covered)


def happened(
    palette_ab: Float[np.ndarray, "N K 2"], valid: Bool[np.ndarray, "N K"], true_ab: Float[np.ndarray, "N 2"]
) -> Float[np.ndarray, "N K"]:
    """1 for the palette's color nearest to the ground truth, 0 for the others.

    A color's probability is the mass of all bins nearest to it (``ab_distribution.modes``), so the truth counts for
    exactly one color of a palette, however far it is. NaN for colors that are not valid and where the truth is NaN.
    """
    distance = np.where(valid, ab_plane_distance(palette_ab, true_ab[:, None]), np.inf)
    nearest = distance.argmin(axis=1)[:, None] == np.arange(valid.shape[1])
    known = valid & ~np.isnan(true_ab).any(axis=1, keepdims=True)
    return np.where(known, nearest, np.nan)


def color_shares(
    palette_ab: Float[np.ndarray, "N K 2"],
    valid: Bool[np.ndarray, "N K"],
    ab: Float[np.ndarray, "N h w 2"],
    weights: Float[np.ndarray, "N h w"],
) -> Float[np.ndarray, "N K"]:
    """Which share of each object's pixels is nearest to each color of its palette: what its probability is of.

    A palette's probability is the mean over the object's pixels of that of the bins nearest to a color, so it is
    calibrated for this share exactly where the pixels' distributions are. Of an object of one color the share is 1 or
    0 (``happened``); a shirt with trousers has two colors for certain, neither of which "happens" half of the time.

    Args:
      palette_ab: normalized.
      valid: which colors there are.
      ab: the truth, normalized, of each object's own photo.
      weights: of each pixel in the palette, at least 0.

    Returns:
      Sums to 1 over the colors of an object; NaN for colors that are not valid and for objects without weight.
    """
    distance = np.where(valid[:, None, None], ab_plane_distance(ab[:, :, :, None], palette_ab[:, None, None]), np.inf)
    nearest = distance.argmin(axis=-1)[..., None] == np.arange(valid.shape[1])
    total = weights.sum(axis=(1, 2))[:, None]
    share = (weights[..., None] * nearest).sum(axis=(1, 2)) / np.where(total > 0, total, 1)
    return np.where(valid & (total > 0), share, np.nan)


def reliability(
    probability: Float[np.ndarray, "*shape"], outcome: Float[np.ndarray, "*shape"], bins: int = RELIABILITY_BINS
) -> Reliability:
    """Whether what is given a probability of 30% happens 30% of the time (Guo et al. 2017, for events of any kind).

    Args:
      probability: of each event, 0 to 1.
      outcome: 1 if it happened, else 0, or a share between; NaN: does not count (``happened``, ``color_shares``).
      bins: how many, equally wide.

    Raises:
      ValueError: no bins, or a probability that counts lies outside 0 to 1.
    """
    if bins < 1:
        raise ValueError("reliability needs at least one bin")
    counted = ~np.isnan(outcome)
    given, result = probability[counted].astype(np.float64), outcome[counted].astype(np.float64)
    # Sums of float32 shares exceed 1 by rounding.
    if not ((given >= 0) & (given <= 1 + 1e-4)).all():
        raise ValueError("probabilities must be from 0 to 1")
    place = np.minimum((given * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    safe = np.where(count, count, 1)
    mean, frequency = (
        np.where(count, np.bincount(place, values, minlength=bins) / safe, np.nan) for values in (given, result)
    )
    error = float(np.nansum(count * np.abs(frequency - mean)) / len(given)) if len(given) else float("nan")
    return Reliability(np.linspace(0, 1, bins + 1), count, mean, frequency, error)

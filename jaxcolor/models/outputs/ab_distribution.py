"""Distributions over the 529 ab bins: targets, prior and rebalancing, decoding, modes.

Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016, on the full grid of ``color.py``, 23 x 23 bins of
side 10. ab is normalized (ab* / 110) wherever it enters or leaves; distances and standard deviations are in units of
ab*. Everything is computed in float32, whatever the type of the logits.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxcolor import color
from jaxcolor.batch import Array
from jaxcolor.color import AB_QUANTUM, AB_SCALE, BINS, BINS_PER_AXIS
from jaxcolor.config import EvalConfig, ObjectiveConfig
from jaxcolor.runtime.errors import UserError

NEIGHBORS = 5
"""Bins over which a color is spread by ``soft_encode``."""
ENCODING_SIGMA = 5.0
"""Standard deviation of the soft encoding and of the prior's smoothing, in units of ab*."""
REBALANCING = ObjectiveConfig.rebalancing
"""Share of the uniform distribution in the rebalancing: 0 weighs by 1 / prior, 1 weighs all bins alike."""
TEMPERATURE = EvalConfig.vivid_temperature
"""Of the annealed mean, between the mean (1) and the mode (0)."""
MODE_SIGMA = 10.0
"""Smoothing before modes are looked for, in units of ab*."""
MODE_DISTANCE = 30.0
"""Least distance of two modes in units of ab*: clearly another color, not another shade."""
LEAST_PROBABILITY = 0.01
"""Least mass within half of ``MODE_DISTANCE`` of a mode: below it lies a softmax's noise, not a plausible color."""
SHADES = 0.75
"""So far around a mode, as a share of ``MODE_DISTANCE``, lie shades of its color, which make no other mode: of a sharp
peak, as wide as the bins and the soft targets make it, less than ``LEAST_PROBABILITY`` lies beyond."""

_LAST = BINS_PER_AXIS - 1
_MAX_COUNT = np.iinfo(np.int32).max


class PriorError(UserError):
    """A prior that cannot be measured or used."""


class Modes(NamedTuple):
    """Well separated colors of distributions over bins, the most probable first; ``*shape`` is that of the batch."""

    ab: Float[jax.Array, "*shape K 2"]
    """Normalized; 0 where not ``valid``."""
    probability: Float[jax.Array, "*shape K"]
    """Mass of the bins nearest to each mode; sums to 1, or to 0 where the distribution is all 0."""
    valid: Bool[jax.Array, "*shape K"]
    """Whether there are so many modes."""


def soft_encode(
    ab: Float[jax.Array, "*shape 2"], sigma: float = ENCODING_SIGMA
) -> tuple[Int[jax.Array, "*shape 5"], Float[jax.Array, "*shape 5"]]:
    """Each color's 5 nearest bins and their Gaussian weights (Zhang et al. 2016, 2.1), without a search.

    In units of the grid let the color lie u, v (0 to 1/2) from its nearest bin, the axes mirrored so that both are
    positive. (0, 0), (1, 0) and (0, 1) are always nearest; of (1, 1), (-1, 0) and (0, -1) the farthest is dropped. At
    the grid's edge, where -1 is not there, 2 takes its place.

    Args:
      ab: normalized; beyond the grid (-1 to 1) it is clipped.
      sigma: standard deviation in units of ab*.

    Returns:
      Bins (0 to 528), the nearest (``color.ab_to_bin``) first, and weights that sum to 1, in float32.
    """
    grid = (jnp.clip(ab.astype(jnp.float32), -1, 1) * AB_SCALE + AB_SCALE) / AB_QUANTUM
    nearest = jnp.round(grid)
    offset = grid - nearest
    # Towards the color, and inward from the edge.
    toward = jnp.where((offset > 0) | (nearest == 0), 1.0, -1.0)
    toward = jnp.where(nearest == _LAST, -1.0, toward)
    at_edge = (nearest == 0) | (nearest == _LAST)
    near, zero = toward, jnp.zeros_like(toward)
    away = jnp.where(at_edge, 2 * toward, -toward)

    def step(along_a: jax.Array, along_b: jax.Array) -> jax.Array:
        return jnp.stack([along_a[..., 0], along_b[..., 1]], axis=-1)

    first = [step(zero, zero), step(near, zero), step(zero, near)]
    rest = [step(near, near), step(away, zero), step(zero, away)]
    farthest = jnp.argmax(jnp.stack([jnp.square(s - offset).sum(axis=-1) for s in rest]), axis=0)[..., None]
    kept = [jnp.where(farthest == 0, rest[1], rest[0]), jnp.where(farthest == 2, rest[1], rest[2])]
    steps = jnp.stack([*first, *kept], axis=-2)

    cells = (nearest[..., None, :] + steps).astype(jnp.int32)
    square = jnp.square(AB_QUANTUM * (steps - offset[..., None, :])).sum(axis=-1)
    return cells[..., 0] * BINS_PER_AXIS + cells[..., 1], jax.nn.softmax(-square / (2 * sigma**2), axis=-1)


def cross_entropy(
    logits: Float[jax.Array, "*shape 529"],
    indices: Int[jax.Array, "*shape k"],
    weights: Float[jax.Array, "*shape k"],
) -> Float[jax.Array, "*shape"]:
    """-sum of target x log probability for sparse targets (``soft_encode``), in nats; no dense target is made."""
    logits = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(logits, indices, axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) * weights.sum(axis=-1) - (weights * chosen).sum(axis=-1)


def count_bins(ab: Float[jax.Array, "B h w 2"], valid: Bool[jax.Array, " B"]) -> Int[jax.Array, " 529"]:
    """How many pixels of the valid pictures have each bin as their nearest, on the device."""
    bins = color.ab_to_bin(jnp.clip(ab.astype(jnp.float32), -1, 1))
    pixels = jnp.broadcast_to(valid[:, None, None], bins.shape)
    return jnp.zeros(BINS, jnp.int32).at[bins].add(pixels.astype(jnp.int32))


_add_bins = jax.jit(lambda total, ab, valid: total + count_bins(ab, valid))


def measure_prior(batches: Iterable[tuple[Array, Array]]) -> Float[np.ndarray, " 529"]:
    """The distribution of colors over a data set: pairs of normalized ab (B, h, w, 2) and which pictures count (B,).

    Counts are added up on the device and fetched only before int32 could overflow. Batches of one shape compile once.

    Raises:
      PriorError: there is no pixel.
    """
    total, counts, pending = np.zeros(BINS, np.int64), jnp.zeros(BINS, jnp.int32), 0
    for ab, valid in batches:
        pixels = ab.size // 2
        if pending + pixels > _MAX_COUNT:
            total += np.asarray(counts)
            counts, pending = jnp.zeros(BINS, jnp.int32), 0
        counts, pending = _add_bins(counts, jnp.asarray(ab), jnp.asarray(valid)), pending + pixels
    return empirical_prior(total + np.asarray(counts))


def empirical_prior(counts: Int[np.ndarray, " 529"] | Float[np.ndarray, " 529"]) -> Float[np.ndarray, " 529"]:
    """Counts as shares, in float64.

    Raises:
      PriorError: counts are negative or not finite, or all 0.
    """
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise PriorError("the prior of colors: counts must be finite and at least 0")
    total = counts.sum(dtype=np.float64)
    if not total:
        raise PriorError("the prior of colors: no pixel was counted; give photos with color")
    return counts.astype(np.float64) / total


def smooth_prior(
    prior: Float[np.ndarray, "*shape 529"], sigma: float = ENCODING_SIGMA
) -> Float[np.ndarray, "*shape 529"]:
    """Convolved with a Gaussian on the ab plane (sigma in units of ab*); nothing leaves the grid, the sum stays."""
    kernel = _gaussian(sigma)
    planes = prior.reshape(*prior.shape[:-1], BINS_PER_AXIS, BINS_PER_AXIS)
    return (kernel @ planes @ kernel.T).reshape(prior.shape)


def rebalancing_weights(prior: Float[np.ndarray, " 529"], lam: float = REBALANCING) -> Float[np.ndarray, " 529"]:
    """Weight of a pixel by its nearest bin: 1 / ((1 - lam) prior + lam / Q), scaled to an expectation of 1.

    Zhang et al. 2016, equation 4. Q counts the bins that sRGB can reach (``gamut_bins``), since no pixel has another.

    Args:
      prior: sums to 1; the paper smooths it first (``smooth_prior``).
      lam: 0 < lam <= 1; at 1 all weights are 1.

    Returns:
      float32 weights with sum(prior x weights) = 1.

    Raises:
      PriorError: ``lam`` outside its range, or ``prior`` is no distribution.
    """
    if not 0 < lam <= 1:
        raise PriorError(f"rebalancing must be above 0 and at most 1, not {lam}")
    if not ((prior >= 0).all() and abs(prior.sum(dtype=np.float64) - 1) < 1e-4):
        raise PriorError("the prior of colors must be at least 0 everywhere and sum to 1")
    weights = 1 / ((1 - lam) * prior.astype(np.float64) + lam / gamut_bins().sum())
    return (weights / (prior * weights).sum()).astype(np.float32)


def undo_rebalancing(
    logits: Float[jax.Array, "*shape 529"], weights: Float[Array, " 529"]
) -> Float[jax.Array, "*shape 529"]:
    """Logits of the colors as frequent as they are, from those of a network trained with ``rebalancing_weights``.

    Where pixels of bin q weigh w_q, cross entropy is least at probabilities proportional to w_q p(q), not at p(q): rare
    colors are overstated on purpose, which makes a mean vivid but a probability wrong. Palettes and their calibration
    read these logits; decoding as in the paper reads the network's own.
    """
    return logits.astype(jnp.float32) - jnp.log(jnp.asarray(weights, jnp.float32))


def annealed_mean(
    logits: Float[jax.Array, "*shape 529"], temperature: float | Float[jax.Array, ""] = TEMPERATURE
) -> Float[jax.Array, "*shape 2"]:
    """Normalized ab: mean of the distribution sharpened by a temperature (1: the mean; 0: the mode, ties averaged)."""
    return color.mean_ab(jax.nn.softmax(_tempered(logits, temperature), axis=-1))


def mode(logits: Float[jax.Array, "*shape 529"]) -> Float[jax.Array, "*shape 2"]:
    """Normalized ab at the center of the most probable bin."""
    return _center(jnp.argmax(logits, axis=-1))


def sample(
    key: jax.Array, logits: Float[jax.Array, "*shape 529"], temperature: float | Float[jax.Array, ""] = 1.0
) -> Float[jax.Array, "*shape 2"]:
    """Normalized ab at the center of a bin drawn for each pixel alone; at temperature 0 the mode."""
    return _center(jax.random.categorical(key, _tempered(logits, temperature), axis=-1))


def modes(
    probabilities: Float[jax.Array, "*shape 529"],
    count: int,
    min_distance: float = MODE_DISTANCE,
    sigma: float = MODE_SIGMA,
    least: float = LEAST_PROBABILITY,
) -> Modes:
    """At most ``count`` well separated colors that cover as much as they can of each distribution over bins.

    Greedy maximum coverage on the ab plane (after Nemhauser et al. 1978): the peak of the smoothed distribution; then,
    with its shades (``SHADES``) taken away, the peak of what is left that is at least ``min_distance`` from those
    before; and so on. Of separate peaks it finds each. It asks for no local maximum after the first: a network's
    distribution over photographs is one broad peak near gray whose slopes hold all the vivid colors, each of them
    plausible. A color is the mean of what was left within ``min_distance`` / 2 of its peak; its probability is the mass
    of all bins that are nearest to it, so probabilities that are calibrated for bins are so for colors.

    Args:
      probabilities: at least 0; scaled to a sum of 1 (all 0: no mode is valid).
      count: K, static.
      min_distance: in units of ab*, between bins; the colors' means can be a little nearer.
      sigma: standard deviation of the smoothing, in units of ab*.
      least: mass of which a color is the mean, except for the first color; where there is less, no more are sought.
    """
    flat = probabilities.astype(jnp.float32).reshape(-1, BINS)
    found = jax.vmap(functools.partial(_modes, count=count, min_distance=min_distance, sigma=sigma, least=least))(flat)
    shape = probabilities.shape[:-1]
    return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), found)


def _modes(weight: Float[jax.Array, " 529"], count: int, min_distance: float, sigma: float, least: float) -> Modes:
    total = weight.sum()
    weight = weight / jnp.where(total > 0, total, 1)
    kernel = jnp.asarray(_gaussian(sigma), jnp.float32)
    centers = jnp.asarray(_centers())

    def choose(state: tuple[jax.Array, jax.Array, jax.Array], _: None) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        left, allowed, more = state
        plane = left.reshape(BINS_PER_AXIS, BINS_PER_AXIS)
        smooth = jnp.einsum("ia,ab,jb->ij", kernel, plane, kernel, precision=jax.lax.Precision.HIGHEST)
        peak = jnp.argmax(jnp.where(allowed, smooth.reshape(BINS), -1))
        distance = _distance(centers, centers[peak])
        own = jnp.where(distance <= min_distance / 2, left, 0)
        mass = own.sum()
        # Smoothing can put a peak between bins of which none is near enough.
        ab = jnp.where(mass > 0, own @ centers / jnp.where(mass > 0, mass, 1), centers[peak])
        first = allowed.all()
        more &= allowed[peak] & (first | (mass >= least)) & (smooth.max() > 0)
        # A mode suppresses itself even at min_distance 0.
        left = jnp.where(distance <= SHADES * min_distance, 0, left)
        return (left, allowed & (distance >= min_distance) & (distance > 0), more), (ab, more)

    start = (weight, jnp.ones(BINS, bool), jnp.array(True))
    _, (ab, valid) = jax.lax.scan(choose, start, None, length=count)
    nearest = jnp.argmin(jnp.where(valid[:, None], _distance(ab[:, None], centers), jnp.inf), axis=0)
    own = (nearest == jnp.arange(count)[:, None]) & valid[:, None]
    probability = jnp.where(own, weight, 0).sum(axis=1)

    order = jnp.argsort(jnp.where(valid, -probability, jnp.inf), stable=True)
    return Modes((jnp.where(valid[:, None], ab, 0) / AB_SCALE)[order], probability[order], valid[order])


@functools.cache
def gamut_bins() -> Bool[np.ndarray, " 529"]:
    """The 261 bins that some sRGB color has as its nearest (the paper's own list has 313)."""
    # Along L* every color leaves the gamut through the cube's surface, so the surface has all its ab.
    levels = np.linspace(0, 1, 256)
    x, y = (axis.ravel() for axis in np.meshgrid(levels, levels))
    faces = [np.insert(np.stack([x, y], axis=1), axis, end, axis=1) for axis in range(3) for end in (0, 1)]
    bins = color.ab_to_bin(color.rgb_to_lab(np.concatenate(faces))[:, 1:] / AB_SCALE)
    return np.bincount(bins, minlength=BINS) > 0


def _tempered(logits: jax.Array, temperature: float | jax.Array) -> jax.Array:
    """Logits / temperature with a greatest value of 0: finite also when the temperature is 0."""
    logits = logits.astype(jnp.float32)
    shifted = logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
    return shifted / jnp.maximum(jnp.asarray(temperature, jnp.float32), 1e-6)


def _center(index: Int[jax.Array, "*shape"]) -> Float[jax.Array, "*shape 2"]:
    cells = jnp.stack([index // BINS_PER_AXIS, index % BINS_PER_AXIS], axis=-1).astype(jnp.float32)
    return (cells * AB_QUANTUM - AB_SCALE) / AB_SCALE


def _centers() -> Float[np.ndarray, "529 2"]:
    """Centers of bins in units of ab*."""
    return (color.bin_centers() * AB_SCALE).astype(np.float32)


def _distance(first: jax.Array, second: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.square(first - second).sum(axis=-1))


def _gaussian(sigma: float) -> Float[np.ndarray, "23 23"]:
    """Smoothing along one axis of the grid; columns sum to 1, so that mass is kept at the edge too."""
    place = AB_QUANTUM * np.arange(BINS_PER_AXIS)
    kernel = np.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    return kernel / kernel.sum(axis=0)

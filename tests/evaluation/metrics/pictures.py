"""Pairs of pictures that metrics are tried on, alone and in the corner of a larger canvas."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tests.evaluation.batches import photo

KINDS = ["noise", "near", "gray", "bright"]


def pair(kind: str, side: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and truth."""
    rng = np.random.default_rng(sum(map(ord, kind)))
    truth = photo(rng, side)
    if kind == "noise":
        return rng.integers(0, 256, (side, side, 3), dtype=np.uint8), truth
    if kind == "near":
        return np.clip(truth.astype(int) + rng.integers(-2, 3, truth.shape), 0, 255).astype(np.uint8), truth
    if kind == "gray":
        return np.repeat(truth.mean(axis=-1, keepdims=True).astype(np.uint8), 3, axis=-1), truth
    # Bright and almost flat: where float32 loses variances to cancellation.
    bright = rng.integers(253, 256, truth.shape, dtype=np.uint8)
    return bright, np.full_like(truth, 254)


def batch(kinds: Sequence[str] = KINDS) -> tuple[jax.Array, jax.Array]:
    """Predictions and truths of several kinds."""
    predictions, truths = zip(*map(pair, kinds), strict=True)
    return jnp.asarray(np.stack(predictions)), jnp.asarray(np.stack(truths))


def on_canvas(photos: Sequence[np.ndarray], height: int, width: int, seed: int) -> tuple[jax.Array, jax.Array]:
    """Photos in the top-left corners of canvases of noise, and their sizes."""
    canvas = np.random.default_rng(seed).integers(0, 256, (len(photos), height, width, 3), dtype=np.uint8)
    for i, picture in enumerate(photos):
        canvas[i, : picture.shape[0], : picture.shape[1]] = picture
    return jnp.asarray(canvas), jnp.asarray([p.shape[:2] for p in photos], jnp.int32)

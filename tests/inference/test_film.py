"""Chroma is steadied where nothing moves, follows what moves, starts anew with each scene: a made clip, measured."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcolor import color
from jaxcolor.config import ConfigError, FilmConfig
from jaxcolor.inference import film

SIDE, FRAMES, CUT = 64, 24, 16
SETTINGS = FilmConfig()


class Clip(NamedTuple):
    """A made film: a square that moves over a still background, grain, then another scene."""

    canvas: np.ndarray
    """uint8 (T, S, S, 3), with grain."""
    lightness: np.ndarray
    """L* without it."""
    truth: np.ndarray
    """Normalized ab."""
    ab: np.ndarray
    """As networks predict each frame by itself: the truth, off by something smooth that differs from frame to frame."""
    square: np.ndarray
    """bool (T, S, S)."""


def smooth(rng: np.random.Generator, low: float, high: float, cells: int = 5) -> np.ndarray:
    coarse = rng.uniform(low, high, (cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def clip() -> Clip:
    rng = np.random.default_rng(0)
    scenes = [(smooth(rng, 30, 50), smooth(rng, -0.2, 0.2)), (smooth(rng, 55, 80), smooth(rng, -0.2, 0.2))]
    light, truth = np.zeros((FRAMES, SIDE, SIDE), np.float32), np.zeros((FRAMES, SIDE, SIDE, 2), np.float32)
    square, ab = np.zeros((FRAMES, SIDE, SIDE), bool), np.zeros_like(truth)
    for t in range(FRAMES):
        background, hue = scenes[t >= CUT]
        square[t, 20:36, 2 + 2 * t : 14 + 2 * t] = True
        light[t] = np.where(square[t], background + 20, background)
        truth[t] = np.where(square[t][..., None], [0.3, 0.1], np.stack([hue, -hue], axis=-1))
        ab[t] = truth[t] + np.stack([smooth(rng, -0.1, 0.1) for _ in range(2)], axis=-1)
    grain = light + rng.normal(0, 1, light.shape)
    rgb = color.lab_to_rgb(np.stack([grain, 0 * grain, 0 * grain], axis=-1))
    return Clip(np.asarray(color.quantize_rgb(rgb)), light, truth, ab, square)


def steadied(clip: Clip, settings: FilmConfig = SETTINGS, batch: int = FRAMES) -> tuple[np.ndarray, np.ndarray]:
    """Ab and where scenes begin; the last batch filled up."""
    state, found, cuts = film.start(SIDE), [], []
    for begin in range(0, FRAMES, batch):
        part = [each[begin : begin + batch] for each in (clip.canvas, clip.ab)]
        count = len(part[0])
        canvas, ab = (np.concatenate([each, np.full_like(each[:1], 7).repeat(batch - count, 0)]) for each in part)
        cut = film.scene_cuts(state, canvas, settings)
        state, ab = film.steady(state, canvas, ab, cut, np.arange(batch) < count, settings)
        found.append(np.asarray(ab)[:count])
        cuts.append(np.asarray(cut)[:count])
    assert {leaf.shape[:2] for leaf in jax.tree.leaves(state)} == {(SIDE, SIDE)}
    return np.concatenate(found), np.concatenate(cuts)


def flicker(clip: Clip, ab: np.ndarray) -> float:
    return float(film.flicker(jnp.asarray(clip.lightness), jnp.asarray(ab * color.AB_SCALE)))


def test_flicker_is_a_fifth(clip: Clip) -> None:
    ab, _ = steadied(clip)
    before, after = flicker(clip, clip.ab), flicker(clip, ab)
    assert flicker(clip, clip.truth) < 0.01
    assert before > 2
    assert after < before / 5


def test_colors_are_nearer_to_the_truth(clip: Clip) -> None:
    ab, _ = steadied(clip)
    for where in (~clip.square, clip.square):
        error, own = (np.abs(each - clip.truth)[where].mean() for each in (ab, clip.ab))
        assert error < own * (0.5 if where is not clip.square else 1.05)


def test_what_moves_leaves_no_trace(clip: Clip) -> None:
    """Where the square was a frame ago, and where it just came, the frame's own color stands."""
    ab, _ = steadied(clip)
    for t in range(1, CUT):
        uncovered = clip.square[t - 1] & ~clip.square[t]
        covered = clip.square[t] & ~clip.square[t - 1]
        for changed in (uncovered, covered):
            np.testing.assert_allclose(ab[t][changed], clip.ab[t][changed], atol=0.02)


def test_scenes_are_found_and_start_anew(clip: Clip) -> None:
    ab, cuts = steadied(clip)
    assert np.flatnonzero(cuts).tolist() == [0, CUT]
    np.testing.assert_allclose(ab[0], clip.ab[0], atol=1e-6)
    np.testing.assert_allclose(ab[CUT], clip.ab[CUT], atol=1e-6)


def test_batches_make_no_difference(clip: Clip) -> None:
    whole, cuts = steadied(clip)
    for batch in (1, 5):
        ab, again = steadied(clip, batch=batch)
        np.testing.assert_array_equal(again, cuts)
        np.testing.assert_allclose(ab, whole, atol=1e-6)


def test_one_frame_is_no_mean(clip: Clip) -> None:
    ab, _ = steadied(clip, FilmConfig(frames=1))
    np.testing.assert_allclose(ab, clip.ab, atol=1e-6)


def test_a_still_film_has_the_mean_of_its_first_frames() -> None:
    canvas = np.full((4, 16, 16, 3), 99, np.uint8)
    ab = np.random.default_rng(0).normal(size=(4, 16, 16, 2)).astype(np.float32)
    state = film.start(16)
    _, found = film.steady(state, canvas, ab, film.scene_cuts(state, canvas, SETTINGS), np.ones(4, bool), SETTINGS)
    for t in range(4):
        np.testing.assert_allclose(found[t], ab[: t + 1].mean(axis=0), atol=1e-5)


def test_slow_changes_add_up() -> None:
    """A light that fades by half of ``still`` a frame: no frame is a cut, and none is held for still for long."""
    levels = np.linspace(150, 60, 30).astype(np.uint8)
    canvas = np.broadcast_to(levels[:, None, None, None], (30, 16, 16, 3))
    ab = np.broadcast_to(np.linspace(-1, 1, 30, dtype=np.float32)[:, None, None, None], (30, 16, 16, 2))
    state = film.start(16)
    cuts = film.scene_cuts(state, canvas, SETTINGS)
    assert np.flatnonzero(cuts).tolist() == [0]
    _, found = film.steady(state, canvas, ab, cuts, np.ones(30, bool), SETTINGS)
    lag = np.abs(np.asarray(found) - ab)[..., 0].max(axis=(1, 2)) / (2 / 29)
    assert lag.max() < 3  # frames


def test_stillness() -> None:
    change = jnp.zeros((16, 16)).at[8, 8].set(12.0)  # 4 by its window
    found = film.stillness(change, 4.0)
    assert float(found[0, 0]) == 1
    np.testing.assert_allclose(found[7:10, 7:10], np.exp(-1), rtol=1e-5)
    assert float(film.stillness(jnp.full((16, 16), 7.0), 4.0).max()) < 1e-3


def test_flicker_counts_what_is_unchanged() -> None:
    light = np.zeros((2, 16, 16), np.float32)
    light[1, :, 8:] = 50
    ab = np.zeros((2, 16, 16, 2), np.float32)
    ab[1, :, 8:] = 9  # where L* changed
    assert float(film.flicker(jnp.asarray(light), jnp.asarray(ab))) == 0
    ab[1, :, :7] = 3
    assert float(film.flicker(jnp.asarray(light), jnp.asarray(ab))) == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frames": 0}, "frames: 0, which must be from 1 to 1000"),
        ({"still": 0.0}, "still: 0.0, which must be above 0"),
        ({"cut": 1.5}, "cut: 1.5, which must be above 0 and at most 1"),
    ],
)
def test_settings_that_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        FilmConfig(**values)  # type: ignore[arg-type]

"""Soft targets, prior, decoding and modes, each against a slow definition in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor import color
from jaxcolor.models.outputs import ab_distribution as dist

soft_encode = jax.jit(dist.soft_encode)
cross_entropy = jax.jit(dist.cross_entropy)
modes = jax.jit(dist.modes, static_argnums=1, static_argnames=("min_distance", "sigma", "least"))

CENTERS = color.bin_centers() * 110
"""In units of ab*."""


def logits(*shape: int, seed: int = 0) -> np.ndarray:
    return (3 * np.random.default_rng(seed).standard_normal((*shape, 529))).astype(np.float32)


def bin_at(a: float, b: float) -> int:
    return int(color.ab_to_bin(np.array([[a, b]]) / 110)[0])


def dense(indices: jax.Array, weights: jax.Array) -> np.ndarray:
    target = np.zeros((len(indices), 529))
    np.put_along_axis(target, np.asarray(indices), np.asarray(weights), axis=1)
    return target


class TestSoftEncoding:
    def test_the_five_nearest_bins_of_a_search_over_all(self) -> None:
        """Also at the edges and corners of the grid, and beyond it."""
        rng = np.random.default_rng(0)
        ab = rng.uniform(-118, 118, (4000, 2)).astype(np.float32)
        ab[:400, 0], ab[200:600, 1] = rng.choice([-110, 110], 400), rng.choice([-110, 110], 400)
        ab[600:1000] = rng.choice([-1, 1], (400, 2)) * rng.uniform(104, 110, (400, 2))
        indices, weights = soft_encode(jnp.asarray(ab / 110))
        distance = np.linalg.norm(CENTERS - np.clip(ab, -110, 110)[:, None], axis=-1)
        nearest = np.sort(distance, axis=1)[:, :5]
        found = np.take_along_axis(distance, np.asarray(indices), axis=1)
        # Equally distant bins may be exchanged, distances may not.
        np.testing.assert_allclose(np.sort(found, axis=1), nearest, atol=1e-3)
        assert all(len(set(row)) == 5 for row in np.asarray(indices).tolist())
        raw = np.exp(-(found**2) / (2 * 5.0**2))
        np.testing.assert_allclose(weights, raw / raw.sum(axis=1, keepdims=True), atol=1e-4)

    def test_the_first_is_the_nearest_bin(self) -> None:
        ab = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (3, 7, 2)), jnp.float32)
        indices, weights = soft_encode(ab)
        np.testing.assert_array_equal(indices[..., 0], color.ab_to_bin(ab))
        assert (weights.argmax(axis=-1) == 0).all()

    def test_grid_points(self) -> None:
        """Every center lies in five different bins of the grid, itself the heaviest; corners included."""
        indices, weights = soft_encode(jnp.asarray(CENTERS / 110, jnp.float32))
        np.testing.assert_array_equal(indices[:, 0], np.arange(529))
        assert int(indices.min()) == 0
        assert int(indices.max()) == 528
        assert all(len(set(row)) == 5 for row in np.asarray(indices).tolist())
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)

    def test_a_narrow_gaussian_is_the_nearest_bin_alone(self) -> None:
        _, weights = dist.soft_encode(jnp.array([[0.013, -0.2]]), sigma=0.5)
        np.testing.assert_allclose(weights, [[1, 0, 0, 0, 0]], atol=1e-6)


class TestCrossEntropy:
    def test_dense_targets_and_their_gradient(self) -> None:
        values = logits(40)
        indices, weights = soft_encode(jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (40, 2)), jnp.float32))
        target = dense(indices, weights)
        exact = values.astype(np.float64)
        probability = np.exp(exact) / np.exp(exact).sum(axis=1, keepdims=True)
        loss = cross_entropy(jnp.asarray(values), indices, weights)
        np.testing.assert_allclose(loss, -(target * np.log(probability)).sum(axis=1), rtol=1e-5)
        gradient = jax.grad(lambda x: cross_entropy(x, indices, weights).sum())(jnp.asarray(values))
        np.testing.assert_allclose(gradient, probability - target, atol=1e-6)

    def test_bfloat16_logits(self) -> None:
        """The result is float32, off by the rounding of the logits alone (8 bits: 2^-9 of up to 12)."""
        values = jnp.asarray(logits(40))
        indices, weights = soft_encode(jnp.zeros((40, 2)))
        half = cross_entropy(values.astype(jnp.bfloat16), indices, weights)
        assert half.dtype == jnp.float32
        np.testing.assert_allclose(half, cross_entropy(values, indices, weights), atol=0.03)
        rounded = values.astype(jnp.bfloat16).astype(jnp.float32)
        np.testing.assert_array_equal(half, cross_entropy(rounded, indices, weights))

    def test_extreme_logits_stay_finite(self) -> None:
        values = jnp.full((2, 529), -1e30).at[:, 3].set(1e30)
        indices, weights = soft_encode(jnp.zeros((2, 2)))
        loss, gradient = jax.value_and_grad(lambda x: cross_entropy(x, indices, weights).sum())(values)
        assert jnp.isfinite(loss)
        assert jnp.isfinite(gradient).all()


class TestPrior:
    def test_measured_over_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As NumPy counts; pictures that are not valid count for nothing; counts past int32 go to the host."""
        rng = np.random.default_rng(0)
        batches = [
            (rng.uniform(-1.05, 1.05, (2, 4, 4, 2)).astype(np.float32), np.array([True, i > 0])) for i in range(3)
        ]
        bins = [color.ab_to_bin(np.clip(ab[valid], -1, 1)).ravel() for ab, valid in batches]
        expected = np.bincount(np.concatenate(bins), minlength=529) / (5 * 16)
        np.testing.assert_allclose(dist.measure_prior(batches), expected, atol=1e-12)
        monkeypatch.setattr(dist, "_MAX_COUNT", 40)
        np.testing.assert_allclose(dist.measure_prior(batches), expected, atol=1e-12)

    def test_no_pixels(self) -> None:
        with pytest.raises(dist.PriorError, match="no pixel"):
            dist.measure_prior([])
        with pytest.raises(dist.PriorError, match="no pixel"):
            dist.measure_prior([(np.zeros((1, 2, 2, 2), np.float32), np.array([False]))])
        with pytest.raises(dist.PriorError, match="finite"):
            dist.empirical_prior(np.full(529, -1.0))

    def test_smoothing_is_a_gaussian_that_keeps_the_mass(self) -> None:
        prior = np.zeros(529)
        prior[[bin_at(0, 0), bin_at(110, 110)]] = 0.5
        smooth = dist.smooth_prior(prior, 10.0)
        assert smooth.sum() == pytest.approx(1)
        assert smooth[bin_at(10, 10)] / smooth[bin_at(0, 0)] == pytest.approx(np.exp(-1))
        assert smooth[bin_at(110, 110)] > smooth[bin_at(0, 0)]

    def test_the_gamut_has_the_bins_of_all_colors(self) -> None:
        rgb = np.random.default_rng(0).integers(0, 256, (400_000, 3), np.uint8)
        bins = color.ab_to_bin(color.rgb_to_lab(color.unit_rgb(rgb))[:, 1:] / 110)
        seen = np.bincount(bins, minlength=529) > 0
        assert not (seen & ~dist.gamut_bins()).any()
        assert seen.sum() > 250
        assert dist.gamut_bins().sum() == 261
        assert dist.gamut_bins()[bin_at(0, 0)]
        assert not dist.gamut_bins()[bin_at(110, 110)]

    def test_rebalancing(self) -> None:
        """Expected weight 1; ratios as in equation 4 of Zhang et al. 2016; no weight differs where lam is 1."""
        prior = np.random.default_rng(0).dirichlet(np.full(529, 0.1))
        weights = dist.rebalancing_weights(prior, 0.5)
        assert weights.dtype == np.float32
        assert (prior * weights).sum() == pytest.approx(1, rel=1e-6)
        mixed = 0.5 * prior + 0.5 / dist.gamut_bins().sum()
        np.testing.assert_allclose(weights / weights[0], mixed[0] / mixed, rtol=1e-5)
        np.testing.assert_allclose(dist.rebalancing_weights(prior, 1.0), 1, rtol=1e-6)

    @pytest.mark.parametrize("lam", [0.0, 1.5, float("nan")])
    def test_bad_arguments_of_rebalancing(self, lam: float) -> None:
        with pytest.raises(dist.PriorError, match="rebalancing"):
            dist.rebalancing_weights(np.full(529, 1 / 529), lam)
        with pytest.raises(dist.PriorError, match="sum to 1"):
            dist.rebalancing_weights(np.full(529, 1.0))

    def test_rebalancing_is_undone_at_the_minimum_of_the_weighted_loss(self) -> None:
        """The logits of least weighted cross entropy are log(w p): undone, they are p."""
        rng = np.random.default_rng(0)
        truth, weights = rng.dirichlet(np.ones(529)), rng.uniform(0.3, 3, 529)

        def weighted(values: jax.Array) -> jax.Array:
            each = cross_entropy(jnp.broadcast_to(values, (529, 529)), jnp.arange(529)[:, None], jnp.ones((529, 1)))
            return (jnp.asarray(truth * weights) * each).sum()

        best = jnp.asarray(np.log(truth * weights), jnp.float32)
        np.testing.assert_allclose(jax.grad(weighted)(best), 0, atol=1e-6)
        undone = jax.nn.softmax(dist.undo_rebalancing(best, weights.astype(np.float32)))
        np.testing.assert_allclose(undone, truth, rtol=1e-4)


class TestDecoding:
    def test_annealed_mean(self) -> None:
        values = logits(3, 4)
        sharp = np.exp(values.astype(np.float64) / 0.38)
        expected = (sharp / sharp.sum(axis=-1, keepdims=True)) @ color.bin_centers()
        np.testing.assert_allclose(dist.annealed_mean(jnp.asarray(values)), expected, atol=1e-5)

    def test_temperature_1_is_the_mean_and_0_the_mode(self) -> None:
        values = jnp.asarray(logits(20))
        np.testing.assert_allclose(
            dist.annealed_mean(values, 1.0), color.mean_ab(jax.nn.softmax(values, axis=-1)), atol=1e-6
        )
        expected = color.bin_centers()[np.asarray(values).argmax(axis=-1)]
        np.testing.assert_allclose(dist.mode(values), expected, atol=1e-6)
        np.testing.assert_allclose(dist.annealed_mean(values, 0.0), expected, atol=1e-6)
        np.testing.assert_allclose(dist.sample(jax.random.key(0), values, 0.0), expected, atol=1e-6)

    def test_bfloat16_logits(self) -> None:
        """Decoded in float32: from rounded logits, off by less than half a bin."""
        values = jnp.asarray(logits(20))
        half = dist.annealed_mean(values.astype(jnp.bfloat16))
        assert half.dtype == jnp.float32
        np.testing.assert_allclose(half, dist.annealed_mean(values), atol=5 / 110)

    def test_samples_are_as_frequent_as_probable(self) -> None:
        values = jnp.full(529, -jnp.inf).at[jnp.array([10, 500])].set(jnp.log(jnp.array([0.2, 0.8])))
        drawn = dist.sample(jax.random.key(0), jnp.broadcast_to(jnp.maximum(values, -1e9), (4000, 529)))
        bins = np.asarray(color.ab_to_bin(drawn))
        assert set(bins) == {10, 500}
        assert (bins == 500).mean() == pytest.approx(0.8, abs=0.03)
        again = dist.sample(jax.random.key(0), jnp.broadcast_to(jnp.maximum(values, -1e9), (4000, 529)))
        np.testing.assert_array_equal(drawn, again)


def mixture(*peaks: tuple[float, float, float], spread: float = 8.0) -> np.ndarray:
    """Gaussians of (mass, a*, b*), each of which sums to its mass on the grid."""
    bumps = [np.exp(-((CENTERS - ab) ** 2).sum(axis=1) / (2 * spread**2)) for _, *ab in peaks]
    return sum(mass * bump / bump.sum() for (mass, *_), bump in zip(peaks, bumps, strict=True))


def slow_modes(probabilities: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Colors and their probabilities by loops over bins."""
    left, found, taken = probabilities.copy(), [], []
    for _ in range(count):
        smooth = dist.smooth_prior(left, dist.MODE_SIGMA)
        free = [q for q in range(529) if all(np.linalg.norm(CENTERS[q] - CENTERS[p]) >= 30 for p in taken)]
        peak = max(free, key=lambda q: smooth[q])
        near = [q for q in range(529) if np.linalg.norm(CENTERS[q] - CENTERS[peak]) <= 15]
        mass = left[near].sum()
        if found and mass < dist.LEAST_PROBABILITY:
            break
        found.append((left[near, None] * CENTERS[near]).sum(axis=0) / mass)
        taken.append(peak)
        left[[q for q in range(529) if np.linalg.norm(CENTERS[q] - CENTERS[peak]) <= 22.5]] = 0
    nearest = [min(range(len(found)), key=lambda k: np.linalg.norm(CENTERS[q] - found[k])) for q in range(529)]
    probability = np.bincount(nearest, probabilities, minlength=len(found))
    order = np.argsort(-probability, kind="stable")
    return np.array(found)[order], probability[order]


class TestModes:
    def test_two_hues(self) -> None:
        probabilities = mixture((0.3, 40, 20), (0.7, -33, -31))
        found = modes(jnp.asarray(probabilities, jnp.float32), 4)
        np.testing.assert_array_equal(found.valid, [True, True, False, False])
        np.testing.assert_allclose(found.ab[:2] * 110, [[-33, -31], [40, 20]], atol=2.5)
        np.testing.assert_allclose(found.probability, [0.7, 0.3, 0, 0], atol=1e-3)
        np.testing.assert_array_equal(found.ab[2:], 0)

    def test_a_batch_is_its_parts(self) -> None:
        rng = np.random.default_rng(0)
        batch = jnp.asarray(rng.dirichlet(np.full(529, 0.05), (2, 3)), jnp.float32)
        together = modes(batch, 3)
        assert together.ab.shape == (2, 3, 3, 2)
        alone = modes(batch[1, 2], 3)
        for whole, part in zip(together, alone, strict=True):
            np.testing.assert_allclose(whole[1, 2], part, atol=1e-6)
        np.testing.assert_allclose(together.probability.sum(axis=-1), 1, atol=1e-5)
        assert (np.diff(together.probability, axis=-1) <= 0).all()

    def test_each_is_the_mass_of_the_bins_nearest_to_it(self) -> None:
        probabilities = np.random.default_rng(3).dirichlet(np.full(529, 0.05))
        found = modes(jnp.asarray(probabilities, jnp.float32), 4)
        distance = np.linalg.norm(CENTERS[:, None] - np.asarray(found.ab) * 110, axis=-1)
        expected = np.bincount(distance.argmin(axis=1), probabilities, minlength=4)
        np.testing.assert_allclose(found.probability, expected, atol=1e-5)

    def test_close_peaks_are_one_mode_and_min_distance_parts_them(self) -> None:
        probabilities = jnp.asarray(mixture((0.6, 0, 0), (0.4, 30, 0), spread=3), jnp.float32)
        apart = modes(probabilities, 3, min_distance=20.0, sigma=5.0)
        assert int(apart.valid.sum()) == 2
        np.testing.assert_allclose(apart.probability, [0.6, 0.4, 0], atol=1e-3)
        assert int(modes(probabilities, 3, min_distance=42.0, sigma=5.0).valid.sum()) == 1

    def test_equal_to_a_slow_search(self) -> None:
        for seed, spread in ((0, 0.02), (1, 0.3)):
            probabilities = np.random.default_rng(seed).dirichlet(np.full(529, spread))
            found = modes(jnp.asarray(probabilities, jnp.float32), 4)
            expected, probability = slow_modes(probabilities, 4)
            assert int(found.valid.sum()) == len(expected) > 1
            np.testing.assert_allclose(found.ab[found.valid] * 110, expected, atol=1e-3)
            np.testing.assert_allclose(found.probability[found.valid], probability, atol=1e-5)

    def test_the_slopes_of_a_broad_peak_have_colors_too(self) -> None:
        """A gray peak and a red slope without a peak of its own: the palette offers both."""
        probabilities = mixture((0.8, 0, 0), (0.2, 32, 16), spread=14)
        grid = probabilities.reshape(23, 23)
        assert (grid[11:18, 11] > grid[12:19, 11]).all()  # falls all the way from gray
        found = modes(jnp.asarray(probabilities, jnp.float32), 4)
        distance = np.linalg.norm(np.asarray(found.ab[found.valid]) * 110 - [32, 16], axis=-1)
        assert distance.min() < 10
        assert np.linalg.norm(found.ab[0]) * 110 < 8

    def test_more_colors_never_cover_less(self) -> None:
        probabilities = np.random.default_rng(5).dirichlet(np.full(529, 0.1))
        covered = []
        for count in (1, 2, 4):
            ab = np.asarray(modes(jnp.asarray(probabilities, jnp.float32), count).ab) * 110
            near = np.linalg.norm(CENTERS[:, None] - ab, axis=-1).min(axis=1) <= 20
            covered.append(probabilities[near].sum())
        assert covered == sorted(covered)

    def test_what_is_hardly_probable_is_no_mode_but_counts(self) -> None:
        probabilities = jnp.asarray(mixture((0.5, 40, 20), (0.494, -33, -31), (0.006, -60, 60), spread=5), jnp.float32)
        found = modes(probabilities, 4)
        np.testing.assert_array_equal(found.valid, [True, True, False, False])
        assert found.probability.sum() == pytest.approx(1, abs=1e-5)
        assert int(modes(probabilities, 4, least=0.003).valid.sum()) == 3
        assert int(modes(probabilities, 4, least=0.6).valid.sum()) == 1

    def test_certainty_nothing_and_sums_other_than_1(self) -> None:
        certain = modes(jnp.zeros(529).at[bin_at(110, -110)].set(7.0), 2)
        np.testing.assert_allclose(certain.ab[0], [1, -1], atol=1e-6)
        np.testing.assert_allclose(certain.probability, [1, 0])
        nothing = modes(jnp.zeros(529), 2)
        assert not nothing.valid.any()
        np.testing.assert_array_equal(nothing.probability, 0)
        np.testing.assert_array_equal(nothing.ab, 0)

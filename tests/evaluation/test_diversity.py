"""Diversity, coverage and calibration, on numbers whose answer is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.evaluation import diversity
from jaxcolor.evaluation.metrics.psnr import psnr
from jaxcolor.models.outputs import ab_distribution


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 6, 5, 3), np.uint8)


class TestSamples:
    def test_best_of_k_psnr_is_the_best_of_the_metric(self) -> None:
        """As the evaluation's own PSNR; never falling with k."""
        truth, samples = pictures(2, seed=1), pictures(3, 2)
        samples[1, 0] = truth[0]
        mask = np.zeros((2, 6, 5), bool)
        mask[:, :3] = True
        for chosen in (None, mask):
            each = [
                psnr(jnp.asarray(s), jnp.asarray(truth), None if chosen is None else jnp.asarray(chosen))
                for s in samples
            ]
            best = diversity.best_of(diversity.psnr(samples, truth, chosen), higher_is_better=True)
            np.testing.assert_allclose(best, np.maximum.accumulate(np.stack(each)), rtol=1e-5)
        np.testing.assert_array_equal(np.isinf(best[:, 0]), [False, True, True])
        assert np.isnan(diversity.psnr(samples, truth, np.zeros_like(mask))).all()

    def test_best_of_lower_scores(self) -> None:
        scores = np.array([[3.0, np.nan], [1.0, 2.0], [2.0, np.nan]])
        np.testing.assert_array_equal(diversity.best_of(scores, higher_is_better=False), [[3, np.nan], [1, 2], [1, 2]])


class TestCoverage:
    PALETTE = np.array([[[40, 20], [-30, 0], [0, 0]], [[0, 0], [0, 60], [0, 0]]]) / 110.0
    VALID = np.array([[True, True, False], [True, True, False]])

    def covered(self, *true_ab: tuple[float, float]) -> list[float]:
        return diversity.palette_coverage(self.PALETTE, self.VALID, np.array(true_ab) / 110).tolist()

    def test_within_15_of_a_valid_color(self) -> None:
        assert self.covered((40, 34.9), (0, 60)) == [1, 1]
        assert self.covered((40, 35.1), (11, 11)) == [0, 0]
        assert self.covered((0, 0), (0, 0)) == [0, 1]  # the first one's gray is not valid

    def test_unknown_truth_and_empty_palette(self) -> None:
        result = diversity.palette_coverage(
            self.PALETTE, np.array([[False] * 3, [True] * 3]), np.array([[0.0, 0.0], [np.nan, np.nan]])
        )
        np.testing.assert_array_equal(result, [0, np.nan])

    def test_exactly_one_color_happens(self) -> None:
        """The nearest, however far."""
        result = diversity.happened(self.PALETTE, self.VALID, np.array([[-100, -100], [5, 20]]) / 110)
        np.testing.assert_array_equal(result, [[0, 1, np.nan], [1, 0, np.nan]])
        unknown = diversity.happened(self.PALETTE, self.VALID, np.full((2, 2), np.nan))
        assert np.isnan(unknown).all()

    def test_shares_of_colors_equal_a_loop_over_pixels(self) -> None:
        rng = np.random.default_rng(3)
        palette, ab = rng.uniform(-1, 1, (3, 4, 2)), rng.uniform(-1, 1, (3, 5, 6, 2))
        valid = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]], bool)
        weights = rng.uniform(0, 1, (3, 5, 6))
        weights[2] = 0
        found = diversity.color_shares(palette, valid, ab, weights)
        for n in range(2):
            shares = np.zeros(4)
            for pixel, weight in zip(ab[n].reshape(-1, 2), weights[n].ravel(), strict=True):
                near = min(np.flatnonzero(valid[n]), key=lambda k: np.hypot(*(pixel - palette[n, k])))
                shares[near] += weight / weights[n].sum()
            np.testing.assert_allclose(found[n], np.where(valid[n], shares, np.nan), atol=1e-9)
        assert np.isnan(found[2]).all()

    def test_shares_of_an_object_of_one_color_are_what_happened(self) -> None:
        palette = np.array([[[0.3, 0.1], [-0.3, -0.1]]])
        ab = np.full((1, 4, 4, 2), [-0.25, 0.0])
        valid = np.ones((1, 2), bool)
        shares = diversity.color_shares(palette, valid, ab, np.ones((1, 4, 4)))
        np.testing.assert_array_equal(shares, diversity.happened(palette, valid, ab[:, 0, 0]))

    def test_true_modes(self) -> None:
        """Most of an object is of one color; its mean would be another; what lies outside does not count."""
        ab = np.zeros((3, 8, 8, 2))
        ab[:, :, :5], ab[:, :, 5:] = np.array([33, -47]) / 110, np.array([-60, 50]) / 110
        ab += np.random.default_rng(0).normal(0, 2, ab.shape) / 110
        masks = np.ones((3, 8, 8))
        masks[1, :, :4], masks[2] = 0, 0
        modes = diversity.true_modes(ab, masks)
        np.testing.assert_allclose(modes[:2] * 110, [[33, -47], [-60, 50]], atol=1)
        assert np.isnan(modes[2]).all()

    def test_the_palette_of_the_truths_own_colors_covers_it(self) -> None:
        rng = np.random.default_rng(0)
        ab = np.clip(rng.normal(0, 0.3, (6, 1, 1, 2)) + rng.normal(0, 0.02, (6, 8, 8, 2)), -0.95, 0.95)
        indices, weights = ab_distribution.soft_encode(jnp.asarray(ab, jnp.float32))
        distributions = np.zeros((6, 529), np.float32)
        for i in range(6):
            np.add.at(distributions[i], np.asarray(indices[i]), np.asarray(weights[i]) / 64)
        found = ab_distribution.modes(jnp.asarray(distributions), 3)
        truth = diversity.true_modes(ab, np.ones((6, 8, 8)))
        covered = diversity.palette_coverage(np.asarray(found.ab, np.float64), np.asarray(found.valid), truth)
        np.testing.assert_array_equal(covered, 1)


class TestReliability:
    def test_a_calibrated_forecast(self) -> None:
        """Palettes of three colors, of which one happens as often as it is probable."""
        rng = np.random.default_rng(0)
        probability = rng.dirichlet([1, 1, 1], 40_000)
        chosen = (probability.cumsum(axis=1) < rng.random((40_000, 1))).sum(axis=1)
        outcome = np.eye(3)[np.minimum(chosen, 2)]
        result = diversity.reliability(probability, outcome)
        assert result.expected_error < 0.01
        assert result.counts.sum() == 120_000
        np.testing.assert_allclose(result.frequency, result.probability, atol=0.05)

    def test_overconfidence(self) -> None:
        """90% for what happens in 60%: an error of 30 points, 10% for what happens in 40%: another 30."""
        probability = np.tile([0.9, 0.1], (100, 1))
        outcome = np.zeros((100, 2))
        outcome[:60, 0] = outcome[60:, 1] = 1
        result = diversity.reliability(probability, outcome, bins=5)
        assert result.expected_error == pytest.approx(0.3)
        np.testing.assert_array_equal(result.counts, [100, 0, 0, 0, 100])
        np.testing.assert_allclose(result.frequency, [0.4, np.nan, np.nan, np.nan, 0.6])
        np.testing.assert_allclose(result.probability, [0.1, np.nan, np.nan, np.nan, 0.9])

    def test_errors_weigh_by_how_many_events_there_are(self) -> None:
        probability = np.array([0.05] * 30 + [0.95] * 10)
        outcome = np.array([0.0] * 30 + [0.0] * 10)
        expected = (30 * 0.05 + 10 * 0.95) / 40
        assert diversity.reliability(probability, outcome).expected_error == pytest.approx(expected)

    def test_the_ends_of_the_range(self) -> None:
        result = diversity.reliability(np.array([0.0, 0.5, 1.0, 1.00005]), np.array([0.0, 1.0, 1.0, 1.0]), bins=2)
        np.testing.assert_array_equal(result.counts, [1, 3])
        np.testing.assert_array_equal(result.edges, [0, 0.5, 1])

    def test_what_does_not_count(self) -> None:
        probability, outcome = np.array([0.5, np.nan, 7.0]), np.array([1.0, np.nan, np.nan])
        assert diversity.reliability(probability, outcome).counts.sum() == 1
        nothing = diversity.reliability(probability, np.full(3, np.nan))
        assert np.isnan(nothing.expected_error)
        assert nothing.counts.sum() == 0

    @pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
    def test_no_probabilities(self, bad: float) -> None:
        with pytest.raises(ValueError, match="from 0 to 1"):
            diversity.reliability(np.array([bad]), np.array([1.0]))
        with pytest.raises(ValueError, match="at least one bin"):
            diversity.reliability(np.array([0.5]), np.array([1.0]), bins=0)

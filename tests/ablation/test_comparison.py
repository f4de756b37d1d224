"""The table's numbers against the same said plainly, and against SciPy's bootstrap."""

import json

import numpy as np
import pytest
import scipy.stats

from jaxcolor.ablation.comparison import compare_variants, paired_difference
from jaxcolor.ablation.outcome import AblationError, Cost, Outcome
from jaxcolor.ablation.picture import draw
from jaxcolor.ablation.tables import latex, markdown
from jaxcolor.evaluation.statistics import BOOTSTRAP_SEED, RESAMPLES


def scores(seed: int, seeds: int = 3, photos: int = 12, shift: float = 0.0) -> np.ndarray:
    """Photos differ much, seeds and variants little."""
    rng = np.random.default_rng(seed)
    photo = np.random.default_rng(99).normal(20, 4, photos)
    return photo + shift + rng.normal(0, 0.5, (seeds, 1)) + rng.normal(0, 0.7, (seeds, photos))


def plainly(variant: np.ndarray, baseline: np.ndarray) -> tuple[float, float, float]:
    """Resample by resample, pair by pair."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    seeds, photos = variant.shape
    pairs = {(k, p): variant[k, p] - baseline[k, p] for k in range(seeds) for p in range(photos)}
    means = []
    for _ in range(RESAMPLES):
        drawn_seeds = rng.integers(seeds, size=seeds).tolist()
        drawn_photos = rng.integers(photos, size=photos).tolist()
        drawn = [pairs[k, p] for k in drawn_seeds for p in drawn_photos if not np.isnan(pairs[k, p])]
        means.append(sum(drawn) / len(drawn))
    known = [value for value in pairs.values() if not np.isnan(value)]
    return sum(known) / len(known), *np.percentile(means, [2.5, 97.5])


class TestDifference:
    def test_by_hand(self) -> None:
        found = paired_difference(np.array([[3.0, 5.0], [4.0, np.nan]]), np.array([[1.0, 1.0], [1.0, 1.0]]))
        assert found.value == pytest.approx((2 + 4 + 3) / 3)
        assert found.photos == 2

    @pytest.mark.parametrize("missing", [False, True])
    def test_against_pairs_drawn_one_by_one(self, missing: bool) -> None:
        variant, baseline = scores(0, shift=0.4), scores(1)
        if missing:
            variant[1, 3] = baseline[2, 5] = np.nan
        found = paired_difference(variant, baseline)
        assert found.interval is not None
        np.testing.assert_allclose([found.value, *found.interval], plainly(variant, baseline), rtol=1e-9)
        assert found.photos == 12

    def test_one_seed_is_the_bootstrap_over_photos(self) -> None:
        variant, baseline = scores(0, seeds=1, photos=60, shift=0.3), scores(1, seeds=1, photos=60)
        found = paired_difference(variant, baseline)
        theirs = scipy.stats.bootstrap(
            ((variant - baseline)[0],), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(0)
        ).confidence_interval
        assert found.interval is not None
        width = theirs.high - theirs.low
        np.testing.assert_allclose(found.interval, [theirs.low, theirs.high], atol=0.08 * width)

    def test_pairing_takes_away_what_photos_have_in_common(self) -> None:
        variant, baseline = scores(0, shift=0.4), scores(1)
        apart = paired_difference(variant, baseline[:, ::-1])
        paired = paired_difference(variant, baseline)
        assert paired.interval is not None
        assert apart.interval is not None
        assert paired.value == pytest.approx(apart.value)
        assert paired.interval[1] - paired.interval[0] < 0.6 * (apart.interval[1] - apart.interval[0])

    def test_seeds_that_disagree_widen_it(self) -> None:
        flat = np.zeros((4, 30))
        steady, moody = flat + 1, flat + np.array([[-1.0], [3.0], [-1.0], [3.0]])
        assert paired_difference(steady, flat).interval == (1, 1)
        low, high = paired_difference(moody, flat).interval
        assert low < 0 < 2 < high

    def test_what_ran_once_stands_for_every_seed(self) -> None:
        variant, baseline = scores(0, seeds=1), scores(1, seeds=3)
        assert paired_difference(variant, baseline) == paired_difference(np.repeat(variant, 3, axis=0), baseline)

    def test_few_or_none(self) -> None:
        assert paired_difference(np.full((2, 3), np.nan), np.zeros((2, 3))) == (None, None, 0)
        assert paired_difference(np.array([[2.0]]), np.array([[1.5]])) == (0.5, None, 1)
        lone = np.array([[2.0, np.nan]])
        assert paired_difference(lone, np.zeros((1, 2))) == (2, None, 1)


def outcome(psnr: np.ndarray, names: tuple[str, ...] | None = None, **more: np.ndarray) -> Outcome:
    found = {"psnr": psnr, "ssim": np.minimum(psnr, 100) / 30, **more}
    return Outcome(
        names or tuple(f"p{i}" for i in range(len(psnr))),
        {"full": found, "fused": found},
        Cost(train_seconds=61.2, trained_parameters=1234567, crops_per_photo=2.5, gflops_per_photo=12.3456),
    )


@pytest.fixture
def runs() -> dict[str, list[Outcome]]:
    return {
        "learned": [outcome(row) for row in scores(1)],
        "box_mask": [outcome(row) for row in scores(0, shift=-0.5)],
        "none": [outcome(scores(2, seeds=1)[0])],
    }


class TestTable:
    def test_means_and_differences(self, runs: dict[str, list[Outcome]]) -> None:
        found = compare_variants("weighting", "learned", runs)
        assert (found.photos, found.metrics, found.left_out) == (12, ("psnr", "ssim"), ())
        assert [row.runs for row in found.rows] == [3, 3, 1]
        learned, box_mask, none = found.rows
        assert learned.differences == {}
        assert learned.means["psnr"] == pytest.approx(scores(1).mean())
        assert box_mask.differences["psnr"] == paired_difference(scores(0, shift=-0.5), scores(1))
        assert none.differences["ssim"] == paired_difference(scores(2, seeds=1) / 30, scores(1) / 30)
        np.testing.assert_allclose(box_mask.per_run["psnr"], scores(0, shift=-0.5).mean(axis=1))
        json.dumps(found.to_json(), allow_nan=False)

    def test_identical_pictures_count_100_db(self) -> None:
        infinite = np.array([np.inf, 20.0])
        found = compare_variants("a", "x", {"x": [outcome(np.array([50.0, 20.0]))], "y": [outcome(infinite)]})
        assert found.rows[1].means["psnr"] == 60
        assert found.rows[1].differences["psnr"].value == 25

    def test_metrics_that_only_some_have_are_left_out_and_listed(self, runs: dict[str, list[Outcome]]) -> None:
        runs["learned"] = [outcome(row, lpips=row) for row in scores(1)]
        found = compare_variants("a", "learned", runs)
        assert (found.metrics, found.left_out) == (("psnr", "ssim"), ("lpips",))
        assert "Not measured, or not for every variant: lpips." in markdown(found)

    def test_the_metrics_of_the_table(self, runs: dict[str, list[Outcome]]) -> None:
        found = compare_variants("a", "learned", runs, ("ssim", "lpips_alex"))
        assert (found.metrics, found.shown, found.left_out) == (("psnr", "ssim"), ("ssim",), ("lpips_alex",))
        head = markdown(found).splitlines()[0]
        assert "SSIM" in head
        assert "PSNR" not in head
        assert "psnr" in found.to_json()["rows"][0]["means"]

    def test_other_photos(self, runs: dict[str, list[Outcome]]) -> None:
        runs["box_mask"][1] = outcome(scores(0)[1], names=tuple(f"q{i}" for i in range(12)))
        with pytest.raises(AblationError, match="variant box_mask: measured on other photos"):
            compare_variants("a", "learned", runs)

    def test_markdown(self, runs: dict[str, list[Outcome]]) -> None:
        text = markdown(compare_variants("weighting", "learned", runs))
        head, rule, *body = text.split("\n\n")[0].splitlines()
        assert {len(line) for line in (head, rule, *body)} == {len(head)}
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in body]
        assert [line[0] for line in cells] == [
            "learned",
            "box_mask",
            "none",
            "box_mask \N{MINUS SIGN} learned",
            "95%",
            "none \N{MINUS SIGN} learned",
            "95%",
        ]
        assert cells[0][1] == f"{scores(1).mean():.2f}"
        assert cells[0][3:] == ["3", "61 s", "1,234,567", "2.5", "12.3"]
        low, high = paired_difference(scores(0, shift=-0.5), scores(1)).interval
        assert cells[4][1].replace("\N{MINUS SIGN}", "-") == f"{low:+.2f} … {high:+.2f}"
        assert "3 seeds are few" in text

    def test_latex(self, runs: dict[str, list[Outcome]]) -> None:
        text = latex(compare_variants("weighting", "learned", runs))
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len(rows) == 8
        assert {line.count("&") for line in rows} == {7}
        assert r"box\_mask $-$ learned" in text
        assert "_mask" not in text.replace(r"\_mask", "")
        assert text.isascii()

    def test_picture(self, runs: dict[str, list[Outcome]], tmp_path) -> None:
        draw(compare_variants("weighting", "learned", runs), tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
        draw(compare_variants("one", "learned", {"learned": runs["learned"]}), tmp_path / "b.png")
        assert not (tmp_path / "b.png").exists()

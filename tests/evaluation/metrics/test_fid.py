import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

from jaxcolor.evaluation.metrics import fid


def features(count: int, width: int = 24, seed: int = 0) -> np.ndarray:
    """As a ReLU network gives them: correlated, of unequal scales, none below 0."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((width, width)) * np.exp(rng.standard_normal(width))
    return np.maximum(rng.standard_normal((count, width)) @ mix + seed, 0).astype(np.float32)


def statistics(values: np.ndarray) -> fid.Statistics:
    return fid.add(fid.no_photos(values.shape[1]), values).statistics()


def plain(first: np.ndarray, second: np.ndarray) -> float:
    """The formula by SciPy's matrix square root, which wants covariances of full rank."""
    m1, m2 = (x.mean(0, dtype=np.float64) for x in (first, second))
    c1, c2 = (np.cov(np.float64(x), rowvar=False) for x in (first, second))
    return float(np.square(m1 - m2).sum() + np.trace(c1 + c2 - 2 * scipy.linalg.sqrtm(c1 @ c2).real))


class TestStatistics:
    def test_mean_and_covariance_are_those_of_numpy(self) -> None:
        values = features(100)
        found = statistics(values)
        assert found.count == 100
        np.testing.assert_allclose(found.mean, values.astype(np.float64).mean(0), rtol=1e-13)
        np.testing.assert_allclose(found.covariance, np.cov(values.astype(np.float64), rowvar=False), rtol=1e-10)

    def test_any_batches_on_any_processes_give_the_same(self) -> None:
        values = features(101)
        whole = statistics(values)
        parts = []
        for share in np.split(values, [13, 13, 60]):  # one process has no photo
            sums = fid.no_photos(values.shape[1])
            for batch in np.array_split(share, 4):
                sums = fid.add(sums, batch)
            parts.append(sums)
        added = (sum(getattr(part, name) for part in parts) for name in ("count", "total", "products"))
        merged = fid.Sums(*added).statistics()
        assert merged.count == 101
        np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-13)
        np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=1e-10)
        assert fid.distance(merged, whole) < 1e-9

    def test_what_is_no_number_stops(self) -> None:
        values = features(4)
        for bad in (np.nan, np.inf):
            values[2, 3] = bad
            with pytest.raises(fid.StatisticsError, match="NaN or infinite"):
                fid.add(fid.no_photos(24), values)

    @pytest.mark.parametrize("count", [0, 1])
    def test_two_photos_are_the_fewest(self, count: int) -> None:
        with pytest.raises(fid.StatisticsError, match=f"at least 2 photos in each set, not {count}"):
            statistics(features(count))


class TestDistance:
    @pytest.mark.parametrize("seed", [1, 2])
    def test_it_is_that_of_scipys_square_root(self, seed: int) -> None:
        first, second = features(200), features(300, seed=seed)
        expected = plain(first, second)
        assert expected > 1
        np.testing.assert_allclose(fid.distance(statistics(first), statistics(second)), expected, rtol=1e-9)

    def test_of_gaussians_with_a_common_basis_it_is_known(self) -> None:
        turn = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
        scales = np.array([[9.0, 4, 1, 0.25, 0, 0], [1.0, 4, 0, 0.01, 1, 0]])
        first, second = (fid.Statistics(99, np.full(6, float(i)), (turn * s) @ turn.T) for i, s in enumerate(scales))
        expected = 6 + np.square(np.sqrt(scales[0]) - np.sqrt(scales[1])).sum()
        np.testing.assert_allclose(fid.distance(first, second), expected, rtol=1e-12)

    def test_sets_smaller_than_the_width_do_no_harm(self) -> None:
        few, fewer = features(10, width=64), features(7, width=64, seed=3)
        found = fid.distance(statistics(few), statistics(fewer))
        # Two singular covariances: their product's non-zero spectrum is that of a 10x7 matrix, which SciPy can do.
        a, b = (np.float64(x - x.mean(0, dtype=np.float64)) / np.sqrt(len(x) - 1) for x in (few, fewer))
        root = scipy.linalg.svdvals(a @ b.T).sum()
        mean = np.square(few.mean(0, dtype=np.float64) - fewer.mean(0, dtype=np.float64)).sum()
        np.testing.assert_allclose(found, mean + np.square(a).sum() + np.square(b).sum() - 2 * root, rtol=1e-9)

    def test_a_set_is_at_no_distance_from_itself_and_order_does_not_matter(self) -> None:
        first, second = statistics(features(200)), statistics(features(30, seed=1))
        assert 0 <= fid.distance(first, first) < 1e-9
        np.testing.assert_allclose(fid.distance(first, second), fid.distance(second, first), rtol=1e-12)
        flat = statistics(np.ones((5, 24), np.float32))
        assert fid.distance(flat, flat) == 0
        assert fid.distance(flat, statistics(np.full((9, 24), 3, np.float32))) == pytest.approx(4 * 24)

    def test_widths_must_agree(self) -> None:
        with pytest.raises(ValueError, match="different widths: 24 and 8"):
            fid.distance(statistics(features(30)), statistics(features(30, width=8)))


SOURCE = {"photos": "val2017", "count": 30, "side": 256, "weights": "6726825d"}


class TestFiles:
    def test_computed_once_and_read_from_then_on(self, tmp_path: Path) -> None:
        calls = []

        def compute() -> fid.Statistics:
            calls.append(1)
            return statistics(features(30))

        folder = tmp_path / "made" / "here"
        first, again = (fid.cached(folder, SOURCE, compute) for _ in range(2))
        assert len(calls) == 1
        assert again.count == first.count == 30
        np.testing.assert_array_equal(again.mean, first.mean)
        np.testing.assert_array_equal(again.covariance, first.covariance)
        fid.cached(folder, SOURCE | {"side": 128}, compute)
        assert len(calls) == 2
        assert len(list(folder.iterdir())) == 2

    def test_pytorch_fid_could_read_them(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npz"
        fid.save(path, statistics(features(30)), SOURCE)
        with np.load(path, allow_pickle=False) as file:
            assert (file["mu"].shape, file["sigma"].shape) == ((24,), (24, 24))
            assert json.loads(str(file["source"])) == {"format": 1, **SOURCE}

    def test_statistics_of_another_source_are_refused(self, tmp_path: Path) -> None:
        path = fid.cache_file(tmp_path, SOURCE)
        fid.save(path, statistics(features(30)), SOURCE | {"side": 1})
        with pytest.raises(fid.StatisticsError, match="statistics of another source"):
            fid.cached(tmp_path, SOURCE, lambda: statistics(features(30)))

    def test_a_damaged_file_is_told_in_one_line(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npz"
        with pytest.raises(FileNotFoundError):
            fid.load(path)
        fid.save(path, statistics(features(30)), SOURCE)
        whole = path.read_bytes()
        arrays = dict(np.load(path))
        texts = [b"", b"<html>", whole[: len(whole) // 2]]
        for text in texts:
            path.write_bytes(text)
            with pytest.raises(fid.StatisticsError, match="damaged or not statistics"):
                fid.load(path)
        for change, words in [
            ({"source": "[]"}, "damaged or not"),
            ({"source": "{"}, "damaged or not"),
            ({"source": '{"format": 2}'}, "format 2, this version reads 1"),
            ({"mu": np.zeros(3)}, r"mu is \(3,\) and sigma \(24, 24\)"),
            ({"mu": np.zeros(24, np.float32)}, "mu is float32 and sigma float64"),
            ({"sigma": np.full((24, 24), np.nan)}, "NaN or infinity"),
        ]:
            np.savez(path, **(arrays | change))
            with pytest.raises(fid.StatisticsError, match=words) as caught:
                fid.load(path)
            assert str(caught.value).startswith(f"{path}: ")
            assert "\n" not in str(caught.value)
        np.savez(path, **{k: v for k, v in arrays.items() if k != "count"})
        with pytest.raises(fid.StatisticsError, match="count"):
            fid.load(path)

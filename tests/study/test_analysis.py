import itertools
import json
import math
import re
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxcolor.cli import main
from jaxcolor.study.agreement import agreement
from jaxcolor.study.analysis import Rules, analyse, bradley_terry, half_width, share
from jaxcolor.study.answers import read_sessions
from jaxcolor.study.key import GRAY, write_key
from jaxcolor.study.plan import StudyError
from jaxcolor.study.report import markdown, notes, table
from tests.study.people import by_strength, key, record, write

QUICK = Rules(resamples=400)


def analysed(tmp_path, key, records, rules=QUICK):
    return analyse(key, read_sessions(write(tmp_path / "answers", records), key), rules)


class TestShare:
    def test_wilson_by_hand(self):
        """Wilson (1927) for 8 of 10: center (0.8 + z²/20) / (1 + z²/10), half width by the formula; to 4 digits."""
        z2 = 1.959964**2
        center = (0.8 + z2 / 20) / (1 + z2 / 10)
        half = math.sqrt(z2) / (1 + z2 / 10) * math.sqrt(0.8 * 0.2 / 10 + z2 / 400)
        found = share(8, 10)
        assert found.value == 0.8
        np.testing.assert_allclose(found.wilson, (center - half, center + half), atol=1e-6)
        np.testing.assert_allclose(found.wilson, (0.4902, 0.9433), atol=1e-4)
        assert share(0, 0).value is None
        assert share(0, 0).wilson is None

    @pytest.mark.parametrize("n", [2, 10, 96, 400])
    def test_half_width(self, n):
        low, high = share(n // 2, n).wilson
        assert half_width(n) == pytest.approx((high - low) / 2)


class TestAgreement:
    def test_krippendorff_by_hand(self):
        """Krippendorff (2011), example A: two observers, ten units of nominal 0 and 1: alpha 0.095."""
        one, two = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
        found = agreement([[bool(a), bool(b)] for a, b in zip(one, two, strict=True)])
        assert found.alpha == pytest.approx(0.095, abs=5e-4)
        assert found.observed == pytest.approx(0.6)
        assert (found.units, found.judgements) == (10, 20)

    def test_units_of_several_sizes_by_hand(self):
        """Units TTF, TF, F, FF: the third cannot be compared. n 7, T 3, F 4; differing 2·2·1/2 + 2·1·1/1 + 0 = 4."""
        found = agreement([[True, True, False], [True, False], [False], [False, False]])
        assert found.alpha == pytest.approx(1 - 4 / (2 * 3 * 4 / 6))
        assert found.observed == pytest.approx(1 - 4 / 7)
        assert (found.units, found.judgements) == (3, 7)

    @settings(deadline=None)
    @given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=2, max_size=12))
    def test_is_fleiss_kappa_but_for_small_samples(self, votes):
        """As many judges everywhere: 1 - alpha = (1 - kappa) (n - 1) / n, for kappa's chance draws with replacement."""
        counts = np.array([[sum(unit), 3 - sum(unit)] for unit in votes])
        observed = ((counts**2).sum(axis=1) - 3) / 6
        chance = ((counts.sum(axis=0) / counts.sum()) ** 2).sum()
        found = agreement(votes)
        assert found.observed == pytest.approx(observed.mean())
        if chance == 1:
            assert found.alpha is None
        else:
            kappa, n = (observed.mean() - chance) / (1 - chance), counts.sum()
            assert 1 - found.alpha == pytest.approx((1 - kappa) * (n - 1) / n)

    def test_without_shared_units(self):
        assert agreement([[True], [False]]).alpha is None
        assert agreement([]).observed is None
        assert agreement([[True, True]]).alpha is None


class TestBradleyTerry:
    def test_two_systems_by_hand(self):
        np.testing.assert_allclose(bradley_terry(np.array([[0, 30.0], [10.0, 0]])), [math.log(3) / 2, -math.log(3) / 2])

    def test_chances_of_the_model_are_found_again(self):
        scores = np.array([1.2, 0.1, -0.3, -1.0])
        wins = 100 / (1 + np.exp(scores[None] - scores[:, None]))
        np.fill_diagonal(wins, 0)
        np.testing.assert_allclose(bradley_terry(wins), scores - scores.mean(), atol=1e-6)

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.integers(0, 30), min_size=6, max_size=6))
    def test_expected_wins_are_the_wins(self, numbers):
        """What defines the maximum: each system's expected number of wins is its number of wins."""
        wins = np.full((3, 3), 0.5)
        np.fill_diagonal(wins, 0)
        wins[~np.eye(3, dtype=bool)] += numbers
        scores = bradley_terry(wins)
        chance = 1 / (1 + np.exp(scores[None] - scores[:, None]))
        expected = ((wins + wins.T) * chance).sum(axis=1)
        np.testing.assert_allclose(expected, wins.sum(axis=1), rtol=1e-5)

    def test_without_choix(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "choix", None)
        with pytest.raises(StudyError, match=r"need choix: pip install 'jaxcolor\[study\]'"):
            bradley_terry(np.array([[0, 1.0], [1.0, 0]]))


class TestAnalyse:
    def test_by_hand(self, tmp_path):
        """Three people who choose by name: a over b over c, one the other way round; no chance in it."""
        made = key(photos=4, systems=3, count=12, repeats=2, catches=2)
        forth = lambda x, y: x == "truth" or (y != "truth" and x < y)  # noqa: E731
        back = lambda x, y: x == "truth" or (y != "truth" and x > y)  # noqa: E731
        records = [record(made, "p1", forth), record(made, "p2", forth), record(made, "p3", back)]
        found = analysed(tmp_path, made, records)
        assert found.counted == 3
        assert [(p.first, p.second) for p in found.preferences] == [("a", "b"), ("a", "c"), ("b", "c")]
        for p in found.preferences:  # all 12 pairs of pictures, by everyone
            assert (p.wins.hits, p.wins.of) == (8, 12)
            assert p.wins.wilson == share(8, 12).wilson
            assert p.p == pytest.approx(2 * sum(math.comb(12, k) for k in range(8, 13)) / 2**12)
            assert p.bootstrap == (0, 1)  # three people: all of one kind, or of the other
        assert [s.system for s in found.scores] == ["a", "b", "c"]
        assert found.scores[1].score == pytest.approx(0, abs=1e-9)
        # TTF in each of 12 units: n 36, T 24, F 12.
        assert found.agreement.units == 12
        assert found.agreement.alpha == pytest.approx(1 - 12 * 2 / (2 * 24 * 12 / 35))
        assert found.agreement.observed == pytest.approx(1 / 3)
        assert (found.consistency.hits, found.consistency.of) == (6, 6)
        assert [p.failed.hits for p in found.people] == [0, 0, 0]
        assert all(p.median_ms == 1500.5 for p in found.people)

    def test_simulated_people_show_their_strengths(self, tmp_path):
        made = key(photos=20, systems=4, count=60, repeats=5, catches=2)
        strengths = {"a": -0.6, "b": 0.9, "c": -0.3, "d": 0.0}
        rng = np.random.default_rng(0)
        records = [record(made, f"p{i}", by_strength(strengths, rng)) for i in range(25)]
        found = analysed(tmp_path, made, records, Rules(resamples=200))
        assert [s.system for s in found.scores] == ["b", "d", "c", "a"]
        for row in found.scores:
            low, high = row.bootstrap
            assert low < strengths[row.system] < high
            assert low < row.score < high
            assert high - low < 0.7
        for p in found.preferences:
            chance = 1 / (1 + math.exp(strengths[p.second] - strengths[p.first]))
            assert p.wins.wilson[0] - 0.03 < chance < p.wins.wilson[1] + 0.03
        assert found.counted == 25
        assert sum(p.wins.of for p in found.preferences) == 25 * 60

    def test_wilson_covers(self):
        """Of 200 simulated studies at known strengths about 95% of the intervals hold the truth."""
        rng, chance, n = np.random.default_rng(1), 0.7, 80
        inside = sum(
            low <= chance <= high for low, high in (share(int(k), n).wilson for k in rng.binomial(n, chance, 200))
        )
        assert 181 <= inside <= 198

    def test_a_system_that_always_wins_has_a_finite_score(self, tmp_path):
        made = key(photos=4, systems=2, count=4, repeats=0, catches=0)
        found = analysed(tmp_path, made, [record(made, "p1", lambda x, y: x == "a")])
        assert found.scores[0].score == pytest.approx(math.log(4.5 / 0.5) / 2)
        assert found.scores[0].bootstrap is None
        assert found.preferences[0].bootstrap is None
        assert found.agreement.alpha is None
        assert found.consistency.value is None

    def test_inattention_is_left_out_by_the_rule(self, tmp_path):
        made = key(photos=8, systems=2, count=8, repeats=1, catches=4)
        seen = itertools.count()
        good = lambda x, y: x == "truth" or x == "a"  # noqa: E731
        one_slip = lambda x, y: (y == "truth") == (next(seen) == 0) if "truth" in (x, y) else x == "a"  # noqa: E731
        bad = lambda x, y: x == GRAY or x == "b"  # noqa: E731
        records = [record(made, "p1", good), record(made, "p2", one_slip), record(made, "p3", bad)]
        found = analysed(tmp_path, made, records)
        assert [(p.failed.hits, p.reason) for p in found.people] == [
            (0, ""),
            (1, ""),
            (4, "failed 4 of 4 catch trials"),
        ]
        assert (found.preferences[0].wins.hits, found.preferences[0].wins.of) == (16, 16)
        assert "p3: left out, failed 4 of 4 catch trials" in notes(found)
        kept = analysed(tmp_path, made, records, Rules(keep_all=True, resamples=0))
        assert (kept.preferences[0].wins.hits, kept.preferences[0].wins.of) == (16, 24)
        assert kept.counted == 3
        strict = analysed(tmp_path, made, records, Rules(most_failed=0.0, resamples=0))
        assert [bool(p.reason) for p in strict.people] == [False, True, True]
        with pytest.raises(StudyError, match=r"no participant is left of 1 \(p3: failed 4 of 4 catch trials\)"):
            analysed(tmp_path, made, records[2:])

    def test_side_bias_and_inconsistency(self, tmp_path):
        made = key(photos=10, systems=2, count=10, repeats=5, catches=0)
        found = analysed(tmp_path, made, [record(made, f"p{i}", lambda x, y: True) for i in range(3)])
        assert (found.left.hits, found.left.of) == (30, 30)
        assert found.left_p == pytest.approx(2 / 2**30)
        assert (found.consistency.hits, found.consistency.of) == (0, 15)
        assert any("(a side bias)" in note for note in notes(found))

    @pytest.mark.parametrize(
        ("rules", "told"),
        [(Rules(most_failed=1.5), "--most-failed 1.5: must be from 0 to 1"), (Rules(resamples=-1), "--resamples -1")],
    )
    def test_rules(self, rules, told):
        with pytest.raises(StudyError, match=told):
            analyse(key(), [], rules)


class TestReport:
    @pytest.fixture
    def files(self, tmp_path):
        made = key(photos=6, systems=3, count=12, repeats=3, catches=2)
        rng = np.random.default_rng(2)
        records = [record(made, f"p{i}", by_strength({"a": 1.0, "b": 0.0, "c": -1.0}, rng)) for i in range(4)]
        write_key(tmp_path / "key.json", made)
        write(tmp_path / "answers", records)
        return tmp_path

    def test_command(self, files, capsys):
        arguments = ["study", "analyse", str(files), str(files / "answers"), "-o", str(files / "out")]
        assert main([*arguments, "--resamples", "40"]) == 0
        told = capsys.readouterr().out
        assert told.startswith("48 comparisons by 4 participants\n")
        assert told.endswith(f"wrote {files / 'out'}\n")
        assert sorted(p.name for p in (files / "out").iterdir()) == ["study.json", "study.md", "study.png"]
        found = json.loads((files / "out" / "study.json").read_text())
        assert found["schema"] == "jaxcolor-study"
        first = found["preferences"][0]
        assert re.search(rf"a over b +{first['wins']['hits']} / {first['wins']['of']} ", told)
        assert found["pseudo_wins"] == 0.5
        assert found["rules"]["resamples"] == 40
        page = (files / "out" / "study.md").read_text()
        assert page.startswith("# User study abc\n\n“Which?” 48 comparisons")
        tables = [line for line in page.splitlines() if line.startswith("|")]
        assert len(tables) == (2 + 3) + (2 + 3) + (2 + 4)
        with Image.open(files / "out" / "study.png") as picture:
            assert picture.size[0] > 1000
        assert main(arguments) == 1
        assert "out: exists" in capsys.readouterr().err

    def test_what_goes_wrong_is_one_line(self, files, capsys):
        (files / "answers" / "p9.json").write_text("{}")
        assert main(["study", "analyse", str(files), str(files / "answers"), "-o", str(files / "out")]) == 1
        told = capsys.readouterr().err
        assert "p9.json: is no jaxcolor-study-answers file" in told
        assert told.count("\n") == 1
        assert not (files / "out").exists()
        assert main(["study", "analyse", str(files / "answers"), str(files), "-o", str(files / "out")]) == 1
        assert "key.json: No such file" in capsys.readouterr().err

    def test_names_do_not_break_the_table(self, tmp_path):
        made = key(photos=4, systems=2, count=4, repeats=0, catches=0)
        odd = {"a": "x|y $_1$", "b": "b"}
        owners = {code: odd.get(system, system) for code, system in made.owners.items()}
        made = made.__class__(**{**vars(made), "owners": owners, "systems": ("x|y $_1$", "b")})
        found = analysed(tmp_path, made, [record(made, "p1", lambda x, y: x == "b")])
        rows = [line for line in markdown(found).splitlines() if line.startswith("| x")]
        assert rows[0].startswith("| x\\|y $_1$ over b | 0 / 4 | 0.0% |")
        assert "x|y $_1$ over b" in table(found)

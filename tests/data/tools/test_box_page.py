import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxcolor.cli import main
from jaxcolor.data.tools.box_page import HEIGHT, WIDTH, charts, page
from jaxcolor.data.tools.box_statistics import Statistics, propose_budget
from tests.evaluation.test_report import NASTY, Checker


def statistics(counts, seed=0):
    """Of photos with as many boxes, of random sizes."""
    rng, counts = np.random.default_rng(seed), np.array(counts, np.int64)
    boxes = int(counts.sum())
    coverage = np.where(counts > 0, rng.random(len(counts)), 0.0)
    return Statistics(counts, counts, coverage, rng.random(boxes) * 300, rng.random(boxes), rng.random(boxes))


def checked(text):
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    return checker


class TestPage:
    def test_holds_everything_and_escapes_names(self):
        counts = [0, 1, 3, 2, 2]
        text = page(NASTY, f"summary {NASTY}", statistics(counts), Image.new("RGB", (50, 40)), 8, 4)
        found = checked(text)
        assert "script" not in found.tags
        assert found.text.count(NASTY) == 3  # title, heading, summary
        addresses = [value for name, value in found.attributes if name in ("src", "href", "xlink:href")]
        assert len(addresses) == 1
        assert addresses[0].startswith("data:image/jpeg;base64,")
        assert not re.search(r"url\(|@import|https?:", text)
        assert "4 with usable boxes" in found.text
        assert "2: 2 (40.0%)" in found.text  # pointing at a bar
        proposed = propose_budget(np.array([1, 3, 2, 2]), 4)
        assert f"{proposed:g} (proposed)" in found.text

    def test_without_boxes(self):
        text = page("t", "s", statistics([0, 0]), Image.new("RGB", (5, 5)), 8, 4)
        found = checked(text)
        assert found.text.count("there is no budget to propose") == 1
        assert found.tags.count("svg") == 1

    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 16), st.integers(0, 9))
    def test_bars_are_the_numbers(self, counts, photos, seed):
        found = statistics(counts, seed)
        drawn = {chart.title: chart for chart in charts(found, photos)}
        assert len(drawn) == (6 if sum(counts) else 1)
        for chart in drawn.values():
            assert max(bar.height for bar in chart.bars) == HEIGHT
            for bar in chart.bars:
                assert bar.y + bar.height == pytest.approx(HEIGHT, abs=0.02)
                assert 0 <= bar.x <= bar.x + bar.width <= WIDTH + 1
            assert all(0 <= tick.x <= WIDTH for tick in chart.ticks)
        shares = np.array([bar.height for bar in drawn["Used boxes a photo"].bars])
        np.testing.assert_allclose(shares / shares.sum(), np.bincount(counts) / len(counts), atol=0.01)
        if sum(counts):
            for title, values in (("Score", found.scores), ("Side, photo pixels", found.sides)):
                told = [int(bar.label.split(": ")[1].replace(",", "")) for bar in drawn[title].bars]
                note = re.search(r"([0-9,]+) larger", drawn[title].note)
                assert sum(told) + (int(note[1]) if note else 0) == len(values)


class TestCommand:
    @pytest.fixture
    def photos(self, tmp_path):
        folder = tmp_path / "photos <b>&"
        (tmp_path / "photos <b>&_bbox").mkdir()
        folder.mkdir()
        for number, stem in enumerate(("<i>a", "b")):
            Image.new("RGB", (40, 20), (90, 90, 90)).save(folder / f"{stem}.png")
            boxes = np.array([[0, 0, 10, 10]] * number, np.float32).reshape(-1, 4)
            np.savez(tmp_path / "photos <b>&_bbox" / f"{stem}.npz", bbox=boxes, scores=np.full(number, 0.5, np.float32))
        return folder

    def test_writes_the_page(self, photos, tmp_path, capsys):
        target = tmp_path / "page.html"
        arguments = ["boxes", "show", str(photos), "--page", str(target)]
        assert main(arguments) == 0
        assert capsys.readouterr().out.endswith(f"wrote {target}\n")
        found = checked(target.read_text(encoding="utf-8"))
        assert "b" not in found.tags
        assert f"{photos}: 2 photos, 1 with boxes; 1 box" in found.text
        assert main(arguments) == 1
        assert "page.html: exists; give --force to replace it" in capsys.readouterr().err
        assert main([*arguments, "--force", "--sheet", str(tmp_path / "s.png")]) == 0
        assert sorted(p.suffix for p in tmp_path.iterdir() if p.is_file()) == [".html", ".png"]
        assert main(["boxes", "show", str(photos), "--page", "page.txt"]) == 1
        assert "page.txt: does not end in .html" in capsys.readouterr().err

import json
import re
import shutil

import pytest
from PIL import Image

from jaxcolor.cli import main
from jaxcolor.data.transforms import read_rgb
from jaxcolor.study.key import read_key
from jaxcolor.study.make import named_folders
from jaxcolor.study.page import WORDING
from jaxcolor.study.plan import StudyError
from tests.evaluation.test_report import NASTY, Checker
from tests.study.people import COLORS, folders, study


def parts(root):
    """The page's data and its pictures."""
    text = (root / "study" / "participants" / "index.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    pictures = {p.stem: p for p in (root / "study" / "participants" / "pictures").iterdir()}
    return text, data, pictures


class TestFolder:
    def test_nothing_tells_whose_a_picture_is(self, tmp_path):
        key = study(tmp_path, ("red", "green", "blue"), photos=8)
        text, data, pictures = parts(tmp_path)
        assert not re.search(r"red|green|blue|truth|gray|photo \d", json.dumps(data["deck"]) + " ".join(pictures))
        assert not re.search(r"photo \d|key\.json", text)
        assert not (tmp_path / "study" / "participants" / "key.json").exists()
        assert "seed" not in json.dumps(data)
        assert len({p.stat().st_mtime for p in pictures.values()}) == 1
        for path in pictures.values():
            assert not re.search(rb"eXIf|tEXt|iTXt|zTXt|tIME|iCCP", path.read_bytes())
        # Names by order: each system is spread over them, and over both places of a pair.
        ranks = {system: [] for system in key.systems}
        for rank, code in enumerate(sorted(pictures)):
            if key.owners[code] in ranks:
                ranks[key.owners[code]].append(rank)
        assert all(len(found) == 8 for found in ranks.values())
        assert all(min(found) < 20 < max(found) for found in ranks.values())
        assert all(len({rank % 5 for rank in found}) > 1 for found in ranks.values())  # five a photo, not in turn
        firsts = {key.owners[pair[0]] for photo in key.deck.photos for pair in photo.pairs}
        assert firsts == set(key.systems)

    def test_pictures_are_those_of_the_key(self, tmp_path):
        key = study(tmp_path)
        _, data, pictures = parts(tmp_path)
        assert data["deck"] == json.loads(json.dumps(key.deck.to_dict()))
        assert sorted(pictures) == sorted(key.owners)
        for photo in key.deck.photos:
            number = int(key.stems[photo.name].split()[1])
            for code in {*photo.pairs[0], *photo.catch, photo.reference}:
                pixels = read_rgb(pictures[code])
                assert pixels.shape == (18, 24, 3)
                assert (pixels == [c + 4 * number for c in COLORS[key.owners[code]]]).all()
            assert key.owners[photo.catch[0]] == "truth"
            assert key.owners[photo.catch[1]] == key.owners[photo.reference] == "gray"
        assert read_key(tmp_path / "study") == read_key(tmp_path / "study" / "key.json") == key

    def test_the_same_again_with_the_same_seed(self, tmp_path):
        for name in ("one", "two", "three"):
            (tmp_path / name).mkdir()
        first, second = study(tmp_path / "one"), study(tmp_path / "two")
        assert first == second
        other = study(tmp_path / "three", repeats=2)
        assert other.deck.study != first.deck.study

    def test_real_compares_with_the_original(self, tmp_path):
        key = study(tmp_path, condition="real", catches=0)
        assert key.pairs == (("red", "truth"), ("blue", "truth"))
        assert "Which one is the real photo?" in parts(tmp_path)[0]

    def test_without_gray_catch_trials_take_luma(self, tmp_path):
        found = folders(tmp_path, ("red", "blue", "truth"))
        arguments = [f"red={found['red']}", f"blue={found['blue']}", "--truth", str(found["truth"])]
        arguments = ["--systems", *arguments, "--catches", "1", "--pairs-per-person", "2", "--repeats", "0"]
        assert main(["study", "make", *arguments, "-o", str(tmp_path / "study")]) == 0
        key, pictures = read_key(tmp_path / "study"), parts(tmp_path)[2]
        photo = key.deck.photos[0]
        assert photo.reference is None
        pixels = read_rgb(pictures[photo.catch[1]])
        assert (pixels.max(axis=2) == pixels.min(axis=2)).all()
        assert key.seed != 0


class TestPage:
    def test_holds_everything_and_escapes(self, tmp_path):
        found = folders(tmp_path, ("red", "blue"))
        wording = {name: f"{text} {NASTY}" for name, text in WORDING.items()}
        (tmp_path / "w.json").write_text(json.dumps(wording), encoding="utf-8")
        arguments = ["--systems", *(f"{n}={p}" for n, p in found.items()), "--wording", str(tmp_path / "w.json")]
        arguments += ["--pairs-per-person", "2", "--repeats", "1"]
        assert main(["study", "make", *arguments, "-o", str(tmp_path / "study")]) == 0
        text, data, _ = parts(tmp_path)
        checker = Checker()
        checker.feed(text)
        checker.close()
        assert checker.open == []
        assert not re.search(r"url\(|@import|https?:", text.replace(json.dumps(NASTY), ""))
        assert {v for n, v in checker.attributes if n in ("src", "href")} == {"data:,"}
        assert data["words"] == wording
        markup = text[: text.index('id="data"')]
        shown = [n for n in WORDING if "{" not in WORDING[n] and f'{{"{n}' not in markup]
        told = checker.text + " ".join(value for _, value in checker.attributes)
        by_script = {"resumed", "too_soon", "copied", "not_copied", "not_kept"}
        assert [n for n in shown if wording[n] not in told and n not in by_script] == []

    def test_wording_prints_what_make_reads(self, tmp_path, capsys):
        assert main(["study", "wording", "--condition", "real"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed.keys() == WORDING.keys()
        assert printed["question"] == "Which one is the real photo?"


class TestWrongInput:
    @pytest.fixture
    def make(self, tmp_path, capsys):
        found = folders(tmp_path, ("red", "blue", "gray"))

        def run(*more, systems=("red", "blue")):
            named = [f"{n}={found[n]}" for n in systems]
            numbers = ["--pairs-per-person", "2", "--repeats", "0"]
            status = main(["study", "make", "--systems", *named, "-o", str(tmp_path / "study"), *numbers, *more])
            return status, capsys.readouterr()

        return run

    def test_photos_that_are_not_everywhere_are_left_out_and_named(self, make, tmp_path):
        (tmp_path / "blue" / "photo 2.png").unlink()
        shutil.copy(tmp_path / "red" / "photo 1.png", tmp_path / "red" / "more.png")
        status, told = make()
        assert status == 0
        assert "left out: photo photo 2: not in blue\n" in told.err
        assert "left out: photo more: not in blue\n" in told.err
        assert sorted(read_key(tmp_path / "study").stems.values()) == ["photo 0", "photo 1", "photo 3"]
        assert "study: study" in told.out
        status, told = make()
        assert status == 1
        assert "study: exists" in told.err

    def test_pairs_are_counted_from_the_photos(self, tmp_path, capsys):
        """Four photos of two systems give four pairs: what nobody asked for is not demanded of them."""
        found = folders(tmp_path, ("red", "blue"))
        systems = ["--systems", *(f"{n}={found[n]}" for n in ("red", "blue"))]
        assert main(["study", "make", *systems, "-o", str(tmp_path / "study")]) == 0
        assert "6 trials a person: 4 comparisons, 2 repeats, 0 catch trials" in capsys.readouterr().out
        key = read_key(tmp_path / "study")
        assert (key.deck.pairs_per_person, key.deck.repeats) == (4, 2)
        assert (key.settings.pairs_per_person, key.settings.repeats) == (4, 2)
        assert main(["study", "make", *systems, "-o", str(tmp_path / "more"), "--repeats", "3"]) == 1
        assert "--repeats 3: must be from 0 to half of --pairs-per-person 4" in capsys.readouterr().err

    def test_sizes_that_differ(self, make, tmp_path):
        Image.new("RGB", (24, 19)).save(tmp_path / "blue" / "photo 1.png")
        Image.new("RGB", (5, 5)).save(tmp_path / "blue" / "photo 2.png")
        status, told = make()
        assert status == 1
        assert "photo photo 1: its pictures differ in size: red 24x18, blue 24x19 (and 1 more photo)" in told.err
        assert not (tmp_path / "study").exists()

    def test_pictures_that_are_the_same_are_counted(self, make, tmp_path):
        shutil.copy(tmp_path / "red" / "photo 1.png", tmp_path / "blue" / "photo 1.png")
        status, told = make()
        assert status == 0
        assert "red and blue are the same picture for 1 photo" in told.err

    def test_a_broken_picture_leaves_nothing_behind(self, make, tmp_path):
        path = tmp_path / "blue" / "photo 1.png"
        path.write_bytes(path.read_bytes()[:60])
        before = sorted(tmp_path.iterdir())
        status, told = make()
        assert status == 1
        assert "photo 1.png: cannot read this photo" in told.err
        assert sorted(tmp_path.iterdir()) == before

    @pytest.mark.parametrize(
        ("more", "told"),
        [
            (("--condition", "real"), "--condition real: needs the originals (--truth DIR)"),
            (("--catches", "1"), "--catches 1: needs the originals (--truth DIR)"),
            (("--pairs-per-person", "5"), "--pairs-per-person 5: must be from 1 to 4 (4 photos with 1 pair of"),
            (("--gray", "nowhere"), "nowhere: no such folder"),
            (("--least-ms", "-1"), "--least-ms -1: must be at least 0"),
            (("--most-zoom", "0"), "--most-zoom 0.0: must be above 0"),
            (("--seed", "-1"), "--seed -1: must be at least 0"),
        ],
    )
    def test_settings(self, make, tmp_path, more, told):
        status, found = make(*more)
        assert status == 1
        assert told in found.err
        assert found.err.count("\n") == 1
        assert not (tmp_path / "study").exists()

    def test_systems(self, make, tmp_path):
        assert "give at least two" in make(systems=("red",))[1].err
        assert "--systems gray=…: the name is taken (--gray)" in make(systems=("red", "gray"))[1].err
        for arguments, told in ((["a"], "must be NAME=DIR"), (["a=x", "a=y"], "a is there twice")):
            with pytest.raises(StudyError, match=told):
                named_folders(arguments)
        (tmp_path / "blue" / "photo 1.jpg").write_bytes((tmp_path / "blue" / "photo 1.png").read_bytes())
        assert "two pictures of one photo" in make()[1].err
        shutil.rmtree(tmp_path / "blue")
        (tmp_path / "blue").mkdir()
        assert "blue: no photos here" in make()[1].err
        Image.new("RGB", (24, 18)).save(tmp_path / "blue" / "elsewhere.png")
        assert "no photo is in all of them" in make()[1].err

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("{", "cannot be read as JSON"),
            ("[]", "must be an object of texts"),
            ('{"titel": "x"}', "there is no text 'titel'; there are title, welcome"),
            ('{"title": 3}', "'title' must be a text"),
            ('{"progress": "{done}"}', "'progress' must hold {count}, which the page fills in"),
        ],
    )
    def test_wording(self, make, tmp_path, text, told):
        (tmp_path / "w.json").write_text(text)
        status, found = make("--wording", str(tmp_path / "w.json"))
        assert status == 1
        assert f"w.json: {told}" in found.err

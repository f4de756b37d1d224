import copy
import json

import pytest

from jaxcolor.study.answers import find_answers, read_session, read_sessions
from jaxcolor.study.key import read_key, write_key
from jaxcolor.study.plan import StudyError
from tests.study.people import key, record, write

KEY = key()


def left(*_):
    return True


def changed(record, path, value):
    """A copy with one field changed, or without it if the value is ``...``."""
    found = copy.deepcopy(record)
    at = found
    for step in path[:-1]:
        at = at[step]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return found


class TestAnswers:
    def test_are_read(self, tmp_path):
        (path,) = write(tmp_path, [record(KEY, "p1", lambda a, b: a < b)])
        session = read_session(path, KEY)
        assert session.participant == "p1"
        assert len(session.answers) == 17
        for answer in session.answers:
            assert {answer.chosen, answer.other} == {answer.trial.left, answer.trial.right}
            assert KEY.owners[answer.chosen] <= KEY.owners[answer.other]

    @pytest.mark.parametrize(
        ("path", "value", "told"),
        [
            (("schema",), "x", "is no jaxcolor-study-answers file"),
            (("version",), 2, "version 2; this jaxcolor reads version 1"),
            (("study",), "def", "answers of study def, not of abc"),
            (("study",), ..., "'study' is missing"),
            (("participant",), "../x", "participant '../x': must be letters"),
            (("participant",), 7, "'participant' is 7; must be a text"),
            (("participant",), "p2", "'seed' is not that of participant 'p2'"),
            (("seed",), 1.5, "'seed' is 1.5; must be a whole number"),
            (("seed",), True, "'seed' is true; must be a whole number"),
            (("trials",), {}, "'trials' is {}; must be a list"),
            (("trials", 16), ..., "16 answers, where participant 'p1' has 17 trials"),
            (("trials", 3), None, "trial 4: must be an object"),
            (("trials", 3, "left"), "s0k9", "trial 4: is not the trial that this study has there"),
            (("trials", 3, "repeat_of"), 2.0, "trial 4: 'repeat_of' is 2.0; must be a whole number or null"),
            (("trials", 3, "chosen"), "both", "trial 4: 'chosen' is 'both'; must be 'left' or 'right'"),
            (("trials", 3, "chosen"), ..., "trial 4: 'chosen' is missing"),
            (("trials", 3, "reaction_ms"), -1, "trial 4: 'reaction_ms' is -1.0; must be a number of at least 0"),
            (("trials", 3, "reaction_ms"), float("nan"), "trial 4: 'reaction_ms' is nan"),
            (("trials", 3, "reaction_ms"), "fast", "trial 4: 'reaction_ms' is \"fast\""),
        ],
    )
    def test_wrong_ones_are_refused(self, tmp_path, path, value, told):
        found = changed(record(KEY, "p1", left), path, value)
        (tmp_path / "a.json").write_text(json.dumps(found))
        with pytest.raises(StudyError) as error:
            read_session(tmp_path / "a.json", KEY)
        assert str(error.value).startswith(f"{tmp_path / 'a.json'}: ")
        assert told in str(error.value)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000, b"3"])
    def test_other_files_are_refused(self, tmp_path, data):
        (tmp_path / "a.json").write_bytes(data)
        with pytest.raises(StudyError, match=r"a.json: (cannot be read as JSON|is no jaxcolor-study-answers file)"):
            read_session(tmp_path / "a.json", KEY)

    def test_of_one_participant_twice(self, tmp_path):
        paths = write(tmp_path / "x", [record(KEY, "p1", left)]) + write(tmp_path / "y", [record(KEY, "p1", left)])
        with pytest.raises(StudyError, match=r"x/answers_p1.json and .*y/answers_p1.json: both of participant 'p1'"):
            read_sessions(paths, KEY)

    def test_folders_are_searched(self, tmp_path):
        paths = write(tmp_path / "x", [record(KEY, name, left) for name in ("p1", "p2")])
        assert find_answers([tmp_path / "x"]) == paths
        assert find_answers([paths[1]]) == paths[1:]
        (tmp_path / "empty").mkdir()
        with pytest.raises(StudyError, match="empty: no answers here"):
            find_answers([tmp_path / "empty"])


class TestKey:
    def test_is_read_as_written(self, tmp_path):
        write_key(tmp_path / "key.json", KEY)
        assert read_key(tmp_path) == read_key(tmp_path / "key.json") == KEY
        assert KEY.pairs == (("a", "b"), ("a", "c"), ("b", "c"))

    @pytest.mark.parametrize(
        ("path", "value", "told"),
        [
            (("deck",), ..., "'deck' is missing"),
            (("deck", "photos"), [], "must have the same pairs"),
            (("deck", "photos", 0, "pairs", 0), ["s0k0"], "deck photo 1: pairs: must be a list of two"),
            (("deck", "photos", 0, "pairs", 0), ["s0k0", "s2k0"], "deck: the photos must have the same pairs"),
            (("deck", "photos", 1, "size"), [3, "4"], "deck photo 2: size: must be a list of two"),
            (("deck", "photos", 1, "reference"), "nobody", "owners: picture 'nobody' belongs to no system"),
            (("deck", "pairs_per_person"), 99, "--pairs-per-person 99"),
            (("systems",), ["a", "b"], "belongs to no system"),
            (("systems",), ["a", "b", "c", "d"], "systems: must be those that the deck compares"),
            (("systems",), ["a", "b", "a"], "systems: must be a list of two or more names"),
            (("owners", "s0k0"), "who", "picture 's0k0' belongs to no system"),
            (("settings", "condition"), "best", "settings: condition 'best': must be one of prefer, real"),
            (("settings", "most_zoom"), None, "settings: 'most_zoom' is null"),
        ],
    )
    def test_wrong_ones_are_refused(self, tmp_path, path, value, told):
        write_key(tmp_path / "key.json", KEY)
        found = changed(json.loads((tmp_path / "key.json").read_text()), path, value)
        (tmp_path / "key.json").write_text(json.dumps(found))
        with pytest.raises(StudyError) as error:
            read_key(tmp_path)
        assert told in str(error.value)

    def test_of_a_system_against_itself_is_refused(self, tmp_path):
        write_key(tmp_path / "key.json", KEY)
        found = json.loads((tmp_path / "key.json").read_text())
        found["systems"] = ["a", "b"]
        found["owners"] = {code: {"b": "a", "c": "b"}.get(owner, owner) for code, owner in found["owners"].items()}
        for photo in found["deck"]["photos"]:
            photo["pairs"] = photo["pairs"][:2]  # a with a, a with b
        (tmp_path / "key.json").write_text(json.dumps(found))
        with pytest.raises(StudyError, match="systems: must be those that the deck compares"):
            read_key(tmp_path)

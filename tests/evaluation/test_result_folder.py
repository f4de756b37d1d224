"""Results of one evaluation never stand beside those of another."""

import shutil

import pytest

from jaxcolor.evaluation.result_folder import METRICS_FILE, PER_OBJECT, REPORT_FILE, RESULT_FILES, replaced_results


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_all_earlier_results_go_and_nothing_else(tmp_path):
    for name in (*RESULT_FILES, "notes.txt"):
        (tmp_path / name).write_text("before")
    with replaced_results(tmp_path) as part:
        (part / METRICS_FILE).write_text("now")
        assert (tmp_path / PER_OBJECT).read_text() == "before"
    assert names(tmp_path) == [METRICS_FILE, "notes.txt"]
    assert (tmp_path / METRICS_FILE).read_text() == "now"


def test_an_evaluation_that_fails_changes_nothing(tmp_path):
    (tmp_path / REPORT_FILE).write_text("before")

    def fail():
        with replaced_results(tmp_path) as part:
            (part / REPORT_FILE).write_text("now")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(tmp_path) == [REPORT_FILE]
    assert (tmp_path / REPORT_FILE).read_text() == "before"


def test_what_a_killed_one_left_goes(tmp_path):
    with replaced_results(tmp_path) as part:
        (part / PER_OBJECT).write_text("of another")
        shutil.copytree(part, tmp_path / "left")
    (tmp_path / PER_OBJECT).unlink()
    (tmp_path / "left").rename(part)
    with replaced_results(tmp_path) as same:
        assert same == part
        (same / METRICS_FILE).write_text("now")
    assert names(tmp_path) == [METRICS_FILE]


def test_other_processes_make_nothing(tmp_path):
    with replaced_results(tmp_path / "out", write=False):
        pass
    assert names(tmp_path) == []

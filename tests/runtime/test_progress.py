"""Bars on terminals, lines in logs."""

import sys
import time

import pytest

from jaxcolor.runtime import progress as module
from jaxcolor.runtime.progress import TimeLeft, bar_of_steps, progress


@pytest.mark.parametrize(("shown", "seconds", "lines"), [(True, 0.0, 2), (True, 60.0, 0), (False, 0.0, 0)])
def test_a_log_gets_a_line_now_and_then(
    shown: bool, seconds: float, lines: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", seconds)
    with progress(3000, "evaluate", "photo", shown=shown) as note:
        for _ in range(3):
            time.sleep(0.001)
            note(1000)
    said = capsys.readouterr().err
    assert "\r" not in said
    found = [line.rsplit(", ", 2)[0] for line in said.splitlines()]
    assert found == [f"evaluate: {n},000 of 3,000 photos" for n in (1, 2)][:lines]
    assert all(line.endswith(" s left") for line in said.splitlines())


def test_what_an_earlier_run_did_says_nothing_of_the_speed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with progress(1000, "detect", "photo", before=800, every=1.0) as note:
        note(100)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "detect: 800 of 1,000 photos done before"
    assert last == "detect: 900 of 1,000 photos, 10 photos/s, about 10 s left"


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "on_terminal", lambda: True)
    with progress(3, "evaluate", "photo") as note:
        note(3)
    assert "3/3" in capsys.readouterr().err
    assert not sys.stderr.isatty()


def test_time_left_leaves_out_the_first_stretch() -> None:
    left = TimeLeft()
    assert left.seconds(100) is None
    left.add(10, 60.0)  # compiling
    assert left.seconds(100) is None
    left.add(10, 5.0)
    assert left.seconds(100) == 50


def test_time_left_does_not_swing() -> None:
    """A stretch that takes fifty times as long, or none, moves it by no more than the steps that were taken."""
    left = TimeLeft()
    shown = []
    for number in range(100):
        left.add(10, 50.0 if number in (20, 21, 60) else 0.01 if number in (30, 31) else 1.0)
        shown.append(left.seconds(1000 - 10 * (number + 1)))
    assert shown[0] is None
    assert shown[1:] == pytest.approx([98 - n for n in range(99)])


def test_time_left_counts_what_is_done_in_between() -> None:
    left = TimeLeft()
    left.pause(1000.0)  # before anything is known
    for _ in range(4):
        left.add(10, 10.0)
    left.pause(15.0)
    assert left.seconds(60) == pytest.approx(60 * (1 + 15 / 30))


@pytest.mark.parametrize(("total", "place"), [(100, " 41/100 ["), (None, "step 41 [")])
def test_a_bar_of_steps_says_what_it_is_told(
    total: int | None, place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "on_terminal", lambda: True)
    with bar_of_steps(total, 40, "full", shown=True) as bar:
        bar.set_postfix_str("compiling …")
        bar.update()
        bar.set_postfix_str("loss 0.1, about 3 min left")
    said = capsys.readouterr().err
    assert "full: " in said
    assert "compiling …]" in said
    last = said.replace("\r", "\n").strip().splitlines()[-1]
    assert place in last
    assert last.endswith(", loss 0.1, about 3 min left]")
    assert "it/s" not in said


def test_a_bar_of_steps_is_none_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with bar_of_steps(100, 0, "full", shown=True) as bar:
        bar.update()
    assert capsys.readouterr().err == ""

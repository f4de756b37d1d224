"""Bars on terminals, lines in logs."""

import sys
import time

import pytest

from jaxcolor.runtime import progress as module
from jaxcolor.runtime.progress import progress


@pytest.mark.parametrize(("shown", "seconds", "lines"), [(True, 0.0, 3), (True, 60.0, 0), (False, 0.0, 0)])
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
    found = [line.rsplit(", ", 1)[0] for line in said.splitlines()]
    assert found == [f"evaluate: {n},000 of 3,000 photos" for n in (1, 2, 3)][:lines]


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "on_terminal", lambda: True)
    with progress(3, "evaluate", "photo") as note:
        note(3)
    assert "3/3" in capsys.readouterr().err
    assert not sys.stderr.isatty()

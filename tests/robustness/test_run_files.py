"""Files of a run that were damaged: its log and its summary cost a line, never the run, and nothing that is whole."""

import json
from pathlib import Path

import pytest

from jaxcolor.training.logs import SCALARS_FILE, read_scalars
from jaxcolor.training.workdirs import SUMMARY_FILE, add_seconds

LINES = [json.dumps({"stage": "full", "step": step, "loss": 1.5}) for step in range(1, 5)]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"null",
        b"3",
        b"[1]",
        b"\xff\xfe\x00",
        b'{"stage": "full"}',
        b'{"stage": 3, "step": 2}',
        b"[" * 200_000,
    ],
    ids=lambda damage: repr(damage[:12]),
)
def test_lines_that_are_whole_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: bytes) -> None:
    lines = [line.encode() for line in LINES]
    lines[1] = damage
    (tmp_path / SCALARS_FILE).write_bytes(b"\n".join(lines) + b"\n")
    assert [record["step"] for record in read_scalars(tmp_path)] == [1, 3, 4]
    path = tmp_path / SCALARS_FILE
    assert capsys.readouterr().err == f"{path}: 1 of 4 lines are damaged and left out\n"


def test_a_last_line_cut_short_is_no_news(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / SCALARS_FILE).write_text("\n".join(LINES)[:-9])
    assert [record["step"] for record in read_scalars(tmp_path)] == [1, 2, 3]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", ["", "{", "null", "[]", '{"train_seconds": 3}', '{"train_seconds": {"full": "x"}}'])
def test_a_damaged_summary_is_begun_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    path = tmp_path / SUMMARY_FILE
    path.write_text(damage)
    add_seconds(tmp_path, "instance", 2.0, resumed=True)
    assert json.loads(path.read_text()) == {"train_seconds": {"instance": 2.0}}
    assert capsys.readouterr().err == f"{path}: is damaged; seconds are counted anew\n"
    add_seconds(tmp_path, "instance", 1.5, resumed=True)
    assert json.loads(path.read_text()) == {"train_seconds": {"instance": 3.5}}

"""File names that steer the terminal, or that are not UTF-8, in what programs print."""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcolor.data.boxes.npz import read_npz
from jaxcolor.data.types import DataError
from jaxcolor.runtime.errors import UserError, exit_status, one_line, printable

NAME = "a\x1b]0;owned\x07\x1b[2Jb\nleft out: nothing.png"


@given(st.text(st.characters(exclude_categories=())))
def test_only_line_breaks_are_left_of_control_characters(text: str) -> None:
    shown = printable(text)
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert printable(shown) == shown
    shown.encode()  # no surrogates


def test_a_name_cannot_feign_a_line() -> None:
    assert one_line(DataError(NAME)) == r"a\x1b]0;owned\x07\x1b[2Jb left out: nothing.png"
    assert printable("Gräfin, 東京 🌋") == "Gräfin, 東京 🌋"


def test_the_last_message_of_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise UserError(f"{NAME}: no such photo")

    assert exit_status("jaxcolor", work) == 1
    assert capsys.readouterr().err == "jaxcolor: a\\x1b]0;owned\\x07\\x1b[2Jb\nleft out: nothing.png: no such photo\n"


def test_names_that_are_not_utf8_are_printed_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="utf-8", errors="strict"))
    assert exit_status("jaxcolor", lambda: print("colored into caf\udce9", flush=True)) == 0
    assert written.getvalue() == b"colored into caf\\udce9\n"


def test_a_box_file_that_claims_more_than_memory(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (2_500_000_000_000, 4)}
    )
    path, scores = tmp_path / "c.npz", io.BytesIO()
    np.save(scores, np.zeros(1, np.float32))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bbox.npy", header.getvalue())
        archive.writestr("scores.npy", scores.getvalue())
    with pytest.raises(DataError, match=r"c\.npz: cannot read this box file: Unable to allocate"):
        read_npz(path)

"""The notebook in docs/, its cells run one after another as in a kernel."""

from __future__ import annotations

import ast
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxcolor import Colorizer

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebooks" / "colorize.ipynb"


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """What a cell shows: the value of its last line, if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, NOTEBOOK.name, "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), names)


@pytest.mark.parametrize("weights", ["fast", pytest.param("default", marks=pytest.mark.slow)])
def test_cells(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is written with the package's default weights; as fast with those that compute a quarter as much."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Colorizer, "from_pretrained", functools.partial(Colorizer.from_pretrained, weights))
    names: dict[str, Any] = {}
    shown = [run_cell("".join(cell["source"]), names) for cell in cells]
    sizes = [picture.size for picture in shown if isinstance(picture, Image.Image)]
    # Given, colored, truth; three strengths; the palette; without and with hints; samples.
    side = 512
    palette = 64 * len(names["suit"].rgb)
    assert sizes == [(3 * side, side), (3 * side, side), (palette, 64), (2 * side, side), (2 * side, side)]
    assert palette > 64
    # The suit is red, and blue once it is told to be.
    red, _, blue = (names["safe"][400:460, 80:160].mean(axis=(0, 1))).tolist()
    assert red > blue + 50
    red, _, blue = (names["hinted"][400:460, 80:160].mean(axis=(0, 1))).tolist()
    assert blue > red + 50
    assert len({rgb.tobytes() for rgb in names["samples"]}) == 2
    assert capsys.readouterr().out.count("%") > 5
    with Image.open("colored.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), names["hinted"])

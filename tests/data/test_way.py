"""A photo's way from its file to a batch, and which way the data room imports."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from PIL import Image

import jaxcolor
from jaxcolor.config import DataConfig
from jaxcolor.data.loader import train_batches
from jaxcolor.data.sources.registry import make_source

PACKAGE = Path(jaxcolor.__file__).parent
DATA = PACKAGE / "data"

WAY = [
    "types.py",
    "sources/photo_source.py",
    "boxes/npz.py",
    "sampler.py",
    "box_selection.py",
    "transforms.py",
    "collate.py",
    "loader.py",
]
BELOW = ("runtime", "registries", "color", "boxes", "resample", "config", "batch", "data")
"""What the data room may import of the package."""


@pytest.mark.parametrize("parts", ["full", "instance", "both"])
def test_a_photo_passes_at_most_eight_files(tmp_path: Path, parts: str) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos_bbox").mkdir()
    for stem in "ab":
        Image.new("RGB", (40, 20), (200, 100, 0)).save(tmp_path / "photos" / f"{stem}.png")
        boxes = np.array([[0, 0, 20, 20], [20, 0, 40, 20]], np.float32)
        np.savez(tmp_path / "photos_bbox" / f"{stem}.npz", bbox=boxes, scores=np.ones(2, np.float32))
    config = DataConfig(path=str(tmp_path / "photos"), threads=0)
    source = make_source(config, 16)
    seen: set[str] = set()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(DATA):
            seen.add(path.relative_to(DATA).as_posix())

    with train_batches(source, config, parts=parts, side=16, batch_size=2) as batches:
        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            next(batches)
        finally:
            sys.setprofile(before)
    assert seen <= set(WAY)
    assert len(WAY) <= 8
    if parts == "both":
        assert seen == set(WAY)


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, inside of functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names} | {str(node.module)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return {name for name in found if name.startswith("jaxcolor.")}


@pytest.mark.parametrize("path", sorted(DATA.rglob("*.py")), ids=lambda path: path.relative_to(DATA).as_posix())
def test_imports_go_one_way(path: Path) -> None:
    names = imports(path)
    assert {name.split(".")[1] for name in names} <= set(BELOW)
    room = path.relative_to(DATA).parts[0]
    if room != "tools":
        assert not {name for name in names if name.startswith("jaxcolor.data.tools")}
    if room == "boxes":
        assert not {name for name in names if name.startswith("jaxcolor.data.sources")}


@pytest.mark.parametrize("path", sorted((PACKAGE / "runtime").rglob("*.py")), ids=lambda path: path.name)
def test_runtime_imports_nothing_above_it(path: Path) -> None:
    allowed = {"runtime", "config", "config_io"} if path.name == "program.py" else {"runtime"}  # it parses config flags
    assert {name.split(".")[1] for name in imports(path)} <= allowed


def test_no_circle_of_imports() -> None:
    modules = {f"jaxcolor.data.{'.'.join(p.relative_to(DATA).with_suffix('').parts)}": p for p in DATA.rglob("*.py")}
    left = {name: imports(path) & (modules.keys() - {name}) for name, path in modules.items()}
    while left:
        free = {name for name, needed in left.items() if not needed & left.keys()}
        assert free, f"a circle among {sorted(left)}"
        left = {name: needed for name, needed in left.items() if name not in free}

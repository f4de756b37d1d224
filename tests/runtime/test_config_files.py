"""Configs by name: which there are, what is meant, what an unknown name is told."""

import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
import setuptools

from jaxcolor.runtime import config_files
from jaxcolor.runtime.config_files import config_names, config_titles, configs_folder, find_config
from jaxcolor.runtime.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"


def test_all_files_have_a_name() -> None:
    assert configs_folder() == CONFIGS
    names = config_names()
    assert set(names.values()) == set(CONFIGS.rglob("*.py"))
    assert names["ablation/backbone"] == CONFIGS / "ablation" / "backbone.py"
    assert names["smoke"] == CONFIGS / "smoke.py"


def test_an_installed_package_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(CONFIGS, tmp_path / "configs")
    monkeypatch.setattr(config_files, "_PACKAGE", tmp_path)
    assert find_config("smoke") == str(tmp_path / "configs" / "smoke.py")


def test_the_wheel_has_every_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    made: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **given: made.update(given))
    runpy.run_path("setup.py")
    assert made["package_dir"] == {"jaxcolor.configs": "configs"}
    packages = {name for name in made["packages"] if name.startswith("jaxcolor.configs")}
    folders = {path.parent.relative_to(ROOT) for path in CONFIGS.rglob("*.py")}
    assert packages == {".".join(("jaxcolor", *folder.parts)) for folder in folders}
    assert {"jaxcolor", "jaxcolor.cli", "jaxcolor.weights"} <= set(made["packages"])
    assert not any(name.startswith("tests") for name in made["packages"])


@pytest.mark.parametrize(
    ("text", "groups", "found"),
    [
        ("smoke", ("",), "smoke.py"),
        ("reference:large", ("",), "reference.py:large"),
        ("ablation/backbone:scenes", ("",), "ablation/backbone.py:scenes"),
        ("backbone:scenes", ("ablation",), "ablation/backbone.py:scenes"),
        ("coco_stuff", ("",), "coco_stuff.py"),
        ("coco_stuff", ("eval", ""), "eval/coco_stuff.py"),
        ("eval/coco_stuff", ("eval", ""), "eval/coco_stuff.py"),
        ("smoke", ("eval", ""), "smoke.py"),
    ],
)
def test_names(text: str, groups: tuple[str, ...], found: str) -> None:
    assert find_config(text, groups) == str(CONFIGS / found)


def test_paths_go_on_working(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.py", "smoke"):
        (tmp_path / name).touch()
    assert find_config("mine.py:a:b") == "mine.py:a:b"
    assert find_config(str(tmp_path / "mine.py")) == str(tmp_path / "mine.py")
    assert find_config("smoke") == str(CONFIGS / "smoke.py")
    assert find_config("./smoke") == "./smoke"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("smok", "smok: no such file, and no such config; did you mean smoke?"),
        ("coco_stuf", "coco_stuf: no such file, and no such config; did you mean coco_stuff or eval/coco_stuff?"),
        ("bakcbone:scenes", "bakcbone: no such file, and no such config; did you mean ablation/backbone?"),
        ("dmo.py", "dmo.py: no such file; did you mean demo.py?"),
        ("more/dmo.py:small", "more/dmo.py: no such file; did you mean more/demo.py?"),
        ("none/demo2.py", "none/demo2.py: no such file, and no such config; did you mean demo?"),
        ("configs/smoke.py", "configs/smoke.py: no such file; the package's own is named smoke"),
        ("more", "more: no such file, and no such config; "),
        ("zzzz", "zzzz: no such file, and no such config; known: ablation/backbone, "),
        (300 * "x", f"{300 * 'x'}: no such file"),
        (300 * "x" + "/y", f"{300 * 'x'}/y: no such file"),
    ],
)
def test_what_is_neither(text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more").mkdir()
    for name in ("demo.py", "mine.py", "more/demo.py"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"^{re.escape(said)}"):
        find_config(text)


def test_titles() -> None:
    titles = config_titles(("eval", ""))
    assert list(titles)[:2] == ["eval/coco_stuff", "eval/folder"]
    assert titles["smoke"].startswith("Smoke: ")
    assert not any(name.startswith("ablation/") for name in titles)
    assert all(titles.values())

"""Finding parts by built-in name or dotted path."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.registry import Registry

REGISTRY = Registry("data source", {"ordered": "collections:OrderedDict", "late": "jaxcolor_has_no_such_module:X"})


@pytest.fixture
def my_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that modules are imported from."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_builtin_name_is_imported_when_asked_for() -> None:
    assert REGISTRY.get("ordered") is OrderedDict
    assert REGISTRY.names == ("ordered", "late")
    REGISTRY.check_name("late")  # not imported
    with pytest.raises(ModuleNotFoundError, match="jaxcolor_has_no_such_module"):
        REGISTRY.get("late")


def test_dotted_path(my_code: Path) -> None:
    (my_code / "registry_mine.py").write_text("class Mine:\n    class Inner:\n        pass\n")
    found = REGISTRY.get("registry_mine:Mine")
    assert found.__module__ == "registry_mine"
    assert REGISTRY.get("registry_mine:Mine.Inner") is found.Inner


@pytest.mark.parametrize("name", ["odered", "", "my_code.mine", ":Mine", "my_code:", "my-code:Mine", "a..b:C", "a:b c"])
def test_neither_name_nor_dotted_path(name: str) -> None:
    for refuse in (REGISTRY.check_name, REGISTRY.get):
        with pytest.raises(UserError, match=r"^data source '.*': no such name; .*ordered, late.*my_code\.module:Name$"):
            refuse(name)


def test_nearest_name_is_proposed() -> None:
    with pytest.raises(UserError, match=r"did you mean ordered\?"):
        REGISTRY.check_name("odered")


def test_missing_module() -> None:
    with pytest.raises(UserError, match=r"'registry_nowhere\.mine:Mine': no module registry_nowhere; .*PYTHONPATH"):
        REGISTRY.get("registry_nowhere.mine:Mine")


def test_missing_attribute(my_code: Path) -> None:
    (my_code / "registry_short.py").write_text("class Mine: pass\n")
    with pytest.raises(UserError, match=r"module registry_short has no attribute Mine2; did you mean Mine\?"):
        REGISTRY.get("registry_short:Mine2")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import registry_not_installed", "ModuleNotFoundError: No module named 'registry_not_installed'"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('no license\\nat all')", "RuntimeError: no license at all"),
    ],
)
def test_error_inside_the_module(my_code: Path, body: str, reason: str) -> None:
    (my_code / "registry_bad.py").write_text(body + "\n")
    with pytest.raises(UserError, match=f"module registry_bad cannot be imported: {reason}") as raised:
        REGISTRY.get("registry_bad:Mine")
    assert "\n" not in str(raised.value)

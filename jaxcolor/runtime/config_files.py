"""Config files by name: ``smoke``, ``ablation/backbone:scenes``, or the path of a file.

``configs/`` of the clone is the one source of them; an installed package has a copy of it as ``jaxcolor/configs``.
"""

from __future__ import annotations

import ast
import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from jaxcolor.runtime.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]
_MOST_SHOWN = 3


def configs_folder() -> Path:
    """The folder of the package's configs: inside of it where it is installed, beside it in a clone."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def config_names() -> dict[str, Path]:
    """Name -> file of every config of the package; the name is the path below ``configs/`` without ``.py``."""
    folder = configs_folder()
    found = (path for path in folder.rglob("*.py") if not path.name.startswith("_"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(found)}


def find_config(text: str, groups: Sequence[str] = ("",)) -> str:
    """The file that a config flag names, with what is handed to it.

    Args:
      text: a name, or the path of a file, followed by ``:ARGUMENT`` where the file takes one. A name goes before a file
        that happens to have it: ``./smoke`` is always a path.
      groups: folders of ``configs/`` whose names need not say so, the first first: ``eval`` of an evaluation, for which
        ``coco_stuff`` is ``eval/coco_stuff``; empty: those outside of folders.

    Returns:
      ``PATH`` or ``PATH:ARGUMENT``.

    Raises:
      UserError: there is neither; the message has the nearest names, or all of them.
    """
    name, colon, argument = text.partition(":")
    names = config_names()
    for known in [*(f"{group}/{name}".lstrip("/") for group in groups), name]:
        if known in names:
            return f"{names[known]}{colon}{argument}"
    if os.path.exists(name) and not os.path.isdir(name):
        return text
    raise UserError(f"{name}: no such file{_advice(name, names)}")


def _advice(name: str, names: dict[str, Path]) -> str:
    """What a mistyped name or path may have meant."""
    asked = name.removeprefix("./").removeprefix("configs/").removesuffix(".py")
    if asked in names:  # a path of the clone, elsewhere
        return f"; the package's own is named {asked}"
    folder, file = os.path.split(name)
    if name.endswith(".py") or folder:
        try:
            beside = [other for other in sorted(os.listdir(folder or ".")) if other.endswith(".py")]
        except OSError:
            beside = []
        if nearest := difflib.get_close_matches(file, beside, n=1):
            return f"; did you mean {Path(folder, nearest[0])}?"
    # By the whole name, or by its last part: backbone of ablation/backbone.
    spelled = {known.rpartition("/")[2]: known for known in names} | {known: known for known in names}
    near = dict.fromkeys(
        spelled[match]
        for text in dict.fromkeys((asked, file.removesuffix(".py")))
        for match in difflib.get_close_matches(text, spelled, n=_MOST_SHOWN)
    )
    if near:
        return f", and no such config; did you mean {' or '.join(near)}?"
    return f", and no such config; known: {', '.join(names)}"


def config_titles(groups: Sequence[str] = ("",)) -> dict[str, str]:
    """Name -> first line of its docstring, of the configs in some folders of ``configs/``; see ``find_config``."""
    names = config_names()
    shown = (name for group in groups for name in names if name.rpartition("/")[0] == group)
    return {name: _title(names[name]) for name in shown}


def _title(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].replace("``", "")

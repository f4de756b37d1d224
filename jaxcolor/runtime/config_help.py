"""``--help`` of the programs: their flags, the configs by name, and every field of a config with its default."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from absl import flags

from jaxcolor.runtime.config_files import config_titles

_WIDTH = 110
_HELP = ("h", "help", "helpshort", "?")


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether one of the words of a command line, up to ``--``, asks for help."""
    flags_only = words[: words.index("--")] if "--" in words else words
    return any(_is_help(word) for word in flags_only)


def without_help(words: Sequence[str]) -> list[str]:
    """The other words."""
    return [word for word in words if not _is_help(word)]


def _is_help(word: str) -> bool:
    return word.startswith("-") and word.removeprefix("-").removeprefix("-") in _HELP


def help_text(
    usage: str,
    config: Any,
    modules: Sequence[str],
    kind: type,
    values: Mapping[str, Any] | None,
    groups: Sequence[str] = ("",),
) -> str:
    """All that ``--help`` says.

    Args:
      usage: the first lines.
      config: holder of the config flag.
      modules: that define the program's flags.
      kind: the dataclass of the config.
      values: of the config that the command line names; None: it names none, and the fields' defaults are shown.
      groups: folders of ``configs/`` whose configs are listed.
    """
    lines = [*usage.splitlines(), "", "flags:"]
    for flag in dict.fromkeys(flag for module in modules for flag in flags.FLAGS.get_key_flags_for_module(module)):
        default = "" if flag.default in (None, [], False) or flag.name == config.name else f" (default: {flag.default})"
        said = " ".join(f"{flag.help}{default}".split()).replace(".; repeat", "; repeat")  # absl's own words
        lines += _entry(f"--{flag.name}", said)
    lines += ["", f"configs, by name or by the path of a file (--{config.name}=NAME):"]
    titles = config_titles(groups)
    widest = max(map(len, titles), default=0)
    lines += [f"  {name:<{widest}}  {title}" for name, title in titles.items()]
    whose = "defaults" if values is None else f"values as of --{config.name}"
    lines += [
        "",
        f"fields of the config, each set by --{config.name}.FIELD=VALUE ({whose}; jaxcolor/config.py says more):",
    ]
    return "\n".join([*lines, *_field_lines(kind, values, f"--{config.name}", set())])


def _entry(head: str, text: str) -> list[str]:
    return [f"  {head}", *textwrap.wrap(text, _WIDTH, initial_indent="      ", subsequent_indent="      ")]


def _field_lines(kind: type, values: Mapping[str, Any] | None, prefix: str, seen: set[type]) -> Iterator[str]:
    """A field and its value, and what it means where its group is new; then the groups in it."""
    hints = typing.get_type_hints(kind)
    docs = {} if kind in seen else field_docs(kind)
    seen.add(kind)
    groups = []
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        value = _default(field) if values is None else values.get(field.name, _default(field))
        if dataclasses.is_dataclass(hint):
            groups.append((hint, value, f"{prefix}.{field.name}"))
            continue
        shown = "" if value is dataclasses.MISSING else f"={_shown(value)}"
        text = " ".join(filter(None, [_choices(hint), docs.get(field.name, "")]))
        yield from _entry(f"{prefix}.{field.name}{shown}", text if kind in seen and docs else "")
    for hint, value, place in groups:
        inner: Any = None if value is dataclasses.MISSING else value
        if dataclasses.is_dataclass(inner) and not isinstance(inner, type):
            inner = {field.name: getattr(inner, field.name) for field in dataclasses.fields(inner)}
        yield from _field_lines(typing.cast(type, hint), inner, place, seen)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _choices(hint: Any) -> str:
    if typing.get_origin(hint) is not Literal:
        return ""
    return f"({' | '.join(str(choice) or repr(choice) for choice in typing.get_args(hint))})"


@functools.cache
def field_docs(kind: type) -> dict[str, str]:
    """Field -> ``first_sentence`` of the docstring below it, of a dataclass; none where there is no source to read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except (OSError, TypeError):
        return {}
    docs = {}
    for first, second in pairwise(tree.body if isinstance(tree, ast.ClassDef) else []):
        if (
            isinstance(first, ast.AnnAssign)
            and isinstance(first.target, ast.Name)
            and isinstance(second, ast.Expr)
            and isinstance(second.value, ast.Constant)
        ):
            docs[first.target.id] = first_sentence(str(second.value.value))
    return docs


def first_sentence(text: str) -> str:
    """Of a docstring, on one line, without the marks of code; all of one that explains value after value."""
    plain = " ".join(text.replace("``", "").split())
    return plain if text.startswith("``") else re.split(r"(?<=[.])\s+(?=\S)", plain, maxsplit=1)[0]

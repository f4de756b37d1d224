"""Configs in other forms: as ``ml_collections`` for the command line, as JSON types, back from both, and compared."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from ml_collections import ConfigDict, FieldReference

from jaxcolor.config import ConfigError
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.places import local_path

T = TypeVar("T")


def to_config_dict(config: Any) -> ConfigDict:
    """A dataclass config as an ``ml_collections.ConfigDict`` whose keys can be overridden on the command line."""
    values = dataclasses.asdict(config)
    _allow_any_type(type(config), values)
    return ConfigDict(values)


def _allow_any_type(kind: type, values: dict[str, Any]) -> None:
    """Let fields of several types (a name or several) be overridden by any of them; ``from_dict`` checks the type.

    A ``ConfigDict`` otherwise keeps the type of a field's first value: a tuple could not be replaced by ``encoder``.
    """
    for field, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            _allow_any_type(typing.cast(type, hint), values[field])
        elif typing.get_origin(hint) in (typing.Union, types.UnionType):
            values[field] = FieldReference(values[field], field_type=object)


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass config as plain JSON types."""
    return _plain(dataclasses.asdict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def from_dict(kind: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """The dataclass ``kind`` from a mapping; fields that are not given keep their defaults.

    Raises:
      ConfigError: an unknown key (with the nearest known one), a wrong type, a value that is not a choice, a place on
        another machine, or a number that is not finite, too large, or against the field's own rule.
    """
    hints = typing.get_type_hints(kind)
    unknown = [key for key in values if key not in hints]
    if unknown:
        nearest = difflib.get_close_matches(unknown[0], hints, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else f"; known: {', '.join(hints)}"
        raise ConfigError(f"{where}.{unknown[0]}: no such field{hint}")
    typed = {key: _typed(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        made = kind(**typed)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from error
    for key, value in typed.items():  # after the fields' own rules, which say more
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{where}.{key}: {value}, which must be a finite number")
        if isinstance(value, int) and abs(value) >> 63:
            raise ConfigError(f"{where}.{key}: {value}, which must be less than 2**63")
    return made


def _typed(hint: Any, value: Any, where: str) -> Any:
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, (Mapping, ConfigDict)):
            raise ConfigError(f"{where}: {value!r} is not a group of fields")
        return from_dict(typing.cast(type, hint), dict(value.items()), where)
    if origin is Literal:
        if value not in choices:
            raise ConfigError(f"{where}: {value!r} is none of {', '.join(map(str, choices))}")
        return value
    if origin in (typing.Union, types.UnionType):
        if isinstance(value, str):
            return value
        return _typed(next(c for c in choices if c is not str), value, where)
    if origin is tuple:
        kind, named = choices[0], {str: "names", int: "whole numbers", float: "numbers"}[choices[0]]
        if not isinstance(value, (list, tuple)) or (kind is str and not all(isinstance(v, str) for v in value)):
            raise ConfigError(f"{where}: {value!r} is not a list of {named}")
        return tuple(_typed(kind, part, where) for part in value) if kind is not str else tuple(value)
    if isinstance(value, int) and value.bit_length() > 1000:  # no float, and str() refuses thousands of digits
        raise ConfigError(f"{where}: a number of {value.bit_length()} bits is too large")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where}: {value!r} is not of type {hint.__name__}")
    if not isinstance(value, str):
        return value
    before, colon, path = value.partition(":")  # vgg16:PATH, as well as PATH
    prefix = f"{before}:" if colon and path.startswith("~") else ""
    try:
        return prefix + local_path(value.removeprefix(prefix), where)
    except UserError as error:
        raise ConfigError(str(error)) from error


def setting_differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], where: str = "") -> list[str]:
    """One line for each setting that differs: ``name: theirs -> ours``.

    Args:
      theirs: nested settings in plain types (``to_dict``), say of a checkpoint.
      ours: those of this run.
      where: prefix of every name.
    """
    lines: list[str] = []
    for key in sorted({*theirs, *ours}):
        old, new = theirs.get(key), ours.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += setting_differences(old, new, f"{where}{key}.")
        elif old != new:
            lines.append(f"{where}{key}: {old!r} -> {new!r}")
    return lines


def with_defaults(theirs: Mapping[str, Any], ours: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """``theirs``, plus the fields that ``ours`` has and their version did not have yet, at their defaults.

    The default of a new field is what the code did before the field existed.
    """
    filled = dict(theirs)
    for key in ours.keys() & defaults.keys():
        if key not in filled:
            filled[key] = defaults[key]
        elif all(isinstance(tree[key], Mapping) for tree in (filled, ours, defaults)):
            filled[key] = with_defaults(filled[key], ours[key], defaults[key])
    return filled

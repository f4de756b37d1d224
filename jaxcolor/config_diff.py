"""How two configs differ, as lines for an error message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def setting_differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], where: str = "") -> list[str]:
    """One line for each setting that differs: ``name: theirs -> ours``.

    Args:
      theirs: nested settings in plain types (``config.to_dict``), say of a checkpoint.
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

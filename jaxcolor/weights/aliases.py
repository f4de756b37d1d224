"""Arrays that trees share, which a weights file stores once.

The instance network may be the full-image network itself, and the fusion network's trunk may have its encoder. An array
that equals the one at the same place of another tree is not stored: the file's metadata say under ``aliases`` whose it
is, name -> name of an array in the file. Read, both names have the same NumPy array.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import numpy as np

from jaxcolor.models.networks import TREES

_TRUNK = "trunk"
"""The backbone inside the tree ``fusion``."""

_Found = TypeVar("_Found")


def find_aliases(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Name -> an earlier name at the same place of another tree's backbone, whose array has the same bits.

    Arrays that are equal by chance, as the zeros that biases begin with, stay apart unless their places agree.

    Args:
      arrays: name in the file -> array, in the order of the trees; others (a head that finds boxes) are passed over.
    """
    kept: dict[tuple[str, ...], list[str]] = {}
    aliases = {}
    for name, array in arrays.items():
        if name.partition("/")[0] not in TREES:
            continue
        same = kept.setdefault(_place(name), [])
        target = next((other for other in same if _same_bits(arrays[other], array)), None)
        if target is None:
            same.append(name)
        else:
            aliases[name] = target
    return aliases


def _place(name: str) -> tuple[str, ...]:
    """Where an array stands in a backbone, whichever tree that is of."""
    _, collection, *path = name.split("/")
    return (collection, *(path[1:] if path[:1] == [_TRUNK] else path))


def _same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    if first is second:
        return True
    alike = first.dtype == second.dtype and np.array_equal(first, second)
    return alike and first.tobytes() == second.tobytes()  # 0 and -0 are equal too


def read_aliases(values: Any) -> dict[str, str]:
    """The metadata's field, where it is of the right form.

    Raises:
      TypeError: it maps no names to names.
    """
    if not isinstance(values, dict) or not all(isinstance(target, str) for target in values.values()):
        raise TypeError("aliases must map names to names")
    return values


def alias_problems(aliases: Mapping[str, str], stored: Collection[str]) -> list[str]:
    """A line for each alias that is not another name, in a tree, for one array of the file.

    Args:
      aliases: as the metadata have them.
      stored: names of the arrays that the file has and a tree can have.
    """
    problems = []
    for name, target in aliases.items():
        if name.partition("/")[0] not in TREES:
            problems.append(f"! wrong alias: {name} is of no tree")
        elif name in stored:
            problems.append(f"! wrong alias: {name} is in the file, and is {target} by its metadata")
        elif target in aliases:
            problems.append(f"! wrong alias: {name} is {target}, an alias itself")
        elif target not in stored:
            problems.append(f"! wrong alias: {name} is {target}, which is not in the file")
    return problems


def with_aliases(found: Mapping[str, _Found], aliases: Mapping[str, str]) -> dict[str, _Found]:
    """What there is of each array, under the aliases' names too; the same object."""
    return {**found, **{name: found[target] for name, target in aliases.items()}}

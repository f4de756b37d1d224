"""The weights inside the package, by name; and which weights are meant where a name, a file or nothing is given.

They lie in ``jaxcolor/weights/default/``. Its ``registry.json`` is the one place that says which there are: name ->
file, SHA-256 of its bytes, and the further canvases that are recommended for it. ``scripts/make_default_weights.py``
writes both.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

import jaxcolor
from jaxcolor.runtime.atomic import write_text
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.places import local_path
from jaxcolor.runtime.regular_file import open_regular
from jaxcolor.weights import native
from jaxcolor.weights.locate import find_weights
from jaxcolor.weights.native import NativeWeights
from jaxcolor.weights.reference import WeightsError

DEFAULT, FAST = NAMES = "default", "fast"
"""What the package's weights are called: those that are meant where none are given, and small ones for small machines.
An installation may have fewer, or others besides."""

REGISTRY = "registry.json"


class Entry(NamedTuple):
    """Weights of the package."""

    file: str
    """Its name in the folder."""
    sha256: str
    """Of its bytes, in hexadecimal."""
    canvases: tuple[int, ...] = ()
    """Sides of further canvases on which it colors best (``Colorizer``): those that are meant where none are given."""


def folder() -> Traversable:
    """Where the package has its weights: a folder, or part of a zip file."""
    return importlib.resources.files("jaxcolor.weights") / "default"


def read_registry(place: Traversable) -> dict[str, Entry]:
    """Name -> weights, of a folder of the package's form; none where it has no registry."""
    path = place / REGISTRY
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {name: Entry(**{**entry, "canvases": tuple(entry["canvases"])}) for name, entry in found.items()}


def register(place: Path, name: str, file: str, canvases: Sequence[int] | None = None) -> Entry:
    """Put a file of a folder into its registry, in place of what had the name; return its entry.

    ``canvases``: that are recommended; None: those of what had the name, or none.
    """
    known = read_registry(place)
    if canvases is None:
        canvases = known[name].canvases if name in known else ()
    known[name] = Entry(file, _sha256(place / file), tuple(canvases))
    entries = {name: entry._asdict() for name, entry in known.items()}
    write_text(place / REGISTRY, json.dumps(entries, indent=2, sort_keys=True) + "\n")
    return known[name]


def is_name(weights: str | Path | None) -> bool:
    """Whether weights of the package are meant. A file of that name is ``./default``, or a ``Path``."""
    return weights is None or (isinstance(weights, str) and weights in {*NAMES, *read_registry(folder())})


def described(weights: str | Path | None) -> str:
    """The file of weights as messages name it."""
    if not is_name(weights):
        return str(weights)
    name = DEFAULT if weights is None else str(weights)
    known = read_registry(folder())
    return known[name].file if name in known else name


def find(weights: str | Path) -> str | Path:
    """What ``load`` reads of what a person names: a name of the package's weights, or the file of ``find_weights``.

    Raises:
      WeightsError: as ``find_weights``.
    """
    return weights if is_name(weights) else find_weights(local_path(weights, "weights"))


def digest(weights: str | Path | None) -> str | None:
    """SHA-256 of the file of weights; None for what cannot be read, which ``load`` reports."""
    if is_name(weights):
        entry = read_registry(folder()).get(DEFAULT if weights is None else str(weights))
        return None if entry is None else entry.sha256
    try:
        with open_regular(find_weights(str(weights))) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, UserError):
        return None


def canvases(weights: str | Path | None = None) -> tuple[int, ...]:
    """Sides of the further canvases that are recommended for weights: of the package's, as the registry says.

    Args:
      weights: as of ``load``; for files there is no recommendation.
    """
    entry = read_registry(folder()).get(DEFAULT if weights is None else str(weights)) if is_name(weights) else None
    return () if entry is None else entry.canvases


def load(weights: str | Path | None = None) -> NativeWeights:
    """Read weights: by their name, those of the package, whose checksum is verified; else a file.

    Args:
      weights: a name in the registry, or a ``.safetensors`` file; None: ``DEFAULT``.

    Raises:
      OSError: no such file, or it cannot be read.
      WeightsError: this installation has no weights of that name, or other ones than it should; or as ``native.load``.
    """
    if weights is not None and not is_name(weights):
        return native.load(local_path(weights, "weights"))
    name = DEFAULT if weights is None else str(weights)
    entry = read_registry(folder()).get(name)
    resource = None if entry is None else folder() / entry.file
    if entry is None or resource is None or not resource.is_file():
        where = "are not in" if entry is None else f"are missing from ({entry.file})"
        others = ", ".join(sorted(read_registry(folder()).keys() - {name}))
        raise WeightsError(
            f"the weights {name!r} {where} this installation of jaxcolor {jaxcolor.__version__}; install one that has "
            f"them, {f'take others ({others}), ' if others else ''}or give a .safetensors file of yours "
            "(jaxcolor colorize -w FILE, Colorizer.from_pretrained(FILE))"
        )
    with importlib.resources.as_file(resource) as path:
        found = _sha256(path)
        if found != entry.sha256:
            raise WeightsError(
                f"{path}: not the weights that belong to jaxcolor {jaxcolor.__version__} (SHA-256 {found[:12]}…, not "
                f"{entry.sha256[:12]}…); it is damaged or was replaced: install jaxcolor again"
            )
        return native.load(path, vouched=True)  # the checksum does


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""A list of a folder's files with their sizes and digests, by which damage is found before anything is computed.

The list is written last, so that a folder without one is unfinished; it has a digest of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxcolor.runtime.atomic import write_text
from jaxcolor.runtime.errors import one_line
from jaxcolor.runtime.regular_file import open_regular

FILE = "manifest.json"
_DIGEST = "sha256"


def write_manifest(folder: Path, about: Mapping[str, Any], leave_out: Iterable[str] = ()) -> None:
    """List all files below a folder in ``manifest.json``.

    Args:
      folder: whose files are complete.
      about: what else the manifest says, JSON types.
      leave_out: names of files at the top that may still change.
    """
    skipped = {FILE, *leave_out}
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = {path.relative_to(folder).as_posix(): path for path in paths}
    files = {
        name: {"size": path.stat().st_size, _DIGEST: _digest_of(path)}
        for name, path in listed.items()
        if name not in skipped
    }
    content = {**about, "files": files}
    write_text(folder / FILE, json.dumps({**content, _DIGEST: _digest_of_json(content)}, indent=2) + "\n")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What a manifest says; None: there is none, or it is damaged itself."""
    try:
        with open_regular(folder / FILE) as file:
            content = json.loads(file.read())
        return content if content.pop(_DIGEST) == _digest_of_json(content) else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None


def find_damage(folder: Path, only: Iterable[str] | None = None, *, digests: bool = True) -> str:
    """What is wrong with the files of a folder: the first file, and how; empty if nothing is.

    Args:
      folder: with a manifest.
      only: names of the files to look at; None: all.
      digests: read the files, and not only their sizes.
    """
    content = read_manifest(folder)
    if content is None:
        return f"{FILE} is {'damaged' if (folder / FILE).exists() else 'missing'}"
    for name, known in content["files"].items():
        if only is not None and name not in only:
            continue
        path = folder / name
        try:
            size = path.stat().st_size
            if size != known["size"]:
                return f"{name} has {size} bytes, not {known['size']}"
            if digests and _digest_of(path) != known[_DIGEST]:
                return f"{name} has changed since it was written ({_DIGEST})"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({one_line(error)})"
    return ""


def _digest_of(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, _DIGEST).hexdigest()


def _digest_of_json(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

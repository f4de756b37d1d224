"""Paths as people write them: ``~`` is their home folder, and what lies on another machine is refused."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, TypeVar

from jaxcolor.runtime.errors import UserError

T = TypeVar("T")

_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def local_path(text: str) -> Path:
    """The path that a text names.

    Raises:
      UserError: it is an address (``gs://…``), of which ``Path`` would make a folder called ``gs:``; or there is no
        home folder for its ``~``.
    """
    if _ELSEWHERE.match(text):
        raise UserError(f"{text}: an address, where a path of this machine must be; copy it, or mount it as a folder")
    if text != "~" and not text.startswith("~/"):  # ~$photo.jpg is a name
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{text}: there is no home folder here (HOME is not set); write the path out") from error


def with_local_paths(config: T, where: str = "config") -> T:
    """A dataclass config whose texts that begin like paths of a home folder, ``~/``, have it written out.

    Raises:
      UserError: a field is an address, see ``local_path``.
    """
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changed[field.name] = with_local_paths(value, f"{where}.{field.name}")
        elif isinstance(value, str) and (value.startswith("~/") or _ELSEWHERE.match(value)):
            try:
                changed[field.name] = str(local_path(value))
            except UserError as error:
                raise UserError(f"{where}.{field.name}: {error}") from error
    return dataclasses.replace(config, **changed)  # type: ignore[type-var]

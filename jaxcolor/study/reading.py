"""Reading JSON files of ours, of which anything may be wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxcolor.runtime.errors import one_line
from jaxcolor.runtime.regular_file import read_regular
from jaxcolor.study.plan import StudyError


def read_object(path: Path, schema: str, version: int) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
      path: the file.
      schema: what its field ``schema`` must be.
      version: what its field ``version`` must be.

    Raises:
      StudyError: it cannot be read, is no such object, or is of another schema or version.
    """
    try:
        found = json.loads(read_regular(path).decode("utf-8-sig"))
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror or one_line(error, 120)}") from error
    except (ValueError, RecursionError) as error:
        reason = one_line(error, 120)
        raise StudyError(f"{path}: cannot be read as JSON: {reason}") from error
    if not isinstance(found, dict) or found.get("schema") != schema:
        raise StudyError(f"{path}: is no {schema} file (its field 'schema' must say so)")
    if found.get("version") != version:
        raise StudyError(f"{path}: version {found.get('version')!r}; this jaxcolor reads version {version}")
    return found


class Fields:
    """Typed fields of a JSON object; a wrong one is a ``StudyError`` that names file and field."""

    def __init__(self, where: str, record: object) -> None:
        """Takes the object.

        Args:
          where: names it in messages.
          record: the object.

        Raises:
          StudyError: it is none.
        """
        if not isinstance(record, Mapping):
            raise StudyError(f"{where}: must be an object")
        self._where, self._record = where, record

    def take(self, name: str, kind: type | tuple[type, ...], said: str) -> Any:
        """The value of a field.

        Args:
          name: the field.
          kind: Python types that it may have; ``bool`` is never taken for a number.
          said: what it must be, in words.

        Raises:
          StudyError: it is missing or of another type.
        """
        if name not in self._record:
            raise StudyError(f"{self._where}: {name!r} is missing")
        value = self._record[name]
        wanted = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            raise StudyError(f"{self._where}: {name!r} is {_short(value)}; must be {said}")
        return value

    def text(self, name: str) -> str:
        """A text."""
        return self.take(name, str, "a text")

    def whole(self, name: str, least: int = 0) -> int:
        """A whole number of at least ``least``."""
        value: int = self.take(name, int, f"a whole number of at least {least}")
        if value < least:
            raise StudyError(f"{self._where}: {name!r} is {value}; must be a whole number of at least {least}")
        return value

    def number(self, name: str) -> float:
        """A finite number of at least 0."""
        value = self.take(name, (int, float), "a number of at least 0")
        if not 0 <= value <= sys.float_info.max:  # compared: no float holds the largest of JSON's integers
            said = float(value) if abs(value) <= sys.float_info.max or value != value else _short(value)
            raise StudyError(f"{self._where}: {name!r} is {said}; must be a number of at least 0")
        return float(value)

    def items(self, name: str) -> list[Any]:
        """A list."""
        return self.take(name, list, "a list")

    def table(self, name: str) -> dict[str, Any]:
        """An object."""
        return self.take(name, dict, "an object")


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:59]}…"

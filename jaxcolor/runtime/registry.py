"""Parts found by the name that a config gives: a built-in name, or a dotted path to code outside the package."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Mapping
from typing import Any

from jaxcolor.runtime.errors import UserError, one_line

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class Registry:
    """Parts of one kind by name. Nothing is imported before ``get`` asks for it."""

    def __init__(self, kind: str, builtin: Mapping[str, str]) -> None:
        """Keeps the names.

        Args:
          kind: what the parts are, for messages: ``data source``.
          builtin: the dotted path, ``package.module:Attribute``, of each name that the package brings along.
        """
        self.kind = kind
        self.builtin = dict(builtin)

    @property
    def names(self) -> tuple[str, ...]:
        """The built-in names."""
        return tuple(self.builtin)

    def check_name(self, name: str) -> None:
        """Checks the form alone: a built-in name or a dotted path. Nothing is imported, so configs can afford it.

        Raises:
          UserError: it is neither; the message names the nearest built-in names.
        """
        if name in self.builtin or (isinstance(name, str) and _DOTTED.fullmatch(name)):
            return
        near = difflib.get_close_matches(str(name), self.builtin, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UserError(
            f"{self.kind} {name!r}: no such name; {hint}built in are {', '.join(self.builtin) or 'none'}; your own is "
            "named by a dotted path, my_code.module:Name"
        )

    def get(self, name: str) -> Any:
        """The part of that name, imported now.

        Args:
          name: a built-in name, or a dotted path ``my_code.module:Name``.

        Raises:
          UserError: there is no such name, module or attribute, or importing the module fails. Errors while importing
            the package's own modules are raised as they are: those are bugs.
        """
        self.check_name(name)
        module_name, _, attribute = self.builtin.get(name, name).partition(":")
        try:
            found: Any = importlib.import_module(module_name)
        except Exception as error:  # a module of the user's may raise anything
            if name in self.builtin:
                raise
            raise UserError(f"{self.kind} {name!r}: {_import_failure(module_name, error)}") from error
        for part in attribute.split("."):
            if not hasattr(found, part):
                public = [known for known in dir(found) if not known.startswith("_")]
                near = difflib.get_close_matches(part, public, n=3)
                hint = f"; did you mean {' or '.join(near)}?" if near else ""
                raise UserError(f"{self.kind} {name!r}: module {module_name} has no attribute {attribute}{hint}")
            found = getattr(found, part)
        return found


def _import_failure(module_name: str, error: Exception) -> str:
    """Why a module cannot be imported: it is not there, or something in it fails."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    # A ModuleNotFoundError may also come from an import inside the module, which then names another module.
    if missing is not None and (module_name == missing or module_name.startswith(f"{missing}.")):
        return f"no module {missing}; is its folder on PYTHONPATH?"
    return f"module {module_name} cannot be imported: {type(error).__name__}: {one_line(error)}"

"""Parts found by the name that a config gives: a built-in name, or a dotted path to code outside the package."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from jaxcolor.runtime.errors import UserError, one_line

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class NotImportedError(UserError):
    """A part that a file names and that this process has not imported: a file must not decide what is executed."""


class Registry:
    """Parts of one kind by name. Nothing is imported before ``get`` asks for it."""

    def __init__(self, kind: str, builtin: Mapping[str, str], base: str = "") -> None:
        """Keeps the names.

        Args:
          kind: what the parts are, for messages: ``data source``.
          builtin: the dotted path, ``package.module:Attribute``, of each name that the package brings along.
          base: dotted path of the class that all parts are subclasses of; empty: they are whatever the caller takes.
        """
        self.kind = kind
        self.builtin = dict(builtin)
        self.base = base

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
          UserError: there is no such name, module or attribute, importing the module fails, or the part is no subclass
            of ``base``. Errors while importing the package's own modules are raised as they are: those are bugs.
        """
        self.check_name(name)
        module_name, _, attribute = self.builtin.get(name, name).partition(":")
        try:
            found: Any = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:  # a module of the user's may raise anything
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
        if name not in self.builtin and not self._is_part(found):
            what = f"the class {found.__qualname__}" if isinstance(found, type) else f"of type {type(found).__name__}"
            raise UserError(f"{self.kind} {name!r}: is {what}, which is no subclass of {self.base.replace(':', '.')}")
        return found

    def check_imported(self, name: str) -> None:
        """Checks that ``get`` would execute nothing of the user's: for names that a file gives, and not the user.

        Args:
          name: as ``check_name`` takes it. Built-in names pass; a dotted path must lead to a part of this kind in a
            module that is imported already.

        Raises:
          NotImportedError: it does not.
        """
        if name in self.builtin:
            return
        module_name, _, attribute = name.partition(":")
        found: Any = sys.modules.get(module_name)
        for part in attribute.split("."):
            found = inspect.getattr_static(found, part, None)  # a module's __getattr__ could import others
        if module_name not in sys.modules or found is None or not self._is_part(found):
            raise NotImportedError(
                f"{name}; import {module_name} first (jaxcolor colorize --import {module_name})"
                if module_name not in sys.modules
                else f"{name}, and the module {module_name} of this process has no such {self.kind}"
            )

    def _is_part(self, found: Any) -> bool:
        if not self.base:
            return True
        module_name, _, attribute = self.base.partition(":")
        return isinstance(found, type) and issubclass(found, getattr(importlib.import_module(module_name), attribute))


def import_modules(names: Iterable[str]) -> None:
    """Imports the user's own modules (``--import``), so that weights may name what is in them.

    Raises:
      UserError: one cannot be imported.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # a module of the user's may raise anything
            raise UserError(f"--import {name}: {_import_failure(name, error)}") from error


def _import_failure(module_name: str, error: BaseException) -> str:
    """Why a module cannot be imported: it is not there, or something in it fails."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    # A ModuleNotFoundError may also come from an import inside the module, which then names another module.
    if missing is not None and (module_name == missing or module_name.startswith(f"{missing}.")):
        return f"no module {missing}; is its folder on PYTHONPATH?"
    return f"module {module_name} cannot be imported: {type(error).__name__}: {one_line(error)}"

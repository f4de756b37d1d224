"""What the programs (train.py, eval.py, the demo) have in common: reading flags and a config, and how they end."""

from __future__ import annotations

import dataclasses
import difflib
import re
import signal
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

from absl import app, flags, logging

from jaxcolor.config import Config
from jaxcolor.config_io import from_dict
from jaxcolor.runtime.config_files import find_config
from jaxcolor.runtime.config_help import asks_for_help, help_text, without_help
from jaxcolor.runtime.devices import check_devices
from jaxcolor.runtime.distributed import ProcessFlags
from jaxcolor.runtime.errors import UserError, exit_status, printable
from jaxcolor.runtime.places import check_flags
from jaxcolor.runtime.registry import import_modules

T = TypeVar("T")

_IMPORT = flags.DEFINE_multi_string(
    "import",
    [],
    "MODULE: import it first, for weights that name code in it; what the config names needs none.",
)


def run(
    name: str,
    work: Callable[[T], object],
    config: Any,
    required: Sequence[Any],
    processes: ProcessFlags | None = None,
    kind: type[T] = Config,  # type: ignore[assignment]
    *,
    groups: Sequence[str] = ("",),
    about: str = "usage: {name} --config CONFIG --workdir DIR [--config.FIELD=VALUE ...]",
    words: Sequence[str] | None = None,
) -> NoReturn:
    """Parse the command line, build the config, do the work, exit.

    Args:
      name: of the program, as it is called: ``train.py``, ``jaxcolor train``.
      work: does it; raises ``UserError`` or ``OSError`` for what a person can fix.
      config: holder of the config flag (``config_flags.DEFINE_config_file``).
      required: holders of the flags that must be given besides ``--config``.
      processes: the flags by which this process joins others; None: the program is for one process.
      kind: the dataclass that the config file returns.
      groups: folders of ``configs/`` whose configs need not be named with them (``config_files.find_config``).
      about: what ``--help`` says first, with ``{name}`` for how the program is called.
      words: the command line after the program's name; None: ``sys.argv``.
    """
    called = f"python {name}" if name.endswith(".py") else name
    argv = [name, *(sys.argv[1:] if words is None else words)]
    if words is not None:
        sys.argv = argv  # ml_collections looks for the fields there

    def main(rest: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)  # JAX and Orbax log every step of what they do

        def checked() -> None:
            if len(rest) > 1:
                raise UserError(f"unexpected arguments: {' '.join(rest[1:])}")
            check_flags(flags.FLAGS, config.name)
            for holder in (config, *required):
                if not holder.value:
                    raise UserError(f"--{holder.name} is missing; see {called} --help")
            built = from_dict(kind, config.value.to_dict())
            if processes is not None:
                processes.start(getattr(built, "join_seconds", Config.join_seconds))
            import_modules(_IMPORT.value)

            from jaxcolor.runtime.compile_cache import compile_cache  # JAX is imported by it

            check_devices()
            with compile_cache():
                work(built)

        sys.exit(exit_status(name, checked))

    def parse(argv: list[str]) -> list[str]:
        if not asks_for_help(argv[1:]):
            return _parse(name, argv, config, kind, groups)
        _parse(name, [argv[0], *without_help(argv[1:])], config, kind, groups)
        values = None if config.value is None else config.value.to_dict()
        names = (config.name, *(["import"] if processes is None else ["import", "processes"]))
        modules = [str(flags.FLAGS.find_module_defining_flag(flag)) for flag in names]
        if hasattr(signal, "SIGPIPE"):
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a pager need not read it all
        print(help_text(about.format(name=called), config, modules, kind, values, groups), flush=True)
        sys.exit(0)

    app.run(main, argv=argv, flags_parser=parse)
    raise AssertionError("app.run returns only by sys.exit")


def _parse(name: str, argv: list[str], config: Any, root: type, groups: Sequence[str] = ("",)) -> list[str]:
    """Parse the flags; whatever is wrong with them, or with the config file, is reported in one line."""
    try:
        argv = with_config_file(config.name, argv, groups)
        end = argv.index("--") if "--" in argv else len(argv)
        # ml_collections names neither the group nor, often, a likely field; and it looks once the file is loaded.
        for argument in argv[1:end]:
            if said := unknown_field(config.name, argument, root):
                raise UserError(said)
    except UserError as error:
        print(f"{name}: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)
    try:
        rest: list[str] = flags.FLAGS(argv)
        if config.value is not None:
            config.value.to_dict()  # a file that could not be loaded is reported only when it is asked for its values
    except SystemExit as stop:
        if _is_help(stop):
            raise
        print(f"{name}: --{config.name}: the file ended the program itself (sys.exit); it must not", file=sys.stderr)
        sys.exit(1)
    except Exception as error:  # a config file is a program: it can fail in any way
        what = str(error.args[0] if isinstance(error, (KeyError, AttributeError)) and error.args else error)
        kind = "" if isinstance(error, flags.Error) else f"--{config.name}: {type(error).__name__}: "
        # ml_collections puts the whole traceback of a config file into its message.
        what = re.sub(r"Traceback \(most recent call last\):.*\n(?=\S)", "", what, flags=re.DOTALL)
        print(f"{name}: {kind}{' '.join(what.split())}", file=sys.stderr)
        sys.exit(1)
    return rest


def _is_help(stop: SystemExit) -> bool:
    """Whether it was absl that ended the program, for ``--help``, and not the config file."""
    return any(frame.f_globals.get("__name__") == "absl.app" for frame, _ in traceback.walk_tb(stop.__traceback__))


def with_config_file(flag: str, argv: Sequence[str], groups: Sequence[str] = ("",)) -> list[str]:
    """The command line with the file that ``--config=NAME`` or ``--config NAME`` names in place of the name.

    Args:
      flag: name of the config flag, ``config``.
      argv: the command line.
      groups: see ``config_files.find_config``.

    Raises:
      UserError: there is no such config or file.
    """
    found = list(argv)
    for place, argument in enumerate(found):
        if argument == "--":  # the end of the flags
            break
        word, given, value = argument.partition("=")
        if word not in (f"-{flag}", f"--{flag}"):
            continue
        value = value if given else next(iter(found[place + 1 :]), "")
        if not value.partition(":")[0]:
            continue
        try:
            path = find_config(value, groups)
        except UserError as error:
            raise UserError(f"--{flag}: {error}") from error
        if given:
            found[place] = f"{word}={path}"
        else:
            found[place + 1] = path
    return found


def unknown_field(flag: str, argument: str, root: type = Config) -> str | None:
    """What is wrong with the field that ``--config.data.path=P`` names; None if nothing, or for another argument.

    Args:
      flag: name of the config flag, ``config``.
      argument: one word of the command line.
      root: the dataclass of the whole config.
    """
    match = re.match(rf"--?{re.escape(flag)}\.([^=]+)", argument)
    if not match:
        return None
    kind: Any = root
    place = ""
    for field in match[1].split("."):
        where = f"--{flag}{place}.{field}"
        if not dataclasses.is_dataclass(kind):
            return f"{where}: {place[1:]} is a value, not a group of fields"
        hints = typing.get_type_hints(kind)
        if field not in hints:
            group = place[1:] or "the config"
            return f"{where}: no such field of {group}; {_advice(field, place, list(hints), root)}"
        kind, place = hints[field], f"{place}.{field}"
    if dataclasses.is_dataclass(kind):
        return f"--{flag}{place}: a group of fields; name one: {', '.join(typing.get_type_hints(kind))}"
    return None


def _advice(field: str, place: str, known: list[str], root: type) -> str:
    """The nearest field of the group; else fields of this name in other groups; else all of the group."""
    nearest = difflib.get_close_matches(field, known, n=1)
    if nearest:
        return f"did you mean {nearest[0]}?"
    elsewhere = [path for path in _paths(root) if path.rpartition(".")[2] == field]
    if elsewhere:
        return f"did you mean {', '.join(elsewhere)}?"
    return f"known: {', '.join(known)}"


def _paths(kind: Any, prefix: str = "") -> Iterator[str]:
    """Every field of a config and of its groups, from the top."""
    for field, hint in typing.get_type_hints(kind).items():
        yield f"{prefix}{field}"
        if dataclasses.is_dataclass(hint):
            yield from _paths(hint, f"{prefix}{field}.")

"""What the programs (train.py, eval.py, the demo) have in common: reading flags and a config, and how they end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging

from jaxcolor.config import Config, from_dict
from jaxcolor.distributed import ProcessFlags
from jaxcolor.errors import UserError, exit_status


def run(
    name: str,
    work: Callable[[Config], object],
    config: Any,
    required: Sequence[Any],
    processes: ProcessFlags | None = None,
) -> NoReturn:
    """Parse the command line, build the config, do the work, exit.

    Args:
      name: of the program, for messages.
      work: does it; raises ``UserError`` or ``OSError`` for what a person can put right.
      config: holder of the config flag (``config_flags.DEFINE_config_file``).
      required: holders of the flags that must be given besides ``--config``.
      processes: the flags by which this process joins others; None: the program is for one process.
    """

    def main(rest: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)  # JAX and Orbax tell every step of what they do

        def checked() -> None:
            if len(rest) > 1:
                raise UserError(f"unexpected arguments: {' '.join(rest[1:])}")
            for holder in (config, *required):
                if not holder.value:
                    raise UserError(f"--{holder.name} is missing; see python {name} --help")
            if processes is not None:
                processes.start()
            work(from_dict(Config, config.value.to_dict()))

        sys.exit(exit_status(name, checked))

    app.run(main, flags_parser=lambda argv: _parse(name, argv, config))
    raise AssertionError("app.run returns only by sys.exit")


def _parse(name: str, argv: list[str], config: Any) -> list[str]:
    """Parse the flags; whatever is wrong with them, or with the config file, is told in one line."""
    try:
        rest: list[str] = flags.FLAGS(argv)
        if config.value is not None:
            config.value.to_dict()  # a file that could not be loaded is told only when it is asked for its values
    except Exception as error:  # a config file is a program: it can fail in any way
        what = str(error.args[0] if isinstance(error, (KeyError, AttributeError)) and error.args else error)
        if isinstance(error, (KeyError, AttributeError)):  # how ml_collections refuses a field; its hint follows
            kind = "--config: no such field: "
            what = what.replace("\\n", " ").replace("\\'", "'").strip("'\"").replace("' Did", "; did")
        else:
            kind = "" if isinstance(error, flags.Error) else f"--config: {type(error).__name__}: "
        print(f"{name}: {kind}{' '.join(what.split())}", file=sys.stderr)
        sys.exit(1)
    return rest

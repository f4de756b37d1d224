"""The ``jaxcolor`` command.

``train`` and ``eval`` have absl's flags, for the fields of a config, and are handed on as they are (``PROGRAMS``).
A subcommand is a module here with a function ``add_<name>(subparsers)``, listed in ``COMMANDS``, that declares its
arguments and sets ``run``, the function that does the work. Heavy imports (JAX, the networks) happen inside ``run``,
so that ``--help`` answers at once. What a person can fix is raised there as ``UserError`` or ``OSError`` and
reported by ``errors.exit_status``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence

import jaxcolor
from jaxcolor.cli.boxes import add_boxes
from jaxcolor.cli.colorize import add_colorize
from jaxcolor.cli.convert import add_convert
from jaxcolor.cli.data import add_data
from jaxcolor.cli.export import add_export
from jaxcolor.cli.parsing import Subparsers
from jaxcolor.cli.study import add_study
from jaxcolor.cli.web import add_web
from jaxcolor.runtime.errors import exit_status
from jaxcolor.runtime.places import check_arguments
from jaxcolor.runtime.registry import import_modules


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; ``sys.argv`` if no arguments are given.

    Returns:
      The exit status: 0, 1 after a message on standard error, 130 when interrupted.

    Raises:
      SystemExit: after ``--help`` or ``--version`` (0), for arguments that cannot be understood (2), and always from
        ``train`` and ``eval``.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words and words[0] in PROGRAMS:
        importlib.import_module(PROGRAMS[words[0]][0]).main(words=words[1:])
    options = build_parser().parse_args(words)

    def work() -> None:
        check_arguments(options)
        import_modules(getattr(options, "modules", ()))
        options.run(options)

    return exit_status(f"jaxcolor {options.command}", work)


def build_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands."""
    parser = argparse.ArgumentParser(
        prog="jaxcolor",
        description="Instance-aware image colorization.",
        epilog=_TOUR,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"jaxcolor {jaxcolor.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(subparsers)
    for name, (_, said) in PROGRAMS.items():
        subparsers.add_parser(name, help=said, add_help=False)
    return parser


COMMANDS: tuple[Callable[[Subparsers], None], ...] = (
    add_colorize,
    add_web,
    add_convert,
    add_export,
    add_boxes,
    add_data,
    add_study,
)
"""The subcommands, in the order that ``--help`` lists them."""

PROGRAMS = {
    "train": ("jaxcolor.cli.train", "train the networks of a config"),
    "eval": ("jaxcolor.cli.evaluate", "measure weights: tables and a report"),
}
"""Subcommands that parse their own words: the module, whose ``main`` ends the process, and what ``--help`` says."""

_TOUR = """\
a tour:
  jaxcolor colorize old.jpg                      color a photo, or a folder of photos
  jaxcolor web                                   the same on a page, with boxes, hints and palettes
  jaxcolor boxes detect PHOTOS -o PHOTOS_bbox    find the objects that weights with instances color by themselves
  jaxcolor train --config smoke --workdir runs/smoke
  jaxcolor eval --config smoke --weights runs/smoke --workdir runs/smoke_eval
  jaxcolor export --form onnx -o full.onnx       the network for programs without JAX
  jaxcolor study make --systems a=A b=B -o STUDY ask people which colors look more natural
  python -m jaxcolor.ablation --config weighting:scenes --workdir runs/weighting

jaxcolor COMMAND --help says more; that of train and eval lists all configs and every field of one."""

"""What the commands' parsers have in common."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxcolor.config import DataConfig

Subparsers = Any
"""What ``ArgumentParser.add_subparsers`` gives; its class is private to argparse."""

STORES = (
    "Boxes are a folder of <stem>.npz files (arrays bbox, scores) or of Pascal VOC <stem>.xml files, a JSON file of "
    "COCO detection results or instances, or a packed store."
)
"""Said by every command that takes boxes."""


def add_photos(parser: argparse.ArgumentParser) -> None:
    """The arguments of a command that takes the photos that training takes; see ``photos_config``."""
    parser.add_argument(
        "photos",
        metavar="PHOTOS",
        help="folder or zip file of photos; COCO's folder; name or folder of a TFDS data set. It is only read",
    )
    parser.add_argument(
        "--source",
        choices=("folder", "coco", "tfds"),
        default="folder",
        help="data.source: what PHOTOS is (default: a folder or zip file)",
    )
    parser.add_argument("--data-dir", metavar="D", default="", help="data.data_dir: where TFDS keeps data sets")
    parser.add_argument(
        "--split", default="train", help="data.split: of COCO, of a TFDS data set, or a part of one (default: train)"
    )
    parser.add_argument("--list", metavar="FILE", default="", help="data.list_path: file that names the photos to use")
    parser.add_argument(
        "--index",
        metavar="FILE",
        default="",
        help="data.index_path: file that keeps names and sizes of the photos; made where it is absent",
    )


def photos_config(options: argparse.Namespace, **fields: Any) -> DataConfig:
    """What ``add_photos`` took, as training has it.

    Args:
      options: of a parser with these arguments.
      **fields: further ones of ``DataConfig``.

    Raises:
      UserError: an argument that is for another source.
    """
    from jaxcolor.config import DataConfig
    from jaxcolor.runtime.errors import UserError

    if options.data_dir and options.source != "tfds":
        raise UserError("--data-dir is for --source tfds, which is not given")
    return DataConfig(
        source=options.source,
        path=options.photos,
        data_dir=options.data_dir,
        split=options.split,
        list_path=options.list,
        index_path=options.index,
        **fields,
    )


def whole_numbers(text: str) -> tuple[int, ...]:
    """Numbers with commas between them.

    Raises:
      ArgumentTypeError: something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not whole numbers with commas between them")
    return tuple(map(int, parts))


def canvas_sides(text: str) -> tuple[int, ...]:
    """Sides of further canvases with commas between them; ``none``, or nothing: none.

    Raises:
      ArgumentTypeError: something else.
    """
    return () if text.strip() in ("", "none") else whole_numbers(text)


def refuse(parser: argparse.ArgumentParser, options: Mapping[str, str]) -> None:
    """Options of ``jaxcolor colorize`` that another command cannot have: refused by one line that says why.

    Args:
      parser: of the command.
      options: option -> the reason, or what to do.
    """
    for option, reason in options.items():
        parser.add_argument(option, action=_Refused, nargs="?", const=reason, help=argparse.SUPPRESS)


class _Refused(argparse.Action):
    """Ends the process with the reason, its ``const``."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        parser.exit(2, f"{parser.prog}: {self.option_strings[0]}: not here: {self.const}\n")


def add_missing_boxes(parser: argparse.ArgumentParser, default: str | None = "error") -> None:
    """``--missing-boxes``; ``default`` None tells whether it was given, and means ``error``."""
    parser.add_argument(
        "--missing-boxes",
        choices=("error", "none"),
        default=default,
        help="data.missing_boxes: what a photo without an entry means, an error or no boxes (default: error)",
    )


def add_import(parser: argparse.ArgumentParser) -> None:
    """``--import``, which ``cli.main`` obeys before the command runs."""
    parser.add_argument(
        "--import",
        metavar="MODULE",
        action="append",
        default=[],
        dest="modules",
        help="import it first: for weights that name code in it, a backbone or fusion strategy of your own. Repeatable",
    )

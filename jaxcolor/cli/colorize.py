"""``jaxcolor colorize``."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxcolor.cli.parsing import STORES, Subparsers, add_import, add_missing_boxes


def add_colorize(subparsers: Subparsers) -> None:
    """``jaxcolor colorize``: gray photos to colour photos."""
    parser = subparsers.add_parser(
        "colorize",
        help="colour photos at their own size",
        description="Colour photos at their own size. Boxes of objects are read from --boxes, or from the folder that "
        f"has the photos' folder's name with _bbox appended, if it is there. {STORES}",
    )
    parser.add_argument("photos", metavar="PHOTO", nargs="+", type=Path, help="photos, or folders of photos")
    parser.add_argument("-w", "--weights", metavar="FILE", type=Path, required=True, help="a released .safetensors")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder for <stem>.png")
    parser.add_argument("--boxes", metavar="PATH", type=Path, help="the boxes")
    add_missing_boxes(parser)
    parser.add_argument("--boxes-per-photo", metavar="K", type=int, default=8, help="best boxes used (default: 8)")
    parser.add_argument("--batch", metavar="N", type=int, default=4, help="photos coloured at a time (default: 4)")
    parser.add_argument("--force", action="store_true", help="replace pictures that exist")
    add_import(parser)
    parser.set_defaults(run=colorize)


def colorize(options: argparse.Namespace) -> None:
    """Colour ``options.photos`` into ``options.output``."""
    from jaxcolor.inference.files import colorize_files
    from jaxcolor.runtime.compile_cache import compile_cache

    with compile_cache():
        colorize_files(
            options.photos,
            options.weights,
            options.output,
            boxes=options.boxes,
            missing_boxes=options.missing_boxes,
            boxes_per_photo=options.boxes_per_photo,
            batch_size=options.batch,
            replace=options.force,
        )

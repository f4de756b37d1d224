"""``jaxcolor web``."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from jaxcolor.cli.parsing import Subparsers, add_import, refuse

_NEEDED = ("starlette", "uvicorn", "python_multipart")


def add_web(subparsers: Subparsers) -> None:
    """``jaxcolor web``: a page on which a photo is colored and its colors are chosen."""
    parser = subparsers.add_parser(
        "web",
        help="a local page: color a photo, choose its colors, save it",
        description="Serve a page on this machine alone (127.0.0.1): drop a photo, see it in color, choose colors of "
        "objects and places, save it. Photos stay on the machine. Needs Starlette: pip install '.[web]' in a clone.",
    )
    parser.add_argument(
        "-w",
        "--weights",
        metavar="WEIGHTS",
        help="a .safetensors file, a folder of a training run, or the name of weights in the package: default (which "
        "it is without this), or fast, small ones for small machines",
    )
    parser.add_argument("--port", metavar="N", type=_port, default=8765, help="port; 0: a free one (default: 8765)")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in the browser")
    parser.add_argument(
        "--boxes-per-photo",
        metavar="K",
        type=int,
        help="first boxes used (default: 8; of those that the weights find as many as they say)",
    )
    refuse(
        parser,
        {
            "--crop-sides": "it sees crops at one side and keeps their features, so that small ones would save little",
            "--canvases": "it keeps features of one canvas, so that changes show at once",
            "--boxes": "draw them there, or open a session that has them",
            "--hints": "open the file there as a session",
            "--vivid": "it has a slider",
            "--saturation": "it has a slider",
            "--samples": "it has a button",
            "--format": "it asks when a picture is saved",
        },
    )
    add_import(parser)
    parser.set_defaults(run=web)


def web(options: argparse.Namespace) -> None:
    """Serve the page until it is interrupted."""
    from jaxcolor.runtime.errors import UserError

    if any(importlib.util.find_spec(name) is None for name in _NEEDED):
        raise UserError("the page needs packages that are not installed: pip install '.[web]' in a clone")
    if options.boxes_per_photo is not None and options.boxes_per_photo < 1:
        raise UserError(f"--boxes-per-photo {options.boxes_per_photo}: must be at least 1")

    from jaxcolor import Colorizer
    from jaxcolor.runtime.compile_cache import compile_cache
    from jaxcolor.web.serve import serve

    with compile_cache():
        colorizer = Colorizer.from_pretrained(options.weights, boxes_per_photo=options.boxes_per_photo)
        serve(colorizer, Path(options.weights or "default").name, options.port, not options.no_browser)


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number < 1 << 16:
        raise argparse.ArgumentTypeError(f"{number} is no port; 0 to 65535")
    return number

"""``jaxcolor export``."""

from __future__ import annotations

import argparse
import errno
from pathlib import Path

from jaxcolor.cli.parsing import Subparsers, add_import, refuse


def add_export(subparsers: Subparsers) -> None:
    """``jaxcolor export``: networks and weights as one program for elsewhere."""
    parser = subparsers.add_parser(
        "export",
        help="write networks and weights as one StableHLO or ONNX program",
        description="Write networks and weights as one program from lightness to ab*, which runs without this package: "
        "docs/export.md. ONNX needs jax2onnx: pip install 'jaxcolor[onnx]'.",
    )
    parser.add_argument("-w", "--weights", metavar="FILE", type=Path, required=True, help="a released .safetensors")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the program to write")
    parser.add_argument(
        "--form",
        choices=("stablehlo", "onnx"),
        default="stablehlo",
        help="stablehlo, as jax.export serializes it, for CPUs, GPUs and TPUs; onnx: the full branch alone (default: "
        "stablehlo)",
    )
    parser.add_argument(
        "--branch",
        choices=("full", "fused"),
        help="full: any number of photos; fused: one photo and any number of crops (default: fused where the weights "
        "have all three networks)",
    )
    parser.add_argument("--vivid", metavar="T", type=float, help="as for colorize (default: as the weights say)")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    refuse(
        parser,
        {
            "--crop-sides": "its crops have one side, the canvas's",
            "--canvases": "it has the networks' own canvas; resize its ab* for other ones and take the mean",
            "--boxes": "it takes crops and their boxes as inputs",
            "--hints": "it takes none",
            "--saturation": "multiply the ab* that it gives",
            "--samples": "it gives one result",
        },
    )
    add_import(parser)
    parser.set_defaults(run=export)


def export(options: argparse.Namespace) -> None:
    """Write ``options.output`` and print what it is."""
    if options.output.exists() and not options.force:
        raise FileExistsError(errno.EEXIST, "exists; give --force to replace it", str(options.output))

    from jaxcolor.inference.export import export_onnx, export_stablehlo
    from jaxcolor.models.networks import TREES
    from jaxcolor.runtime.atomic import atomic_write
    from jaxcolor.runtime.errors import UserError
    from jaxcolor.weights import native

    if options.form == "onnx" and options.branch == "fused":
        raise UserError("--branch fused: ONNX holds the full branch alone")
    weights = native.load(options.weights)
    branch = options.branch or ("fused" if set(TREES) <= set(weights.variables) else "full")
    if options.form == "onnx":
        branch, program = "full", export_onnx(weights, options.vivid)
    else:
        program = export_stablehlo(weights, branch, options.vivid)
    with atomic_write(options.output) as part:
        part.write_bytes(program)
    side = weights.config.side
    print(f"wrote {options.output} ({len(program) / 1e6:.1f} MB): {branch} branch, n x {side} x {side}")

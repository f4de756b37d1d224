"""``jaxcolor convert``."""

from __future__ import annotations

import argparse
import errno
from collections.abc import Iterable
from pathlib import Path

from jaxcolor.cli.parsing import Subparsers


def add_convert(subparsers: Subparsers) -> None:
    """``jaxcolor convert``: the reference's .pth files to one released file."""
    parser = subparsers.add_parser(
        "convert",
        help="turn the reference's .pth files into one .safetensors file",
        description="Turn the PyTorch weights of the reference implementation into one .safetensors file for jaxcolor. "
        "Needs PyTorch: pip install 'jaxcolor[torch]'.",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        type=Path,
        help="folder with latest_net_GComp.pth, latest_net_G.pth and latest_net_GF.pth, "
        "or one .pth file of the full branch",
    )
    parser.add_argument("output", metavar="OUTPUT.safetensors", type=_released_path, help="the file to write")
    parser.add_argument("--note", default="", help="free text kept in the file, e.g. where the weights are from")
    parser.add_argument("--force", action="store_true", help="replace OUTPUT if it exists")
    parser.set_defaults(run=convert)


def _released_path(text: str) -> Path:
    # A guard against SOURCE and OUTPUT in the wrong order: with --force it would replace the .pth file.
    if not text.endswith(".safetensors"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .safetensors")
    return Path(text)


def convert(options: argparse.Namespace) -> None:
    """Convert ``options.source`` to ``options.output`` and print what was written."""
    if options.output.exists() and not options.force:
        raise FileExistsError(errno.EEXIST, "exists; give --force to replace it", str(options.output))

    from jaxcolor.config import ModelConfig
    from jaxcolor.models.dual_branch import count_parameters
    from jaxcolor.weights import reference, released

    weights = reference.load(options.source)
    released.save(options.output, ModelConfig(), weights.variables, weights.unused, options.note)
    print(f"wrote {options.output} ({options.output.stat().st_size / 1e6:.1f} MB)")
    for tree, variables in weights.variables.items():
        kept = weights.unused[tree]
        line = f"  {tree}: {count_parameters(variables['params']):,} parameters"
        print(f"{line}; {len(kept)} unused arrays kept ({_summary(kept)})" if kept else line)


def _summary(keys: Iterable[str]) -> str:
    """Reference keys in few words: their modules, all ``num_batches_tracked`` as one."""
    counters = "num_batches_tracked"
    return ", ".join(sorted({counters if key.endswith(counters) else f"{key.split('.')[0]}.*" for key in keys}))

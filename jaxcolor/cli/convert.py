"""``jaxcolor convert``."""

from __future__ import annotations

import argparse
import errno
from collections.abc import Iterable
from pathlib import Path

from jaxcolor.cli.parsing import Subparsers, add_import

_SUFFIX = ".safetensors"


def add_convert(subparsers: Subparsers) -> None:
    """``jaxcolor convert``: the reference's .pth files or a checkpoint to one of ours, and back; ours to fewer bits."""
    parser = subparsers.add_parser(
        "convert",
        help="turn the reference's .pth files, or a checkpoint, into one of ours, or back; store one in few bits",
        description="Turn the PyTorch weights of the reference implementation, or of siggraph17, or a checkpoint of a "
        "training run into one .safetensors file for jaxcolor; with --to-reference, turn such a file or checkpoint "
        "into the reference's .pth files. .pth files need PyTorch: pip install 'jaxcolor[torch]'. A .safetensors file "
        "is written anew: with --storage int8 a quarter as large.",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        type=Path,
        help="folder with latest_net_GComp.pth, latest_net_G.pth and latest_net_GF.pth, "
        "or one .pth file of the full branch or of siggraph17; or a .safetensors file, or the folder of a training "
        "run, of one of its stages or of a checkpoint, as with --to-reference",
    )
    parser.add_argument(
        "output",
        metavar="OUTPUT",
        type=Path,
        help="the .safetensors file to write; with --to-reference, the folder of the .pth files",
    )
    parser.add_argument(
        "--to-reference",
        action="store_true",
        help="the inverse: write latest_net_GComp.pth, latest_net_G.pth and latest_net_GF.pth, as far as SOURCE has "
        "their networks, in the format that PyTorch before 1.6 reads too",
    )
    parser.add_argument(
        "--form",
        choices=("auto", "reference", "siggraph17"),
        default="auto",
        help="what one .pth file is: of the reference (hint mask -0.5 without a hint) or of the colorizers package's "
        "siggraph17 (mask 0), which the file keeps as model.hint_mask. Default: what its name or checksum tells",
    )
    parser.add_argument(
        "--storage",
        choices=("float", "int8", "int6"),
        default="float",
        help="how OUTPUT stores its arrays: as they are (default), or large kernels in 8 or 6 bits with a scale for "
        "each channel, which are read as floats again",
    )
    parser.add_argument("--note", default="", help="free text kept in the file, e.g. where the weights are from")
    parser.add_argument("--force", action="store_true", help="replace what exists of OUTPUT")
    add_import(parser)
    parser.set_defaults(run=convert, misused=parser.error)


def convert(options: argparse.Namespace) -> None:
    """Convert ``options.source`` to ``options.output`` and print what was written."""
    from jaxcolor.weights.locate import leads_to_run

    of_run = leads_to_run(options.source)
    if options.to_reference:
        if not (options.source.name.endswith(_SUFFIX) or of_run):
            options.misused(f"--to-reference: SOURCE {str(options.source)!r} does not end in {_SUFFIX}")
        if options.output.name.endswith((_SUFFIX, ".pth")):
            options.misused(f"--to-reference: OUTPUT {str(options.output)!r} must be a folder")
        if options.note or options.storage != "float" or options.form != "auto":
            options.misused("--to-reference: .pth files have no place for --note, and one --form and --storage")
        _to_reference(options.source, options.output, options.force)
    else:
        # A guard against SOURCE and OUTPUT in the wrong order: with --force it would replace the .pth file.
        if not options.output.name.endswith(_SUFFIX):
            options.misused(f"OUTPUT {str(options.output)!r} does not end in {_SUFFIX}")
        ours = of_run or options.source.name.endswith(_SUFFIX)
        if ours and options.form != "auto":
            options.misused(f"--form is for .pth files; SOURCE {str(options.source)!r} is none")
        if options.output.exists() and not options.force:
            raise FileExistsError(errno.EEXIST, "exists; give --force to replace it", str(options.output))
        (_rewrite if ours else _from_reference)(options)


def _rewrite(options: argparse.Namespace) -> None:
    from jaxcolor.models.networks import count_parameters
    from jaxcolor.weights import native
    from jaxcolor.weights.locate import find_weights

    source = find_weights(options.source)
    weights = native.load(source)
    native.save(
        options.output,
        weights.config,
        weights.variables,
        weights.unused,
        options.note or weights.note,
        weights.decode,
        weights.saturation_curve,
        options.storage,
        weights.box_head,
    )
    found = f" from {source}" if source != options.source else ""
    print(f"wrote {options.output} ({options.output.stat().st_size / 1e6:.1f} MB){found}")
    for tree, variables in weights.variables.items():
        print(f"  {tree}: {count_parameters(variables['params']):,} parameters")


def _from_reference(options: argparse.Namespace) -> None:
    from jaxcolor.config import ModelConfig
    from jaxcolor.models.networks import count_parameters
    from jaxcolor.weights import native, reference

    weights = reference.load(options.source, options.form)
    config = ModelConfig(hint_mask=weights.hint_mask)
    native.save(options.output, config, weights.variables, weights.unused, options.note, storage=options.storage)
    print(f"wrote {options.output} ({options.output.stat().st_size / 1e6:.1f} MB)")
    for tree, variables in weights.variables.items():
        kept = weights.unused[tree]
        line = f"  {tree}: {count_parameters(variables['params']):,} parameters"
        print(f"{line}; {len(kept)} unused arrays kept ({_summary(kept)})" if kept else line)
    if weights.hint_mask != ModelConfig().hint_mask:
        print(f"  trained with the hint mask of {weights.hint_mask}: training goes on with model.hint_mask set to it")


def _to_reference(source: Path, folder: Path, force: bool) -> None:
    from jaxcolor.weights import native, reference_export

    for written, made in reference_export.write_reference(source, native.load(source), folder, force):
        print(f"wrote {written} ({written.stat().st_size / 1e6:.1f} MB)")
        if made:
            print(f"  {len(made)} arrays that nothing reads were not in {source.name} and are 0 ({_summary(made)})")


def _summary(keys: Iterable[str]) -> str:
    """Reference keys in few words: their modules, all ``num_batches_tracked`` as one."""
    counters = "num_batches_tracked"
    return ", ".join(sorted({counters if key.endswith(counters) else f"{key.split('.')[0]}.*" for key in keys}))

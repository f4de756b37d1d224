"""The ``jaxcolor`` command.

A subcommand is a function ``add_<name>(subparsers)`` in ``COMMANDS`` that declares its arguments and sets ``run``, the
function that does the work. Heavy imports (JAX, the networks) happen inside ``run``, so that ``--help`` answers at
once. What a person can put right is raised there as ``UserError`` or ``OSError`` and told by ``errors.exit_status``.
"""

from __future__ import annotations

import argparse
import errno
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jaxcolor
from jaxcolor.errors import exit_status

Subparsers = Any
"""What ``ArgumentParser.add_subparsers`` gives; its class is private to argparse."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; ``sys.argv`` if no arguments are given.

    Returns:
      The exit status: 0, 1 after a message on standard error, 130 when interrupted.

    Raises:
      SystemExit: after ``--help`` or ``--version`` (0), or for arguments that cannot be understood (2).
    """
    options = build_parser().parse_args(arguments)
    return exit_status(f"jaxcolor {options.command}", lambda: options.run(options))


def build_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands."""
    parser = argparse.ArgumentParser(prog="jaxcolor", description="Instance-aware image colorization.")
    parser.add_argument("--version", action="version", version=f"jaxcolor {jaxcolor.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(subparsers)
    return parser


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


def add_colorize(subparsers: Subparsers) -> None:
    """``jaxcolor colorize``: gray photos to colour photos."""
    parser = subparsers.add_parser(
        "colorize",
        help="colour photos at their own size",
        description="Colour photos at their own size. Boxes of objects are read from --boxes, or from the folder that "
        f"has the photos' folder's name with _bbox appended, if it is there. {_STORES}",
    )
    parser.add_argument("photos", metavar="PHOTO", nargs="+", type=Path, help="photos, or folders of photos")
    parser.add_argument("-w", "--weights", metavar="FILE", type=Path, required=True, help="a released .safetensors")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder for <stem>.png")
    parser.add_argument("--boxes", metavar="PATH", type=Path, help="the boxes")
    parser.add_argument(
        "--missing-boxes",
        choices=("error", "none"),
        default="error",
        help="what a photo without an entry there means (default: error)",
    )
    parser.add_argument("--boxes-per-photo", metavar="K", type=int, default=8, help="best boxes used (default: 8)")
    parser.add_argument("--batch", metavar="N", type=int, default=4, help="photos coloured at a time (default: 4)")
    parser.add_argument("--force", action="store_true", help="replace pictures that exist")
    parser.set_defaults(run=colorize)


def colorize(options: argparse.Namespace) -> None:
    """Colour ``options.photos`` into ``options.output``."""
    from jaxcolor.colorize_files import colorize_files

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


def show_boxes(options: argparse.Namespace) -> None:
    """Print statistics of the boxes of ``options.photos`` and write the contact sheet."""
    from jaxcolor.data.box_show import show

    show(
        options.photos,
        options.boxes,
        missing_boxes=options.missing_boxes,
        boxes_per_photo=options.boxes_per_photo,
        batch_size=options.batch,
        sheet_path=options.sheet,
        sheet_photos=options.sheet_photos,
        replace=options.force,
    )


_STORES = (
    "Boxes are a folder of <stem>.npz files (arrays bbox, scores) or of Pascal VOC <stem>.xml files, a JSON file of "
    "COCO detection results or instances, or a packed store."
)


def add_boxes(subparsers: Subparsers) -> None:
    """``jaxcolor boxes``: packing box stores, checking packed ones, looking at boxes."""
    parser = subparsers.add_parser("boxes", help="pack the boxes of many photos, check packed ones, look at them")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    pack = actions.add_parser(
        "pack",
        help="pack boxes of any form into one store",
        description="Pack the boxes of many photos into one store that finds a photo's boxes without reading the "
        f"others. {_STORES}",
    )
    pack.add_argument("source", metavar="SOURCE", type=Path, help="the boxes to pack")
    pack.add_argument("-o", "--output", metavar="STORE", type=Path, required=True, help="folder to write")
    pack.add_argument("--kind", choices=("npz", "coco_detections", "coco_instances", "voc"), help="what SOURCE is")
    pack.add_argument(
        "--images",
        metavar="FILE",
        type=Path,
        help="for COCO detections: the JSON file whose images give ids their file names (default: ids in 12 digits); "
        "its images without detections become photos without boxes",
    )
    pack.add_argument("--detector", metavar="NAME", default="", help="what found the boxes; kept in the manifest")
    pack.add_argument(
        "--threshold",
        metavar="T",
        type=float,
        help="lowest score that the detector kept; kept in the manifest, an error where a score is lower",
    )
    pack.add_argument("--force", action="store_true", help="replace STORE if it is a packed store")
    pack.set_defaults(run=pack_boxes)

    verify = actions.add_parser("verify", help="read a packed store through and compare it with its manifest")
    verify.add_argument("store", metavar="STORE", type=Path, help="the packed store")
    verify.set_defaults(run=verify_boxes)

    show = actions.add_parser(
        "show",
        help="statistics of boxes, a proposed budget, photos with boxes drawn",
        description="Print how many boxes a photo has, their sizes, scores and cover, and how many crops a device "
        f"should hold (budget_per_image); draw boxes on some photos. {_STORES}",
    )
    show.add_argument("photos", metavar="PHOTOS", type=Path, help="folder of photos")
    show.add_argument("--boxes", metavar="PATH", type=Path, help="their boxes (default: the folder PHOTOS_bbox)")
    show.add_argument(
        "--missing-boxes",
        choices=("error", "none"),
        default="error",
        help="data.missing_boxes: what a photo without an entry means (default: error)",
    )
    show.add_argument("--boxes-per-photo", metavar="K", type=int, default=8, help="best boxes used (default: 8)")
    show.add_argument("--batch", metavar="N", type=int, default=8, help="photos a device trains on (default: 8)")
    show.add_argument("--sheet", metavar="FILE.png", type=Path, help="contact sheet to write")
    show.add_argument("--sheet-photos", metavar="N", type=int, default=24, help="photos on it (default: 24)")
    show.add_argument("--force", action="store_true", help="replace FILE.png if it exists")
    show.set_defaults(run=show_boxes)


def pack_boxes(options: argparse.Namespace) -> None:
    """Pack ``options.source`` into ``options.output`` and print what is in it."""
    from jaxcolor.data.box_stores.pack import pack_store

    store = pack_store(
        options.source,
        options.output,
        kind=options.kind,
        images=options.images,
        detector=options.detector,
        threshold=options.threshold,
        replace=options.force,
    )
    print(f"wrote {options.output}: {store.manifest}")


def verify_boxes(options: argparse.Namespace) -> None:
    """Read ``options.store`` through."""
    from tqdm import tqdm

    from jaxcolor.data.box_stores.packed import PackedStore

    store = PackedStore(options.store)
    with tqdm(total=len(store), unit="photo", dynamic_ncols=True) as bar:
        store.verify(bar.update)
    print(f"{options.store}: as it was packed: {store.manifest}")


COMMANDS: tuple[Callable[[Subparsers], None], ...] = (add_colorize, add_convert, add_boxes)
"""The subcommands, in the order that ``--help`` lists them."""

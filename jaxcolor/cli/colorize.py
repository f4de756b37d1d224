"""``jaxcolor colorize``."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from jaxcolor.cli.parsing import STORES, Subparsers, add_import, add_missing_boxes, canvas_sides, whole_numbers


def add_colorize(subparsers: Subparsers) -> None:
    """``jaxcolor colorize``: gray photos to color photos."""
    parser = subparsers.add_parser(
        "colorize",
        help="color photos at their own size",
        description="Color photos at their own size. Boxes of objects are read from --boxes, or from the folder that "
        "has the photos' folder's name with _bbox appended, if it is there; otherwise the weights find them, if they "
        f"can. {STORES}",
    )
    parser.add_argument("photos", metavar="PHOTO", nargs="+", type=Path, help="photos, or folders of photos")
    parser.add_argument(
        "-w",
        "--weights",
        metavar="WEIGHTS",
        help="a .safetensors file, the folder of a training run, of one of its stages or of a checkpoint, or the name "
        "of weights in the package: default (which it is without this), or fast, small ones for small machines",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        type=Path,
        help="folder for <stem>.png. Default: old_color.png beside old.jpg, and photos_color/ beside a folder photos/",
    )
    parser.add_argument(
        "--boxes",
        metavar="PATH",
        type=_boxes,
        help="the boxes; auto: found by the weights' own head (default where none lie beside the photo and the weights "
        "have one); none: the full-image network alone",
    )
    add_missing_boxes(parser, None)
    parser.add_argument(
        "--boxes-per-photo",
        metavar="K",
        type=int,
        help="best boxes used (default: 8; of those that the weights find as many as they say, 2 for the package's)",
    )
    parser.add_argument(
        "--crop-sides",
        metavar="SIDES",
        type=whole_numbers,
        default=(),
        help="sides at which crops are seen, each at the smallest that holds it, as 64,128,256: faster where "
        "crops are small, hardly with the package's weights, whose crops show at least 35%% of each side (default: all "
        "at the side of the networks' canvas, 256)",
    )
    parser.add_argument(
        "--canvases",
        metavar="SIDES",
        type=canvas_sides,
        help="sides of further canvases on which the whole photo is seen too, as 384: results are the mean over all "
        "canvases, slower; none: the networks' own canvas alone (default: as recommended for the weights, or none)",
    )
    parser.add_argument(
        "--hints",
        metavar="FILE",
        type=Path,
        help='JSON file of colors that are given: {"old.jpg": [{"x": 40, "y": 25, "rgb": "#b03020"}, '
        '{"object": 0, "rgb": [20, 60, 160]}]}, in pixels of the upright photo, or for a box by its number',
    )
    parser.add_argument(
        "--vivid",
        metavar="T",
        type=float,
        help="0: safe, the mean of what is plausible; up to 1: colors as strong as real ones (default: as the weights "
        "say)",
    )
    parser.add_argument(
        "--saturation", metavar="F", type=float, default=1.0, help="factor of the chroma, 0 is gray (default: 1)"
    )
    parser.add_argument(
        "--samples",
        metavar="N",
        type=int,
        default=0,
        help="N different results of each photo besides, the most probable first: <stem>.sample1.png and on, and a "
        "contact sheet, <stem>.samples.png",
    )
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="of the samples (default: 0)")
    parser.add_argument(
        "--format",
        choices=("png", "jpeg", "webp", "tiff", "tiff16"),
        default="png",
        help="of the results (default: png; jpeg is .jpg, tiff .tif, tiff16 .tif of 16 bits a channel). EXIF, XMP and "
        "resolution are kept; XMP says that the colors are inferred",
    )
    parser.add_argument("--quality", metavar="Q", type=int, help="of jpeg and webp, 1 to 100 (default: 95)")
    parser.add_argument(
        "--side-by-side",
        action="store_true",
        help="the gray photo and the result in one picture besides: <stem>.side_by_side.png",
    )
    parser.add_argument(
        "--film",
        action="store_true",
        help="PHOTO is one folder of a film's frames, in order: colors are steadied over frames where nothing moves, "
        "boxes and hints hold until the next scene (docs/films.md)",
    )
    parser.add_argument("--batch", metavar="N", type=int, default=4, help="photos colored at a time (default: 4)")
    parser.add_argument("--force", action="store_true", help="color photos again whose pictures exist (default: skip)")
    add_import(parser)
    parser.set_defaults(run=colorize)


def _boxes(text: str) -> Path | str:
    """A store of boxes, or one of two words; ``./auto`` is a folder."""
    return text if text in ("auto", "none") else Path(text)


def colorize(options: argparse.Namespace) -> None:
    """Color ``options.photos`` into ``options.output``."""
    from jaxcolor.inference.files import colorize_files
    from jaxcolor.inference.film_files import colorize_film
    from jaxcolor.inference.pictures import Saving
    from jaxcolor.inference.result_paths import result_folders
    from jaxcolor.runtime.compile_cache import compile_cache
    from jaxcolor.runtime.devices import check_devices
    from jaxcolor.runtime.errors import UserError
    from jaxcolor.runtime.owner import owned_folder

    saving = Saving(options.format, options.quality, Path(options.weights or "default").name)
    if options.film and (len(options.photos) > 1 or options.samples):
        raise UserError("--film: takes one folder of frames, and no --samples")
    if options.film and options.missing_boxes == "error":
        raise UserError("--missing-boxes error: a film's frame without an entry has the boxes of the frame before")
    if options.seed and not options.samples:
        raise UserError(f"--seed {options.seed}: is of --samples, and none are asked for")
    check_devices()
    with ExitStack() as stack:
        stack.enter_context(compile_cache())
        for folder in result_folders(options.photos, options.output):
            stack.enter_context(owned_folder(folder, "--output"))
        if options.film:
            colorize_film(
                options.photos[0],
                options.weights,
                options.output,
                boxes=options.boxes,
                boxes_per_photo=options.boxes_per_photo,
                batch_size=options.batch,
                replace=options.force,
                hints=options.hints,
                vivid=options.vivid,
                saturation=options.saturation,
                saving=saving,
                beside=options.side_by_side,
                crop_sides=options.crop_sides,
                canvases=options.canvases,
            )
            return
        colorize_files(
            options.photos,
            options.weights,
            options.output,
            boxes=options.boxes,
            missing_boxes=options.missing_boxes or "error",
            boxes_per_photo=options.boxes_per_photo,
            batch_size=options.batch,
            replace=options.force,
            hints=options.hints,
            vivid=options.vivid,
            saturation=options.saturation,
            samples=options.samples,
            seed=options.seed,
            saving=saving,
            beside=options.side_by_side,
            crop_sides=options.crop_sides,
            canvases=options.canvases,
        )

"""``jaxcolor boxes detect``."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from jaxcolor.cli.parsing import Subparsers, add_photos, photos_config


def add_detect(subparsers: Subparsers) -> None:
    """``jaxcolor boxes detect``: boxes for photos, by a detector."""
    parser = subparsers.add_parser(
        "detect",
        help="find the boxes of photos with a detector",
        description="Find the objects in photos with a detector of your choice and write their boxes as a store. The "
        "detector sees the gray photo (L* three times), since that is all there is when coloring. A run that was "
        "stopped or killed resumes when the same command is given again.",
    )
    add_photos(parser)
    parser.add_argument("-o", "--output", metavar="STORE", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--detector",
        metavar="NAME",
        required=True,
        help="own: the head of jaxcolor's weights; a .tflite or .onnx file with YOLO's outputs; "
        "maskrcnn_resnet50_fpn or maskrcnn_resnet50_fpn_v2 of torchvision; or package.module:factory, a function of "
        "yours that makes a detector",
    )
    parser.add_argument(
        "--threshold",
        metavar="T",
        type=float,
        help="lowest score kept (default: 0.25 for files, 0.7 for Mask R-CNN, own's as its weights say)",
    )
    parser.add_argument("--max-boxes", metavar="N", type=int, default=100, help="best boxes kept of a photo (100)")
    parser.add_argument("--batch", metavar="N", type=int, help="photos the detector gets at a time (default: its own)")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        default="",
        help="for own (default: the package's) and Mask R-CNN (default: torchvision's)",
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="for .onnx and Mask R-CNN; own has JAX's"
    )
    parser.add_argument("--threads", metavar="N", type=int, default=0, help="to compute with (default: one a core)")
    parser.add_argument(
        "--fit",
        choices=("letterbox", "stretch"),
        default="letterbox",
        help="files: how a photo comes to the input size: with its aspect on gray (default), or stretched",
    )
    parser.add_argument(
        "--overlap",
        metavar="IOU",
        type=float,
        default=0.45,
        help="files: boxes of a class that overlap more are one object (default: 0.45)",
    )
    parser.add_argument("--format", choices=("packed", "npz"), default="packed", help="of STORE (default: packed)")
    parser.add_argument(
        "--bad-photos",
        choices=("error", "skip"),
        default="error",
        help="photos that cannot be read are named, the others processed; then: no store and an error (default), or a "
        "store without entries for them",
    )
    parser.add_argument("--force", action="store_true", help="replace STORE if it is a store of this format")
    parser.add_argument("--restart", action="store_true", help="throw away the unfinished work of a run before")
    parser.add_argument(
        "--photos-per-part",
        metavar="N",
        type=int,
        default=256,
        help="photos finished together: what a killed run does again at most (default: 256)",
    )
    parser.add_argument("--beam", action="store_true", help="have Apache Beam do it, on one machine or many")
    parser.add_argument(
        "--beam-option",
        metavar="OPTION",
        action="append",
        default=[],
        help="handed on to Beam, one each: --beam-option=--runner=FlinkRunner",
    )
    parser.set_defaults(run=detect_boxes)


def detect_boxes(options: argparse.Namespace) -> None:
    """Find the boxes of ``options.photos``."""
    from jaxcolor.detection.detector import OWN, DetectorSpec
    from jaxcolor.detection.run import detect
    from jaxcolor.runtime.compile_cache import compile_cache
    from jaxcolor.runtime.errors import UserError

    if options.beam_option and not options.beam:
        raise UserError("--beam-option is for --beam, which is not given")
    spec = DetectorSpec(
        options.detector,
        weights=options.weights,
        fit=options.fit,
        most_overlap=options.overlap,
        device=options.device,
        threads=options.threads,
    )
    with compile_cache() if options.detector == OWN else nullcontext():
        written = detect(
            photos_config(options, bad_photos=options.bad_photos),
            options.output,
            spec,
            threshold=options.threshold,
            batch_size=options.batch,
            most_boxes=options.max_boxes,
            photos_per_part=options.photos_per_part,
            store_format=options.format,
            replace=options.force,
            restart=options.restart,
            beam_options=options.beam_option if options.beam else None,
        )
    print(written)

"""``jaxcolor boxes``: finding boxes, packing box stores, checking packed ones, looking at boxes."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxcolor.cli.detect import add_detect
from jaxcolor.cli.parsing import STORES, Subparsers, add_missing_boxes, add_photos, photos_config


def add_boxes(subparsers: Subparsers) -> None:
    """``jaxcolor boxes``: finding boxes, packing box stores, checking packed ones, looking at boxes."""
    parser = subparsers.add_parser("boxes", help="find boxes, pack those of many photos, check them, look at them")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    add_detect(actions)

    pack = actions.add_parser(
        "pack",
        help="pack boxes of any form into one store",
        description="Pack the boxes of many photos into one store that finds a photo's boxes without reading the "
        f"others. {STORES}",
    )
    pack.add_argument("source", metavar="SOURCE", type=Path, help="the boxes to pack")
    pack.add_argument("-o", "--output", metavar="STORE", type=Path, required=True, help="folder to write")
    pack.add_argument(
        "--kind",
        default="auto",
        help="data.boxes_format: npz, voc, coco_detections, coco_instances, or the dotted path of your "
        "own kind (default: found out)",
    )
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
        f"should hold (max_crops_per_image); draw boxes on some photos. {STORES}",
    )
    add_photos(show)
    show.add_argument(
        "--boxes", metavar="PATH", default="", help="data.boxes_path (default: PHOTOS_bbox, or those in the records)"
    )
    add_missing_boxes(show)
    show.add_argument("--boxes-per-photo", metavar="K", type=int, default=8, help="best boxes used (default: 8)")
    show.add_argument("--batch", metavar="N", type=int, default=8, help="photos a device trains on (default: 8)")
    show.add_argument("--sheet", metavar="FILE.png", type=Path, help="contact sheet to write")
    show.add_argument("--sheet-photos", metavar="N", type=int, default=24, help="photos on it (default: 24)")
    show.add_argument(
        "--page",
        metavar="FILE.html",
        type=Path,
        help="page to write: the statistics with pictures of them and the contact sheet, in one file",
    )
    show.add_argument("--force", action="store_true", help="replace FILE.png and FILE.html if they exist")
    show.set_defaults(run=show_boxes)


def pack_boxes(options: argparse.Namespace) -> None:
    """Pack ``options.source`` into ``options.output`` and print what is in it."""
    from jaxcolor.data.boxes.packed_writer import pack_store

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
    from jaxcolor.data.boxes.packed import PackedStore
    from jaxcolor.runtime.progress import progress

    store = PackedStore(options.store)
    with progress(len(store), "verify", "photo") as note:
        store.verify(note)
    print(f"{options.store}: as it was packed: {store.manifest}")


def show_boxes(options: argparse.Namespace) -> None:
    """Print statistics of the boxes of ``options.photos`` and write the contact sheet."""
    from jaxcolor.data.tools.box_show import show

    show(
        photos_config(
            options,
            boxes_path=options.boxes,
            missing_boxes=options.missing_boxes,
            boxes_per_photo=options.boxes_per_photo,
        ),
        batch_size=options.batch,
        sheet_path=options.sheet,
        sheet_photos=options.sheet_photos,
        page_path=options.page,
        replace=options.force,
    )

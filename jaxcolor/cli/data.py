"""``jaxcolor data``: preparing, converting and packing data sets."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jaxcolor.cli.parsing import STORES, Subparsers, add_missing_boxes, add_photos, photos_config
from jaxcolor.runtime.text import counted


def add_data(subparsers: Subparsers) -> None:
    """``jaxcolor data``: preparing, converting and packing data sets."""
    parser = subparsers.add_parser("data", help="prepare, convert and pack data sets")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    prepare = actions.add_parser(
        "prepare",
        help="prepare a TFDS data set, ImageNet for one",
        description="Prepare a data set with TFDS's own builder, as ArrayRecord files, which are read without "
        "TensorFlow. Preparing needs it: pip install 'jaxcolor[prepare]'. ImageNet (imagenet2012) is made of "
        "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar in --manual-dir; the latter is enough for its split.",
    )
    prepare.add_argument("name", metavar="NAME", help="as TFDS knows it: imagenet2012, coco/2017")
    prepare.add_argument("--data-dir", metavar="D", type=Path, required=True, help="folder where TFDS keeps data sets")
    prepare.add_argument(
        "--manual-dir",
        metavar="M",
        type=Path,
        help="folder of files that you downloaded (default: D/downloads/manual)",
    )
    prepare.add_argument("--max-examples", metavar="N", type=int, help="for a trial: at most N of each split")
    prepare.set_defaults(run=prepare_data)

    convert = actions.add_parser(
        "convert",
        help="turn a TFRecord preparation into ArrayRecord",
        description="Write the data set that TFDS prepared as TFRecord in SRC (the folder with dataset_info.json) to "
        "DST, as ArrayRecord. Each shard is compared with its source by count and hash before it is kept. Started "
        "again after an interruption, it resumes. SRC is only read. Needs TensorFlow: pip install 'jaxcolor[prepare]'.",
    )
    convert.add_argument("source", metavar="SRC", type=Path, help="folder of a version, such as D/imagenet2012/5.1.0")
    convert.add_argument("output", metavar="DST", type=Path, help="folder to write")
    convert.add_argument("--verify-only", action="store_true", help="write nothing: read SRC and DST and compare them")
    convert.set_defaults(run=convert_data)

    pack = actions.add_parser(
        "pack",
        help="pack photos and their boxes in one data set",
        description="Pack photos (JPEG, PNG; as they are), their boxes and scores in one TFDS data set "
        f"of ArrayRecord files. Every photo is read to its last byte. {STORES}",
    )
    add_photos(pack)
    pack.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder to write")
    pack.add_argument(
        "--boxes", metavar="STORE", default="", help="data.boxes_path (default: PHOTOS_bbox, or those in the records)"
    )
    pack.add_argument("--name", default="colorization", help="of the data set (default: colorization)")
    pack.add_argument(
        "--output-split", metavar="NAME", help="name of the split that is written (default: --split without its [part])"
    )
    add_missing_boxes(pack)
    pack.add_argument(
        "--bad-photos",
        choices=("error", "skip"),
        default="error",
        help="what a photo that cannot be read or packed means (default: error)",
    )
    pack.set_defaults(run=pack_data)

    prior = actions.add_parser(
        "prior",
        help="measure how frequent colors are, for the class head",
        description="Count the colors of photos, reduced to 64 x 64 pixels: the share of each of the 529 ab bins, with "
        "which training weighs rare colors (config.objective.prior) where config.model.outputs has classes.",
    )
    add_photos(prior)
    prior.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the .npz file to write")
    prior.add_argument("--count", metavar="N", type=int, default=0, help="of the first N photos alone (default: all)")
    prior.add_argument("--force", action="store_true", help="replace FILE if it exists")
    prior.set_defaults(run=measure_prior_data, misused=prior.error)


def prepare_data(options: argparse.Namespace) -> None:
    """Prepare ``options.name`` and print what there is and how to train on it."""
    from jaxcolor.data.tools.prepare import prepare

    prepared = prepare(options.name, options.data_dir, options.manual_dir, options.max_examples)
    _print_result(prepared.path, prepared.splits, prepared.size, prepared.seconds)
    for note in prepared.notes:
        print(f"  note: {note}")
    _print_config(options.name, next(iter(prepared.splits)), options.data_dir)


def convert_data(options: argparse.Namespace) -> None:
    """Convert ``options.source`` to ``options.output``, or compare them."""
    import time

    from jaxcolor.data.tools.convert_records import convert_records, verify_conversion
    from jaxcolor.runtime.atomic import folder_size

    started = time.monotonic()
    if options.verify_only:
        preparation = verify_conversion(options.source, options.output)
        records = sum(preparation.counts().values())
        seconds = time.monotonic() - started
        print(f"{options.output}: the same {records:,} records as {options.source} ({seconds:.1f} s)")
        return
    preparation = convert_records(options.source, options.output)
    _print_result(options.output, preparation.counts(), folder_size(options.output), time.monotonic() - started)
    _print_config(str(options.output), next(iter(preparation.counts())))


def pack_data(options: argparse.Namespace) -> None:
    """Pack ``options.photos`` and ``options.boxes`` into ``options.output``."""
    import time

    from jaxcolor.data.tools.colorization import check_names, write_data_set
    from jaxcolor.data.tools.pack_photos import Photos
    from jaxcolor.runtime.atomic import folder_size, refuse_existing

    started = time.monotonic()
    refuse_existing(options.output)
    split = options.output_split or options.split.partition("[")[0]
    check_names(options.name, split)
    photos = Photos(
        photos_config(
            options,
            boxes_path=options.boxes,
            missing_boxes=options.missing_boxes,
            bad_photos=options.bad_photos,
        )
    )
    written = write_data_set(photos, options.output, name=options.name, split=split)
    seconds = time.monotonic() - started
    _print_result(options.output, {split: written.photos}, folder_size(options.output), seconds)
    print(f"  {counted(written.boxes, 'box', 'boxes')}")
    if photos.skipped:
        print(f"{counted(len(photos.skipped), 'photo')} left out, named above", file=sys.stderr)
    _print_config(str(options.output), split)


def measure_prior_data(options: argparse.Namespace) -> None:
    """Measure the prior of ``options.photos``, write it and print what it holds."""
    # NumPy would append the suffix that is not there.
    if options.output.suffix != ".npz":
        options.misused(f"FILE {str(options.output)!r} does not end in .npz")
    if options.count < 0:
        options.misused(f"--count {options.count}: must be at least 0")

    from jaxcolor.data.sources.registry import make_source
    from jaxcolor.runtime.atomic import refuse_existing
    from jaxcolor.training.prior import SIDE, measure_prior, save_prior

    if not options.force:
        refuse_existing(options.output)
    config = photos_config(options, missing_boxes="none")
    source = make_source(config, SIDE)
    photos = min(options.count or len(source), len(source))
    prior = measure_prior(source, config, options.count)
    save_prior(options.output, prior, source.describe())
    print(f"{options.output}: {(prior > 0).sum()} of {len(prior)} colors in {counted(photos, 'photo')}")
    print(f"to train with it: --config.objective.prior={options.output}")


def _print_result(path: Path, splits: dict[str, int], size: int, seconds: float) -> None:
    print(f"{path}: {size:,} bytes" + (f", {seconds:.1f} s" if seconds else ""))
    for split, count in splits.items():
        print(f"  {split}: {counted(count, 'photo')}")


def _print_config(path: str, split: str, data_dir: Path | None = None) -> None:
    where = "" if data_dir is None else f" --config.data.data_dir={data_dir}"
    print(f"to train on it: --config.data.source=tfds --config.data.path={path}{where} --config.data.split={split}")

"""Make the package's weights from trained ones: stored in 6 bits, measured against them, and put into the registry.

    python scripts/make_default_weights.py runs/photos/weights.safetensors --photos PHOTOS --curve OTHERS
    python scripts/make_default_weights.py runs/fast/weights.safetensors --photos PHOTOS --curve OTHERS --name fast

--curve calibrates the saturation curve for vivid colors on photos that are not reported on. --box-head adds the head of
another file that finds objects (jaxcolor.own_boxes), trained on the same full-image network. Colors a sample of the
photos, 256 x 256, with both, as --decode says, and prints PSNR and LPIPS to the truth and between the two; where there
are instances, once more with boxes at places that are the same in all photos: rounding does not ask what is in them;
with a head, how many of its boxes the stored one finds. Nothing is written where few bits cost more than 0.05 dB or
0.001 LPIPS, or where the package's weights would be larger than 40 MB together. --least-6 and --least-8 say from how
many numbers on a kernel is stored in 6 and in 8 bits; the defaults are for width 1, and for half of it with --name
fast. --taps stores the fusion of some taps alone, where instances have hardly a share at the others: what that costs is
measured with the rest. They compute in float32: bfloat16 is slower on CPUs.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image
from tqdm import tqdm

from jaxcolor.cli.parsing import canvas_sides
from jaxcolor.color import AB_SCALE, SaturationCurve, calibrate_saturation
from jaxcolor.data.formats import PHOTO_SUFFIXES
from jaxcolor.data.transforms import read_rgb
from jaxcolor.evaluation.detection import match, scores_of
from jaxcolor.evaluation.metrics import lpips
from jaxcolor.inference.box_finder import BoxFinder
from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.models import networks
from jaxcolor.models.decoding import parse_decode
from jaxcolor.models.fusion import fused_taps
from jaxcolor.runtime.atomic import atomic_write
from jaxcolor.runtime.errors import UserError, exit_status
from jaxcolor.weights import native, packaged, storage
from jaxcolor.weights.native import BoxHeadWeights, NativeWeights
from jaxcolor.weights.storage import LEAST_OF_NARROW, STORAGES, Least

FOLDER = Path(packaged.__file__).parent / "default"
MOST_BYTES = 40_000_000
"""Of all weights in the package."""
MOST_PSNR, MOST_LPIPS = 0.05, 0.001
"""What storing them in few bits may cost."""
MOST_DIFFERENCE = 0.1
"""Of the network that a head was trained on, relative to the one that it is for; 6 bits make 0.04."""
BATCH = 4
LEAST = {packaged.FAST: LEAST_OF_NARROW}
"""Name -> how large kernels in few bits are, where not as ``storage.LEAST`` says."""
PLACES = np.array([[0.08, 0.2, 0.55, 0.9], [0.4, 0.1, 0.95, 0.7]])
"""X0, y0, x1, y1 of the boxes that instances are measured with, as shares of the photo."""
CURVE_STRIDE = 4
"""Every 4th pixel of every 4th row is read for the curve."""


class Cost(NamedTuple):
    """Means over photos, each of 8-bit colors: to the truth with either weights, and between the two."""

    psnr: tuple[float, float]
    """DB, of the trained weights and of those stored."""
    lpips: tuple[float, float]
    between: float
    """PSNR of the stored weights' colors to those of the trained ones, dB."""
    worst: float
    """Greatest loss of PSNR of one photo, dB."""


def choose(folder: Path, count: int) -> list[Path]:
    """Up to ``count`` photos of a folder, evenly spaced in the order of their names."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
    if not found or count < 1:
        raise UserError(f"{folder}: no photos here" if not found else f"--count {count}: must be at least 1")
    return [found[i] for i in np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)]


def cost(
    trained: NativeWeights, stored: NativeWeights, photos: Sequence[Path], vivid: float, instances: bool = False
) -> Cost:
    """What is lost by storing weights, in float32, on photos resized to the canvas.

    Args:
      trained: weights as they were trained.
      stored: the same as they were stored.
      photos: in color.
      vivid: as ``Colorizer``.
      instances: give boxes at ``PLACES``, otherwise the full-image network alone.
    """
    curve = trained.saturation_curve
    colorizers = [Colorizer(w.config, w.variables, vivid=vivid, saturation_curve=curve) for w in (trained, stored)]
    params = lpips.load("alex")
    distance = jax.jit(lpips.lpips, static_argnums=1)
    rows = []
    for start in tqdm(range(0, len(photos), BATCH), unit="batch", dynamic_ncols=True):
        truth = np.stack([_resized(photo, trained.config.side) for photo in photos[start : start + BATCH]])
        boxes = [PLACES * trained.config.side] * len(truth) if instances else None
        before, after = (np.stack(colorizer.many(list(truth), boxes)) for colorizer in colorizers)
        of_batch = [
            _psnr(before, truth),
            _psnr(after, truth),
            np.asarray(distance(params, "alex", before, truth)),
            np.asarray(distance(params, "alex", after, truth)),
            _psnr(after, before),
        ]
        rows.append(np.stack(of_batch, axis=1))
    table = np.concatenate(rows)
    means = [float(mean) for mean in table.mean(axis=0)]
    worst = float((table[:, 0] - table[:, 1]).max())
    return Cost((means[0], means[1]), (means[2], means[3]), means[4], worst)


def calibrated(trained: NativeWeights, photos: Sequence[Path]) -> SaturationCurve:
    """The curve by which the full-image network's chroma is distributed as the photos' own."""
    nets = networks.build(trained.config)

    @jax.jit
    def predicted_and_true(variables: dict[str, Any], rgb: jax.Array) -> tuple[jax.Array, jax.Array]:
        shown = networks.picture(rgb, trained.config)
        found = networks.run_full(nets, variables, shown.inputs).ab[:, ::CURVE_STRIDE, ::CURVE_STRIDE]
        return found, shown.ab[:, ::CURVE_STRIDE, ::CURVE_STRIDE]

    chroma: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for start in tqdm(range(0, len(photos), BATCH), unit="batch", dynamic_ncols=True):
        batch = np.stack([_resized(photo, trained.config.side) for photo in photos[start : start + BATCH]])
        for kept, ab in zip(chroma, predicted_and_true(trained.variables, batch), strict=True):
            kept.append(np.linalg.norm(np.asarray(ab, np.float64) * AB_SCALE, axis=-1).ravel())
    predicted, true = (np.concatenate(kept) for kept in chroma)
    return calibrate_saturation(predicted, true)


def head_of(path: Path, trained: NativeWeights) -> BoxHeadWeights:
    """The head of a file whose full-image network is that of ``trained``, but for rounding."""
    other = native.load(path)
    if other.box_head is None:
        raise UserError(f"{path}: has no head that finds objects; python -m jaxcolor.own_boxes trains one")
    ours, theirs = (jax.tree.leaves_with_path(weights.variables.get("full", {})) for weights in (trained, other))
    same = [(key, leaf.shape) for key, leaf in ours] == [(key, leaf.shape) for key, leaf in theirs]
    apart = sum(float(np.square(a - b).sum()) for (_, a), (_, b) in zip(ours, theirs, strict=True)) if same else 0.0
    norm = sum(float(np.square(leaf).sum()) for _, leaf in ours)
    if not same or apart > MOST_DIFFERENCE**2 * norm:
        raise UserError(f"{path}: its head was trained on another full-image network; train one on these weights")
    return other.box_head


def fused_at(weights: NativeWeights, taps: str) -> NativeWeights:
    """The same networks fused at some of their taps alone (``FusionConfig.layers``): the others' heads are left out."""
    if "fusion" not in weights.variables:
        raise UserError(f"--taps {taps}: the weights have no fusion network")
    before = set(fused_taps(weights.config))
    config = dataclasses.replace(weights.config, fusion=dataclasses.replace(weights.config.fusion, layers=taps))
    kept = fused_taps(config)
    if not before >= set(kept):
        raise UserError(f"--taps {taps}: the weights are fused at {', '.join(sorted(before))}")
    left_out = {f"fuse_{tap}" for tap in before.difference(kept)}
    fusion = dict(weights.variables["fusion"])
    fusion["params"] = {name: part for name, part in fusion["params"].items() if name not in left_out}
    return weights._replace(config=config, variables={**weights.variables, "fusion": fusion})


def boxes_kept(trained: NativeWeights, stored: NativeWeights, photos: Sequence[Path]) -> tuple[int, float]:
    """How many boxes the trained head finds, and which share of them the stored one does (IoU 0.5)."""
    pictures = [read_rgb(photo) for photo in photos]
    finders = [BoxFinder(trained.config, weights.variables, weights.box_head) for weights in (trained, stored)]
    starts = range(0, len(pictures), BATCH)
    before, after = ([b for i in starts for b in find(pictures[i : i + BATCH])] for find in finders)
    scores = scores_of(match(after, [found.boxes for found in before]))
    return scores.objects["all"], scores.recall["all"]


def _resized(photo: Path, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(read_rgb(photo)).resize((side, side), Image.Resampling.BILINEAR))


def _psnr(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """In dB, of each pair of 8-bit pictures; equal ones count as if one value in 100 differed by 1."""
    errors = np.square(first.astype(np.float64) - second).mean(axis=(1, 2, 3))
    return 10 * np.log10(255**2 / np.maximum(errors, 0.01))


def run(args: argparse.Namespace) -> None:
    """Make the file, measure it, put it into the package."""
    trained = native.load(args.weights)
    if trained.storage != "float":
        raise UserError(f"{args.weights}: stored as {trained.storage} already; give the weights as trained")
    photos = choose(args.photos, args.count)
    trained = trained._replace(config=dataclasses.replace(trained.config, compute_dtype="float32"))
    if args.curve is not None:
        trained = trained._replace(saturation_curve=calibrated(trained, choose(args.curve, args.curve_count)))
    if args.box_head is not None:
        trained = trained._replace(box_head=head_of(args.box_head, trained))
    file, note = f"{args.name}.safetensors", args.note or trained.note
    chosen = fused_at(trained, args.taps) if args.taps else trained
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / file
        native.save(
            made,
            chosen.config,
            chosen.variables,
            note=note,
            decode=args.decode,
            saturation_curve=trained.saturation_curve,
            storage=args.storage,
            box_head=trained.box_head,
            least=_least(args),
        )
        stored, size = native.load(made), made.stat().st_size
        others = [path for path in args.out.glob("*.safetensors") if path.name != file]
        total = size + sum(path.stat().st_size for path in others)
        print(f"{file}: {size / 1e6:.2f} MB, {total / 1e6:.2f} of {MOST_BYTES / 1e6:.0f} MB with others")
        if total > MOST_BYTES:
            raise UserError(f"{file}: {total:,} bytes are more than {MOST_BYTES:,}; nothing was written")
        _check_cost(args, trained, stored, photos, instances=False)
        if set(networks.TREES) <= set(trained.variables):
            _check_cost(args, trained, stored, photos, instances=True)
        if trained.box_head is not None:
            count, kept = boxes_kept(trained, stored, photos)
            print(f"own boxes: {count} found" + (f", of which the stored head finds {kept:.1%}" if count else ""))
        with atomic_write(args.out / file) as part:
            part.write_bytes(made.read_bytes())
    entry = packaged.register(args.out, args.name, file, args.canvases)
    print(f"wrote {args.out / file}, SHA-256 {entry.sha256}")


def _least(args: argparse.Namespace) -> Least:
    """How large kernels in few bits are: as the arguments say, or else what the name has by default."""
    found = LEAST.get(args.name, storage.LEAST)
    given = {"in_8": args.least_8, "in_6": args.least_6}
    return found._replace(**{field: value for field, value in given.items() if value is not None})


def _check_cost(
    args: argparse.Namespace, trained: NativeWeights, stored: NativeWeights, photos: Sequence[Path], instances: bool
) -> None:
    """Print what storing costs; a line of error where that is too much."""
    found = cost(trained, stored, photos, parse_decode(args.decode), instances)
    psnr, distance = found.psnr[0] - found.psnr[1], found.lpips[1] - found.lpips[0]
    print(
        f"{args.decode}, {'instances, ' if instances else ''}{len(photos)} photos: PSNR {found.psnr[0]:.3f} dB, stored "
        f"{found.psnr[1]:.3f} ({-psnr:+.4f}, worst photo {-found.worst:+.3f}); LPIPS {found.lpips[0]:.4f}, stored "
        f"{found.lpips[1]:.4f} ({distance:+.5f}); between the two {found.between:.1f} dB"
    )
    if psnr > MOST_PSNR or distance > MOST_LPIPS:
        raise UserError(
            f"{args.name}.safetensors: costs more than {MOST_PSNR} dB or {MOST_LPIPS} LPIPS; nothing was written"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="trained weights, float32")
    parser.add_argument("--photos", type=Path, required=True, help="folder of color photos to measure on")
    parser.add_argument("--count", type=int, default=60, help="how many of them (default: 60)")
    parser.add_argument("--curve", type=Path, help="folder of color photos to calibrate the saturation curve on")
    parser.add_argument("--curve-count", type=int, default=200, help="how many of them (default: 200)")
    parser.add_argument(
        "--box-head", metavar="FILE", type=Path, help="weights whose head finds objects (default: their own)"
    )
    parser.add_argument("--taps", metavar="NAMES", help="that are fused, as conv8_3,conv10_2 (default: as trained)")
    parser.add_argument("--storage", choices=STORAGES, default="int6", help="how they are stored (default: int6)")
    parser.add_argument("--least-8", type=int, metavar="N", help="numbers of the smallest kernel in 8 bits")
    parser.add_argument("--least-6", type=int, metavar="N", help="numbers of the smallest kernel in 6 bits")
    parser.add_argument("--decode", default="safe", help="how colors are shown by default: safe, or vivid:V")
    parser.add_argument("--note", default="", help="where the weights are from (default: the note that they have)")
    parser.add_argument("--name", default=packaged.DEFAULT, help="their name: default, which it is, or fast")
    parser.add_argument(
        "--canvases",
        metavar="SIDES",
        type=canvas_sides,
        help="further canvases that are recommended, or none; not measured here (default: as the registry says)",
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="the folder (default: the package's)")
    args = parser.parse_args(arguments)
    return exit_status("make_default_weights", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())

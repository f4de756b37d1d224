"""How well the head of weights finds objects, beside another detector's boxes: recall and average precision.

Command: ``python benchmarks/own_boxes.py COCO --weights W.safetensors`` with COCO's folder (``val2017/``,
``annotations/instances_val2017.json``) prints a table, and with ``--output F.json`` writes all numbers. Whatever the
class: a detection is right if it has an annotated box of IoU 0.5, each box once. Sizes are the geometric mean of an
annotated box's sides, in pixels of the photo. ``best 8``: the boxes that coloring uses, of the score that it asks for.
``--detections F.json`` measures that detector in the same way. ``--from F.json`` measures what a run with
``--found F.json`` wrote, without a network.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from jaxcolor.data.boxes.coco import TableStore, read_detections, read_instances
from jaxcolor.data.types import Boxes, no_boxes
from jaxcolor.evaluation.detection import SIZES, DetectionScores, match, scores_of


def own_boxes(
    photos: list[Path], weights: str, batch: int, side: int, threshold: float, dtype: Any
) -> tuple[list[Boxes], float]:
    """Boxes of all photos down to a low score, and the threshold that coloring uses."""
    import dataclasses

    from jaxcolor.inference.box_finder import BoxFinder
    from jaxcolor.weights import packaged

    loaded = packaged.load(weights or None)
    config = dataclasses.replace(loaded.config, compute_dtype=dtype) if dtype else loaded.config
    finder = BoxFinder(config, loaded.variables, loaded.box_head, side)
    found: list[Boxes] = []

    def read(start: int) -> list[Image.Image]:
        return [Image.open(path).convert("RGB") for path in photos[start : start + batch]]

    with ThreadPoolExecutor(8) as pool, tqdm(total=len(photos), unit="photo", disable=None) as bar:
        for part in pool.map(read, range(0, len(photos), batch)):
            found += finder(part, threshold)
            bar.update(len(part))
    return found, finder.config.threshold


def described(name: str, scores: DetectionScores) -> str:
    """A row of the table."""
    numbers = [scores.average_precision_50, scores.average_precision, *scores.recall.values()]
    return (
        f"| {name} | {scores.detections / max(scores.photos, 1):.1f} | "
        + " | ".join(f"{n:.3f}" for n in numbers)
        + " |"
    )


def limited(boxes: list[Boxes], threshold: float, count: int) -> list[Boxes]:
    """The best boxes of each photo, of at least such a score."""
    kept = [np.argsort(-b.scores, kind="stable")[:count] for b in boxes]
    kept = [rows[b.scores[rows] >= threshold] for b, rows in zip(boxes, kept, strict=True)]
    return [Boxes(b.boxes[rows], b.scores[rows]) for b, rows in zip(boxes, kept, strict=True)]


def stored(path: Path, keys: list[str], instances: Path) -> list[Boxes]:
    """Detections of a file, none for photos that it does not name."""
    store: TableStore = read_detections(path, instances)
    return [store.read(key) if key in store else no_boxes() for key in keys]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coco", type=Path, help="COCO's folder")
    parser.add_argument("--weights", default="", help="a .safetensors file or a name (default: the default weights)")
    parser.add_argument("--split", default="val2017")
    parser.add_argument("--photos", type=int, default=0, help="so many, evenly spread (default: all)")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=0, help="to which photos are resized (default: the canvas's)")
    parser.add_argument("--least", type=float, default=0.01, help="lowest score that counts for average precision")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="", help="in place of the weights' own")
    parser.add_argument("--detections", type=Path, help="COCO detection results of another detector")
    parser.add_argument("--from", dest="given", type=Path, help="own boxes that were found before")
    parser.add_argument("--found", type=Path, help="where to write own boxes, as COCO detection results")
    parser.add_argument("--output", type=Path, help="where to write all numbers")
    options = parser.parse_args()
    instances = options.coco / "annotations" / f"instances_{options.split}.json"
    annotated = read_instances(instances)
    photos = sorted((options.coco / options.split).glob("*.jpg"))
    if options.photos:
        photos = [photos[i] for i in np.linspace(0, len(photos) - 1, options.photos).round().astype(int)]
    keys = [path.stem for path in photos]
    truth = [annotated.read(key).boxes for key in keys]
    began, threshold = time.monotonic(), 0.25
    if options.given:
        own = stored(options.given, keys, instances)
    else:
        own, threshold = own_boxes(photos, options.weights, options.batch, options.side, options.least, options.dtype)
    seconds = time.monotonic() - began
    if options.found:
        entries = [
            {
                "image_id": int(key),
                "category_id": 1,
                "score": round(float(score), 4),
                "bbox": [round(float(v), 1) for v in (x0, y0, x1 - x0, y1 - y0)],
            }
            for key, boxes in zip(keys, own, strict=True)
            for (x0, y0, x1, y1), score in zip(boxes.boxes, boxes.scores, strict=True)
        ]
        options.found.write_text(json.dumps(entries))
    measured: dict[str, list[Boxes]] = {"own": own}
    measured[f"own, best 8 of {threshold:g}"] = limited(own, threshold, 8)
    if options.detections:
        other = stored(options.detections, keys, instances)
        measured["detector"] = other
        measured[f"detector, best 8 of {threshold:g}"] = limited(other, threshold, 8)
        each = round(sum(len(b.scores) for b in other))
        ranked = np.sort(np.concatenate([b.scores for b in own]))[::-1]
        same = float(ranked[min(each, len(ranked)) - 1]) if len(ranked) and each else 1.0
        measured[f"own, as many as the detector ({same:.3f})"] = limited(own, same, 100)
    results: dict[str, Any] = {name: scores_of(match(boxes, truth)) for name, boxes in measured.items()}
    print(f"{len(photos):,} photos, {sum(map(len, truth)):,} annotated boxes, {seconds:.0f} s\n")
    heads = ["boxes", "a photo", "AP 50", "AP 50-95", *(f"recall {name}" for name in SIZES)]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for name, scores in results.items():
        print(described(name, scores))
    if options.output:
        numbers = {name: scores._asdict() for name, scores in results.items()}
        options.output.write_text(json.dumps({"photos": len(photos), "seconds": seconds, "scores": numbers}, indent=2))


if __name__ == "__main__":
    main()

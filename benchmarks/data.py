"""How fast photos become batches: our pipeline against plain Pillow in a thread pool, in the same run; and its memory.

Command: ``python benchmarks/data.py PHOTOS --seconds 20`` (a folder of photos, boxes beside it) prints JSON.

``plain`` is what one would write in a few lines: the same photos in the same order, decoded, resized and cut by Pillow
in a ``ThreadPoolExecutor`` of as many threads, stacked with NumPy; without boxes' rounding, seeds, order, checks or
resume. The boxes are packed first. Each pair is measured alternately, and the ratio is the median of the pairs' ratios.
``padding`` reads no pixels: it packs the boxes' counts. ``memory`` reads on for ``--memory-steps`` and samples the
process.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxcolor.boxes import choose
from jaxcolor.config import DataConfig
from jaxcolor.data.boxes.packed_writer import pack_store
from jaxcolor.data.collate import crops_per_device
from jaxcolor.data.loader import Parts, train_batches
from jaxcolor.data.sampler import BalancedSampler, ShuffledSampler
from jaxcolor.data.sources.registry import open_source
from jaxcolor.data.types import Source, UsableBoxes

SIDE = 256
BATCH = 16
TURNS = 5
WORK: dict[str, Parts] = {"full": "full", "full_and_8_crops": "both"}


def ours(source: Source, config: DataConfig, parts: Parts, steps: int) -> float:
    """Photos a second, the first steps left out."""
    with train_batches(source, config, parts=parts, side=SIDE, batch_size=BATCH) as batches:
        return rate(batches, steps)


def plain(paths: list[Path], boxes: list[np.ndarray], threads: int, parts: Parts, steps: int) -> float:
    """The same without us: batches read ahead in a pool."""

    def read(number: int) -> tuple[np.ndarray, list[np.ndarray]]:
        with Image.open(paths[number]) as file:
            image = file.convert("RGB")
        full = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        if parts == "full":
            return full, []
        size = (SIDE, SIDE)
        return full, [np.asarray(image.crop(b).resize(size, Image.Resampling.BILINEAR)) for b in boxes[number].tolist()]

    order = ShuffledSampler(len(paths), 0)
    with ThreadPoolExecutor(threads) as pool:

        def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            ahead = [pool.submit(read, order[p]) for p in range(2 * BATCH)]
            for step in range(steps + 3):
                done = [f.result() for f in ahead[:BATCH]]
                start = (step + 2) * BATCH
                ahead = ahead[BATCH:] + [pool.submit(read, order[p]) for p in range(start, start + BATCH)]
                crops = [crop for _, each in done for crop in each]
                yield np.stack([full for full, _ in done]), np.stack(crops) if crops else np.zeros(0)
            for f in ahead:
                f.cancel()

        return rate(batches(), steps)


def top(usable: UsableBoxes, k: int) -> np.ndarray:
    """The best boxes of a photo."""
    return usable.boxes[choose("top_k", usable.scores, k=k)]


def consume(batches: Iterator[Any], steps: int) -> int:
    """Take batches and keep none; how many there were."""
    return sum(1 for _ in islice(batches, steps))


def rate(batches: Iterator[Any], steps: int) -> float:
    """Photos a second over some steps, after two that fill the queues."""
    consume(batches, 2)
    began = time.perf_counter()
    consume(batches, steps)
    return steps * BATCH / (time.perf_counter() - began)


def compare(first: Callable[[int], float], second: Callable[[int], float], seconds: float) -> dict[str, float]:
    """Both alternately; the median of each and of the ratios of neighboring runs."""
    steps = max(2, round(second(4) * seconds / BATCH / TURNS / 2))
    pairs = [(first(steps), second(steps)) for _ in range(TURNS)]
    medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
    return {
        "ours": round(medians[0], 1),
        "plain": round(medians[1], 1),
        "ratio": round(statistics.median(a / b for a, b in pairs), 3),
    }


def padding(source: Source, config: DataConfig, photos: int, passes: int) -> dict[str, dict[str, float]]:
    """Shares of the crops dropped and of the places that stay empty, one device of ``photos`` photos."""
    numbers = source.with_boxes()

    def crops(place: int) -> int:
        return min(source.crop_count(numbers[place]), config.boxes_per_photo)

    plain_order = ShuffledSampler(len(numbers), config.seed)
    dealt = BalancedSampler(
        plain_order, crops, window=config.balance_window * photos, group_size=photos, seed=config.seed
    )
    found = {}
    for name, order, budget in (
        ("dense_8", plain_order, 8.0),
        ("budget_3", plain_order, 3.0),
        ("budget_3.75", plain_order, 3.75),
        ("balanced_3", dealt, 3.0),
        ("balanced_2.75", dealt, 2.75),
    ):
        capacity = crops_per_device(photos, budget)
        steps = passes * len(numbers) // photos
        wanted = np.array([sum(crops(order[s * photos + i]) for i in range(photos)) for s in range(steps)])
        taken = np.minimum(wanted, capacity)
        found[name] = {
            "places": capacity,
            "dropped": round(float(1 - taken.sum() / wanted.sum()), 4),
            "padding": round(float(1 - taken.sum() / (capacity * steps)), 4),
        }
    return found


def resident_mb() -> float:
    """Memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory(source: Source, config: DataConfig, steps: int) -> dict[str, Any]:
    """Memory after each tenth of the steps; an hour at 256 photos a second is 57,600 steps of 16."""
    with train_batches(source, config, parts="both", side=SIDE, batch_size=BATCH) as batches:
        sizes = []
        for _ in range(10):
            consume(batches, steps // 10)
            sizes.append(round(resident_mb(), 1))
    return {"steps": steps, "resident_mb": sizes}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--workers", type=int, default=0, help="processes of ours, a thread each; plain has --threads")
    parser.add_argument("--seconds", type=float, default=60.0, help="about, for each comparison")
    parser.add_argument("--only-speed", action="store_true", help="neither padding nor memory")
    parser.add_argument("--memory-steps", type=int, default=0, help="0: memory is not measured")
    options = parser.parse_args()
    store = Path(tempfile.mkdtemp()) / "boxes"  # thousands of small files would be half of what is measured
    pack_store(options.photos.with_name(options.photos.name + "_bbox"), store)
    config = DataConfig(
        path=str(options.photos),
        boxes_path=str(store),
        threads=1 if options.workers else options.threads,
        workers=options.workers,
        max_crops_per_image=8.0,
    )
    source = open_source(config)
    paths = sorted(options.photos.iterdir())
    boxes = [top(source.usable(i)[1], config.boxes_per_photo) for i in range(len(source))]
    result: dict[str, Any] = {
        "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "pillow": Image.__version__, "numpy": np.__version__},
        "photos": source.describe(),
        "threads": options.threads,
        "workers": options.workers,
        "batch": BATCH,
        "side": SIDE,
        "unit": "photos a second",
    }
    with_boxes = list(source.with_boxes())
    for name, parts in WORK.items():
        kept = range(len(source)) if parts == "full" else with_boxes
        chosen, their = [paths[i] for i in kept], [boxes[i] for i in kept]
        result[name] = compare(
            lambda steps, parts=parts: ours(source, config, parts, steps),  # type: ignore[misc]
            lambda steps, parts=parts, chosen=chosen, their=their: plain(  # type: ignore[misc]
                chosen, their, options.threads, parts, steps
            ),
            options.seconds,
        )
    draft = dataclasses.replace(config, jpeg_draft=True)
    drafted = compare(
        lambda steps: ours(source, draft, "full", steps),
        lambda steps: ours(source, config, "full", steps),
        options.seconds,
    )
    result["full_with_jpeg_draft"] = {"draft": drafted["ours"], "whole": drafted["plain"], "ratio": drafted["ratio"]}
    if options.only_speed:
        print(json.dumps(result, indent=2))
        return
    result["padding_8_photos_a_device"] = padding(source, config, 8, passes=20)
    if options.memory_steps:
        result["memory"] = memory(source, config, options.memory_steps)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""What an evaluation costs: photos a second, and the share of the time that metrics take.

Command: ``python benchmarks/evaluation.py`` prints JSON. A made-up batch (``--photos`` photos, ``--boxes`` boxes each)
at the canvas; the systems full and fused with random weights in float32 products of full precision, as ``eval.py``
runs them. Each part is timed alone: the median over ``--rounds`` calls, waited for, after one that compiles.
``colors`` is the networks' work, ``pictures`` makes 8-bit sRGB of their ab; ``basic`` is PSNR and SSIM in their three
places; every further metric is what it adds to these; ``objects_*`` are of all systems together. ``metrics_share`` is
all but the networks, of two systems and gray, with all metrics that need no file.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxcolor.batch import LEVELS, Batch
from jaxcolor.boxes import level_boxes
from jaxcolor.config import EvalConfig, ModelConfig
from jaxcolor.data.eval_targets import EvalTargets
from jaxcolor.evaluation.predictors import Checkpoint, Predictors
from jaxcolor.evaluation.scorer import Scorer, choose
from jaxcolor.models import networks
from jaxcolor.runtime.parallel import Devices


def made_up(photos: int, boxes: int, side: int) -> tuple[Batch, EvalTargets]:
    """Noise with boxes, which are the annotated objects as well."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, side, (photos * boxes, 2, 2)), axis=1)
    places = level_boxes(
        np.concatenate([corners[:, 0], corners[:, 1] + 1], axis=1).astype(np.int32), (side, side), side, LEVELS
    )
    full = rng.integers(0, 256, (photos, side, side, 3), np.uint8)
    batch = Batch(
        full,
        rng.integers(0, 256, (photos * boxes, side, side, 3), np.uint8),
        np.repeat(np.arange(photos, dtype=np.int32), boxes),
        places,
        np.ones(photos, bool),
    )
    objects = tuple(places[photo * boxes : (photo + 1) * boxes, 0] for photo in range(photos))
    size = np.full((photos, 2), side, np.int32)
    return batch, EvalTargets(full, size, objects, 0, np.ones(photos, bool), objects, places[:, 0])


def seconds(work: Callable[[], Any], rounds: int) -> float:
    """Median of a call; the first one, which compiles, apart."""
    jax.block_until_ready(work())
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=8)
    parser.add_argument("--boxes", type=int, default=3)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--width", type=float, default=1.0, help="of the networks; less for a trial")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    devices = Devices.all("shard_map", jax.devices()[:1])
    model = ModelConfig(side=options.side, width=options.width)
    predict = Predictors([Checkpoint("", model, networks.init(model, 0))], devices, controls=False)
    batch, compared = made_up(options.photos, options.boxes, options.side)

    def scorer(metrics: str) -> Scorer:
        return Scorer(EvalConfig(metrics=metrics), options.side, devices)

    basic = scorer("")
    truth = basic.place(batch, compared)
    colors = predict(batch).colors
    rgb = basic.pictures(truth, colors["fused"])
    systems = {"gray": rgb, "full": rgb, "fused": rgb}
    parts = {
        "place": seconds(lambda: basic.place(batch, compared).rgb, options.rounds),
        "colors": seconds(lambda: predict(batch).colors, options.rounds),
        "pictures": seconds(lambda: basic.pictures(truth, colors["fused"]), options.rounds),
        "basic": seconds(lambda: basic.score(truth, rgb), options.rounds),
        "objects_basic": seconds(lambda: basic.score_objects(truth, systems), options.rounds),
    }
    for name in (metric.name for metric in choose(EvalConfig(), options.side).measured if not metric.always):
        one = scorer(name)
        parts[name] = max(0.0, seconds(lambda one=one: one.score(truth, rgb), options.rounds) - parts["basic"])  # type: ignore[misc]
    everything = scorer("all")
    parts["all"] = seconds(lambda: everything.score(truth, rgb), options.rounds)
    parts["objects_all"] = seconds(lambda: everything.score_objects(truth, systems), options.rounds)
    measuring = len(systems) * (parts["pictures"] + parts["all"]) + parts["objects_all"]
    whole = parts["place"] + parts["colors"] + measuring
    result = {
        "machine": f"{platform.machine()}, {jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "photos": options.photos,
        "boxes_per_photo": options.boxes,
        "width": options.width,
        "ms_per_batch": {name: round(1e3 * taken, 2) for name, taken in parts.items()},
        "photos_per_second": round(options.photos / whole, 2),
        "metrics_share": round(measuring / whole, 3),
        "metrics_share_psnr_ssim_only": round(
            (basic_share := len(systems) * (parts["pictures"] + parts["basic"]))
            / (parts["place"] + parts["colors"] + basic_share),
            3,
        ),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""Training steps on several devices against one, the same batch per device: photos a second, MFU, memory.

Command: ``python benchmarks/scaling.py --devices 1 2`` prints JSON. Full width, 256 x 256, bfloat16; made-up batches
that lie on the devices already, so that only the step is measured. For each stage and mapping the median over
``--rounds`` rounds of five steps, waited for at the end of a round, after two rounds that warm up. ``efficiency`` is
photos a second per device against the first count.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from typing import Any

import jax
import numpy as np

from jaxcolor.batch import LEVELS, Batch
from jaxcolor.boxes import level_boxes
from jaxcolor.config import Config, ModelConfig
from jaxcolor.models import networks
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training.flops import count_flops, peak_flops
from jaxcolor.training.monitor import memory_gb
from jaxcolor.training.optimizer import make_optimizer
from jaxcolor.training.stages import STAGES, stage_config, starting_tree
from jaxcolor.training.step import make_state, make_step

SIDE = 256
PER_DEVICE = {"full": 64, "fusion": 16}
CROPS = 8
"""For each photo of stage fusion."""
ROUND = 5


def made_up(stage: str, photos: int) -> Batch:
    """A batch of one device: noise, which is colorful enough to take part in the loss."""
    rng = np.random.default_rng(0)
    crops = photos * CROPS if stage == "fusion" else 0
    corners = np.sort(rng.integers(0, SIDE, (crops, 2, 2)), axis=1)
    boxes = np.concatenate([corners[:, 0], corners[:, 1] + 1], axis=1)
    return Batch(
        rng.integers(0, 256, (photos, SIDE, SIDE, 3), np.uint8),
        rng.integers(0, 256, (crops, SIDE, SIDE, 3), np.uint8),
        np.repeat(np.arange(photos, dtype=np.int32), CROPS)[:crops],
        level_boxes(boxes, (SIDE, SIDE), SIDE, LEVELS),
        np.ones(photos, bool),
    )


def measure(config: Config, name: str, devices: Devices, rounds: int) -> dict[str, Any]:
    """One stage on some devices."""
    stage, trees = STAGES[name], networks.init(config.model, 0)
    settings = stage_config(config, stage)
    optimizer = make_optimizer(config, settings)
    state = make_state(starting_tree(stage, {}, trees) if name == "full" else trees[name], optimizer, settings)
    kinds = (REPLICATED, REPLICATED, SPLIT)
    per_device = make_step(config, stage, optimizer)
    step = devices.map(per_device, kinds, (REPLICATED, REPLICATED), donate=(0,), cuda_graphs=config.cuda_graphs)
    photos = PER_DEVICE[name]
    part = made_up(name, photos)
    batch = devices.split(jax.tree.map(lambda array: np.concatenate([array] * devices.count), part))
    on_device = devices.replicate(state)
    frozen = devices.replicate_frozen(networks.frozen({tree: trees[tree] for tree in stage.frozen}, config.model))
    flops = count_flops(step, on_device, frozen, batch)
    began = time.perf_counter()
    on_device, scalars = step(on_device, frozen, batch)
    jax.block_until_ready(scalars)
    compiled = time.perf_counter() - began
    times = []
    for _ in range(rounds + 2):
        began = time.perf_counter()
        for _ in range(ROUND):
            on_device, scalars = step(on_device, frozen, batch)
        jax.block_until_ready(scalars)
        times.append((time.perf_counter() - began) / ROUND)
    seconds = statistics.median(times[2:])
    peak = peak_flops(devices.kind)
    return {
        "devices": devices.count,
        "photos_per_device": photos,
        "step_ms": round(1e3 * seconds, 2),
        "photos_per_second": round(photos * devices.count / seconds, 1),
        "mfu": None if peak is None else round(flops / seconds / peak, 3),
        "first_step_s": round(compiled, 1),
        "memory_gb": memory_gb(devices.devices),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, jax.device_count()])
    parser.add_argument("--stages", nargs="+", choices=tuple(PER_DEVICE), default=list(PER_DEVICE))
    parser.add_argument("--mappings", nargs="+", choices=("shard_map", "pmap"), default=["shard_map"])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--width", type=float, default=1.0, help="of the networks; less for a trial")
    parser.add_argument("--cuda-graphs", action="store_true", help="with mapping shard_map, on GPUs")
    options = parser.parse_args()
    if options.cuda_graphs and "pmap" in options.mappings:
        parser.error("--cuda-graphs: not with --mappings pmap")
    config = Config(model=ModelConfig(compute_dtype="bfloat16", width=options.width), cuda_graphs=options.cuda_graphs)
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "cuda_graphs": options.cuda_graphs,
    }
    for name in options.stages:
        for mapping in options.mappings:
            rows: list[dict[str, Any]] = []
            for count in options.devices:
                devices = Devices.all(mapping, jax.devices()[:count])
                rows.append(measure(config, name, devices, options.rounds))
                each = rows[-1]["photos_per_second"] / count
                rows[-1]["efficiency"] = round(each / (rows[0]["photos_per_second"] / options.devices[0]), 3)
                print(json.dumps({name: rows[-1]}), flush=True)
            result[f"{name}, {mapping}"] = rows
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

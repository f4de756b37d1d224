"""Speed of training and coloring on one device: photos a second, share of the device's limit, memory.

Command: ``python benchmarks/speed.py train_full`` prints JSON; any of ``ROWS``, or several; ``train_full_graphs`` and
so on are the same with CUDA graphs. Full width, 256 x 256, bfloat16 on a GPU or TPU and float32 on a CPU (with
instructions for bfloat16, predictions round what they multiply: docs/performance.md). Made-up batches lie on the device
already, so that only the step or the prediction is measured. Programs are compiled
before. Median over ``--rounds`` rounds, each waited for at its end, after two that warm up. ``share_of_limit`` is the
convolutions' and matrix products' operations a second against a large matrix product in the same run and type (above 1
where a CPU rounds: the limit is float32's).
``memory_gib`` is what the program needs: arguments, results, temporary arrays. ``compiles_while_running`` counts
programs compiled in all rounds, which must be none. ``benchmarks/speed_torch.py`` has the same rows in PyTorch, but for
those with boxes of COCO's sizes (``predict_8_by_size``, ``cpu_predict_1_by_size``) and with the package's settings.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding
from where import table

from jaxcolor.batch import LEVELS, PADDING, Batch
from jaxcolor.boxes import crop_sides, level_boxes
from jaxcolor.config import Config, ModelConfig
from jaxcolor.data.collate import collate
from jaxcolor.data.types import Example
from jaxcolor.inference.photos import windows
from jaxcolor.inference.predict import color_function, places_for
from jaxcolor.models import networks
from jaxcolor.models.ops.implementation import PLAIN_SWITCH, for_prediction
from jaxcolor.runtime.compile_options import graph_options, prediction_options, shardings
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training.flops import count_flops
from jaxcolor.training.optimizer import make_optimizer
from jaxcolor.training.stages import STAGES, stage_config, starting_tree
from jaxcolor.training.step import make_state, make_step
from jaxcolor.weights import packaged

SIDE = 256
COPIES = 3
"""Of a batch, at other places in memory."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What is measured."""

    work: str
    """A stage to train, or ``predict``."""
    photos: int
    boxes: int = 0
    """Real ones of each photo."""
    places: int = 0
    """For crops, of each photo; 0: as many as boxes."""
    calls: int = 5
    """In a round."""
    cuda_graphs: bool = False
    crop_sides: tuple[int, ...] = ()
    """Boxes of COCO's sizes, seen at these sides; none: boxes anywhere, all seen at the canvas's side."""
    packaged: bool = False
    """With the settings of the package's weights, and boxes of COCO's sizes, cut out with their context."""
    share_crops: bool = False
    """As ``Colorizer``'s."""
    side: int = SIDE
    """Of the canvas; of photos without boxes."""
    devices: int = 1
    """That it is trained on, each with as many photos."""


def _graphs(row: Row) -> Row:
    return dataclasses.replace(row, cuda_graphs=True)


ROWS = {
    "train_full": Row("full", 64),
    "train_full_128": Row("full", 128),
    "train_instance": Row("instance", 64, boxes=1),
    "train_fusion": Row("fusion", 8, boxes=8, calls=3),
    "train_fusion_16": Row("fusion", 16, boxes=8, calls=3),
    "predict_1": Row("predict", 1, boxes=8, calls=10),
    "predict_8": Row("predict", 8, boxes=8),
    "predict_16": Row("predict", 16, boxes=8, calls=3),
    "predict_8_with_3": Row("predict", 8, boxes=3),
    "predict_8_with_3_padded": Row("predict", 8, boxes=3, places=8),
    "predict_1_without": Row("predict", 1, calls=10),
    "predict_8_by_size": Row("predict", 8, boxes=8, crop_sides=(64, 128, 256)),
    "predict_16_by_size": Row("predict", 16, boxes=8, calls=3, crop_sides=(64, 128, 256)),
    "predict_16_packaged": Row("predict", 16, boxes=8, calls=3, packaged=True),
    "cpu_predict_1": Row("predict", 1, boxes=8, calls=1, packaged=True),
    "cpu_predict_1_shared": Row("predict", 1, boxes=8, calls=1, packaged=True, share_crops=True),
    "cpu_predict_1_by_size": Row("predict", 1, boxes=8, calls=1, crop_sides=(64, 128, 256)),
    "cpu_predict_1_all_256": Row("predict", 1, boxes=8, calls=1),
    "cpu_predict_1_without": Row("predict", 1, calls=1),
    "cpu_canvas_384": Row("predict", 1, calls=1, side=384),
    "cpu_canvas_512": Row("predict", 1, calls=1, side=512),
}
ROWS |= {f"{name}_graphs": _graphs(row) for name, row in ROWS.items() if not name.startswith("cpu")}


COMPILES = {"count": 0}


def _count_compiles(event: str, duration_secs: float, **_: str | int) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILES["count"] += 1


jax.monitoring.register_event_duration_secs_listener(_count_compiles)


def made_up(row: Row, seed: int = 0) -> Batch:
    """Noise, which is colorful enough to take part in the loss; boxes anywhere, a ninth of the photo on average."""
    rng = np.random.default_rng(seed)
    if row.crop_sides or row.packaged:
        return _of_coco_sizes(row, rng)
    slots = row.places or row.boxes
    crops, photos = row.photos * slots, row.photos if row.work != "instance" else 0
    corners = np.sort(rng.integers(0, SIDE, (crops, 2, 2)), axis=1)
    boxes = np.concatenate([corners[:, 0], corners[:, 1] + 1], axis=1)
    index = np.where(np.arange(slots) < row.boxes, np.arange(row.photos)[:, None], PADDING).astype(np.int32).reshape(-1)
    return Batch(
        rng.integers(0, 256, (photos, row.side, row.side, 3), np.uint8),
        rng.integers(0, 256, (crops, SIDE, SIDE, 3), np.uint8),
        index.astype(np.int32),
        level_boxes(boxes, (SIDE, SIDE), SIDE, LEVELS),
        np.ones(photos, bool),
    )


def of_all_devices(row: Row, seed: int = 0) -> Batch:
    """A batch of each device, one after another."""
    parts = [made_up(row, seed + 1000 * device) for device in range(row.devices)]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


COCO_SIZE = (640, 480)
"""Width and height of most of COCO's photos."""
COCO_SCALE = (0.106, 0.472)
"""Median and ninth decile of a box's scale in COCO, the root of its share of the photo's area; the first decile is
0.024 (Singh and Davis, CVPR 2018): a log-normal distribution."""


def coco_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """x0, y0, x1, y1 of squares anywhere in a photo, whose scales are ``count`` quantiles of that distribution."""
    spread = math.log(COCO_SCALE[1] / COCO_SCALE[0]) / statistics.NormalDist().inv_cdf(0.9)
    normal = [statistics.NormalDist().inv_cdf((k + 0.5) / count) for k in range(count)]
    scales = COCO_SCALE[0] * np.exp(spread * np.array(normal))
    sides = np.minimum(np.rint(scales * math.sqrt(math.prod(COCO_SIZE))), min(COCO_SIZE)).astype(np.int32)
    corners = rng.integers(0, np.array(COCO_SIZE) - sides[:, None] + 1)
    return np.concatenate([corners, corners + sides[:, None]], axis=1).astype(np.int32)


def _of_coco_sizes(row: Row, rng: np.random.Generator) -> Batch:
    """Noise with boxes of COCO's sizes, in the places that ``Colorizer`` has for them."""
    boxes = [coco_boxes(rng, row.boxes) for _ in range(row.photos)]
    if row.packaged:
        scores, context = np.ones(row.boxes, np.float32), _settings(row, "float32").context
        boxes = [windows(of_photo, scores, COCO_SIZE, context, row.share_crops)[0] for of_photo in boxes]
    sides = [crop_sides(of_photo, row.crop_sides or (SIDE,)) for of_photo in boxes]
    examples = [
        Example(
            rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8),
            [rng.integers(0, 256, (side, side, 3), np.uint8) for side in own],
            level_boxes(of_photo, COCO_SIZE, SIDE, LEVELS),
            np.ones(len(of_photo), np.float32),
        )
        for of_photo, own in zip(boxes, sides, strict=True)
    ]
    places = places_for(np.concatenate(sides), SIDE)
    return collate(examples, device_count=1, capacity=places, side=SIDE, with_full=True).batch


def _settings(row: Row, dtype: str) -> ModelConfig:
    """Of the networks."""
    model = packaged.load().config if row.packaged else ModelConfig()
    return dataclasses.replace(model, side=row.side, compute_dtype=dtype)  # type: ignore[arg-type]


class Work(NamedTuple):
    """A compiled program and what to call it with."""

    compiled: Any
    arguments: list[Any]
    batches: Iterator[Batch]
    """The last argument, call by call: in memory at other places from call to call, as batches that are read."""
    trains: bool
    """The first argument is a state that a call consumes, and gives anew as its first result."""
    flops: int
    compile_seconds: float
    """Tracing included."""

    def call(self) -> Any:
        """Run it once; of what it gives, what to wait for."""
        result = self.compiled(*self.arguments, next(self.batches))
        if self.trains:
            self.arguments[0], result = result
        return result


def compiled(config: Config, row: Row) -> Work:
    """The program of a row."""
    make, arguments = (_prediction if row.work == "predict" else _training)(config, row)
    # What is multiplied by zeros, or computed for nobody, is no work.
    with mock.patch.dict(os.environ, {PLAIN_SWITCH: "1"}):
        flops = count_flops(make(), *arguments)
    began = time.perf_counter()
    on = jax.devices()[: row.devices]
    options = prediction_options(row.cuda_graphs) if row.work == "predict" else graph_options(row.cuda_graphs, on)
    program = make().lower(*arguments).compile(compiler_options=options)
    seconds = time.perf_counter() - began
    *held, batch = arguments
    batches = itertools.cycle([jax.tree.map(jnp.copy, batch) for _ in range(COPIES)])
    return Work(program, held, batches, row.work != "predict", flops, seconds)


def _training(config: Config, row: Row) -> tuple[Callable[[], Any], tuple[Any, ...]]:
    stage, trees = STAGES[row.work], networks.init(config.model, 0)
    settings, devices = stage_config(config, stage), Devices.all("shard_map", jax.devices()[: row.devices])
    optimizer = make_optimizer(config, settings)
    state = make_state(starting_tree(stage, {}, trees) if row.work == "full" else trees[row.work], optimizer, settings)
    kinds = (REPLICATED, REPLICATED, SPLIT)

    def make() -> Any:
        return devices.map(make_step(config, stage, optimizer), kinds, (REPLICATED, REPLICATED), donate=(0,))

    frozen = devices.replicate_frozen(networks.frozen({tree: trees[tree] for tree in stage.frozen}, config.model))
    return make, (devices.replicate(state), frozen, devices.split(of_all_devices(row)))


def _prediction(config: Config, row: Row) -> tuple[Callable[[], Any], tuple[Any, ...]]:
    def make() -> Any:
        # A new function each time: of one that it has seen jit keeps the trace, and counted are other ways than run.
        return jax.jit(for_prediction(functools.partial(color_function(config.model), fused=row.boxes > 0)))

    variables = networks.frozen(networks.init(config.model, 0), config.model)
    device = SingleDeviceSharding(jax.devices()[0])
    arguments = (jax.device_put(variables, shardings(variables, device)), jax.device_put(made_up(row), device))
    return make, arguments


@functools.cache
def ceiling(dtype: str) -> float:
    """Operations a second of a large matrix product."""
    side = 8192 if dtype == "bfloat16" else 2048
    left, right = (jax.random.normal(jax.random.key(i), (side, side), dtype) for i in range(2))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(left, right))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready([product(left, right) for _ in range(5)])
        times.append((time.perf_counter() - began) / 5)
    return 2 * side**3 / statistics.median(times)


def measure(row: Row, dtype: str, rounds: int) -> tuple[dict[str, Any], Work]:
    """One row, and its program."""
    config = Config(model=_settings(row, dtype))
    work = compiled(config, row)
    compiles = COMPILES["count"]
    times = []
    for _ in range(rounds + 2):
        began = time.perf_counter()
        jax.block_until_ready([work.call() for _ in range(row.calls)])
        times.append((time.perf_counter() - began) / row.calls)
    compiles = COMPILES["count"] - compiles
    seconds = statistics.median(times[2:])
    memory = work.compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    result = {
        "photos": row.photos,
        "boxes_per_photo": row.boxes,
        "places_per_photo": row.places or row.boxes,
        "ms": round(1e3 * seconds, 3),
        "ms_lowest_highest": [round(1e3 * f(times[2:]), 3) for f in (min, max)],
        "photos_per_second": round(row.photos / seconds, 1),
        "tflops_per_second": round(work.flops / seconds / 1e12, 1),
        "share_of_limit": round(work.flops / seconds / ceiling(dtype), 3),
        "gflop_per_photo": round(work.flops / row.photos / 1e9),
        "compile_s": round(work.compile_seconds, 1),
        "compiles_while_running": compiles,
        "memory_gib": round((held + memory.temp_size_in_bytes) / 2**30, 2),
    }
    return result, work


def print_kernels(work: Work, lines: int) -> None:
    """Where the time of a program goes."""
    listed = table(work.call, work.compiled.as_text())
    total = sum(kernel.milliseconds for kernel in listed)
    print(f"{total:.2f} ms of kernels a call")
    for kernel in listed[:lines]:
        share = 100 * kernel.milliseconds / total
        print(f"{kernel.milliseconds:8.3f} ms {share:5.1f}%  {kernel.source}  {kernel.name}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", choices=tuple(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--kernels", type=int, default=0, help="how many to list, with the time they take (GPU)")
    options = parser.parse_args()
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {jax.devices()[0].device_kind}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "jaxlib": jax.lib.__version__},
        "compute_dtype": dtype,
        "limit_tflops_per_second": round(ceiling(dtype) / 1e12, 1),
    }
    for name in options.rows:
        result[name], work = measure(ROWS[name], dtype, options.rounds)
        print(json.dumps({name: result[name]}), flush=True)
        if options.kernels:
            print_kernels(work, options.kernels)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

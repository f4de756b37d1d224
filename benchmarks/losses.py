"""What each loss costs: time of a training step of stage full, by the losses that it adds up.

Command: ``python benchmarks/losses.py`` prints JSON; names of ``ROWS`` measure only these, beside ``regression``, from
which every difference is taken. Full width, 256 x 256, 32 photos, bfloat16 on a GPU or TPU and float32 on a CPU, which
wants less (``--batch 2 --side 64 --width 0.25``). Made-up photos that lie on the device, VGG16 with random parameters:
what a step costs does not follow the numbers. All programs are compiled before; the rows take turns, ``--rounds``
times after one that warms up, and a difference is the median over the rounds of that to ``regression`` in the same
round. ``cpu_ms`` is the processor time of this process, all its threads together.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcolor.batch import LEVELS, Batch
from jaxcolor.config import Config, HintConfig, ModelConfig, ObjectiveConfig, StageConfig
from jaxcolor.models import networks
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training.losses import VGG_BLOCKS
from jaxcolor.training.optimizer import make_optimizer
from jaxcolor.training.stages import STAGES, starting_tree
from jaxcolor.training.step import VGG16, make_state, make_step

ROWS: dict[str, dict[str, Any]] = {
    "regression": {},
    "classes": {"outputs": ("regression", "classes")},
    "perceptual": {"objective": ObjectiveConfig(perceptual=1.0)},
    "colorfulness": {"objective": ObjectiveConfig(colorfulness=1.0)},
    "hints": {"hints": HintConfig(enabled=True)},
}
"""The reference's smooth L1 (a Huber loss) alone, and with one thing more each; hints are no loss, but cost too."""

BASE = "regression"
CALLS = 3
"""Of a program in a round."""


def photos(count: int, side: int) -> Batch:
    """Noise, which is colorful enough to take part in the loss, without crops."""
    rgb = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    nothing = np.zeros((0, side, side, 3), np.uint8)
    boxes = np.zeros((0, LEVELS, 4), np.int32)
    return Batch(rgb, nothing, np.zeros(0, np.int32), boxes, np.ones(count, bool))


def vgg16() -> dict[str, dict[str, np.ndarray]]:
    """Random parameters of the layers that the perceptual loss reads."""
    rng, channels, layers = np.random.default_rng(1), 3, {}
    for block, names in enumerate(VGG_BLOCKS):
        for name in names:
            shape = (3, 3, channels, 64 << block)
            channels = 64 << block
            kernel = rng.standard_normal(shape).astype(np.float32) * np.sqrt(2 / np.prod(shape[:3]))
            layers[name] = {"kernel": kernel.astype(np.float32), "bias": np.zeros(channels, np.float32)}
    return layers


class Program:
    """The compiled step of a row, and its state."""

    def __init__(self, row: dict[str, Any], batch: Batch, width: float, dtype: str) -> None:
        """Compiles."""
        model = ModelConfig(
            side=batch.full_rgb.shape[1],
            width=width,
            compute_dtype=dtype,  # type: ignore[arg-type]
            outputs=row.get("outputs", ("regression",)),
        )
        config = Config(
            model=model,
            full=StageConfig(batch_size=len(batch.full_rgb)),
            objective=row.get("objective", ObjectiveConfig()),
            hints=row.get("hints", HintConfig()),
        )
        devices, stage = Devices.all("shard_map", jax.devices()[:1]), STAGES["full"]
        optimizer = make_optimizer(config, config.full)
        tree = starting_tree(stage, {}, networks.init(model, 0))
        self.state = devices.replicate(make_state(tree, optimizer, config.full))
        self.frozen = devices.replicate({VGG16: vgg16()} if config.objective.perceptual else {})
        self.batch = devices.split(batch)
        began = time.perf_counter()
        kinds = (REPLICATED, REPLICATED, SPLIT)
        step: Any = devices.map(make_step(config, stage, optimizer), kinds, (REPLICATED, REPLICATED), donate=(0,))
        self.step = step.lower(self.state, self.frozen, self.batch).compile()
        self.compile_seconds = time.perf_counter() - began
        memory = self.step.memory_analysis()
        self.gib = (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 2**30

    def run(self) -> tuple[float, float]:
        """Milliseconds of one step: by the clock, and of this process's processors."""
        clock, processor = time.perf_counter(), time.process_time()
        for _ in range(CALLS):
            self.state, scalars = self.step(self.state, self.frozen, self.batch)
        jax.block_until_ready((self.state, scalars))
        times = time.perf_counter() - clock, time.process_time() - processor
        if not jnp.isfinite(scalars.loss):
            raise SystemExit(f"the loss is {scalars.loss}")
        return 1e3 * times[0] / CALLS, 1e3 * times[1] / CALLS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    names = [BASE, *(name for name in options.rows or ROWS if name != BASE)]
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    batch = photos(options.batch, options.side)
    programs = {name: Program(ROWS[name], batch, options.width, dtype) for name in names}
    rounds = [{name: program.run() for name, program in programs.items()} for _ in range(options.rounds + 1)][1:]
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {jax.devices()[0].device_kind}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "jaxlib": jax.lib.__version__},
        "compute_dtype": dtype,
        **{name: getattr(options, name) for name in ("batch", "side", "width", "rounds")},
    }
    for name, program in programs.items():
        times = [of[name][0] for of in rounds]
        more = statistics.median(of[name][0] - of[BASE][0] for of in rounds)
        base = statistics.median(of[BASE][0] for of in rounds)
        result[name] = {
            "ms": round(statistics.median(times), 3),
            "ms_lowest_highest": [round(f(times), 3) for f in (min, max)],
            "cpu_ms": round(statistics.median(of[name][1] for of in rounds), 1),
            "more_ms": round(more, 3),
            "more_percent": round(100 * more / base, 1),
            "memory_gib": round(program.gib, 2),
            "compile_s": round(program.compile_seconds, 1),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

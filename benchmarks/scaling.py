"""Training steps on several devices against one, and variants of a step against today's: photos a second, ms a step.

Command: ``python benchmarks/scaling.py --devices 1 2`` prints JSON, a line for each program as soon as it is measured;
``--json FILE`` writes it too. Full width, 256 x 256, bfloat16; made-up batches that lie on the devices already, so that
only the step is measured. Every program (a stage, a number of devices, one of ``VARIANTS``) is compiled and timed for
two rounds; when all are, they are timed in turns for ``--rounds`` rounds of five steps, waited for at the end of each,
and the median is reported. ``efficiency`` is photos a second per device against the first number of devices, same
variant or, where that was not measured there, today's. With ``--seconds`` no program is begun that would probably not
end within them; such ones are named under ``skipped``.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from jaxcolor.batch import LEVELS, Batch
from jaxcolor.boxes import level_boxes
from jaxcolor.config import Config, ModelConfig
from jaxcolor.models import networks
from jaxcolor.models.ops.implementation import PLAIN_SWITCH
from jaxcolor.runtime.compile_options import graph_options
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training.flops import count_flops, peak_flops
from jaxcolor.training.monitor import memory_gb
from jaxcolor.training.optimizer import make_optimizer
from jaxcolor.training.stages import STAGES, stage_config, starting_tree
from jaxcolor.training.step import make_state, make_step

PER_DEVICE = {"full": 64, "fusion": 16}
CROPS = 8
"""For each photo of stage fusion."""
ROUND = 5


@dataclasses.dataclass(frozen=True)
class Variant:
    """A step compiled otherwise than today's."""

    options: dict[str, str | bool] = dataclasses.field(default_factory=dict)
    """Of XLA, beyond today's."""
    graphs: bool = False
    plain_kernels: tuple[str, ...] = ()
    """Modules of ``models.ops.triton`` whose kernels are not used."""
    plain: bool = False
    """Only the plain definitions."""
    collectives: bool = True
    """Without: each device by itself, which trains nothing; what is lost to collectives and waiting at them."""
    sync_batch_norm: bool = True


_OVERLAP: dict[str, str | bool] = {"xla_gpu_enable_latency_hiding_scheduler": True}
_COMBINE = "xla_gpu_all_reduce_combine_threshold_bytes"
VARIANTS = {
    "today": Variant(),
    "alone": Variant(collectives=False),
    "local_norm": Variant(sync_batch_norm=False),
    "overlap": Variant(_OVERLAP),
    "overlap_8mb": Variant(_OVERLAP | {_COMBINE: str(8 << 20)}),
    "overlap_256mb": Variant(_OVERLAP | {_COMBINE: str(256 << 20)}),
    "combine_256mb": Variant({_COMBINE: str(256 << 20)}),
    "graphs": Variant(graphs=True),
    "graphs_overlap": Variant(_OVERLAP, graphs=True),
    "no_triton": Variant(plain_kernels=("blend", "output_conv", "thin_conv")),
    "no_blend": Variant(plain_kernels=("blend",)),
    "no_output_conv": Variant(plain_kernels=("output_conv",)),
    "no_thin_conv": Variant(plain_kernels=("thin_conv",)),
    "plain": Variant(plain=True),
    "autotune_0": Variant({"xla_gpu_autotune_level": "0"}),
    "autotune_1": Variant({"xla_gpu_autotune_level": "1"}),
    "autotune_2": Variant({"xla_gpu_autotune_level": "2"}),
    "no_triton_gemm": Variant({"xla_gpu_enable_triton_gemm": False}),
}


@contextlib.contextmanager
def traced_as(variant: Variant) -> Iterator[None]:
    """What is traced in the block is traced as the variant has it."""
    with contextlib.ExitStack() as stack:
        for name in variant.plain_kernels:
            stack.enter_context(mock.patch(f"jaxcolor.models.ops.{name}.triton_module", return_value=None))
        if variant.plain:
            stack.enter_context(mock.patch.dict(os.environ, {PLAIN_SWITCH: "1"}))
        if not variant.collectives:
            for name in ("psum", "pmean"):
                stack.enter_context(mock.patch.object(jax.lax, name, lambda values, _: values))
            gathered = mock.patch.object(jax.lax, "all_gather", lambda values, _: values[None])
            stack.enter_context(gathered)
        yield


def made_up(stage: str, photos: int, side: int) -> Batch:
    """A batch of one device: noise, which is colorful enough to take part in the loss."""
    rng = np.random.default_rng(0)
    crops = photos * CROPS if stage == "fusion" else 0
    corners = np.sort(rng.integers(0, side, (crops, 2, 2)), axis=1)
    boxes = np.concatenate([corners[:, 0], corners[:, 1] + 1], axis=1)
    return Batch(
        rng.integers(0, 256, (photos, side, side, 3), np.uint8),
        rng.integers(0, 256, (crops, side, side, 3), np.uint8),
        np.repeat(np.arange(photos, dtype=np.int32), CROPS)[:crops],
        level_boxes(boxes, (side, side), side, LEVELS),
        np.ones(photos, bool),
    )


class Program:
    """A compiled step with its state and batch on the devices."""

    def __init__(self, config: Config, stage_name: str, photos: int, count: int, name: str) -> None:
        """Compile it and take one step."""
        variant, stage = VARIANTS[name], STAGES[stage_name]
        devices = Devices.all("shard_map", jax.devices()[:count])
        trees, settings = networks.init(config.model, 0), stage_config(config, stage)
        optimizer = make_optimizer(config, settings)
        tree = starting_tree(stage, {}, trees) if stage_name == "full" else trees[stage_name]
        state = make_state(tree, optimizer, settings)
        part = made_up(stage_name, photos, config.model.side)
        self._batch = devices.split(jax.tree.map(lambda array: np.concatenate([array] * count), part))
        self._state = devices.replicate(state)
        frozen = {tree: trees[tree] for tree in stage.frozen}
        self._frozen = devices.replicate_frozen(networks.frozen(frozen, config.model))
        kinds = (REPLICATED, REPLICATED, SPLIT)
        config = dataclasses.replace(config, sync_batch_norm=variant.sync_batch_norm)
        step = devices.map(make_step(config, stage, optimizer), kinds, (REPLICATED, REPLICATED), donate=(0,))
        options = (graph_options(variant.graphs, devices.devices) or {}) | variant.options
        self.key, self.photos, self.times = (stage_name, count, name), photos * count, list[float]()
        began = time.perf_counter()
        with traced_as(variant):
            traced = step.trace(self._state, self._frozen, self._batch)  # type: ignore[attr-defined]
            lowered = traced.lower()
        lowered_after = time.perf_counter()
        self._compiled = lowered.compile(compiler_options=options if jax.default_backend() == "gpu" else None)
        compiled_after = time.perf_counter()
        self._flops = count_flops(step, self._state, self._frozen, self._batch)
        first_began = time.perf_counter()
        self._steps(1)
        text = lowered.as_text()
        found = re.findall(r"stablehlo\.convolution.*", text)
        signatures = {re.sub(r"%\S+|loc\(.*", "", line) for line in found}
        self.row: dict[str, Any] = {
            "stage": stage_name,
            "devices": count,
            "variant": name,
            "photos_per_device": photos,
            "trace_and_lower_s": round(lowered_after - began, 1),
            "compile_s": round(compiled_after - lowered_after, 1),
            "first_step_s": round(time.perf_counter() - first_began, 1),
            "convolutions": {"all": len(found), "distinct": len(signatures)},
            "collectives": len(re.findall(r'stablehlo\.all_(?:reduce|gather)"', text)),
        }
        self.round(2)
        self.row["first_rounds_ms"] = [round(1e3 * seconds, 2) for seconds in self.times]
        self.row["memory_gb"] = memory_gb(devices.devices)
        analysis = self._compiled.memory_analysis()
        self.row["temp_gib"] = None if analysis is None else round(analysis.temp_size_in_bytes / 2**30, 2)
        self.times.clear()
        self._peak = peak_flops(devices.kind)

    def _steps(self, count: int) -> None:
        for _ in range(count):
            self._state, scalars = self._compiled(self._state, self._frozen, self._batch)
        jax.block_until_ready(scalars)

    def round(self, count: int = 1) -> None:
        """Time some rounds."""
        for _ in range(count):
            began = time.perf_counter()
            self._steps(ROUND)
            self.times.append((time.perf_counter() - began) / ROUND)

    def report(self) -> None:
        """What the timed rounds say, into ``row``."""
        seconds = statistics.median(self.times)
        self.row |= {
            "step_ms": round(1e3 * seconds, 2),
            "step_ms_lowest_highest": [round(1e3 * f(self.times), 2) for f in (min, max)],
            "rounds": len(self.times),
            "photos_per_second": round(self.photos / seconds, 1),
            "mfu": None if self._peak is None else round(self._flops / seconds / self._peak, 3),
        }


def add_efficiency(rows: list[dict[str, Any]], first_count: int) -> None:
    """Photos a second and device against ``first_count`` devices."""
    base = {
        (row["stage"], row["variant"]): row["photos_per_second"] / first_count
        for row in rows
        if row["devices"] == first_count
    }
    for row in rows:
        against = base.get((row["stage"], row["variant"])) or base.get((row["stage"], "today"))
        if against:
            row["efficiency"] = round(row["photos_per_second"] / row["devices"] / against, 3)


def main() -> None:
    """Measure and print."""
    began = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, jax.device_count()])
    parser.add_argument("--stages", nargs="+", choices=tuple(PER_DEVICE), default=list(PER_DEVICE))
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=["today"])
    parser.add_argument("--only", nargs="+", metavar="DEVICES:VARIANT", help="these, in this order, not all of both")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin nothing that would last longer")
    parser.add_argument("--photos", type=int, help="a device; for a trial")
    parser.add_argument("--width", type=float, default=1.0, help="of the networks; less for a trial")
    parser.add_argument("--side", type=int, default=256, help="of the photos; less for a trial")
    parser.add_argument("--json", type=Path, help="file for what is printed")
    options = parser.parse_args()
    config = Config(model=ModelConfig(compute_dtype="bfloat16", width=options.width, side=options.side))
    device = jax.devices()[0]
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {jax.device_count()} x {device.device_kind}, {os.cpu_count()} CPU cores",
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "jaxlib": jax.lib.__version__},
        "compile_cache": jax.config.values["jax_compilation_cache_dir"],
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "load_at_begin": os.getloadavg()[0],
        "rows": [],
        "skipped": [],
    }

    def write() -> None:
        if options.json:
            options.json.write_text(json.dumps(result, indent=2) + "\n")

    pairs = [(count, name) for name in options.variants for count in options.devices]
    if options.only:
        pairs = [(int(count), name) for count, _, name in (text.partition(":") for text in options.only)]
    programs: list[Program] = []
    last = 0.0
    for stage in options.stages:
        for count, name in pairs:
            started = time.perf_counter()
            # The first program searches for convolution algorithms, which later ones find in the process.
            turns = sum(min(program.row["first_rounds_ms"]) for program in programs) * ROUND * options.rounds / 1e3
            expected = last * (0.5 if len(programs) == 1 else 1.2) + turns * (1 + 1 / max(1, len(programs)))
            if programs and started - began + expected > options.seconds:
                result["skipped"].append(f"{stage}, {count}:{name}")
                continue
            try:
                program = Program(config, stage, options.photos or PER_DEVICE[stage], count, name)
            except jax.errors.JaxRuntimeError as error:  # an option that this XLA does not know, memory that is short
                result["skipped"].append(f"{stage}, {count}:{name}: {str(error)[:200]}")
                write()
                continue
            last = time.perf_counter() - started
            programs.append(program)
            result["rows"].append(program.row)
            print(json.dumps(program.row), flush=True)
            write()
    for turn in range(options.rounds):
        for program in programs:
            program.round()
        if turn >= 1:
            for program in programs:
                program.report()
            add_efficiency(result["rows"], pairs[0][0] if len(options.devices) < 2 else min(options.devices))
            write()
    result["seconds"] = round(time.perf_counter() - began, 1)
    write()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

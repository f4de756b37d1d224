"""How long ``eval.py`` takes to its first result and in all, with an empty compile cache and with one that is filled.

Command: ``python benchmarks/eval_start.py PHOTOS --photos 48`` prints JSON. PHOTOS: a folder of photos, their boxes
beside it; ``--truth FILE``: annotated boxes, COCO's JSON or another form of docs/boxes.md. The package's weights, all
metrics that need no file, objects, both controls, no pictures. Each time is that of a process of its own, from its
start:

- ``ready``: modules, weights, photos' names, metrics' weights, the first batch;
- ``first_result``: programs compiled, numbers of the first batch on the host;
- ``in_all``: files written, the process ended.

``XLA_FLAGS`` is handed on: ``XLA_FLAGS=--xla_gpu_autotune_level=0 python benchmarks/eval_start.py …`` says what the
search for algorithms costs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_PROGRAM = """
import json, os, platform, sys, time
import jax
from jax import monitoring
from jaxcolor.evaluation.evaluator import Evaluator

began, results, words = float(sys.argv[1]), sys.argv[2], sys.argv[3:]
found = {"compiled_programs": 0, "compiling_s": 0.0, "read_from_cache": 0, "tracing_s": 0.0}

def count(name, seconds, **_):
    if name.endswith("backend_compile_duration"):
        found["compiled_programs"] += 1
        found["compiling_s"] += seconds
    elif name.endswith("cache_retrieval_time_sec"):
        found["read_from_cache"] += 1
    elif name.endswith(("jaxpr_trace_duration", "jaxpr_to_mlir_module_duration")):
        found["tracing_s"] += seconds

monitoring.register_event_duration_secs_listener(count)
measure = Evaluator.measure

def since(): return time.time() - began

def measured(self, *arguments):
    found["ready"] = since()
    result = measure(self, *arguments)
    Evaluator.measure = measure
    found["first_result"] = since()
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} cores"
    found.update(device=device, jax=jax.__version__, python=platform.python_version())
    open(results, "w").write(json.dumps(found))
    return result

Evaluator.measure = measured
from jaxcolor.cli.evaluate import main
main("eval.py", words)
"""


def timed(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One evaluation, in a process of its own."""
    words = ["--config", "folder", "--weights", options.weights, "--workdir", str(folder / "results")]
    fields = {"data.path": options.folder, "photos": options.photos, "report_photos": 0, "data.threads": 8}
    fields["batch_size"] = options.batch_size
    if options.truth:
        fields["data.truth_boxes_path"] = options.truth
    words += [f"--config.eval.{name}={value}" for name, value in fields.items()]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment["XDG_CACHE_HOME"] = str(folder / "cache")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.time()
    command = [sys.executable, "-c", _PROGRAM, str(began), str(folder / "found.json"), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    in_all = time.time() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    found["in_all"] = in_all
    found["processor_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {name: round(value, 1) if isinstance(value, float) else value for name, value in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="PHOTOS", type=Path)
    parser.add_argument("--truth", type=Path, help="annotated boxes")
    parser.add_argument("--photos", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--cold-only", action="store_true", help="no second run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result: dict[str, Any] = {"photos": options.photos, "xla_flags": os.environ.get("XLA_FLAGS", "")}
        result["empty_cache"] = timed(Path(name), options)
        if not options.cold_only:
            result["filled_cache"] = timed(Path(name), options)
        kept = [path for path in (Path(name) / "cache").rglob("*") if path.is_file()]
        result["cache_MB"] = round(sum(path.stat().st_size for path in kept) / 1e6, 1)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

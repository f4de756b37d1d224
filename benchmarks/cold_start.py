"""From nothing to the first picture: ``jaxcolor colorize`` on one photo in a new process, the compile cache warm.

Command: ``python benchmarks/cold_start.py --boxes 2`` prints JSON: seconds of the whole process, first with an empty
cache, then the median of ``--runs`` with it. Random weights of the full networks (413 MB) and a photo of 640 x 480.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from jaxcolor.config import ModelConfig
from jaxcolor.models import networks
from jaxcolor.weights import native


def prepare(folder: Path, boxes: int) -> None:
    """Weights, a photo and its boxes."""
    native.save(folder / "random.safetensors", ModelConfig(), jax.device_get(networks.init(ModelConfig(), 0)))
    rng = np.random.default_rng(0)
    for name in ("photos", "photos_bbox"):
        (folder / name).mkdir()
    Image.fromarray(rng.integers(0, 256, (480, 640, 3), np.uint8)).save(folder / "photos" / "photo.png")
    corners = np.sort(rng.uniform(0, 400, (boxes, 2, 2)), axis=1)
    corners[:, 1] += 60
    np.savez(folder / "photos_bbox" / "photo.npz", bbox=corners.reshape(boxes, 4), scores=np.ones(boxes, np.float32))


def seconds(folder: Path) -> float:
    """Of one run."""
    command = "import sys; from jaxcolor.cli import main; sys.exit(main())"
    paths = [str(folder / name) for name in ("photos", "random.safetensors", "out")]
    arguments = ["colorize", paths[0], "-w", paths[1], "-o", paths[2], "--force"]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment["XDG_CACHE_HOME"] = str(folder / "cache")
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", command, *arguments], env=environment, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=2, help="of the photo")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, options.boxes)
        first = seconds(folder)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        times = [seconds(folder) for _ in range(options.runs)]
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "boxes": options.boxes,
        "empty_cache_s": round(first, 2),
        "warm_cache_s": round(statistics.median(times), 2),
        "warm_cache_lowest_highest_s": [round(min(times), 2), round(max(times), 2)],
        "warm_cache_processor_s": round(busy / options.runs, 2),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

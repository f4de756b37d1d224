"""Memory of ``jaxcolor colorize`` for a large photo, beyond what it takes for a small one: photo, result, joining them.

Command: ``python benchmarks/memory.py --width 12000 --height 9000`` prints JSON: the peak of resident memory and the
seconds of a process for each photo. Small random weights: what the networks take does not follow the photo's size;
``--weights default`` takes the package's, ``--gray`` a photo of one channel.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import PIL
from PIL import Image

from jaxcolor.config import ModelConfig
from jaxcolor.models import networks
from jaxcolor.weights import native

_COMMAND = "import sys; from jaxcolor.cli import main; sys.exit(main())"


def prepare(folder: Path, width: int, height: int, mode: str) -> None:
    """Weights, and a folder each with a small and a large JPEG of smooth colors and noise; ``mode``: Pillow's."""
    config = ModelConfig(side=64, width=0.0625)
    native.save(folder / "random.safetensors", config, jax.device_get(networks.init(config, 0)))
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    for name, size in (("small", (400, 300)), ("large", (width, height))):
        (folder / name).mkdir()
        large = Image.fromarray(noise).convert(mode).resize(size, Image.Resampling.BICUBIC)
        large.save(folder / name / "photo.jpg", quality=90)


def measured(folder: Path, name: str, weights: str) -> tuple[float, float]:
    """Peak of resident memory in bytes, and seconds, of coloring the photos in a folder in a process of its own."""
    arguments = ["colorize", str(folder / name), "-w", weights, "-o", str(folder / "out")]
    began = time.perf_counter()
    process = os.posix_spawn(sys.executable, [sys.executable, "-c", _COMMAND, *arguments, "--force"], os.environ)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"jaxcolor colorize {name}: status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * 1024, time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=12000)
    parser.add_argument("--height", type=int, default=9000)
    parser.add_argument("--weights", help="default, fast or a file; small random ones where none are given")
    parser.add_argument("--gray", action="store_true", help="the photos have one channel")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: the system counts a parent's memory as its children's until they run.
        maker = multiprocessing.get_context("spawn").Process(
            target=prepare, args=(folder, options.width, options.height, "L" if options.gray else "RGB")
        )
        maker.start()
        maker.join()
        weights = options.weights or str(folder / "random.safetensors")
        small, large = (measured(folder, name, weights) for name in ("small", "large"))
    pixels = options.width * options.height
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "pillow": PIL.__version__},
        "weights": options.weights or "small random ones",
        "gray": options.gray,
        "megapixels": round(pixels / 1e6, 1),
        "small_MB": round(small[0] / 1e6),
        "large_MB": round(large[0] / 1e6),
        "beyond_small_MB": round((large[0] - small[0]) / 1e6),
        "bytes_per_pixel": round((large[0] - small[0]) / pixels, 1),
        "small_s": round(small[1], 1),
        "large_s": round(large[1], 1),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""What upsampling of ab costs and brings: PSNR with true ab on photos, and time and memory of ``join`` by photo size.

Command: ``python benchmarks/upsample.py PHOTOS --count 60 --megapixels 12 --large 12000x9000`` prints JSON.

``psnr``: the photo's Lab is reduced to the canvas (Pillow's bilinear, float), upsampled again and joined with the
photo's own L*; the mean over the first photos, in name order. Channels are clipped, as evaluation does; the last row
shows what gamut mapping changes. ``seconds`` are CPU time, so that others on the machine count for little; the best of
some turns, on smooth noise. ``memory`` is the highest resident set of a process of its own, in which ``join`` colors
one photo of noise, above what it was with that photo alone; the result's 3 bytes a pixel are in it. Linux only.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxcolor import color
from jaxcolor.data.formats import PHOTO_SUFFIXES
from jaxcolor.data.transforms import read_rgb
from jaxcolor.inference.upsample import join, reduced

CANVAS = 256
TURNS = 3
JOINS: dict[str, dict[str, Any]] = {
    "bilinear": {"upsampling": "bilinear", "gamut": "clip"},
    "luma_slope": {"upsampling": "luma_slope", "gamut": "clip"},
    "luma_slope_in_gamut": {"upsampling": "luma_slope", "gamut": "chroma"},
    "luma_slope_in_gamut_saturation_2": {"upsampling": "luma_slope", "gamut": "chroma", "saturation": 2.0},
}


def whole(photo: np.ndarray, ab: np.ndarray, resampling: Image.Resampling) -> np.ndarray:
    """The plain way, all of the photo at once."""
    lab = color.rgb_to_lab(color.unit_rgb(photo))
    lab[..., 1:] = resized(ab, photo.shape[0], photo.shape[1], resampling) * color.AB_SCALE
    return np.asarray(color.quantize_rgb(color.lab_to_rgb(lab)))


def resized(planes: np.ndarray, height: int, width: int, resampling: Image.Resampling) -> np.ndarray:
    """Planes on the last axis, each by Pillow in float."""
    each = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(planes, -1, 0)]
    return np.stack([np.asarray(plane.resize((width, height), resampling)) for plane in each], axis=-1)


def psnr(photos: list[Path], side: int) -> dict[str, float]:
    """DB of each way, true ab on a canvas of this side; the mean over photos."""
    found: dict[str, list[float]] = {}
    for path in photos:
        photo = read_rgb(path)
        truth = color.rgb_to_lab(color.unit_rgb(photo))
        ab = resized(truth[..., 1:], side, side, Image.Resampling.BILINEAR) / color.AB_SCALE
        results = {name: join(photo, ab, **JOINS[name]) for name in list(JOINS)[:3]}
        results["bicubic"] = whole(photo, ab, Image.Resampling.BICUBIC)
        for name, result in results.items():
            error = np.mean((result.astype(np.float64) - photo) ** 2)
            found.setdefault(name, []).append(10 * np.log10(255**2 / error))
    return {name: round(float(np.mean(values)), 2) for name, values in found.items()}


def enlarged(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo of smooth noise, and its ab on the canvas."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8))
    photo = np.asarray(coarse.resize((width, height), Image.Resampling.BILINEAR))
    truth = color.rgb_to_lab(color.unit_rgb(reduced(photo, CANVAS)))
    return photo, truth[..., 1:] / np.float32(color.AB_SCALE)


def seconds(call: Callable[[], object]) -> float:
    """CPU time of the best turn."""
    times = []
    for _ in range(TURNS):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return round(min(times), 2)


def speed(megapixels: float) -> dict[str, float]:
    """CPU seconds of each way; ``whole`` is what ``join`` did before strips."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    photo, ab = enlarged(width, round(width * 3 / 4))
    calls: dict[str, Callable[[], object]] = {"whole": lambda: whole(photo, ab, Image.Resampling.BILINEAR)}
    calls |= {name: functools.partial(join, photo, ab, **options) for name, options in JOINS.items()}
    return {name: seconds(call) for name, call in calls.items()}


def peak_mb() -> float:
    """The highest resident set of this process so far, MB; ``getrusage`` would count the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def memory(width: int, height: int, way: str) -> dict[str, float]:
    """In this process: run it in a fresh one."""
    rng = np.random.default_rng(0)
    photo = np.empty((height, width, 3), np.uint8)
    photo[:] = rng.integers(0, 256, (1, width, 3), np.uint8)
    ab = rng.normal(0, 0.2, (CANVAS, CANVAS, 2)).astype(np.float32)
    call = (lambda: whole(photo, ab, Image.Resampling.BILINEAR)) if way == "whole" else lambda: join(photo, ab)
    join(photo[:64], ab)  # what is loaded once
    before = peak_mb()
    began = time.process_time()
    call()
    return {
        "cpu_seconds": round(time.process_time() - began, 1),
        "photo_mb": round(photo.nbytes / 1e6),
        "above_photo_mb": round(peak_mb() - before),
        "process_mb": round(peak_mb()),
    }


def in_a_process(size: str, way: str) -> dict[str, float]:
    """``memory`` in one of its own."""
    command = [sys.executable, __file__, "--memory-of", way, "--large", size]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="?", type=Path, help="folder of photos, for PSNR")
    parser.add_argument("--count", type=int, default=60, help="of photos")
    parser.add_argument("--sides", type=int, nargs="*", default=[256, 64], help="of the canvas, for PSNR")
    parser.add_argument("--megapixels", type=float, default=12.0, help="of the photo that is timed; 0: none")
    parser.add_argument("--large", help="WIDTHxHEIGHT of the photo whose memory is measured; nothing: none")
    parser.add_argument("--memory-of", choices=["whole", "join"], help="measure it in this process and nothing else")
    arguments = parser.parse_args()
    if arguments.memory_of:
        width, height = map(int, arguments.large.split("x"))
        print(json.dumps(memory(width, height, arguments.memory_of)))
        return
    found: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "numpy": np.__version__}
    if arguments.photos:
        paths = sorted(p for p in arguments.photos.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)[: arguments.count]
        found["photos"] = len(paths)
        found["psnr"] = {side: psnr(paths, side) for side in arguments.sides}
    if arguments.megapixels:
        found["seconds"] = speed(arguments.megapixels)
    if arguments.large:
        found["memory"] = {"4000x3000 whole": in_a_process("4000x3000", "whole")}
        found["memory"] |= {f"{size} join": in_a_process(size, "join") for size in ("4000x3000", arguments.large)}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

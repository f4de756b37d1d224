"""The README's table and that of two hues: the demo once for each seed, its numbers, seconds of training.

Command: ``python benchmarks/demo_seeds.py --seeds 0 1 2 --workdir runs/seeds``. A seed that has run is not run again.
Writes ``WORKDIR/demo_seeds.json`` and prints Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

ROOT = Path(__file__).parents[1]
ROWS = {"gray": ("gray",), "full": ("full",), "fused": ("fused",)} | {
    f"fused, {name.replace('_', ' ')}": ("controls", name) for name in ("no_boxes", "other_crops")
}
METRICS = ("psnr", "psnr_objects", "psnr_background")
TWO_HUES = {
    "gray, the best single answer": "psnr_gray",
    "mean (regression)": "psnr_mean",
    "most probable sample": "psnr_first",
    "best of 4 samples": "psnr_best",
    "true colors as hints": "psnr_given",
    "palette coverage": "coverage",
    "calibration error": "calibration_error",
}


def run_seed(seed: int, folder: Path) -> dict[str, Any]:
    """The metrics of a demo whose every seed is ``seed``."""
    path = folder / "metrics.json"
    if not path.exists():
        flags = ("config", "two_hues")
        seeds = [f"--{flag}.{name}={seed}" for flag in flags for name in ("seed", "data.seed", "eval.data.seed")]
        command = [sys.executable, "-m", "jaxcolor.demo", "--config", "configs/demo.py", "--workdir", str(folder)]
        command += ["--two_hues", "configs/two_hues.py"]
        subprocess.run([*command, *seeds], cwd=ROOT, check=True)
    metrics: dict[str, Any] = json.loads(path.read_text())
    return metrics


def main() -> None:
    """Run the seeds that have not run, write the JSON, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workdir", type=Path, required=True)
    options = parser.parse_args()
    workdir = options.workdir.absolute()
    runs = {seed: run_seed(seed, workdir / f"seed_{seed}") for seed in options.seeds}

    def value(metrics: Any, row: tuple[str, ...], metric: str) -> float:
        for key in row:
            metrics = metrics[key]
        return float(metrics[metric])

    table = {
        title: {metric: {seed: round(value(m, row, metric), 3) for seed, m in runs.items()} for metric in METRICS}
        for title, row in ROWS.items()
    }
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()} {platform.system()}, {jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "train_seconds": {seed: m["train_seconds"] for seed, m in runs.items()},
        "table": table,
        "two_hues": {seed: m["two_hues"] for seed, m in runs.items()},
    }
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "demo_seeds.json").write_text(json.dumps(result, indent=2) + "\n")
    print("| PSNR, dB (seeds " + ", ".join(map(str, runs)) + ") | whole | objects | background |\n|---|---|---|---|")
    for title, of_metric in table.items():
        cells = (" / ".join(f"{v:.1f}" for v in by_seed.values()) for by_seed in of_metric.values())
        print(f"| {title} | {' | '.join(cells)} |")
    print("\n| two hues (seeds " + ", ".join(map(str, runs)) + ") | |\n|---|---|")
    for title, name in TWO_HUES.items():
        unit, scale = (" dB", 1) if name.startswith("psnr") else ("%", 100)
        values = [f"{scale * m['two_hues'][name]:.1f}" for m in runs.values()]
        print(f"| {title} | {' / '.join(values)}{unit} |")
    print("train seconds:", result["train_seconds"])


if __name__ == "__main__":
    main()

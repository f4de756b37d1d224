"""Where the time of a row of ``benchmarks/speed.py`` goes, by layer and kind of kernel.

Command: ``python benchmarks/where.py train_full`` prints a table: milliseconds a call, share, the operation of the
program that the kernels came from. Kernels of fused operations count for the one the compiler names them after.
GPU only: elsewhere the profiler does not tell kernels apart.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import jax
from jax.profiler import ProfileData
from speed import ROWS, compiled

from jaxcolor.config import Config, ModelConfig

CALLS = 3


def sources(text: str) -> dict[str, tuple[str, str]]:
    """Instruction of a compiled program -> the operation it came from, and the shape of its result."""
    found = {}
    for match in re.finditer(
        r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*?) [\w\-]+\(.*?op_name=\"([^\"]+)\"", text, re.MULTILINE
    ):
        found[match[1]] = (match[3], re.sub(r"\{[^}]*\}|/\*.*?\*/", "", match[2]))
    return found


def short(source: str) -> str:
    """What the rows of the table are: network, layer, direction, operation."""
    direction = "backward " if "transpose(" in source else ""
    return direction + "/".join(part.strip("()") for part in source.split("/")[-3:])


def kernels(folder: Path) -> dict[str, float]:
    """Milliseconds by instruction."""
    (path,) = folder.rglob("*.xplane.pb")
    found: dict[str, float] = defaultdict(float)
    for plane in ProfileData.from_file(str(path)).planes:
        if not plane.name.startswith("/device:GPU"):
            continue
        for line in plane.lines:
            if not line.name.startswith("Stream"):
                continue
            for event in line.events:
                stats = dict(event.stats)
                name = str(stats.get("hlo_op", event.name))
                found[f"{name}|{event.name[:60]}"] += event.duration_ns / 1e6
    return found


def main() -> None:
    """Trace a few calls and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=tuple(ROWS))
    parser.add_argument("--lines", type=int, default=50)
    parser.add_argument("--json", type=Path, help="everything, to this file")
    options = parser.parse_args()
    row = ROWS[options.row]
    config = Config(model=ModelConfig(compute_dtype="bfloat16"))
    work = compiled(config, row)
    names, call = sources(work.compiled.as_text()), work.calls()
    for _ in range(2):
        jax.block_until_ready(call())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready([call() for _ in range(CALLS)])
        found = kernels(Path(folder))
    rows: list[tuple[float, str, str]] = []
    for key, milliseconds in found.items():
        instruction, kernel = key.split("|", 1)
        source, shape = names.get(instruction, (instruction, ""))
        rows.append((milliseconds / CALLS, f"{short(source)} {shape[:70]}", kernel))
    rows.sort(reverse=True)
    total = sum(r[0] for r in rows)
    memory: Any = work.compiled.memory_analysis()
    print(
        f"{options.row}: {total:.2f} ms of kernels a call; temporary memory {memory.temp_size_in_bytes / 2**30:.2f} GiB"
    )
    for milliseconds, source, kernel in rows[: options.lines]:
        print(f"{milliseconds:8.3f} ms {100 * milliseconds / total:5.1f}%  {source}  [{kernel}]")
    if options.json:
        options.json.write_text(json.dumps({"total_ms": total, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()

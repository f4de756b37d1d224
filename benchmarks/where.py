"""Where the time of a compiled program goes: milliseconds by kernel, with the operation that it came from.

For ``benchmarks/speed.py --kernels``. GPU only: elsewhere the profiler does not separate kernels. Kernels of fused
operations count for the one that the compiler names them after.
"""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.profiler import ProfileData

CALLS = 3


class Kernel(NamedTuple):
    """All runs of a kernel in a call."""

    milliseconds: float
    source: str
    """Operation of the program, and the shape of its result."""
    name: str


def table(call: Callable[[], Any], program: str) -> list[Kernel]:
    """The kernels of a call, those that take longest first; ``program`` is the compiled program's text."""
    names = _sources(program)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready([call() for _ in range(CALLS)])
        found = _kernels(Path(folder))
    rows = [Kernel(ms / CALLS, names.get(op, names.get(name, op)), name) for (op, name), ms in found.items()]
    return sorted(rows, reverse=True)


def _sources(program: str) -> dict[str, str]:
    """Instruction -> what it is."""
    found = {}
    line = r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*?) [\w\-]+\(.*?op_name=\"([^\"]+)\""
    for name, shape, source in re.findall(line, program, re.MULTILINE):
        parts = "/".join(part.strip("()") for part in source.split("/")[-3:])
        backward = "backward " if "transpose(" in source else ""
        found[name] = found[name.replace(".", "_")] = f"{backward}{parts} {re.sub(r'{[^}]*}', '', shape)[:60]}"
    return found


def _kernels(folder: Path) -> dict[tuple[str, str], float]:
    """(instruction, kernel) -> milliseconds."""
    (path,) = folder.rglob("*.xplane.pb")
    found: dict[tuple[str, str], float] = defaultdict(float)
    for plane in ProfileData.from_file(str(path)).planes:
        if not plane.name.startswith("/device:GPU"):
            continue
        for line in plane.lines:
            if not line.name.startswith("Stream"):
                continue
            for event in line.events:
                instruction = str(dict(event.stats).get("hlo_op", event.name))
                found[instruction, event.name[:60]] += event.duration_ns / 1e6
    return found

"""What is computed with CUDA graphs against what is computed without, on one GPU or, when training, on several.

Command: ``python benchmarks/graphs.py train_full train_fusion predict_8`` prints JSON; any rows of ``speed.py``. The
same calls, ``--calls`` of them, with batches of other contents and at other places in memory from call to call: twice
without graphs, to see what the GPU's own order of sums changes, and once with. Of training the losses and the
parameters at the end are compared, of a prediction the colors: the largest difference, against the largest value. 0:
the same bits.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import speed

from jaxcolor.config import Config, ModelConfig

BATCHES = 5
"""Of other contents, at other places in memory; in turn."""


def outcome(work: speed.Work, row: speed.Row, calls: int) -> tuple[list[Any], Any]:
    """What each call gives, and the state at the end."""
    sharding = jax.tree.leaves(next(work.batches))[0].sharding
    batches = [jax.device_put(speed.of_all_devices(row, seed), sharding) for seed in range(BATCHES)]
    own = work._replace(batches=itertools.cycle(batches), arguments=list(work.arguments))
    if own.trains:
        own.arguments[0] = jax.tree.map(jnp.copy, own.arguments[0])
    results = [own.call() for _ in range(calls)]
    return jax.device_get((results, own.arguments[0] if own.trains else ()))


def difference(ours: Any, theirs: Any) -> float:
    """The largest one of any array, against that array's largest value; infinite if either is not finite."""

    def of(a: Any, b: Any) -> float:
        a, b = (np.asarray(x, np.float64) for x in (a, b))
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            return float("inf")
        return float(np.abs(a - b).max(initial=0) / max(np.abs(b).max(initial=0), 1e-30))

    return max(of(a, b) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))


def compare(row: speed.Row, dtype: str, calls: int) -> dict[str, float]:
    """The differences of a row: of the plain program from itself, and of that with graphs from the plain one."""
    config = Config(model=ModelConfig(compute_dtype=dtype))  # type: ignore[arg-type]
    plain, graphs = (speed.compiled(config, dataclasses.replace(row, cuda_graphs=wanted)) for wanted in (False, True))
    first, *others = (outcome(work, row, calls) for work in (plain, plain, graphs))
    found = {}
    for name, other in zip(("again", "with_graphs"), others, strict=True):
        for part, ours, theirs in zip(("results", "state"), other, first, strict=True):
            if jax.tree.leaves(theirs):
                found[f"{part}_{name}"] = difference(ours, theirs)
    return found


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", choices=tuple(speed.ROWS), metavar="ROW")
    parser.add_argument("--calls", type=int, default=12)
    parser.add_argument("--devices", type=int, default=1, help="to train on, each with as many photos")
    options = parser.parse_args()
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    result: dict[str, Any] = {
        "machine": jax.devices()[0].device_kind,
        "calls": options.calls,
        "devices": options.devices,
    }
    for name in options.rows:
        result[name] = compare(dataclasses.replace(speed.ROWS[name], devices=options.devices), dtype, options.calls)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

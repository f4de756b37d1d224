"""Files for debugging a loss that is not finite: the state, the batch, the names of its photos."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcolor.data.loader import LoadedBatch
from jaxcolor.runtime.atomic import atomic_write, write_text
from jaxcolor.training.step import TrainState
from jaxcolor.training.workdirs import CONFIG_FILE

FOLDER = "nan_dump"
"""In the workdir."""

NOTE = (
    "state.npz is the state after step state_step, not the one before the step: a step donates its memory to the next, "
    "and losses are looked at every log_every steps. The last checkpoint is from before; batch.npz holds the photos of "
    "the step whose loss was not finite, names lists them in its order."
)


def dump_state(
    workdir: Path, stage: str, step: int, state: TrainState, loaded: LoadedBatch, scalars: Mapping[str, Any]
) -> Path:
    """Write ``<workdir>/nan_dump/<stage>-<step>/``: what is known of a step whose loss is not finite.

    ``state.npz`` and ``batch.npz`` need no pickle to be read; ``dump.json`` has the names of the photos, the scalars
    and the arrays with numbers that are not finite; ``config.json`` is the run's. The state before the step is lost
    (its memory was donated): what is written is the current state, which may be some steps later. Of several processes
    each writes its own batch, the first one the rest.

    Args:
      workdir: of the run.
      stage: its name.
      step: whose loss was not finite, from 1.
      state: host arrays, as they are now.
      loaded: the batch of that step.
      scalars: what the step reported.

    Returns:
      The folder.
    """
    folder = workdir / FOLDER / f"{stage}-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    process = jax.process_index()
    mark = f"-{process}" if jax.process_count() > 1 else ""
    arrays = loaded.batch._asdict()
    arrays |= {f"crop_rgb_{crops.shape[1]}": crops for crops in arrays.pop("smaller_crops")}
    _save(folder / f"batch{mark}.npz", arrays)
    about: dict[str, Any] = {"stage": stage, "step": step, "names": loaded.names, "skipped": loaded.skipped}
    if process:
        write_text(folder / f"dump{mark}.json", json.dumps(about, indent=2) + "\n")
        return folder
    arrays = _flat(state)
    _save(folder / "state.npz", arrays)
    bad = {name: int(np.size(a) - np.isfinite(a).sum()) for name, a in arrays.items()}
    about |= {
        "scalars": {name: repr(float(value)) for name, value in scalars.items()},
        "state_step": int(state.step),
        "numbers_not_finite": {name: count for name, count in bad.items() if count},
        "note": NOTE,
    }
    write_text(folder / f"dump{mark}.json", json.dumps(about, indent=2) + "\n")
    if (workdir / CONFIG_FILE).exists():
        shutil.copyfile(workdir / CONFIG_FILE, folder / CONFIG_FILE)
    return folder


def listed(names: Sequence[str], most: int = 16) -> str:
    """Names of photos for a message, the first ``most``; each once, since a photo may have several crops."""
    known = list(dict.fromkeys(name for name in names if name))
    more = f" and {len(known) - most} more, see dump.json" if len(known) > most else ""
    return ", ".join(known[:most]) + more


def _flat(state: TrainState) -> dict[str, np.ndarray]:
    """Arrays by their path: ``variables/params/conv1_1/kernel``, ``opt_state/0/mu/conv1_1/kernel``."""
    named = {"step": state.step, "variables": state.variables, "opt_state": state.opt_state}
    leaves = jax.tree_util.tree_flatten_with_path(named)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(value) for path, value in leaves}


def _save(path: Path, arrays: Mapping[str, Any]) -> None:
    named: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **named)

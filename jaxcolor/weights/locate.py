"""Where the weights are that an argument names: a file, a checkpoint of a training run, a stage, a whole run.

A run's folder (workdir) has ``weights.safetensors``, the newest weights of all its stages so far, and a folder for each
stage with checkpoints by their step: ``full/2000``. Each has its own ``weights.safetensors``, with all that its stage
had at that step, and a manifest.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from jaxcolor.models.networks import TREES
from jaxcolor.runtime.manifest import FILE, find_damage, read_manifest
from jaxcolor.weights.reference import WeightsError

WEIGHTS_FILE = "weights.safetensors"
BEST, NEWEST = "best", "newest"


def find_weights(path: str | Path) -> Path:
    """The weights file that a path leads to.

    Args:
      path: a file; a checkpoint's folder, ``runs/a/full/2000``; a stage's folder, ``runs/a/full``, which means its best
        checkpoint where ``keep_best`` kept one, otherwise the newest, and ``runs/a/full/best`` or ``/newest`` where one
        of the two is wanted; or a run's folder, ``runs/a``: its newest weights.

    Returns:
      The file; the path itself where it is no folder, which is for the reader to say. Damaged checkpoints of a stage
      are passed over, with a line on standard error.

    Raises:
      WeightsError: a folder of another kind, or a checkpoint that is damaged or incomplete.
    """
    path = Path(path)
    if path.name in (BEST, NEWEST) and not path.exists() and _steps(path.parent):
        return _of_stage(path.parent, path.name)
    if not path.is_dir():
        return path
    if (path / FILE).exists() or (path.name.isdigit() and not (path / WEIGHTS_FILE).exists()):
        return _of_step(path)
    if _steps(path):
        return _of_stage(path)
    if (path / WEIGHTS_FILE).is_file():
        return path / WEIGHTS_FILE
    for stage in reversed(TREES):
        if _steps(path / stage):
            return _of_stage(path / stage, NEWEST)
    raise WeightsError(
        f"{path}: is a folder without weights; give a .safetensors file, the folder of a training run, or of one of "
        "its stages or checkpoints"
    )


def leads_to_run(path: Path) -> bool:
    """Whether a path is one of the folders that ``find_weights`` takes, and not one of ``.pth`` files."""
    if path.name in (BEST, NEWEST) and not path.exists():
        path = path.parent
    inside = any((path / name).is_file() for name in (FILE, WEIGHTS_FILE))
    return path.is_dir() and (inside or any(_steps(place) for place in (path, *(path / stage for stage in TREES))))


def _of_step(folder: Path) -> Path:
    damage = find_damage(folder, [WEIGHTS_FILE])
    if not damage and not (folder / WEIGHTS_FILE).is_file():
        damage = f"{WEIGHTS_FILE} is missing"
    if damage:
        raise WeightsError(f"{folder}: no whole checkpoint: {damage}; take another one")
    return folder / WEIGHTS_FILE


def _of_stage(folder: Path, which: str = "") -> Path:
    """The best checkpoint of a stage, or its newest; by default the best where one was measured."""
    known: dict[Path, dict[str, Any]] = {}
    for step in _steps(folder):
        if content := read_manifest(step):
            known[step] = content
    newest = list(known)[::-1]
    metric = known[newest[0]].get("best_by") if newest else ""
    of_metric = [step for step in newest if metric and known[step].get("best_by") == metric]
    measured = [step for step in of_metric if known[step].get("score") is not None]
    best = sorted(measured, key=lambda step: known[step]["score"], reverse=True)
    if which == BEST and not best:
        raise WeightsError(f"{folder}: no checkpoint was measured for keep_best; give {folder / NEWEST} or a step's")
    order = best if which == BEST else newest if which == NEWEST else [*best, *newest]
    for step in order:
        try:
            found = _of_step(step)
        except WeightsError as error:
            print(f"passed over: {error}", file=sys.stderr)
            continue
        return found
    raise WeightsError(f"{folder}: there is no whole checkpoint among {', '.join(s.name for s in _steps(folder))}")


def _steps(folder: Path) -> list[Path]:
    """The folders of a stage's checkpoints, ascending."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if p.name.isdigit() and p.is_dir()), key=lambda p: int(p.name))

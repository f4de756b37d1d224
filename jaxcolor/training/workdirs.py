"""The folder of a run: whether it can be used, and the small files in it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxcolor.runtime.atomic import remove_leftovers, write_text
from jaxcolor.runtime.errors import UserError
from jaxcolor.training.checkpoints import saved_steps
from jaxcolor.training.logs import SCALARS_FILE, read_scalars

CONFIG_FILE = "config.json"
SUMMARY_FILE = "summary.json"


class WorkdirError(UserError):
    """A ``--workdir`` that cannot be used; one line that says why."""


def check(workdir: Path, resume: str, stages: Sequence[str]) -> None:
    """What can be known without making or changing anything.

    Args:
      workdir: the folder.
      resume: ``Config.resume``.
      stages: those to run. Stages before them, whose results they read, are no reason to refuse.

    Raises:
      WorkdirError: it is a file, cannot be written to, or does not fit ``resume``.
    """
    existing = next(p for p in (workdir, *workdir.absolute().parents) if p.exists() or p.is_symlink())
    if not existing.is_dir():
        what = "it is a file" if existing == workdir else f"{existing} is a file"
        raise WorkdirError(f"--workdir {workdir}: {what}; give a folder, or the name of one to be made")
    if not os.access(existing, os.W_OK | os.X_OK):
        where = "" if existing == workdir else f"{existing}, in which to make it, "
        raise WorkdirError(f"--workdir {workdir}: {where}cannot be written to")
    found = _found(workdir, stages)
    if resume == "never" and found:
        raise WorkdirError(
            f"--workdir {workdir}: a run is there ({', '.join(found)}), and config.resume is 'never'; "
            "name another folder, delete that one, or resume it: --config.resume=auto"
        )
    if resume == "must" and not any("checkpoint" in line for line in found):
        there = f"no checkpoint of stage {', '.join(stages)}" if workdir.is_dir() else "no such folder"
        more = f", only {', '.join(found)}" if found else ""
        raise WorkdirError(
            f"--workdir {workdir}: {there}{more}, and config.resume is 'must'; is it the right folder, and mounted? "
            "--config.resume=auto starts one"
        )


def _found(workdir: Path, stages: Sequence[str]) -> list[str]:
    """What there is of a run of these stages."""
    saved = {name: steps[-1] for name in stages if (steps := saved_steps(workdir / name))}
    found = [f"stage {name}: checkpoint of step {step}" for name, step in saved.items()]
    logged = {record["stage"]: record["step"] for record in read_scalars(workdir) if record["stage"] in stages}
    return found + [f"stage {name}: {SCALARS_FILE} to step {s}" for name, s in logged.items() if name not in saved]


def prepare(workdir: Path) -> None:
    """Make the folder, see that it can be written to, and remove what a killed run left half-written.

    Raises:
      WorkdirError: it cannot be made or written to.
    """
    probe = workdir / ".jaxcolor-probe"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_text(probe, "")  # permissions are not enough: a file system can be full, or mounted read-only
        probe.unlink(missing_ok=True)
        remove_leftovers(workdir)
    except OSError as error:
        raise WorkdirError(f"--workdir {workdir}: cannot be written to ({error.strerror or error})") from error


def write_config(workdir: Path, config: Mapping[str, Any]) -> None:
    """Write ``config.json``."""
    write_text(workdir / CONFIG_FILE, json.dumps(config, indent=2) + "\n")


def add_seconds(workdir: Path, stage: str, seconds: float, *, resumed: bool) -> None:
    """Add a stage's seconds to ``summary.json``; from 0 unless it was resumed. Those of a killed run are lost."""
    path = workdir / SUMMARY_FILE
    known = _seconds(path) if path.exists() else {}
    known[stage] = round((known.get(stage, 0.0) if resumed else 0.0) + seconds, 1)
    write_text(path, json.dumps({"train_seconds": known}, indent=2) + "\n")


def _seconds(path: Path) -> dict[str, float]:
    """Stage -> seconds; none of a damaged file, which costs a line on standard error and not the run."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["train_seconds"]
        return {str(stage): float(seconds) for stage, seconds in known.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        print(f"{path}: is damaged; seconds are counted anew", file=sys.stderr)
        return {}

"""The logs of a run: one JSON line per step (``scalars.jsonl``), contact sheets, and the trackers."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from jaxcolor.config import Config
from jaxcolor.config_io import to_dict
from jaxcolor.runtime.atomic import atomic_write, write_text
from jaxcolor.training.trackers import Tracked, Trackers

SCALARS_FILE = "scalars.jsonl"
SEEN = "seen"
"""Folder of the contact sheets."""


class Logs:
    """Writes the scalars of one stage; lines of an earlier run after ``start_step`` are removed first."""

    def __init__(self, workdir: Path, config: Config, stage: str, start_step: int, *, write: bool = True) -> None:
        """Opens the files and makes the trackers; with ``write`` False, for all processes but one, none of them."""
        self._write = write
        if not write:
            return
        self._path = workdir / SCALARS_FILE
        self._stage = stage
        self._seen = workdir / SEEN
        kept = [r for r in read_scalars(workdir) if r["stage"] != stage or r["step"] <= start_step]
        write_text(self._path, "".join(json.dumps(r) + "\n" for r in kept))
        self._file = self._path.open("a")
        self._trackers = Trackers(config.tracker_names, Tracked(workdir, stage, start_step, to_dict(config)))

    def __enter__(self) -> Logs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._write:
            self._file.close()
            self._trackers.each(lambda tracker: tracker.close())

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """The scalars after ``step`` steps."""
        if not self._write:
            return
        self._append({"stage": self._stage, "step": step, **scalars})
        self._trackers.each(lambda tracker: tracker.scalars(scalars, step))

    def write_metrics(self, step: int, metrics: Mapping[str, float], sheet: Image.Image | None) -> None:
        """Metrics of an evaluation after ``step`` steps, in a line of their own with ``"measured": true``.

        The contact sheet goes to the trackers and to ``seen/<stage>-<step>-photos.png``.
        """
        if not self._write:
            return
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}  # NaN: nothing to measure
        self._append({"stage": self._stage, "step": step, "measured": True, **finite})
        named = {f"eval/{name}": value for name, value in finite.items()}
        self._trackers.each(lambda tracker: tracker.scalars(named, step))
        if sheet is not None:
            pixels = np.asarray(sheet)
            self._trackers.each(lambda tracker: tracker.image("photos", pixels, step))
            self._seen.mkdir(exist_ok=True)
            with atomic_write(self._seen / f"{self._stage}-{step:07d}-photos.png") as part:
                sheet.save(part, format="PNG")

    def _append(self, record: Mapping[str, Any]) -> None:
        with self._named():
            self._file.write(json.dumps(record) + "\n")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of writing name the file, which Python's own do not."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def text(self, name: str, text: str) -> None:
        """A text, to the trackers."""
        if self._write:
            self._trackers.each(lambda tracker: tracker.text(name, text))

    def flush(self) -> None:
        """Make sure that a reader sees everything written so far."""
        if self._write:
            with self._named():
                self._file.flush()
            self._trackers.each(lambda tracker: tracker.flush())


def read_scalars(workdir: Path) -> list[dict[str, Any]]:
    """All lines of a run, in order, those of evaluations too.

    Damaged lines are left out, and counted on standard error, but for the last one, which a kill can cut short.
    """
    path = workdir / SCALARS_FILE
    if not path.exists():
        return []
    found = [_record(line) for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    damaged = sum(record is None for record in found[:-1])
    if damaged:
        print(f"{path}: {damaged} of {len(found)} lines are damaged and left out", file=sys.stderr)
    return [record for record in found if record is not None]


def _record(line: str) -> dict[str, Any] | None:
    """A line of the file; None where it is none."""
    try:
        record = json.loads(line)
        whole = isinstance(record["stage"], str) and isinstance(record["step"], int)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return record if whole else None

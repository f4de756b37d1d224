"""Scalars of a run: a JSON line a step (``scalars.jsonl``) and TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboardX import SummaryWriter

from jaxcolor.files import write_text

SCALARS_FILE = "scalars.jsonl"


class Logs:
    """Writes the scalars of one stage; what an earlier run logged beyond ``start_step`` is cut off first."""

    def __init__(self, workdir: Path, stage: str, start_step: int, *, write: bool = True) -> None:
        """Opens the files; with ``write`` False, for all processes but one, nothing is ever written."""
        self._write = write
        if not write:
            return
        self._path = workdir / SCALARS_FILE
        self._stage = stage
        kept = [r for r in read_scalars(workdir) if r["stage"] != stage or r["step"] <= start_step]
        write_text(self._path, "".join(json.dumps(r) + "\n" for r in kept))
        self._file = self._path.open("a")
        self._board = SummaryWriter(str(workdir / "tensorboard" / stage), purge_step=start_step + 1)

    def __enter__(self) -> Logs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._write:
            self._file.close()
            self._board.close()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """The scalars after ``step`` steps."""
        if not self._write:
            return
        self._file.write(json.dumps({"stage": self._stage, "step": step, **scalars}) + "\n")
        for name, value in scalars.items():
            self._board.add_scalar(f"{self._stage}/{name}", value, step)

    def flush(self) -> None:
        """Make sure that a reader sees everything written so far."""
        if self._write:
            self._file.flush()
            self._board.flush()


def read_scalars(workdir: Path) -> list[dict[str, Any]]:
    """All scalars that a run has logged, in order; a last line cut short by a kill is left out."""
    path = workdir / SCALARS_FILE
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records

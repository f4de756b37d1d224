"""Checkpoints of a stage: one place that knows Orbax.

Arrays are stored as host arrays, so a checkpoint does not know how many devices wrote it. Each checkpoint has three
items: ``variables`` (the tree), ``progress`` (step and optimizer state) and ``settings`` (the part of the config that
decides the numbers).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxcolor.errors import UserError
from jaxcolor.training.step import TrainState

_VARIABLES, _PROGRESS, _SETTINGS = "variables", "progress", "settings"


class CheckpointError(UserError):
    """A checkpoint that is missing or belongs to another run; the message says which and how it differs."""


class Checkpoints:
    """The checkpoints of one stage, by step. Use it as a context manager: leaving waits for saves under way."""

    def __init__(self, folder: Path, keep: int = 1) -> None:
        self.folder = folder
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=True, enable_async_checkpointing=True
        )
        self._manager = ocp.CheckpointManager(
            folder.absolute(), item_names=(_VARIABLES, _PROGRESS, _SETTINGS), options=options
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager.wait_until_finished()
        self._manager.close()

    def latest(self) -> int | None:
        """The last step that was saved whole, or None."""
        return self._manager.latest_step()

    def save(self, state: TrainState, settings: Mapping[str, Any]) -> None:
        """Begin to save a host copy of the state; returns before it is on disk. A step already saved stays."""
        step = int(state.step)
        if step == self.latest():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                variables=ocp.args.StandardSave(state.variables),
                progress=ocp.args.StandardSave({"step": state.step, "opt_state": state.opt_state}),
                settings=ocp.args.JsonSave(dict(settings)),
            ),
        )

    def restore(self, like: TrainState, settings: Mapping[str, Any]) -> TrainState:
        """The last checkpoint as host arrays, in the form of ``like``; only the ``settings`` given are compared.

        Raises:
          CheckpointError: it was made under other settings; every difference is listed.
        """
        step = self.latest()
        if step is None:
            raise CheckpointError(f"{self.folder}: no checkpoint here")
        found = self._manager.restore(step, args=ocp.args.Composite(settings=ocp.args.JsonRestore()))
        differences = compare({k: v for k, v in found[_SETTINGS].items() if k in settings}, settings)
        if differences:
            lines = "\n  ".join(differences)
            raise CheckpointError(
                f"{self.folder}: made under other settings; take those, or another --workdir:\n  {lines}"
            )
        host = jax.tree.map(np.asarray, like)
        items = self._manager.restore(
            step,
            args=ocp.args.Composite(
                variables=ocp.args.StandardRestore(host.variables),
                progress=ocp.args.StandardRestore({"step": host.step, "opt_state": host.opt_state}),
            ),
        )
        return TrainState(
            step=items[_PROGRESS]["step"], variables=items[_VARIABLES], opt_state=items[_PROGRESS]["opt_state"]
        )


def compare(theirs: Mapping[str, Any], ours: Mapping[str, Any], where: str = "") -> list[str]:
    """A line for every setting that differs: ``name: theirs -> ours``."""
    lines: list[str] = []
    for key in sorted({*theirs, *ours}):
        old, new = theirs.get(key), ours.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += compare(old, new, f"{where}{key}.")
        elif old != new:
            lines.append(f"{where}{key}: {old!r} -> {new!r}")
    return lines

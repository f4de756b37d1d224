"""The checkpoints of a stage: the one module that knows Orbax.

Arrays are stored as host arrays, so a checkpoint does not depend on how many devices or processes wrote it. Each has
five items: ``variables`` (the tree), ``progress`` (step and optimizer state), ``settings`` (the part of the config that
decides the numbers), ``record`` (the provenance of the run, and the step) and ``metrics`` (of an evaluation at this
step; empty where there was none). Beside them lie ``weights.safetensors``, which is what other programs read, and a
manifest of all files (``runtime.manifest``).

With several processes each one opens, saves and restores, at the same steps; the first one writes.

A checkpoint is written under a temporary name and renamed at the end, so one that has a step's name is whole. Older
ones are deleted after that. A run that is killed in between leaves a temporary folder, or part of a checkpoint that was
being deleted; the next run removes both. What a disk damages later, ``set_damaged_aside`` finds.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, EveryNSteps, LatestN

from jaxcolor.config import Config
from jaxcolor.config_io import setting_differences, to_dict, with_defaults
from jaxcolor.runtime.atomic import atomic_link, check_space
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.manifest import find_damage, write_manifest
from jaxcolor.training.compatibility import Settings, array_shapes, shape_differences
from jaxcolor.training.provenance import describe_code
from jaxcolor.training.step import TrainState
from jaxcolor.weights.locate import WEIGHTS_FILE

_CHANGING = ("_CHECKPOINT_METADATA", "commit_success.txt")
"""Files that Orbax writes again after a checkpoint is complete, and that no number depends on."""

_VARIABLES, _PROGRESS, _SETTINGS, _RECORD = "variables", "progress", "settings", "record"

Reconcile = Callable[[Settings, int], tuple[Settings, Sequence[str]]]
"""(The settings of a checkpoint, its step) -> (those to compare, reasons why some differences remain)."""

WriteWeights = Callable[[Path], None]
"""Writes the weights of a state to a file."""


class CheckpointError(UserError):
    """A checkpoint that is missing or belongs to another run; the message says which and how it differs."""


class Keep(NamedTuple):
    """Which checkpoints are kept."""

    newest: int = 1
    """How many of the newest, at least one."""
    every: int = 0
    """Also those of steps that this divides; 0: none."""
    best: str = ""
    """Also the one with the highest value of this metric; with a minus in front, the lowest. Empty: none."""

    @property
    def metric(self) -> str:
        """Name of the metric without its sign."""
        return self.best.removeprefix("-")

    def score(self, metrics: Mapping[str, float]) -> float:
        """What the best checkpoint has most of; minus infinity where it was not measured, or is not a number."""
        value = metrics.get(self.metric, math.nan)
        return -math.inf if math.isnan(value) else -value if self.best.startswith("-") else value

    def policy(self) -> AnyPreservationPolicy:
        """The same for Orbax."""
        every = [EveryNSteps(self.every)] if self.every else []
        best = [BestN(get_metric_fn=self.score, n=1, keep_checkpoints_without_metrics=False)] if self.best else []
        return AnyPreservationPolicy([LatestN(self.newest), *every, *best])


class Checkpoints:
    """The checkpoints of one stage, by step. A context manager: leaving it waits for pending saves."""

    def __init__(self, folder: Path, keep: Keep = Keep(), origin: Settings | None = None) -> None:  # noqa: B008
        """Opens the folder, which is made if need be.

        Args:
          folder: of the checkpoints.
          keep: which of them are kept when another is saved.
          origin: what to record in each (``provenance``); ``restore`` compares its ``data`` with the checkpoint's.
        """
        self.folder = folder
        self._keep = keep
        self._origin = dict(origin or {})
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep.policy(),
            best_fn=keep.score,  # without one Orbax stores no metrics
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._complete),
        )
        self._completing: tuple[int, WriteWeights | None, dict[str, Any]] | None = None
        handlers = {name: ocp.StandardCheckpointHandler() for name in (_VARIABLES, _PROGRESS)}
        handlers |= {name: ocp.JsonCheckpointHandler() for name in (_SETTINGS, _RECORD)}
        self._manager = ocp.CheckpointManager(folder.absolute(), item_handlers=handlers, options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._manager.wait_until_finished()
        except Exception:
            if error is None:  # otherwise the first error says more
                raise
        finally:
            self._manager.close()

    def steps(self) -> list[int]:
        """The steps that were saved and kept, ascending."""
        return sorted(self._manager.all_steps())

    def latest(self) -> int | None:
        """The last step that was saved whole, or None."""
        return self._manager.latest_step()

    def metrics(self, step: int) -> dict[str, float]:
        """Metrics saved with the checkpoint of a step; empty if it was not measured."""
        return dict(self._manager.metrics(step) or {})

    def save(
        self,
        state: TrainState,
        settings: Settings,
        metrics: Mapping[str, float] | None = None,
        write_weights: WriteWeights | None = None,
    ) -> None:
        """Start to save a host copy of the state; returns before it is on disk. A step already saved is left alone.

        Args:
          state: host arrays.
          settings: what decides the numbers.
          metrics: of an evaluation at this step, if there was one: what ``keep.best`` compares.
          write_weights: writes the checkpoint's ``weights.safetensors``, from another thread; the folder above the
            stage's, the run's, gets the same file. None: neither is written.

        Raises:
          CheckpointError: ``keep.best`` names none of the metrics.
        """
        step = int(state.step)
        if step == self.latest():
            return
        if metrics is not None and self._keep.best and self._keep.metric not in metrics:
            known = ", ".join(sorted(metrics)) or "nothing"
            raise CheckpointError(f"config.keep_best: there is no metric {self._keep.metric!r}; measured: {known}")
        self._manager.wait_until_finished()  # as Orbax itself would
        self._check_space(state, write_weights is not None)
        score = self._keep.score(metrics or {})
        about = {"step": step, "best_by": self._keep.best, "score": score if score > -math.inf else None}
        self._completing = (step, write_weights, about)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                variables=ocp.args.StandardSave(state.variables),
                progress=ocp.args.StandardSave({"step": state.step, "opt_state": state.opt_state}),
                settings=ocp.args.JsonSave(dict(settings)),
                record=ocp.args.JsonSave({**self._origin, "step": step}),
            ),
            # Never None, which Orbax warns about; a checkpoint without the metric ranks below all that have it.
            metrics={name: float(value) for name, value in (metrics or {}).items()},
        )

    def _check_space(self, state: TrainState, with_weights: bool) -> None:
        """Orbax would find a full disk too, in a thousand lines."""
        if jax.process_index():
            return
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        if with_weights:
            weights = self.folder.parent / WEIGHTS_FILE
            needed += weights.stat().st_size if weights.exists() else needed
        try:
            check_space(self.folder, needed)
        except UserError as error:
            saved = self.latest()
            where = f"step {saved}" if saved else "the start of the stage"
            raise CheckpointError(f"{error}; make room, and the same command goes on from {where}") from error

    def _complete(self) -> None:
        """Write weights and manifest of the checkpoint that is being saved; in Orbax's thread, before it is renamed."""
        if self._completing is None or jax.process_index():
            return
        step, write_weights, about = self._completing
        unnamed = sorted(self.folder.glob(f"{step}.*tmp*"), key=lambda path: path.stat().st_mtime_ns)
        place = unnamed[-1] if unnamed else self.folder / str(step)
        if write_weights is not None:
            write_weights(place / WEIGHTS_FILE)
            atomic_link(place / WEIGHTS_FILE, self.folder.parent / WEIGHTS_FILE)
        write_manifest(place, about, leave_out=_CHANGING)

    def settings(self) -> Settings | None:
        """The settings of the last checkpoint, or None."""
        step = self.latest()
        return None if step is None else self._json(step, _SETTINGS)

    def record(self) -> Settings | None:
        """The record of the last checkpoint, or None."""
        step = self.latest()
        return None if step is None else self._json(step, _RECORD)

    def restore(
        self,
        like: TrainState,
        settings: Settings,
        *,
        other_data: bool = False,
        reconcile: Reconcile = lambda theirs, step: (theirs, ()),
    ) -> TrainState:
        """The last checkpoint as host arrays, in the structure of ``like``; only the ``settings`` given are compared.

        That it was made by other code is printed in one line and is no error.

        Args:
          like: a state of the same structure, types and shapes; its numbers are not read.
          settings: what decides the numbers.
          other_data: accept other photos and other settings ``data``; differences are printed.
          reconcile: removes differences that change no number.

        Raises:
          CheckpointError: it was made under other settings, with other photos, or holds other arrays; every difference
            is listed.
        """
        step = self.latest()
        if step is None:
            raise CheckpointError(f"{self.folder}: no checkpoint here")
        record = self._json(step, _RECORD)
        stored = {k: v for k, v in self._json(step, _SETTINGS).items() if k in settings}
        theirs, reasons = reconcile(with_defaults(stored, settings, to_dict(Config())), step)
        about_settings = setting_differences(_without_data(theirs), _without_data(settings))
        about_data = setting_differences(theirs.get("data", {}), settings.get("data", {}), "data.")
        if "data" in record and "data" in self._origin:
            about_data += setting_differences({"photos": record["data"]}, {"photos": self._origin["data"]})
        host = jax.tree.map(np.asarray, like)
        about_arrays = shape_differences(self._shapes(step), array_shapes(host.variables, host.opt_state))
        refused = about_settings + ([] if other_data else about_data)
        if refused or about_arrays:
            what = (
                "made under other settings; use those" if refused else "holds other arrays; use the code that made it"
            )
            notes = [*reasons, *(["config.other_data 'accept' continues with other data"] if about_data else [])]
            lines = "\n  ".join([*refused, *about_arrays, *(f"({note})" for note in notes)])
            raise CheckpointError(f"{self.folder}: {what}, or another --workdir:\n  {lines}")
        self._report(step, record, about_data)
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

    def _report(self, step: int, record: Settings, about_data: list[str]) -> None:
        """Print what differs and is accepted."""
        if jax.process_index():
            return
        for line in about_data:
            print(f"{self.folder}: step {step}: other data accepted: {line}", flush=True)
        made, now = describe_code(record), describe_code(self._origin)
        if "code" in record and "code" in self._origin and made != now:
            print(f"{self.folder}: step {step} was made by {made}; this is {now}", flush=True)

    def _shapes(self, step: int) -> dict[tuple[str, str, str], str]:
        found = self._manager.item_metadata(step)
        return array_shapes(found[_VARIABLES].tree, found[_PROGRESS].tree["opt_state"])

    def _json(self, step: int, item: str) -> dict[str, Any]:
        try:
            found = self._manager.restore(step, args=ocp.args.Composite(**{item: ocp.args.JsonRestore()}))
            return dict(found[item])
        except (KeyError, OSError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self.folder / str(step)}: its {item} is missing or damaged") from error


def saved_steps(folder: Path) -> list[int]:
    """The steps whose checkpoints are in a folder, ascending; reads names only, so another run may be writing there."""
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit() and entry.is_dir())


def set_damaged_aside(folder: Path) -> list[str]:
    """See to it that the last checkpoint of a stage is whole: others are renamed to ``damaged-<step>``.

    Every file of the last one is read. Older ones, whose numbers are not needed, are judged by sizes; those of which
    files are missing go, since a killed run was deleting them.

    Args:
      folder: of the stage; need not exist.

    Returns:
      A line for each checkpoint that is damaged.

    Raises:
      CheckpointError: none of the checkpoints is whole.
    """
    steps = [folder / str(step) for step in reversed(saved_steps(folder))]
    damaged: list[tuple[Path, str]] = []
    while steps and (damage := find_damage(steps[0])):
        damaged.append((steps.pop(0), damage))
    if damaged and not steps:
        place, damage = damaged[0]
        raise CheckpointError(
            f"{folder}: no checkpoint is whole; step {place.name}: {damage}; bring it back from a copy, or delete "
            f"{folder} to train the stage anew"
        )
    for place in steps[1:]:
        if damage := find_damage(place, digests=False):
            if damage.endswith("missing"):
                shutil.rmtree(place, ignore_errors=True)
            else:
                damaged.append((place, damage))
    for place, _ in damaged:
        aside = folder / f"damaged-{place.name}"
        shutil.rmtree(aside, ignore_errors=True)
        place.rename(aside)
    after = f"; training goes on from step {steps[0].name}" if steps else ""
    return [f"{place} is damaged: {damage}; it is now damaged-{place.name}{after}" for place, damage in damaged]


def _without_data(settings: Settings) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "data"}

"""Where scalars, pictures and texts of a training run go besides ``scalars.jsonl``: TensorBoard, or a tracker of yours.

``config.trackers`` names them. One of your own is the dotted path of a callable (``Tracked``) -> ``Tracker``; for
Weights & Biases or MLflow it is a class of twenty lines (docs/training.md), and nothing here depends on them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from jaxtyping import UInt8
from numpy import ndarray

from jaxcolor.registries import TRACKERS
from jaxcolor.runtime.errors import one_line


class Tracked(NamedTuple):
    """One stage of a run, as a tracker is told of it."""

    workdir: Path
    """Of the run: the same when it is resumed."""
    stage: str
    start_step: int
    """Steps done before; what a tracker has of later ones is from a run that was cut off, and comes again."""
    config: Mapping[str, Any]
    """The whole config, JSON types."""


class Tracker(Protocol):
    """What takes the results of one stage; of several processes the first one alone makes and calls it."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers after ``step`` steps, by name: ``loss``, ``photos_per_second``, …, ``eval/psnr``."""

    def image(self, name: str, pixels: UInt8[ndarray, "H W 3"], step: int) -> None:
        """A picture after ``step`` steps."""

    def text(self, name: str, text: str) -> None:
        """A text in Markdown."""

    def flush(self) -> None:
        """Called after every ``log_every`` steps."""

    def close(self) -> None:
        """Called at the end of the stage, also when it ends by an error."""


class TensorBoard:
    """Event files in ``<workdir>/tensorboard/<stage>``: each stage is a run, and all share one chart a scalar."""

    def __init__(self, run: Tracked) -> None:
        """Opens a file; what is there of steps after ``start_step`` is no longer shown."""
        from tensorboardX import SummaryWriter  # which imports PyTorch, where that is installed: two seconds

        self._board = SummaryWriter(str(run.workdir / "tensorboard" / run.stage), purge_step=run.start_step + 1)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See ``Tracker``, as all of these."""
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def image(self, name: str, pixels: UInt8[ndarray, "H W 3"], step: int) -> None:
        """A picture."""
        self._board.add_image(name, pixels, step, dataformats="HWC")

    def text(self, name: str, text: str) -> None:
        """A text."""
        self._board.add_text(name, text)

    def flush(self) -> None:
        """Writes what is pending."""
        self._board.flush()

    def close(self) -> None:
        """Closes the file."""
        self._board.close()


class Trackers:
    """All trackers of a stage. One of them that fails costs a line, and not the training: it is left out from then."""

    def __init__(self, names: Sequence[str], run: Tracked) -> None:
        """Makes them.

        Args:
          names: ``Config.tracker_names``.
          run: what they are told.

        Raises:
          UserError: there is no such tracker.
        """
        self._trackers: dict[str, Tracker] = {}
        for name in names:
            make = TRACKERS.get(name)
            with self._guarded(name):
                self._trackers[name] = make(run)

    def each(self, call: Callable[[Tracker], None]) -> None:
        """Calls something of each of them."""
        for name, tracker in list(self._trackers.items()):
            with self._guarded(name):
                call(tracker)

    @contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # networks, accounts, whatever else is foreign
            if name in TRACKERS.builtin:
                raise
            self._trackers.pop(name, None)
            print(
                f"tracker {name}: left out from now on, it failed: {type(error).__name__}: {one_line(error)}",
                file=sys.stderr,
                flush=True,
            )

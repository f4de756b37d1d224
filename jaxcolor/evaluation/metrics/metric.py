"""What a metric is: one record with its function and how tables show it. Built-in ones are named in ``registry``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

Direction = Literal["higher", "lower", "neither"]
"""Which values are better."""
Region = Literal["photo", "objects", "background"]
"""The pixels that count: all, those in the union of the boxes in the batch, or those outside it."""


class Column(NamedTuple):
    """How a metric is shown where people read, and averaged."""

    title: str
    digits: int = 4
    """After the point."""
    direction: Direction = "neither"
    group: str = "More metrics"
    """Title of the table that it stands in."""
    cap: float | None = None
    """In means a photo counts this much at most."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number for each predicted picture; found by name, or by a dotted path such as ``my_code.sharp:METRIC``.

    ``config.eval.metrics`` names what is measured; a metric outside the package needs nothing but this record.

    Attributes:
      name: key in ``metrics.json`` and column of ``per_photo.csv``; lower case, digits and underscores.
      function: pure and batched, for ``jax.jit``: ``function(prediction, truth, *, size)`` -> float (B,), NaN where
        it is not defined. Pictures are sRGB uint8 (B, H, W, 3), each in the upper left corner of its canvas; ``size``
        int (B, 2) is the height and width of each, or None where all fill their canvas. With ``load`` the parameters
        come first; a ``region`` other than ``photo`` comes as the keyword ``mask``, bool (B, H, W). None: measured
        elsewhere (FID, of all photos together).
      title: heading of its column.
      digits: after the point.
      direction: which values are better.
      group: title of its table.
      region: pixels that count.
      always: measured whatever the config names.
      of_objects: measured of each object by itself too; objects are resized to the model's canvas. ``function`` is
        then mapped over systems by ``jax.vmap``, against one truth.
      of_truth: measured of the true photo too; then the differences ``delta_<name>`` (mean over photos) and
        ``delta_of_mean_<name>`` are tabulated.
      load: makes the parameters, a pytree of arrays, from the file that ``needs`` names (None without one); raises a
        ``UserError`` or ``OSError``.
      needs: field of ``EvalConfig`` with the file of its weights: measured whenever that is set.
      needs_text: what that file is, for messages, and how to get it.
      available: whether it can be measured without that file.
      least_side: smallest side of a canvas on which it is defined.
      cap: in means a photo counts this much at most, where a metric may be infinite.
    """

    name: str
    function: Callable[..., Any] | None
    title: str
    digits: int = 4
    direction: Direction = "neither"
    group: str = "More metrics"
    region: Region = "photo"
    always: bool = False
    of_objects: bool = False
    of_truth: bool = False
    load: Callable[[Path | None], Any] | None = None
    needs: str = ""
    needs_text: str = ""
    available: Callable[[], bool] = lambda: False
    least_side: Callable[[], int] = lambda: 1
    cap: float | None = None

    def __post_init__(self) -> None:
        """Checks the name and the direction.

        Raises:
          ValueError: a name that is no lower-case word, or another direction.
        """
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"a metric's name is of lower-case letters, digits and underscores, not {self.name!r}")
        if self.direction not in ("higher", "lower", "neither"):
            raise ValueError(f"metric {self.name}: direction is higher, lower or neither, not {self.direction!r}")

    @property
    def columns(self) -> dict[str, Column]:
        """Key -> column of all that it gives: its own, and its differences to the ground truth."""
        own = {self.name: Column(self.title, self.digits, self.direction, self.group, self.cap)}
        if not self.of_truth:
            return own
        head, *rest = self.title.split(" ", 1)
        title = " ".join([f"Δ{head}", *rest])
        return own | {
            f"delta_{self.name}": Column(f"{title} of photos", self.digits, "lower", self.group),
            f"delta_of_mean_{self.name}": Column(f"{title} of means", self.digits, "lower", self.group),
        }

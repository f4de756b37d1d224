"""Tables as data: rows of cells under headings."""

from __future__ import annotations

from typing import NamedTuple

from jaxcolor.evaluation.metrics.metric import Column
from jaxcolor.runtime.text import number


class Cell(NamedTuple):
    """A number and how sure it is."""

    value: float | None
    interval: tuple[float, float] | None
    """95% bootstrap interval over photos."""
    digits: int
    signed: bool

    @property
    def text(self) -> str:
        """The number, or a dash where there is none."""
        return number(self.value, self.digits, self.signed)

    @property
    def margin(self) -> str:
        """The interval in words, empty where there is none."""
        if self.interval is None:
            return ""
        low, high = (number(v, self.digits, self.signed) for v in self.interval)
        return f"{low} … {high}"


class Row(NamedTuple):
    """A line of a table."""

    name: str
    title: str
    cells: tuple[Cell, ...]


class Table(NamedTuple):
    """Rows under headings."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    gains: tuple[Row, ...] = ()
    """Paired differences."""
    published: tuple[Row, ...] = ()

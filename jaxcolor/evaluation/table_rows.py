"""Rows of tables from what was measured (``Results.to_metrics``, or a ``metrics.json`` read back)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxcolor.evaluation import published
from jaxcolor.evaluation.metrics.metric import Column
from jaxcolor.evaluation.metrics.registry import builtin_columns
from jaxcolor.evaluation.predictors import CONTROLS, OWN_SYSTEMS
from jaxcolor.runtime.text import MINUS, number

TITLES = {
    "gray": "gray",
    "full": "full",
    "full_vivid": "full, vivid",
    "fused": "fused",
    "fused_vivid": "fused, vivid",
    "no_boxes": "fused, no boxes",
    "other_crops": "fused, other crops",
    "instance": "instance network alone",
    "better_of_both": "better of full and instance",
    "truth": "truth",
}
"""How systems, controls and pictures are called where people read."""

PUBLISHED_LPIPS = "lpips"
"""Column of published LPIPS, whose network the paper does not name: it stands under no network's heading."""


def title(system: str) -> str:
    """How a system is called where people read."""
    return TITLES.get(system, system)


def heading(metric: str) -> str:
    """How a built-in metric is called where people read."""
    return column_of({}, metric).title


def digits(metric: str) -> int:
    """How many digits after the point say enough, of a built-in metric."""
    return column_of({}, metric).digits


def column_of(metrics: Mapping[str, Any], metric: str) -> Column:
    """How a metric is shown: as ``metrics`` says (``columns`` of ``metrics.json``), else as the built-in one."""
    if metric == PUBLISHED_LPIPS:
        return Column("LPIPS (paper, network not said)", 3, "lower")
    described = metrics.get("columns", {}).get(metric)
    return Column(**described) if described is not None else builtin_columns().get(metric, Column(metric))


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


def interval_pair(interval: Sequence[float] | None) -> tuple[float, float] | None:
    """An interval read from JSON."""
    return None if interval is None else (interval[0], interval[1])


def columns(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Metric -> heading, of everything that was measured of photos, in the order of reading."""
    measured = set().union(*(summary for _, summary in summaries(metrics)))
    known = dict.fromkeys([*builtin_columns(), *metrics.get("columns", {})])
    return {name: column_of(metrics, name).title for name in known if name in measured}


def summaries(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Systems with what was measured of them, in the order of reading, controls last."""
    return [
        *((name, metrics[name]) for name in OWN_SYSTEMS if name in metrics),
        *metrics.get("others", {}).items(),
        *((name, metrics["controls"][name]) for name in CONTROLS if name in metrics.get("controls", {})),
    ]


def summary_row(metrics: Mapping[str, Any], name: str, summary: Mapping[str, Any], shown: Sequence[str]) -> Row:
    """A system's means of the metrics ``shown``."""
    intervals = summary.get("interval_95", {})
    cells = (Cell(summary.get(m), interval_pair(intervals.get(m)), column_of(metrics, m).digits, False) for m in shown)
    return Row(name, title(name), tuple(cells))


def pair_title(name: str) -> str:
    """How a difference ``<better>_minus_<worse>`` is called where people read."""
    better, _, worse = name.partition("_minus_")
    return f"{title(better)} {MINUS} {title(worse).removeprefix('fused, ')}"


def gain_row(metrics: Mapping[str, Any], name: str, found: Mapping[str, Any], shown: Sequence[str]) -> Row:
    """A paired difference in the metrics ``shown``."""
    none = {"mean": None, "interval_95": None}
    cells = (found.get(m, none) for m in shown)
    return Row(
        name,
        pair_title(name),
        tuple(
            Cell(cell["mean"], interval_pair(cell["interval_95"]), column_of(metrics, m).digits, True)
            for m, cell in zip(shown, cells, strict=True)
        ),
    )


def with_published_lpips(shown: Sequence[str], rows: Sequence[published.Published]) -> tuple[str, ...]:
    """The columns of a table with room for published LPIPS, if there are published rows."""
    return (*shown, PUBLISHED_LPIPS) if rows else tuple(shown)


def published_rows(rows: Sequence[published.Published], shown: Sequence[str]) -> tuple[Row, ...]:
    """Rows of the paper, with three digits as printed."""
    return tuple(
        Row(
            "published",
            f"{row.title} (published)",
            tuple(Cell(getattr(row, m, None), None, 3, False) for m in shown),
        )
        for row in rows
    )


def table_columns(metrics: Mapping[str, Any], shown: Sequence[str]) -> tuple[Column, ...]:
    """The headings of these metrics."""
    return tuple(column_of(metrics, name) for name in shown)


def statistics_table(
    metrics: Mapping[str, Any], name: str, summaries: Sequence[tuple[str, Mapping[str, Any]]]
) -> list[Table]:
    """What a mean hides: photos without color, for which gray is right, and single values far from all others."""
    found = [(system, summary) for system, summary in summaries if "without_colorless" in summary]
    if not found or not any("psnr" in summary for _, summary in found):
        return []
    shown = column_of(metrics, "psnr")
    headings = [shown._replace(title=text) for text in ("mean", "without colorless", "median")]
    rows = []
    for system, summary in found:
        interval = interval_pair(summary["interval_95"].get("psnr"))
        values = (summary.get("psnr"), summary["without_colorless"].get("psnr"), summary["median"].get("psnr"))
        cells = [Cell(v, interval if i == 0 else None, shown.digits, False) for i, v in enumerate(values)]
        capped = float(summary["psnr_capped"].get("psnr", 0))
        rows.append(Row(system, title(system), (*cells, Cell(capped, None, 0, False))))
    return [Table(name, (*headings, Column("capped", 0)), tuple(rows))]

"""Metrics (``Results.to_metrics``, or a ``metrics.json`` read back) as rows, and rows as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxcolor.evaluation.results import CONTROLS, DIFFERENCES, SYSTEMS

TITLES = {
    "gray": "gray",
    "full": "full",
    "fused": "fused",
    "no_boxes": "fused, no boxes",
    "other_crops": "fused, other crops",
    "truth": "truth",
}
"""How systems, controls and pictures are called where people read."""

MINUS, EN_DASH = "\N{MINUS SIGN}", "\N{EN DASH}"

COLUMNS = {
    "psnr": "PSNR",
    "psnr_objects": "PSNR objects",
    "psnr_background": "PSNR background",
    "ssim": "SSIM",
    "ssim_objects": "SSIM objects",
    "ssim_background": "SSIM background",
}
"""Metric -> heading, in the order of reading; PSNR in dB."""


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
        if self.value is None:
            return EN_DASH
        # A true minus sign, for the eye; and no "-0.00".
        return _number(self.value, self.digits, self.signed)

    @property
    def margin(self) -> str:
        """The interval in words, empty where there is none."""
        if self.interval is None:
            return ""
        low, high = (_number(v, self.digits, self.signed) for v in self.interval)
        return f"{low} … {high}"


class Row(NamedTuple):
    """A line of a table."""

    name: str
    title: str
    cells: tuple[Cell, ...]


def _number(value: float, digits: int, signed: bool) -> str:
    rounded = round(value, digits) + 0.0
    return f"{rounded:{'+' if signed else ''}.{digits}f}".replace("-", MINUS)


def _digits(metric: str) -> int:
    return 2 if metric.startswith("psnr") else 4


def _pair(interval: Sequence[float] | None) -> tuple[float, float] | None:
    return None if interval is None else (interval[0], interval[1])


def _row(name: str, summary: Mapping[str, Any]) -> Row:
    intervals = summary.get("interval_95", {})
    cells = tuple(Cell(summary.get(m), _pair(intervals.get(m)), _digits(m), False) for m in COLUMNS)
    return Row(name, TITLES[name], cells)


def system_rows(metrics: Mapping[str, Any]) -> list[Row]:
    """The systems that were measured, one row each, cells in the order of ``COLUMNS``."""
    return [_row(name, metrics[name]) for name in SYSTEMS if name in metrics]


def control_rows(metrics: Mapping[str, Any]) -> list[Row]:
    """The controls that were measured, as ``system_rows``."""
    controls = metrics.get("controls", {})
    return [_row(name, controls[name]) for name in CONTROLS if name in controls]


def difference_rows(metrics: Mapping[str, Any]) -> list[Row]:
    """Gains photo by photo: full over gray, fused over full and over each control."""
    rows = []
    for better, worse in DIFFERENCES:
        name = f"{better}_minus_{worse}"
        found = metrics.get("differences", {}).get(name)
        if found is not None:
            cells = tuple(Cell(found[m]["mean"], _pair(found[m]["interval_95"]), _digits(m), True) for m in COLUMNS)
            rows.append(Row(name, f"{TITLES[better]} {MINUS} {TITLES[worse].removeprefix('fused, ')}", cells))
    return rows


def footnotes(metrics: Mapping[str, Any]) -> list[str]:
    """What a reader of the table must know: how many photos, what was left out, what was capped."""
    protocol = metrics.get("protocol", {})
    notes = [
        f"{metrics['photos']} photos at {protocol.get('canvas')}x{protocol.get('canvas')} pixels, "
        f"{metrics['photos_with_boxes']} with boxes; PSNR in dB; objects are the union of a photo's boxes."
    ]
    if protocol.get("systems_left_out"):
        notes.append(f"Not measured: {protocol['systems_left_out']}.")
    if metrics.get("dropped_crops"):
        notes.append(f"{metrics['dropped_crops']} crops did not fit budget_per_image and were dropped.")
    if metrics.get("skipped_photos"):
        notes.append(f"{metrics['skipped_photos']} photos could not be read and were left out.")
    capped = sum(sum(metrics[s].get("psnr_capped", {}).values()) for s in SYSTEMS if s in metrics)
    if capped:
        notes.append(f"PSNR above {protocol.get('psnr_cap_db'):g} dB counts as that much in means ({capped} times).")
    lone = metrics["photos"] - metrics.get("controls", {}).get("other_crops", {}).get("photos", {}).get(
        "psnr", metrics["photos"]
    )
    if lone:
        notes.append(f"{lone} photos had no other photo's crops in their batch and miss in that control.")
    return notes


def markdown(metrics: Mapping[str, Any]) -> str:
    """Systems, controls and gains as one Markdown table, aligned for the terminal, with footnotes."""
    rows = [*system_rows(metrics), *control_rows(metrics), *difference_rows(metrics)]
    lines = [["", *COLUMNS.values()], *([row.title, *(cell.text for cell in row.cells)] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]

    def join(cells: Sequence[str]) -> str:
        first, *rest = cells
        aligned = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=True))]
        return f"| {' | '.join(aligned)} |"

    rule = f"|{'-' * (widths[0] + 2)}|{'|'.join('-' * (w + 1) + ':' for w in widths[1:])}|"
    table = [join(lines[0]), rule, *(join(line) for line in lines[1:])]
    return "\n".join([*table, "", *footnotes(metrics)])

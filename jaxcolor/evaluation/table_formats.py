"""Tables of an evaluation as text: Markdown, aligned for the terminal, and LaTeX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxcolor.evaluation.metrics.metric import Direction
from jaxcolor.evaluation.tables import Cell, footnotes, summary, tables
from jaxcolor.runtime.text import EN_DASH, MINUS, markdown_table


def markdown(metrics: Mapping[str, Any], intervals: bool = False) -> str:
    """The summary, then systems, controls, published rows and gains in Markdown tables, aligned, with footnotes.

    Args:
      metrics: what to show.
      intervals: with the 95% interval behind every number; without, only gains have theirs.
    """

    def text(cell: Cell, with_interval: bool) -> str:
        return f"{cell.text} ({cell.margin})" if with_interval and cell.margin else cell.text

    blocks = []
    for table in tables(metrics):
        lines = [[table.title, *(column.title for column in table.columns)]]
        for row in (*table.rows, *table.published):
            lines.append([row.title, *(text(cell, intervals) for cell in row.cells)])
        lines += [[row.title, *(text(cell, intervals) for cell in row.cells)] for row in table.gains]
        blocks.append("\n".join(markdown_table(lines)))
    return "\n\n".join(filter(None, ["\n".join(summary(metrics)), *blocks, "\n".join(footnotes(metrics))]))


_TEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "Δ": r"$\Delta$"}


def _tex(text: str) -> str:
    for plain, tex in _TEX.items():
        text = text.replace(plain, tex)
    return text.replace(MINUS, "$-$").replace(EN_DASH, "--").replace("…", r"\,..\,")


_ARROWS: dict[Direction, str] = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", "neither": ""}


def latex(metrics: Mapping[str, Any]) -> str:
    """The tables in LaTeX (package ``booktabs``): means, their 95% intervals small behind them, gains, footnotes."""
    parts = []
    for table in tables(metrics):
        headings = " & ".join(_tex(column.title) + _ARROWS[column.direction] for column in table.columns)
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            r"\toprule",
            rf" & {headings} \\",
        ]
        for rows in (table.rows, table.published, table.gains):
            if rows:
                lines.append(r"\midrule")
            for row in rows:
                cells = (_tex(c.text) + (rf" {{\scriptsize[{_tex(c.margin)}]}}" if c.margin else "") for c in row.cells)
                lines.append(rf"{_tex(row.title)} & {' & '.join(cells)} \\")
        notes = _tex(" ".join([*summary(metrics), *footnotes(metrics)]))
        lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{_tex(table.title)}. {notes}}}", r"\end{table}"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"

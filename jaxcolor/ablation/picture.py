"""The differences of a comparison as a picture: a panel for each metric, a line for each variant."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxcolor.ablation.comparison import Comparison
from jaxcolor.evaluation.tables import heading
from jaxcolor.runtime.atomic import atomic_write

_COLUMNS = 3


def draw(comparison: Comparison, path: Path) -> None:
    """Write a PNG; without any variant but the baseline, nothing."""
    rows = [row for row in comparison.rows if row.differences][::-1]
    if not rows or not comparison.shown:
        return
    columns = min(_COLUMNS, len(comparison.shown))
    lines = -(-len(comparison.shown) // columns)
    figure = Figure(figsize=(1.4 + 2.8 * columns, lines * (0.9 + 0.32 * len(rows)) + 0.4), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for index, panel in enumerate(axes.flat):
        if index >= len(comparison.shown):
            panel.set_visible(False)
            continue
        metric = comparison.shown[index]
        panel.axvline(0, color="0.6", linewidth=1)
        for y, row in enumerate(rows):
            found = row.differences[metric]
            if found.value is None:
                continue
            panel.plot(found.value, y, "o", color="C0", markersize=4)
            if found.interval is not None:
                panel.plot(found.interval, (y, y), color="C0", linewidth=1.5)
        panel.set_title(heading(metric), fontsize=9)
        panel.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=8)
        panel.set_ylim(-0.5, len(rows) - 0.5)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.tick_params(axis="x", labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(f"difference to {comparison.baseline}, 95% interval", fontsize=8)
    FigureCanvasAgg(figure)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")

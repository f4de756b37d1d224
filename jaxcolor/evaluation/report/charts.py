"""Charts of the report as inline SVG, in the page's own colors and font."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Colors that stand for the page's own, put in after drawing: an inline SVG then follows light and dark.
_PAGE_COLORS = {"#010203": "currentColor", "#040506": "var(--line)", "#070809": "var(--accent)"}
_INK, _LINE, _ACCENT = _PAGE_COLORS


def curve_svg(points: Sequence[tuple[int, float]], prefix: str) -> Markup:
    """A training curve as inline SVG: the losses, and over them their moving mean where there are many.

    Args:
      points: (step, loss); those that are not finite are left out of the drawing.
      prefix: with which the ids in it begin, so that several fit in one page.
    """
    steps, losses = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    finite = np.isfinite(losses)
    steps, losses = steps[finite], losses[finite]

    def draw(axes: Axes) -> None:
        window = len(losses) // 20
        if window >= 3:
            mean = np.convolve(losses, np.full(window, 1 / window), "valid")
            axes.plot(steps, losses, color=_ACCENT, alpha=0.3, linewidth=0.8)
            axes.plot(steps[window - 1 :], mean, color=_ACCENT, linewidth=1.6)
        else:
            axes.plot(steps, losses, color=_ACCENT, linewidth=1.6, marker="o", markersize=2.5)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.set_ylim(bottom=0)
        if window >= 3:
            # A few outliers, usually the first steps, must not flatten all that follows.
            axes.set_ylim(0, 1.08 * max(float(np.percentile(losses, 98)), 1e-6))

    return _svg(draw, prefix)


def hint_svg(curve: Mapping[str, Mapping[str, Mapping[str, Any]]], prefix: str) -> Markup:
    """PSNR against the number of points, a line for each system; ``hint_curve`` of ``metrics.json``.

    Numbers of points are at even distances below 1 and on a logarithmic axis above.
    """

    def draw(axes: Axes) -> None:
        counts: list[int] = []
        for (system, of), line in zip(curve.items(), ("--", "-"), strict=False):
            shown = {int(count): means["psnr"] for count, means in of.items() if means["psnr"] is not None}
            color = _ACCENT if line == "-" or len(curve) == 1 else _INK
            axes.plot(list(shown), list(shown.values()), line, color=color, marker="o", markersize=2.5, label=system)
            counts = sorted({*counts, *shown})
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.set_xlabel("points")
        axes.set_ylabel("PSNR, dB")
        axes.legend(frameon=False)

    return _svg(draw, prefix)


def reliability_svg(calibration: Mapping[str, Any], prefix: str) -> Markup:
    """How often what was given a probability happened, beside the diagonal where both are the same."""

    def draw(axes: Axes) -> None:
        there = [i for i, count in enumerate(calibration["counts"]) if count]
        given, happened = ([calibration[name][i] for i in there] for name in ("probability", "frequency"))
        axes.plot([0, 1], [0, 1], "--", color=_INK, linewidth=0.8)
        axes.plot(given, happened, color=_ACCENT, linewidth=1.6, marker="o", markersize=2.5)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("probability")
        axes.set_ylabel("happened")

    return _svg(draw, prefix)


def _svg(draw: Callable[[Axes], None], prefix: str) -> Markup:
    style: Any = {
        "svg.fonttype": "none",  # text stays text, in the page's font
        "svg.hashsalt": "jaxcolor",
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "axes.edgecolor": _LINE,
        "grid.color": _LINE,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.2, 2.6), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.grid(axis="y", linewidth=0.6)
        axes.set_axisbelow(True)
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return Markup(_inline(buffer.getvalue(), prefix))


def _inline(svg: str, prefix: str) -> str:
    """An SVG file as an element of a page: no prologue, no metadata, ids of its own, the page's colors."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font(-family)?: [^;\"]*?(?=[;\"])", _page_font, svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    for drawn, page in _PAGE_COLORS.items():
        svg = svg.replace(drawn, page)
    return svg


def _page_font(found: re.Match[str]) -> str:
    """Matplotlib's font declaration with the page's family; the size stays."""
    size = re.search(r"[\d.]+px", found.group(0))
    return f"font: {size.group(0)} var(--font)" if size and not found.group(1) else "font-family: var(--font)"

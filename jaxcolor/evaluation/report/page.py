"""``report.html``: one file that holds everything: tables, distributions, photos, weight maps. No network, any theme.

Tables are in the page as they are; what can be sorted, filtered and flipped is drawn by the plain JavaScript of
``templates/`` from the JSON texts of ``report_photos``.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from jaxcolor.evaluation.report.gallery import Pictured, main_system
from jaxcolor.evaluation.report.page_data import as_script, embed, page_data
from jaxcolor.evaluation.results import Results, strict
from jaxcolor.evaluation.tables import difference_rows, footnotes, system_rows, tables
from jaxcolor.evaluation.tables import title as system_title
from jaxcolor.runtime.html import environment

Curves = Mapping[str, Sequence[tuple[int, float]]]
"""Stage -> (step, loss)."""

# Colors that stand for the page's own, put in after drawing: an inline SVG then follows light and dark.
_PAGE_COLORS = {"#010203": "currentColor", "#040506": "var(--line)", "#070809": "var(--accent)"}
_INK, _LINE, _ACCENT = _PAGE_COLORS


def write_report(
    path: Path,
    title: str,
    results: Results,
    config: Mapping[str, Any],
    *,
    metrics: Mapping[str, Any] | None = None,
    pictured: Iterable[Pictured] = (),
    curves: Curves | None = None,
    facts: Mapping[str, str] | None = None,
    sections: Mapping[str, Markup] | None = None,
) -> None:
    """Write a report of an evaluation, and of the training before it where its curves are given.

    Args:
      path: the HTML file; its folder is made if it is not there.
      title: heading of the page.
      results: of all photos.
      config: the run's config as plain JSON types (``config.to_dict``).
      metrics: ``results.to_metrics()``, if at hand: with thousands of photos its bootstrap takes seconds.
      pictured: photos of ``results`` to show (``gallery.gallery``); all others show their scores.
      curves: training loss of each stage, in the order of training; stages without points are left out.
      facts: what else a reader wants to know, such as durations and the machine: name -> text.
      sections: further parts of the page: heading -> HTML.

    Raises:
      ValueError: a pictured photo is not one of ``results``.
    """
    metrics = results.to_metrics() if metrics is None else metrics
    curves = curves or {}
    rows = {name: row for row, name in enumerate(results.names)}
    embedded = []
    for shown in pictured:
        if shown.name not in rows:
            raise ValueError(f"photo {shown.name!r} is pictured, but not in the results")
        embedded.append(embed(rows[shown.name], shown))
    page = (
        environment("jaxcolor.evaluation.report")
        .get_template("report.html")
        .render(
            title=title,
            photos=len(results.names),
            tables=tables(metrics),
            footnotes=footnotes(metrics),
            tiles=_tiles(metrics, main_system(list(results.scores))),
            protocol={k: v for k, v in metrics.get("protocol", {}).items() if isinstance(v, (str, int, float))},
            curves=[(s, curve_svg(p, f"curve{i}")) for i, (s, p) in enumerate(curves.items()) if len(p)],
            data=Markup(as_script(page_data(results, embedded))),
            pictures=[(e.row, Markup(e.text)) for e in embedded],
            facts=facts or {},
            sections=sections or {},
            config=json.dumps(strict(config), indent=2, ensure_ascii=False),
        )
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _tiles(metrics: Mapping[str, Any], main: str) -> list[dict[str, Any]]:
    """The head line: PSNR of each system, and by how much it beats the one before; the main one stands out."""
    gains = {row.name: row.cells[0] for row in difference_rows(metrics, ["psnr"])}
    tiles, before = [], ""
    for row in system_rows(metrics, ["psnr"]):
        gain = gains.get(f"{row.name}_minus_{before}")
        note = f"{gain.text} dB against {system_title(before)}" if gain is not None else ""
        if row.name == "gray":
            note = "its own L*, no color"
        tiles.append({"title": row.title, "value": row.cells[0].text, "note": note, "main": row.name == main})
        before = row.name
    return tiles


def curve_svg(points: Sequence[tuple[int, float]], prefix: str) -> Markup:
    """A training curve as inline SVG: the losses, and over them their moving mean where there are many.

    The ids in it begin with ``prefix``, so that several fit in one page. Points that are not finite are left out of
    the drawing.
    """
    steps, losses = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    finite = np.isfinite(losses)
    steps, losses = steps[finite], losses[finite]
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

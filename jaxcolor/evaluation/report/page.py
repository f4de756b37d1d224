"""``report.html``: one file that holds everything: tables, distributions, photos, weight maps. No network, any theme.

Tables are in the page as they are; what can be sorted, filtered and flipped is drawn by the plain JavaScript of
``templates/`` from the JSON texts of ``page_data``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from jaxcolor.evaluation.predictors import VIVID
from jaxcolor.evaluation.report.charts import curve_svg, hint_svg, reliability_svg
from jaxcolor.evaluation.report.gallery import Pictured, main_system
from jaxcolor.evaluation.report.page_data import as_script, embed, page_data, picture_uri
from jaxcolor.evaluation.results import Results, strict
from jaxcolor.evaluation.tables import NO_BOXES, difference_rows, footnotes, summary, system_rows, tables
from jaxcolor.evaluation.tables import title as system_title
from jaxcolor.runtime.html import environment

Curves = Mapping[str, Sequence[tuple[int, float]]]
"""Stage -> (step, loss)."""


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
            footnotes=[*summary(metrics), *footnotes(metrics)],
            tiles=_tiles(metrics, main_system(list(results.scores))),
            protocol={k: v for k, v in metrics.get("protocol", {}).items() if isinstance(v, (str, int, float))},
            curves=[(s, curve_svg(p, f"curve{i}")) for i, (s, p) in enumerate(curves.items()) if len(p)],
            choice=_choice(results, metrics),
            data=Markup(as_script(page_data(results, embedded))),
            pictures=[(e.row, Markup(e.text)) for e in embedded],
            facts=facts or {},
            sections=sections or {},
            config=json.dumps(strict(config), indent=2, ensure_ascii=False),
        )
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8", errors="backslashreplace")


def _tiles(metrics: Mapping[str, Any], main: str) -> list[dict[str, Any]]:
    """The head line: PSNR of each system, and by how much it beats the one before; the main one stands out."""
    gains = {row.name: row.cells[0] for row in difference_rows(metrics, ["psnr"])}
    tiles, last = [], ""
    for row in system_rows(metrics, ["psnr"]):
        before = row.name.removesuffix("_vivid") if row.name in VIVID else last
        gain = gains.get(f"{row.name}_minus_{before}")
        note = f"{gain.text} dB against {system_title(before)}" if gain is not None else ""
        if row.name == "fused" and NO_BOXES in summary(metrics):
            note = "no photo has boxes: the same as full"
        if row.name == "gray":
            note = "its own L*, no color"
        tiles.append({"title": row.title, "value": row.cells[0].text, "note": note, "main": row.name == main})
        last = before if row.name in VIVID else row.name
    return tiles


def _choice(results: Results, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of hints and samples: charts as (caption, SVG), and pictures."""
    curve, found = metrics.get("hint_curve", {}), metrics.get("diversity")
    charts = []
    if curve:
        charts.append(("PSNR against the number of random points of true color", hint_svg(curve, "hints")))
    if found is not None and found["boxes"]:
        caption = "How often a box has a color, against the probability that its palette gives it"
        charts.append((caption, reliability_svg(found["calibration"], "reliability")))
    pictures = results.diversity.pictures if results.diversity is not None else ()
    return {
        "charts": charts,
        "photos": [(p.name, [picture_uri(rgb) for rgb in p.samples], picture_uri(p.truth)) for p in pictures],
    }

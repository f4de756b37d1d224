"""What was measured (``Results.to_metrics``, or a ``metrics.json`` read back) as tables of rows, with footnotes.

``table_formats`` writes them as Markdown and LaTeX, ``report`` as HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxcolor.evaluation import published
from jaxcolor.evaluation.metrics.colors import COLORLESS_CHROMA
from jaxcolor.evaluation.metrics.metric import Column
from jaxcolor.evaluation.object_tables import kind_of_objects, object_tables
from jaxcolor.evaluation.predictors import CONTROLS
from jaxcolor.evaluation.results import DIFFERENCES
from jaxcolor.evaluation.table_rows import (
    Cell,
    Row,
    Table,
    column_of,
    columns,
    gain_row,
    interval_pair,
    published_rows,
    statistics_table,
    summaries,
    summary_row,
    table_columns,
    title,
    with_published_lpips,
)

GROUPS = ("Whole picture", "Inside and outside the boxes", "Other conventions", "Colorfulness")
"""Titles of the tables of photos, in the order of reading; groups of other metrics follow."""
STATISTICS_TITLE = "PSNR, whole picture"
HINTS_TITLE = "With random points of true color"
SAMPLES_TITLE = "Best of the first samples"
PALETTES_TITLE = "Palettes of boxes"
CALIBRATION_TITLE = "Calibration of palettes"


def system_rows(metrics: Mapping[str, Any], shown: Sequence[str] | None = None) -> list[Row]:
    """The systems that were measured, one row each, cells in the order of ``shown`` (default ``columns``)."""
    names = list(columns(metrics)) if shown is None else shown
    return [summary_row(metrics, name, summary, names) for name, summary in summaries(metrics) if name not in CONTROLS]


def control_rows(metrics: Mapping[str, Any], shown: Sequence[str] | None = None) -> list[Row]:
    """The controls that were measured, as ``system_rows``."""
    names = list(columns(metrics)) if shown is None else shown
    return [summary_row(metrics, name, summary, names) for name, summary in summaries(metrics) if name in CONTROLS]


def difference_rows(metrics: Mapping[str, Any], shown: Sequence[str] | None = None) -> list[Row]:
    """Gains photo by photo: full over gray, fused over full, over each control and over every other system."""
    names = list(columns(metrics)) if shown is None else shown
    found = metrics.get("differences", {})
    first = [f"{b}_minus_{w}" for b, w in DIFFERENCES]
    ordered = [*(name for name in first if name in found), *(name for name in found if name not in first)]
    gains = [gain_row(metrics, name, found[name], names) for name in ordered]
    return [row for row in gains if any(cell.value is not None for cell in row.cells)]


def tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Everything that was measured, in tables narrow enough to be read."""
    data_set = metrics.get("protocol", {}).get("published", "")
    by_group: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name in columns(metrics):
        by_group.setdefault(column_of(metrics, name).group, []).append(name)
    made = []
    for group, names in by_group.items():
        shown: tuple[str, ...] = tuple(names)
        if shown:
            beside = published.WHOLE.get(data_set, ()) if group == "Whole picture" else ()
            shown = with_published_lpips(shown, beside)
            rows = (*system_rows(metrics, shown), *control_rows(metrics, shown))
            gains = tuple(difference_rows(metrics, shown))
            made.append(Table(group, table_columns(metrics, shown), rows, gains, published_rows(beside, shown)))
        if group == "Whole picture":
            made += statistics_table(metrics, STATISTICS_TITLE, summaries(metrics))
    return [*made, *object_tables(metrics, data_set), *_hint_table(metrics), *_diversity_tables(metrics)]


def _hint_table(metrics: Mapping[str, Any]) -> list[Table]:
    """The hint curve: a row for each system and number of points."""
    curve = metrics.get("hint_curve", {})
    measured = {m for of in curve.values() for means in of.values() for m in means}
    shown = [m for m in columns(metrics) if m in measured and column_of(metrics, m).group == GROUPS[0]]
    rows = [
        summary_row(metrics, f"{system}+{count}", means, shown)._replace(title=f"{title(system)}, {count} points")
        for system, of in curve.items()
        for count, means in of.items()
    ]
    return [Table(HINTS_TITLE, table_columns(metrics, shown), tuple(rows))] if rows else []


def _diversity_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """What was drawn: the best of the first k samples, palettes against the truth, and their calibration."""
    found = metrics.get("diversity")
    if found is None:
        return []

    def cell(described: Mapping[str, Any] | None, digits: int, scale: float = 1.0) -> Cell:
        if described is None or described["mean"] is None:
            return Cell(None, None, digits, False)
        interval = interval_pair(described["interval_95"])
        scaled = None if interval is None else (interval[0] * scale, interval[1] * scale)
        return Cell(described["mean"] * scale, scaled, digits, False)

    heads = table_columns(metrics, list(found["best_of"]))
    best = [
        Row(
            f"best_of_{k + 1}",
            f"best of {k + 1}",
            tuple(cell(of[k], c.digits) for of, c in zip(each, heads, strict=True)),
        )
        for each in [list(found["best_of"].values())]
        for k in range(found["samples"])
    ]
    if found["pairwise"]:
        apart = (cell(found["pairwise"].get(m), c.digits) for m, c in zip(found["best_of"], heads, strict=True))
        best.append(Row("pairwise", "between two samples", tuple(apart)))
    tables = [Table(SAMPLES_TITLE, heads, tuple(best))]
    if not found["boxes"]:
        return tables
    calibration, none = found["calibration"], None
    error = calibration["expected_error"]
    cells = (
        Cell(float(found["boxes"]), none, 0, False),
        Cell(found["palette_colors"], none, 2, False),
        cell(found["coverage"], 1, 100.0),
        Cell(none if error is None else 100 * error, none, 1, False),
    )
    headings = ("boxes", "colors each", "truth covered, %", "calibration error, %")
    tables.append(Table(PALETTES_TITLE, tuple(Column(h) for h in headings), (Row("palettes", "palettes", cells),)))
    rows = [
        Row(
            f"{low:.1f}",
            f"{100 * low:.0f} to {100 * high:.0f}%",
            (
                Cell(float(count), none, 0, False),
                Cell(100 * given, none, 1, False),
                Cell(100 * happened, none, 1, False),
            ),
        )
        for low, high, count, given, happened in zip(
            calibration["edges"],
            calibration["edges"][1:],
            calibration["counts"],
            calibration["probability"],
            calibration["frequency"],
            strict=False,
        )
        if count
    ]
    shown = tuple(Column(h) for h in ("colors", "probability given, %", "happened, %"))
    return [*tables, Table(CALIBRATION_TITLE, shown, tuple(rows))]


NO_BOXES = "No photo has boxes: fused is the full-image network's result everywhere, and no gain over it is measured."


def summary(metrics: Mapping[str, Any]) -> list[str]:
    """The first lines of all tables: how many photos there are and have boxes, and what it means if none has."""
    protocol = metrics.get("protocol", {})
    at = protocol.get("compared_at") or f"at {protocol.get('canvas')}x{protocol.get('canvas')} pixels"
    counts = f"{metrics['photos']} photos, {metrics['photos_with_boxes']} with boxes"
    lines = [f"{counts}; {at}; PSNR in dB; objects are the union of a photo's boxes."]
    return lines + ([NO_BOXES] if "fused" in metrics and not metrics["photos_with_boxes"] else [])


def footnotes(metrics: Mapping[str, Any]) -> list[str]:
    """What else a reader of the tables must know: what was left out, what was capped."""
    protocol = metrics.get("protocol", {})
    notes = []
    if metrics.get("objects"):
        notes.append(f"{metrics['objects']} {kind_of_objects(metrics)}.")
    if protocol.get("systems_left_out"):
        notes.append(f"Not measured: {protocol['systems_left_out']}.")
    if protocol.get("metrics_left_out"):
        notes.append(f"Not measured: {protocol['metrics_left_out']}.")
    if metrics.get("dropped_crops"):
        notes.append(f"{metrics['dropped_crops']} crops did not fit max_crops_per_image and were dropped.")
    if metrics.get("skipped_photos"):
        notes.append(f"{metrics['skipped_photos']} photos could not be read and were left out.")
    if protocol.get("reduced_photos"):
        notes.append(f"{protocol['reduced_photos']} photos were larger than eval.native_side and were reduced.")
    capped = sum(sum(summary.get("psnr_capped", {}).values()) for _, summary in summaries(metrics))
    if capped:
        notes.append(f"PSNR above {protocol.get('psnr_cap_db'):g} dB counts as that much in means ({capped} times).")
    colorless = metrics.get("colorless_photos", 0)
    if colorless:
        notes.append(
            f"{colorless} of {metrics['photos']} photos have no color (mean chroma below {COLORLESS_CHROMA:g}), which "
            "raises the mean of whatever is gray. Only the means without colorless photos leave them out."
        )
    alone = metrics.get("objects_only", {}).get("instance", {}).get("per_object", {}).get("objects", {}).get("psnr")
    if alone is not None:
        notes.append(
            f"Instance network alone: the {alone} of {metrics['objects']} objects that a crop shows; compare it by its "
            "paired differences, or with the others on the same objects."
        )
    lone = metrics["photos"] - metrics.get("controls", {}).get("other_crops", {}).get("photos", {}).get(
        "psnr", metrics["photos"]
    )
    if lone:
        notes.append(f"{lone} photos had no other photo's crops in their batch and miss in that control.")
    for name, missing in metrics.get("missing", {}).items():
        if missing:
            shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            notes.append(f"{name}: no picture of {len(missing)} photos, which miss in its row ({shown}).")
    for name, unused in protocol.get("unused_predictions", {}).items():
        if unused:
            notes.append(f"{name}: {unused} pictures are of none of these photos.")
    for name, resized in protocol.get("resized_predictions", {}).items():
        if resized:
            notes.append(f"{name}: {resized} pictures were of another size and were resized.")
    if protocol.get("published"):
        notes.append(
            "Published rows are as printed in the paper, at 256x256 pixels, by a protocol that it does not state in "
            "full; see docs/evaluation.md."
        )
    return notes

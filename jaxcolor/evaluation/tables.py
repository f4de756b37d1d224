"""What was measured (``Results.to_metrics``, or a ``metrics.json`` read back) as tables of rows, with footnotes.

``table_formats`` writes them as Markdown and LaTeX, ``report`` as HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxcolor.evaluation import published
from jaxcolor.evaluation.metrics.colors import COLORLESS_CHROMA
from jaxcolor.evaluation.metrics.metric import Column
from jaxcolor.evaluation.metrics.registry import builtin_columns
from jaxcolor.evaluation.predictors import CONTROLS, OWN_SYSTEMS, SYSTEMS
from jaxcolor.evaluation.results import DIFFERENCES
from jaxcolor.evaluation.table_types import Cell, Row, Table
from jaxcolor.runtime.text import MINUS, counted

TITLES = {
    "gray": "gray",
    "full": "full",
    "full_vivid": "full, vivid",
    "fused": "fused",
    "fused_vivid": "fused, vivid",
    "full_canvases": "full, further canvases",
    "fused_canvases": "fused, further canvases",
    "no_boxes": "fused, no boxes",
    "other_crops": "fused, other crops",
    "instance": "instance network alone",
    "better_of_both": "better of full and instance",
    "truth": "truth",
}
"""How systems, controls and pictures are called where people read."""

GROUPS = ("Whole picture", "Inside and outside the boxes", "Other conventions", "Colorfulness")
"""Titles of the tables of photos, in the order of reading; groups of other metrics follow."""
STATISTICS_TITLE = "PSNR, whole picture"
OBJECTS_TITLE = "Each annotated object by itself"
OBJECT_STATISTICS_TITLE = "PSNR, each annotated object"
USED_TITLE, USED_STATISTICS_TITLE = "Each box in use by itself", "PSNR, each box in use"
"""Of a data set without annotations."""
SIZES_TITLE, WITH_CROP_TITLE = "of objects by size on the canvas", "of the objects that a crop shows"
"""Behind the name of a metric."""
_ALL = "all"
HINTS_TITLE = "With random points of true color"
SAMPLES_TITLE = "Best of the first samples"
PALETTES_TITLE = "Palettes of boxes"
CALIBRATION_TITLE = "Calibration of palettes"


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
    if metric == published.LPIPS:
        return Column("LPIPS (paper, network not said)", 3, "lower")
    described = metrics.get("columns", {}).get(metric)
    return Column(**described) if described is not None else builtin_columns().get(metric, Column(metric))


def _pair(interval: Sequence[float] | None) -> tuple[float, float] | None:
    return None if interval is None else (interval[0], interval[1])


def columns(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Metric -> heading, of everything that was measured of photos, in the order of reading."""
    measured = set().union(*(summary for _, summary in _summaries(metrics)))
    known = dict.fromkeys([*builtin_columns(), *metrics.get("columns", {})])
    return {name: column_of(metrics, name).title for name in known if name in measured}


def _summaries(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Systems in the order of reading, controls last."""
    return [
        *((name, metrics[name]) for name in OWN_SYSTEMS if name in metrics),
        *metrics.get("others", {}).items(),
        *((name, metrics["controls"][name]) for name in CONTROLS if name in metrics.get("controls", {})),
    ]


def _row(metrics: Mapping[str, Any], name: str, summary: Mapping[str, Any], shown: Sequence[str]) -> Row:
    intervals = summary.get("interval_95", {})
    cells = (Cell(summary.get(m), _pair(intervals.get(m)), column_of(metrics, m).digits, False) for m in shown)
    return Row(name, title(name), tuple(cells))


def system_rows(metrics: Mapping[str, Any], shown: Sequence[str] | None = None) -> list[Row]:
    """The systems that were measured, one row each, cells in the order of ``shown`` (default ``columns``)."""
    names = list(columns(metrics)) if shown is None else shown
    return [_row(metrics, name, summary, names) for name, summary in _summaries(metrics) if name not in CONTROLS]


def control_rows(metrics: Mapping[str, Any], shown: Sequence[str] | None = None) -> list[Row]:
    """The controls that were measured, as ``system_rows``."""
    names = list(columns(metrics)) if shown is None else shown
    return [_row(metrics, name, summary, names) for name, summary in _summaries(metrics) if name in CONTROLS]


def _pair_title(name: str) -> str:
    better, _, worse = name.partition("_minus_")
    return f"{title(better)} {MINUS} {title(worse).removeprefix('fused, ')}"


def difference_rows(metrics: Mapping[str, Any], shown: Sequence[str] | None = None) -> list[Row]:
    """Gains photo by photo: full over gray, fused over full, over each control and over every other system."""
    names = list(columns(metrics)) if shown is None else shown
    found = metrics.get("differences", {})
    first = [f"{b}_minus_{w}" for b, w in DIFFERENCES]
    ordered = [*(name for name in first if name in found), *(name for name in found if name not in first)]
    gains = [_gain(metrics, name, found[name], names) for name in ordered]
    return [row for row in gains if any(cell.value is not None for cell in row.cells)]


def _gain(metrics: Mapping[str, Any], name: str, found: Mapping[str, Any], shown: Sequence[str]) -> Row:
    none = {"mean": None, "interval_95": None}
    cells = (found.get(m, none) for m in shown)
    return Row(
        name,
        _pair_title(name),
        tuple(
            Cell(cell["mean"], _pair(cell["interval_95"]), column_of(metrics, m).digits, True)
            for m, cell in zip(shown, cells, strict=True)
        ),
    )


def tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Everything that was measured, in tables narrow enough to be read."""
    by_group: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name in columns(metrics):
        by_group.setdefault(column_of(metrics, name).group, []).append(name)
    made = []
    for group, names in by_group.items():
        shown: tuple[str, ...] = tuple(names)
        if shown:
            beside = published.of_photos(metrics) if group == GROUPS[0] else ()
            shown = published.columns_beside(shown, beside)
            rows = (*system_rows(metrics, shown), *control_rows(metrics, shown))
            gains = tuple(difference_rows(metrics, shown))
            made.append(Table(group, _columns(metrics, shown), rows, gains, published.rows(beside, shown)))
        if group == "Whole picture":
            made += _statistics_table(metrics, STATISTICS_TITLE, _summaries(metrics))
    made += [*_object_tables(metrics), *_hint_table(metrics), *_diversity_tables(metrics)]
    return [*made, *published.measured_again(metrics)]


def _columns(metrics: Mapping[str, Any], shown: Sequence[str]) -> tuple[Column, ...]:
    return tuple(column_of(metrics, name) for name in shown)


def _statistics_table(
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
        interval = _pair(summary["interval_95"].get("psnr"))
        values = (summary.get("psnr"), summary["without_colorless"].get("psnr"), summary["median"].get("psnr"))
        cells = [Cell(v, interval if i == 0 else None, shown.digits, False) for i, v in enumerate(values)]
        capped = float(summary["psnr_capped"].get("psnr", 0))
        rows.append(Row(system, title(system), (*cells, Cell(capped, None, 0, False))))
    return [Table(name, (*headings, Column("capped", 0)), tuple(rows))]


def _object_tables(metrics: Mapping[str, Any]) -> list[Table]:
    photos = dict(_summaries(metrics))
    alone = metrics.get("objects_only", {})
    # Where it belongs when read: after the full-image network, which it is compared with.
    order = dict.fromkeys([*(s for s in SYSTEMS[:2] if s in photos), *alone, *photos])
    found = [(s, of["per_object"]) for s in order if "per_object" in (of := photos.get(s) or alone[s])]
    if not found:
        return []
    known = dict.fromkeys([*builtin_columns(), *metrics.get("columns", {})])
    annotated = metrics.get("objects_annotated", True)
    beside = published.of_objects(metrics) if annotated else ()
    shown = published.columns_beside(tuple(name for name in known if name in found[0][1]), beside)
    rows = tuple(_row(metrics, name, summary, shown) for name, summary in found)
    gains = {name: of["per_object"] for name, of in metrics["differences"].items() if "per_object" in of}
    table = Table(
        OBJECTS_TITLE if annotated else USED_TITLE,
        _columns(metrics, shown),
        rows,
        tuple(_gain(metrics, name, of, shown) for name, of in gains.items()),
        published.rows(beside, shown),
    )
    statistics = _statistics_table(metrics, OBJECT_STATISTICS_TITLE if annotated else USED_STATISTICS_TITLE, found)
    by_size = [m for m in shown if m == "psnr"] + [m for m in shown if m.startswith("lpips_")][:1]
    return [table, *statistics, *(sizes for m in by_size for sizes in _size_tables(metrics, m, found, gains))]


def _size_tables(
    metrics: Mapping[str, Any], metric: str, found: Sequence[tuple[str, Mapping[str, Any]]], gains: Mapping[str, Any]
) -> list[Table]:
    """A metric of objects in classes of their size on the canvas: of all, and all systems over those with a crop."""
    shown = column_of(metrics, metric)
    made: list[Table] = []

    def table(caption: str, counts: Mapping[str, int], rows: Mapping[str, Any], gains: Mapping[str, Any]) -> Table:
        def parts(of: Mapping[str, Any]) -> list[Any]:
            return [(of if c == _ALL else of["by_size"].get(c, {})).get(metric) for c in counts]

        def gain(cell: Mapping[str, Any] | None) -> Cell:
            mean, interval = (cell["mean"], _pair(cell["interval_95"])) if cell else (None, None)
            return Cell(mean, interval, shown.digits, True)

        headings = tuple(shown._replace(title=f"{c} ({count})") for c, count in counts.items())
        means = (
            Row(s, title(s), tuple(Cell(v, None, shown.digits, False) for v in parts(of))) for s, of in rows.items()
        )
        paired = (Row(name, _pair_title(name), tuple(map(gain, parts(of)))) for name, of in gains.items())
        return Table(caption, headings, tuple(means), tuple(paired))

    if metrics.get("objects_by_size"):
        made.append(table(f"{shown.title} {SIZES_TITLE}", metrics["objects_by_size"], dict(found), gains))
    same = metrics.get("objects_with_crop")
    if same:
        counts = {_ALL: same["objects"], **same["objects_by_size"]}
        made.append(table(f"{shown.title} {WITH_CROP_TITLE}", counts, same["systems"], same["differences"]))
    return made


def _hint_table(metrics: Mapping[str, Any]) -> list[Table]:
    """The hint curve: a row for each system and number of points."""
    curve = metrics.get("hint_curve", {})
    measured = {m for of in curve.values() for means in of.values() for m in means}
    shown = [m for m in columns(metrics) if m in measured and column_of(metrics, m).group == GROUPS[0]]
    rows = [
        _row(metrics, f"{system}+{count}", means, shown)._replace(title=f"{title(system)}, {count} points")
        for system, of in curve.items()
        for count, means in of.items()
    ]
    return [Table(HINTS_TITLE, _columns(metrics, shown), tuple(rows))] if rows else []


def _diversity_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """What was drawn: the best of the first k samples, palettes against the truth, and their calibration."""
    found = metrics.get("diversity")
    if found is None:
        return []

    def cell(described: Mapping[str, Any] | None, digits: int, scale: float = 1.0) -> Cell:
        if described is None or described["mean"] is None:
            return Cell(None, None, digits, False)
        interval = _pair(described["interval_95"])
        scaled = None if interval is None else (interval[0] * scale, interval[1] * scale)
        return Cell(described["mean"] * scale, scaled, digits, False)

    heads = _columns(metrics, list(found["best_of"]))
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
    counts = f"{counted(metrics['photos'], 'photo')}, {metrics['photos_with_boxes']} with boxes"
    lines = [f"{counts}; {at}; PSNR in dB; objects are the union of a photo's boxes."]
    return lines + ([NO_BOXES] if "fused" in metrics and not metrics["photos_with_boxes"] else [])


def footnotes(metrics: Mapping[str, Any]) -> list[str]:
    """What else a reader of the tables must know: what was left out, what was capped."""
    protocol = metrics.get("protocol", {})
    notes = []
    if metrics.get("objects"):
        objects = counted(
            metrics["objects"], "annotated object" if metrics.get("objects_annotated", True) else "object"
        )
        notes.append(f"{objects}{'' if metrics.get('objects_annotated', True) else ', the boxes in use'}.")
    if protocol.get("systems_left_out"):
        notes.append(f"Not measured: {protocol['systems_left_out']}.")
    if protocol.get("metrics_left_out"):
        notes.append(f"Not measured: {protocol['metrics_left_out']}.")
    if metrics.get("dropped_crops"):
        notes.append(f"{counted(metrics['dropped_crops'], 'crop')} did not fit max_crops_per_image: dropped.")
    notes += [f"Crops by side: {protocol['crops_by_side']}."] if protocol.get("crops_by_side") else []
    if metrics.get("skipped_photos"):
        notes.append(f"{counted(metrics['skipped_photos'], 'photo')} could not be read: left out.")
    if protocol.get("reduced_photos"):
        notes.append(f"{counted(protocol['reduced_photos'], 'photo')} larger than eval.native_side: reduced.")
    capped = sum(sum(summary.get("psnr_capped", {}).values()) for _, summary in _summaries(metrics))
    if capped:
        notes.append(
            f"PSNR above {protocol.get('psnr_cap_db'):g} dB counts as that much in means ({counted(capped, 'time')})."
        )
    colorless = metrics.get("colorless_photos", 0)
    if colorless:
        notes.append(
            f"{colorless} of {counted(metrics['photos'], 'photo')} without color (mean chroma below "
            f"{COLORLESS_CHROMA:g}): the mean of whatever is gray is higher by that. Only the means without colorless "
            "photos leave them out."
        )
    alone = metrics.get("objects_only", {}).get("instance", {}).get("per_object", {}).get("objects", {}).get("psnr")
    if alone is not None:
        notes.append(
            f"Instance network alone: the {alone} of {metrics['objects']} objects that a crop shows; compare it by its "
            "paired differences, or with the others over the same objects."
        )
    lone = metrics["photos"] - metrics.get("controls", {}).get("other_crops", {}).get("photos", {}).get(
        "psnr", metrics["photos"]
    )
    if lone:
        notes.append(f"{counted(lone, 'photo')} had no other photo's crops in the batch: missing in that control.")
    for name, missing in metrics.get("missing", {}).items():
        if missing:
            shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            notes.append(f"{name}: no picture of {counted(len(missing), 'photo')}, missing in its row ({shown}).")
    for name, unused in protocol.get("unused_predictions", {}).items():
        if unused:
            notes.append(f"{name}: {counted(unused, 'picture')} of none of these photos.")
    for name, resized in protocol.get("resized_predictions", {}).items():
        if resized:
            notes.append(f"{name}: {counted(resized, 'picture')} of another size: resized.")
    return notes + published.footnotes(metrics)

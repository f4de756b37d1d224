"""Tables of objects by themselves: all of them, by size, and those that a crop shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxcolor.evaluation import published
from jaxcolor.evaluation.metrics.metric import Column
from jaxcolor.evaluation.metrics.registry import builtin_columns
from jaxcolor.evaluation.predictors import SYSTEMS
from jaxcolor.evaluation.table_rows import (
    Cell,
    Row,
    Table,
    column_of,
    gain_row,
    interval_pair,
    pair_title,
    published_rows,
    statistics_table,
    summaries,
    summary_row,
    table_columns,
    title,
    with_published_lpips,
)

OBJECTS_TITLE, USED_TITLE = "Each annotated object by itself", "Each box in use by itself"
STATISTICS_TITLE, USED_STATISTICS_TITLE = "PSNR, each annotated object", "PSNR, each box in use"
SIZES_TITLE = "of objects by size on the canvas"
WITH_CROP_TITLE = "of the objects that a crop shows"
"""Behind the name of a metric, as the one before."""


def kind_of_objects(metrics: Mapping[str, Any]) -> str:
    """What the objects are, in words."""
    return "annotated objects" if metrics.get("objects_annotated", True) else "objects, the boxes in use"


def object_tables(metrics: Mapping[str, Any], data_set: str) -> list[Table]:
    """All tables of objects by themselves; none where none were measured.

    Args:
      metrics: what to show.
      data_set: whose published numbers stand beside (``published.PER_OBJECT``); empty: nobody's.
    """
    photos = dict(summaries(metrics))
    alone = metrics.get("objects_only", {})
    # Where it belongs when read: after the full-image network, which it is compared with.
    order = dict.fromkeys([*(s for s in SYSTEMS[:2] if s in photos), *alone, *photos])
    found = [(s, of["per_object"]) for s in order if "per_object" in (of := photos.get(s) or alone[s])]
    if not found:
        return []
    annotated = metrics.get("objects_annotated", True)
    known = dict.fromkeys([*builtin_columns(), *metrics.get("columns", {})])
    beside = published.PER_OBJECT.get(data_set, ()) if annotated else ()
    measured = [name for name in known if name in found[0][1]]
    shown = with_published_lpips(measured, beside)
    rows = tuple(summary_row(metrics, name, summary, shown) for name, summary in found)
    gains = {name: of["per_object"] for name, of in metrics["differences"].items() if "per_object" in of}
    table = Table(
        OBJECTS_TITLE if annotated else USED_TITLE,
        table_columns(metrics, shown),
        rows,
        tuple(gain_row(metrics, name, of, shown) for name, of in gains.items()),
        published_rows(beside, shown),
    )
    by_size = [m for m in measured if m == "psnr"] + [m for m in measured if m.startswith("lpips_")][:1]
    return [
        table,
        *statistics_table(metrics, STATISTICS_TITLE if annotated else USED_STATISTICS_TITLE, found),
        *(made for m in by_size for made in _size_table(metrics, m, found, gains)),
        *(made for m in by_size for made in _with_crop_table(metrics, m)),
    ]


def _size_table(
    metrics: Mapping[str, Any], metric: str, found: Sequence[tuple[str, Mapping[str, Any]]], gains: Mapping[str, Any]
) -> list[Table]:
    """A metric of objects in classes of their size on the model's canvas, in pixels."""
    classes = metrics.get("objects_by_size", {})
    if not classes:
        return []
    shown = column_of(metrics, metric)
    rows = [
        Row(s, title(s), tuple(Cell(of["by_size"][c][metric], None, shown.digits, False) for c in classes))
        for s, of in found
    ]
    differences = [
        Row(name, pair_title(name), tuple(_gain(of["by_size"].get(c, {}), metric, shown) for c in classes))
        for name, of in gains.items()
    ]
    headings = tuple(shown._replace(title=f"{name} ({count:,})") for name, count in classes.items())
    return [Table(f"{shown.title} {SIZES_TITLE}", headings, tuple(rows), tuple(differences))]


def _with_crop_table(metrics: Mapping[str, Any], metric: str) -> list[Table]:
    """A metric of the objects that the instance network says something of: all systems over the same ones."""
    found = metrics.get("objects_with_crop", {})
    if not found:
        return []
    shown = column_of(metrics, metric)
    classes = found["objects_by_size"]

    def parts(of: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        return [of, *(of["by_size"].get(c, {}) for c in classes)]

    rows = [
        Row(s, title(s), tuple(Cell(part.get(metric), None, shown.digits, False) for part in parts(of)))
        for s, of in found["systems"].items()
    ]
    gains = [
        Row(name, pair_title(name), tuple(_gain(part, metric, shown) for part in parts(of)))
        for name, of in found["differences"].items()
    ]
    counts = {"all": found["objects"], **classes}
    headings = tuple(shown._replace(title=f"{name} ({count:,})") for name, count in counts.items())
    return [Table(f"{shown.title} {WITH_CROP_TITLE}", headings, tuple(rows), tuple(gains))]


def _gain(of: Mapping[str, Any], metric: str, shown: Column) -> Cell:
    cell = of.get(metric, {"mean": None, "interval_95": None})
    return Cell(cell["mean"], interval_pair(cell["interval_95"]), shown.digits, True)

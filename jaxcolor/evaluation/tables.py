"""Metrics (``Results.to_metrics``, or a ``metrics.json`` read back) as rows, and rows as tables: Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxcolor.evaluation import published
from jaxcolor.evaluation.predictors import CONTROLS, SYSTEMS
from jaxcolor.evaluation.results import DIFFERENCES

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

HEADINGS = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips_alex": "LPIPS alex",
    "lpips_squeeze": "LPIPS squeeze",
    "lpips_vgg": "LPIPS vgg",
    "lpips": "LPIPS (paper, network not said)",
    "delta_e_2000": "ΔE 2000",
    "psnr_ab": "PSNR ab",
    "ssim_uniform7": "SSIM 7x7",
    "fid": "FID",
    "colorfulness_hs": "CF",
    "delta_colorfulness_hs": "ΔCF of photos",
    "delta_of_mean_colorfulness_hs": "ΔCF of means",
    "colorfulness_abs": "CF abs",
    "delta_colorfulness_abs": "ΔCF abs of photos",
    "delta_of_mean_colorfulness_abs": "ΔCF abs of means",
    "psnr_objects": "PSNR objects",
    "psnr_background": "PSNR background",
    "ssim_objects": "SSIM objects",
    "ssim_background": "SSIM background",
}
"""Metric -> heading, in the order of reading."""

HIGHER_IS_BETTER = ("psnr", "ssim")
LOWER_IS_BETTER = ("lpips", "delta_", "fid")
"""What names of metrics begin with; of colourfulness alone neither more nor less is better."""

GROUPS = {
    "Whole picture": ("psnr", "ssim", "lpips_alex", "lpips_squeeze", "lpips_vgg", "delta_e_2000", "fid"),
    "Inside and outside the boxes": ("psnr_objects", "psnr_background", "ssim_objects", "ssim_background"),
    "Other conventions": ("psnr_ab", "ssim_uniform7"),
    "Colourfulness": tuple(name for name in HEADINGS if "colorfulness" in name),
}
"""Tables of photos, each narrow enough to be read."""
OBJECTS_TITLE = "Each annotated object by itself"


def title(system: str) -> str:
    """How a system is called where people read."""
    return TITLES.get(system, system)


def heading(metric: str) -> str:
    """How a metric is called where people read."""
    return HEADINGS.get(metric, metric)


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


class Table(NamedTuple):
    """Rows under headings."""

    title: str
    columns: tuple[str, ...]
    """Metrics."""
    rows: tuple[Row, ...]
    gains: tuple[Row, ...]
    """Paired differences."""
    published: tuple[Row, ...]


def _number(value: float, places: int, signed: bool) -> str:
    rounded = round(value, places) + 0.0
    return f"{rounded:{'+' if signed else ''}.{places}f}".replace("-", MINUS)


def digits(metric: str) -> int:
    """How many digits after the point say enough."""
    if metric.startswith(("psnr", "delta_e", "fid")) or "colorfulness" in metric:
        return 2
    return 4


def _pair(interval: Sequence[float] | None) -> tuple[float, float] | None:
    return None if interval is None else (interval[0], interval[1])


def columns(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Metric -> heading, of everything that was measured of photos, in the order of reading."""
    rows = _summaries(metrics)
    measured = set().union(*(summary for _, summary in rows))
    named = [name for name in HEADINGS if name in measured]
    rest = sorted(
        name for name in measured.difference(HEADINGS) if isinstance(rows[0][1][name], float) and name != "fid"
    )
    return {name: heading(name) for name in (*named, *rest)}


def _summaries(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Systems in the order of reading, controls last."""
    return [
        *((name, metrics[name]) for name in SYSTEMS if name in metrics),
        *metrics.get("others", {}).items(),
        *((name, metrics["controls"][name]) for name in CONTROLS if name in metrics.get("controls", {})),
    ]


def _row(name: str, summary: Mapping[str, Any], shown: Sequence[str]) -> Row:
    intervals = summary.get("interval_95", {})
    cells = tuple(Cell(summary.get(m), _pair(intervals.get(m)), digits(m), False) for m in shown)
    return Row(name, title(name), cells)


def system_rows(metrics: Mapping[str, Any], shown: Sequence[str] | None = None) -> list[Row]:
    """The systems that were measured, one row each, cells in the order of ``shown`` (default ``columns``)."""
    names = list(columns(metrics)) if shown is None else shown
    return [_row(name, summary, names) for name, summary in _summaries(metrics) if name not in CONTROLS]


def control_rows(metrics: Mapping[str, Any], shown: Sequence[str] | None = None) -> list[Row]:
    """The controls that were measured, as ``system_rows``."""
    names = list(columns(metrics)) if shown is None else shown
    return [_row(name, summary, names) for name, summary in _summaries(metrics) if name in CONTROLS]


def _pair_title(name: str) -> str:
    better, _, worse = name.partition("_minus_")
    return f"{title(better)} {MINUS} {title(worse).removeprefix('fused, ')}"


def difference_rows(metrics: Mapping[str, Any], shown: Sequence[str] | None = None) -> list[Row]:
    """Gains photo by photo: full over gray, fused over full, over each control and over every other system."""
    names = list(columns(metrics)) if shown is None else shown
    found = metrics.get("differences", {})
    first = [f"{b}_minus_{w}" for b, w in DIFFERENCES]
    ordered = [*(name for name in first if name in found), *(name for name in found if name not in first)]
    return [_gain(name, found[name], names) for name in ordered]


def _gain(name: str, found: Mapping[str, Any], shown: Sequence[str]) -> Row:
    none = {"mean": None, "interval_95": None}
    cells = (found.get(m, none) for m in shown)
    return Row(
        name,
        _pair_title(name),
        tuple(
            Cell(cell["mean"], _pair(cell["interval_95"]), digits(m), True)
            for m, cell in zip(shown, cells, strict=True)
        ),
    )


def _beside(shown: tuple[str, ...], rows: Sequence[published.Published]) -> tuple[str, ...]:
    """The columns of a table with room for published LPIPS, which is of no network that we know."""
    return (*shown, "lpips") if rows else shown


def _published(rows: Sequence[published.Published], shown: Sequence[str]) -> tuple[Row, ...]:
    """Rows of the paper, with three digits as printed."""
    return tuple(
        Row(
            "published",
            f"{row.title} (published)",
            tuple(Cell(getattr(row, m, None), None, 3, False) for m in shown),
        )
        for row in rows
    )


def tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Everything that was measured, in tables narrow enough to be read."""
    measured = set(columns(metrics))
    data_set = metrics.get("protocol", {}).get("published", "")
    made = []
    for name, group in GROUPS.items():
        shown = tuple(metric for metric in group if metric in measured)
        if shown:
            beside = published.WHOLE.get(data_set, ()) if name == "Whole picture" else ()
            shown = _beside(shown, beside)
            rows = (*system_rows(metrics, shown), *control_rows(metrics, shown))
            gains = [row for row in difference_rows(metrics, shown) if any(c.value is not None for c in row.cells)]
            made.append(Table(name, shown, rows, tuple(gains), _published(beside, shown)))
    return [*made, *_object_table(metrics, data_set)]


def _object_table(metrics: Mapping[str, Any], data_set: str) -> list[Table]:
    found = [(name, summary["per_object"]) for name, summary in _summaries(metrics) if "per_object" in summary]
    if not found:
        return []
    beside = published.PER_OBJECT.get(data_set, ())
    shown = _beside(tuple(name for name in HEADINGS if name in found[0][1]), beside)
    rows = tuple(_row(name, summary, shown) for name, summary in found)
    gains = tuple(_gain(name, of["per_object"], shown) for name, of in metrics["differences"].items())
    return [Table(OBJECTS_TITLE, shown, rows, gains, _published(beside, shown))]


def footnotes(metrics: Mapping[str, Any]) -> list[str]:
    """What a reader of the tables must know: how many photos, what was left out, what was capped."""
    protocol = metrics.get("protocol", {})
    at = protocol.get("compared_at") or f"at {protocol.get('canvas')}x{protocol.get('canvas')} pixels"
    notes = [
        f"{metrics['photos']} photos, {metrics['photos_with_boxes']} with boxes; {at}; PSNR in dB; objects are the "
        "union of a photo's boxes."
    ]
    if metrics.get("objects"):
        notes.append(f"{metrics['objects']} annotated objects.")
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
    capped = sum(sum(summary.get("psnr_capped", {}).values()) for _, summary in _summaries(metrics))
    if capped:
        notes.append(f"PSNR above {protocol.get('psnr_cap_db'):g} dB counts as that much in means ({capped} times).")
    colourless = metrics.get("gray", {}).get("psnr_capped", {}).get("psnr", 0)
    if colourless:
        notes.append(
            f"{colourless} of {metrics['photos']} photos have no colour: they are no truth to compare colours with."
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
    for name, resized in protocol.get("resized_predictions", {}).items():
        if resized:
            notes.append(f"{name}: {resized} pictures were of another size and were resized.")
    if protocol.get("published"):
        notes.append(
            "Published rows are as printed in the paper, at 256x256 pixels, by a protocol that it does not state in "
            "full; see docs/evaluation.md."
        )
    return notes


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells as a Markdown table whose bars stand below each other."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]

    def join(cells: Sequence[str]) -> str:
        first, *rest = cells
        aligned = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=True))]
        return f"| {' | '.join(aligned)} |"

    rule = f"|{'-' * (widths[0] + 2)}|{'|'.join('-' * (w + 1) + ':' for w in widths[1:])}|"
    return [join(lines[0]), rule, *(join(line) for line in lines[1:])]


def markdown(metrics: Mapping[str, Any], intervals: bool = False) -> str:
    """Systems, controls, published rows and gains in Markdown tables, aligned for the terminal, with footnotes.

    Args:
      metrics: what to show.
      intervals: with the 95% interval behind every number; without, only gains have theirs.
    """

    def text(cell: Cell, with_interval: bool) -> str:
        return f"{cell.text} ({cell.margin})" if with_interval and cell.margin else cell.text

    blocks = []
    for table in tables(metrics):
        lines = [[table.title, *(heading(metric) for metric in table.columns)]]
        for row in (*table.rows, *table.published):
            lines.append([row.title, *(text(cell, intervals) for cell in row.cells)])
        lines += [[row.title, *(text(cell, intervals) for cell in row.cells)] for row in table.gains]
        blocks.append("\n".join(_aligned(lines)))
    return "\n\n".join([*blocks, "\n".join(footnotes(metrics))])


_TEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "Δ": r"$\Delta$"}


def _tex(text: str) -> str:
    for plain, tex in _TEX.items():
        text = text.replace(plain, tex)
    return text.replace(MINUS, "$-$").replace(EN_DASH, "--").replace("…", r"\,..\,")


def _better(metric: str) -> str:
    if metric.startswith(HIGHER_IS_BETTER):
        return r" $\uparrow$"
    return r" $\downarrow$" if metric.startswith(LOWER_IS_BETTER) else ""


def latex(metrics: Mapping[str, Any]) -> str:
    """The tables in LaTeX (package ``booktabs``): means, their 95% intervals small behind them, gains, footnotes."""
    parts = []
    for table in tables(metrics):
        headings = " & ".join(_tex(heading(m)) + _better(m) for m in table.columns)
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
        notes = _tex(" ".join(footnotes(metrics)))
        lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{_tex(table.title)}. {notes}}}", r"\end{table}"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"

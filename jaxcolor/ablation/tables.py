"""A comparison as a table: aligned Markdown, which a terminal shows as well, and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

from jaxcolor.ablation.comparison import Comparison, Difference, Row
from jaxcolor.evaluation.statistics import RESAMPLES
from jaxcolor.evaluation.tables import digits, heading
from jaxcolor.runtime.text import EN_DASH, MINUS, markdown_table, number

_COSTS = ("runs", "training", "trained", "crops", "GFLOPs")


def _number(value: float | None, metric: str, signed: bool = False) -> str:
    return number(value, digits(metric), signed)


def _margin(difference: Difference, metric: str) -> str:
    if difference.interval is None:
        return ""
    return " … ".join(_number(end, metric, signed=True) for end in difference.interval)


def _costs(row: Row) -> list[str]:
    cost = row.cost
    return [
        str(row.runs),
        f"{cost.train_seconds:,.0f} s" if cost.trained_parameters else EN_DASH,
        f"{cost.trained_parameters:,}",
        f"{cost.crops_per_photo:.1f}",
        f"{cost.gflops_per_photo:.3g}",
    ]


def cells(comparison: Comparison) -> list[list[str]]:
    """All lines: headings, a line for each variant, and two for each difference, the second its interval."""
    lines = [["", *(heading(m) for m in comparison.shown), *_COSTS]]
    for row in comparison.rows:
        lines.append([row.name, *(_number(row.means[m], m) for m in comparison.shown), *_costs(row)])
    blank = [""] * len(_COSTS)
    for row in comparison.rows:
        if row.differences:
            found = [(row.differences[m], m) for m in comparison.shown]
            minus = f"{row.name} {MINUS} {comparison.baseline}"
            lines.append([minus, *(_number(d.value, m, signed=True) for d, m in found), *blank])
            lines.append(["95%", *(_margin(d, m) for d, m in found), *blank])
    return lines


def footnotes(comparison: Comparison) -> list[str]:
    """What a reader of the table must know."""
    notes = [
        f"Means over {comparison.photos} photos and all runs; PSNR in dB. Differences are paired by photo and seed, "
        "over the photos for which both are defined; "
        f"95%: percentile bootstrap over photos and seeds, {RESAMPLES} resamples.",
        "training: of what a variant trains for itself; trained: parameters; crops: through the instance network, a "
        "photo; GFLOPs: of a photo with as many crops.",
    ]
    runs = max(row.runs for row in comparison.rows)
    if runs == 1:
        notes.append("One run each: the intervals say nothing about other seeds.")
    elif runs < 5:
        notes.append(f"{runs} seeds are few: what they contribute to the intervals is rough.")
    for row in comparison.rows:
        if row.weights_of:
            notes.append(f"{row.name}: measured with the weights of {row.weights_of}.")
        elif not row.cost.trained_parameters:
            notes.append(f"{row.name}: trains nothing, and was run once.")
    if comparison.left_out:
        notes.append(f"Not measured, or not for every variant: {', '.join(comparison.left_out)}.")
    return notes


def markdown(comparison: Comparison) -> str:
    """The table with its footnotes."""
    return "\n".join([*markdown_table(cells(comparison)), "", *footnotes(comparison)])


def latex(comparison: Comparison) -> str:
    """The table for a paper; needs the package booktabs."""
    head, *body = cells(comparison)
    variants, differences = body[: len(comparison.rows)], body[len(comparison.rows) :]

    def join(line: Sequence[str]) -> str:
        return " & ".join(map(_escaped, line)) + r" \\"

    lines = [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", join(head), r"\midrule"]
    lines += [join(line) for line in variants]
    if differences:
        lines += [r"\midrule", *(join(line) for line in differences)]
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*(f"% {note}" for note in footnotes(comparison)), *lines])


def _escaped(text: str) -> str:
    for sign in "&%$#_{}":
        text = text.replace(sign, f"\\{sign}")
    return text.replace(MINUS, "$-$").replace(EN_DASH, "--").replace("…", r"\ldots{}").replace("Δ", r"$\Delta$")

"""An analysis as a table for the terminal, Markdown, JSON and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxcolor.runtime.atomic import atomic_dir
from jaxcolor.runtime.text import EN_DASH, aligned, number
from jaxcolor.study.analysis import PSEUDO_WINS, Analysis, Interval, Person, Share

_INK, _ACCENT, _LINE = "#1c1917", "#b4520f", "#e3e0dc"


def write_report(output: Path, analysis: Analysis) -> None:
    """Write ``study.json``, ``study.md`` and ``study.png`` into a new folder.

    Raises:
      DataError: the folder exists.
    """
    with atomic_dir(output, keep=False) as part:
        text = json.dumps(analysis.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        (part / "study.json").write_text(text + "\n", encoding="utf-8")
        (part / "study.md").write_text(markdown(analysis), encoding="utf-8")
        draw(part / "study.png", analysis)


def table(analysis: Analysis) -> str:
    """The analysis as lines of text."""
    lines = [summary(analysis), ""]
    for head, rows in _tables(analysis):
        lines += [*aligned([head, *rows]), ""]
    return "\n".join([*lines, *notes(analysis)])


def markdown(analysis: Analysis) -> str:
    """The analysis as a Markdown page."""
    lines = [f"# User study {analysis.study}", "", f"“{analysis.question}” {summary(analysis)}", ""]
    for head, rows in _tables(analysis):
        lines += [_cells(head), _cells(["---", *["---:"] * (len(head) - 1)]), *(_cells(row) for row in rows), ""]
    lines += [*(f"- {note}" for note in notes(analysis)), "", "![preferences and scores](study.png)", ""]
    return "\n".join(lines)


def summary(analysis: Analysis) -> str:
    """Who answered, in one line."""
    judgements = sum(preference.wins.of for preference in analysis.preferences)
    out = len(analysis.people) - analysis.counted
    return f"{judgements:,} comparisons by {analysis.counted} participants" + (f", {out} more left out" if out else "")


def notes(analysis: Analysis) -> list[str]:
    """What a reader of the tables must know."""
    rules, agreed = analysis.rules, analysis.agreement
    said = [
        f"{person.participant}: {'left out, ' if person.reason else ''}{_caution(person)}"
        for person in analysis.people
        if _caution(person)
    ]
    if rules.keep_all:
        said.append("nobody is left out (--keep-all)")
    else:
        said.append(f"rule: who fails more than {rules.most_failed:.0%} of the catch trials is left out")
    said.append(
        f"same answer to the same pair shown again, sides swapped: {_share(analysis.consistency)}"
        if analysis.consistency.of
        else "no pair was shown again: nothing is known of how consistent participants are"
    )
    if agreed.observed is None:
        said.append("no pair of pictures was judged by two participants: nothing is known of their agreement")
    else:
        alpha = "not defined" if agreed.alpha is None else number(agreed.alpha, 2)
        said.append(
            f"agreement: Krippendorff's alpha {alpha}; two participants agree on a pair in {agreed.observed:.1%} "
            f"({agreed.units:,} pairs of pictures judged at least twice)"
        )
    biased = " (a side bias)" if analysis.left_p < 0.05 else ""
    said.append(f"left picture chosen: {_share(analysis.left)}, p = {_p(analysis.left_p)}{biased}")
    said.append(
        "Wilson intervals and p (binomial test of 50%, one a row, not corrected for their number) take all answers "
        "for independent; bootstrap intervals resample participants"
    )
    said.append(
        f"Bradley{EN_DASH}Terry scores are log odds with mean 0, fitted with {PSEUDO_WINS} wins added to each side of "
        "each pair"
    )
    return said


def _caution(person: Person) -> str:
    if person.reason:
        return person.reason
    return f"failed {person.failed.hits} of {person.failed.of} catch trials" if person.failed.hits else ""


def _tables(analysis: Analysis) -> list[tuple[list[str], list[list[str]]]]:
    """Heads and rows; the first column is text."""
    chosen = "taken as real" if analysis.condition == "real" else "preferred"
    preferences = [
        [
            f"{p.first} over {p.second}",
            f"{p.wins.hits} / {p.wins.of}",
            EN_DASH if p.wins.value is None else f"{p.wins.value:.1%}",
            _interval(p.wins.wilson),
            _interval(p.bootstrap),
            EN_DASH if p.p is None else _p(p.p),
        ]
        for p in analysis.preferences
    ]
    scores = [
        [
            s.system,
            number(s.score, 2),
            EN_DASH if s.bootstrap is None else f"{number(s.bootstrap[0], 2)} … {number(s.bootstrap[1], 2)}",
        ]
        for s in analysis.scores
    ]
    people = [
        [
            p.participant + (" (left out)" if p.reason else ""),
            str(p.comparisons),
            f"{p.left.hits / p.left.of:.0%}",
            f"{p.repeats.hits} / {p.repeats.of}" if p.repeats.of else EN_DASH,
            f"{p.failed.hits} / {p.failed.of}" if p.failed.of else EN_DASH,
            f"{p.median_ms / 1000:.1f} s",
        ]
        for p in analysis.people
    ]
    return [
        ([chosen, "times", "share", "95% Wilson", "95% bootstrap", "p"], preferences),
        (["system", "score", "95% bootstrap"], scores),
        (["participant", "pairs", "left", "consistent", "failed", "median time"], people),
    ]


def _share(found: Share) -> str:
    return f"{found.hits} of {found.of} ({found.value:.1%}, 95% {_interval(found.wilson)})"


def _interval(interval: Interval | None) -> str:
    return EN_DASH if interval is None else f"{interval[0]:.1%} … {interval[1]:.1%}"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def draw(path: Path, analysis: Analysis) -> None:
    """Preferences and scores with their intervals, as PNG."""
    style: Any = {
        "font.size": 10,
        "text.parse_math": False,  # names of systems are not formulas
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
    }
    preferences, scores = analysis.preferences, analysis.scores
    with matplotlib.rc_context(style):
        rows = max(len(preferences), len(scores))
        figure = Figure(figsize=(11, 1.6 + 0.45 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        names = [f"{p.first} over {p.second}" for p in preferences]
        _intervals(
            left, names, [None if p.wins.value is None else 100 * p.wins.value for p in preferences],
            [None if p.wins.wilson is None else (100 * p.wins.wilson[0], 100 * p.wins.wilson[1]) for p in preferences],
        )  # fmt: skip
        left.set_xlim(0, 100)
        left.axvline(50, color=_INK, linewidth=0.8, linestyle=(0, (3, 3)))
        left.set_xlabel("chosen, % (95% Wilson interval)")
        _intervals(right, [s.system for s in scores], [s.score for s in scores], [s.bootstrap for s in scores])
        right.axvline(0, color=_INK, linewidth=0.8, linestyle=(0, (3, 3)))
        bootstrap = " (95% bootstrap interval)" if any(s.bootstrap for s in scores) else ""
        right.set_xlabel(f"Bradley{EN_DASH}Terry score, log odds{bootstrap}")
        figure.suptitle(f"{analysis.question}   {summary(analysis)}", fontsize=10)
        figure.savefig(path, dpi=150)


def _intervals(
    axes: Axes, names: Sequence[str], values: Sequence[float | None], intervals: Sequence[Interval | None]
) -> None:
    """Points with bars, the first on top."""
    axes.grid(axis="x", color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    for row, (value, interval) in enumerate(zip(values, intervals, strict=True)):
        if interval is not None:
            axes.plot(interval, (row, row), color=_ACCENT, linewidth=2.2, solid_capstyle="butt")
        if value is not None:
            axes.plot([value], [row], color=_ACCENT, marker="o", markersize=7)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(length=0)

"""Numbers and tables as text, the same everywhere: in the terminal, in Markdown, in reports."""

from __future__ import annotations

from collections.abc import Collection, Sequence

MINUS, EN_DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


def number(value: float | None, digits: int, signed: bool = False) -> str:
    """A number with so many digits after the point; a dash for None.

    Negative ones have a true minus sign, what rounds to zero has none. ``signed``: positive ones have a plus sign.
    """
    if value is None:
        return EN_DASH
    rounded = round(value, digits) + 0.0
    return f"{rounded:{'+' if signed else ''}.{digits}f}".replace("-", MINUS)


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 photo``, ``2 photos``; thousands with commas.

    Args:
      number: how many.
      noun: what they are, one of them.
      plural: several of them, where it is not the noun with an s.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """A time for people: ``40 s``, ``12 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = (0,), indent: str = "") -> list[str]:
    """Rows of cells as lines for the terminal, each column as wide as its widest cell, two spaces apart.

    Args:
      rows: all of the same length, one at least.
      left: columns whose cells begin below each other; all others, of numbers, end there.
      indent: begins every line.
    """
    widths = _widths(rows)

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return (indent + "  ".join(padded)).rstrip()

    return [line(row) for row in rows]


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as a Markdown table whose bars stand below each other; the first row holds the headings."""
    widths = _widths(rows)

    def line(row: Sequence[str]) -> str:
        first, *rest = row
        cells = [first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(rest, widths[1:], strict=True))]
        return f"| {' | '.join(cells)} |"

    rule = f"|{'-' * (widths[0] + 2)}|{'|'.join('-' * (w + 1) + ':' for w in widths[1:])}|"
    return [line(rows[0]), rule, *(line(row) for row in rows[1:])]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]

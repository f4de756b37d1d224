import pytest

from jaxcolor.runtime.text import aligned, counted, duration, markdown_table, number


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [
        (1.005, 1, False, "1.0"),
        (-0.004, 2, False, "0.00"),
        (-0.004, 2, True, "+0.00"),
        (-1.5, 1, True, "\N{MINUS SIGN}1.5"),
        (2.25, 2, True, "+2.25"),
        (None, 2, True, "\N{EN DASH}"),
    ],
)
def test_numbers(value: float | None, digits: int, signed: bool, text: str) -> None:
    assert number(value, digits, signed) == text


def test_tables_are_aligned() -> None:
    rows = [["name", "n"], ["a", "100"]]
    assert aligned(rows) == ["name    n", "a     100"]
    assert aligned(rows, left=(0, 1), indent="  ") == ["  name  n", "  a     100"]
    assert markdown_table(rows) == ["| name |   n |", "|------|----:|", "| a    | 100 |"]
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        aligned([["a", "b"], ["c"]])


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 photos"), (1, "1 photo"), (2, "2 photos"), (12345, "12,345 photos")]
)
def test_counted(number: int, text: str) -> None:
    assert counted(number, "photo") == text
    assert counted(number, "box", "boxes") == text.replace("photo", "box").replace("boxs", "boxes")


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (89.0, "89 s"), (90.0, "2 min"), (5400.0, "1.5 h")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text

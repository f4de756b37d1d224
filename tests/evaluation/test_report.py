import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from jaxcolor.config import Config, to_dict
from jaxcolor.evaluation.pictures import PANEL, contact_sheet, panel
from jaxcolor.evaluation.report import curve_svg, write_report
from jaxcolor.evaluation.results import CONTROLS, SYSTEMS, Shown
from tests.evaluation.test_results import make

NASTY = "<script>alert(\"x\")</script> & 'Größe'"
VOID = {"meta", "img", "br", "link", "input"}


def shown(name: str, systems: tuple[str, ...] = SYSTEMS, side: int = 32) -> Shown:
    rng = np.random.default_rng(0)
    panels = {s: rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for s in (*systems, "truth")}
    psnr = dict.fromkeys(systems, 20.0) | {systems[0]: float("inf")}
    return Shown(name, np.array([[4, 4, 10, 20]]), panels, psnr)


class Checker(HTMLParser):
    """Every element closed in order; all tags and attributes kept."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report(tmp_path: Path, systems: tuple[str, ...] = (*SYSTEMS, *CONTROLS), curves: bool = True) -> Checker:
    metrics = make({s: [20.0 + i, 24.0] for i, s in enumerate(systems)}).to_metrics()
    path = tmp_path / "new" / "report.html"
    points = {NASTY: [(i, 1 / (i + 1)) for i in range(100)], "fusion": [(0, float("nan")), (1, 2.0)], "instance": []}
    pictures = [shown(NASTY, systems), shown("b", systems)]
    write_report(path, NASTY, metrics, pictures, points if curves else {}, to_dict(Config(name=NASTY)), {NASTY: NASTY})
    checker = Checker()
    checker.feed(path.read_text(encoding="utf-8"))
    checker.close()
    return checker


def test_the_report_is_well_formed_and_shows_everything(tmp_path: Path) -> None:
    page = report(tmp_path)
    assert page.open == []
    assert page.tags.count("svg") == 2
    assert page.tags.count("img") == 2 * 6
    assert page.tags.count("table") == 2
    for words in ("fused, no boxes", "fused, other crops", "PSNR objects", "moving mean", "box_choice"):
        assert words in page.text
    assert "fused \N{MINUS SIGN} other crops" in page.text


def test_names_are_escaped(tmp_path: Path) -> None:
    page = report(tmp_path)
    assert "script" not in page.tags
    assert page.text.count(NASTY) >= 5  # heading, title, stage, photo, fact


def test_the_report_needs_no_other_host(tmp_path: Path) -> None:
    page = report(tmp_path)
    for name, value in page.attributes:
        if name in {"src", "href", "xlink:href", "action", "data", "poster", "srcset"}:
            assert value.startswith(("data:", "#")), (name, value[:80])
    text = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert "//" not in re.sub(r"data:image/png;base64,[^\"]*", "", text)
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_no_two_curves_share_an_id(tmp_path: Path) -> None:
    page = report(tmp_path)
    text = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    targets = {value[1:] for name, value in page.attributes if name == "href"} | set(
        re.findall(r"url\(#([^)]*)\)", text)
    )
    ids = [value for name, value in page.attributes if name == "id"]
    assert targets
    assert targets <= set(ids)
    assert len(ids) == len(set(ids))


def test_a_report_without_fusion_and_without_curves(tmp_path: Path) -> None:
    page = report(tmp_path, ("gray", "full"), curves=False)
    assert page.open == []
    assert "svg" not in page.tags
    assert "no boxes" not in page.text


def test_a_curve_follows_the_pages_colours() -> None:
    svg = str(curve_svg([(i, 1.0) for i in range(5)], "c"))
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert "var(--accent)" in svg
    assert "#01020" not in svg


@pytest.mark.parametrize(("systems", "columns"), [(SYSTEMS, 4), (("gray", "full"), 3), ((*SYSTEMS, *CONTROLS), 4)])
def test_the_contact_sheet_has_a_row_for_each_photo(systems: tuple[str, ...], columns: int) -> None:
    sheet = contact_sheet([shown("a", systems), shown("x" * 300, systems)])
    assert sheet.width == 2 * 12 + columns * PANEL + (columns - 1) * 8
    assert sheet.height == 30 + 2 * (PANEL + 24) + 12
    first = np.asarray(sheet)[30 : 30 + PANEL, 12 : 12 + PANEL]
    np.testing.assert_array_equal(first[::6, ::6], shown("a", systems).panels["gray"])


def test_boxes_are_drawn_on_their_pixels() -> None:
    black = np.zeros((32, 32, 3), np.uint8)
    drawn = np.asarray(panel(black, np.array([[4, 5, 10, 20]]))).any(axis=-1)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    # A white line, one pixel inside the black edge of the magnified box.
    assert (rows[0], rows[-1]) == (5 * 6 + 1, 25 * 6 - 2)
    assert (columns[0], columns[-1]) == (4 * 6 + 1, 14 * 6 - 2)
    assert not np.asarray(panel(black)).any()


def test_a_large_canvas_is_not_magnified() -> None:
    assert panel(np.zeros((256, 256, 3), np.uint8)).size == (256, 256)


def test_a_contact_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([])

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxcolor.config import Config
from jaxcolor.config_io import to_dict
from jaxcolor.evaluation.predictors import CONTROLS, SYSTEMS
from jaxcolor.evaluation.report.contact_sheet import PANEL, contact_sheet, panel
from jaxcolor.evaluation.report.failures import KINDS
from jaxcolor.evaluation.report.gallery import Pictured, Weights
from jaxcolor.evaluation.report.page import curve_svg, write_report
from jaxcolor.evaluation.report.page_data import as_script, embed, page_data
from jaxcolor.evaluation.results import Results, Shown
from jaxcolor.runtime.contact_sheet import GAP

NASTY = "</script><script>alert(\"x\")</script> & 'Größe' <!--"
VOID = {"meta", "img", "br", "link", "input"}
TAPS = {"conv2_2": 16, "conv10_2": 32}
METRICS = ("psnr", "ssim", "psnr_objects", "ssim_objects", "psnr_background", "ssim_background")


def shown(name: str, systems: tuple[str, ...] = SYSTEMS, side: int = 32) -> Shown:
    rng = np.random.default_rng(0)
    panels = {s: rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for s in (*systems, "truth")}
    psnr = dict.fromkeys(systems, 20.0) | {systems[0]: float("inf")}
    return Shown(name, np.array([[4, 4, 10, 20]]), panels, psnr)


def pictured(name: str, systems: tuple[str, ...] = SYSTEMS, side: int = 32, boxes: int = 2) -> Pictured:
    """One color a system; weight maps rise from left to right, each box's half as high as the one before."""
    levels = {s: 30 * (i + 1) for i, s in enumerate((*systems, "truth"))}
    panels = {s: np.full((side, side, 3), v, np.uint8) for s, v in levels.items()}
    places = np.array([[4, 4, 10, 20], [12, 8, 16, 16]])[:boxes]
    weights = {}
    for tap, grid in TAPS.items() if boxes else ():
        rise = np.tile(np.linspace(0, 1, grid, dtype=np.float32), (grid, 1))
        instance = np.stack([rise / 2 ** (i + 1) for i in range(boxes)])
        weights[tap] = Weights(1 - instance.sum(axis=0), instance)
    scores = np.array([0.9, np.nan], np.float32)[:boxes]
    return Pictured(name, panels, places, scores, np.array([[5, 5, 9, 18]]) if boxes else None, weights, (side, side))


def make(
    names: list[str],
    systems: tuple[str, ...] = (*SYSTEMS, *CONTROLS),
    facets: dict[str, np.ndarray] | None = None,
) -> Results:
    """PSNR rises by photo, and by system."""
    photos = np.arange(len(names), dtype=float)
    scores = {
        s: {m: np.full(len(names), 0.5) for m in METRICS} | {"psnr": 20.0 + i + photos} for i, s in enumerate(systems)
    }
    protocol = {"canvas": 32, "psnr_cap_db": 100.0}
    return Results(tuple(names), np.arange(len(names)) % 5, scores, 3, 0, protocol, (), facets=facets or {})


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
    path = tmp_path / "new" / "report.html"
    points = {NASTY: [(i, 1 / (i + 1)) for i in range(100)], "fusion": [(0, float("nan")), (1, 2.0)], "instance": []}
    own = tuple(s for s in systems if s in SYSTEMS)
    facets = {"covered": np.array([0.5, 0.25, 0.0]), "bleeding": np.array([1.0, np.nan, np.inf])}
    write_report(
        path,
        NASTY,
        make([NASTY, "b", "c"], systems, facets),
        to_dict(Config(name=NASTY)),
        pictured=iter([pictured(NASTY, own), pictured("c", own, boxes=0)]),
        curves=points if curves else {},
        facts={NASTY: NASTY},
    )
    checker = Checker()
    checker.feed(path.read_text(encoding="utf-8"))
    checker.close()
    return checker


def texts(tmp_path: Path) -> dict[str, Any]:
    """The JSON texts of the page, by their element's id, cut out as a browser would."""
    page = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    found = re.findall(r'<script type="application/json" id="([^"]*)">(.*?)</script', page, flags=re.DOTALL)
    return {name: json.loads(text) for name, text in found}


def test_the_report_is_well_formed_and_shows_everything(tmp_path: Path) -> None:
    page = report(tmp_path)
    assert page.open == []
    assert page.tags.count("svg") == 2
    assert page.tags.count("script") == 1 + 2 + 1  # scores, two photos, the program
    for words in ("fused, no boxes", "fused, other crops", "PSNR objects", "moving mean", "box_choice"):
        assert words in page.text
    assert "fused \N{MINUS SIGN} other crops" in page.text


def test_names_are_escaped(tmp_path: Path) -> None:
    page = report(tmp_path)
    assert page.text.count(NASTY) >= 4  # heading, title, stage, fact
    assert page.tags.count("script") == 4
    assert "<script>alert" not in (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert texts(tmp_path)["data"]["names"][0] == NASTY


def test_scores_of_all_photos_are_in_the_page(tmp_path: Path) -> None:
    report(tmp_path)
    data = texts(tmp_path)["data"]
    assert data["names"] == [NASTY, "b", "c"]
    assert data["boxes"] == [0, 1, 2]
    assert data["main"] == "fused"
    assert [s["key"] for s in data["systems"]] == [*SYSTEMS, *CONTROLS]
    assert [m["key"] for m in data["metrics"]][:2] == ["psnr", "ssim"]
    assert data["scores"]["fused"]["psnr"] == [22, 23, 24]
    # Strict JSON: what is not defined is null, infinity a word.
    assert data["values"] == {"covered": [0.5, 0.25, 0.0], "bleeding": [1.0, None, "inf"]}
    assert [f["key"] for f in data["facets"]] == ["covered", "bleeding"]
    assert data["facets"][1]["description"] == KINDS["bleeding"].description
    assert set(data["pictures"]) == {"0", "2"}


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))


def test_pictures_and_weight_maps_come_back_as_they_were(tmp_path: Path) -> None:
    report(tmp_path)
    found = texts(tmp_path)
    description, pictures = found["data"]["pictures"]["0"], found["pictures-0"]
    assert description["panels"] == [*SYSTEMS, "truth"]
    assert description["boxes"] == [[4, 4, 10, 20, 0.9], [12, 8, 16, 16, None]]
    assert description["annotated"] == [[5, 5, 9, 18]]
    shown = pictured(NASTY)
    for system, rgb in shown.panels.items():
        np.testing.assert_array_equal(decoded(pictures[system]), rgb)
    sprite = decoded(pictures["weights"])[..., 0].astype(float)
    for tap in description["taps"]:
        maps = shown.weights[tap["name"]]
        assert tap["grid"] == TAPS[tap["name"]]
        for i, expected in enumerate([maps.full, *maps.instance]):
            low, high = tap["ranges"][i]
            tile = sprite[
                tap["y"] : tap["y"] + tap["side"], i * description["tile"] : i * description["tile"] + tap["side"]
            ]
            np.testing.assert_allclose(low + tile / 255 * (high - low), expected, atol=0.004)
    assert "taps" not in found["data"]["pictures"]["2"]
    assert "weights" not in found["pictures-2"]


def test_what_lies_beyond_a_photo_is_not_shown() -> None:
    embedded = embed(0, pictured("a")._replace(extent=(32, 24)))
    assert embedded.description["extent"] == [32, 24]
    assert decoded(json.loads(embedded.text)["truth"]).shape == (24, 32, 3)


def test_large_pictures_are_compressed_without_moving_colors() -> None:
    rng = np.random.default_rng(0)
    shown = pictured("a", side=256)
    blocks = rng.integers(40, 216, (32, 32, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    noise = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    large = {
        tap: Weights(*(np.repeat(np.repeat(m, 8, -1), 8, -2) for m in maps)) for tap, maps in shown.weights.items()
    }
    embedded = embed(0, shown._replace(panels={"full": noise, "truth": blocks}, weights=large))
    pictures = json.loads(embedded.text)
    assert np.abs(decoded(pictures["truth"]).astype(int) - blocks).mean() < 3
    assert len(pictures["truth"]) < blocks.size / 3
    # The map of 256 x 256 is averaged down to 128 x 128.
    (last,) = (tap for tap in embedded.description["taps"] if tap["name"] == "conv10_2")
    assert (last["grid"], last["side"]) == (256, 128)
    tile = decoded(pictures["weights"])[last["y"] :, : last["side"], 0] / 255
    expected = large["conv10_2"].full.reshape(128, 2, 128, 2).mean(axis=(1, 3))
    low, high = last["ranges"][0]
    assert np.abs(low + tile * (high - low) - expected).max() < 0.06


def test_a_picture_of_another_photo_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="photo 'x' is pictured, but not in the results"):
        write_report(tmp_path / "r.html", "t", make(["a"]), {}, pictured=[pictured("x")])


def test_json_in_a_script_ends_no_script() -> None:
    text = as_script({"a": ["</script>", "<!--", "\u2028"]})
    assert "<" not in text
    assert json.loads(text) == {"a": ["</script>", "<!--", "\u2028"]}


def test_directions_of_metrics() -> None:
    better = {m["key"]: m["better"] for m in page_data(with_metrics("lpips_alex", "colorfulness_hs"), [])["metrics"]}
    assert better == {"psnr": 1, "ssim_objects": 1, "lpips_alex": -1, "colorfulness_hs": 0} | dict.fromkeys(METRICS, 1)


def with_metrics(*names: str) -> Results:
    results = make(["a", "b"], ("gray",))
    results.scores["gray"] |= {name: np.zeros(2) for name in names}
    return results


def test_the_report_needs_no_other_host(tmp_path: Path) -> None:
    page = report(tmp_path)
    for name, value in page.attributes:
        if name in {"src", "href", "xlink:href", "action", "data", "poster", "srcset"}:
            assert value.startswith(("data:", "#")), (name, value[:80])
    text = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    # Neither an address nor one that takes its scheme from the page's.
    assert not re.search(r"\b\w+://|[\"'(]//", re.sub(r"data:image/\w*;base64,[^\"]*", "", text))
    assert "@import" not in text
    assert "fetch(" not in text
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
    assert "fused \N{MINUS SIGN} no boxes" not in page.text
    assert texts(tmp_path)["data"]["main"] == "full"


def test_a_curve_follows_the_pages_colors() -> None:
    svg = str(curve_svg([(i, 1.0) for i in range(5)], "c"))
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert "var(--accent)" in svg
    assert "#01020" not in svg


@pytest.mark.parametrize(("systems", "columns"), [(SYSTEMS, 4), (("gray", "full"), 3), ((*SYSTEMS, *CONTROLS), 4)])
def test_the_contact_sheet_has_a_row_for_each_photo(systems: tuple[str, ...], columns: int) -> None:
    sheet = contact_sheet([shown("a", systems), shown("x" * 300, systems)])
    assert sheet.width == GAP + columns * (PANEL + GAP)
    assert PANEL * 2 < sheet.height < PANEL * 3
    top = GAP + 24  # headings
    first = np.asarray(sheet)[top : top + PANEL, GAP : GAP + PANEL]
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

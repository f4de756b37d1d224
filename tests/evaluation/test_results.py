import csv
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxcolor.evaluation import published
from jaxcolor.evaluation.metrics.psnr import PSNR_CAP
from jaxcolor.evaluation.objects import Objects
from jaxcolor.evaluation.predictors import CONTROLS, SYSTEMS
from jaxcolor.evaluation.results import Results, _csv, strict
from jaxcolor.evaluation.statistics import mean_over_objects, mean_over_photos
from jaxcolor.evaluation.table_formats import latex, markdown
from jaxcolor.evaluation.tables import columns, footnotes, tables
from tests.evaluation.batches import BASIC


def make(psnr: dict[str, list[float]]) -> Results:
    photos = len(next(iter(psnr.values())))
    scores = {s: {m: np.full(photos, 0.5) for m in BASIC} | {"psnr": np.array(v)} for s, v in psnr.items()}
    names = tuple(f"p{i}" for i in range(photos))
    return Results(names, np.ones(photos, int), scores, 3, 0, {"canvas": 32, "psnr_cap_db": PSNR_CAP}, ())


def test_nan_is_left_out_and_infinity_counts_as_the_cap() -> None:
    mean = make({"gray": [20.0, np.nan, np.inf, 30.0]}).mean("gray", "psnr")
    assert mean.value == pytest.approx((20 + PSNR_CAP + 30) / 3)
    assert (mean.photos, mean.capped) == (3, 1)
    assert make({"gray": [np.nan]}).mean("gray", "psnr") == (None, None, 0, 0)
    assert make({"gray": [12.0]}).mean("gray", "psnr") == (12.0, None, 1, 0)


def test_differences_are_paired() -> None:
    results = make({"gray": [10.0, 30.0, np.nan], "full": [11.0, 31.0, 50.0]})
    gain = results.difference("full", "gray", "psnr")
    assert gain.value == pytest.approx(1)
    # Both photos gain the same: the difference is sure although the photos differ by 20 dB.
    assert gain.interval == pytest.approx((1, 1))
    assert gain.photos == 2


def test_the_interval_is_that_of_the_mean_and_does_not_change() -> None:
    values = np.random.default_rng(1).normal(20, 3, 400)
    mean = mean_over_photos(values)
    assert mean == mean_over_photos(values)
    assert mean.interval is not None
    error = values.std() / np.sqrt(len(values))
    np.testing.assert_allclose(mean.interval, [values.mean() - 1.96 * error, values.mean() + 1.96 * error], atol=0.1)


def test_metrics_are_strict_json_with_the_agreed_keys() -> None:
    results = make({s: [np.nan, np.nan] for s in (*SYSTEMS, *CONTROLS)})
    metrics = results.to_metrics()
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    for part in (*(metrics[s] for s in SYSTEMS), *(metrics["controls"][c] for c in CONTROLS)):
        assert part["psnr"] is None
        assert set(BASIC) <= set(part)
    assert metrics["photos"] == metrics["photos_with_boxes"] == 2
    assert metrics["dropped_crops"] == 3
    assert strict({"a": (np.float32(1.5), float("inf"), np.int64(2), "x", None)}) == {"a": [1.5, None, 2, "x", None]}


def test_the_csv_has_a_row_for_each_photo_and_system() -> None:
    text = make({"gray": [20.0, np.nan], "full": [np.inf, 1.0]}).to_csv()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(r["name"], r["system"], r["psnr"]) for r in rows] == [
        ("p0", "gray", "20"),
        ("p0", "full", "inf"),
        ("p1", "gray", ""),
        ("p1", "full", "1"),
    ]


def test_the_tables_show_systems_controls_gains_and_what_was_left_out() -> None:
    values = {"gray": [20.0, 22.0], "full": [25.0, 27.0], "fused": [30.0, np.inf]}
    metrics = make(values | {c: [24.0, np.nan] for c in CONTROLS}).to_metrics()
    text = markdown(metrics)
    assert set(columns(metrics)) == set(BASIC)
    for block in text.split("\n\n")[1:-1]:
        assert len({len(line) for line in block.splitlines()}) == 1
    first = text.split("\n\n")[1].splitlines()
    cells = {c[0]: c[1] for c in ([part.strip() for part in line.strip("|").split("|")] for line in first)}
    assert cells["gray"] == "21.00"
    assert cells["full \N{MINUS SIGN} gray"] == "+5.00"
    assert cells["fused \N{MINUS SIGN} other crops"] == "+6.00"
    assert "2 photos, 2 with boxes; at 32x32 pixels" in text
    assert "3 crops did not fit" in text
    assert "PSNR above 100 dB counts as that much in means (1 time)" in text
    assert "1 photo had no other photo's crops" in text
    assert "21.00 (20.00 … 22.00)" in markdown(metrics, intervals=True)


def test_a_fused_that_is_full_because_no_photo_has_boxes_is_no_gain_of_nothing() -> None:
    systems = {s: [20.0, 22.0] for s in (*SYSTEMS, *CONTROLS)}
    metrics = dataclasses.replace(make(systems), boxes=np.zeros(2, int)).to_metrics()
    assert set(metrics["differences"]) == {"full_minus_gray"}
    for text in (markdown(metrics), latex(metrics)):
        assert "2 photos, 0 with boxes; " in text
        assert "No photo has boxes: fused is the full-image network's result everywhere, and no gain over it" in text
        assert "fused \N{MINUS SIGN} full" not in text
    assert markdown(metrics).splitlines()[0].startswith("2 photos, 0 with boxes; ")
    some = dataclasses.replace(make(systems), boxes=np.array([0, 1])).to_metrics()
    assert {"fused_minus_full", "fused_minus_no_boxes", "fused_minus_other_crops"} < set(some["differences"])
    assert "No photo has boxes" not in markdown(some)


def test_colorless_photos_are_counted_and_left_out_of_a_mean_of_their_own() -> None:
    results = make({"gray": [20.0, np.inf, 24.0], "full": [25.0, np.inf, np.nan]})
    results = dataclasses.replace(
        results,
        chroma=np.array([9.0, 1.9, 2.1]),
        objects=Objects(
            np.array([0, 1, 2]),
            np.array([[0, 0, 4, 4]] * 3),
            {s: {"psnr": np.array([10.0, np.inf, 12.0])} for s in ("gray", "full")},
        ),
    )
    metrics = results.to_metrics()
    assert metrics["colorless_photos"] == 1
    # What the keys meant before they still mean.
    assert metrics["gray"]["psnr"] == pytest.approx((20 + PSNR_CAP + 24) / 3)
    assert metrics["gray"]["without_colorless"]["psnr"] == 22
    assert metrics["gray"]["median"]["psnr"] == 24
    assert metrics["full"]["without_colorless"]["psnr"] == 25
    assert metrics["full"]["per_object"]["without_colorless"]["psnr"] == 11
    assert metrics["full"]["per_object"]["psnr_capped"]["psnr"] == 1
    text = markdown(metrics)
    assert "1 of 3 photos without color (mean chroma below 2): " in text
    for title, numbers in (
        ("PSNR, whole picture", "48.00 22.00 24.00"),
        ("PSNR, each annotated object", "40.67 11.00 12.00"),
    ):
        block = next(block for block in text.split("\n\n") if block.startswith(f"| {title}"))
        assert re.search(r"\| gray +\| +" + r" +\| +".join([*map(re.escape, numbers.split()), "1"]) + r" \|", block)
    assert "no color" not in markdown(make({"gray": [20.0, np.inf]}).to_metrics())


def test_objects_by_size_and_the_instance_network_alone() -> None:
    results = full_results()
    objects = results.objects
    scores = {**objects.scores, "instance": {"psnr": np.array([9.0, np.nan, 59.0])}}
    results = dataclasses.replace(results, objects=objects._replace(scores=scores, sides=np.array([15.9, 16.0, 200.0])))
    metrics = results.to_metrics()
    assert metrics["objects_by_size"] == {"below 16": 1, "16 to 32": 1, "128 and above": 1}
    assert metrics["gray"]["per_object"]["by_size"]["16 to 32"] == {"psnr": 20, "objects": {"psnr": 1}}
    alone = metrics["objects_only"]["instance"]["per_object"]
    assert (alone["psnr"], alone["objects"]["psnr"]) == (34, 2)
    assert alone["by_size"]["16 to 32"]["psnr"] is None
    # Paired: over the two objects that the instance network says something of.
    gain = metrics["differences"]["fused_minus_instance"]
    assert set(gain) == {"per_object"}
    assert (gain["per_object"]["psnr"]["mean"], gain["per_object"]["psnr"]["objects"]) == (2, 2)
    assert gain["per_object"]["by_size"]["128 and above"]["psnr"]["mean"] == 2
    found = {table.title: table for table in tables(metrics)}
    assert [row.name for row in found["Each annotated object by itself"].rows] == [
        "gray",
        "instance",
        "fused",
        "theirs",
    ]
    sizes = found["PSNR of objects by size on the canvas"]
    assert [column.title for column in sizes.columns] == ["below 16 (1)", "16 to 32 (1)", "128 and above (1)"]
    assert [cell.text for cell in sizes.rows[1].cells] == ["9.00", "\N{EN DASH}", "59.00"]
    # All over the two objects that the instance network says something of.
    shown = found["PSNR of the objects that a crop shows"]
    assert [column.title for column in shown.columns] == ["all (2)", "below 16 (1)", "128 and above (1)"]
    cells = {row.name: [cell.text for cell in row.cells] for row in (*shown.rows, *shown.gains)}
    assert cells["gray"] == ["35.00", "10.00", "60.00"]
    assert cells["instance"] == ["34.00", "9.00", "59.00"]
    assert cells["fused_minus_instance"] == ["+2.00"] * 3
    text = markdown(metrics)
    assert "the 2 of 3 objects that a crop shows" in text
    assert "3 annotated objects." in text
    used = dataclasses.replace(results, objects=results.objects._replace(annotated=False)).to_metrics()
    assert "Each box in use by itself" in [table.title for table in tables(used)]
    assert "3 objects, the boxes in use." in markdown(used)
    # The paper's Table 2 is of annotated objects.
    annotated, in_use = (as_in_the_paper(m) for m in (metrics, used))
    assert markdown(in_use).count("(published)") < markdown(annotated).count("(published)")


def full_results() -> Results:
    """Two photos, three objects, a system of somebody else that lacks a photo."""
    photos = {"psnr": [20.0, 30.0], "ssim": [0.5, 0.7], "colorfulness_hs": [10.0, 30.0], "lpips_alex": [0.1, 0.3]}
    systems = ("gray", "fused", "theirs")
    scores = {name: {m: np.array(v) + i for m, v in photos.items()} for i, name in enumerate(systems)}
    for values in scores["theirs"].values():
        values[1] = np.nan
    objects = {name: {"psnr": np.array([10.0, 20.0, 60.0]) + i} for i, name in enumerate(scores)}
    return Results(
        ("p0", "p_1"),
        np.array([2, 1]),
        scores,
        0,
        0,
        {"canvas": 32, "psnr_cap_db": PSNR_CAP, "published": "coco_stuff"},
        (),
        truth={"colorfulness_hs": np.array([21.0, 23.0])},
        objects=Objects(np.array([0, 0, 1]), np.array([[0, 0, 4, 4], [1, 1, 5, 5], [2, 2, 3, 3]]), objects),
        missing={"theirs": ["p_1"]},
        fid={"gray": 12.5, "fused": 3.0},
    )


def test_other_systems_objects_and_colorfulness() -> None:
    metrics = full_results().to_metrics()
    assert metrics["gray"]["delta_of_mean_colorfulness_hs"] == pytest.approx(abs(20 - 22))
    # Where a photo is missing, the truth of the others is what its mean is compared with.
    assert metrics["others"]["theirs"]["delta_of_mean_colorfulness_hs"] == pytest.approx(abs(12 - 21))
    assert metrics["others"]["theirs"]["photos"]["psnr"] == 1
    assert metrics["differences"]["fused_minus_theirs"]["psnr"] == {"mean": -1, "interval_95": None, "photos": 1}
    assert metrics["fused"]["per_object"]["psnr"] == pytest.approx(31)
    assert metrics["fused"]["per_object"]["objects"]["psnr"] == 3
    assert metrics["differences"]["fused_minus_theirs"]["per_object"]["psnr"]["mean"] == pytest.approx(-1)
    assert (metrics["gray"]["fid"], metrics["truth"]["colorfulness_hs"]) == (12.5, 22)


def as_in_the_paper(metrics: dict[str, Any]) -> dict[str, Any]:
    """As if the paper's photos had been measured at the paper's size."""
    return metrics | {"photos": 5000, "protocol": metrics["protocol"] | {"size": "canvas", "canvas": 256}}


def test_tables_name_what_is_published_and_what_is_missing() -> None:
    metrics = as_in_the_paper(full_results().to_metrics())
    assert [table.title for table in tables(metrics)] == [
        "Whole picture",
        "PSNR, whole picture",
        "Colorfulness",
        "Each annotated object by itself",
        "PSNR, each annotated object",
        "As DDColor's authors measured",
    ]
    text = markdown(metrics)
    (su,) = [line for line in text.split("\n\n")[1].splitlines() if line.startswith("| Su et al. 2020 (published)")]
    cells = dict(zip(text.split("\n\n")[1].splitlines()[0].split("|"), su.split("|"), strict=True))
    said = {heading.strip(): cell.strip() for heading, cell in cells.items()}
    # The paper does not say which network, so its LPIPS stands in no column of ours.
    assert said["LPIPS alex"] == "\N{EN DASH}"
    assert said["LPIPS (paper, network not said)"] == "0.125"
    assert "theirs: no picture of 1 photo, missing in its row (p_1)." in text
    whole = text.split("\n\n")[1]
    assert re.search(r"\| gray +\| +25\.00 \| +0\.6000 \| +0\.2000 \| +12\.50 \| +\u2013 \|", whole)


@pytest.mark.parametrize(
    "other", [{"photos": 119}, {"canvas": 64}, {"size": "native"}], ids=["photos", "canvas", "native size"]
)
def test_published_rows_stand_beside_comparable_protocols_only(other: dict[str, Any]) -> None:
    """Elsewhere they are in a footnote, which says what is not the same; DDColor's are a table of their own."""
    metrics = as_in_the_paper(full_results().to_metrics())
    assert sum(len(table.published) for table in tables(metrics)[:-1]) == 8
    photos = other.pop("photos", 5000)
    metrics = metrics | {"photos": photos, "protocol": metrics["protocol"] | {"compared_at": "as it is"} | other}
    found = tables(metrics)
    assert not any(table.published for table in found[:-1])
    assert not any("paper" in column.title for table in found for column in table.columns)
    (note,) = [note for note in footnotes(metrics) if note.startswith("The paper's numbers are of 5,000 photos at 256")]
    assert f"do not stand beside these ({photos:,} photos; as it is): Zhang et al. 2017: 26.823 dB" in note
    assert any("annotated objects the paper prints" in note and "29.522 dB" in note for note in footnotes(metrics))
    for comparable in (metrics, as_in_the_paper(metrics)):
        again = tables(comparable)[-1]
        assert (again.title, again.rows) == ("As DDColor's authors measured", ())
        assert [column.title for column in again.columns][3::4] == ["PSNR, COCO-Stuff", "PSNR, val5k"]
        cells = {row.title: [cell.text for cell in row.cells] for row in again.published}
        assert cells["Su et al. 2020 (published)"][3::4] == ["23.38", "23.28"]
        assert cells["CT2 (published)"][:4] == ["\N{EN DASH}"] * 4  # a dash there too
        assert any("The paper's PSNR is on another scale" in note for note in footnotes(comparable))


@pytest.mark.parametrize(("place", "truth"), [(0, 38.24), (1, 38.21)], ids=["COCO-Stuff", "val5k"])
def test_colorfulness_that_was_measured_again_leads_to_one_truth(place: int, truth: float) -> None:
    rows = [both[place] for both in published.MEASURED_AGAIN.values() if both[place].colorfulness is not None]
    assert len(rows) >= 7
    for row in rows:
        assert row.delta_colorfulness == pytest.approx(abs(row.colorfulness - truth), abs=1e-6)


def test_nothing_is_published_of_other_photos() -> None:
    metrics = full_results().to_metrics()
    metrics = metrics | {"protocol": metrics["protocol"] | {"published": ""}}
    assert not any(table.published for table in tables(metrics))
    assert "paper" not in markdown(metrics)
    metrics = as_in_the_paper(metrics) | {"photos": 20_500}
    metrics["protocol"]["published"] = "places205"
    assert [len(table.published) for table in tables(metrics)] == [4, 0, 0, 0, 0]  # of objects there are none


def test_latex_is_balanced_and_escaped() -> None:
    text = latex(full_results().to_metrics())
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 6
    assert r"p\_1" in text
    assert r"$\uparrow$" in text
    assert r"LPIPS alex $\downarrow$" in text
    for part in text.split("\n\n"):
        (columns_said,) = re.findall(r"\\begin\{tabular\}\{l(r+)\}", part)
        rows = [line for line in part.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns_said)}


def test_objects_of_one_photo_are_drawn_together() -> None:
    values = np.array([0.0] * 50 + [10.0] * 50)
    together = mean_over_objects(values, np.repeat([0, 1], 50))
    apart = mean_over_objects(values, np.arange(100))
    assert together.value == apart.value == 5
    assert together.interval == (0, 10)
    assert apart.interval is not None
    assert apart.interval[0] > 3
    assert mean_over_objects(np.array([np.nan]), np.array([0])) == (None, None, 0, 0)
    assert mean_over_objects(np.array([1.0, 3.0]), np.array([4, 4])) == (2.0, None, 2, 0)


def test_parquet_holds_what_the_csv_holds(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    results = full_results()
    results.write_parquet(tmp_path / "r.parquet")
    table = parquet.read_table(tmp_path / "r.parquet").to_pydict()
    rows = list(csv.DictReader(io.StringIO(results.to_csv())))
    assert len(rows) == len(table["name"]) == 8
    for i, row in enumerate(rows):
        assert row["system"] == table["system"][i]
        for metric in results.metrics:
            value = float(row[metric]) if row[metric] else np.nan
            np.testing.assert_allclose(value, table[metric][i], rtol=1e-5)
    assert [row["system"] for row in rows[-2:]] == ["truth", "truth"]
    objects = list(csv.DictReader(io.StringIO(results.objects_to_csv())))
    assert [(o["name"], o["psnr"]) for o in objects if o["system"] == "fused"] == [
        ("p0", "11"),
        ("p0", "21"),
        ("p_1", "61"),
    ]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx"])
def test_names_that_begin_like_formulas_are_plain_text(name):
    text = _csv({"photo": [name, "a=b"], "psnr": [-1.5, 2.0]})
    assert list(csv.reader(io.StringIO(text))) == [["photo", "psnr"], [f"'{name}", "-1.5"], ["a=b", "2"]]


def test_names_that_are_not_utf_8_are_written_escaped():
    assert _csv({"photo": ["caf\udce9"]}) == "photo\ncaf\\udce9\n"
    assert strict({"caf\udce9": ["\udce9", "é"]}) == {"caf\\udce9": ["\\udce9", "é"]}

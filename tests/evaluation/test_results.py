import csv
import io
import json

import numpy as np
import pytest

from jaxcolor.evaluation.results import CONTROLS, METRICS, PSNR_CAP, SYSTEMS, Results, mean_over_photos, strict
from jaxcolor.evaluation.tables import COLUMNS, markdown


def make(psnr: dict[str, list[float]]) -> Results:
    photos = len(next(iter(psnr.values())))
    scores = {s: {m: np.full(photos, 0.5) for m in METRICS} | {"psnr": np.array(v)} for s, v in psnr.items()}
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
        assert set(METRICS) <= set(part)
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


def test_the_table_shows_systems_controls_gains_and_what_was_left_out() -> None:
    values = {"gray": [20.0, 22.0], "full": [25.0, 27.0], "fused": [30.0, np.inf]}
    text = markdown(make(values | {c: [24.0, np.nan] for c in CONTROLS}).to_metrics())
    lines = text.splitlines()
    assert set(COLUMNS) == set(METRICS)
    table = [line for line in lines if line.startswith("|")]
    assert len({len(line) for line in table}) == 1
    cells = {c[0]: c[1] for c in ([part.strip() for part in line.strip("|").split("|")] for line in table)}
    assert cells["gray"] == "21.00"
    assert cells["full \N{MINUS SIGN} gray"] == "+5.00"
    assert cells["fused \N{MINUS SIGN} other crops"] == "+6.00"
    assert "2 photos at 32x32 pixels, 2 with boxes" in text
    assert "3 crops did not fit" in text
    assert "PSNR above 100 dB counts as that much in means (1 times)" in text
    assert "1 photos had no other photo's crops" in text

"""Objects by size, and all systems over the objects that a crop shows."""

import numpy as np
import pytest

from jaxcolor.evaluation.metrics.registry import builtin_columns
from jaxcolor.evaluation.objects import SIZE_CLASSES, Objects, ObjectSummary

PHOTO = np.array([0, 0, 1, 2])
SCORES = {
    "gray": {"psnr": [10.0, 11, 12, 13], "lpips_alex": [0.5, 0.5, 0.5, 0.5]},
    "full": {"psnr": [20.0, 20, 20, 20], "lpips_alex": [0.3, 0.3, 0.3, 0.3]},
    "instance": {"psnr": [18.0, 26, np.nan, 19], "lpips_alex": [0.4, 0.2, np.nan, 0.1]},
    "fused": {"psnr": [21.0, 23, 99, 21], "lpips_alex": [0.2, 0.2, 0.2, 0.2]},
    "no_boxes": {"psnr": [20.0, 21, 50, 19], "lpips_alex": [0.3, 0.3, 0.3, 0.3]},
}


def summary(sides: list[float], scores: dict[str, dict[str, list[float]]] = SCORES) -> ObjectSummary:
    arrays = {s: {m: np.array(v, np.float64) for m, v in of.items()} for s, of in scores.items()}
    boxes = np.array([[i, 2 * i, 3, 4] for i in range(len(sides))])
    objects = Objects(PHOTO[: len(sides)], boxes, arrays, np.array(sides))
    return ObjectSummary(objects, builtin_columns(), np.zeros(3, bool))


def test_the_edges_of_size_classes() -> None:
    sides = np.array([1, 15.999, 16, 31.999, 32, 63.999, 64, 127.999, 128, 256])
    objects = Objects(np.zeros(10, int), np.zeros((10, 4), int), {}, sides)
    classes = objects.size_classes
    assert list(classes) == list(SIZE_CLASSES)
    assert [np.flatnonzero(among).tolist() for among in classes.values()] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    some = objects._replace(sides=np.array([20.0] * 10)).size_classes
    assert {title: int(among.sum()) for title, among in some.items()} == {"16 to 32": 10}
    assert objects._replace(sides=np.zeros(0)).size_classes == {}


def test_all_systems_over_the_objects_that_a_crop_shows() -> None:
    found = summary([10, 40, 40, 50]).with_crop()
    assert found["objects"] == 3
    assert found["objects_by_size"] == {"below 16": 1, "32 to 64": 2}
    systems = found["systems"]
    assert list(systems) == ["gray", "full", "instance", "better_of_both", "fused", "no_boxes"]
    # The third object, which no crop shows, counts for nobody.
    assert {s: of["psnr"] for s, of in systems.items()} == pytest.approx(
        {"gray": 34 / 3, "full": 20, "instance": 21, "better_of_both": 22, "fused": 65 / 3, "no_boxes": 20}
    )
    # The lower LPIPS is the better one.
    assert systems["better_of_both"]["lpips_alex"] == pytest.approx((0.3 + 0.2 + 0.1) / 3)
    assert systems["instance"]["by_size"]["32 to 64"]["psnr"] == 22.5
    assert set(found["differences"]) == {
        "instance_minus_full",
        "fused_minus_full",
        "fused_minus_instance",
        "fused_minus_no_boxes",
    }
    gain = found["differences"]["fused_minus_full"]
    assert gain["psnr"]["mean"] == pytest.approx(5 / 3)
    assert gain["psnr"]["objects"] == 3
    assert gain["by_size"]["below 16"]["psnr"] == {"mean": 1, "interval_95": None, "objects": 1}
    assert gain["by_size"]["32 to 64"]["psnr"] == {"mean": 2, "interval_95": (1, 3), "objects": 2}
    assert list(gain["by_size"]) == ["below 16", "32 to 64"]


def test_without_the_instance_network_there_is_nothing_to_compare() -> None:
    quiet = {s: of for s, of in SCORES.items() if s != "instance"}
    assert summary([10, 40, 40, 50], quiet).with_crop() == {}
    none = {**SCORES, "instance": {m: [np.nan] * 4 for m in ("psnr", "lpips_alex")}}
    assert summary([10, 40, 40, 50], none).with_crop() == {}


def test_paired_intervals_draw_whole_photos() -> None:
    """The two objects of photo 0 gain 4, that of photo 1 nothing: a draw has both, one or the other."""
    scores = {"full": {"psnr": [20.0, 20, 20]}, "fused": {"psnr": [24.0, 24, 20]}}
    found = summary([20, 20, 20], scores).paired("fused", "full")
    assert found["psnr"]["mean"] == pytest.approx(8 / 3)
    assert found["psnr"]["interval_95"] == (0, 4)
    assert found["by_size"]["16 to 32"] == {"psnr": found["psnr"]}


def test_which_is_better_is_not_known_of_every_metric() -> None:
    scores = {s: {"psnr": [1.0], "colorfulness_hs": [2.0]} for s in ("full", "instance")}
    found = summary([20], scores).with_crop()["systems"]["better_of_both"]
    assert found["psnr"] == 1
    assert found["colorfulness_hs"] is None


def test_a_row_of_the_table_of_objects_says_where_and_how_large() -> None:
    columns = summary([10, 40, 40, 50]).objects.csv_columns(["a", "b", "c"])
    assert list(columns) == ["name", "system", "x0", "y0", "width", "height", "side", "size", "psnr", "lpips_alex"]
    rows = list(zip(*columns.values(), strict=True))
    assert len(rows) == 5 * 4
    assert rows[1] == ("a", "gray", 1, 2, 3, 4, 40.0, "32 to 64", 11.0, 0.5)
    assert rows[4] == ("a", "full", 0, 0, 3, 4, 10.0, "below 16", 20.0, 0.3)
    assert np.isnan(rows[10][-1])
    assert rows[10][:2] == ("b", "instance")

"""Vivid decoding, the hint curve and samples, from batches to tables and the report."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor import resample
from jaxcolor.color import SaturationCurve
from jaxcolor.config import ConfigError, EvalConfig
from jaxcolor.evaluation import diversity
from jaxcolor.evaluation.color_choice import Diversity, SampledPhoto, canvas_boxes, photo_numbers
from jaxcolor.evaluation.evaluator import Evaluator, evaluate
from jaxcolor.evaluation.predictors import CONTROLS, HINT_SEED, Checkpoint, Predictors, check_names
from jaxcolor.evaluation.report.page import write_report
from jaxcolor.evaluation.results import Results, flat_metrics
from jaxcolor.evaluation.scorer import Scorer
from jaxcolor.evaluation.table_formats import latex, markdown
from jaxcolor.hints import BatchHints
from jaxcolor.models import hint_simulation, networks
from jaxcolor.models.outputs import ab_distribution
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.parallel import Devices
from tests import small
from tests.evaluation.batches import MODEL, SIDE
from tests.evaluation.test_evaluator import batches, colors_of

CLASSES = dataclasses.replace(MODEL, outputs=("regression", "classes"))
POINTS = (0, 3)
TEMPERATURE = 0.2


@pytest.fixture(scope="module")
def variables() -> dict[str, Any]:
    return small.variables(CLASSES)


def run(
    variables: dict[str, Any],
    size: int = 8,
    devices: int = 1,
    *,
    trees: tuple[str, ...] = networks.TREES,
    points: tuple[int, ...] = POINTS,
    samples: int = 2,
    controls: bool = False,
    metrics: str = "",
) -> Results:
    place = Devices.all("shard_map", jax.devices()[:devices])
    weights = [Checkpoint("", CLASSES, {tree: variables[tree] for tree in trees})]
    predictors = Predictors(weights, place, controls, TEMPERATURE)
    scorer = Scorer(EvalConfig(metrics=metrics, per_object=False), SIDE, place)
    evaluator = Evaluator(predictors, scorer, place, hint_points=points, samples=samples)
    return evaluate(evaluator, batches(size, devices))


@pytest.fixture(scope="module")
def results(variables: dict[str, Any]) -> Results:
    return run(variables, controls=True)


def psnr_of(truth: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    return diversity.psnr(rgb[None], truth)[0]


def test_vivid_is_the_annealed_mean_of_the_same_pass(variables: dict[str, Any], results: Results) -> None:
    assert list(results.scores) == ["gray", "full", "full_vivid", "fused", "fused_vivid", *CONTROLS]
    batch = batches(8, 1)[0].batch
    nets, lab = networks.build(CLASSES), networks.to_lab(batch, CLASSES)

    @jax.jit
    def logits(v: Any) -> tuple[jax.Array, jax.Array]:
        full, fused = networks.run_full(nets, v, lab.full.inputs), networks.run_fused(nets, v, lab)
        return full.outputs["classes"].logits, fused.outputs["classes"].logits

    full, fused = (
        resample.resize(ab_distribution.annealed_mean(x, TEMPERATURE), SIDE, SIDE) for x in logits(variables)
    )
    own = results.boxes > 0
    expected = {
        "full_vivid": full,
        "fused_vivid": jnp.where(jnp.asarray([*own, 0, 0, 0])[:, None, None, None], fused, full),
    }
    for name, ab in expected.items():
        psnr = psnr_of(batch.full_rgb, colors_of(batch, ab))[:5]
        np.testing.assert_allclose(results.scores[name]["psnr"], psnr, atol=0.01)
    metrics = results.to_metrics()
    assert {"fused_vivid_minus_fused", "full_vivid_minus_full"} < set(metrics["differences"])
    assert not any("vivid" in other for other in metrics["others"])
    assert f"temperature {TEMPERATURE}" in metrics["protocol"]["vivid"]
    assert flat_metrics(results)["psnr"] == flat_metrics(results)["fused_psnr"]
    assert "fused_vivid_psnr" in flat_metrics(results)
    with pytest.raises(UserError, match="cannot be called 'full_vivid'"):
        check_names(["full_vivid"])


def test_the_hint_curve_shows_the_photos_points_to_photo_and_crops(variables: dict[str, Any], results: Results) -> None:
    assert list(results.hint_scores) == ["full+0", "fused+0", "full+3", "fused+3"]
    for system in ("full", "fused"):
        np.testing.assert_allclose(
            results.hint_scores[f"{system}+0"]["psnr"], results.scores[system]["psnr"], atol=0.01
        )
    batch = batches(8, 1)[0].batch
    nets = networks.build(CLASSES)

    @jax.jit
    def hinted(v: Any) -> networks.Prediction:
        lab = networks.to_lab(batch, CLASSES)
        full = hint_simulation.random_points(jax.random.key(HINT_SEED), lab.full.ab, 3)
        crop = hint_simulation.crop_hints(full, lab.level_boxes[:, 0], lab.crop_to_image)
        return networks.predict(nets, v, batch, BatchHints(full, crop))._replace(fusion_weights={})

    found = hinted(variables)
    for name, ab in {"full+3": found.full_ab, "fused+3": found.ab}.items():
        psnr = psnr_of(batch.full_rgb, colors_of(batch, ab))[:5]
        np.testing.assert_allclose(results.hint_scores[name]["psnr"], psnr, atol=0.01)
    curve = results.to_metrics()["hint_curve"]
    assert list(curve) == ["full", "fused"]
    assert list(curve["full"]) == ["0", "3"]
    assert curve["fused"]["3"]["psnr"] == pytest.approx(results.hint_scores["fused+3"]["psnr"].mean())


def test_a_curve_of_the_weights_makes_vivid_before_the_class_head(variables: dict[str, Any]) -> None:
    """At full strength: twice the chroma of the safe result, whatever the distribution says; without a head too."""
    curve = SaturationCurve((0.0, 10.0), (0.0, 20.0))
    place = Devices.all("shard_map", jax.devices()[:1])
    weights = Checkpoint("", CLASSES, {"full": variables["full"]}, curve)
    assert weights._replace(model=MODEL).systems == ("full", "full_vivid")
    colors = Predictors([weights], place, False)(batches(4, 1)[0].batch).colors
    np.testing.assert_allclose(colors["full_vivid"], 2 * np.asarray(colors["full"]), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_same_in_other_batches_and_on_more_devices(variables: dict[str, Any], results: Results) -> None:
    found = run(variables, size=4, devices=2)
    assert results.diversity is not None
    assert found.diversity is not None
    for name, of in results.hint_scores.items():
        np.testing.assert_allclose(found.hint_scores[name]["psnr"], of["psnr"], atol=0.01)
    np.testing.assert_allclose(found.diversity.scores["psnr"], results.diversity.scores["psnr"], atol=0.01)
    for field in ("photo", "covered", "happened"):
        np.testing.assert_array_equal(getattr(found.diversity, field), getattr(results.diversity, field))
    np.testing.assert_allclose(found.diversity.probability, results.diversity.probability, atol=1e-4)


def test_what_is_said_of_samples(results: Results) -> None:
    found = results.diversity
    assert found is not None
    assert found.samples == 2
    assert found.photo.tolist() == [0, 2, 2, 3, 3, 3, 4]
    given = np.where(np.isnan(found.happened), 0, found.probability)
    np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(np.nansum(found.happened, axis=1), 1, atol=1e-6)
    summary = results.to_metrics()["diversity"]
    first, best = (of["mean"] for of in summary["best_of"]["psnr"])
    assert first == pytest.approx(found.scores["psnr"][0].mean())
    assert best == pytest.approx(found.scores["psnr"].max(axis=0).mean())
    assert summary["boxes"] == 7
    assert sum(summary["calibration"]["counts"]) == (~np.isnan(found.happened)).sum()
    assert summary["pairwise"] == {}  # no perceptual metric on so small a canvas
    assert [photo.name for photo in found.pictures] == [f"photo{i}" for i in range(5)]
    for i, photo in enumerate(found.pictures):
        psnr = psnr_of(np.stack([photo.truth] * 2), np.stack(photo.samples))
        np.testing.assert_allclose(psnr, found.scores["psnr"][:, i], atol=0.01)


def test_the_full_tree_alone_has_no_fused_systems(variables: dict[str, Any], results: Results) -> None:
    found = run(variables, trees=("full",), controls=True)
    assert list(found.scores) == ["gray", "full", "full_vivid"]
    assert list(found.hint_scores) == ["full+0", "full+3"]
    assert found.diversity is not None
    assert found.diversity.photo.tolist() == results.diversity.photo.tolist()  # type: ignore[union-attr]
    assert "no fusion tree" in found.to_metrics()["protocol"]["systems_left_out"]


def test_without_a_class_head_nothing_is_drawn() -> None:
    place = Devices.all("shard_map", jax.devices()[:1])
    variables = {"full": small.variables(MODEL)["full"]}
    predictors = Predictors([Checkpoint("", MODEL, variables)], place, False)
    evaluator = Evaluator(predictors, Scorer(EvalConfig(metrics=""), SIDE, place), place, samples=4)
    assert evaluator.samples == 0
    assert predictors.systems == ("full",)
    named = Predictors([Checkpoint("old", CLASSES, {"full": {}})], place, False)
    assert Evaluator(named, evaluator.scorer, place, hint_points=(0,), samples=4).hint_points == ()


def test_boxes_of_the_comparison_on_the_canvas() -> None:
    boxes = np.array([[10, 20, 30, 40], [100, 60, 1, 1], [199, 99, 1, 1], [0, 0, 0, 0]])
    found = canvas_boxes(boxes, np.array([[100, 200], [32, 32]]), np.array([0, 0, 0, -1]), 32)
    assert found.tolist() == [[2, 6, 4, 13], [16, 19, 1, 1], [31, 31, 1, 1], [0, 0, 0, 0]]
    same = canvas_boxes(boxes[:1], np.array([[100, 200], [64, 64]]), np.array([1]), 64)
    assert same.tolist() == [[10, 20, 30, 40]]


def test_photo_numbers() -> None:
    place = Devices.all("shard_map", jax.devices()[:2])
    batch = batches(4, 2)[1].batch
    assert photo_numbers(batch, 1, place).tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hint_points", "0,x"),
        ("hint_points", "-1"),
        ("hint_points", "1,,2"),
        ("hint_points", "5000"),
        ("samples", -1),
        ("vivid_temperature", -0.1),
    ],
)
def test_bad_settings_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        EvalConfig(**{field: value})


def test_hint_counts() -> None:
    assert EvalConfig(hint_points="100, 0,1,10,1").hint_counts == (0, 1, 10, 100)
    assert EvalConfig().hint_counts == ()


def test_best_of_takes_each_metrics_own_direction() -> None:
    found = Diversity(
        2,
        {"psnr": np.array([[20.0, 120.0], [22.0, 30.0]]), "lpips_alex": np.array([[0.3, 0.2], [0.1, 0.4]])},
        {"psnr": True, "lpips_alex": False},
        {"lpips_alex": np.array([0.5, 0.0])},
        np.zeros(0, int),
        np.zeros(0),
        np.zeros((0, 4)),
        np.zeros((0, 4)),
    )
    summary = found.summary({"psnr": 100.0})
    assert [of["mean"] for of in summary["best_of"]["psnr"]] == [60, 61]
    assert [of["mean"] for of in summary["best_of"]["lpips_alex"]] == pytest.approx([0.25, 0.15])
    assert summary["pairwise"]["lpips_alex"]["mean"] == 0.25
    assert summary["coverage"] is None


def with_samples(results: Results) -> Results:
    found = results.diversity
    assert found is not None
    nasty = SampledPhoto("<b>&", np.zeros((0, 4), int), *((p := found.pictures[0]).truth, p.samples))
    measured = found._replace(
        scores={**found.scores, "lpips_alex": np.full((2, 5), 0.25)},
        higher_is_better={**found.higher_is_better, "lpips_alex": False},
        pairwise={"lpips_alex": np.full(5, 0.125)},
        pictures=(nasty,),
    )
    return dataclasses.replace(results, diversity=measured)


def test_tables_and_report(results: Results, tmp_path: Path) -> None:
    shown = with_samples(results)
    metrics = shown.to_metrics()
    json.dumps(metrics, allow_nan=False)
    text = markdown(metrics)
    for line in ("| fused, 3 points ", "| fused, vivid ", "| best of 2 ", "| between two samples ", "| palettes "):
        assert line in text
    assert "Calibration of palettes" in latex(metrics)
    write_report(tmp_path / "report.html", "t", shown, {}, metrics=metrics)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<img src=") == 3
    assert "&lt;b&gt;&amp;" in page
    assert page.count('id="hints-')
    assert page.count('id="reliability-')
    assert "#010203" not in page
    assert "Choice of color" in page
    write_report(tmp_path / "plain.html", "t", dataclasses.replace(results, diversity=None, hint_scores={}), {})
    assert "Choice of color" not in (tmp_path / "plain.html").read_text(encoding="utf-8")

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from jaxcolor import color, resample
from jaxcolor.boxes import level_boxes
from jaxcolor.config import EvalConfig, ModelConfig
from jaxcolor.data.loader import LoadedBatch
from jaxcolor.evaluation.evaluator import Evaluator, evaluate
from jaxcolor.evaluation.predictions import Predictions
from jaxcolor.evaluation.predictors import CONTROLS, SYSTEMS, Checkpoint, Predictors
from jaxcolor.evaluation.results import Results
from jaxcolor.evaluation.scorer import Scorer
from jaxcolor.models.networks import build, network_input, predict, run_instance, to_lab
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.parallel import Devices
from tests.evaluation.batches import BASIC, BOXES, MODEL, SIDE, example, loaded


def batches(size: int, device_count: int) -> list[LoadedBatch]:
    """The five photos of BOXES in batches of ``size``, the last one filled up."""
    examples = [example(i, boxes) for i, boxes in enumerate(BOXES)]
    result = []
    for start in range(0, len(examples), size):
        part = examples[start : start + size]
        made = loaded([*part, *[None] * (size - len(part))], device_count)
        names = tuple(f"photo{start + i}" if i < len(part) else "" for i in range(size))
        result.append(made._replace(names=names))
    return result


def run(
    variables: dict[str, Any],
    size: int,
    device_count: int,
    mapping: str = "shard_map",
    *,
    controls: bool = True,
    shown_photos: int = 0,
    metrics: str = "",
    predictions: Sequence[Predictions] = (),
    others: Sequence[Checkpoint] = (),
) -> Results:
    devices = Devices.all(mapping, jax.devices()[:device_count])
    predictors = Predictors([Checkpoint("", MODEL, variables), *others], devices, controls)
    scorer = Scorer(EvalConfig(metrics=metrics), SIDE, devices)
    evaluator = Evaluator(predictors, scorer, devices, predictions)
    return evaluate(evaluator, batches(size, device_count), shown_photos=shown_photos)


@pytest.fixture(scope="module")
def results(variables: dict[str, Any]) -> Results:
    return run(variables, 8, 1, shown_photos=3)


def test_every_photo_counts_once_and_filled_places_never(results: Results) -> None:
    assert results.names == ("photo0", "photo1", "photo2", "photo3", "photo4")
    assert results.boxes.tolist() == [1, 0, 2, 3, 1]
    assert list(results.scores) == [*SYSTEMS, *CONTROLS]
    assert all(v.shape == (5,) for scores in results.scores.values() for v in scores.values())
    assert results.to_metrics()["photos_with_boxes"] == 4


def test_gray_is_the_photo_without_its_ab(results: Results) -> None:
    for i, boxes in enumerate(BOXES):
        truth = example(i, boxes).full_rgb
        assert truth is not None
        lab = color.rgb_to_lab(truth.astype(np.float64) / 255)
        gray = color.quantize_rgb(color.lab_to_rgb(lab * [1, 0, 0]))
        inside = np.zeros((SIDE, SIDE), bool)
        for x0, y0, x1, y1 in boxes:
            inside[y0:y1, x0:x1] = True
        np.testing.assert_allclose(results.chroma[i], np.hypot(lab[..., 1], lab[..., 2]).mean(), rtol=1e-4)
        scores = results.scores["gray"]
        expected = peak_signal_noise_ratio(truth, gray, data_range=255)
        np.testing.assert_allclose(scores["psnr"][i], expected, atol=0.01)
        if boxes:
            expected = peak_signal_noise_ratio(truth[inside], gray[inside], data_range=255)
            np.testing.assert_allclose(scores["psnr_objects"][i], expected, atol=0.01)
        expected = peak_signal_noise_ratio(truth[~inside], gray[~inside], data_range=255)
        np.testing.assert_allclose(scores["psnr_background"][i], expected, atol=0.01)


def test_a_photo_without_boxes_has_no_objects_and_gets_the_full_trees_colors(results: Results) -> None:
    for system in (*SYSTEMS, *CONTROLS):
        scores = results.scores[system]
        assert np.isnan(scores["psnr_objects"][1])
        assert np.isnan(scores["ssim_objects"][1])
        np.testing.assert_allclose(scores["psnr_background"][1], scores["psnr"][1], rtol=1e-5)
    for name in ("fused", *CONTROLS):
        np.testing.assert_array_equal(results.scores[name]["psnr"][1], results.scores["full"]["psnr"][1])
    assert results.mean("full", "psnr_objects").photos == 4
    assert results.mean("full", "psnr").photos == 5


def colors_of(batch: Any, ab: jax.Array) -> np.ndarray:
    lab = np.array(color.rgb_to_lab(batch.full_rgb.astype(np.float32) / 255))
    lab[..., 1:] = np.asarray(ab) * color.AB_SCALE
    return color.quantize_rgb(color.lab_to_rgb(lab))


def test_systems_and_controls_are_what_the_model_predicts(variables: dict[str, Any], results: Results) -> None:
    batch = batches(8, 1)[0].batch
    networks = build(MODEL)
    colors = jax.jit(lambda b: predict(networks, variables, b)._replace(fusion_weights={}))
    plain = colors(batch)
    bare = colors(batch._replace(crop_to_image=np.full_like(batch.crop_to_image, -1)))
    expected = {
        "full": colors_of(batch, plain.full_ab),
        "fused": colors_of(batch, plain.ab),
        "no_boxes": colors_of(batch, bare.fused_ab),
    }
    for name, rgb in expected.items():
        for i in (0, 2, 3, 4):
            psnr = peak_signal_noise_ratio(batch.full_rgb[i], rgb[i], data_range=255)
            np.testing.assert_allclose(results.scores[name]["psnr"][i], psnr, atol=0.01)
    for i, shown in enumerate(results.pictures):
        difference = shown.panels["fused"].astype(int) - expected["fused"][i]
        assert np.abs(difference).max() <= 1
    with_boxes = [0, 2, 3, 4]
    for control in CONTROLS:
        changed = results.scores[control]["psnr"] != results.scores["fused"]["psnr"]
        assert changed[with_boxes].all()


def test_the_instance_network_alone_is_measured_of_single_objects(variables: dict[str, Any], results: Results) -> None:
    assert "instance" not in results.scores
    assert list(results.objects.scores) == ["gray", "full", "instance", "fused", *CONTROLS]
    batch = batches(8, 1)[0].batch
    networks = build(MODEL)
    lab = to_lab(batch, MODEL)
    real = np.flatnonzero(np.asarray(batch.crop_to_image) >= 0)
    owner, boxes = np.asarray(batch.crop_to_image)[real], jnp.asarray(batch.level_boxes[real, 0])
    run_crops = jax.jit(lambda x: run_instance(networks, variables, x, lab.crop_to_image).ab)
    crop_ab = run_crops(network_input(lab.crop.luminance))[real]
    full_ab = jax.jit(lambda b: predict(networks, variables, b).full_ab)(batch)[owner]
    inside = resample.inside(boxes, SIDE, SIDE)[..., None]
    truth = batch.full_rgb[owner]
    shown = colors_of(
        batch._replace(full_rgb=truth), jnp.where(inside, resample.paste(crop_ab, boxes, SIDE, SIDE), full_ab)
    )
    cut = [jnp.round(resample.crop(jnp.asarray(x, jnp.float32), boxes, SIDE, SIDE)) for x in (truth, shown)]
    for crop, box in enumerate(np.asarray(boxes).tolist()):
        psnr = peak_signal_noise_ratio(*(np.asarray(x[crop]) for x in cut), data_range=255)
        place = results.objects.boxes.tolist().index(box)
        np.testing.assert_allclose(results.objects.scores["instance"]["psnr"][place], psnr, atol=0.02)
    np.testing.assert_allclose(results.objects.sides, np.sqrt(results.objects.boxes[:, 2:].prod(axis=1)))


def test_an_object_that_no_crop_shows_has_no_instance_score(variables: dict[str, Any]) -> None:
    devices = Devices.all("shard_map", jax.devices()[:1])
    (batch,) = batches(8, 1)
    assert batch.compared is not None
    # The annotated objects of the first photo: its box, and one elsewhere.
    objects = (np.array([[2, 2, 18, 18], [20, 20, 6, 6]], np.int32), *batch.compared.objects[1:])
    changed = batch._replace(compared=batch.compared._replace(objects=objects))
    predictors = Predictors([Checkpoint("", MODEL, variables)], devices, controls=True)
    found = evaluate(Evaluator(predictors, Scorer(EvalConfig(metrics=""), SIDE, devices), devices), [changed])
    assert np.isnan(found.objects.scores["instance"]["psnr"]).tolist() == [False, True] + [False] * 6
    assert not np.isnan(found.objects.scores["fused"]["psnr"]).any()
    quiet = Predictors([Checkpoint("", MODEL, variables)], devices, controls=False)
    assert not quiet.has_instance


def evaluated(variables: dict[str, Any], batch: LoadedBatch) -> Results:
    devices = Devices.all("shard_map", jax.devices()[:1])
    predictors = Predictors([Checkpoint("", MODEL, variables)], devices, controls=True)
    return evaluate(Evaluator(predictors, Scorer(EvalConfig(metrics=""), SIDE, devices), devices), [batch])


def test_without_annotations_the_boxes_in_use_are_measured(variables: dict[str, Any], results: Results) -> None:
    (batch,) = batches(8, 1)
    assert batch.compared is not None
    nobody = tuple(boxes[:0] for boxes in batch.compared.objects)
    bare = batch.compared._replace(objects=nobody, annotated=np.zeros(8, bool))
    found = evaluated(variables, batch._replace(compared=bare))
    assert not found.objects.annotated
    assert "missed" not in found.facets
    assert "there are no annotated ones" in found.protocol["objects_measured"]
    np.testing.assert_array_equal(found.objects.boxes, results.objects.boxes)
    for system, scores in results.objects.scores.items():
        np.testing.assert_array_equal(found.objects.scores[system]["psnr"], scores["psnr"])
    # Where some photos are annotated, only annotated objects count.
    first = bare._replace(objects=(batch.compared.objects[0], *nobody[1:]), annotated=np.arange(8) == 0)
    some = evaluated(variables, batch._replace(compared=first))
    assert some.objects.annotated
    assert some.objects.photo.tolist() == [0]
    assert some.objects.sides.tolist() == [18]


def test_objects_are_where_their_boxes_are_whatever_the_crops_show(variables: dict[str, Any], results: Results) -> None:
    """Crops that show more than their boxes: the same objects are measured, of the same pixels."""
    (batch,) = batches(8, 1)
    index = np.asarray(batch.batch.crop_to_image)
    wide = np.where((index >= 0)[:, None, None], level_boxes(np.array([[0, 0, SIDE, SIDE]]), (SIDE, SIDE), SIDE), 0)
    found = evaluated(variables, batch._replace(batch=batch.batch._replace(level_boxes=wide)))
    np.testing.assert_array_equal(found.objects.boxes, results.objects.boxes)
    for system in ("gray", "full"):
        np.testing.assert_array_equal(found.objects.scores[system]["psnr"], results.objects.scores[system]["psnr"])
        for metric in ("psnr_objects", "psnr_background"):
            np.testing.assert_array_equal(found.scores[system][metric], results.scores[system][metric])
    alone, before = (of.objects.scores["instance"]["psnr"] for of in (found, results))
    assert not np.isnan(alone).any()
    assert (alone != before).all()


def test_what_fills_up_a_batch_changes_no_object(variables: dict[str, Any], results: Results) -> None:
    (batch,) = batches(8, 1)
    crops, photos = batch.batch.crop_to_image < 0, ~batch.batch.is_real
    assert crops.any()
    assert photos.any()
    rng = np.random.default_rng(0)
    noisy = batch.batch._replace(full_rgb=batch.batch.full_rgb.copy(), crop_rgb=batch.batch.crop_rgb.copy())
    noisy.full_rgb[photos] = rng.integers(0, 256, noisy.full_rgb[photos].shape)
    noisy.crop_rgb[crops] = rng.integers(0, 256, noisy.crop_rgb[crops].shape)
    assert batch.compared is not None
    found = evaluated(variables, batch._replace(batch=noisy, compared=batch.compared._replace(rgb=noisy.full_rgb)))
    for system, scores in results.objects.scores.items():
        np.testing.assert_allclose(found.objects.scores[system]["psnr"], scores["psnr"], atol=1e-4)


def assert_close(found: Results, expected: Results) -> None:
    assert found.names == expected.names
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    for system, scores in expected.scores.items():
        for metric in BASIC:
            # One color in a thousand may round the other way on another layout.
            np.testing.assert_allclose(found.scores[system][metric], scores[metric], atol=0.01)
    if "instance" in found.objects.scores:
        for metric, values in expected.objects.scores["instance"].items():
            np.testing.assert_allclose(found.objects.scores["instance"][metric], values, atol=0.01)
    if len(expected.chroma):
        np.testing.assert_allclose(found.chroma, expected.chroma, rtol=1e-5)


@pytest.mark.parametrize("mapping", ["shard_map", pytest.param("pmap", marks=pytest.mark.slow)])
def test_the_same_numbers_on_eight_devices(variables: dict[str, Any], results: Results, mapping: str) -> None:
    assert_close(run(variables, 8, 8, mapping), results)


def test_the_same_systems_in_other_batches(variables: dict[str, Any], results: Results) -> None:
    found = run(variables, 2, 1, controls=False)
    assert set(found.scores) == set(SYSTEMS)
    assert_close(found, Results(results.names, results.boxes, {s: results.scores[s] for s in SYSTEMS}, 0, 0, {}, ()))


def test_alone_in_its_batch_a_photo_misses_in_the_control_of_other_crops(variables: dict[str, Any]) -> None:
    found = run(variables, 2, 1)
    # Batches (0, 1), (2, 3), (4, filled up): 1 has no boxes, so 0 and 4 find no other photo's crops.
    assert np.isnan(found.scores["other_crops"]["psnr"]).tolist() == [True, False, False, False, True]
    assert not np.isnan(found.scores["no_boxes"]["psnr"]).any()
    assert found.difference("fused", "other_crops", "psnr").photos == 3


def test_pictures_are_those_of_the_first_photos(results: Results) -> None:
    assert [shown.name for shown in results.pictures] == ["photo0", "photo1", "photo2"]
    assert [len(shown.boxes) for shown in results.pictures] == [1, 0, 2]
    assert results.pictures[2].boxes.tolist() == [[0, 0, 16, 16], [10, 10, 20, 22]]
    for i, shown in enumerate(results.pictures):
        assert set(shown.panels) == {*SYSTEMS, *CONTROLS, "truth"}
        np.testing.assert_array_equal(shown.panels["truth"], example(i, BOXES[i]).full_rgb)


def test_weights_of_the_full_tree_alone(variables: dict[str, Any], results: Results) -> None:
    found = run({"full": variables["full"]}, 8, 1, shown_photos=1)
    assert list(found.scores) == ["gray", "full"]
    np.testing.assert_allclose(found.scores["full"]["psnr"], results.scores["full"]["psnr"], atol=0.01)
    metrics = found.to_metrics()
    assert "fused" not in metrics
    assert metrics["controls"] == {}
    assert "no fusion tree" in metrics["protocol"]["systems_left_out"]
    assert set(found.pictures[0].panels) == {"gray", "full", "truth"}


def test_what_cannot_be_evaluated_is_refused(variables: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="without the tree 'full'; the weights hold instance"):
        run({"instance": variables["instance"]}, 8, 1)
    devices = Devices.all("shard_map", jax.devices()[:1])
    with pytest.raises(UserError, match="at least 11 pixels for SSIM, not 8"):
        Scorer(EvalConfig(), 8, devices)
    full = {"full": variables["full"]}
    with pytest.raises(UserError, match="old: its canvas is 64 pixels wide, that of the others 32"):
        Predictors([Checkpoint("", MODEL, full), Checkpoint("old", ModelConfig(side=64), full)], devices, False)
    evaluator = Evaluator(
        Predictors([Checkpoint("", MODEL, full)], devices, False),
        Scorer(EvalConfig(metrics=""), SIDE, devices),
        devices,
    )
    with pytest.raises(UserError, match="no photo"):
        evaluate(evaluator, [])
    with pytest.raises(ValueError, match="without the ground truth"):
        evaluator.measure(loaded([example(0, [])])._replace(compared=None))

"""Constructed pictures in which one thing is wrong at a time."""

from collections.abc import Sequence

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2lab

from jaxcolor.color import lab_to_rgb, quantize_rgb
from jaxcolor.evaluation.controls import iou
from jaxcolor.evaluation.report.failures import (
    KINDS,
    failure_measures,
    find,
    gray_descriptor,
    missed_share,
    usual_chroma,
)

SIDE = 64
BOX = [16, 16, 32, 32]
RED, GREEN = (45.0, 30.0), (-40.0, 35.0)

_measures = jax.jit(failure_measures)


def rgb(lightness: np.ndarray | float, a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    parts = [np.broadcast_to(part, (SIDE, SIDE)).astype(np.float64) for part in (lightness, a, b)]
    return np.asarray(quantize_rgb(lab_to_rgb(np.stack(parts, axis=-1))))


def disc(radius: float) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return x**2 + y**2 < radius**2


def colored(object_mask: np.ndarray, color_mask: np.ndarray, edge: float = 25.0) -> np.ndarray:
    """A lighter object on green, with red where the second mask says."""
    lightness = np.where(object_mask, 55 + edge / 2, 55 - edge / 2)
    a, b = (np.where(color_mask, r, g) for r, g in zip(RED, GREEN, strict=True))
    return rgb(lightness, a, b)


def measure(
    prediction: np.ndarray, truth: np.ndarray, boxes: Sequence[Sequence[int]] = (BOX,), padding: int = 1
) -> dict[str, float]:
    """Of one photo, after another one with a box of its own, so that they must be told apart."""
    batch = [np.stack([truth[::-1], picture]) for picture in (prediction, truth)]
    packed = np.array([[0, 0, 64, 20], *boxes, *[[0, 0, 0, 0]] * padding], np.int32)
    index = np.array([0, *[1] * len(boxes), *[-1] * padding], np.int32)
    return {name: float(values[1]) for name, values in _measures(*batch, packed, index).items()}


def test_bleeding_is_color_that_leaves_its_object() -> None:
    truth = colored(disc(12), disc(12))
    clean = measure(truth, truth)
    spilled = measure(colored(disc(12), disc(17)), truth)
    boxed = np.zeros((SIDE, SIDE), bool)
    boxed[16:48, 16:48] = True
    filled = measure(colored(disc(12), boxed), truth)
    assert clean["bleeding"] == 0
    # The disc of radius 17 ends near the box's border here and there; the filled box all along it.
    assert filled["bleeding"] > spilled["bleeding"] > 10
    assert measure(colored(disc(12), disc(25)), truth)["bleeding"] < spilled["bleeding"]


def test_color_that_changes_where_lightness_does_is_no_bleeding() -> None:
    boxed = np.zeros((SIDE, SIDE), bool)
    boxed[16:48, 16:48] = True
    truth = rgb(np.where(boxed, 70.0, 40.0), 5.0, 5.0)
    prediction = colored(boxed, boxed, edge=30.0)
    assert measure(prediction, truth)["bleeding"] < 0.5
    # The same colors over a flat gray: now nothing explains them.
    assert measure(colored(boxed, boxed, edge=0.0), rgb(55.0, 5.0, 5.0))["bleeding"] > 10


def test_color_changes_that_the_truth_has_too_are_no_bleeding() -> None:
    boxed = np.zeros((SIDE, SIDE), bool)
    boxed[16:48, 16:48] = True
    truth = colored(boxed, boxed, edge=0.0)
    assert measure(truth, truth)["bleeding"] == 0
    assert measure(np.roll(truth, 1, axis=1), truth)["bleeding"] < 1
    assert measure(np.roll(truth, 2, axis=1), truth)["bleeding"] > 5


def test_only_borders_of_boxes_are_asked_and_the_worst_box_counts() -> None:
    boxed = np.zeros((SIDE, SIDE), bool)
    boxed[16:48, 16:48] = True
    truth, prediction = rgb(55.0, 0.0, 0.0), colored(boxed, boxed, edge=0.0)
    assert measure(prediction, truth, [[24, 24, 16, 16]])["bleeding"] == 0
    one = measure(prediction, truth, [BOX])["bleeding"]
    assert measure(prediction, truth, [[24, 24, 16, 16], BOX])["bleeding"] == pytest.approx(one)
    # A box as large as the picture has no border in it.
    assert np.isnan(measure(prediction, truth, [[0, 0, SIDE, SIDE]])["bleeding"])
    assert np.isnan(measure(prediction, truth, [])["bleeding"])


def test_overlapping_boxes_count_by_their_overlap_and_its_color_error() -> None:
    truth = colored(disc(12), disc(12))
    wrong = rgb(np.where(disc(12), 67.5, 42.5), -30.0, -30.0)
    apart, half = [[0, 0, 32, 64], [32, 0, 32, 64]], [[0, 0, 48, 64], [16, 0, 48, 64]]
    assert measure(wrong, truth, apart)["overlapping"] == 0
    assert measure(truth, truth, half)["overlapping"] == 0
    small = measure(wrong, truth, [[0, 0, 34, 64], [30, 0, 34, 64]])["overlapping"]
    assert measure(wrong, truth, half)["overlapping"] > 4 * small > 0
    seen, true = (rgb2lab(picture)[..., 1:] for picture in (wrong, truth))
    whole = measure(wrong, truth, [[0, 0, SIDE, SIDE]] * 2)["overlapping"]
    assert whole == pytest.approx(np.linalg.norm(seen - true, axis=-1).mean(), rel=1e-3)
    assert np.isnan(measure(wrong, truth, [BOX])["overlapping"])


def test_chroma_and_coverage() -> None:
    found = measure(rgb(50.0, 3.0, 4.0), rgb(50.0, 6.0, 8.0), [[0, 0, 32, 64], [16, 0, 32, 64]])
    assert found["chroma"] == pytest.approx(5, abs=0.5)
    assert found["chroma_truth"] == pytest.approx(10, abs=0.5)
    assert found["covered"] == 0.75


def test_every_score_has_its_title_and_gray_and_noise_are_finite() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    found = measure(noise, rgb(50.0, 0.0, 0.0), [BOX, BOX])
    assert all(np.isfinite(v) for v in found.values())
    assert set(find({k: np.array([v, v]) for k, v in found.items()}, np.zeros((2, 3)), np.zeros(2))) == set(KINDS)


def kinds_of_photos() -> tuple[np.ndarray, np.ndarray]:
    """Descriptors of ten bright and ten dark photos, and chroma: the bright ones have 40, the dark ones 8."""
    rng = np.random.default_rng(0)
    pictures = [rgb(level + rng.normal(0, 2, (SIDE, SIDE)), 0.0, 0.0) for level in [80] * 10 + [25] * 10]
    descriptors = np.asarray(jax.jit(gray_descriptor)(np.stack(pictures)))
    return descriptors, np.array([40.0] * 10 + [8.0] * 10)


def test_washed_out_is_less_than_usual_for_photos_of_that_kind() -> None:
    descriptors, chroma_truth = kinds_of_photos()
    np.testing.assert_array_equal(usual_chroma(descriptors, chroma_truth), chroma_truth)
    chroma = chroma_truth.copy()
    chroma[3], chroma[12] = 8.0, 12.0
    none = np.full(20, np.nan)
    scores = find(
        {"chroma": chroma, "chroma_truth": chroma_truth, "bleeding": none, "overlapping": none}, descriptors, none
    )
    # 8 is much too little among bright photos; among dark ones 12 is more than enough.
    assert scores["washed_out"][3] == 32
    assert scores["washed_out"].sum() == 32
    assert "missed" not in scores


def test_a_photo_that_is_truly_gray_is_not_washed_out() -> None:
    descriptors, chroma_truth = kinds_of_photos()
    chroma_truth[0] = 1.0
    measures = dict.fromkeys(("chroma_truth", "bleeding", "overlapping"), chroma_truth) | {"chroma": np.zeros(20)}
    assert find(measures, descriptors)["washed_out"][0] == 1
    assert np.isnan(find({k: v[:1] for k, v in measures.items()}, descriptors[:1])["washed_out"]).all()


def test_descriptors_tell_layouts_apart_and_do_not_see_color() -> None:
    half = np.arange(SIDE)[:, None] < SIDE / 2
    top, bottom = rgb(np.where(half, 80.0, 20.0), 0, 0), rgb(np.where(half, 20.0, 80.0), 0, 0)
    colored = rgb(np.where(half, 80.0, 20.0), 12.0, 12.0)
    one, other, same = np.asarray(jax.jit(gray_descriptor)(np.stack([top, bottom, colored])))
    assert np.abs(one - same).max() < 0.02
    assert np.abs(one - other).max() > 0.5


@pytest.mark.parametrize("near", [1, 3, 100])
def test_usual_chroma_is_that_of_the_nearest_by_any_search(near: int) -> None:
    rng = np.random.default_rng(1)
    descriptors, chroma = rng.normal(size=(30, 5)) * [1, 10, 0.1, 3, 0], rng.uniform(0, 50, 30)
    scaled = descriptors[:, :4] / descriptors[:, :4].std(axis=0)
    expected = []
    for i in range(30):
        others = sorted((float(np.linalg.norm(scaled[i] - scaled[j])), j) for j in range(30) if j != i)
        expected.append(np.median([chroma[j] for _, j in others[:near]]))
    np.testing.assert_allclose(usual_chroma(descriptors, chroma, near), expected)


def test_missed_objects_by_the_area_that_no_box_meets() -> None:
    annotated = np.array([[0, 0, 32, 32], [32, 32, 16, 32], [40, 32, 16, 32]], np.int32)
    none = np.zeros((0, 4), np.int32)
    assert missed_share(annotated, annotated, SIDE) == 0
    assert missed_share(none, annotated, SIDE) == 0
    # The two on the right share half of their pixels, which count once.
    assert missed_share(annotated, annotated[:1], SIDE) == 24 * 32 / SIDE**2
    assert missed_share(annotated[:1], none, SIDE) == 0.25
    # IoU exactly one half still covers; a little less does not.
    assert missed_share(annotated[:1], np.array([[0, 0, 32, 16]]), SIDE) == 0
    assert missed_share(annotated[:1], np.array([[0, 0, 32, 15]]), SIDE) == 0.25


box = st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 20)] * 2)


@settings(deadline=None, max_examples=60)
@given(st.lists(box, min_size=1, max_size=4), st.lists(box, max_size=3))
def test_iou_is_that_of_pixels(first: list[tuple[int, ...]], second: list[tuple[int, ...]]) -> None:
    def mask(box: tuple[int, ...]) -> np.ndarray:
        seen = np.zeros((40, 40), bool)
        seen[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = True
        return seen

    found = iou(np.array(first).reshape(-1, 4), np.array(second, int).reshape(-1, 4))
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            assert found[i, j] == pytest.approx((mask(a) & mask(b)).sum() / (mask(a) | mask(b)).sum())

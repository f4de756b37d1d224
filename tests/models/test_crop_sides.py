"""Crops of several sides through the networks, against each crop by itself."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.batch import Batch, split_by_side
from jaxcolor.data.collate import CropPlaces, collate
from jaxcolor.data.types import Example
from jaxcolor.hints import Hints
from jaxcolor.models import networks
from jaxcolor.models.fusion import Instances, placed_logit
from jaxcolor.models.hint_simulation import crop_hints, hints_by_side
from jaxcolor.models.ops import blend
from jaxcolor.resample import inside
from tests.small import FEW, SIDE, example, photo, variables
from tests.test_resample import slow_paste

SMALL = 8
PLACES = (CropPlaces(SIDE, 3), CropPlaces(SMALL, 4))
NETS = networks.build(FEW)


def of_sides(seed: int, boxes: list[list[int]], sides: list[int]) -> Example:
    """A photo whose crops are random pictures of these sides."""
    rng = np.random.default_rng(seed)
    return example(seed, boxes)._replace(crop_rgb=[photo(rng, side, side) for side in sides])


EXAMPLES = [
    of_sides(0, [[1, 1, 5, 6], [3, 3, 15, 16], [2, 2, 7, 9]], [SMALL, SIDE, SMALL]),
    of_sides(1, [], []),
    of_sides(2, [[0, 0, 16, 16], [9, 8, 12, 12]], [SIDE, SMALL]),
]
BATCH = collate(EXAMPLES, device_count=1, capacity=PLACES, side=SIDE, with_full=True).batch

Predict = Callable[[Batch], networks.Prediction]


@pytest.fixture(scope="module")
def predict() -> Any:
    """Compiled once; variables are arguments, as XLA would fold constants for longer than it compiles."""
    compiled = jax.jit(lambda tree, batch: networks.predict(NETS, tree, batch))
    return lambda batch: jax.device_get(compiled(variables(FEW), batch))


def test_the_batch_is_packed_by_side() -> None:
    assert [crops.shape[:2] for crops in BATCH.crops] == [(3, SIDE), (4, SMALL)]
    np.testing.assert_array_equal(BATCH.crop_to_image, [0, 2, -1, 0, 0, 2, -1])


def test_packed_crops_are_each_crop_by_itself(predict: Predict) -> None:
    """One call of the instance network for each crop, resized by itself, and their features fused one by one."""
    tree = variables(FEW)
    alone = jax.jit(lambda tree, shown: networks.run_instance(NETS, tree, shown, jnp.zeros(1, int)))
    taps, index, boxes = [], [], []
    for number, e in enumerate(EXAMPLES):
        for crop, box in zip(e.crop_rgb, e.level_boxes, strict=True):
            taps.append(alone(tree, networks.picture(crop[None], FEW).inputs).taps)
            index.append(number)
            boxes.append(box)
    separate = {name: tuple(of_crop[name] for of_crop in taps) for name in taps[0]}
    inputs = networks.picture(BATCH.full_rgb, FEW).inputs
    run = jax.jit(lambda *given: networks.run_fusion(NETS, *given))
    expected = run(tree, inputs, separate, jnp.array(index, jnp.int32), jnp.asarray(np.stack(boxes)))
    found = predict(BATCH)
    np.testing.assert_allclose(found.fused_ab, expected.ab, atol=2e-5)
    assert np.abs(found.fused_ab - found.full_ab)[[0, 2]].max() > 1e-2
    # On the axis of the batch crops stand side by side: 1, 3, 0, 2, 4 are those of the photos in order.
    order = [1, 3, 0, 2, 4]
    for name, weights in found.fusion_weights.items():
        theirs = expected.fusion_weights[name].instance[jnp.array(order)]
        np.testing.assert_allclose(weights.instance[BATCH.crop_to_image >= 0], theirs, atol=2e-5)
        for owner, full in enumerate(weights.full):
            total = full + weights.instance[owner == BATCH.crop_to_image].sum(axis=0)
            np.testing.assert_allclose(total, 1, atol=1e-5)


def test_garbage_in_padding_changes_no_bit(predict: Predict) -> None:
    rng = np.random.default_rng(9)
    owners = split_by_side(BATCH.crop_to_image, BATCH.crops)
    wild = [
        np.where((own < 0)[:, None, None, None], rng.integers(0, 256, crops.shape, np.uint8), crops)
        for crops, own in zip(BATCH.crops, owners, strict=True)
    ]
    assert all((ours != theirs).any() for ours, theirs in zip(wild, BATCH.crops, strict=True))
    boxes = rng.integers(-3, 40, BATCH.level_boxes.shape, np.int32)
    changed = BATCH._replace(
        crop_rgb=wild[0],
        smaller_crops=tuple(wild[1:]),
        level_boxes=np.where((BATCH.crop_to_image < 0)[:, None, None], boxes, BATCH.level_boxes),
    )
    for ours, theirs in zip(jax.tree.leaves(predict(changed)), jax.tree.leaves(predict(BATCH)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_pixels_of_every_crop_count(predict: Predict) -> None:
    plain = predict(BATCH).ab
    for k, rows in enumerate(split_by_side(np.arange(7), BATCH.crops)):
        for row, owner in zip(rows, BATCH.crop_to_image[rows], strict=True):
            crops = [np.copy(of_side) for of_side in BATCH.crops]
            crops[k][row - rows[0]] = 255 - crops[k][row - rows[0]]
            change = np.abs(predict(BATCH._replace(crop_rgb=crops[0], smaller_crops=(crops[1],))).ab - plain)
            assert [(of_photo > 1e-4).any() for of_photo in change] == [photo == owner for photo in range(3)]


BOXES = np.array([[0, 0, 3, 4], [2, 2, 6, 6], [1, 1, 4, 3], [0, 0, 0, 0]], np.int32)
INDEX = np.array([0, 1, 0, -1], np.int32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_blend_adds_up_sides(dtype: str) -> None:
    rng = np.random.default_rng(0)
    features = [rng.standard_normal((2, side, side, 5)).astype(dtype) for side in (8, 4)]
    full = rng.standard_normal((2, 8, 8, 5)).astype(dtype)
    full_weight, weight = rng.random((2, 8, 8)).astype("f4"), rng.random((4, 8, 8)).astype("f4")
    weight[3] = 0
    expected = full.astype("f4") * full_weight[..., None]
    for row, box in enumerate(BOXES[:3]):
        feature = features[row // 2][row % 2].astype("f4")
        expected[INDEX[row]] += weight[row][..., None] * slow_paste(feature, box, 8, 8)
    arguments = (full, full_weight, tuple(map(jnp.asarray, features)), weight, INDEX, BOXES)
    found = blend.box_blend(*jax.tree.map(jnp.asarray, arguments))
    assert found.dtype == dtype
    np.testing.assert_allclose(found.astype("f4"), expected, atol=1e-5 if dtype == "float32" else 0.04)


def test_logits_are_placed_side_by_side() -> None:
    rng = np.random.default_rng(0)
    features = [rng.standard_normal((2, side, side, 2)).astype("f4") for side in (8, 4)]
    instances = Instances(
        jnp.asarray(INDEX), jnp.asarray(BOXES), inside(jnp.asarray(BOXES), 8, 8), np.zeros((0, 1, 1), bool)
    )
    head: Any = lambda feature: 2 * feature[..., :1]  # noqa: E731
    found = placed_logit(head, tuple(map(jnp.asarray, features)), instances)
    assert found.shape == (4, 8, 8)
    for row, box in enumerate(BOXES[:3]):
        feature = 2 * features[row // 2][row % 2, ..., :1]
        np.testing.assert_allclose(found[row], slow_paste(feature, box, 8, 8)[..., 0], atol=1e-5)
    assert not found[3].any()


def test_hints_lie_in_the_crops_of_every_side() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((2, 8, 8, 1)) < 0.5
    hints = Hints(jnp.asarray(np.where(mask, rng.random((2, 8, 8, 2)), 0).astype("f4")), jnp.asarray(mask))
    boxes = jnp.array([[0, 0, 8, 8], [1, 2, 4, 5], [0, 0, 8, 8], [0, 0, 8, 8]])
    crops = [jnp.zeros((2, 8, 8, 2)), jnp.zeros((2, 4, 4, 2))]
    found = hints_by_side(hints, boxes, jnp.array([0, 1, 1, -1]), crops)
    assert jax.tree.map(jnp.shape, found.smaller) == (Hints((2, 4, 4, 2), (2, 4, 4, 1)),)
    plain = crop_hints(hints, boxes[:2], jnp.array([0, 1]))
    np.testing.assert_array_equal(found.crop.mask, plain.mask)
    np.testing.assert_array_equal(found.crop.ab, plain.ab)
    # A pixel of a crop of half the side has its center at the corner of four pixels, and takes the lower right one's.
    np.testing.assert_array_equal(found.smaller[0].mask[0], mask[1, 1::2, 1::2])
    np.testing.assert_array_equal(found.smaller[0].ab[0], hints.ab[1, 1::2, 1::2])
    assert not found.smaller[0].mask[1].any()


def test_rows_are_split_in_every_part() -> None:
    crops = [np.zeros((4, 1)), np.zeros((2, 1)), np.zeros((6, 1))]
    rows = split_by_side(np.arange(12), crops, 2)
    assert [part.tolist() for part in rows] == [[0, 1, 6, 7], [2, 8], [3, 4, 5, 9, 10, 11]]
    assert [part.tolist() for part in split_by_side(np.arange(12), crops)] == [[0, 1, 2, 3], [4, 5], [*range(6, 12)]]

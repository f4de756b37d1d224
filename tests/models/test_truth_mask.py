"""Weighting by annotated masks, against the same said cell by cell; and no fusion at all."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcolor.batch import NO_MASKS, Batch
from jaxcolor.config import ConfigError, FusionConfig
from jaxcolor.models import networks
from jaxcolor.models.backbone import Siggraph17
from jaxcolor.models.fusion import fused_taps, fusion_strategy, inside_masks
from tests.models.test_fusion import BOXES, BOXES_, INDEX, INDEX_, SHAPE
from tests.small import FEW, MODEL, batch, example, variables
from tests.test_resample import slow_paste

TRUTH = dataclasses.replace(FEW, fusion=dataclasses.replace(FEW.fusion, strategy="truth_mask"))


def slow_inside(mask: np.ndarray, box: tuple[int, int, int, int], height: int, width: int) -> np.ndarray:
    """The share of each cell that the mask covers, found with 60 points a cell each way."""
    x0, y0, w, h = box
    points = (np.arange(60) + 0.5) / 60
    covered = np.zeros((height, width))
    for y, x in np.ndindex(height, width):
        if x0 <= x < x0 + w and y0 <= y < y0 + h:
            rows = ((y - y0 + points) / h * len(mask)).astype(int)
            columns = ((x - x0 + points) / w * mask.shape[1]).astype(int)
            covered[y, x] = mask[np.ix_(rows, columns)].mean()
    return covered


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), share=st.floats(0.1, 0.9))
def test_half_of_a_cell_decides(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((6, 16, 16)) < share
    inside = np.asarray(inside_masks(masks, BOXES_, *SHAPE))
    for mask, box, found in zip(masks, BOXES.tolist(), inside, strict=True):
        covered = slow_inside(mask, tuple(box), *SHAPE)
        clear = np.abs(covered - 0.5) > 0.03
        np.testing.assert_array_equal(found[clear], covered[clear] >= 0.5)


def test_whole_masks_are_boxes_and_halves_count() -> None:
    whole = np.ones((6, 16, 16), bool)
    inside = np.asarray(inside_masks(whole, BOXES_, *SHAPE))
    for found, (x0, y0, w, h) in zip(inside, BOXES.tolist(), strict=True):
        box = np.zeros(SHAPE, bool)
        box[y0 : y0 + h, x0 : x0 + w] = True
        np.testing.assert_array_equal(found, box)
    half = whole.copy()
    half[:, :, 8:] = False
    one_cell = jnp.tile(jnp.array([[4, 3, 1, 1]]), (6, 1))
    assert np.asarray(inside_masks(half, one_cell, *SHAPE)).sum() == 6


def test_blended_features() -> None:
    """Inside masks the instances alone, in equal parts where masks overlap; elsewhere the full image."""
    rng = np.random.default_rng(0)
    full, instance = (rng.standard_normal(shape).astype(np.float32) for shape in ((3, *SHAPE, 8), (6, 4, 4, 8)))
    masks = rng.random((6, 16, 16)) < 0.55
    masks[:, :8] = True
    masks[3, :, 12:] = False
    fused, blend = fusion_strategy(TRUTH).apply({}, jnp.asarray(full), jnp.asarray(instance), INDEX_, BOXES_, masks)
    expected, shared = full.copy(), 0
    covered = [slow_inside(mask, tuple(box), *SHAPE) for mask, box in zip(masks, BOXES.tolist(), strict=True)]
    clear = np.ones((3, *SHAPE), bool)
    placed = [slow_paste(f, tuple(box), *SHAPE) for f, box in zip(instance, BOXES.tolist(), strict=True) if box[2]]
    for photo, y, x in np.ndindex(3, *SHAPE):
        rows = [m for m in range(6) if INDEX[m] == photo and covered[m][y, x] >= 0.5]
        if any(abs(covered[m][y, x] - 0.5) < 0.03 for m in range(6) if INDEX[m] == photo):
            clear[photo, y, x] = False  # what is said plainly counts points
            continue
        shared += len(rows) > 1
        if rows:
            expected[photo, y, x] = np.mean([placed[m][y, x] for m in rows], axis=0)
        assert blend.full[photo, y, x] == (not rows)
    assert shared > 0
    assert clear.mean() > 0.8
    np.testing.assert_allclose(np.asarray(fused)[clear], expected[clear], atol=1e-5)
    assert (blend.instance[INDEX == -1] == 0).all()


def masked_batch() -> Batch:
    """Three photos, the first with two overlapping boxes, the second with none."""
    examples = [example(0, [[1, 1, 9, 9], [3, 3, 15, 16]]), example(1), example(2, [[0, 0, 16, 16]])]
    packed = batch(examples, capacity=4)
    masks = np.zeros((4, 16, 16), bool)
    masks[packed.crop_to_image >= 0, 2:12, 3:9] = True
    return packed._replace(crop_mask=masks)


def trunk_alone(tree: Any, packed: Batch) -> jax.Array:
    """Normalised ab of a fusion tree's trunk without any fusion."""
    inputs = networks.picture(packed.full_rgb, MODEL).inputs
    return (
        Siggraph17(MODEL).apply({kind: tree["fusion"][kind]["trunk"] for kind in ("params", "batch_stats")}, inputs).ab
    )


class TestNetwork:
    def test_masks_matter_padding_does_not_and_empty_ones_leave_the_trunk_alone(self) -> None:
        nets, tree, packed = networks.build(TRUTH), variables(TRUTH), masked_batch()
        assert sorted(tree["fusion"]["params"]) == ["trunk"]  # nothing to learn but the trunk
        compiled = jax.jit(lambda tree, batch: networks.predict(nets, tree, batch))
        predict = functools.partial(compiled, tree)
        ab = predict(packed).ab
        other = packed.crop_mask.copy()
        other[packed.crop_to_image >= 0] = ~other[packed.crop_to_image >= 0]
        assert np.abs(predict(packed._replace(crop_mask=other)).ab - ab)[[0, 2]].max() > 1e-3
        wild = packed.crop_mask.copy()
        wild[packed.crop_to_image < 0] = True
        np.testing.assert_array_equal(predict(packed._replace(crop_mask=wild)).ab, ab)
        empty = predict(packed._replace(crop_mask=np.zeros_like(packed.crop_mask)))
        np.testing.assert_allclose(empty.fused_ab, trunk_alone(tree, packed), atol=1e-5)

    def test_no_masks(self) -> None:
        bare = masked_batch()._replace(crop_mask=NO_MASKS)
        with pytest.raises(ConfigError, match=r"'truth_mask' weighs by annotated masks, .*data\.masks"):
            jax.eval_shape(lambda: networks.predict(networks.build(TRUTH), variables(TRUTH), bare))


def test_fusion_nowhere_is_the_trunk() -> None:
    config = dataclasses.replace(MODEL, fusion=FusionConfig(layers="none"))
    assert fused_taps(config) == ()
    tree, packed = variables(config), masked_batch()
    assert sorted(tree["fusion"]["params"]) == ["trunk"]
    prediction = networks.predict(networks.build(config), tree, packed)
    assert prediction.fusion_weights == {}
    np.testing.assert_allclose(prediction.fused_ab, trunk_alone(tree, packed), atol=1e-6)

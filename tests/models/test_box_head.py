from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.config import BoxHeadConfig, ConfigError
from jaxcolor.models import box_head, networks
from jaxcolor.models.box_head import BoxMaps, Detections
from tests import small

HEAD = BoxHeadConfig(channels=8, groups=2)
BOXES = jnp.array([[[0.1, 0.1, 0.5, 0.9], [0.22, 0.22, 0.32, 0.34], [0, 0, 0, 0]], [[0, 0, 0, 0]] * 3], jnp.float32)
VALID = jnp.array([[True, True, False], [False] * 3])
render_targets = jax.jit(box_head.render_targets, static_argnums=(2, 3))
TARGETS = render_targets(BOXES, VALID, 16, 32)


def test_targets_of_two_boxes() -> None:
    heat = np.asarray(TARGETS.heat)
    assert heat.shape == (2, 16, 32)
    assert sorted(map(tuple, np.argwhere(heat[0] == 1).tolist())) == [(4, 8), (8, 9)]  # row, column of each center
    assert heat[0, 8, 10] == pytest.approx(np.exp(-0.5 / (0.4 * 32 * 0.54 / 6) ** 2))
    np.testing.assert_allclose(TARGETS.boxes[0, 4, 8], BOXES[0, 1])
    np.testing.assert_allclose(TARGETS.boxes[0, 8, 9], BOXES[0, 0])
    np.testing.assert_allclose(TARGETS.weight[0].sum(), 2, rtol=1e-5)
    assert TARGETS.objects.tolist() == [2, 0]


def test_a_photo_without_boxes_has_no_target() -> None:
    assert float(TARGETS.heat[1].max()) == 0
    assert float(TARGETS.weight[1].max()) == 0


def test_the_smaller_box_has_the_cells_that_both_reach() -> None:
    both = jnp.array([[[0.0, 0, 1, 1], [0.4, 0.4, 0.6, 0.6]]])
    for order in (both, both[:, ::-1]):
        targets = render_targets(order, jnp.ones((1, 2), bool), 32, 32)
        np.testing.assert_allclose(targets.boxes[0, 16, 16], both[0, 1])
        np.testing.assert_allclose(targets.boxes[0, 16, 12], both[0, 0])


def perfect(targets: box_head.Targets) -> BoxMaps:
    return BoxMaps(jnp.where(targets.heat >= 1, 12.0, -12 + 10 * targets.heat), targets.boxes)


def test_the_loss_of_the_truth_is_least() -> None:
    maps = perfect(TARGETS)
    assert float(box_head.loss(maps, TARGETS, HEAD).max()) < 0.01
    moved = maps._replace(boxes=maps.boxes + jnp.array([0.05, 0, 0.05, 0]))
    assert float(box_head.loss(moved, TARGETS, HEAD)[0]) > 0.3
    empty = maps._replace(heat=jnp.full_like(maps.heat, -12.0))
    np.testing.assert_allclose(box_head.heat_loss(empty.heat, TARGETS.heat)[0], 2 * 12, rtol=1e-3)


def test_the_focal_loss_is_equation_one() -> None:
    logit, target = jnp.array([[[0.3, -1.0]]]), jnp.array([[[1.0, 0.6]]])
    p = 1 / (1 + np.exp(-np.array([0.3, -1.0])))
    expected = -((1 - p[0]) ** 2) * np.log(p[0]) - 0.4**4 * p[1] ** 2 * np.log(1 - p[1])
    np.testing.assert_allclose(box_head.heat_loss(logit, target), [expected], rtol=1e-5)


def test_generalized_iou() -> None:
    a = jnp.array([[0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 1, 1]], jnp.float32)
    b = jnp.array([[1, 1, 3, 3], [0, 0, 1, 1], [2, 0, 3, 1]], jnp.float32)
    np.testing.assert_allclose(box_head.generalized_iou(a, b), [1 / 7 - 2 / 9, 1, -1 / 3], rtol=1e-6)


def test_decode_finds_the_boxes_of_perfect_maps() -> None:
    found = jax.jit(box_head.decode, static_argnums=(1, 2))(perfect(TARGETS), 6, 0.5)
    assert found.boxes.shape == (2, 6, 4)
    good = np.asarray(found.scores[0]) > 0.5
    assert good.tolist() == [True, True, False, False, False, False]
    kept = np.asarray(found.boxes[0])[good]
    np.testing.assert_allclose(kept[np.argsort(kept[:, 0])], BOXES[0, :2], rtol=1e-6)
    assert float(found.scores[1].max()) < 0.5


def test_suppression_is_greedy() -> None:
    # The second overlaps the first, the third only the second: it stays, since the second is gone.
    boxes = jnp.array([[[0, 0, 0.4, 1], [0.1, 0, 0.5, 1], [0.2, 0, 0.6, 1], [0.7, 0, 1, 1]]], jnp.float32)
    found = box_head.suppress(Detections(boxes, jnp.array([[0.9, 0.8, 0.7, 0.0]])), 0.5)
    np.testing.assert_allclose(found.scores, [[0.9, 0.7, 0, 0]])
    np.testing.assert_allclose(found.boxes[0, 1], boxes[0, 2])


def test_no_gradient_reaches_the_features() -> None:
    model = dataclasses.replace(small.MODEL, side=64)
    nets, head = networks.build(model), box_head.make_head(model, HEAD)
    variables = jax.tree.map(jnp.asarray, small.variables())
    inputs = jax.random.normal(jax.random.key(0), (1, 64, 64, 4)) / 4
    params = box_head.init(model, HEAD, 0)

    def total(params, inputs):
        taps = networks.run_full(nets, variables, inputs, heads=()).taps
        maps = box_head.run_head(head, params, taps)
        return maps.heat.sum() + maps.boxes.sum()

    of_params, of_inputs = jax.jit(jax.grad(total, argnums=(0, 1)))(params, inputs)
    assert float(jnp.abs(of_inputs).max()) == 0
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(of_params))


def test_boxes_lie_around_their_cells_at_the_start() -> None:
    params = box_head.init(small.MODEL, HEAD, 1)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), box_head.abstract(small.MODEL, HEAD))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == shapes
    taps = {name: jnp.zeros((1, side, side, c)) for name, side, c in (("conv3_3", 16, 16), ("conv8_3", 16, 16))}
    taps |= {name: jnp.zeros((1, 8, 8, 32)) for name in ("conv4_3", "conv7_3")}
    head = box_head.make_head(small.MODEL, HEAD)
    maps = jax.jit(lambda params, taps: box_head.run_head(head, params, taps))(params, taps)
    assert maps.heat.shape == (1, 16, 16)
    center = (maps.boxes[..., :2] + maps.boxes[..., 2:]) / 2
    np.testing.assert_allclose(center[0], box_head.cell_centers(16, 16), atol=1e-2)


def test_a_tap_that_there_is_not() -> None:
    with pytest.raises(ConfigError, match=r"boxes\.taps: backbone 'reference' has no conv3_9; it has conv10_2"):
        box_head.make_head(small.MODEL, dataclasses.replace(HEAD, taps=("conv3_9", "conv7_3")))

"""The three networks on batches of several photos with any number of crops."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor import color
from jaxcolor.batch import Batch
from jaxcolor.config import FusionConfig
from jaxcolor.models import networks
from jaxcolor.models.networks import Prediction
from tests.small import FEW, SIDE, batch, example, variables

BOXES: list[list[list[int]]] = [[[1, 1, 9, 9], [3, 3, 15, 16]], [], [[0, 0, 16, 16]], [[5, 2, 6, 14]]]
"""Of four photos: two boxes that overlap, none, all of it, one that is narrower than a cell of the last level."""
EXAMPLES = [example(seed, boxes) for seed, boxes in enumerate(BOXES)]
BATCH = batch(EXAMPLES, capacity=6)
PADDING = BATCH.crop_to_image < 0

Predict = Callable[[Batch], Prediction]


@pytest.fixture(scope="module")
def predict() -> Predict:
    nets, tree = networks.build(FEW), variables(FEW)
    compiled = jax.jit(lambda tree, batch: networks.predict(nets, tree, batch))
    return lambda batch: jax.device_get(compiled(tree, batch))


@pytest.fixture(scope="module")
def prediction(predict: Predict) -> Prediction:
    return predict(BATCH)


def test_the_fixture_is_what_it_says() -> None:
    assert PADDING.tolist() == [False] * 4 + [True] * 2
    assert BATCH.crop_to_image[:4].tolist() == [0, 0, 2, 3]
    assert BATCH.level_boxes[3, :, 2].tolist() == [1, 1, 1, 1]


def test_weights_of_a_photo_sum_to_one(prediction: Prediction) -> None:
    assert set(prediction.fusion_weights) == set(FEW.fusion.layers)
    for blend in prediction.fusion_weights.values():
        total = blend.full.copy()
        for row, index in enumerate(BATCH.crop_to_image):
            if index >= 0:
                total[index] += blend.instance[row]
            else:
                assert (blend.instance[row] == 0).all()
        np.testing.assert_allclose(total, 1, atol=1e-6)
        assert (blend.full[1] == 1).all()
        assert (blend.full[2] < 1).all()


def test_frozen_variables_compute_the_same_to_the_last_bit() -> None:
    config = dataclasses.replace(FEW, compute_dtype="bfloat16")
    nets, tree = networks.build(config), variables(FEW)
    kept = networks.frozen(tree, config)
    assert kept["full"]["params"]["conv1_1"]["kernel"].dtype == jnp.bfloat16
    assert kept["full"]["params"]["norm1"]["scale"].dtype == np.float32
    assert jax.tree.map(np.shape, kept) == jax.tree.map(np.shape, tree)
    shared = networks.frozen({**tree, "instance": tree["full"]}, config)
    for array, other in zip(jax.tree.leaves(shared["full"]), jax.tree.leaves(shared["instance"]), strict=True):
        assert array is other
    run = jax.jit(lambda tree, batch: networks.predict(nets, tree, batch).ab)
    np.testing.assert_array_equal(run(kept, BATCH), run(tree, BATCH))


def test_garbage_in_padding_changes_no_bit(predict: Predict, prediction: Prediction) -> None:
    rng = np.random.default_rng(9)
    garbage = rng.integers(0, 256, BATCH.crop_rgb.shape, np.uint8)
    boxes = rng.integers(-3, 40, BATCH.level_boxes.shape, np.int32)
    wild = BATCH._replace(
        crop_rgb=np.where(PADDING[:, None, None, None], garbage, BATCH.crop_rgb),
        level_boxes=np.where(PADDING[:, None, None], boxes, BATCH.level_boxes),
    )
    assert not np.array_equal(wild.crop_rgb, BATCH.crop_rgb)
    for ours, theirs in zip(jax.tree.leaves(predict(wild)), jax.tree.leaves(prediction), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_nan_in_padding_crops_reaches_neither_output_nor_gradient() -> None:
    """The whole way: pictures, instance network, features, weight maps, all parameters of two trees.

    Two layers are enough: test_fusion looks at every part of one.
    """
    config = dataclasses.replace(FEW, fusion=FusionConfig(layers=("conv2_2", "conv5_3")))
    nets, tree = networks.build(config), variables(config)
    lab = networks.to_lab(BATCH, config)
    inputs = lab.full.inputs

    @jax.jit
    def run(tree: Any, crops: jax.Array) -> Any:
        def loss(trained: Any, inputs: jax.Array) -> tuple[jax.Array, Any]:
            trees = tree | {t: {**tree[t], "params": p} for t, p in trained.items()}
            crop_inputs = networks.network_input(crops)
            taps = networks.run_instance(nets, trees, crop_inputs, lab.crop_to_image).taps
            output = networks.run_fusion(nets, trees, inputs, taps, lab.crop_to_image, lab.level_boxes)
            return (output.ab**2).sum(), output

        trained = {t: tree[t]["params"] for t in ("instance", "fusion")}
        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(trained, inputs)

    padding = PADDING[:, None, None, None]
    zeros = run(tree, np.where(padding, np.float32(0), lab.crop.luminance))
    nans = run(tree, np.where(padding, np.float32(np.nan), lab.crop.luminance))
    for ours, theirs in zip(jax.tree.leaves(nans), jax.tree.leaves(zeros), strict=True):
        assert np.isfinite(ours).all()
        np.testing.assert_array_equal(ours, theirs)
    gradients = nans[1][0]
    # The real crops do reach the instance network, as far as it is read.
    for layer in ("conv1_1", "conv2_2", "conv5_3"):
        assert np.abs(gradients["instance"][layer]["kernel"]).max() > 0


def test_the_order_of_crops_does_not_matter(predict: Predict, prediction: Prediction) -> None:
    order = np.array([4, 3, 1, 5, 0, 2])
    crops = ("crop_rgb", "crop_to_image", "level_boxes")
    shuffled = predict(BATCH._replace(**{name: getattr(BATCH, name)[order] for name in crops}))
    np.testing.assert_allclose(shuffled.ab, prediction.ab, atol=1e-5)
    for name, blend in shuffled.fusion_weights.items():
        np.testing.assert_allclose(blend.full, prediction.fusion_weights[name].full, atol=1e-5)
        np.testing.assert_allclose(blend.instance, prediction.fusion_weights[name].instance[order], atol=1e-5)


def test_a_photo_without_boxes_is_the_full_trees(prediction: Prediction) -> None:
    np.testing.assert_array_equal(prediction.ab[1], prediction.full_ab[1])
    # Which is another picture than the fusion trunk's.
    assert np.abs(prediction.fused_ab[1] - prediction.full_ab[1]).max() > 1e-2
    for photo in (0, 2, 3):
        np.testing.assert_array_equal(prediction.ab[photo], prediction.fused_ab[photo])
        assert np.abs(prediction.ab[photo] - prediction.full_ab[photo]).max() > 1e-2


def test_the_full_tree_alone_gives_the_same(prediction: Prediction) -> None:
    nets, tree = networks.build(FEW), variables(FEW)
    inputs = networks.picture(BATCH.full_rgb, FEW).inputs
    np.testing.assert_allclose(networks.run_full(nets, tree, inputs).ab, prediction.full_ab, atol=1e-5)


def test_photos_together_equal_photos_one_by_one(predict: Predict, prediction: Prediction) -> None:
    for photo, one in enumerate(EXAMPLES):
        alone = predict(batch([one], capacity=3))
        np.testing.assert_allclose(alone.ab[0], prediction.ab[photo], atol=1e-5)
        np.testing.assert_allclose(alone.full_ab[0], prediction.full_ab[photo], atol=1e-5)
        rows = np.flatnonzero(photo == BATCH.crop_to_image)
        for name, blend in alone.fusion_weights.items():
            np.testing.assert_allclose(blend.full[0], prediction.fusion_weights[name].full[photo], atol=1e-5)
            np.testing.assert_allclose(
                blend.instance[: len(rows)], prediction.fusion_weights[name].instance[rows], atol=1e-5
            )


def test_a_crop_belongs_to_its_photo_alone(predict: Predict, prediction: Prediction) -> None:
    other = BATCH.crop_rgb.copy()
    other[2] = 255 - other[2]
    changed = predict(BATCH._replace(crop_rgb=other))
    for photo in (0, 1, 3):
        np.testing.assert_array_equal(changed.ab[photo], prediction.ab[photo])
    assert np.abs(changed.ab[2] - prediction.ab[2]).max() > 1e-3


def test_only_lightness_is_read(predict: Predict) -> None:
    """Colour photos may be handed in: what they show of colour must not leak into the prediction."""

    def gray(rgb: np.ndarray) -> np.ndarray:
        lab = color.rgb_to_lab(color.unit_rgb(rgb, np.float64))
        lab[..., 1:] = 0
        return color.quantize_rgb(color.lab_to_rgb(lab))

    grays = predict(BATCH._replace(full_rgb=gray(BATCH.full_rgb), crop_rgb=gray(BATCH.crop_rgb)))
    # Eight-bit gray rounds L* by 0.2 of 100.
    np.testing.assert_allclose(grays.ab, predict(BATCH).ab, atol=0.05)


def test_no_crop_at_all(predict: Predict) -> None:
    none = predict(batch([example(1), None], capacity=0))
    np.testing.assert_array_equal(none.ab, none.full_ab)
    assert np.isfinite(none.fused_ab).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_other_types(dtype: Any, prediction: Prediction) -> None:
    config = dataclasses.replace(FEW, compute_dtype=dtype)
    wide = dtype == "float64"
    with jax.enable_x64(wide):
        tree = jax.tree.map(lambda a: np.asarray(a, np.float64 if wide else np.float32), variables(FEW))
        predict = jax.jit(lambda tree, batch: networks.predict(networks.build(config), tree, batch))
        other = jax.device_get(predict(tree, BATCH))
        for ab in (other.ab, other.full_ab, other.fused_ab):
            assert ab.dtype == (np.float64 if wide else np.float32)
        for blend in other.fusion_weights.values():
            assert blend.full.dtype == (np.float64 if wide else np.float32)
    assert 0 < np.abs(other.ab - prediction.ab).max() < (1e-4 if wide else 0.15)


def test_lab_on_device() -> None:
    lab = networks.to_lab(BATCH, FEW)
    rgb = color.lab_to_rgb(color.denormalize_lab(lab.full.luminance, lab.full.ab))
    np.testing.assert_array_equal(color.quantize_rgb(rgb), BATCH.full_rgb)
    assert lab.crop.luminance.shape == (6, SIDE, SIDE, 1)
    assert np.abs(lab.full.luminance).max() <= 0.5

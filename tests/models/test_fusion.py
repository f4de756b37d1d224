"""Fusion over packed instances, against what it means written out pixel by pixel."""

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.config import ConfigError, FusionConfig, ModelConfig
from jaxcolor.models import networks
from jaxcolor.models.backbone import Siggraph17
from jaxcolor.models.fusion import (
    WeightHead,
    box_mask_weights,
    fused_taps,
    fusion_strategy,
    membership,
    softmax_weights,
    sum_per_image,
)
from tests.small import MODEL, SIDE, batch, example, variables
from tests.test_resample import slow_paste

INDEX = np.array([2, 0, -1, 2, 0, -1], np.int32)
"""Photo 1 has no crop; rows 2 and 5 are padding."""
BOXES = np.array(
    [[0, 0, 3, 4], [1, 1, 4, 3], [0, 0, 8, 8], [2, 2, 6, 6], [4, 3, 1, 2], [0, 0, 0, 0]], np.int32
)  # of photo 2 and of photo 0 each two that overlap
SHAPE = (8, 8)
INDEX_, BOXES_ = jnp.asarray(INDEX), jnp.asarray(BOXES)


def logits(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of three photos, of six crops (0 outside their boxes), and where those boxes are."""
    rng = np.random.default_rng(seed)
    inside = np.zeros((6, *SHAPE), bool)
    for row, (x0, y0, w, h) in enumerate(BOXES):
        inside[row, y0 : y0 + h, x0 : x0 + w] = True
    full = rng.uniform(0, 3, (3, *SHAPE)).astype(np.float32)
    return full, np.where(inside, rng.uniform(0, 3, inside.shape), 0).astype(np.float32), inside


def slow_blend(full: np.ndarray, instance: np.ndarray, inside: np.ndarray, outside: str) -> Any:
    """Every pixel for itself, over the crops that are there."""
    full_weight, weight = np.zeros(full.shape), np.zeros(instance.shape)
    for photo, y, x in np.ndindex(full.shape):
        rows = [m for m in range(len(INDEX)) if INDEX[m] == photo]
        if not any(inside[m, y, x] for m in rows):
            full_weight[photo, y, x] = 1
            continue
        counting = [m for m in rows if outside == "zero" or inside[m, y, x]]
        powers = np.exp([float(full[photo, y, x]), *(float(instance[m, y, x]) for m in counting)])
        full_weight[photo, y, x] = powers[0] / powers.sum()
        weight[counting, y, x] = powers[1:] / powers.sum()
    return full_weight, weight


@pytest.mark.parametrize("outside", ["zero", "masked"])
def test_softmax_over_instances_and_full_image(outside: str) -> None:
    full, instance, inside = logits()
    blend = softmax_weights(jnp.asarray(full), jnp.asarray(instance), jnp.asarray(inside), INDEX_, outside)
    expected_full, expected = slow_blend(full, instance, inside, outside)
    np.testing.assert_allclose(blend.full, expected_full, atol=1e-6)
    np.testing.assert_allclose(blend.instance, expected, atol=1e-6)
    total = blend.full + sum_per_image(blend.instance, membership(INDEX_, 3))
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_zero_takes_weight_in_the_whole_union_and_masked_only_in_the_box() -> None:
    full, instance, inside = (jnp.asarray(a) for a in logits())
    zero = np.asarray(softmax_weights(full, instance, inside, INDEX_, "zero").instance)
    masked = np.asarray(softmax_weights(full, instance, inside, INDEX_, "masked").instance)
    for photo in (0, 2):
        rows = np.flatnonzero(photo == INDEX)
        union = np.asarray(inside)[rows].any(axis=0)
        for row in rows:
            box = np.asarray(inside)[row]
            assert (union & ~box).any()
            assert (zero[row][union] > 0).all()
            assert (masked[row][union & ~box] == 0).all()
            assert (masked[row][box] > 0).all()
            assert (zero[row][~union] == 0).all()


@pytest.mark.parametrize("outside", ["zero", "masked"])
def test_uncovered_pixels_and_photos_without_boxes_are_the_full_images_alone(outside: str) -> None:
    full, instance, inside = (jnp.asarray(a) for a in logits())
    blend = softmax_weights(full, instance, inside, INDEX_, outside)
    assert (blend.full[1] == 1).all()
    for photo in (0, 2):
        union = np.asarray(inside)[photo == INDEX].any(axis=0)
        assert (blend.full[photo][~union] == 1).all()
        assert (blend.full[photo][union] < 1).all()
    assert (blend.instance[INDEX == -1] == 0).all()


@pytest.mark.parametrize("outside", ["zero", "masked"])
def test_large_logits_do_not_overflow(outside: str) -> None:
    full, instance, inside = logits()
    blend = softmax_weights(jnp.asarray(full) * 1e4, jnp.asarray(instance) * 1e4, jnp.asarray(inside), INDEX_, outside)
    assert np.isfinite(blend.full).all()
    total = blend.full + sum_per_image(blend.instance, membership(INDEX_, 3))
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_box_mask_shares_a_pixel_equally_among_the_boxes_that_cover_it() -> None:
    _, _, inside = logits()
    blend = box_mask_weights(jnp.asarray(inside), INDEX_, 3, jnp.dtype(jnp.float32))
    for photo in range(3):
        rows = np.flatnonzero(photo == INDEX)
        covering = inside[rows].sum(axis=0)
        np.testing.assert_array_equal(blend.full[photo], covering == 0)
        for row in rows:
            np.testing.assert_allclose(blend.instance[row], inside[row] / np.maximum(covering, 1), rtol=1e-6)
        assert len(rows) == 0 or covering.max() == 2
    assert (blend.instance[INDEX == -1] == 0).all()


def test_members() -> None:
    member = membership(INDEX_, 3)
    np.testing.assert_array_equal(
        member, [[0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0]]
    )  # padding is nobody's
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.testing.assert_array_equal(sum_per_image(jnp.asarray(values), member), [[10, 12], [0, 0], [6, 8]])


MODULE = dataclasses.replace(MODEL, head_init="he")


class Features(NamedTuple):
    """At one tap: of 3 photos, and of 6 crops of half their side."""

    full: jax.Array
    instance: jax.Array


@pytest.fixture(scope="module")
def arrays() -> Features:
    rng = np.random.default_rng(0)
    shapes = (3, *SHAPE, 8), (6, 4, 4, 8)
    return Features(*(jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes))


@pytest.fixture(scope="module")
def params(arrays: Features) -> Any:
    params = fusion_strategy(MODULE).init(jax.random.key(0), *arrays, INDEX_, BOXES_)
    assert networks.count_parameters(params) == 2 * (16 * (9 * 8 + 1) + 16 * (9 * 16 + 1) + 9 * 16 + 1)
    return params


class TestModule:
    @pytest.mark.parametrize(
        ("strategy", "outside"), [("learned", "zero"), ("learned", "masked"), ("box_mask", "zero")]
    )
    def test_blended_features(self, arrays: Features, params: Any, strategy: str, outside: str) -> None:
        config = dataclasses.replace(MODULE, fusion=FusionConfig(strategy=strategy, outside=outside))
        variables = params if strategy == "learned" else {}
        fused, blend = fusion_strategy(config).apply(variables, *arrays, INDEX_, BOXES_)
        _, _, inside = logits()
        if strategy == "learned":
            head = WeightHead(config)
            own = {name: {"params": p} for name, p in params["params"].items()}
            full_logit = np.asarray(head.apply(own["full_head"], arrays.full))[..., 0]
            instance_logit = np.asarray(head.apply(own["instance_head"], arrays.instance))
            assert full_logit.min() >= 0  # the last ReLU counts
            placed = np.array(
                [
                    slow_paste(logit, tuple(box), *SHAPE)[..., 0] if index >= 0 else np.zeros(SHAPE)
                    for logit, box, index in zip(instance_logit, BOXES.tolist(), INDEX, strict=True)
                ]
            )
            full_weight, weight = slow_blend(full_logit, placed, inside, outside)
        else:
            mask = box_mask_weights(jnp.asarray(inside), INDEX_, 3, jnp.dtype(jnp.float32))
            full_weight, weight = np.asarray(mask.full), np.asarray(mask.instance)
        np.testing.assert_allclose(blend.full, full_weight, atol=1e-5)
        np.testing.assert_allclose(blend.instance, weight, atol=1e-5)
        expected = np.asarray(arrays.full) * full_weight[..., None]
        for row in np.flatnonzero(INDEX >= 0):
            placed_feature = slow_paste(np.asarray(arrays.instance)[row], tuple(BOXES[row].tolist()), *SHAPE)
            expected[INDEX[row]] += placed_feature * weight[row][..., None]
        np.testing.assert_allclose(fused, expected, atol=1e-5)

    @pytest.mark.parametrize(
        ("strategy", "outside"), [("learned", "zero"), ("learned", "masked"), ("box_mask", "zero")]
    )
    @pytest.mark.parametrize("value", [-1e3, 1e4])
    def test_padding_changes_no_bit_of_output_or_gradient(
        self, arrays: Features, params: Any, strategy: str, outside: str, value: float
    ) -> None:
        config = dataclasses.replace(MODULE, fusion=FusionConfig(strategy=strategy, outside=outside))
        variables = params if strategy == "learned" else {"params": {}}

        @jax.jit
        def run(instance: jax.Array, boxes: jax.Array) -> Any:
            def loss(variables: Any, full: jax.Array, instance: jax.Array) -> Any:
                fused, blend = fusion_strategy(config).apply(variables, full, instance, INDEX_, boxes)
                return (fused**2).sum(), (fused, blend)

            return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(variables, arrays.full, instance)

        padding = (INDEX == -1)[:, None, None, None]
        zeros = run(np.where(padding, 0, arrays.instance), np.where(padding[..., 0, 0], 0, BOXES))
        wild_boxes = np.where(padding[..., 0, 0], np.int32([3, -2, 100, 7]), BOXES)
        wild = run(np.where(padding, np.float32(value), arrays.instance), wild_boxes)
        for ours, theirs in zip(jax.tree.leaves(wild), jax.tree.leaves(zeros), strict=True):
            assert np.isfinite(ours).all()
            np.testing.assert_array_equal(ours, theirs)
        (_, (_, _)), (_, _, gradient) = wild
        assert (gradient[INDEX == -1] == 0).all()
        assert all(np.abs(gradient[row]).max() > 0 for row in np.flatnonzero(INDEX >= 0))

    def test_the_order_of_crops_does_not_matter(self, arrays: Features, params: Any) -> None:
        order = np.array([5, 3, 1, 0, 2, 4])
        module = fusion_strategy(MODULE)
        fused, blend = module.apply(params, *arrays, INDEX_, BOXES_)
        shuffled, shuffled_blend = module.apply(
            params, arrays.full, arrays.instance[order], INDEX_[order], BOXES_[order]
        )
        np.testing.assert_allclose(shuffled, fused, atol=1e-5)
        np.testing.assert_allclose(shuffled_blend.instance, blend.instance[order], atol=1e-6)

    def test_no_crop_at_all(self, arrays: Features, params: Any) -> None:
        none = jnp.zeros((0, 4, 4, 8)), jnp.zeros(0, jnp.int32), jnp.zeros((0, 4), jnp.int32)
        fused, blend = fusion_strategy(MODULE).apply(params, arrays.full, *none)
        np.testing.assert_array_equal(fused, arrays.full)
        assert blend.instance.shape == (0, *SHAPE)

    def test_bfloat16_features_keep_weights_in_float32(self, arrays: Features, params: Any) -> None:
        config = dataclasses.replace(MODULE, compute_dtype="bfloat16")
        exact, exact_blend = fusion_strategy(MODULE).apply(params, *arrays, INDEX_, BOXES_)
        rough = [jnp.asarray(a, jnp.bfloat16) for a in arrays]
        fused, blend = fusion_strategy(config).apply(params, *rough, INDEX_, BOXES_)
        assert fused.dtype == jnp.bfloat16
        assert blend.full.dtype == blend.instance.dtype == jnp.float32
        np.testing.assert_allclose(blend.full, exact_blend.full, atol=0.05)
        np.testing.assert_allclose(np.asarray(fused, np.float32), exact, atol=0.15)
        total = blend.full + sum_per_image(blend.instance, membership(INDEX_, 3))
        np.testing.assert_allclose(total, 1, atol=1e-6)


def taps_of(layers: Any) -> tuple[str, ...]:
    return fused_taps(dataclasses.replace(MODEL, fusion=FusionConfig(layers=layers)))


class TestLayers:
    def test_names(self) -> None:
        names = tuple(tap.name for tap in Siggraph17.taps)
        assert taps_of("encoder") == names[:7]
        assert taps_of("decoder") == names[7:]
        assert taps_of("all") == names
        assert len(names) == 13
        assert taps_of("conv4_3") == ("conv4_3",)
        assert taps_of(("conv9_up", "conv1_2")) == ("conv1_2", "conv9_up")  # in the network's order

    @pytest.mark.parametrize("layers", ["conv4", "", (), ("conv1_2", "model10"), ("all",)])
    def test_what_is_no_layer_is_refused(self, layers: Any) -> None:
        with pytest.raises(ConfigError, match=r"fusion\.layers: .*all, encoder, decoder, or names .*conv10_2"):
            taps_of(layers)
        with pytest.raises(ConfigError, match=r"fusion\.layers"):
            networks.abstract(dataclasses.replace(MODEL, fusion=FusionConfig(layers=layers)))


LAYERS: list[Any] = ["all", "encoder", "decoder", ("conv3_3", "conv10_up")]
LIST = LAYERS[-1]
# Every pair of a strategy, of what is outside of boxes, and of layers.
FUSIONS = [
    FusionConfig(layers="all"),
    FusionConfig(layers="encoder"),
    FusionConfig(outside="masked", layers="decoder"),
    FusionConfig(outside="masked", layers=LIST),
    FusionConfig(strategy="box_mask", layers="decoder"),
    FusionConfig(strategy="box_mask", layers=LIST),
    FusionConfig(strategy="box_mask", outside="masked", layers="all"),
    FusionConfig(strategy="box_mask", outside="masked", layers="encoder"),
    FusionConfig(layers=LIST, head_channels=3),
]
VARIANTS = [
    *(dataclasses.replace(MODEL, fusion=fusion) for fusion in FUSIONS),
    *(dataclasses.replace(MODEL, norm=norm, fusion=FusionConfig(layers=LIST)) for norm in ("group", "none")),
]


def name_of(config: ModelConfig) -> str:
    """What differs from the small default."""
    f = config.fusion
    layers = f.layers if isinstance(f.layers, str) else "list"
    return "-".join([f.strategy, f.outside, layers, str(f.head_channels), config.norm])


BATCH = batch([example(0, [[1, 1, 9, 9], [3, 3, 15, 16]]), example(1), example(2, [[0, 0, 16, 16]])], capacity=3)


# The default itself is compiled for the goldens, too.
FAST = [pytest.param(v, id=name_of(v), marks=[pytest.mark.slow] if v == MODEL else []) for v in VARIANTS]


@pytest.mark.parametrize("config", FAST)
def test_every_variant_builds_and_runs(config: ModelConfig) -> None:
    """Not compiled as a whole: operations that variants share are compiled once."""
    # Photos 0 and 2 are the same but for their crops.
    twins = BATCH._replace(full_rgb=BATCH.full_rgb[[0, 1, 0]])
    tree = variables(config)
    prediction = networks.predict(networks.build(config), tree, twins)
    for ab in (prediction.ab, prediction.full_ab, prediction.fused_ab):
        assert ab.shape == (3, SIDE, SIDE, 2)
        assert np.isfinite(ab).all()
    taps = fused_taps(config)
    assert tuple(prediction.fusion_weights) == taps
    heads = [name for name in tree["fusion"]["params"] if name != "trunk"]
    learned = config.fusion.strategy == "learned"
    assert sorted(heads) == (sorted(f"fuse_{name}" for name in taps) if learned else [])
    np.testing.assert_array_equal(prediction.full_ab[0], prediction.full_ab[2])
    assert np.abs(prediction.ab[0] - prediction.ab[2]).max() > 1e-3
    np.testing.assert_array_equal(prediction.ab[1], prediction.full_ab[1])
    for blend in prediction.fusion_weights.values():
        one, other, whole = blend.instance
        np.testing.assert_allclose(blend.full + jnp.stack([one + other, 0 * one, whole]), 1, atol=1e-6)


@pytest.mark.parametrize(("init", "head_init"), list(itertools.product(("he", "normal002"), repeat=2)))
def test_every_initialisation_builds(init: Any, head_init: Any) -> None:
    """The same variables, other numbers: what these are is looked at in test_backbone."""
    config = dataclasses.replace(MODEL, init=init, head_init=head_init)
    assert jax.tree.structure(networks.abstract(config)) == jax.tree.structure(variables())
    head = WeightHead(config).init(jax.random.key(0), jnp.zeros((1, 4, 4, 64)))["params"]["conv1"]["kernel"]
    assert np.std(head) == pytest.approx({"he": np.sqrt(2 / (9 * 64)), "normal002": 0.02}[head_init], rel=0.05)


def test_without_any_instance_the_trunk_speaks() -> None:
    """Everywhere uncovered: weight 1 for the full image, so the features pass through unchanged."""
    nets, tree = networks.build(MODEL), variables()
    inputs = networks.picture(BATCH.full_rgb, MODEL).inputs
    nobody = jnp.full(3, -1, jnp.int32)
    taps = networks.run_instance(nets, tree, inputs, nobody).taps
    output = networks.run_fusion(nets, tree, inputs, taps, nobody, jnp.asarray(BATCH.level_boxes))
    trunk = {kind: tree["fusion"][kind]["trunk"] for kind in ("params", "batch_stats")}
    alone = Siggraph17(MODEL).apply(trunk, inputs)
    np.testing.assert_allclose(output.ab, alone.ab, atol=1e-6)
    for name, fused in output.fused.items():
        recorded = jax.nn.relu(fused) if name.endswith("_up") else fused
        np.testing.assert_allclose(recorded, alone.taps[name], atol=1e-5)

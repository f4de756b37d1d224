"""The backbone: its size, its taps, its class head, its types, its initialisation."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxcolor.config import ModelConfig
from jaxcolor.models import networks
from jaxcolor.models.backbone import Siggraph17, initializers
from jaxcolor.models.networks import network_input
from jaxcolor.models.ops.conv import from_phases, to_phases
from tests.small import FEW, MODEL, SIDE, variables

ALL = ("regression", "classes")
TAP_NAMES = [tap.name for tap in Siggraph17.taps]
CHANNELS_AND_SIDES = {
    "conv1_2": (64, 256),
    "conv2_2": (128, 128),
    "conv3_3": (256, 64),
    "conv4_3": (512, 32),
    "conv5_3": (512, 32),
    "conv6_3": (512, 32),
    "conv7_3": (512, 32),
    "conv8_up": (256, 64),
    "conv8_3": (256, 64),
    "conv9_up": (128, 128),
    "conv9_3": (128, 128),
    "conv10_up": (128, 256),
    "conv10_2": (128, 256),
}
"""At width 1 and side 256, as the paper's figure and the reference have them."""


def inputs(seed: int = 0, count: int = 3, height: int = SIDE, width: int = SIDE) -> jax.Array:
    luminance = np.random.default_rng(seed).uniform(-0.5, 0.5, (count, height, width, 1))
    return network_input(jnp.asarray(luminance, jnp.float32))


@pytest.fixture(scope="module")
def full() -> Any:
    """The full network as a function of its inputs, compiled once."""
    network = Siggraph17(MODEL, ALL)
    compiled = jax.jit(lambda tree, x: network.apply(tree, x, heads=ALL))
    return lambda x: compiled(variables()["full"], x)


def test_parameter_counts_are_the_references() -> None:
    count = {t: networks.count_parameters(v["params"]) for t, v in networks.abstract(ModelConfig()).items()}
    class_head = 256 * 529 + 529
    heads = 1_078_266
    assert count == {"full": 34_187_027, "instance": 34_187_027 - class_head, "fusion": 34_187_027 - class_head + heads}
    params = networks.abstract(ModelConfig())["fusion"]["params"]
    modules = {name: networks.count_parameters(p) for name, p in params.items() if name != "trunk"}
    assert sum(modules.values()) == heads
    assert sorted(modules) == sorted(f"fuse_{name}" for name in TAP_NAMES)


def test_taps_have_the_references_names_channels_and_sides() -> None:
    network = Siggraph17(ModelConfig(), ALL)
    shape = jax.ShapeDtypeStruct((3, 256, 256, 4), jnp.float32)
    tree = networks.abstract(ModelConfig())["full"]
    output = jax.eval_shape(lambda v, x: network.apply(v, x, heads=ALL), tree, shape)
    assert list(CHANNELS_AND_SIDES) == TAP_NAMES
    assert {name: (t.shape[3], t.shape[1]) for name, t in output.taps.items()} == CHANNELS_AND_SIDES
    assert {t.name: (t.channels, 256 >> t.level) for t in Siggraph17.taps} == CHANNELS_AND_SIDES
    assert all(t.shape[0] == 3 and t.shape[1] == t.shape[2] for t in output.taps.values())
    assert output.ab.shape == (3, 256, 256, 2)
    assert output.outputs["classes"].logits.shape == (3, 64, 64, 529)


@pytest.mark.parametrize("width", [0.25, 0.0625, 0.001])
def test_the_width_scales_channels_and_leaves_outputs(width: float) -> None:
    config = ModelConfig(width=width)
    tree = networks.abstract(config)["full"]
    shape = jax.ShapeDtypeStruct((1, 32, 48, 4), jnp.float32)
    output = jax.eval_shape(lambda v, x: Siggraph17(config, ALL).apply(v, x, heads=ALL), tree, shape)
    for tap in Siggraph17.taps:
        expected = (1, 32 >> tap.level, 48 >> tap.level, max(1, round(tap.channels * width)))
        assert output.taps[tap.name].shape == expected
    assert output.ab.shape == (1, 32, 48, 2)
    assert output.outputs["classes"].logits.shape == (1, 8, 12, 529)


@pytest.mark.parametrize(("height", "width"), [(20, 16), (16, 20), (4, 4)])
def test_a_canvas_that_cannot_be_halved_three_times_is_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"canvas {height}x{width}: sides must be multiples of 8"):
        Siggraph17(MODEL).apply(variables()["instance"], inputs(height=height, width=width))


def test_the_input_without_hints() -> None:
    luminance = jnp.asarray(np.random.default_rng(0).random((2, 3, 5, 1)), jnp.float32)
    x = network_input(luminance)
    np.testing.assert_array_equal(x[..., :1], luminance)
    np.testing.assert_array_equal(x[..., 1:3], 0)
    np.testing.assert_array_equal(x[..., 3], -0.5)  # and not 0, which is siggraph17's empty hint
    hint, mask = jnp.ones((2, 3, 5, 2)), jnp.full((2, 3, 5, 1), 0.5)
    np.testing.assert_array_equal(network_input(luminance, hint, mask)[..., 1:], jnp.concatenate([hint, mask], -1))


@pytest.mark.parametrize("step", [2, 3])
def test_phases_are_every_nth_row_and_column_and_go_back(step: int) -> None:
    x = jnp.arange(2 * 6 * 12 * 3.0).reshape(2, 6, 12, 3)
    phases = to_phases(x, step)
    for picture in range(2):
        for row in range(step):
            for column in range(step):
                found = phases[(picture * step + row) * step + column]
                np.testing.assert_array_equal(found, x[picture, row::step, column::step])
    np.testing.assert_array_equal(from_phases(phases, step), x)


@pytest.mark.parametrize("side", [16, 24])
def test_dilated_blocks_equal_dilated_convolutions(side: int) -> None:
    """On phases where they are of equal size, as at 16, and as written where they are not, as at 24."""
    tree = variables()["full"]
    seen = Siggraph17(MODEL).apply({**tree, "params": dict(tree["params"])}, inputs(height=side, width=side)).taps
    x, params = seen["conv4_3"], tree["params"]
    for i in (1, 2, 3):
        layer = nn.Conv(x.shape[-1], (3, 3), kernel_dilation=2, padding=2)
        x = nn.relu(layer.apply({"params": params[f"conv5_{i}"]}, x))
    norm, stats = params["norm5"], tree["batch_stats"]["norm5"]
    x = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * norm["scale"] + norm["bias"]
    np.testing.assert_allclose(seen["conv5_3"], x, atol=1e-5)


def test_color_lies_within_its_range_and_depends_on_the_picture(full: Any) -> None:
    one, other = full(inputs(0)), full(inputs(1))
    for output in (one, other):
        assert (np.abs(output.ab) < 1).all()
    assert np.abs(one.ab - other.ab).max() > 1e-3


def test_features_fed_on_after_the_relu(full: Any) -> None:
    """Trap 2: what the instance branch hands to fusion at the ``*_up`` taps has been through the ReLU."""
    taps = full(inputs()).taps
    for name in TAP_NAMES:
        # Only ups are ReLU's own output: the norm follows it elsewhere, and conv10_2's is leaky.
        assert (taps[name].min() >= 0) == name.endswith("_up")


def test_replacing_a_tap_changes_all_that_follows() -> None:
    network, tree, x = Siggraph17(MODEL), variables()["instance"], inputs()
    seen: dict[str, np.ndarray] = {}

    def note(name: str, feature: jax.Array) -> jax.Array:
        seen[name] = feature
        return feature

    plain = network.apply(tree, x, at_tap=note)
    assert list(seen) == TAP_NAMES
    for name in TAP_NAMES:
        if name.endswith("_up"):
            assert seen[name].min() < 0  # before its ReLU
            np.testing.assert_array_equal(jax.nn.relu(seen[name]), plain.taps[name])
        else:
            np.testing.assert_array_equal(seen[name], plain.taps[name])
    for number, name in enumerate(TAP_NAMES):
        output = network.apply(tree, x, at_tap=lambda n, f, changed=name: f * 0.5 if n == changed else f)
        for other in TAP_NAMES[:number]:
            np.testing.assert_array_equal(output.taps[other], plain.taps[other])
        np.testing.assert_allclose(output.taps[name], 0.5 * plain.taps[name], rtol=1e-5)
        for other in TAP_NAMES[number + 1 :]:
            assert np.abs(output.taps[other] - plain.taps[other]).max() > 0, (name, other)
        assert np.abs(output.ab - plain.ab).max() > 0


def test_shortcuts_carry_the_replaced_feature() -> None:
    """With the deep layers cut off, what is changed at a shortcut's start must still arrive."""
    network, tree, x = Siggraph17(MODEL), variables()["instance"], inputs()
    for start, cut, end in (
        ("conv3_3", "conv7_3", "conv8_up"),
        ("conv2_2", "conv8_3", "conv9_up"),
        ("conv1_2", "conv9_3", "conv10_up"),
    ):

        def at_tap(name: str, feature: jax.Array, factor: float, start: str = start, cut: str = cut) -> jax.Array:
            return feature * {start: factor, cut: 0.0}.get(name, 1.0)

        one = network.apply(tree, x, at_tap=lambda n, f, at_tap=at_tap: at_tap(n, f, 1.0)).taps[end]
        two = network.apply(tree, x, at_tap=lambda n, f, at_tap=at_tap: at_tap(n, f, 2.0)).taps[end]
        assert np.abs(one - two).max() > 1e-3


class TestClassHead:
    def test_logits_come_only_when_asked_for(self, full: Any) -> None:
        network, tree = Siggraph17(MODEL, ALL), variables()["full"]
        asked = full(inputs())
        assert asked.outputs["classes"].logits.shape == (3, SIDE // 4, SIDE // 4, 529)
        assert np.isfinite(asked.outputs["classes"].logits).all()
        shape = jax.eval_shape(lambda x: network.apply(tree, x), inputs())
        assert list(shape.outputs) == ["regression"]

    def test_only_the_full_tree_has_one(self) -> None:
        trees = networks.abstract(MODEL)
        assert "classes" in trees["full"]["params"]
        assert "classes" not in trees["instance"]["params"]
        assert "classes" not in trees["fusion"]["params"]["trunk"]
        with pytest.raises(ValueError, match="output heads classes: this tree has regression"):
            Siggraph17(MODEL).apply(variables()["instance"], inputs(), heads=ALL)

    def test_its_gradient_flows_into_the_backbone(self) -> None:
        network, tree = Siggraph17(MODEL, ALL), variables()["full"]

        @jax.jit
        def gradient(params: Any) -> Any:
            def total(params: Any) -> jax.Array:
                output = network.apply({**tree, "params": params}, inputs(), heads=ALL)
                return (output.outputs["classes"].logits ** 2).sum()

            return jax.grad(total)(params)

        later = ("conv9", "conv10", "norm9", "short2_9", "short1_10", "output")
        for name, leaves in gradient(tree["params"]).items():
            largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(leaves))
            assert (largest > 0) == (not name.startswith(later)), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_types_of_parameters_features_and_color(dtype: Any) -> None:
    """What comes out of a run in these types is compared in test_networks."""
    kept = np.dtype("float64" if dtype == "float64" else "float32")
    config = dataclasses.replace(MODEL, compute_dtype=dtype)
    with jax.enable_x64(dtype == "float64"):
        tree = networks.abstract(config)["full"]
        assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {kept}
        output = jax.eval_shape(lambda v, x: Siggraph17(config, ALL).apply(v, x, heads=ALL), tree, inputs())
        assert {t.dtype for t in output.taps.values()} == {jnp.dtype(dtype)}
        assert output.ab.dtype == kept
        picture = networks.picture(np.full((1, 8, 8, 3), 200, np.uint8), config)
        assert picture.luminance.dtype == picture.ab.dtype == kept


@pytest.fixture(scope="module")
def fresh() -> dict[str, Any]:
    return jax.device_get(networks.init(FEW, 0))


class TestInitialisation:
    """Standard deviations, from enough draws that ten percent are many sigma."""

    SHAPES = ((3, 3, 128, 64), (4, 4, 64, 128))

    def test_normal002(self) -> None:
        for initializer in initializers("normal002"):
            draws = initializer(jax.random.key(0), self.SHAPES[0], jnp.float32)
            assert np.std(draws) == pytest.approx(0.02, rel=0.02)

    def test_he(self) -> None:
        conv, up, output = initializers("he")
        conv_shape, up_shape = self.SHAPES
        key = jax.random.key(0)
        assert np.std(conv(key, conv_shape, jnp.float32)) == pytest.approx(np.sqrt(2 / (9 * 128)), rel=0.02)
        # (kh, kw, out, in): each pixel of the result sums 4 of the 16 taps over 128 channels.
        assert np.std(up(key, up_shape, jnp.float32)) == pytest.approx(np.sqrt(2 / (4 * 128)), rel=0.02)
        assert np.std(output(key, (1, 1, 4096, 2), jnp.float32)) == pytest.approx(np.sqrt(0.02 / 4096), rel=0.05)

    def test_fresh_variables_have_the_form_that_abstract_says(self, fresh: dict[str, Any]) -> None:
        abstract = networks.abstract(FEW)
        assert jax.tree.structure(fresh) == jax.tree.structure(abstract)
        for ours, like in zip(jax.tree.leaves(fresh), jax.tree.leaves(abstract), strict=True):
            assert (ours.shape, ours.dtype) == (like.shape, like.dtype)

    def test_kernels_are_random_and_all_else_is_neutral(self, fresh: dict[str, Any]) -> None:
        kernels = []
        for path, value in traverse_util.flatten_dict(fresh).items():
            if path[-1] == "kernel":
                kernels.append(value.ravel())
                assert value.std() > 0
                if path[1] == "params" and path[2].startswith("fuse_") and value.size > 500:
                    assert value.std() == pytest.approx(0.02, rel=0.15)  # heads: as released
            else:
                np.testing.assert_array_equal(value, {"bias": 0, "mean": 0, "scale": 1, "var": 1}[path[-1]])
        # No two trees or layers share their draws.
        assert len({k[:4].tobytes() for k in kernels}) == len(kernels)

    def test_he_keeps_features_alive_and_starts_near_gray(self, fresh: dict[str, Any]) -> None:
        output = Siggraph17(MODEL, ALL).apply(fresh["full"], inputs())
        for name, feature in output.taps.items():
            assert 1e-6 < float(feature.std()) < 5, name  # narrow layers lose some; N(0, 0.02) would leave 1e-14
        assert float(np.abs(output.ab).max()) < 0.3

    def test_the_seed_decides(self, fresh: dict[str, Any]) -> None:
        again, other = networks.init(FEW, 0), networks.init(FEW, 1)
        same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), fresh, again)
        assert all(jax.tree.leaves(same))
        kernel = ("full", "params", "conv1_1", "kernel")
        flat, flat_other = (traverse_util.flatten_dict(jax.device_get(t)) for t in (fresh, other))
        assert not np.array_equal(flat[kernel], flat_other[kernel])


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_norms(norm: str) -> None:
    config = dataclasses.replace(MODEL, norm=norm)
    abstract = networks.abstract(config)
    layers = [name for name in abstract["full"]["params"] if name.startswith("norm")]
    assert len(layers) == (0 if norm == "none" else 9)
    assert ("batch_stats" in abstract["full"]) == (norm == "batch")
    output = Siggraph17(config).apply(variables(config)["instance"], inputs())
    assert np.isfinite(output.ab).all()
    changed = Siggraph17(config).apply(
        variables(config)["instance"],
        inputs(),
        train=True,
        valid=jnp.array([True, False, True]),
        mutable=["batch_stats"],
    )
    assert np.isfinite(changed[0].ab).all()
    # Only BatchNorm tells training from inference.
    assert (np.abs(changed[0].ab - output.ab).max() > 1e-4) == (norm == "batch")

"""One function on eight devices, by both mappings."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.batch import Batch
from jaxcolor.runtime.compile_options import AS_CUDNN_READS
from jaxcolor.runtime.parallel import AXIS, REPLICATED, SPLIT, Devices

COUNT = 8


@pytest.fixture(params=["shard_map", "pmap"])
def devices(request: pytest.FixtureRequest) -> Devices:
    return Devices.all(request.param)


def test_all_local_devices_or_those_given(devices: Devices) -> None:
    assert devices.count == COUNT
    assert devices.kind == "cpu"
    assert Devices.all(devices.mapping, jax.devices()[:3]).count == 3


def test_replicated_values_come_back_as_they_were(devices: Devices) -> None:
    tree = {"a": np.arange(3, dtype=np.float32), "b": [np.int32(7), np.zeros((0, 2))], "none": {}}
    fetched = devices.fetch(devices.replicate(tree))
    assert jax.tree.structure(fetched) == jax.tree.structure(tree)
    for ours, theirs in zip(jax.tree.leaves(fetched), jax.tree.leaves(tree), strict=True):
        assert not isinstance(ours, jax.Array)
        assert np.shape(ours) == np.shape(theirs)
        np.testing.assert_array_equal(ours, theirs)


def test_every_device_holds_replicated_values_whole(devices: Devices) -> None:
    value = devices.replicate(np.arange(3, dtype=np.float32))
    assert {shard.device for shard in value.addressable_shards} == set(jax.devices())
    for shard in value.addressable_shards:
        np.testing.assert_array_equal(np.asarray(shard.data).reshape(-1), [0, 1, 2])


def test_frozen_variables_lie_as_gpus_read_them_and_come_back(devices: Devices, monkeypatch: Any) -> None:
    kernel = np.random.default_rng(0).standard_normal((3, 3, 4, 5)).astype(jnp.bfloat16)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = devices.replicate_frozen({"kernel": kernel})
    moved = found["kernel"].format.layout.major_to_minor == AS_CUDNN_READS
    assert moved == (devices.mapping == "shard_map")
    np.testing.assert_array_equal(devices.fetch(found)["kernel"], kernel)


def test_pmap_refuses_what_it_cannot_be_told() -> None:
    with pytest.raises(ValueError, match=r"jax\.pmap compiles without options"):
        Devices.all("pmap").map(lambda x: (x,), (SPLIT,), (SPLIT,), cuda_graphs=True)


def test_split_values_come_back_in_order(devices: Devices) -> None:
    batch = Batch(
        full_rgb=np.random.default_rng(0).integers(0, 256, (16, 4, 4, 3), np.uint8),
        crop_rgb=np.zeros((0, 4, 4, 3), np.uint8),
        crop_to_image=np.arange(24, dtype=np.int32),
        level_boxes=np.arange(24 * 16, dtype=np.int32).reshape(24, 4, 4),
        is_real=np.ones(16, bool),
    )
    fetched = devices.fetch(devices.split(batch), SPLIT)
    assert isinstance(fetched, Batch)
    for ours, theirs in zip(fetched[:6], batch[:6], strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_each_device_works_on_its_part(devices: Devices) -> None:
    def function(offset: jax.Array, part: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        index = jax.lax.axis_index(AXIS)
        here = jnp.full((1,), index) + 0 * part[:1].astype(jnp.int32)
        return part * 2 + offset, here, jax.lax.psum(part.sum(), AXIS)

    mapped = devices.map(function, in_specs=(REPLICATED, SPLIT), out_specs=(SPLIT, SPLIT, REPLICATED))
    values = np.arange(2 * COUNT, dtype=np.float32)
    doubled, where, total = mapped(devices.replicate(np.float32(0.5)), devices.split(values))
    np.testing.assert_array_equal(devices.fetch(doubled, SPLIT), values * 2 + 0.5)
    np.testing.assert_array_equal(devices.fetch(where, SPLIT), np.arange(COUNT))
    assert devices.fetch(total) == values.sum()


def test_gradients_are_those_of_one_device(devices: Devices) -> None:
    """The trap: with shard_map's own replication check they come out eight times too big."""

    def function(weight: jax.Array, part: jax.Array) -> tuple[jax.Array, jax.Array]:
        share, gradient = jax.value_and_grad(lambda w: ((w * part) ** 2).sum() / (2 * COUNT))(weight)
        return jax.lax.psum((share, gradient), AXIS)

    mapped = devices.map(function, in_specs=(REPLICATED, SPLIT), out_specs=(REPLICATED, REPLICATED))
    values = np.arange(2 * COUNT, dtype=np.float32)
    loss, gradient = devices.fetch(mapped(devices.replicate(np.float32(3)), devices.split(values)))
    assert loss == pytest.approx((9 * values**2).mean())
    assert gradient == pytest.approx((6 * values**2).mean())


def test_results_go_in_again(devices: Devices) -> None:
    """State goes round: what a step gives is in the form that it takes, and donated memory is used once."""

    def function(state: dict[str, Any], part: jax.Array) -> tuple[dict[str, Any], jax.Array]:
        total = jax.lax.psum(part.sum(), AXIS)
        return {"sum": state["sum"] + total}, total

    mapped = devices.map(function, in_specs=(REPLICATED, SPLIT), out_specs=(REPLICATED, REPLICATED), donate=(0,))
    state = devices.replicate({"sum": np.float32(0)})
    part = devices.split(np.ones(COUNT, np.float32))
    for _ in range(3):
        state, _ = mapped(state, part)
    assert devices.fetch(state) == {"sum": 24}


def test_a_batch_that_does_not_divide_is_refused(devices: Devices) -> None:
    with pytest.raises(ValueError, match=r"evenly divide|reshape"):
        devices.split(np.zeros((COUNT + 1, 2), np.float32))


def test_a_device_alone() -> None:
    for mapping in ("shard_map", "pmap"):
        devices = Devices.all(mapping, jax.devices()[2:3])
        mapped = devices.map(lambda x: (jax.lax.psum(x, AXIS),), in_specs=(SPLIT,), out_specs=(SPLIT,))
        (result,) = mapped(devices.split(np.arange(3.0, dtype=np.float32)))
        np.testing.assert_array_equal(devices.fetch(result, SPLIT), [0, 1, 2])
        assert result.devices() == {jax.devices()[2]}

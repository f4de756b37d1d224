from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxcolor.config import ModelConfig
from jaxcolor.models import networks
from jaxcolor.runtime import parallel
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training.flops import count_flops, peak_flops


def shape(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def conv(x: jax.Array, kernel: jax.Array, **options: Any) -> jax.Array:
    padding = [(1, 1), (1, 1)]
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


def test_products_and_convolutions() -> None:
    assert count_flops(jnp.dot, shape(3, 5), shape(5, 7)) == 2 * 3 * 5 * 7
    assert count_flops(conv, shape(2, 8, 8, 3), shape(3, 3, 3, 4)) == 2 * (2 * 8 * 8) * 4 * 3 * 9
    grouped = count_flops(lambda x, k: conv(x, k, feature_group_count=3), shape(1, 8, 8, 3), shape(3, 3, 1, 3))
    assert grouped == 2 * 64 * 3 * 9


def test_zeros_between_values_do_not_count() -> None:
    dilated = count_flops(lambda x, k: conv(x, k, lhs_dilation=(2, 2)), shape(1, 8, 8, 3), shape(3, 3, 3, 4))
    assert dilated == 2 * 15 * 15 * 4 * 3 * 9 // 4


def test_a_gradient_costs_twice_as_much_again() -> None:
    def loss(x: jax.Array, k: jax.Array) -> jax.Array:
        return (conv(x, k) ** 2).sum()

    once = count_flops(conv, shape(2, 8, 8, 3), shape(3, 3, 3, 4))
    assert count_flops(jax.grad(loss, argnums=(0, 1)), shape(2, 8, 8, 3), shape(3, 3, 3, 4)) == pytest.approx(3 * once)
    assert count_flops(jax.grad(loss, argnums=1), shape(2, 8, 8, 3), shape(3, 3, 3, 4)) == pytest.approx(2 * once)


def test_loops_count_as_often_as_they_run() -> None:
    def loop(x: jax.Array) -> jax.Array:
        return lax.scan(lambda carry, _: (carry @ x, None), x, length=6)[0]

    assert count_flops(loop, shape(4, 4)) == 6 * 2 * 4**3


def test_what_no_result_needs_does_not_count() -> None:
    """Within a jitted function, too; but what a loop carries is needed by its next round."""

    @jax.jit
    def both(x: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x @ k, conv(x[None, ..., None], k[:1, :1, None, None])

    products = 2 * 4**3
    assert count_flops(lambda x, k: both(x, k)[0] + 0 * (k @ k).shape[0], shape(4, 4), shape(4, 4)) == products

    def loop(x: jax.Array) -> jax.Array:
        return lax.scan(lambda carry, _: (carry @ x, carry), x, length=6)[1]

    assert count_flops(loop, shape(4, 4)) == 6 * products


@pytest.mark.parametrize("mapping", ["shard_map", "pmap"])
def test_of_mapped_functions_one_device_counts(mapping: str) -> None:
    devices = Devices.all(mapping, jax.devices()[:4])
    mapped = devices.map(lambda w, x: (x @ w,), (REPLICATED, SPLIT), (SPLIT,))
    w, x = (shape(5, 7), shape(12, 5)) if mapping == "shard_map" else (shape(4, 5, 7), shape(4, 3, 5))
    assert count_flops(mapped, w, x) == 2 * 3 * 5 * 7


def test_options_of_the_compiler_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "graph_options", lambda cuda_graphs, devices: {"xla_gpu_enable_command_buffer": ""})
    devices = Devices.all("shard_map", jax.devices()[:4])
    mapped = devices.map(lambda w, x: (x @ w,), (REPLICATED, SPLIT), (SPLIT,), cuda_graphs=True)
    assert count_flops(mapped, shape(5, 7), shape(12, 5)) == 2 * 3 * 5 * 7


def test_the_network_costs_what_is_known_of_it() -> None:
    """454 GFLOP for an image of 256 x 256 in training, counted by others with PyTorch, class head included."""
    network = networks.build(ModelConfig()).full
    x = shape(1, 256, 256, 4)
    key = jax.random.key(0, impl="rbg")
    variables = jax.eval_shape(lambda x: network.init(key, x, train=False), x)

    def forward(params: object, stats: object, x: jax.Array) -> jax.Array:
        return network.apply({"params": params, "batch_stats": stats}, x, train=False).ab.sum()

    class_head = 3 * 2 * 64**2 * 256 * 529
    counted = count_flops(jax.grad(forward), variables["params"], variables["batch_stats"], x)
    assert counted == pytest.approx(454e9 - class_head, rel=1e-3)


def test_peaks() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("cpu") is None

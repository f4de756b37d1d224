from __future__ import annotations

import platform

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.layout import Format
from jax.sharding import SingleDeviceSharding

from jaxcolor.config import ModelConfig
from jaxcolor.models import networks
from jaxcolor.models.ops.conv import convolve
from jaxcolor.runtime import compile_options
from jaxcolor.runtime.compile_options import (
    AS_CUDNN_READS,
    OLDER_CONVOLUTIONS,
    graph_options,
    prediction_options,
    shardings,
)


def test_graphs_are_for_gpus_if_asked_for(monkeypatch):
    assert graph_options(cuda_graphs=True) is None
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert graph_options(cuda_graphs=False) is prediction_options(cuda_graphs=False) is None
    options = graph_options(cuda_graphs=True)
    assert options == prediction_options(cuda_graphs=True)
    assert options is not None
    assert "CONVOLUTION" in options["xla_gpu_enable_command_buffer"]
    assert options["xla_gpu_command_buffer_scheduling_mode"] == "CONCURRENT"


def test_cudnn_is_started_before_graphs_are_recorded(monkeypatch):
    """On every device of this process, once; CPUs stand in for GPUs."""
    found = []
    conv = jax.lax.conv
    monkeypatch.setattr(jax.lax, "conv", lambda x, *others: found.append(x.device) or conv(x, *others))
    compile_options._start_cudnn.cache_clear()
    first, *others = devices = jax.devices()
    graph_options(cuda_graphs=True, devices=devices)
    assert not found
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    graph_options(cuda_graphs=False, devices=devices)
    assert not found
    graph_options(cuda_graphs=True)
    assert found == [first]
    for _ in range(2):
        graph_options(cuda_graphs=True, devices=devices)
        assert found == [first, *others]
    compile_options._start_cudnn.cache_clear()
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    graph_options(cuda_graphs=True, devices=devices)
    assert found == [first, *others]


def test_this_xla_knows_the_options_for_gpus(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(jax, "default_backend", lambda: "gpu")
        options = graph_options(cuda_graphs=True)
    np.testing.assert_array_equal(jax.jit(lambda x: x + 1, compiler_options=options)(jnp.ones(3)), 2)


def convolution(options):
    """What XLA makes of a convolution, as text."""
    x, kernel = jnp.ones((1, 16, 16, 64)), jnp.ones((3, 3, 64, 64))

    def conv(x, kernel):
        return convolve(x, kernel, ((1, 1), (1, 1)))

    return jax.jit(conv).lower(x, kernel).compile(compiler_options=options).as_text()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="measured on x86 alone")
def test_convolutions_of_predictions_on_cpus_are_the_older_ones():
    """Fails once XLA has other ways, or other names for them: then what is faster is to be measured again."""
    options = prediction_options(cuda_graphs=False)
    assert options == OLDER_CONVOLUTIONS
    assert "ynn" in convolution(None)
    assert "ynn" not in convolution(options)


@pytest.mark.slow
def test_predictions_with_them_are_the_same_but_for_rounding():
    config = ModelConfig(width=0.1, side=64)
    nets, variables = networks.build(config), networks.init(config, 0)
    inputs = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 4)), jnp.float32)

    def colours(options):
        def run(inputs):
            return networks.run_full(nets, variables, inputs).ab

        return np.asarray(jax.jit(run, compiler_options=options)(inputs))

    expected = colours(None)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(colours(OLDER_CONVOLUTIONS), expected, atol=1e-5)


def test_and_those_that_xla_chooses_elsewhere(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert prediction_options(cuda_graphs=False) is None


def test_what_else_goes_wrong_is_told(monkeypatch):
    def broken(*_, **__):
        raise jax.errors.JaxRuntimeError("INTERNAL: out of luck")

    monkeypatch.setattr(jax, "jit", broken)
    compile_options._are_known.cache_clear()
    try:
        with pytest.raises(jax.errors.JaxRuntimeError, match="out of luck"):
            prediction_options(cuda_graphs=False)
    finally:
        compile_options._are_known.cache_clear()


@pytest.mark.parametrize("option", [{"xla_cpu_gone": "1"}, {"xla_cpu_experimental_ynn_fusion_type": "GONE"}])
def test_an_option_that_has_gone_is_not_asked_for(monkeypatch, option):
    monkeypatch.setattr(compile_options, "OLDER_CONVOLUTIONS", option)
    compile_options._are_known.cache_clear()
    try:
        assert prediction_options(cuda_graphs=False) is None
    finally:
        compile_options._are_known.cache_clear()


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_kernels_lie_as_they_are_read_and_are_the_same(monkeypatch, backend):
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 3, 4, 5), "bias": (5,), "dense": (1, 1, 6, 7)}
    host = {name: rng.standard_normal(shape).astype(jnp.bfloat16) for name, shape in shapes.items()}
    host["dense"] = host["dense"].astype(np.float32)
    device = SingleDeviceSharding(jax.devices()[0])
    with monkeypatch.context() as patched:
        patched.setattr(jax, "default_backend", lambda: backend)
        found = jax.device_put(host, shardings(host, device))
    as_they_are = jax.device_put(host, device)
    for name, array in found.items():
        moved = backend == "gpu" and name == "kernel"
        expected = Format(as_they_are[name].format.layout, device)
        assert (array.format == expected) is not moved
        assert not moved or array.format.layout.major_to_minor == AS_CUDNN_READS
        np.testing.assert_array_equal(array, host[name])


def test_a_program_takes_kernels_as_they_lie(monkeypatch):
    host = {"kernel": np.random.default_rng(0).standard_normal((3, 3, 4, 5)).astype(jnp.bfloat16)}
    device = SingleDeviceSharding(jax.devices()[0])
    with monkeypatch.context() as patched:
        patched.setattr(jax, "default_backend", lambda: "gpu")
        kernels = jax.device_put(host, shardings(host, device))
    program = jax.jit(lambda tree: tree["kernel"].sum(axis=(0, 1))).lower(kernels).compile()
    (taken,), _ = program.input_formats
    assert taken["kernel"].layout.major_to_minor == AS_CUDNN_READS
    np.testing.assert_array_equal(program(kernels), program(jax.device_put(host, taken)))

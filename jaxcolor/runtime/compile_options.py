"""Options of XLA beyond its defaults, and where it finds kernels in memory: decided here, and nowhere else."""

from __future__ import annotations

import functools
import platform
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.layout import Format, Layout
from jax.sharding import Sharding

GRAPHED = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONVOLUTION"
"""What CUDA graphs hold: XLA's default, and convolutions, each of which would end one."""
AS_CUDNN_READS = (3, 0, 1, 2)
"""The axes of a kernel (h, w, in, out), or of a transposed one (h, w, out, in), the outermost in memory first."""
OLDER_CONVOLUTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
"""What XLA's newer library for CPUs is to compute: products, not convolutions. With those of the older one, Eigen, a
prediction takes 0.85 of the time on x86 (``docs/performance.md``)."""


def graph_options(cuda_graphs: bool, devices: Sequence[jax.Device] = ()) -> dict[str, str] | None:
    """For ``jax.jit``: on GPUs, launch kernels as CUDA graphs, if wanted. On other devices it is not heeded.

    A graph launches what it holds without waiting for Python, and lets kernels that do not depend on each other run
    side by side: convolutions, which leave the memory idle, and additions, which leave the matrix units idle.

    Starts cuDNN on the devices, if it has not started: while a graph is recorded it cannot.

    Args:
      cuda_graphs: whether they are wanted.
      devices: that the program is to run on; none: the default one.
    """
    if not cuda_graphs or jax.default_backend() != "gpu":
        return None
    for device in devices or [jnp.zeros(()).device]:
        if device.process_index == jax.process_index():
            _start_cudnn(device)
    return {"xla_gpu_enable_command_buffer": GRAPHED, "xla_gpu_command_buffer_scheduling_mode": "CONCURRENT"}


@functools.cache
def _start_cudnn(device: jax.Device) -> None:
    """Compute a small convolution there: cuDNN, which starts with the first one, cannot start in one that is recorded.

    XLA's search for algorithms is such a first one, but it is spared where a program was compiled before, and it only
    runs on one device of several.
    """
    ones = jax.device_put(jnp.ones((16, 16, 3, 3)), device)
    jax.block_until_ready(jax.lax.conv(ones, ones, (1, 1), "SAME"))


def prediction_options(cuda_graphs: bool) -> dict[str, str] | None:
    """For ``jax.jit`` of a prediction: ``graph_options``, and on x86 CPUs ``OLDER_CONVOLUTIONS``.

    Not for training: gradients come out less closely the same on one device and on eight. Evaluation does without too:
    it may be mapped by ``jax.pmap``, which passes no options on, and its numbers shall not depend on that.
    """
    if jax.default_backend() == "cpu" and platform.machine() in ("x86_64", "AMD64") and _are_known():
        return OLDER_CONVOLUTIONS
    return graph_options(cuda_graphs)


@functools.cache
def _are_known() -> bool:
    """Whether this XLA knows ``OLDER_CONVOLUTIONS``, an experimental option that may be removed."""
    try:
        jax.jit(lambda: 0, compiler_options=OLDER_CONVOLUTIONS).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if not any(said in str(error) for said in ("No such compile option", "While setting option")):
            raise
        return False
    return True


def shardings(variables: Any, sharding: Sharding) -> Any:
    """For ``jax.device_put``: the sharding for every array, and on GPUs the layout for kernels in bfloat16.

    ``jax.jit`` compiles for arrays as they lie; so a call does not transpose each kernel before it is used.
    """

    def place(leaf: Any) -> Sharding | Format:
        is_kernel = leaf.ndim == len(AS_CUDNN_READS) and leaf.dtype == jnp.bfloat16
        return Format(Layout(AS_CUDNN_READS), sharding) if is_kernel and jax.default_backend() == "gpu" else sharding

    return jax.tree.map(place, variables)

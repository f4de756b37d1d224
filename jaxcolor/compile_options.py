"""What XLA is told beyond its defaults, and where it finds kernels in memory: decided here, and nowhere else."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.layout import Format, Layout
from jax.sharding import Sharding

GRAPHED = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONVOLUTION"
"""What CUDA graphs hold: XLA's default, and convolutions, each of which would end one."""
AS_CUDNN_READS = (3, 0, 1, 2)
"""The axes of a kernel (h, w, in, out), or of a transposed one (h, w, out, in), the outermost in memory first."""


def compiler_options(cuda_graphs: bool) -> dict[str, str] | None:
    """For ``jax.jit``: with CUDA graphs, or XLA's defaults; on other devices than GPUs these, whatever is asked for.

    A graph launches what it holds without waiting for Python, and lets what does not depend on each other run side by
    side: convolutions that are short of work and additions that are short of memory.
    """
    if not cuda_graphs or jax.default_backend() != "gpu":
        return None
    return {"xla_gpu_enable_command_buffer": GRAPHED, "xla_gpu_command_buffer_scheduling_mode": "CONCURRENT"}


def places(variables: Any, sharding: Sharding) -> Any:
    """For ``jax.device_put``: the sharding for every array, and on GPUs the layout for kernels in bfloat16.

    ``jax.jit`` compiles for arrays as they lie; so a call does not transpose each kernel before it is used.
    """

    def place(leaf: Any) -> Sharding | Format:
        is_kernel = leaf.ndim == len(AS_CUDNN_READS) and leaf.dtype == jnp.bfloat16
        return Format(Layout(AS_CUDNN_READS), sharding) if is_kernel and jax.default_backend() == "gpu" else sharding

    return jax.tree.map(place, variables)

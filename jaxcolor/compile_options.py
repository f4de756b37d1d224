"""What XLA is told beyond its defaults when it compiles the networks: this is decided here, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxcolor.batch import Batch

FEW = 16
"""Photos and crops up to which kernels are so short that their launches are waited for."""
GRAPHS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONVOLUTION"
"""What CUDA graphs hold: XLA's default and convolutions, each of which would end one."""


def jit_prediction(function: Callable[[Any, Batch], jax.Array]) -> Callable[[Any, Batch], jax.Array]:
    """``jax.jit`` of a function of variables and a batch, with the options for as many pictures as a batch has."""
    by_options: dict[bool, Any] = {}

    def call(variables: Any, batch: Batch) -> Any:
        options = compiler_options(len(batch.full_rgb) + len(batch.crop_rgb))
        if (options is None) not in by_options:
            by_options[options is None] = jax.jit(function, compiler_options=options)
        return by_options[options is None](variables, batch)

    return call


def compiler_options(pictures: int) -> dict[str, str] | None:
    """For ``jax.jit(compiler_options=...)`` of a prediction for so many photos and crops, on JAX's default devices.

    Measured on an H100: one photo with 8 boxes 5.5 ms with graphs and 7.2 without, eight of them 28.5 and 27.9.
    """
    if jax.default_backend() != "gpu" or pictures > FEW:
        return None
    return {"xla_gpu_enable_command_buffer": GRAPHS}

"""What XLA is told beyond its defaults when it compiles a prediction: this is decided here, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxcolor.batch import Batch

FEW = 16
"""Photos and crops up to which launches are taken to be waited for: measured with 9 (they are) and with 72 (not)."""
GRAPHS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONVOLUTION"
"""What CUDA graphs hold: XLA's default, and convolutions, each of which would end one."""


def compiler_options(pictures: int, cuda_graphs: bool) -> dict[str, str] | None:
    """For a prediction for so many photos and crops; graphs are used on GPUs, and for few pictures alone."""
    if not cuda_graphs or pictures > FEW or jax.default_backend() != "gpu":
        return None
    return {"xla_gpu_enable_command_buffer": GRAPHS}


def jit_prediction(function: Callable[[Any, Batch], jax.Array], cuda_graphs: bool) -> Callable[[Any, Batch], jax.Array]:
    """``jax.jit`` of a function of variables and a batch, with the options for as many pictures as a batch has."""
    few, many = (jax.jit(function, compiler_options=compiler_options(n, cuda_graphs)) for n in (FEW, FEW + 1))

    def call(variables: Any, batch: Batch) -> Any:
        return (few if len(batch.full_rgb) + len(batch.crop_rgb) <= FEW else many)(variables, batch)

    return call

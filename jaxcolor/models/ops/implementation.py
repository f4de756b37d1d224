"""What the kernels that are written in Pallas for Triton have in common.

Whether a device runs any is decided here; what types and shapes one is for, where it is chosen (``way_for``).
"""

from __future__ import annotations

import importlib
from typing import Any

import jax

AMPERE = 8.0
"""The first compute capability of NVIDIA's that XLA translates Triton for; a T4 has 7.5, a V100 7.0."""


def find(name: str) -> Any:
    """The module ``jaxcolor.models.<name>`` if its kernels run here, else None.

    They do on NVIDIA's GPUs from A100 on, as long as JAX has what they are written in. On AMD's they were not tried.
    The first device speaks for all, so that all processes compute alike.
    """
    if jax.default_backend() != "gpu" or _capability() < AMPERE:
        return None
    try:
        importlib.import_module("jax.experimental.pallas.triton")
    except ImportError:  # it is to leave JAX some day
        return None
    return importlib.import_module(f"jaxcolor.models.{name}")


def blocks_per_program(blocks: int, programs: int) -> int:
    """How many blocks each program computes, where there are to be so many programs; 1 if there are fewer blocks.

    It divides their number, so that all have the same to do; so there may be more programs.
    """
    return next(count for count in range(max(1, blocks // programs), 0, -1) if blocks % count == 0)


def _capability() -> float:
    """NVIDIA's number; 0 on other GPUs, which have a name there or nothing."""
    try:
        return float(getattr(jax.devices()[0], "compute_capability", ""))
    except ValueError:
        return 0.0

"""Where the kernels that are written in Pallas for Triton run, which is decided here and nowhere else, and how."""

from __future__ import annotations

import importlib
from typing import Any

import jax

AMPERE = 8.0
"""The first compute capability of NVIDIA's that XLA translates Triton for; a T4 has 7.5, a V100 7.0."""


def find(name: str) -> Any:
    """The module ``jaxcolor.models.<name>`` if its kernels run on the default device, else None.

    They do on NVIDIA's GPUs from A100 on, as long as JAX has what they are written in. On AMD's they were not tried.
    """
    if jax.default_backend() != "gpu" or _capability() < AMPERE:
        return None
    try:
        return importlib.import_module(f"jaxcolor.models.{name}")
    except ImportError:  # what they are written in is to leave JAX some day
        return None


def turns(blocks: int, programs: int) -> int:
    """How many of the blocks each of at least so many programs computes; a divisor, so that all have the same to do."""
    return next(turns for turns in range(max(1, blocks // programs), 0, -1) if blocks % turns == 0)


def _capability() -> float:
    """NVIDIA's number; 0 on other GPUs, which have a name there or nothing."""
    try:
        return float(getattr(jax.devices()[0], "compute_capability", ""))
    except ValueError:
        return 0.0

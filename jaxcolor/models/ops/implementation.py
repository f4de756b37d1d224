"""Which implementation of an op runs: decided in ``select_implementation``, and nowhere else.

Every op has a plain definition of a line or two, which runs anywhere, and may have faster implementations of the same
numbers for CPUs or GPUs. Two switches leave those out:

- ``JAXCOLOR_PLAIN_OPS=1`` in the environment: plain definitions everywhere, to tell a wrong model from a wrong kernel.
- ``with portable_ops():`` around the tracing of a program that is to run elsewhere (export): nothing then depends on
  the machine that traces.

Predictions on CPUs that multiply bfloat16 faster compute close numbers instead of the same: ``rounds_products``.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import jax

PLAIN_SWITCH = "JAXCOLOR_PLAIN_OPS"
AMPERE = 8.0
"""The first compute capability of NVIDIA's that XLA translates Triton for; a T4 has 7.5, a V100 7.0."""

AMX = "amx_bf16"
BFLOAT16_FLAGS = (AMX, "avx512_bf16")
"""By which Linux says that a CPU multiplies bfloat16 faster than float32, the fastest first: Intel's matrix units, and
vector instructions (AMD since Zen 4, some of Intel's)."""
CPU_INFO = Path("/proc/cpuinfo")

Implementation = TypeVar("Implementation", bound=Callable[..., Any])
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_portable = contextvars.ContextVar("portable", default=False)
_predicts = contextvars.ContextVar("predicts", default=False)


def plain_only() -> bool:
    """Whether ``JAXCOLOR_PLAIN_OPS`` asks for the plain definitions."""
    return os.environ.get(PLAIN_SWITCH, "") not in ("", "0")


@contextlib.contextmanager
def portable_ops() -> Iterator[None]:
    """Trace what is inside the block for any machine: no custom kernels, no choice by this machine's devices."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def select_implementation(
    plain: Implementation,
    *,
    portable: Implementation | None = None,
    fast: Implementation | None = None,
    cpu: Implementation | None = None,
    gpu: Callable[[], Any] | None = None,
) -> Implementation:
    """The implementation of an op for the default backend and the arguments at hand.

    Args:
      plain: its definition.
      portable: what is exported; None: the plain one.
      fast: what any device runs for which there is nothing better; None: the plain one.
      cpu: what CPUs run.
      gpu: asked on GPUs alone, since it may import kernels; what it answers, unless that is None.
    """
    if _portable.get():
        return portable or plain
    if plain_only():
        return plain
    backend = jax.default_backend()
    chosen = cpu if backend == "cpu" else gpu() if backend == "gpu" and gpu is not None else None
    return chosen or fast or plain


def for_prediction(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, for ``jax.jit``, as ``Colorizer`` computes it: ``rounds_products`` may answer yes."""

    @functools.wraps(function)
    def traced(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        token = _predicts.set(True)
        try:
            return function(*args, **kwargs)
        finally:
            _predicts.reset(token)

    return traced


def rounds_products() -> bool:
    """Whether convolutions in float32 multiply in bfloat16 and add up in float32 (``tile_conv``).

    They do where colors are predicted (``for_prediction``) on a CPU that is faster so (``bfloat16_unit``); not in
    training, evaluation and export, and not with ``JAXCOLOR_PLAIN_OPS=1``.
    """
    predicts = _predicts.get() and not _portable.get() and not plain_only()
    return predicts and jax.default_backend() == "cpu" and bool(bfloat16_unit())


@functools.cache
def bfloat16_unit() -> str:
    """The first of ``BFLOAT16_FLAGS`` that this machine's CPUs have; empty where none is, or Linux does not say."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    return next((flag for flag in BFLOAT16_FLAGS if flag in flags), "")


def triton_module(name: str) -> Any:
    """The module ``ops.triton.<name>`` if its kernels run here, else None.

    They do on NVIDIA's GPUs from A100 on, as long as JAX has what they are written in. On AMD's they were not tried.
    The first device speaks for all, so that all processes compute alike.
    """
    if jax.default_backend() != "gpu" or _capability() < AMPERE:
        return None
    try:
        importlib.import_module("jax.experimental.pallas.triton")
    except ImportError:  # Pallas for Triton is deprecated in JAX
        return None
    return importlib.import_module(f"jaxcolor.models.ops.triton.{name}")


def blocks_per_program(blocks: int, programs: int) -> int:
    """How many blocks each program computes, where there are to be so many programs; 1 if there are fewer blocks.

    It divides their number, so that all programs have equal work; so there may be more programs.
    """
    return next(count for count in range(max(1, blocks // programs), 0, -1) if blocks % count == 0)


def _capability() -> float:
    """NVIDIA's number; 0 on other GPUs, which have a name there or nothing."""
    try:
        return float(getattr(jax.devices()[0], "compute_capability", ""))
    except ValueError:
        return 0.0

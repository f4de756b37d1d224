"""Counting the floating-point operations of a step, for the model FLOPs utilisation (MFU) in the logs.

What counts are convolutions and matrix products, two operations a multiply-add, as they stand in the traced program:
forward, input gradients, weight gradients of what is trained. Multiplications by zeros that dilation puts between
values are not counted, and neither is anything else; a step's convolutions are more than 99% of its arithmetic. The
zeros of grouped convolutions (``models/narrow.py``: GPUs, bfloat16) are counted, and so are kernel gradients of frozen
transposed convolutions there, and the first layer's gradient to the photo, which XLA drops. Of a kernel in Pallas what
one of its programs multiplies is counted, which is next to nothing. So the MFU is 0.2% too high in stage 1 and 6% in
stage 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax

PEAK_TFLOPS = {
    "NVIDIA A100": 312,
    "NVIDIA H100": 989,
    "NVIDIA H200": 989,
    "TPU v4": 275,
    "TPU v5 lite": 197,
    "TPU v5p": 459,
    "TPU v6 lite": 918,
}
"""Dense bfloat16 by the makers' data sheets, by how ``device_kind`` begins."""


def peak_flops(device_kind: str) -> float | None:
    """Operations a second that a device could do in bfloat16; None where that is not known here."""
    return next((1e12 * peak for kind, peak in PEAK_TFLOPS.items() if device_kind.startswith(kind)), None)


def count_flops(function: Callable[..., Any], *arguments: Any) -> int:
    """Operations of one call on one device; traced, not run.

    Args:
      function: any traceable function. Of one that ``Devices.map`` made, the part of one device is counted.
      arguments: arrays, or their shapes (``jax.ShapeDtypeStruct``).
    """
    # One that jit was given compiler options for cannot be traced inside another.
    trace = function.trace if hasattr(function, "trace") else jax.jit(function).trace
    return _count(trace(*arguments).jaxpr.jaxpr)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "conv_general_dilated":
            total += _convolution(equation)
        elif name == "dot_general":
            total += _product(equation)
        else:
            times = equation.params["length"] if name == "scan" else 1
            total += times * sum(_count(inner) for inner in _inner(equation))
    return total


def _inner(equation: Any) -> Iterator[Any]:
    """Programs inside an operation; of alternatives (``cond``) all."""
    for value in equation.params.values():
        for each in value if isinstance(value, (tuple, list)) else (value,):
            inner = getattr(each, "jaxpr", each)  # a closed one holds one
            if hasattr(inner, "eqns"):
                yield inner


def _convolution(equation: Any) -> int:
    right = equation.invars[1].aval.shape
    (out,) = (variable.aval.shape for variable in equation.outvars)
    kernel = equation.params["dimension_numbers"].rhs_spec  # output features, input features, spatial dimensions
    window = math.prod(right[axis] for axis in kernel[2:])
    # Of a dilated input every so many-th value is not a zero that was put in.
    zeros = math.prod(equation.params["lhs_dilation"])
    return 2 * math.prod(out) * right[kernel[1]] * window // zeros


def _product(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    (out,) = (variable.aval.shape for variable in equation.outvars)
    return 2 * math.prod(out) * math.prod(left[axis] for axis in contracted)

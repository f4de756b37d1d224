"""How a weights file stores its arrays: as they are, or large kernels in 8 bits.

In ``int8`` storage a kernel x of at least ``LEAST`` numbers is stored as

    q = round(x / s), -127 to 127,    with s = max |x| / 127, one for each channel,

where a channel is an index of the last axis or of the one before it, whichever gives the smaller squared error: these
are the outputs and inputs of a convolution, or inputs and outputs of a transposed one. The scales s are float32, in an
array of their own, ``int8_scale/<name of the kernel>``, whose shape is that of the kernel with 1 for all other axes, so
that x = q * s. Everything else (biases, norms, statistics, whose values range too widely for 16 bits, and small
kernels, among them the first layer, whose rounding costs 0.8 dB: docs/weights.md) stays as it is, less than 1% of the
numbers.

Rounding is the only loss; what was stored and read once is stored again without another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float32, Int8

from jaxcolor.weights.reference import Shape

Storage = Literal["float", "int8"]
"""``float``: float32, or float64 for ``compute_dtype`` float64."""
STORAGES: tuple[Storage, ...] = get_args(Storage)

SCALE = "int8_scale"
"""What the names of scales begin with."""
LEAST = 100_000
"""Numbers of the smallest kernel that is stored in 8 bits."""

_LEVELS = 127


class Quantized(NamedTuple):
    """A kernel in 8 bits."""

    values: Int8[np.ndarray, "*shape"]
    scale: Float32[np.ndarray, "*ones"]
    """As many axes; broadcast over all but one of them."""

    def dequantized(self) -> Float32[np.ndarray, "*shape"]:
        """The kernel that they stand for."""
        return self.values * self.scale


def quantize(kernel: Float32[np.ndarray, "*shape inputs outputs"]) -> Quantized:
    """A kernel in 8 bits, with scales along the better one of its last two axes. Equal kernels give equal bits."""
    ways = [_along(kernel, axis) for axis in (-1, -2)]
    return min(ways, key=lambda way: float(np.square(way.dequantized() - kernel, dtype=np.float64).sum()))


def _along(kernel: Float32[np.ndarray, "*shape"], axis: int) -> Quantized:
    others = tuple(i for i in range(kernel.ndim) if i != axis % kernel.ndim)
    scale = np.abs(kernel).max(axis=others, keepdims=True) / np.float32(_LEVELS)
    scale = np.where(scale > 0, scale, np.float32(1))  # a channel of zeros
    return Quantized(np.clip(np.rint(kernel / scale), -_LEVELS, _LEVELS).astype(np.int8), scale)


def pack(arrays: Mapping[str, np.ndarray], storage: Storage) -> dict[str, np.ndarray]:
    """Name in the file -> array as the file stores it; scales come last.

    Args:
      arrays: name -> float32 array, finite.
      storage: how.
    """
    if storage == "float":
        return dict(arrays)
    packed, scales = dict(arrays), {}
    for name, array in arrays.items():
        if name.rpartition("/")[2] == "kernel" and array.ndim >= 2 and array.size >= LEAST:
            packed[name], scales[f"{SCALE}/{name}"] = quantize(array)
    return packed | scales


def unpack(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of ``pack`` in int8 storage, but for rounding; ``unpacked_types`` must have found nothing wrong."""
    return {
        name: Quantized(array, arrays[f"{SCALE}/{name}"]).dequantized() if f"{SCALE}/{name}" in arrays else array
        for name, array in arrays.items()
        if not _is_scale(name)
    }


def unpacked_types(found: Mapping[str, tuple[Shape, str]]) -> tuple[dict[str, tuple[Shape, str]], list[str]]:
    """What ``unpack`` will make of arrays (name -> shape, type), and a line for everything that keeps it from that.

    Args:
      found: as a file in int8 storage has them; types by safetensors' names.
    """
    types: dict[str, tuple[Shape, str]] = {}
    problems = []
    for name, (shape, kind) in found.items():
        if _is_scale(name):
            kernel = name.removeprefix(f"{SCALE}/")
            if found.get(kernel, ((), ""))[1] != "I8":
                problems.append(f"+ left over: {name} {shape}, of no int8 kernel")
            continue
        types[name] = shape, kind
        if kind != "I8" or len(shape) < 2:
            continue
        types[name] = shape, "F32"
        own, of_type = found.get(f"{SCALE}/{name}", (None, ""))
        allowed = [_scale_shape(shape, axis) for axis in (-1, -2)]
        if own is None:
            problems.append(f"- missing: {SCALE}/{name} {allowed[0]}")
        elif own not in allowed:
            problems.append(f"! wrong shape: {SCALE}/{name} is {own}, expected {allowed[0]} or {allowed[1]}")
        elif of_type != "F32":
            problems.append(f"! wrong type: {SCALE}/{name} is {of_type}, expected F32")
    return types, problems


def bad_scales(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """A line for each array of scales that are not all finite and above 0."""
    return [
        f"! not finite and above 0: {name} holds {array[~good].flat[0]}"
        for name, array in arrays.items()
        if _is_scale(name) and not (good := np.isfinite(array) & (array > 0)).all()
    ]


def _scale_shape(shape: Shape, axis: int) -> Shape:
    ones = [1] * len(shape)
    ones[axis] = shape[axis]
    return tuple(ones)


def _is_scale(name: str) -> bool:
    return name.startswith(f"{SCALE}/")

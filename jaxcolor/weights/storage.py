"""How a weights file stores its arrays: as they are, or large kernels in 8 or 6 bits.

In ``int8`` and ``int6`` storage a kernel x of at least ``least.in_8`` numbers is stored as

    q = round(x / s), from -m to m, m = 127 or 31,    with a scale s for each channel,

where a channel is an index of the last axis or of the one before it, whichever gives the smaller squared error: these
are the outputs and inputs of a convolution, or inputs and outputs of a transposed one. In 8 bits s = max |x| / m; in 6
bits it is the one of ``_SHARES`` of it with the least squared error, which cuts a few large numbers. The scales are
float32, in an array of their own, ``scale/<name of the kernel>``, whose shape is that of the kernel with 1 for all
other axes, so that x = q * s. In 6 bits four q of the last axis lie in three bytes; kernels whose last axis is no
multiple of 4 are stored in 8. A fusion strategy's kernels are small but many: they are stored in 8 bits from
``least.in_8_of_fusion`` numbers on. Everything else (biases, norms, statistics, whose values range too widely for 16
bits, and small kernels, among them the first layer, whose rounding costs 0.8 dB: docs/weights.md) stays as it is, less
than 1% of the numbers. Reading asks the types of the arrays alone, so each file may have limits of its own.

Rounding is the only loss; what was stored and read once is stored again without another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float32, Int8, UInt8

from jaxcolor.weights.reference import Shape

Storage = Literal["float", "int8", "int6"]
"""``float``: float32, or float64 for ``compute_dtype`` float64."""
STORAGES: tuple[Storage, ...] = get_args(Storage)

SCALE = "scale"
"""What the names of scales begin with."""


class Least(NamedTuple):
    """Numbers of the smallest kernel that is stored in few bits."""

    in_8: int = 100_000
    in_6: int = 1_000_000
    """In ``int6`` storage; smaller ones lie where pictures are large, and cost more."""
    in_8_of_fusion: int = 2_000
    """Of a fusion strategy, whose weight maps an error of half a percent hardly changes."""


LEAST = Least()
"""For the network at width 1."""
LEAST_OF_NARROW = Least(in_8=10_000, in_6=100_000)
"""At half of the width: much the same layers in 8 bits as at width 1, and more in 6."""

_FUSION = "fusion/params/fuse_"
"""What the names of a fusion strategy's arrays begin with."""

_LEVELS: Mapping[Storage, int] = {"int8": 127, "int6": 31}
_SHARES: Mapping[Storage, tuple[float, ...]] = {
    "int8": (1.0,),
    "int6": tuple(float(share) for share in np.linspace(1, 0.5, 26)),
}
"""Of the channel's largest number: what the largest level may stand for."""


class Quantized(NamedTuple):
    """A kernel in few bits."""

    values: Int8[np.ndarray, "*shape"]
    scale: Float32[np.ndarray, "*ones"]
    """As many axes; broadcast over all but one of them."""

    def dequantized(self) -> Float32[np.ndarray, "*shape"]:
        """The kernel that they stand for."""
        return self.values * self.scale


def quantize(kernel: Float32[np.ndarray, "*shape inputs outputs"], storage: Storage = "int8") -> Quantized:
    """A kernel in few bits, with scales along the better one of its last two axes. Equal kernels give equal bits."""
    ways = [_along(kernel, axis, storage) for axis in (-1, -2)]
    return min(ways, key=lambda way: float(np.square(way.dequantized() - kernel, dtype=np.float64).sum()))


def _along(kernel: Float32[np.ndarray, "*shape"], axis: int, storage: Storage) -> Quantized:
    others, levels = tuple(i for i in range(kernel.ndim) if i != axis % kernel.ndim), _LEVELS[storage]
    largest = np.abs(kernel).max(axis=others, keepdims=True)
    largest = np.where(largest > 0, largest, np.float32(levels))  # a channel of zeros
    best, least = largest / np.float32(levels), None
    for share in _SHARES[storage]:
        scale = largest * np.float32(share) / np.float32(levels)
        error = np.square(_rounded(kernel, scale, levels) * scale - kernel, dtype=np.float64)
        error = error.sum(axis=others, keepdims=True)
        best = best if least is None else np.where(error < least, scale, best)
        least = error if least is None else np.minimum(error, least)
    return Quantized(_rounded(kernel, best, levels).astype(np.int8), best)


def _rounded(kernel: np.ndarray, scale: np.ndarray, levels: int) -> np.ndarray:
    return np.clip(np.rint(kernel / scale), -levels, levels)


def _four_in_three(values: Int8[np.ndarray, "*shape last"]) -> UInt8[np.ndarray, "*shape bytes"]:
    """Values of 6 bits, four of the last axis in three bytes, the first in the lowest bits."""
    a, b, c, d = np.moveaxis((values.astype(np.int16) + 32).astype(np.uint8).reshape(*values.shape[:-1], -1, 4), -1, 0)
    packed = np.stack([a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2], axis=-1)
    return packed.reshape(*values.shape[:-1], -1)


def _three_to_four(packed: UInt8[np.ndarray, "*shape bytes"]) -> Int8[np.ndarray, "*shape last"]:
    """The inverse of ``_four_in_three``."""
    x, y, z = np.moveaxis(packed.reshape(*packed.shape[:-1], -1, 3), -1, 0)
    values = np.stack([x & 63, (x >> 6 | y << 2) & 63, (y >> 4 | z << 4) & 63, z >> 2], axis=-1)
    return (values.astype(np.int16) - 32).astype(np.int8).reshape(*packed.shape[:-1], -1)


def pack(arrays: Mapping[str, np.ndarray], storage: Storage, least: Least | None = None) -> dict[str, np.ndarray]:
    """Name in the file -> array as the file stores it; scales come last.

    Args:
      arrays: name -> float32 array, finite.
      storage: how.
      least: which kernels are large enough; None: ``LEAST``.
    """
    if storage == "float":
        return dict(arrays)
    least = LEAST if least is None else least
    packed, scales = dict(arrays), {}
    for name, array in arrays.items():
        in_8 = least.in_8_of_fusion if name.startswith(_FUSION) else least.in_8
        if name.rpartition("/")[2] == "kernel" and array.ndim >= 2 and array.size >= in_8:
            fits = array.size >= least.in_6 and array.shape[-1] % 4 == 0
            own: Storage = storage if fits else "int8"
            values, scales[f"{SCALE}/{name}"] = quantize(array, own)
            packed[name] = values if own == "int8" else _four_in_three(values)
    return packed | scales


def unpack(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of ``pack``, but for rounding; ``unpacked_types`` must have found nothing wrong."""

    def unpacked(name: str, array: np.ndarray) -> np.ndarray:
        scale = arrays.get(f"{SCALE}/{name}")
        if scale is None:
            return array
        return Quantized(_three_to_four(array) if array.dtype == np.uint8 else array, scale).dequantized()

    return {name: unpacked(name, array) for name, array in arrays.items() if not _is_scale(name)}


def unpacked_types(found: Mapping[str, tuple[Shape, str]]) -> tuple[dict[str, tuple[Shape, str]], list[str]]:
    """What ``unpack`` will make of arrays (name -> shape, type), and a line for everything that keeps it from that.

    Args:
      found: as a file in few bits has them; types by safetensors' names.
    """
    types: dict[str, tuple[Shape, str]] = {}
    problems = []
    for name, (shape, kind) in found.items():
        if _is_scale(name):
            kernel = name.removeprefix(f"{SCALE}/")
            if found.get(kernel, ((), ""))[1] not in ("I8", "U8"):
                problems.append(f"+ left over: {name} {shape}, of no kernel in 8 or 6 bits")
            continue
        types[name] = shape, kind
        if kind not in ("I8", "U8") or len(shape) < 2:
            continue
        if kind == "U8":
            if shape[-1] % 3:
                problems.append(f"! wrong shape: {name} is {shape}, whose last axis must be a multiple of 3 bytes")
                continue
            shape = (*shape[:-1], shape[-1] // 3 * 4)
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

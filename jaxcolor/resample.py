"""Bilinear crop, resize and paste as separable linear maps: ``W_y @ feature @ W_x^T`` with static shapes for any box.

Half-pixel centers, no antialiasing, edges clamped: PyTorch's ``interpolate(mode='bilinear', align_corners=False)``.
A row of a map holds at most two taps that sum to 1; rows outside a box are 0. The functions take JAX or NumPy arrays.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Bool, Float, Int, Num

from jaxcolor.batch import Array


def _taps(positions: Any, in_side: int, dtype: Any) -> Any:
    """Linear interpolation weights of ``in_side`` samples at real-valued positions within [0, in_side - 1]."""
    xp: Any = positions.__array_namespace__()
    samples = xp.arange(in_side, dtype=positions.dtype)
    return xp.maximum(1 - xp.abs(positions[..., None] - samples), 0).astype(dtype)


def _position_type(xp: Any, dtype: Any) -> Any:
    """Positions need more digits than bfloat16 has: at least float32."""
    return xp.promote_types(dtype, xp.float32)


def paste_map(
    start: Int[Array, " M"], size: Int[Array, " M"], out_side: int, in_side: int, dtype: Any
) -> Float[Array, "M out_side in_side"]:
    """Maps that resize ``in_side`` samples to ``size`` and lay them at ``start`` on a line of ``out_side``, else 0."""
    xp: Any = start.__array_namespace__()
    real = _position_type(xp, dtype)
    row = xp.arange(out_side, dtype=real) - start[:, None].astype(real)
    length = size[:, None].astype(real)
    positions = xp.clip((row + 0.5) * (in_side / length) - 0.5, 0, in_side - 1)
    inside = (row >= 0) & (row < length)
    return xp.where(inside[..., None], _taps(positions, in_side, dtype), 0)


def shrink_map(
    start: Float[Array, " M"], size: Float[Array, " M"], out_side: int, in_side: int, dtype: Any
) -> Float[Array, "M out_side in_side"]:
    """As ``crop_map``, with antialiasing where it reduces: Pillow's ``BILINEAR``, a triangle as wide as two samples."""
    xp: Any = start.__array_namespace__()
    real = _position_type(xp, dtype)
    first, length = start[:, None].astype(real), size[:, None].astype(real)
    center = first + (xp.arange(out_side, dtype=real) + 0.5) * (length / out_side)
    sample = xp.arange(in_side, dtype=real) + 0.5
    reach = xp.maximum(length / out_side, 1)[..., None]
    inside = (sample > first) & (sample < first + length)
    triangle = xp.maximum(1 - xp.abs(center[..., None] - sample) / reach, 0)
    weight = xp.where(inside[:, None], triangle, 0)
    # Narrower than a sample: the nearest one.
    nearest = xp.abs(center[..., None] - sample) <= 0.5
    weight = xp.where((weight.sum(-1) > 0)[..., None], weight, nearest.astype(real))
    return (weight / weight.sum(-1)[..., None]).astype(dtype)


def crop_map(
    start: Num[Array, " M"], size: Num[Array, " M"], out_side: int, in_side: int, dtype: Any
) -> Float[Array, "M out_side in_side"]:
    """Maps that cut ``size`` of ``in_side`` samples from ``start`` on, and resize them to ``out_side``."""
    xp: Any = start.__array_namespace__()
    real = _position_type(xp, dtype)
    first, length = start[:, None].astype(real), size[:, None].astype(real)
    within = (xp.arange(out_side, dtype=real) + 0.5) * (length / out_side) - 0.5
    return _taps(first + xp.clip(within, 0, length - 1), in_side, dtype)


def _apply(rows: Any, feature: Any, columns: Any) -> Any:
    xp: Any = feature.__array_namespace__()
    return xp.einsum("mxj,myjc->myxc", columns, xp.einsum("myi,mijc->myjc", rows, feature))


def paste(
    feature: Float[Array, "M h w C"], boxes: Int[Array, "M 4"], height: int, width: int
) -> Float[Array, "M {height} {width} C"]:
    """Each feature resized into its box (x0, y0, width, height) on an empty canvas, 0 outside.

    Boxes are expected to lie on the canvas with sides of at least 1; what sticks out is cut off.
    """
    rows = paste_map(boxes[:, 1], boxes[:, 3], height, feature.shape[1], feature.dtype)
    columns = paste_map(boxes[:, 0], boxes[:, 2], width, feature.shape[2], feature.dtype)
    return _apply(rows, feature, columns)


def crop(
    feature: Float[Array, "M H W C"], boxes: Int[Array, "M 4"], height: int, width: int
) -> Float[Array, "M {height} {width} C"]:
    """The part of each feature in its box (x0, y0, width, height), resized; nothing outside the box leaks in."""
    rows = crop_map(boxes[:, 1], boxes[:, 3], height, feature.shape[1], feature.dtype)
    columns = crop_map(boxes[:, 0], boxes[:, 2], width, feature.shape[2], feature.dtype)
    return _apply(rows, feature, columns)


def resize(feature: Float[Array, "M h w C"], height: int, width: int) -> Float[Array, "M {height} {width} C"]:
    """Each feature resized to height x width."""
    xp: Any = feature.__array_namespace__()
    whole = xp.asarray([[0, 0, width, height]], dtype=xp.int32)
    return paste(feature, xp.broadcast_to(whole, (feature.shape[0], 4)), height, width)


def inside(boxes: Int[Array, "M 4"], height: int, width: int) -> Bool[Array, "M {height} {width}"]:
    """Whether a pixel of the canvas lies in each box (x0, y0, width, height)."""
    xp: Any = boxes.__array_namespace__()
    x0, y0, w, h = (boxes[:, i, None, None] for i in range(4))
    x, y = xp.arange(width)[None, None, :], xp.arange(height)[None, :, None]
    return (x >= x0) & (x < x0 + w) & (y >= y0) & (y < y0 + h)

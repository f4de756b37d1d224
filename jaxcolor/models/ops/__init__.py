"""How each layer is computed fast, behind one plain definition; README.md has the table.

A model is written with what is here, and reads like its figure:

    x = relu(conv("conv1_1", inputs))            # Conv3x3
    x = relu(up("conv8_up", x) + conv("short3_8", conv3_3))

Convolutions are *pending* (``conv.Pending``): the op that follows computes them, by the fastest implementation for the
device (``implementation.select_implementation``). ``value`` gives the array of anything.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxcolor.models.ops import activation
from jaxcolor.models.ops import thin_conv as _thin_conv
from jaxcolor.models.ops.blend import box_blend
from jaxcolor.models.ops.conv import Conv3x3, Convolution, Feature, Layer, Pending, Phased
from jaxcolor.models.ops.implementation import portable_ops, select_implementation
from jaxcolor.models.ops.norm import BatchNorm, make_norm
from jaxcolor.models.ops.output_conv import LeakyConvolution, conv1x1
from jaxcolor.models.ops.up_conv import UpConv, UpConvolution

__all__ = [
    "BatchNorm",
    "Conv3x3",
    "Convolution",
    "Feature",
    "Layer",
    "Pending",
    "UpConv",
    "UpConvolution",
    "box_blend",
    "channels",
    "conv1x1",
    "leaky_relu",
    "make_norm",
    "portable_ops",
    "relu",
    "select_implementation",
    "value",
]


def value(x: Feature) -> jax.Array:
    """The array of a feature, which is computed now if it is pending."""
    return x.value() if isinstance(x, Pending) else x


def channels(x: Feature) -> int:
    """How many channels a feature has; nothing is computed."""
    if isinstance(x, LeakyConvolution):
        return channels(x.convolution)
    if isinstance(x, Convolution):
        return int(x.kernel.shape[-1])
    return int(value(x).shape[-1])


def relu(x: Feature) -> Feature:
    """ReLU; of a dilated convolution's in the layout that the next one reads."""
    if not isinstance(x, Convolution):
        return _array_relu(value(x))
    if x.rounded:
        y = x.activated(0.0)
        return Phased(y, x.step) if x.step > 1 else y
    if x.step > 1:
        return Phased(_array_relu(x.with_bias()), x.step)
    inputs, features = value(x.x), x.kernel.shape[-1]
    if x.dilation == 1 and min(inputs.shape[-1], features) <= _thin_conv.THIN:
        inputs = inputs.astype(x.dtype)
        parameters = (jnp.asarray(x.kernel, x.dtype), jnp.asarray(x.bias, x.dtype))
        return _thin_conv.implementation_for(inputs, features)(inputs, *parameters)
    return _array_relu(x.with_bias())


def leaky_relu(x: Feature, slope: float) -> Feature:
    """Leaky ReLU, ``slope`` below 0; of a convolution's pending, so that an output layer need not store it."""
    return LeakyConvolution(x, slope) if isinstance(x, Convolution) else activation.leaky_relu(value(x), slope)


def _array_relu(x: jax.Array) -> jax.Array:
    return select_implementation(plain=jax.nn.relu, fast=activation.relu)(x)

"""The encoder-decoder of Zhang et al. 2017 (siggraph17), shared by the full-image, instance and fusion networks.

Every convolution is 3x3, stride 1, zero padded, with bias, and followed by ReLU unless said. Normalisation comes after
the last ReLU of a block and down-sampling is slicing after it (``[::2, ::2]``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jaxcolor.color import BINS
from jaxcolor.config import ModelConfig
from jaxcolor.models.ops.conv import Conv, add_bias
from jaxcolor.models.ops.norm import make_norm
from jaxcolor.models.ops.output_conv import ToFew
from jaxcolor.models.ops.relu import leaky_relu, relu
from jaxcolor.models.ops.thin_conv import NarrowConv
from jaxcolor.models.ops.up_conv import UpConv


class Tap(NamedTuple):
    """A layer whose feature can be fused."""

    name: str
    level: int
    """Its side is the canvas side / 2**level."""
    channels: int
    """At width 1."""


TAPS = (
    Tap("conv1_2", 0, 64),
    Tap("conv2_2", 1, 128),
    Tap("conv3_3", 2, 256),
    Tap("conv4_3", 3, 512),
    Tap("conv5_3", 3, 512),
    Tap("conv6_3", 3, 512),
    Tap("conv7_3", 3, 512),
    Tap("conv8_up", 2, 256),
    Tap("conv8_3", 2, 256),
    Tap("conv9_up", 1, 128),
    Tap("conv9_3", 1, 128),
    Tap("conv10_up", 0, 128),
    Tap("conv10_2", 0, 128),
)
ENCODER_TAPS = tuple(t.name for t in TAPS[:7])
DECODER_TAPS = tuple(t.name for t in TAPS[7:])

LEAKY_SLOPE = 0.2
"""Of the last ReLU below 0."""

HINT_MASK_EMPTY = -0.5
"""Value of the hint mask where no colour hint is given; +0.5 where one is."""

AtTap = Callable[[str, jax.Array], jax.Array]


class BackboneOutput(NamedTuple):
    """What the backbone computes; under ``jit`` only what is used costs anything."""

    ab: Float[jax.Array, "B H W 2"]
    """Normalised ab in (-1, 1), at least float32."""
    taps: dict[str, jax.Array]
    """Every tap; the ``*_up`` ones after the ReLU that follows them, as the reference's instance branch reads them."""
    class_logits: Float[jax.Array, "B h w 529"] | None
    """Logits over ab bins at a quarter of the canvas side, if asked for."""


class Initializers(NamedTuple):
    """Kernel initialisers of the three kinds of layer."""

    conv: Any
    up: Any
    """Transposed convolutions, whose kernels are (kh, kw, out, in): a pixel sums a quarter of the 4x4 taps."""
    output: Any


def initializers(kind: str) -> Initializers:
    """The initialisers of ``ModelConfig.init``."""
    if kind == "normal002":
        normal = nn.initializers.normal(0.02)
        return Initializers(normal, normal, normal)
    scaling = nn.initializers.variance_scaling
    return Initializers(
        conv=scaling(2.0, "fan_in", "normal"),
        up=scaling(8.0, "fan_in", "normal", in_axis=-1, out_axis=-2),
        # Start near gray: He's variance would saturate the tanh.
        output=scaling(0.02, "fan_in", "normal"),
    )


def parameter_type(config: ModelConfig) -> Any:
    """Type in which parameters and statistics are kept."""
    return jnp.float64 if config.compute_dtype == "float64" else jnp.float32


def network_input(
    luminance: Float[jax.Array, "B H W 1"],
    hint_ab: Float[jax.Array, "B H W 2"] | None = None,
    hint_mask: Float[jax.Array, "B H W 1"] | None = None,
) -> Float[jax.Array, "B H W 4"]:
    """Normalised L with colour hints (normalised ab, mask -0.5 or +0.5); without any, the empty hint."""
    if hint_ab is None:
        hint_ab = jnp.zeros((*luminance.shape[:-1], 2), luminance.dtype)
    if hint_mask is None:
        hint_mask = jnp.full_like(luminance, HINT_MASK_EMPTY)
    return jnp.concatenate([luminance, hint_ab, hint_mask], axis=-1)


def to_phases(x: Float[jax.Array, "B H W C"], step: int) -> Float[jax.Array, "B*{step}*{step} H/{step} W/{step} C"]:
    """Every ``step``-th row and column as pictures of their own."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // step, step, width // step, step, channels).transpose(0, 2, 4, 1, 3, 5)
    return x.reshape(batch * step * step, height // step, width // step, channels)


def from_phases(x: jax.Array, step: int) -> jax.Array:
    """The way back."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch // step**2, step, step, height, width, channels).transpose(0, 3, 1, 4, 2, 5)
    return x.reshape(batch // step**2, height * step, width * step, channels)


class Backbone(nn.Module):
    """The encoder-decoder: L and hints in, normalised ab and every named feature out.

    Attributes:
      config: width, norm, initialisation and compute type.
      class_head: whether the 529-class head exists (the full tree has it; the others never compute it).
      axis_name: mapped axis over which BatchNorm adds its statistics in training, or None.
    """

    config: ModelConfig
    class_head: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        inputs: Float[jax.Array, "B H W 4"],
        *,
        train: bool = False,
        valid: Bool[jax.Array, " B"] | None = None,
        at_tap: AtTap | None = None,
        classify: bool = False,
    ) -> BackboneOutput:
        """Run the network; sides must be multiples of 8.

        Args:
          inputs: normalised L, hint ab, hint mask (``network_input``).
          train: normalise by the batch and move the running statistics (collection ``batch_stats``).
          valid: pictures that count for the statistics in training; None: all.
          at_tap: called at every tap with its name and feature (the ``*_up`` ones before their ReLU); what it returns
            takes the feature's place in all that follows. This is how fusion enters.
          classify: compute the class logits too, without gradient into the backbone.

        Raises:
          ValueError: sides that are not multiples of 8, or ``classify`` without a class head.
        """
        if inputs.shape[1] % 8 or inputs.shape[2] % 8:
            raise ValueError(f"canvas {inputs.shape[1]}x{inputs.shape[2]}: sides must be multiples of 8")
        if classify and not self.class_head:
            raise ValueError("classify=True, but this network has no class head")
        dtype, param_dtype = jnp.dtype(self.config.compute_dtype), parameter_type(self.config)
        kernel = initializers(self.config.init)
        taps: dict[str, jax.Array] = {}

        def channels(full_width: int) -> int:
            return max(1, round(full_width * self.config.width))

        def conv(name: str, x: jax.Array, features: int, dilation: int = 1, more_bias: Any = 0.0) -> jax.Array:
            return Conv(channels(features), dtype, param_dtype, kernel.conv, dilation, name=name)(x, more_bias)

        def narrow(name: str, x: jax.Array, features: int) -> jax.Array:
            return NarrowConv(channels(features), dtype, param_dtype, kernel.conv, name=name)(x)

        def norm(name: str, x: jax.Array) -> jax.Array:
            return make_norm(self.config.norm, name, dtype, param_dtype, self.axis_name)(x, train, valid)

        def block(number: int, x: jax.Array, features: int, count: int, dilation: int = 1) -> jax.Array:
            """``count`` convolutions with ReLU, then the norm; its output is the tap conv<number>_<count>."""
            phased = dilation > 1 and x.shape[1] % dilation == x.shape[2] % dilation == 0
            if phased:
                x = to_phases(x, dilation)
            for i in range(1, count + 1):
                first = number == i == 1
                name = f"conv{number}_{i}"
                x = narrow(name, x, features) if first else relu(conv(name, x, features, 1 if phased else dilation))
            if phased:
                x = from_phases(x, dilation)
            return tap(f"conv{number}_{count}", norm(f"norm{number}", x))

        def tap(name: str, x: jax.Array) -> jax.Array:
            taps[name] = x if at_tap is None else at_tap(name, x)
            return taps[name]

        def up(number: int, x: jax.Array, skip: jax.Array, skip_name: str, features: int) -> jax.Array:
            """Twice the side, plus a shortcut; tapped before the ReLU, handed on (and recorded) after it."""
            name = f"conv{number}_up"
            upsampled, bias = UpConv(channels(features), dtype, param_dtype, kernel.up, name=name)(x)
            taps[name] = relu(tap(name, upsampled + conv(skip_name, skip, features, more_bias=bias)))
            return taps[name]

        conv1_2 = block(1, inputs.astype(dtype), 64, 2)
        conv2_2 = block(2, conv1_2[:, ::2, ::2], 128, 2)
        conv3_3 = block(3, conv2_2[:, ::2, ::2], 256, 3)
        conv4_3 = block(4, conv3_3[:, ::2, ::2], 512, 3)
        conv5_3 = block(5, conv4_3, 512, 3, dilation=2)
        conv6_3 = block(6, conv5_3, 512, 3, dilation=2)
        conv7_3 = block(7, conv6_3, 512, 3)

        x = up(8, conv7_3, conv3_3, "short3_8", 256)
        x = relu(conv("conv8_2", x, 256))
        x = relu(conv("conv8_3", x, 256))
        conv8_3 = tap("conv8_3", norm("norm8", x))

        x = up(9, conv8_3, conv2_2, "short2_9", 128)
        x = relu(conv("conv9_3", x, 128))
        conv9_3 = tap("conv9_3", norm("norm9", x))

        x = up(10, conv9_3, conv1_2, "short1_10", 128)
        x, bias = Conv(channels(128), dtype, param_dtype, kernel.conv, name="conv10_2").apart(x)
        conv10_2 = tap("conv10_2", leaky_relu(add_bias(x, bias), LEAKY_SLOPE))
        to_ab = ToFew(2, dtype, param_dtype, kernel.output, name="output")
        # Where nothing takes the tap's place, the ReLU is left to the output, which need not store it.
        output = to_ab(x, (bias, LEAKY_SLOPE)) if at_tap is None else to_ab(conv10_2)
        # tanh in at least float32: bfloat16 has too few digits for smooth colour.
        ab = jnp.tanh(output.astype(jnp.promote_types(dtype, jnp.float32)))
        logits = None
        if self.class_head and (classify or self.is_initializing()):
            classes = nn.Conv(
                BINS, (1, 1), dtype=dtype, param_dtype=param_dtype, kernel_init=kernel.output, name="classes"
            )
            logits = classes(jax.lax.stop_gradient(conv8_3))
        return BackboneOutput(ab, taps, logits if classify else None)

"""The encoder-decoder of Zhang et al. 2017 (siggraph17), and what every backbone has in common.

Every convolution is 3x3, stride 1, zero padded, with bias, and followed by ReLU unless said. Normalization comes after
the last ReLU of a block and down-sampling is slicing after it (``[::2, ::2]``).

Another backbone is one class: what it computes (``features``) and which of its layers can be fused (``taps``); see
``unet.py``, and docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jaxcolor.config import ConfigError, ModelConfig
from jaxcolor.models import ops
from jaxcolor.models.ops import leaky_relu, relu
from jaxcolor.registries import BACKBONES, OUTPUTS


class Tap(NamedTuple):
    """A layer whose feature can be fused."""

    name: str
    level: int
    """Its side is the canvas side / 2**level."""
    channels: int
    """At width 1."""
    part: str
    """``encoder`` or ``decoder``: the groups of ``FusionConfig.layers``."""


AtTap = Callable[[str, jax.Array], jax.Array]
Fuse = Callable[[str, ops.Feature], ops.Feature]
NOTHING_KNOWN: Mapping[str, jax.Array] = MappingProxyType({})


class BackboneOutput(NamedTuple):
    """What a backbone computes; under ``jit`` only what is used costs anything."""

    outputs: dict[str, Any]
    """What each output head predicts, by its name; in the heads' order."""
    taps: dict[str, jax.Array]
    """Every tap; the ``*_up`` ones after the ReLU that follows them, as the reference's instance branch reads them."""
    ab: Float[jax.Array, "B H W 2"]
    """The first head's color: normalized ab in (-1, 1), at least float32."""


class Initializers(NamedTuple):
    """Kernel initializers of the three kinds of layer."""

    conv: Any
    up: Any
    """Transposed convolutions, whose kernels are (kh, kw, out, in): a pixel sums a quarter of the 4x4 taps."""
    output: Any


def initializers(kind: str) -> Initializers:
    """The initializers of ``ModelConfig.init``."""
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


class Backbone(nn.Module):
    """The frame of every backbone: checks, types, taps, output heads. Subclasses say what the features are.

    Attributes:
      config: width, norm, initialization and compute type.
      heads: output heads that the tree has parameters of, names of ``registries.OUTPUTS`` or dotted paths.
      axis_name: mapped axis over which BatchNorm adds its statistics in training, or None.
    """

    config: ModelConfig
    heads: tuple[str, ...] = ("regression",)
    axis_name: str | None = None

    taps: ClassVar[tuple[Tap, ...]]
    """Layers that can be fused, in the order in which they are computed."""
    head_inputs: ClassVar[Mapping[int, str]]
    """Level -> tap that output heads of that level read."""
    output_layers: ClassVar[tuple[str, ...]]
    """What stage fusion trains beside weight heads with ``trained = 'fusion_and_output'``; output heads included."""
    decoder_layers: ClassVar[tuple[str, ...]] = ()
    """The same for ``fusion_and_decoder``; none: that is refused. No tap of the part ``encoder`` depends on these."""
    reference_heads: ClassVar[tuple[str, ...]] = ()
    """Heads that the tree ``full`` has whether they are trained or not."""
    multiple: ClassVar[int] = 8
    """Sides of the canvas are multiples of this."""

    def features(self, inputs: jax.Array, layers: Layers, fuse: Fuse) -> dict[str, ops.Feature]:
        """Every tap by name. ``fuse(name, x)`` must be called at each, and what follows reads its result."""
        raise NotImplementedError

    @nn.compact
    def __call__(
        self,
        inputs: Float[jax.Array, "B H W 4"],
        *,
        train: bool = False,
        valid: Bool[jax.Array, " B"] | None = None,
        at_tap: AtTap | None = None,
        heads: tuple[str, ...] | None = None,
        known: Mapping[str, jax.Array] = NOTHING_KNOWN,
    ) -> BackboneOutput:
        """Run the network.

        Args:
          inputs: normalized L, hint ab, hint mask (``networks.network_input``).
          train: normalize by the batch and move the running statistics (collection ``batch_stats``).
          valid: pictures that count for the statistics in training; None: all.
          at_tap: called at every tap with its name and feature (the ``*_up`` ones before their ReLU); what it returns
            takes the feature's place in all that follows. This is how fusion enters.
          heads: output heads to compute, of those that the tree has; None: those of ``ModelConfig.outputs``.
          known: taps that were computed elsewhere, as ``BackboneOutput.taps`` has them: they take the place of this
            call's, and under ``jit`` what leads to them alone costs nothing.

        Raises:
          ValueError: sides that are not multiples of ``multiple``, or a head that the tree does not have.
        """
        height, width = inputs.shape[1:3]
        if height % self.multiple or width % self.multiple:
            raise ValueError(f"canvas {height}x{width}: sides must be multiples of {self.multiple}")
        wanted = self.config.outputs if heads is None else heads
        absent = [head for head in wanted if head not in self.heads]
        if absent:
            raise ValueError(f"output heads {', '.join(absent)}: this tree has {', '.join(self.heads)}")
        layers = Layers(self.config, train, valid, self.axis_name)

        def fuse(name: str, x: ops.Feature) -> ops.Feature:
            if name in known:
                return jnp.asarray(known[name], layers.dtype)
            return x if at_tap is None else at_tap(name, ops.value(x))

        taps = self.features(jnp.asarray(inputs, layers.dtype), layers, fuse)
        outputs: dict[str, Any] = {}
        for name in self.heads if self.is_initializing() else wanted:
            kind = OUTPUTS.get(name)
            if kind.level not in self.head_inputs:
                why = f"backbone {self.config.backbone!r} has no feature of level {kind.level} for it (head_inputs)"
                raise ConfigError(f"model.outputs: {name!r}: {why}")
            head = kind(self.config, layers.dtype, layers.param_dtype, layers.kernel.output, name=kind.scope_name)
            outputs[name] = head(taps[self.head_inputs[kind.level]])
        ab = OUTPUTS.get(wanted[0]).decode(outputs[wanted[0]], (height, width)) if wanted else jnp.zeros(0)
        return BackboneOutput(outputs, {name: ops.value(x) for name, x in taps.items()}, ab)


class Layers:
    """The layers of a backbone by name, with the config's width, types, initializers and norm; to be called inside one.

    Attributes:
      dtype: type of the computation.
      param_dtype: type of the parameters.
      kernel: initializers.
    """

    def __init__(self, config: ModelConfig, train: bool, valid: jax.Array | None, axis_name: str | None) -> None:
        self._config, self._train, self._valid, self._axis_name = config, train, valid, axis_name
        self.dtype = jnp.dtype(config.compute_dtype)
        self.param_dtype = parameter_type(config)
        self.kernel = initializers(config.init)

    def channels(self, at_width_1: int) -> int:
        """Channels at the config's width."""
        return max(1, round(at_width_1 * self._config.width))

    def conv(self, name: str, x: ops.Feature, channels: int, dilation: int = 1) -> ops.Convolution:
        """3x3, stride 1, zero padding."""
        types = (self.dtype, self.param_dtype, self.kernel.conv)
        return ops.Conv3x3(self.channels(channels), *types, dilation, name=name)(x)

    def up(self, name: str, x: ops.Feature, channels: int) -> ops.UpConvolution:
        """4x4 transposed, stride 2: twice the side."""
        types = (self.dtype, self.param_dtype, self.kernel.up)
        return ops.UpConv(self.channels(channels), *types, name=name)(x)

    def norm(self, name: str, x: ops.Feature, kind: str = "") -> jax.Array:
        """Normalization, of the config's kind unless another is given."""
        norm = ops.make_norm(kind or self._config.norm, name, self.dtype, self.param_dtype, self._axis_name)
        return norm(ops.value(x), self._train, self._valid)


class Siggraph17(Backbone):
    """The reference's backbone (Zhang et al. 2017; table in the paper's supplement)."""

    taps = (
        Tap("conv1_2", 0, 64, "encoder"),
        Tap("conv2_2", 1, 128, "encoder"),
        Tap("conv3_3", 2, 256, "encoder"),
        Tap("conv4_3", 3, 512, "encoder"),
        Tap("conv5_3", 3, 512, "encoder"),
        Tap("conv6_3", 3, 512, "encoder"),
        Tap("conv7_3", 3, 512, "encoder"),
        Tap("conv8_up", 2, 256, "decoder"),
        Tap("conv8_3", 2, 256, "decoder"),
        Tap("conv9_up", 1, 128, "decoder"),
        Tap("conv9_3", 1, 128, "decoder"),
        Tap("conv10_up", 0, 128, "decoder"),
        Tap("conv10_2", 0, 128, "decoder"),
    )
    head_inputs: ClassVar = {0: "conv10_2", 2: "conv8_3"}
    output_layers = ("conv10_2", "output", "classes")
    decoder_layers = (
        *("conv8_up", "short3_8", "conv8_2", "conv8_3", "norm8"),
        *("conv9_up", "short2_9", "conv9_3", "norm9"),
        *("conv10_up", "short1_10", *output_layers),
    )
    reference_heads = ("classes",)

    def features(self, inputs: jax.Array, layers: Layers, fuse: Fuse) -> dict[str, ops.Feature]:
        """The figure, top to bottom."""
        conv, up, norm = layers.conv, layers.up, layers.norm
        taps: dict[str, Any] = {}

        def block(number: int, x: Any, channels: int, count: int, dilation: int = 1) -> jax.Array:
            for i in range(1, count + 1):
                x = relu(conv(f"conv{number}_{i}", x, channels, dilation))
            name = f"conv{number}_{count}"
            taps[name] = fuse(name, norm(f"norm{number}", x))
            return taps[name]

        conv1_2 = block(1, inputs, 64, 2)
        conv2_2 = block(2, conv1_2[:, ::2, ::2], 128, 2)
        conv3_3 = block(3, conv2_2[:, ::2, ::2], 256, 3)
        conv4_3 = block(4, conv3_3[:, ::2, ::2], 512, 3)
        conv5_3 = block(5, conv4_3, 512, 3, dilation=2)
        conv6_3 = block(6, conv5_3, 512, 3, dilation=2)
        conv7_3 = block(7, conv6_3, 512, 3)

        x = up("conv8_up", conv7_3, 256) + conv("short3_8", conv3_3, 256)
        x = taps["conv8_up"] = relu(fuse("conv8_up", x))  # fused before its ReLU, read by fusion after it
        x = relu(conv("conv8_2", x, 256))
        x = relu(conv("conv8_3", x, 256))
        x = taps["conv8_3"] = fuse("conv8_3", norm("norm8", x))

        x = up("conv9_up", x, 128) + conv("short2_9", conv2_2, 128)
        x = taps["conv9_up"] = relu(fuse("conv9_up", x))
        x = relu(conv("conv9_3", x, 128))
        x = taps["conv9_3"] = fuse("conv9_3", norm("norm9", x))

        x = up("conv10_up", x, 128) + conv("short1_10", conv1_2, 128)
        x = taps["conv10_up"] = relu(fuse("conv10_up", x))
        taps["conv10_2"] = fuse("conv10_2", leaky_relu(conv("conv10_2", x, 128), 0.2))
        return taps


def backbone_class(config: ModelConfig) -> type[Backbone]:
    """The backbone that a config names.

    Raises:
      UserError: ``model.backbone`` names none.
    """
    return BACKBONES.get(config.backbone)

"""The losses that can be added up, one number a picture each: which there are, their weights, and what each costs.

Every loss takes predictions in any floating type, computes in at least float32 and returns (B,), so that pictures can
be masked and summed over parts of a batch (``losses.sum_of_valid``). A loss of weight 0 is never computed.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxcolor import color
from jaxcolor.batch import Array
from jaxcolor.config import ConfigError
from jaxcolor.models.outputs import ab_distribution
from jaxcolor.training.losses import LOSS_SCALE, picture_loss

VggParams = Mapping[str, Mapping[str, Any]]
"""Torchvision's layer name -> {"kernel": H W I O, "bias"}, as ``lpips.load("vgg", file)["trunk"]``; other layers may be
there."""

VGG_BLOCKS = (
    ("features.0", "features.2"),
    ("features.5", "features.7"),
    ("features.10", "features.12", "features.14"),
    ("features.17", "features.19", "features.21"),
)
"""VGG16's convolutions up to relu4_3; a 2x2 max pool between blocks, and the last of each is compared."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of sRGB in [0, 1]: what torchvision's VGG16 was trained with."""

_FEATURE_EPSILON = 1e-6
_CHROMA_EPSILON = 1e-6
"""Below square roots: gradients are finite where all is 0. In squares of normalized ab, that is 0.1 in units of ab*."""


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the losses that are added up. The defaults are the reference's: the regression alone."""

    huber: float = 1.0
    """Of ab, as the reference scales it (``losses.picture_loss``)."""
    classes: float = 0.0
    """Rebalanced cross entropy of the class head, in nats."""
    perceptual: float = 0.0
    """Distance of VGG16's features; needs torchvision's weights of VGG16."""
    colorfulness: float = 0.0
    """Missing mean chroma, scaled as ``huber``."""
    encoding_sigma: float = ab_distribution.ENCODING_SIGMA
    """Standard deviation of the soft targets of ``classes``, in units of ab*."""
    rebalancing: float = ab_distribution.REBALANCING
    """Share of the uniform distribution in the class weights: 1 weighs all colors alike, near 0 by 1 / frequency."""
    perceptual_side: int = 0
    """Side to which pictures are reduced for ``perceptual``, a divisor of the canvas's; 0: the canvas's own."""

    def __post_init__(self) -> None:
        for name in TERMS:
            weight = getattr(self, name)
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(f"{name}: {weight}, which must be a number of at least 0")
        if not self.active:
            raise ConfigError(f"{', '.join(TERMS)}: all 0; give at least one a weight, for nothing would be learned")
        if not (math.isfinite(self.encoding_sigma) and self.encoding_sigma > 0):
            raise ConfigError(f"encoding_sigma: {self.encoding_sigma}, which must be above 0")
        if not 0 < self.rebalancing <= 1:
            raise ConfigError(f"rebalancing: {self.rebalancing}, which must be above 0 and at most 1")
        if self.perceptual_side and self.perceptual_side < 8:
            raise ConfigError(f"perceptual_side: {self.perceptual_side}, which must be 0 or at least 8")

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the losses whose weight is not 0."""
        return tuple(name for name in TERMS if getattr(self, name))


TERMS = ("huber", "classes", "perceptual", "colorfulness")
"""Fields of ``ObjectiveConfig`` that are weights, in the order in which losses are added."""


def picture_losses(
    config: ObjectiveConfig,
    luminance: Float[jax.Array, "B S S 1"],
    ab: Float[jax.Array, "B S S 2"],
    true_ab: Float[jax.Array, "B S S 2"],
    logits: Float[jax.Array, "B h h 529"] | None = None,
    class_weights: Float[Array, " 529"] | None = None,
    vgg: VggParams | None = None,
) -> dict[str, Float[jax.Array, " B"]]:
    """Every active loss of each picture, not yet weighted.

    Args:
      config: which are active.
      luminance: normalized L, as in ``networks.Picture``.
      ab: predicted, normalized.
      true_ab: normalized.
      logits: of the class head; needed by ``classes``.
      class_weights: ``ab_distribution.rebalancing_weights`` of the data set's prior; needed by ``classes``.
      vgg: needed by ``perceptual``.

    Raises:
      ValueError: an active loss lacks what it needs.
    """
    losses = {}
    for name in config.active:
        if name == "huber":
            losses[name] = huber(ab, true_ab)
        elif name == "classes":
            if logits is None or class_weights is None:
                raise ValueError("the loss 'classes' needs class logits and class weights")
            losses[name] = class_cross_entropy(logits, true_ab, class_weights, config.encoding_sigma)
        elif name == "perceptual":
            if vgg is None:
                raise ValueError("the loss 'perceptual' needs VGG16's parameters")
            losses[name] = perceptual(vgg, luminance, ab, true_ab, config.perceptual_side)
        else:
            losses[name] = colorfulness_loss(ab, true_ab)
    return losses


def combine(config: ObjectiveConfig, losses: Mapping[str, Float[jax.Array, " B"]]) -> Float[jax.Array, " B"]:
    """The weighted sum of the active losses; with the defaults exactly the reference's loss."""
    terms = [getattr(config, name) * losses[name] for name in config.active]
    return functools.reduce(jnp.add, terms)


def huber(ab: Float[jax.Array, "B S S 2"], true_ab: Float[jax.Array, "B S S 2"]) -> Float[jax.Array, " B"]:
    """The reference's smooth L1 loss (``losses.picture_loss``)."""
    return picture_loss(_at_least_float32(ab), _at_least_float32(true_ab))


def class_cross_entropy(
    logits: Float[jax.Array, "B h h 529"],
    true_ab: Float[jax.Array, "B S S 2"],
    class_weights: Float[Array, " 529"],
    sigma: float = ab_distribution.ENCODING_SIGMA,
) -> Float[jax.Array, " B"]:
    """Mean over pixels of weight x cross entropy with soft targets, in nats (Zhang et al. 2016, equation 2).

    The truth is brought to the logits' grid by taking every (S / h)-th pixel, as Zhang et al. 2017 do and as the
    backbone itself reduces its features. A pixel weighs by its nearest bin.

    Raises:
      ValueError: S is no multiple of h.
    """
    stride, rest = divmod(true_ab.shape[1], logits.shape[1])
    if rest:
        raise ValueError(f"class logits of side {logits.shape[1]} do not divide a canvas of side {true_ab.shape[1]}")
    indices, weights = ab_distribution.soft_encode(true_ab[:, ::stride, ::stride], sigma)
    rarity = jnp.asarray(class_weights, jnp.float32)[indices[..., 0]]
    return (rarity * ab_distribution.cross_entropy(logits, indices, weights)).mean(axis=(1, 2))


def colorfulness_loss(ab: Float[jax.Array, "B S S 2"], true_ab: Float[jax.Array, "B S S 2"]) -> Float[jax.Array, " B"]:
    """10 x how much the mean chroma falls short of the truth's, in normalized ab; 0 where it does not.

    Regression errs to one side only, toward gray, so only a lack is punished. Chroma rather than the colorfulness of
    Hasler and Süsstrunk: that one also rises with the spread of wrong hues, and it is a metric of the evaluation,
    which should stay a number that no loss saw. The gradient lengthens each pixel's ab along its own hue; at gray,
    where there is no hue to lengthen, it is 0.
    """
    chroma, true_chroma = (
        jnp.sqrt(jnp.square(_at_least_float32(x)).sum(axis=-1) + _CHROMA_EPSILON).mean(axis=(1, 2))
        for x in (ab, true_ab)
    )
    return LOSS_SCALE * jax.nn.relu(true_chroma - chroma)


def perceptual(
    vgg: VggParams,
    luminance: Float[jax.Array, "B S S 1"],
    ab: Float[jax.Array, "B S S 2"],
    true_ab: Float[jax.Array, "B S S 2"],
    side: int = 0,
    compute_dtype: Any = jnp.float32,
) -> Float[jax.Array, " B"]:
    """Distance of predicted and true picture in VGG16's features, without trained heads (not LPIPS).

    Mean over relu1_2, relu2_2, relu3_3 and relu4_3 of the mean over pixels of the squared difference of features
    scaled to length 1. Both pictures have the true L. Colors become sRGB in float32, clipped to gamut as they would be
    shown: a channel that is clipped has no gradient here. The backward pass computes each block anew.

    Args:
      vgg: kernels and biases under torchvision's names.
      luminance: normalized L.
      ab: predicted, normalized.
      true_ab: normalized; without gradient.
      side: reduced to by the mean of pixels; 0: S.
      compute_dtype: type of the convolutions.

    Raises:
      ValueError: layers are missing, or ``side`` is no divisor of S or below 8 (nothing would be left after the pools).
    """
    missing = [name for block in VGG_BLOCKS for name in block if name not in vgg]
    if missing:
        raise ValueError(f"VGG16's parameters lack {', '.join(missing)}")
    side = side or ab.shape[1]
    if side < 8 or ab.shape[1] % side:
        raise ValueError(f"a perceptual side of {side} must be at least 8 and divide the canvas's {ab.shape[1]}")
    truth = _vgg_taps(vgg, jax.lax.stop_gradient(_vgg_input(luminance, true_ab, side)), compute_dtype)
    prediction = _vgg_taps(vgg, _vgg_input(luminance, ab, side), compute_dtype)
    distances = [
        jnp.square(a - jax.lax.stop_gradient(b)).sum(axis=-1).mean(axis=(1, 2))
        for a, b in zip(prediction, truth, strict=True)
    ]
    return jnp.stack(distances).mean(axis=0)


def _vgg_input(luminance: jax.Array, ab: jax.Array, side: int) -> Float[jax.Array, "B side side 3"]:
    lab = color.denormalize_lab(luminance.astype(jnp.float32), ab.astype(jnp.float32))
    rgb = color.lab_to_rgb(lab)
    images, factor = rgb.shape[0], rgb.shape[1] // side
    reduced = rgb.reshape(images, side, factor, side, factor, 3).mean(axis=(2, 4))
    return (reduced - jnp.array(IMAGENET_MEAN)) / jnp.array(IMAGENET_STD)


def _vgg_taps(vgg: VggParams, x: jax.Array, compute_dtype: Any) -> list[Float[jax.Array, "B _h _w _c"]]:
    """The features of length 1 that are compared, in float32."""
    taps = []
    x = x.astype(compute_dtype)
    for index, names in enumerate(VGG_BLOCKS):
        x = _vgg_block([vgg[name] for name in names], x, index > 0)
        feature = x.astype(jnp.float32)
        taps.append(feature * jax.lax.rsqrt(jnp.square(feature).sum(axis=-1, keepdims=True) + _FEATURE_EPSILON))
    return taps


@functools.partial(jax.checkpoint, static_argnums=2)
def _vgg_block(layers: list[Mapping[str, Any]], x: jax.Array, pool: bool) -> jax.Array:
    if pool:
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    for layer in layers:
        kernel, bias = (jnp.asarray(layer[name], x.dtype) for name in ("kernel", "bias"))
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x + bias)
    return x


def _at_least_float32(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))

"""The loss of a picture: output heads' own losses and others, added up by their weights; and which pictures count.

Every loss takes predictions in any floating type, computes in at least float32 and returns (B,), so that pictures can
be masked and summed over parts of a batch (``sum_of_valid``). A loss of weight 0 is never computed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jaxcolor import color
from jaxcolor.config import ObjectiveConfig
from jaxcolor.models.networks import Picture
from jaxcolor.models.ops.blend import membership
from jaxcolor.models.outputs import regression
from jaxcolor.registries import OUTPUTS

VggParams = Mapping[str, Mapping[str, Any]]
"""``conv1_1``, ... -> {"kernel": H W I O, "bias"} (``weights.vgg16``); other layers may be there."""

VGG_BLOCKS = (
    ("conv1_1", "conv1_2"),
    ("conv2_1", "conv2_2"),
    ("conv3_1", "conv3_2", "conv3_3"),
    ("conv4_1", "conv4_2", "conv4_3"),
)
"""VGG16's convolutions up to relu4_3; a 2x2 max pool between blocks, and the last of each is compared."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of sRGB in [0, 1]: what torchvision's VGG16 was trained with."""

_FEATURE_EPSILON = 1e-6
_CHROMA_EPSILON = 1e-6
"""Below square roots: gradients are finite where all is 0. In squares of normalized ab, that is 0.1 in units of ab*."""


def picture_loss(
    config: ObjectiveConfig,
    outputs: Mapping[str, Any],
    ab: Float[jax.Array, "B S S 2"],
    picture: Picture,
    vgg: VggParams | None = None,
    taught: Mapping[str, Any] | None = None,
) -> Float[jax.Array, " B"]:
    """The weighted sum of all losses of each picture; with the defaults exactly the reference's loss.

    Args:
      config: weights of the losses.
      outputs: what each output head predicts.
      ab: the first head's color, normalized.
      picture: the ground truth.
      vgg: needed where ``perceptual`` has a weight.
      taught: what the teacher's output heads predict, needed where ``distill`` is above 0.

    Raises:
      ValueError: ``vgg`` or ``taught`` is missing.
    """
    if config.distill and taught is None:
        raise ValueError("distillation needs what the teacher predicts")
    terms: list[tuple[float, Any]] = []
    for name, output in outputs.items():
        head, weight = OUTPUTS.get(name), config.head_weight(name)
        terms.append((weight * (1 - config.distill), functools.partial(head.loss, output, picture.ab)))
        if taught is not None:
            size = picture.ab.shape[1:3]
            terms.append((weight * config.distill, functools.partial(head.distillation, output, taught[name], size)))
    terms.append((config.colorfulness, lambda: colorfulness_loss(ab, picture.ab)))
    if config.perceptual:
        if vgg is None:
            raise ValueError("the perceptual loss needs VGG16's parameters")
        side = config.perceptual_side
        terms.append((config.perceptual, lambda: perceptual(vgg, picture.luminance, ab, picture.ab, side)))
    weighted = [loss() if weight == 1 else weight * loss() for weight, loss in terms if weight]
    return functools.reduce(jnp.add, weighted)


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
    return regression.LOSS_SCALE * jax.nn.relu(true_chroma - chroma)


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
      vgg: of VGG16, by layer.
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


def colorful(true_ab: Float[jax.Array, "B S S 2"], low_chroma: float) -> Bool[jax.Array, " B"]:
    """Pictures whose (max - min of a*) + (max - min of b*) reaches ``low_chroma``: the others teach gray."""
    return color.ab_range(true_ab) >= low_chroma / color.AB_SCALE


def any_crop(
    crop_valid: Bool[jax.Array, " M"], crop_to_image: Int[jax.Array, " M"], images: int
) -> Bool[jax.Array, " B"]:
    """Photos with at least one valid crop."""
    return (membership(crop_to_image, images) & crop_valid[None]).any(axis=1)


def sum_of_valid(
    losses: Float[jax.Array, " B"], valid: Bool[jax.Array, " B"]
) -> tuple[Float[jax.Array, ""], Int[jax.Array, ""]]:
    """The losses of the valid pictures added up, and how many those are.

    Sums and counts of parts of a batch, on one device or on many, add up; the mean is taken of the totals. A mean of
    the parts' means would weigh pictures by how many valid ones they happen to share a part with.
    """
    return jnp.where(valid, losses, 0).sum(), valid.sum()

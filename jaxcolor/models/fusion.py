"""Fusion of packed instance features into full-image features (paper, section 3.3), and the network built on it.

At a tap, every instance feature and its weight map are resized into the instance's box; a softmax per pixel over the
instances of a photo and the full image gives the weights of the blend. Instances of all photos lie on one axis (M) and
know their photo by ``crop_to_image`` (-1: padding), so cost follows the crops there are and no shape depends on the
boxes.

Another way to weigh is one class: a subclass of ``FusionStrategy``; see ``gated.py``, and docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jaxcolor import resample
from jaxcolor.batch import NO_MASKS, Array, split_by_side
from jaxcolor.config import ConfigError, ModelConfig
from jaxcolor.models import ops
from jaxcolor.models.backbone import NOTHING_KNOWN, backbone_class, initializers, parameter_type
from jaxcolor.models.ops.blend import membership, of_own_image, sum_per_image
from jaxcolor.registries import FUSION_STRATEGIES

UNCOVERED = 1e5
"""Added to the full image's logit where no box covers: only the full image counts there (reference code)."""


class FusionWeights(NamedTuple):
    """Weight maps at one tap; at every pixel those of a photo sum to 1."""

    full: Float[jax.Array, "B H W"]
    """W_F."""
    instance: Float[jax.Array, "M H W"]
    """W_I, placed on the canvas; 0 for padding."""


class Instances(NamedTuple):
    """The crops of a batch as one tap sees them."""

    crop_to_image: Int[jax.Array, " M"]
    """The photo of each crop, -1 for padding."""
    boxes: Int[jax.Array, "M 4"]
    """x0, y0, width, height of each crop, its context included, on the tap's grid."""
    inside: Bool[jax.Array, "M H W"]
    """Whether a pixel of the tap's grid lies in each crop."""
    crop_mask: Bool[Array, "K S S"]
    """The mask of each crop's object on the crop's grid; K is 0 where nobody reads masks."""


Features = tuple[Float[jax.Array, "_m _h _w C"], ...]
"""Features of the crops of each side, the largest first (``Batch.crops``): one array without ``data.crop_sides``."""


class FusionStrategy(nn.Module):
    """How a tap's full-image feature and instance features are weighed; a subclass for each way.

    Attributes:
      config: of the model.
    """

    config: ModelConfig

    def weights(self, full_feature: jax.Array, instance_feature: Features, instances: Instances) -> FusionWeights:
        """Weight maps in at least float32 that sum to 1 over a photo's instances and the full image.

        Args:
          full_feature: (B, H, W, C).
          instance_feature: (m, h, w, C) of the crops of each side, M in all, not yet in their boxes; finite for padding
            too. ``placed_logit`` makes a map of them.
          instances: whose they are and where they go. Padding must get weight 0.
        """
        raise NotImplementedError

    def __call__(
        self,
        full_feature: Float[jax.Array, "B H W C"],
        instance_feature: Float[jax.Array, "M h w C"] | Features,
        crop_to_image: Int[jax.Array, " M"],
        boxes: Int[jax.Array, "M 4"],
        crop_mask: Bool[Array, "K S S"] = NO_MASKS,
    ) -> tuple[Float[jax.Array, "B H W C"], FusionWeights]:
        """The fused feature and the weight maps; ``boxes`` are x0, y0, width, height on this tap's grid.

        Crops of several sides come as one array for each side, in the order of the axis M.

        Features of padding crops count for nothing but must be finite, as those of ``networks.run_instance`` are: to
        zero them here would be one more pass over the largest arrays there are.
        """
        inside = resample.inside(boxes, *full_feature.shape[1:3])
        by_side = instance_feature if isinstance(instance_feature, tuple) else (instance_feature,)
        found = self.weights(full_feature, by_side, Instances(crop_to_image, boxes, inside, crop_mask))
        arguments = (full_feature, found.full, by_side, found.instance, crop_to_image, boxes)
        return ops.box_blend(*arguments), found


class WeightHead(nn.Module):
    """Predicts a weight logit for every pixel: three 3x3 convolutions, each with ReLU, the last too."""

    config: ModelConfig

    @nn.compact
    def __call__(self, feature: Float[jax.Array, "N H W C"]) -> Float[jax.Array, "N H W 1"]:
        """The logit, at least 0, in the type of the computation."""
        inner = self.config.fusion.head_channels
        types = (jnp.dtype(self.config.compute_dtype), parameter_type(self.config))
        init = initializers(self.config.head_init).conv
        for i, features in enumerate((inner, inner, 1), start=1):
            feature = ops.value(ops.relu(ops.Conv3x3(features, *types, init, name=f"conv{i}")(feature)))
        return feature


def placed_logit(
    head: Callable[[jax.Array], jax.Array], features: Features, instances: Instances
) -> Float[jax.Array, "M H W"]:
    """What a head says of every instance, resized into its box on the tap's grid, in at least float32; 0 outside."""
    height, width = instances.inside.shape[1:]
    placed = []
    for feature, boxes in zip(features, split_by_side(instances.boxes, features), strict=True):
        logit = head(feature)
        logit = logit.astype(jnp.promote_types(feature.dtype, jnp.float32))
        placed.append(resample.paste(logit, boxes, height, width)[..., 0])
    return placed[0] if len(placed) == 1 else jnp.concatenate(placed)


class Learned(FusionStrategy):
    """The paper's: a softmax over predicted logits, one head for instances and one for the full image."""

    @nn.compact
    def weights(self, full_feature: jax.Array, instance_feature: Features, instances: Instances) -> FusionWeights:
        """Softmax over each photo's instances and the full image, at every pixel."""
        real = jnp.promote_types(full_feature.dtype, jnp.float32)
        instance_logit = placed_logit(WeightHead(self.config, name="instance_head"), instance_feature, instances)
        full_logit = WeightHead(self.config, name="full_head")(full_feature).astype(real)[..., 0]
        outside = self.config.fusion.outside
        return softmax_weights(full_logit, instance_logit, instances.inside, instances.crop_to_image, outside)


class BoxMask(FusionStrategy):
    """Inside boxes the covering instances in equal parts, elsewhere the full image: the paper's ablation."""

    def weights(self, full_feature: jax.Array, instance_feature: Features, instances: Instances) -> FusionWeights:
        """0 and 1, or equal shares."""
        real = jnp.promote_types(full_feature.dtype, jnp.float32)
        return box_mask_weights(instances.inside, instances.crop_to_image, len(full_feature), real)


class TruthMask(FusionStrategy):
    """As ``BoxMask``, inside annotated masks in place of boxes."""

    def weights(self, full_feature: jax.Array, instance_feature: Features, instances: Instances) -> FusionWeights:
        """0 and 1, or equal shares. Raises ConfigError where the batch has no masks."""
        real = jnp.promote_types(full_feature.dtype, jnp.float32)
        inside = inside_masks(instances.crop_mask, instances.boxes, *full_feature.shape[1:3])
        return box_mask_weights(inside, instances.crop_to_image, len(full_feature), real)


def fusion_strategy(config: ModelConfig, name: str | None = None) -> FusionStrategy:
    """The module that ``config.fusion.strategy`` names, for one tap.

    Raises:
      UserError: it names none.
    """
    strategy: FusionStrategy = FUSION_STRATEGIES.get(config.fusion.strategy)(config, name=name)
    return strategy


def fused_taps(config: ModelConfig) -> tuple[str, ...]:
    """The taps that ``FusionConfig.layers`` stands for, in the order of the backbone.

    Raises:
      ConfigError: a name that is no tap of the backbone, or no tap at all.
    """
    layers, taps = config.fusion.layers, backbone_class(config).taps
    groups: dict[str, tuple[str, ...]] = {"none": (), "all": tuple(tap.name for tap in taps)}
    groups |= {part: tuple(tap.name for tap in taps if tap.part == part) for part in ("encoder", "decoder")}
    if isinstance(layers, str) and layers in groups:
        return groups[layers]
    names = [n.strip() for n in layers.split(",")] if isinstance(layers, str) else layers
    unknown = [n for n in names if n not in groups["all"]]
    if unknown or not names:
        wrong = ", ".join(map(repr, unknown)) or "no layer"
        known = ", ".join(groups["all"])
        raise ConfigError(f"fusion.layers: {wrong} is not none, all, encoder, decoder, or names out of {known}")
    return tuple(n for n in groups["all"] if n in names)


def _max_per_image(values: jax.Array, member: jax.Array) -> jax.Array:
    return jnp.where(member[:, :, None, None], values[None], -jnp.inf).max(axis=1, initial=-jnp.inf)


def softmax_weights(
    full_logit: Float[jax.Array, "B H W"],
    instance_logit: Float[jax.Array, "M H W"],
    inside: Bool[jax.Array, "M H W"],
    crop_to_image: Int[jax.Array, " M"],
    outside: str,
) -> FusionWeights:
    """Softmax over each photo's instances and the full image, at every pixel.

    Args:
      full_logit: of the full image.
      instance_logit: of each instance, resized into its box and 0 outside.
      inside: whether a pixel lies in the instance's box.
      crop_to_image: the photo of each instance.
      outside: ``zero`` leaves the 0 outside the box standing as a logit, as the reference code does: inside the union
        of a photo's boxes each of its instances takes weight. ``masked`` makes it minus infinity.
    """
    member = membership(crop_to_image, full_logit.shape[0])
    counts = member.any(axis=0)[:, None, None]
    counts = counts if outside == "zero" else counts & inside
    covered = (member[:, :, None, None] & inside[None]).any(axis=1)
    full_logit = full_logit + jnp.where(covered, 0.0, UNCOVERED)
    instance_logit = jnp.where(counts, instance_logit, -jnp.inf)

    photo = jnp.where(crop_to_image >= 0, crop_to_image, 0)
    peak = jax.lax.stop_gradient(jnp.maximum(full_logit, _max_per_image(instance_logit, member)))
    full = jnp.exp(full_logit - peak)
    instance = jnp.exp(instance_logit - peak[photo])
    total = full + sum_per_image(instance, member)
    return FusionWeights(full / total, instance / of_own_image(total, member))


def box_mask_weights(
    inside: Bool[jax.Array, "M H W"], crop_to_image: Int[jax.Array, " M"], images: int, dtype: jnp.dtype
) -> FusionWeights:
    """Inside boxes (or masks) the covering instances in equal parts, elsewhere the full image: the paper's ablation."""
    member = membership(crop_to_image, images)
    weight = (inside & member.any(axis=0)[:, None, None]).astype(dtype)
    covering = sum_per_image(weight, member)
    photo = jnp.where(crop_to_image >= 0, crop_to_image, 0)
    return FusionWeights((covering == 0).astype(dtype), weight / jnp.maximum(covering, 1)[photo])


def inside_masks(
    crop_mask: Bool[Array, "K S S"], boxes: Int[jax.Array, "M 4"], height: int, width: int
) -> Bool[jax.Array, "M {height} {width}"]:
    """Which pixels of a tap's grid each instance's mask covers by at least half of their area; none outside its box.

    Args:
      crop_mask: of each crop, on the crop's own grid; so masks lie on a tap where the crops' features do.
      boxes: x0, y0, width, height of each crop on the tap's grid.
      height: of the grid.
      width: of the grid.

    Raises:
      ConfigError: there are no masks.
    """
    if len(crop_mask) != len(boxes):
        raise ConfigError(
            "model.fusion.strategy: 'truth_mask' weighs by annotated masks, and these photos come without; "
            "data.masks (with data.box_choice 'ground_truth') reads them"
        )
    rows = _covered_map(boxes[:, 1], boxes[:, 3], height, crop_mask.shape[1])
    columns = _covered_map(boxes[:, 0], boxes[:, 2], width, crop_mask.shape[2])
    covered = jnp.einsum("myi,mij,mxj->myx", rows, jnp.asarray(crop_mask, rows.dtype), columns, precision="highest")
    return covered >= 0.5 - 1e-4  # rounding must not decide on what is half


def _covered_map(
    start: Int[jax.Array, " M"], size: Int[jax.Array, " M"], out_side: int, in_side: int
) -> Float[jax.Array, "M {out_side} {in_side}"]:
    """The share of each of ``out_side`` pixels that each of ``in_side`` samples, spread over the box, lies on."""
    scale = in_side / jnp.maximum(size, 1)[:, None, None]
    pixel = (jnp.arange(out_side) - start[:, None])[..., None]
    sample = jnp.arange(in_side)
    shared = jnp.minimum((pixel + 1) * scale, sample + 1) - jnp.maximum(pixel * scale, sample)
    return jnp.where((pixel >= 0) & (pixel < size[:, None, None]), jnp.maximum(shared, 0) / scale, 0)


class FusionOutput(NamedTuple):
    """What the fusion network computes."""

    outputs: dict[str, Any]
    """As ``BackboneOutput.outputs``."""
    ab: Float[jax.Array, "B H W 2"]
    """Normalized ab in (-1, 1)."""
    fused: dict[str, jax.Array]
    """The fused feature of every fused tap, as the strategy gives it (``*_up``: before the ReLU)."""
    fusion_weights: dict[str, FusionWeights]
    """Weight maps of every fused tap."""


class FusionNetwork(nn.Module):
    """A backbone of its own whose taps are blended with instance features before the next layer reads them.

    Attributes:
      config: of the model.
    """

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        inputs: Float[jax.Array, "B H W 4"],
        instance_taps: Mapping[str, jax.Array | Features],
        crop_to_image: Int[jax.Array, " M"],
        level_boxes: Int[jax.Array, "M L 4"],
        crop_mask: Bool[Array, "K S S"] = NO_MASKS,
        known: Mapping[str, jax.Array] = NOTHING_KNOWN,
    ) -> FusionOutput:
        """Run the trunk in inference mode (as the reference trains and tests it) with fusion at the chosen taps.

        Args:
          inputs: the full image (``networks.network_input``).
          instance_taps: features of the M crops from the instance network, by tap; of crops of several sides one array
            for each.
          crop_to_image: the photo of each crop, -1 for padding.
          level_boxes: x0, y0, width, height of each crop, its context included, at each level.
          crop_mask: the mask of each crop's object on the crop's grid (M, S, S); of length 0 but for ``truth_mask``.
          known: taps of the full image that were computed elsewhere (``models.shared_taps``); none of them is fused.
        """
        kind = backbone_class(self.config)
        levels = {t.name: t.level for t in kind.taps}
        modules = {name: fusion_strategy(self.config, f"fuse_{name}") for name in fused_taps(self.config)}
        fused: dict[str, jax.Array] = {}
        fusion_weights: dict[str, FusionWeights] = {}

        def at_tap(name: str, feature: jax.Array) -> jax.Array:
            if name not in modules:
                return feature
            crops = (instance_taps[name], crop_to_image, level_boxes[:, levels[name]], crop_mask)
            fused[name], fusion_weights[name] = modules[name](feature, *crops)
            return fused[name]

        found = kind(self.config, self.config.outputs, name="trunk")(inputs, at_tap=at_tap, known=known)
        return FusionOutput(found.outputs, found.ab, fused, fusion_weights)

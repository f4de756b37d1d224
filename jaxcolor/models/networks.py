"""The three networks together: full image, instances, fusion; three trees of variables, pure functions over them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Key

from jaxcolor import color
from jaxcolor.batch import LEVELS, NO_MASKS, Array, Batch, split_by_side
from jaxcolor.config import ConfigError, ModelConfig
from jaxcolor.hints import EMPTY_MASK, BatchHints, HintMask, Hints, network_hint_channels
from jaxcolor.models.backbone import NOTHING_KNOWN, Backbone, BackboneOutput, backbone_class, parameter_type
from jaxcolor.models.eager import Operations, operations
from jaxcolor.models.fusion import FusionNetwork, FusionOutput, FusionWeights, membership

TREES = ("full", "instance", "fusion")
"""The trees of variables: the reference's GComp, G and GF."""

Heads = tuple[str, ...] | None
Variables = Mapping[str, Any]
"""Tree -> {"params": …, "batch_stats": …}."""


class Networks(NamedTuple):
    """The modules whose variables the three trees are."""

    full: Backbone
    instance: Backbone
    fusion: FusionNetwork
    shared: tuple[str, ...] = ()
    """Taps that the fusion network is handed from the full-image network (``models.shared_taps``)."""


class Picture(NamedTuple):
    """Photos, or crops, as the networks see them."""

    inputs: Float[jax.Array, "B S S 4"]
    """Normalized L, hint a, hint b, hint mask: what every network reads (``network_input``)."""
    ab: Float[jax.Array, "B S S 2"]
    """The true color, normalized, for training and evaluation."""

    @property
    def luminance(self) -> Float[jax.Array, "B S S 1"]:
        """Normalized L."""
        return self.inputs[..., :1]


class LabBatch(NamedTuple):
    """A batch in the networks' color space."""

    full: Picture
    crop: Picture
    crop_to_image: Int[jax.Array, " M"]
    level_boxes: Int[jax.Array, "M L 4"]
    crop_mask: Bool[Array, "M S S"] = NO_MASKS
    smaller: tuple[Picture, ...] = ()
    """As ``Batch.smaller_crops``."""

    @property
    def crops(self) -> tuple[Picture, ...]:
        """The crops of every side, the largest first."""
        return (self.crop, *self.smaller)


class Prediction(NamedTuple):
    """What the model makes of a batch."""

    ab: Float[jax.Array, "B S S 2"]
    """The result: fused where a photo has boxes, the full tree's elsewhere."""
    full_ab: Float[jax.Array, "B S S 2"]
    """The full-image network's alone."""
    fused_ab: Float[jax.Array, "B S S 2"]
    """The fusion network's, also where a photo has no boxes."""
    fusion_weights: dict[str, FusionWeights]
    """Weight maps by tap."""


def build(config: ModelConfig, axis_name: str | None = None, shared: tuple[str, ...] = ()) -> Networks:
    """The networks of a config; ``axis_name`` synchronizes BatchNorm in training; ``shared`` as in ``Networks``.

    Raises:
      ConfigError: ``compute_dtype`` is float64 but JAX is not allowed to compute in it.
    """
    if config.compute_dtype == "float64" and jax.dtypes.canonicalize_dtype(jnp.float64) != jnp.float64:
        raise ConfigError("model.compute_dtype: JAX computes in float64 only with JAX_ENABLE_X64=1 in the environment")
    kind = backbone_class(config)
    full_heads = tuple(dict.fromkeys((*config.outputs, *kind.reference_heads)))
    return Networks(
        full=kind(config, full_heads, axis_name),
        instance=kind(config, config.outputs, axis_name),
        fusion=FusionNetwork(config),
        shared=shared,
    )


def init(config: ModelConfig, seed: int) -> dict[str, Any]:
    """Fresh variables of all three trees.

    Initialized at the smallest canvas there is, with an ``rbg`` key: threefry's many small generators take ten times as
    long to compile on CPU. One program with a generator for each parameter takes four times as long, too.
    """
    return cast(dict[str, Any], _draws(config, jax.config.read("jax_enable_x64")).evaluate(_key(seed)))


def abstract(config: ModelConfig) -> dict[str, Any]:
    """Shapes and types of all three trees, computed without making them."""
    return cast(dict[str, Any], _draws(config, jax.config.read("jax_enable_x64")).shapes())


def _key(seed: int) -> Key[jax.Array, ""]:
    return jax.random.key(seed, impl="rbg")


@functools.lru_cache(maxsize=64)
def _draws(config: ModelConfig, x64: bool) -> Operations:
    return operations(functools.partial(_init, config=config), _key(0))


def _init(key: Key[jax.Array, ""], config: ModelConfig) -> dict[str, Any]:
    nets, keys = build(config), jax.random.split(key, len(TREES))
    inputs = jnp.zeros((1, 8, 8, 4), parameter_type(config))
    output, instance = nets.instance.init_with_output(keys[1], inputs)
    taps = jax.tree.map(jnp.zeros_like, output.taps)
    index, boxes = jnp.zeros(1, jnp.int32), jnp.ones((1, LEVELS, 4), jnp.int32)
    return {
        "full": nets.full.init(keys[0], inputs),
        "instance": instance,
        "fusion": nets.fusion.init(keys[2], inputs, taps, index, boxes, jnp.zeros((1, 8, 8), bool)),
    }


def frozen(variables: Variables, config: ModelConfig) -> dict[str, Any]:
    """Variables that are not trained: kernels in the type of the computation, so that no call converts them again.

    Host arrays; what is computed from them is the same to the last bit. Trees that share an array share it afterwards.
    """
    dtype = jnp.dtype(config.compute_dtype)
    kernels: dict[int, np.ndarray] = {}

    def converted(path: Any, leaf: Any) -> np.ndarray:
        host = np.asarray(leaf)
        if path[-1].key != "kernel":
            return host
        if id(leaf) not in kernels:
            kernels[id(leaf)] = host.astype(dtype, copy=False)
        return kernels[id(leaf)]

    return cast(dict[str, Any], jax.tree_util.tree_map_with_path(converted, dict(variables)))


def network_input(
    luminance: Float[jax.Array, "B H W 1"],
    hint_ab: Float[jax.Array, "B H W 2"] | None = None,
    hint_mask: Float[jax.Array, "B H W 1"] | None = None,
    convention: HintMask = "reference",
) -> Float[jax.Array, "B H W 4"]:
    """Normalized L with color hints; without any, the empty hint.

    Args:
      luminance: normalized L.
      hint_ab: normalized ab where there is a hint, 0 elsewhere.
      hint_mask: in the numbers of ``convention``.
      convention: ``ModelConfig.hint_mask``; read where no mask is given.
    """
    if hint_ab is None:
        hint_ab = jnp.zeros((*luminance.shape[:-1], 2), luminance.dtype)
    if hint_mask is None:
        hint_mask = jnp.full_like(luminance, EMPTY_MASK[convention])
    return jnp.concatenate([luminance, hint_ab, hint_mask], axis=-1)


def picture(rgb: Array, config: ModelConfig) -> Picture:
    """8-bit sRGB photos or crops (B, S, S, 3) without hints, in at least float32."""
    lab = color.rgb_to_lab(color.unit_rgb(jnp.asarray(rgb), parameter_type(config)))
    luminance, ab = color.normalize_lab(lab)
    return Picture(network_input(luminance, convention=config.hint_mask), ab)


def to_lab(batch: Batch, config: ModelConfig, hints: BatchHints | None = None) -> LabBatch:
    """The batch's 8-bit pictures as normalized Lab, on device, with color hints if there are any."""
    lab = LabBatch(
        picture(batch.full_rgb, config),
        picture(batch.crop_rgb, config),
        jnp.asarray(batch.crop_to_image),
        jnp.asarray(batch.level_boxes),
        jnp.asarray(batch.crop_mask),
        tuple(picture(crops, config) for crops in batch.smaller_crops),
    )
    return lab if hints is None else with_hints(lab, hints, config)


def with_hints(lab: LabBatch, hints: BatchHints, config: ModelConfig) -> LabBatch:
    """The batch with color hints on its photos and crops, in place of those that it had."""
    smaller = tuple(hinted(*each, config) for each in zip(lab.smaller, hints.smaller, strict=True))
    full, crop = hinted(lab.full, hints.full, config), hinted(lab.crop, hints.crop, config)
    return lab._replace(full=full, crop=crop, smaller=smaller)


def hinted(shown: Picture, hints: Hints, config: ModelConfig) -> Picture:
    """Pictures with color hints, in place of those that they had."""
    typed = Hints(jnp.asarray(hints.ab, shown.inputs.dtype), jnp.asarray(hints.mask))
    channels = network_hint_channels(typed, config.hint_mask)
    return shown._replace(inputs=jnp.concatenate([shown.luminance, channels], axis=-1))


def run_full(
    nets: Networks,
    variables: Variables,
    inputs: Float[jax.Array, "B S S 4"],
    heads: Heads = None,
    known: Mapping[str, jax.Array] = NOTHING_KNOWN,
) -> BackboneOutput:
    """The full-image network in inference mode; ``heads`` and ``known`` as in ``Backbone``."""
    return cast(BackboneOutput, nets.full.apply(variables["full"], inputs, heads=heads, known=known))


def run_instance(
    nets: Networks, variables: Variables, inputs: Float[jax.Array, "M s s 4"], crop_to_image: Int[jax.Array, " M"]
) -> BackboneOutput:
    """The instance network in inference mode on the crops' inputs; padding crops are zeroed first."""
    inputs = jnp.where((crop_to_image >= 0)[:, None, None, None], inputs, 0)
    return cast(BackboneOutput, nets.instance.apply(variables["instance"], inputs))


def run_crops(nets: Networks, variables: Variables, lab: LabBatch) -> tuple[BackboneOutput, ...]:
    """The instance network on the crops of every side: it is convolutional, and runs once for each side."""
    owners = split_by_side(lab.crop_to_image, [crops.ab for crops in lab.crops])
    each = zip(lab.crops, owners, strict=True)
    return tuple(run_instance(nets, variables, crops.inputs, own) for crops, own in each)


def run_fusion(
    nets: Networks,
    variables: Variables,
    inputs: Float[jax.Array, "B S S 4"],
    instance_taps: Mapping[str, jax.Array | tuple[jax.Array, ...]],
    crop_to_image: Int[jax.Array, " M"],
    level_boxes: Int[jax.Array, "M L 4"],
    crop_mask: Bool[Array, "K _h _w"] = NO_MASKS,
    full_taps: Mapping[str, jax.Array] = NOTHING_KNOWN,
) -> FusionOutput:
    """The fusion network on full pictures' inputs, given the features of their crops (and masks, if it needs them).

    ``full_taps`` are the full-image network's of the same inputs, as far as they are known; those in ``nets.shared``
    are not computed again.
    """
    known = {name: full_taps[name] for name in nets.shared if name in full_taps}
    arguments = (inputs, instance_taps, crop_to_image, level_boxes, crop_mask, known)
    return cast(FusionOutput, nets.fusion.apply(variables["fusion"], *arguments))


def run_fused(
    nets: Networks, variables: Variables, lab: LabBatch, full_taps: Mapping[str, jax.Array] = NOTHING_KNOWN
) -> FusionOutput:
    """The paper's model on photos and their crops: instance features, fused into the full image's (``run_fusion``)."""
    found = run_crops(nets, variables, lab)
    taps = {name: tuple(of_side.taps[name] for of_side in found) for name in found[0].taps}
    crops = (taps, lab.crop_to_image, lab.level_boxes, lab.crop_mask)
    return run_fusion(nets, variables, lab.full.inputs, *crops, full_taps)


def predict(nets: Networks, variables: Variables, batch: Batch, hints: BatchHints | None = None) -> Prediction:
    """Colors for photos with any number of crops, in inference mode: the shortest description of the whole model.

    Args:
      nets: from ``build``.
      variables: the three trees.
      batch: photos and crops; only their L is read.
      hints: colors that are given, on photos and crops.
    """
    lab = to_lab(batch, nets.full.config, hints)
    full = run_full(nets, variables, lab.full.inputs)
    output = run_fused(nets, variables, lab, full.taps)
    full_ab = full.ab
    has_boxes = membership(lab.crop_to_image, full_ab.shape[0]).any(axis=1)
    ab = jnp.where(has_boxes[:, None, None, None], output.ab, full_ab)
    return Prediction(ab, full_ab, output.ab, output.fusion_weights)


def count_parameters(tree: Any) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))

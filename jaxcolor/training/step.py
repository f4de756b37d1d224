"""One training step of one device; pure, mapped over devices by ``jaxcolor.runtime.parallel``."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Float

from jaxcolor.batch import Batch, split_by_side
from jaxcolor.config import Config, ModelConfig, StageConfig
from jaxcolor.hints import BatchHints, Hints
from jaxcolor.models import networks
from jaxcolor.models.backbone import Backbone, Siggraph17, backbone_class
from jaxcolor.models.hint_simulation import hints_by_side, no_hints, simulate_hints
from jaxcolor.models.networks import LabBatch
from jaxcolor.models.outputs import classes
from jaxcolor.runtime.parallel import AXIS
from jaxcolor.training import distillation, losses, stages
from jaxcolor.training.accumulate import sum_over_parts
from jaxcolor.training.augment import augment_luminance, augment_rgb
from jaxcolor.training.device_cache import Held, draw
from jaxcolor.training.optimizer import Optimizer, OptState, learning_rate


@flax.struct.dataclass
class TrainState:
    """All that a step changes."""

    step: Any
    """Steps taken, int32. As all arrays here: on devices or on the host."""
    variables: Any
    """The stage's tree: ``params`` and ``batch_stats``."""
    opt_state: OptState


class Scalars(NamedTuple):
    """What a step reports; the same on every device."""

    loss: Float[jax.Array, ""]
    """Mean over the valid pictures of the global batch; 0 if there are none."""
    valid: Float[jax.Array, ""]
    """How many pictures took part."""
    grad_norm: Float[jax.Array, ""]
    learning_rate: Float[jax.Array, ""]
    """As applied: 0 if no picture was valid."""


Step = Callable[[TrainState, Mapping[str, Any], Any], tuple[TrainState, Scalars]]
"""(State, constants, this device's batch, or the photos that it holds) -> (state, scalars).

Constants are what a step reads and does not train: the stage's frozen trees, and ``VGG16``, ``TEACHER`` and ``RATE``
where there are such."""
VGG16 = "vgg16"
"""Name of VGG16's parameters among the constants, where the perceptual loss has a weight."""

TEACHER = "teacher"
"""Name of the teacher's tree among them, where there is one (``training.distillation``)."""

RATE = "rate"
"""Name of the learning rate among them, where it follows the clock and not the step (``training.clock``)."""

LabStep = Callable[[TrainState, Mapping[str, Any], LabBatch], tuple[TrainState, Scalars]]
"""As ``Step``, on this device's batch in Lab."""


def make_state(
    tree: Mapping[str, Any],
    optimizer: Optimizer,
    settings: StageConfig,
    backbone: type[Backbone] = Siggraph17,
) -> TrainState:
    """The state before the first step; ``backbone`` as in ``stages.is_trained``."""
    variables = {"params": tree["params"], "batch_stats": tree.get("batch_stats", {})}
    trained, _ = stages.partition(variables["params"], settings.trained, backbone)
    # To the host: on the first device this copy would lie beside the one in use as long as the stage runs.
    opt_state = jax.device_get(optimizer.init(_joined(trained), variables["batch_stats"]))
    return TrainState(step=np.int32(0), variables=variables, opt_state=opt_state)


def eval_variables(state: TrainState) -> dict[str, Any]:
    """The variables for all but further training: averaged where ``ema_decay`` is on, else as they are."""
    average = state.opt_state.average
    if not average:
        return dict(state.variables)
    flat = traverse_util.flatten_dict(state.variables["params"], sep="/")
    params = traverse_util.unflatten_dict({**flat, **average["params"]}, sep="/")
    return {"params": params, "batch_stats": average["batch_stats"]}


def _joined(flat: Mapping[stages.Path, Any]) -> dict[str, Any]:
    """Flat parameters under plain string keys."""
    return {"/".join(path): value for path, value in flat.items()}


def make_step(config: Config, stage: stages.Stage, optimizer: Optimizer, teacher: ModelConfig | None = None) -> Step:
    """The per-device step of a stage: (state, constants, this device's batch) -> (state, scalars).

    ``teacher``: of the network whose tree is the constant ``TEACHER``, where ``objective.teacher`` names one.
    """
    lab_step = make_lab_step(config, stage, optimizer, teacher)

    def step(state: TrainState, constants: Mapping[str, Any], batch: Batch) -> tuple[TrainState, Scalars]:
        key, first = _augment_key(config, stage, state.step), jax.lax.axis_index(AXIS) * len(batch.is_real)
        owners = jnp.maximum(_photo_of_crop(config, stage, batch.crop_to_image, len(batch.is_real)), 0)
        parts = stages.stage_config(config, stage).accumulate
        batch = augment_rgb(batch, key, config.augment, first, owners, mix=stage.name == "full", parts=parts)
        lab = augment_luminance(networks.to_lab(batch, config.model), key, config.augment, first, owners, parts)
        if config.hints.enabled:
            lab = networks.with_hints(lab, _simulated_hints(config, stage, lab, state.step), config.model)
        return lab_step(state, constants, lab)

    return step


def make_cached_step(
    config: Config, stage: stages.Stage, optimizer: Optimizer, teacher: ModelConfig | None = None
) -> Step:
    """``make_step`` whose third argument is not a batch but what this device holds (``device_cache``)."""
    settings = stages.stage_config(config, stage)
    train = make_step(config, stage, optimizer, teacher)

    def step(state: TrainState, constants: Mapping[str, Any], held: Held) -> tuple[TrainState, Scalars]:
        key = jax.random.fold_in(jax.random.key(config.data.seed), jax.lax.axis_index(AXIS))
        batch = draw(
            held,
            key,
            state.step,
            count=settings.batch_size // jax.lax.axis_size(AXIS),
            side=config.model.side,
            stage=settings,
            parts=stage.parts,
            context=config.model.context,
            max_crops_per_image=config.data.max_crops_per_image,
        )
        return train(state, constants, batch)

    return step


def _augment_key(config: Config, stage: stages.Stage, step: jax.Array) -> jax.Array:
    key = jax.random.fold_in(jax.random.key(config.data.seed), list(stages.STAGES).index(stage.name))
    return jax.random.fold_in(jax.random.fold_in(key, step), 1)


def _simulated_hints(config: Config, stage: stages.Stage, batch: LabBatch, step: jax.Array) -> BatchHints:
    """Hints of a simulated person, a function of the seed, the stage, the step and a picture's place in the batch.

    Photos are hinted at in stages full and fusion, and their hints lie in the crops too; stage instance, which has no
    photos, hints at the crops.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), list(stages.STAGES).index(stage.name))
    key = jax.random.fold_in(key, step)
    crops, count = [of_side.ab for of_side in batch.crops], len(batch.full.ab)

    def hints(key: jax.Array, true_ab: jax.Array) -> Hints:
        return simulate_hints(key, true_ab, config.hints, first=jax.lax.axis_index(AXIS) * len(true_ab))

    if stage.name == "instance":
        smaller = tuple(hints(jax.random.fold_in(key, ab.shape[1]), ab) for ab in crops[1:])
        return BatchHints(no_hints(batch.full.ab), hints(key, crops[0]), smaller)
    if stage.name == "full":
        return BatchHints(hints(key, batch.full.ab), no_hints(crops[0]), tuple(map(no_hints, crops[1:])))
    photo = _photo_of_crop(config, stage, batch.crop_to_image, count)
    parts = stages.stage_config(config, stage).accumulate
    return hints_by_side(hints(key, batch.full.ab), batch.level_boxes[:, 0], photo, crops, parts)


def _photo_of_crop(config: Config, stage: stages.Stage, index: Any, count: int) -> jax.Array:
    """Each crop's photo among the device's ``count``, or -1: ``crop_to_image`` counts within a part of the batch."""
    parts = stages.stage_config(config, stage).accumulate
    before = jnp.arange(parts).repeat(len(index) // parts, total_repeat_length=len(index)) * (count // parts)
    return jnp.where(index >= 0, index + before, index)


def make_lab_step(
    config: Config, stage: stages.Stage, optimizer: Optimizer, teacher: ModelConfig | None = None
) -> LabStep:
    """``make_step`` on a batch that is in Lab already.

    Only the trained parameters are differentiated. If no picture of the global batch is valid, nothing but the step
    count changes (the reference drops such batches).
    """
    stage_config = stages.stage_config(config, stage)
    schedule = learning_rate(stage_config)
    nets = networks.build(config.model, axis_name=AXIS if config.sync_batch_norm else None)
    backbone = backbone_class(config.model)
    compute = _fusion_losses if stage.name == "fusion" else functools.partial(_backbone_losses, teacher)

    def step(state: TrainState, constants: Mapping[str, Any], batch: LabBatch) -> tuple[TrainState, Scalars]:
        trained, fixed = stages.partition(state.variables["params"], stage_config.trained, backbone)

        def summed(trained: dict[stages.Path, jax.Array], part: LabBatch) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            variables = {**state.variables, "params": stages.merge(trained, fixed)}
            each, valid, batch_stats = compute(config, stage, nets, variables, constants, part)
            loss, count = losses.sum_of_valid(each, valid)
            return loss, (count, batch_stats)

        (loss, (count, batch_stats)), gradients = sum_over_parts(
            lambda part: jax.value_and_grad(summed, has_aux=True)(trained, part), batch, stage_config.accumulate
        )
        # The mean over the valid pictures of all parts of all devices; the gradients are this device's share of it.
        loss, count = jax.lax.psum((loss, count), AXIS)
        loss, gradients = jax.tree.map(lambda total: total / jnp.maximum(count, 1), (loss, gradients))
        if stage.name == "fusion":  # frozen: even the mean of equal numbers can round
            batch_stats = state.variables["batch_stats"]
        else:
            mean = jax.lax.pmean(jax.tree.map(lambda s: s / stage_config.accumulate, batch_stats), AXIS)
            batch_stats = _with_constants(mean, state.variables["batch_stats"])
        rate = constants[RATE] if RATE in constants else schedule(state.step)
        updated = optimizer.update(_joined(gradients), state.opt_state, _joined(trained), batch_stats, rate)
        params = stages.merge({path: updated.trained["/".join(path)] for path in trained}, fixed)
        after = TrainState(
            step=state.step + 1,
            variables={"params": params, "batch_stats": batch_stats},
            opt_state=updated.state,
        )
        unchanged = TrainState(step=state.step + 1, variables=state.variables, opt_state=state.opt_state)
        kept = jax.tree.map(lambda new, old: jnp.where(count > 0, new, old), after, unchanged)
        applied = jnp.where(count > 0, rate, 0.0)
        return kept, Scalars(loss, count.astype(loss.dtype), updated.grad_norm, applied)

    return step


def _with_constants(new: Any, old: Any) -> Any:
    """Running statistics whose constants (weights of colors) are the old ones, to the bit."""
    return jax.tree_util.tree_map_with_path(lambda path, a, b: b if path[-1].key == classes.WEIGHTS else a, new, old)


Losses = tuple[jax.Array, jax.Array, Any]
"""Loss of each picture (B,), which are valid (B,), and the running statistics afterwards."""


def _backbone_losses(
    teacher: ModelConfig | None,
    config: Config,
    stage: stages.Stage,
    nets: networks.Networks,
    variables: Mapping[str, Any],
    constants: Mapping[str, Any],
    batch: LabBatch,
) -> Losses:
    """Stages full and instance: one network, on whole photos or on crops, BatchNorm in training mode.

    Crops of each side are normalized by themselves, and the running statistics move by the mean over all.
    """
    if stage.name == "full":
        picture = batch.full
        return _one_side(teacher, config, nets.full, variables, constants, picture, jnp.ones(len(picture.ab), bool))
    pictures = batch.crops
    real = split_by_side(batch.crop_to_image >= 0, [picture.ab for picture in pictures])
    each_side = zip(pictures, real, strict=True)
    found = [_one_side(teacher, config, nets.instance, variables, constants, *of_side) for of_side in each_side]
    if len(found) == 1:
        return found[0]
    counts = jnp.stack([valid.sum() for _, valid, _ in found]).astype(jnp.float32)
    if config.sync_batch_norm:
        counts = jax.lax.psum(counts, AXIS)
    shares = jnp.where(counts.sum() > 0, counts / jnp.maximum(counts.sum(), 1), 1 / len(found))
    batch_stats = jax.tree.map(
        lambda *of_sides: sum(share * of for share, of in zip(shares, of_sides, strict=True)), *(s for _, _, s in found)
    )
    return jnp.concatenate([each for each, _, _ in found]), jnp.concatenate([v for _, v, _ in found]), batch_stats


def _one_side(
    teacher: ModelConfig | None,
    config: Config,
    network: Any,
    variables: Mapping[str, Any],
    constants: Mapping[str, Any],
    picture: networks.Picture,
    real: jax.Array,
) -> Losses:
    """Pictures of one side through the network that is trained."""
    valid = losses.colorful(picture.ab, config.low_chroma) & real
    output, changed = network.apply(variables, picture.inputs, train=True, valid=valid, mutable=["batch_stats"])
    batch_stats = cast(Mapping[str, Any], changed).get("batch_stats", {})
    objective = config.objective
    if picture.ab.shape[1] < config.model.side:  # small crops are compared as they are
        objective = dataclasses.replace(objective, perceptual_side=0)
    taught = None if teacher is None else distillation.teach(teacher, config.model, constants[TEACHER], picture.inputs)
    each = losses.picture_loss(objective, output.outputs, output.ab, picture, constants.get(VGG16), taught)
    return each, valid, batch_stats


def _fusion_losses(
    config: Config,
    stage: stages.Stage,
    nets: networks.Networks,
    variables: Mapping[str, Any],
    constants: Mapping[str, Any],
    batch: LabBatch,
) -> Losses:
    """Stage fusion: every network in inference mode; low-chroma photos, or those with only such crops, are left out."""
    output = networks.run_fused(nets, {**constants, "fusion": variables}, batch)
    valid = losses.colorful(batch.full.ab, config.low_chroma)
    crop_valid = jnp.concatenate([losses.colorful(crops.ab, config.low_chroma) for crops in batch.crops])
    valid &= losses.any_crop(crop_valid, batch.crop_to_image, len(valid))
    each = losses.picture_loss(config.objective, output.outputs, output.ab, batch.full, constants.get(VGG16))
    return each, valid, variables["batch_stats"]

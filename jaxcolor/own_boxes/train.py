"""Training the head: one short stage of its own, resumed exactly where it stopped."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Float

from jaxcolor.config import BoxTrainingConfig, Config, ModelConfig
from jaxcolor.config_io import to_dict
from jaxcolor.data.types import DataError
from jaxcolor.models import box_head, networks
from jaxcolor.own_boxes.draw import draw
from jaxcolor.own_boxes.photos import HeldPhotos, decode_photos, read_arrays
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.owner import owned_folder
from jaxcolor.runtime.parallel import AXIS, REPLICATED, SPLIT, Devices
from jaxcolor.training.augment import augment_luminance, augment_rgb
from jaxcolor.training.checkpoints import Checkpoints, set_damaged_aside
from jaxcolor.training.device_cache import batch_of
from jaxcolor.training.optimizer import Optimizer, learning_rate, make_optimizer
from jaxcolor.training.preemption import stop_requests
from jaxcolor.training.step import TrainState, eval_variables
from jaxcolor.weights import native, packaged
from jaxcolor.weights.locate import WEIGHTS_FILE
from jaxcolor.weights.native import BoxHeadWeights, NativeWeights

CHECKPOINTS = "boxes"
"""Folder of the checkpoints in the workdir."""
SCALARS = "scalars.jsonl"

_OWN = ("weights", "photos", "boxes", "log_every", "checkpoint_every")
"""Fields of the config that decide no number, or that are known by what they name."""


class Scalars(NamedTuple):
    """What a step reports; the same on every device."""

    heat: Float[jax.Array, ""]
    """Loss of the centers, by object."""
    boxes: Float[jax.Array, ""]
    """Loss of the boxes, by object: 1 - generalized IoU."""
    objects: Float[jax.Array, ""]
    """Objects of the batch."""
    grad_norm: Float[jax.Array, ""]
    learning_rate: Float[jax.Array, ""]


Step = Callable[[TrainState, Mapping[str, Any], HeldPhotos], tuple[TrainState, Scalars]]
"""(State, the frozen tree ``full``, the photos that this device holds) -> (state, scalars)."""


def train(config: BoxTrainingConfig, workdir: Path) -> NativeWeights:
    """Train the head of a full-image network, or resume; write ``weights.safetensors``: the weights, with the head.

    Args:
      config: of the run.
      workdir: folder of checkpoints, scalars and the result.

    Raises:
      ConfigError, DataError, WeightsError: settings, photos or weights that cannot be used.
      CheckpointError: ``workdir`` holds another run.
      StoppedError: SIGINT or SIGTERM came; the state is saved.
    """
    devices = Devices.all("shard_map")
    if devices.process_count > 1:
        raise UserError("own_boxes: the head is trained by one process; it takes minutes")
    if config.stage.batch_size % devices.count:
        raise UserError(f"stage.batch_size: {config.stage.batch_size} cannot be split over {devices.count} devices")
    weights = packaged.load(config.weights or None)
    if "full" not in weights.variables:
        raise UserError(f"{packaged.described(config.weights or None)}: no tree full, whose features the head reads")
    model = dataclasses.replace(weights.config, compute_dtype=config.compute_dtype)
    box_head.make_head(model, config.head)  # taps that there are not
    with owned_folder(workdir, "--workdir", devices):
        held = _held(config, model.side, devices)
        state = _run(config, workdir, model, weights.variables["full"], held, devices)
        found = weights._replace(box_head=BoxHeadWeights(config.head, {"params": eval_variables(state)["params"]}))
        native.save(workdir / WEIGHTS_FILE, *found)
    return found


def _held(config: BoxTrainingConfig, side: int, devices: Devices) -> HeldPhotos:
    """All photos, as many as can be shared out."""
    if config.photos:
        held = read_arrays(Path(config.photos), Path(config.boxes))
    else:
        held = decode_photos(config.data, config.data.cache_side or side * 5 // 4)
    count = len(held.rgb) - len(held.rgb) % devices.count
    if not count:
        raise DataError(f"{len(held.rgb)} photos cannot be shared out among {devices.count} devices")
    return HeldPhotos(held.rgb[:count], held.boxes[:count])


def _run(
    config: BoxTrainingConfig,
    workdir: Path,
    model: ModelConfig,
    full: Mapping[str, Any],
    held: HeldPhotos,
    devices: Devices,
) -> TrainState:
    """The steps; returns the last state, on the host."""
    optimizer = make_optimizer(Config(optimizer=config.optimizer), config.stage)
    identity = _identity(config, model, full, held)
    for line in set_damaged_aside(workdir / CHECKPOINTS):
        print(line, file=sys.stderr, flush=True)
    with stop_requests() as stop, Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        state = first_state(config, model, optimizer)
        if checkpoints.latest() is not None:
            state = checkpoints.restore(state, identity)
        done, last = int(state.step), config.stage.steps
        count = networks.count_parameters(state.variables["params"])
        devices.say(
            f"boxes: steps {done} to {last:,}, batch size {config.stage.batch_size} on {devices.count} x "
            f"{devices.kind}, {model.compute_dtype}; {len(held.rgb):,} photos of {held.rgb.shape[1]} x "
            f"{held.rgb.shape[2]}, {int((held.boxes[..., 2] > 0).sum()):,} boxes; {count:,} parameters"
        )
        if done >= last:
            return state
        step = devices.map(
            make_step(config, model, optimizer),
            in_specs=(REPLICATED, REPLICATED, SPLIT),
            out_specs=(REPLICATED, REPLICATED),
            donate=(0,),
        )
        on_device = devices.replicate(state)
        frozen = devices.replicate_frozen(networks.frozen({"full": full}, model))
        on_devices = devices.split(held)
        began, before = time.monotonic(), done
        for number in range(done + 1, last + 1):
            with jax.transfer_guard("disallow"):
                on_device, scalars = step(on_device, frozen, on_devices)
            if number % config.log_every == 0 or number == last:
                values = {name: float(value) for name, value in devices.fetch(scalars)._asdict().items()}
                rate = (number - before) * config.stage.batch_size / (time.monotonic() - began)
                _log(workdir, number, last, values, rate)
                if not np.isfinite(values["heat"] + values["boxes"]):
                    raise UserError(f"boxes: step {number}: the loss is not finite; a lower stage.learning_rate helps")
                began, before = time.monotonic(), number
            if number % config.checkpoint_every == 0 or number == last or stop:
                checkpoints.save(devices.fetch(on_device), identity)
                if number != last:
                    stop.obey(f"after step {number}")
        return devices.fetch(on_device)


def first_state(config: BoxTrainingConfig, model: ModelConfig, optimizer: Optimizer) -> TrainState:
    """The state before the first step, on the host."""
    params = jax.device_get(box_head.init(model, config.head, config.seed))["params"]
    opt_state = jax.device_get(optimizer.init(_flat(params), {}))
    return TrainState(step=np.int32(0), variables={"params": params, "batch_stats": {}}, opt_state=opt_state)


def _flat(params: Mapping[str, Any]) -> dict[str, Any]:
    return traverse_util.flatten_dict(dict(params), sep="/")


def make_step(config: BoxTrainingConfig, model: ModelConfig, optimizer: Optimizer) -> Step:
    """The per-device step; to be mapped over devices."""
    settings, augment = config.stage, config.augment
    nets, head = networks.build(model), box_head.make_head(model, config.head)
    schedule = learning_rate(settings)

    def step(state: TrainState, frozen: Mapping[str, Any], held: HeldPhotos) -> tuple[TrainState, Scalars]:
        count = settings.batch_size // jax.lax.axis_size(AXIS)
        place = jax.lax.axis_index(AXIS)
        own_key, common_key = jax.random.split(jax.random.key(config.seed))
        own_key = jax.random.fold_in(own_key, place)
        drawn = draw(held, own_key, state.step, count, model.side, settings, config.mosaics)
        key, nobody = jax.random.fold_in(common_key, state.step), jnp.zeros(0, jnp.int32)
        batch = augment_rgb(batch_of(drawn.rgb), key, augment, place * count, nobody, mix=False)
        lab = augment_luminance(networks.to_lab(batch, model), key, augment, place * count, nobody)
        taps = networks.run_full(nets, frozen, lab.full.inputs, heads=()).taps
        objects = jnp.maximum(jax.lax.psum(drawn.valid.sum(), AXIS), 1).astype(jnp.float32)

        def loss(flat: dict[str, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            params = traverse_util.unflatten_dict(flat, sep="/")
            maps = box_head.run_head(head, {"params": params}, taps)
            targets = box_head.render_targets(drawn.boxes, drawn.valid, *maps.heat.shape[1:])
            heat = box_head.heat_loss(maps.heat, targets.heat).sum() / objects
            boxes = box_head.box_loss(maps.boxes, targets).sum() / objects
            return heat + config.head.box_weight * boxes, (heat, boxes)

        params = _flat(state.variables["params"])
        (_, parts), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        rate = schedule(state.step)
        updated = optimizer.update(gradients, state.opt_state, params, {}, rate)
        after = TrainState(
            step=state.step + 1,
            variables={"params": traverse_util.unflatten_dict(updated.trained, sep="/"), "batch_stats": {}},
            opt_state=updated.state,
        )
        heat, boxes = jax.lax.psum(parts, AXIS)
        return after, Scalars(heat, boxes, objects, updated.grad_norm, jnp.asarray(rate, jnp.float32))

    return step


def _identity(
    config: BoxTrainingConfig, model: ModelConfig, full: Mapping[str, Any], held: HeldPhotos
) -> dict[str, Any]:
    """What decides the numbers of a run, in JSON types."""
    settings = {name: value for name, value in to_dict(config).items() if name not in (*_OWN, "data")}
    total = float(sum(np.abs(leaf, dtype=np.float64).sum() for leaf in jax.tree.leaves(full)))
    return {**settings, "model": to_dict(model), "full": total.hex(), "held": held.digest()}


def _log(workdir: Path, number: int, last: int, values: Mapping[str, float], rate: float) -> None:
    """A line for a person and one for programs."""
    with (workdir / SCALARS).open("a", encoding="utf-8") as file:
        print(json.dumps({"step": number, **values, "pictures_per_second": rate}), file=file)
    said = ", ".join(f"{name} {values[name]:.4g}" for name in ("heat", "boxes", "objects", "grad_norm"))
    print(f"boxes: step {number:,} of {last:,}, {said}, {rate:,.0f} pictures/s", flush=True)

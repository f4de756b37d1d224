"""What is compared with the reference's goldens, and how closely. Everything runs on the CPU."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcolor import boxes, color
from jaxcolor.batch import PADDING
from jaxcolor.config import Config, ModelConfig, OptimizerConfig, StageConfig
from jaxcolor.evaluation.metrics import lpips
from jaxcolor.evaluation.metrics.state_files import read_state
from jaxcolor.models import networks
from jaxcolor.models.networks import network_input
from jaxcolor.models.ops.implementation import plain_only
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training import stages, step
from jaxcolor.training.optimizer import make_optimizer
from jaxcolor.weights import names
from jaxcolor.weights.reference import variables_from_state
from tests.recipe import state_dict

OUTPUT_TOLERANCE = 1e-5
TAP_TOLERANCE = 2e-5
COLOR_TOLERANCE = 1e-4
LOSS_TOLERANCE = 1e-8
FIRST_LOSS_TOLERANCE_FLOAT32 = 1e-5
GRADIENT_TOLERANCE = 1e-6
STATISTICS_TOLERANCE = 1e-8
LPIPS_TOLERANCE = 1e-4

SQUEEZE_FILE = "lpips_squeeze"
"""Name under which the trunk of the file stands among the states."""

BOX_INPUTS = ["x0", "y0", "x1", "y1", "width", "height", "level_size"]
BOX_OUTPUTS = ["L_pad", "R_pad", "T_pad", "B_pad", "box_width", "box_height"]

Golden = Mapping[str, np.ndarray]
States = Mapping[str, Mapping[str, np.ndarray]]
"""Network (GComp, G, GF, and the trunks of LPIPS: alexnet, squeezenet1_1, vgg16) -> its state dict."""


class Row(NamedTuple):
    name: str
    error: float = 0.0
    tolerance: float = 0.0
    verdict: str = "not checked"


def row(name: str, error: float, tolerance: float) -> Row:
    """NaN fails: it is not within any tolerance."""
    return Row(name, error, tolerance, "ok" if error <= tolerance else "FAIL")


def absolute(ours: Any, theirs: np.ndarray) -> float:
    ours = np.asarray(ours)
    if ours.shape != theirs.shape:
        raise ValueError(f"ours has shape {ours.shape}, the golden {theirs.shape}")
    return float(np.abs(ours.astype(np.float64) - theirs).max(initial=0.0))


def relative(ours: Any, theirs: np.ndarray) -> float:
    """Largest relative error; where the golden is 0, anything but 0 is infinitely wrong."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        raise ValueError(f"ours has shape {ours.shape}, the golden {theirs.shape}")
    scale = np.where(theirs == 0, 1.0, np.abs(theirs))
    error = np.where(theirs == 0, np.where(ours == 0, 0.0, np.inf), np.abs(ours - theirs) / scale)
    return float(error.max(initial=0.0))


def check_folder(folder: Path, seed: int, lpips_squeeze: Path | None = None) -> Iterator[Row]:
    """A row for every quantity of every ``.npz`` file in ``folder``; weights are made from ``shapes.json``.

    ``lpips_squeeze``: weights of SqueezeNet 1.1, without which LPIPS with it is not checked.
    """
    shapes = json.loads((folder / "shapes.json").read_text())
    shapes |= {lpips.PUBLISHED_TRUNK[net]: lpips.trunk_shapes(net) for net in lpips.NETS}
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise ValueError("no .npz files here")
    states: dict[str, Any] = {}
    if lpips_squeeze is not None:
        states[SQUEEZE_FILE] = read_state(lpips_squeeze)
    for path in files:
        check = _find_check(path.stem)
        if check is None:
            yield Row(path.stem)
            continue
        for network in NEEDS_WEIGHTS.get(check, ()):
            if network not in states:
                states[network] = state_dict(network, shapes[network], seed)
        with np.load(path, allow_pickle=False) as golden, jax.default_device(jax.devices("cpu")[0]):
            for r in check(dict(golden), states):
                yield r._replace(name=f"{path.stem}/{r.name}")


def check_color(golden: Golden, states: States) -> Iterator[Row]:
    lab = color.rgb_to_lab(jnp.asarray(golden["rgb"]))
    normalized = np.concatenate(color.normalize_lab(lab), axis=-1)
    yield row("lab_norm", absolute(normalized, golden["lab_norm"]), COLOR_TOLERANCE)
    given = jnp.asarray(golden["lab_norm"])
    back = color.lab_to_rgb(color.denormalize_lab(given[..., :1], given[..., 1:]), clip=False)
    yield row("rgb_back", absolute(back, golden["rgb_back"]), COLOR_TOLERANCE)
    wild = jnp.asarray(golden["wild_lab_norm"])
    # The golden is the reference's function; its last clip comes when the picture is written.
    rgb = color.lab_to_rgb(color.denormalize_lab(wild[..., :1], wild[..., 1:]), clip=False)
    yield row("wild_rgb", absolute(rgb, golden["wild_rgb"]), COLOR_TOLERANCE)
    yield row("ab_index", absolute(color.ab_to_bin(given[..., 1:]), golden["ab_index"]), 0.0)
    mean = color.mean_ab(jnp.asarray(golden["bins_prob"]))
    yield row("bins_mean_ab", absolute(mean, golden["bins_mean_ab"]), COLOR_TOLERANCE)


def check_boxes(golden: Golden, states: States) -> Iterator[Row]:
    columns = [str(name) for name in golden["columns"]]
    if columns != BOX_INPUTS + BOX_OUTPUTS:
        raise ValueError(f"columns {columns}, expected {BOX_INPUTS + BOX_OUTPUTS}")
    wrong = 0
    for x0, y0, x1, y1, photo_width, photo_height, side, *expected in golden["table"].tolist():
        box = np.array([[x0, y0, x1, y1]], np.int32)
        left, top, width, height = boxes.level_boxes(box, (photo_width, photo_height), side, levels=1)[0, 0].tolist()
        wrong += [left, side - left - width, top, side - top - height, width, height] != expected
    yield row("rows that differ", wrong, 0.0)


def _level_boxes(golden: Golden) -> np.ndarray:
    """The golden's [L_pad R_pad T_pad B_pad width height] (levels, N, 6) as x0, y0, width, height (N, levels, 4)."""
    return golden["level_boxes"].transpose(1, 0, 2)[..., [0, 2, 4, 5]].astype(np.int32)


# Variables are arguments: XLA would fold them as constants, for minutes. Made once, for all goldens of one size.
_NETWORKS = networks.build(ModelConfig())
_HEADS = ("regression", "classes")
_CAPACITY = {64: 8}
"""Side of a canvas -> crops that are computed, as many as the golden with most has."""
_run_full = jax.jit(lambda variables, inputs: networks.run_full(_NETWORKS, variables, inputs, heads=_HEADS))
_run_instance = jax.jit(functools.partial(networks.run_instance, _NETWORKS))
_run_fusion = jax.jit(functools.partial(networks.run_fusion, _NETWORKS))


def check_forward(golden: Golden, states: States) -> Iterator[Row]:
    variables = {t: variables_from_state(t, states[n]).variables for t, n in names.REFERENCE_NETWORKS.items()}
    side = golden["L"].shape[1]
    level_boxes = _level_boxes(golden)
    ours = boxes.level_boxes(golden["boxes"].astype(np.int32), (side, side), side)
    yield row("level_boxes", absolute(ours, level_boxes), 0.0)

    # Padded as batches are, so that goldens of one size share their programs.
    count = len(level_boxes)
    padding = ((0, max(_CAPACITY.get(side, 0) - count, 0)), (0, 0), (0, 0))
    index = jnp.pad(jnp.zeros(count, jnp.int32), padding[0], constant_values=PADDING)
    inputs = network_input(*(jnp.asarray(golden[key]) for key in ("L", "hint_ab", "hint_mask")))
    crops = network_input(jnp.pad(jnp.asarray(golden["crops_L"]), (*padding, (0, 0))))
    full = _run_full(variables, inputs)
    instance = _run_instance(variables, crops, index)
    fusion = _run_fusion(variables, inputs, instance.taps, index, jnp.pad(jnp.asarray(level_boxes), padding))
    yield row("full_ab", absolute(full.ab, golden["full_ab"]), OUTPUT_TOLERANCE)
    logits = full.outputs["classes"].logits
    assert logits is not None
    yield row("full_logits", absolute(logits[:, ::4, ::4], golden["full_logits_every4"]), OUTPUT_TOLERANCE)
    yield row("instance_ab", absolute(instance.ab[:count], golden["instance_ab"]), OUTPUT_TOLERANCE)
    yield row("fused_ab", absolute(fusion.ab, golden["fused_ab"]), OUTPUT_TOLERANCE)
    for tap, layer in names.WEIGHT_LAYERS.items():
        for kind, taps, name in (("instance", instance.taps[tap][:count], tap), ("fused", fusion.fused[tap], layer)):
            error = absolute(taps[:, ::4, ::4, :16], golden[f"{kind}/{name}"])
            yield row(f"{kind}/{name}", error, TAP_TOLERANCE)


def check_train_full(golden: Golden, states: States) -> Iterator[Row]:
    yield from _check_training("full", golden, states)


def check_train_fusion(golden: Golden, states: States) -> Iterator[Row]:
    yield from _check_training("fusion", golden, states)


def _check_training(name: str, golden: Golden, states: States) -> Iterator[Row]:
    with jax.enable_x64(True):
        run = _train(name, _set_up(name, golden, states, "float64"), len(golden["losses"]))
    yield row("losses (float64, relative)", relative(run.losses, golden["losses"]), LOSS_TOLERANCE)
    expected = dict(zip((str(n) for n in golden["grad_names"]), golden["grad_norms"], strict=True))
    # What we never compute (the 14th head, class heads of G and GF) has no gradient on our side at all.
    unused = {n for n in expected if names.UNUSED[name].fullmatch(n)}
    if set(expected) - unused != set(run.gradient_norms):
        raise ValueError(f"trained parameters differ: {sorted(set(expected) ^ set(run.gradient_norms) - unused)}")
    ours = np.array([run.gradient_norms.get(n, 0.0) for n in expected])
    norms = np.array(list(expected.values()))
    zero = norms == 0
    yield row("gradient norms (float64, relative)", relative(ours[~zero], norms[~zero]), GRADIENT_TOLERANCE)
    yield row("gradients that are zero", absolute(ours[zero], norms[zero]), 0.0)
    statistics = {k.removeprefix("stats/"): v for k, v in golden.items() if k.startswith("stats/")}
    if statistics:
        errors = [absolute(run.statistics[k], v) for k, v in statistics.items()]
        yield row("running statistics (float64)", max(errors), STATISTICS_TOLERANCE)
    take, *arguments = _set_up(name, golden, states, "float32")
    # Asked for the loss alone, XLA leaves the gradients out.
    first = jax.jit(lambda *arguments: take(*arguments)[1].loss)(*arguments)
    yield row("first loss (float32, relative)", relative([first], golden["losses"][:1]), FIRST_LOSS_TOLERANCE_FLOAT32)


class _Training(NamedTuple):
    take: Callable[..., tuple[step.TrainState, step.Scalars]]
    state: step.TrainState
    frozen: Mapping[str, Any]
    batch: networks.LabBatch


def _set_up(name: str, golden: Golden, states: States, dtype: Any) -> _Training:
    """Our training on the golden's pictures: the real step, mapped over one device."""
    stage = stages.STAGES[name]
    trained = "fusion_and_output" if name == "fusion" else "all"
    settings = StageConfig(steps=10**6, learning_rate=float(golden["lr"]), trained=trained)
    config = Config(model=ModelConfig(compute_dtype=dtype), low_chroma=0.0, full=settings, fusion=settings)
    trees = {
        t: variables_from_state(t, {k: v.astype(dtype) for k, v in states[n].items()}).variables
        for t, n in names.REFERENCE_NETWORKS.items()
        if t == name or t in stage.frozen
    }
    optimizer = make_optimizer(config, settings)
    devices = Devices.all("shard_map", jax.devices("cpu")[:1])
    return _Training(
        devices.map(
            step.make_lab_step(config, stage, optimizer), (REPLICATED, REPLICATED, SPLIT), (REPLICATED, REPLICATED)
        ),
        devices.replicate(step.make_state(jax.tree.map(jnp.asarray, trees[name]), optimizer, settings)),
        devices.replicate({t: trees[t] for t in stage.frozen}),
        devices.split(_lab_batch(golden, dtype)),
    )


_UNOPTIMIZED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class Run(NamedTuple):
    losses: list[float]
    gradient_norms: dict[str, float]
    statistics: dict[str, np.ndarray]


def _train(name: str, training: _Training, steps: int) -> Run:
    # In float64 formulas are checked, not what XLA makes of them. Stage fusion computes for longer than it compiles; so
    # does stage full with plain convolutions, which in float64 are loops of XLA's own.
    compiles_for_longer = name == "full" and not plain_only()
    take = jax.jit(training.take, compiler_options=_UNOPTIMIZED if compiles_for_longer else None)
    state = training.state
    losses, gradients = [], {}
    for i in range(steps):
        state, scalars = take(state, training.frozen, training.batch)
        losses.append(float(scalars.loss))
        if i == 0:
            # After one step of Adam from zero its first moment is (1 - b1) x the gradient.
            moment = jax.device_get(state.opt_state.rule[0].mu)
            gradients = {k: float(np.linalg.norm(v) / (1 - OptimizerConfig().b1)) for k, v in moment.items()}
    entries = {"/".join(e.path): e.reference for e in names.ENTRIES[name]}
    batch_stats = jax.device_get(state.variables["batch_stats"])
    statistics = {}
    for entry in names.ENTRIES[name]:
        if entry.collection == "batch_stats":
            leaf = batch_stats
            for key in entry.path:
                leaf = leaf[key]
            statistics[entry.reference] = leaf
    return Run(losses, {entries[k]: v for k, v in gradients.items()}, statistics)


def _lab_batch(golden: Golden, dtype: Any) -> networks.LabBatch:
    full = networks.Picture(network_input(jnp.asarray(golden["L"].astype(dtype))), golden["ab"].astype(dtype))
    crops = golden.get("crops_L", np.zeros((0, *full.luminance.shape[1:]))).astype(dtype)
    # Crops have no true colour in the goldens, and need none: nothing is left out for low chroma.
    crop = networks.Picture(network_input(jnp.asarray(crops)), np.zeros((*crops.shape[:-1], 2), dtype))
    level_boxes = np.zeros((0, 4, 4), np.int32)
    if "boxes" in golden:
        side = full.luminance.shape[1]
        level_boxes = boxes.level_boxes(golden["boxes"].astype(np.int32), (side, side), side)
    return networks.LabBatch(full, crop, np.zeros(len(crops), np.int32), level_boxes)


_lpips = jax.jit(lpips.distance, static_argnames="net")


def check_lpips(golden: Golden, states: States) -> Iterator[Row]:
    """Pictures in [0, 1]; the real linear heads on trunks of recipe weights.

    A golden of SqueezeNet may have been made with the trunk of the file instead, and does not say so: it has to be that
    of one of the two.
    """
    first, second = (2 * jnp.asarray(golden[key]) - 1 for key in ("image_a", "image_b"))
    for net in lpips.NETS:
        name, trunks = f"lpips_{net} (relative)", [states[lpips.PUBLISHED_TRUNK[net]]]
        if net == "squeeze":
            if SQUEEZE_FILE not in states:
                yield Row(name)
                continue
            trunks.append(states[SQUEEZE_FILE])
        found = [_lpips(lpips.params_from_state(net, trunk), net, first, second) for trunk in trunks]
        errors = [relative(distances, golden[f"lpips_{net}"]) for distances in found]
        yield row(name, float(np.min(errors)), LPIPS_TOLERANCE)


Check = Callable[[Golden, States], Iterator[Row]]
CHECKS: dict[str, Check] = {
    "color": check_color,
    "boxes": check_boxes,
    "forward": check_forward,
    "train_full": check_train_full,
    "train_fusion": check_train_fusion,
    "lpips": check_lpips,
}
NEEDS_WEIGHTS: dict[Check, tuple[str, ...]] = {
    check_forward: tuple(names.REFERENCE_NETWORKS.values()),
    check_train_full: (names.REFERENCE_NETWORKS["full"],),
    check_train_fusion: tuple(names.REFERENCE_NETWORKS.values()),
    check_lpips: tuple(lpips.PUBLISHED_TRUNK.values()),
}
"""Check -> the networks whose weights it asks for."""


def _find_check(stem: str) -> Check | None:
    """The check for a file by the beginning of its name: ``forward_two_boxes`` is checked as ``forward``."""
    return next((check for name, check in CHECKS.items() if stem == name or stem.startswith(f"{name}_")), None)

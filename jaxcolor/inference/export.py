"""Networks as programs for elsewhere, with the weights inside, for any number of photos or crops: StableHLO and ONNX.

A program takes lightness and gives ab*; reading, resizing and joining (``inference.upsample``) stay outside. It is
traced with portable ops, in the type of the computation of its weights, for CPUs, GPUs and TPUs alike.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export
from jaxtyping import Float, Int

from jaxcolor.batch import LEVELS
from jaxcolor.color import AB_SCALE
from jaxcolor.config import ModelConfig
from jaxcolor.models import networks
from jaxcolor.models.decoding import annealed_ab, check_vivid, has_classes, parse_decode
from jaxcolor.models.ops.implementation import portable_ops
from jaxcolor.runtime.errors import UserError
from jaxcolor.weights.native import NativeWeights

BRANCHES = ("full", "fused")
PLATFORMS = ("cpu", "cuda", "tpu")


def export_stablehlo(weights: NativeWeights, branch: str | None = None, vivid: float | None = None) -> bytes:
    """A program as ``jax.export`` serializes it, to be run without this package: ``deserialize(data).call(...)``.

    ``full``: ``lightness`` (B, S, S, 1), L* from 0 to 100, to ab* (B, S, S, 2), for any B.
    ``fused``: ``lightness`` (1, S, S, 1), ``crop_lightness`` (M, S, S, 1) and ``level_boxes`` int32 (M, L, 4), as
    ``boxes.level_boxes`` makes them, to ab* (1, S, S, 2), for any M from 1.

    Args:
      weights: from ``weights.native``.
      branch: None: ``fused`` where the weights have all three trees, else ``full``.
      vivid: strength of the colors, 0 to 1; None: as the weights say.

    Raises:
      UserError: no such branch, or trees that it needs are missing; a strength that these weights cannot do, or that
        needs their saturation curve, which is not exported.
    """
    has_all = all(tree in weights.variables for tree in networks.TREES)
    branch = branch or ("fused" if has_all else "full")
    if branch not in BRANCHES:
        raise UserError(f"branch {branch!r}: must be {' or '.join(BRANCHES)}")
    needed = networks.TREES if branch == "fused" else ("full",)
    vivid = _checked(weights, needed, vivid)
    side = weights.config.side
    given = {tree: weights.variables[tree] for tree in needed}
    function = (_fused if branch == "fused" else _full)(weights.config, given, vivid)
    (count,) = jax_export.symbolic_shape("n")
    many = jax.ShapeDtypeStruct((count, side, side, 1), jnp.float32)
    arguments: tuple[Any, ...] = (many,)
    if branch == "fused":
        one = jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
        arguments = (one, many, jax.ShapeDtypeStruct((count, LEVELS, 4), jnp.int32))
    with portable_ops():
        return bytes(jax_export.export(jax.jit(function), platforms=PLATFORMS)(*arguments).serialize())


def export_onnx(weights: NativeWeights, vivid: float | None = None) -> bytes:
    """The full branch as an ONNX model: ``lightness`` (B, S, S, 1), L* from 0 to 100, to ``ab`` (B, S, S, 2), ab*.

    Args:
      weights: from ``weights.native``.
      vivid: strength of the colors, 0 to 1; None: as the weights say.

    Raises:
      UserError: jax2onnx is not installed; otherwise as ``export_stablehlo``.
    """
    vivid = _checked(weights, ("full",), vivid)
    function = _full(weights.config, {"full": weights.variables["full"]}, vivid)
    side = weights.config.side
    with _quiet("jax2onnx", "onnx_ir"), portable_ops():
        try:
            from jax2onnx import to_onnx
        except ImportError as error:
            raise UserError("ONNX needs a package that is not installed: pip install 'jaxcolor[onnx]'") from error
        model = to_onnx(function, [("B", side, side, 1)], model_name="jaxcolor")
    _rename(model.graph, {model.graph.input[0].name: "lightness", model.graph.output[0].name: "ab"})
    return bytes(model.SerializeToString())


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Errors alone from these loggers: they warn of their examples, and of shapes that no runtime asks for."""
    levels = {logger: logger.level for logger in map(logging.getLogger, names)}
    try:
        for logger in levels:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            # Traced, the constants of BatchNorm are of float32 before they are combined, not of float64.
            warnings.filterwarnings("ignore", "Explicitly requested dtype float64", UserWarning)
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Give inputs and outputs of an ONNX graph other names."""
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for used in (node.input, node.output):
            used[:] = [names.get(name, name) for name in used]


def _checked(weights: NativeWeights, needed: tuple[str, ...], vivid: float | None) -> float:
    """The strength; weights without the trees needed, or that cannot do it, are refused."""
    missing = [tree for tree in needed if tree not in weights.variables]
    if missing:
        raise UserError(f"these weights have no tree {', '.join(missing)}, which this branch needs")
    vivid = parse_decode(weights.decode) if vivid is None else vivid
    check_vivid(vivid, weights.config, weights.saturation_curve)
    if vivid and not has_classes(weights.config):
        raise UserError(f"vivid {vivid}: a saturation curve is not exported; give --vivid 0")
    return vivid


def _inputs(config: ModelConfig, lightness: jax.Array) -> jax.Array:
    """What the networks read of L*, without hints."""
    return networks.network_input((lightness - 50) / 100, convention=config.hint_mask)


def _decoded(config: ModelConfig, found: Any, vivid: float) -> jax.Array:
    """Ab* of ``decoding.mix_vivid``'s strength."""
    ab: jax.Array = found.ab
    if vivid:
        ab = (1 - vivid) * ab + vivid * annealed_ab(found.outputs, (config.side, config.side))
    return ab.astype(jnp.float32) * AB_SCALE


def _full(config: ModelConfig, variables: networks.Variables, vivid: float) -> Callable[..., jax.Array]:
    nets = networks.build(config)

    def colors(lightness: Float[jax.Array, "B S S 1"]) -> Float[jax.Array, "B S S 2"]:
        found = networks.run_full(nets, variables, _inputs(config, lightness))
        return _decoded(config, found, vivid)

    return colors


def _fused(config: ModelConfig, variables: networks.Variables, vivid: float) -> Callable[..., jax.Array]:
    nets = networks.build(config)

    def colors(
        lightness: Float[jax.Array, "1 S S 1"],
        crop_lightness: Float[jax.Array, "M S S 1"],
        level_boxes: Int[jax.Array, "M L 4"],
    ) -> Float[jax.Array, "1 S S 2"]:
        owner = jnp.zeros(crop_lightness.shape[0], jnp.int32)
        taps = networks.run_instance(nets, variables, _inputs(config, crop_lightness), owner).taps
        found = networks.run_fusion(nets, variables, _inputs(config, lightness), taps, owner, level_boxes)
        return _decoded(config, found, vivid)

    return colors

"""The instance network crop after crop: its cost and its memory follow the crops there are, not the places for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxcolor.batch import split_by_side
from jaxcolor.models.backbone import NOTHING_KNOWN
from jaxcolor.models.fusion import Features, FusionOutput, fused_taps
from jaxcolor.models.networks import LabBatch, Networks, Variables, run_fusion, run_instance

Tree = TypeVar("Tree")


def over_crops(
    run: Callable[[jax.Array, jax.Array], Tree],
    inputs: Float[jax.Array, "M ..."],
    crop_to_image: Int[jax.Array, " M"],
    at_once: int,
) -> Tree:
    """``run`` on a few crops after another, up to the last that is no padding: cost follows the crops there are.

    Args:
      run: a function of some crops and their photos that treats each crop by itself.
      inputs: of the crops; those of a batch come first, padding last (``data.collate``).
      crop_to_image: -1 for padding.
      at_once: crops of one call. It is compiled once.

    Returns:
      What ``run`` returns, for all M crops; zeros for padding, but for what of it shares a call with crops.
    """
    crops = len(crop_to_image)
    if not crops:
        return run(inputs, crop_to_image)
    size = min(at_once, crops)
    like = jax.eval_shape(run, inputs[:size], crop_to_image[:size])
    nothing = jax.tree.map(lambda part: jnp.zeros((crops, *part.shape[1:]), part.dtype), like)
    end = jnp.where(crop_to_image >= 0, jnp.arange(1, crops + 1), 0).max()

    def more(turn: jax.Array, found: Tree) -> Tree:
        # Both slices are moved back alike where they stick out: then a few crops are computed again.
        cut = (jax.lax.dynamic_slice_in_dim(x, turn * size, size) for x in (inputs, crop_to_image))
        part = run(*cut)
        return jax.tree.map(
            lambda whole, new: jax.lax.dynamic_update_slice_in_dim(whole, new, turn * size, 0), found, part
        )

    found: Tree = jax.lax.fori_loop(0, (end + size - 1) // size, more, nothing)
    return found


class CropFeatures(NamedTuple):
    """What the instance network says of the crops; of padding as ``over_crops``."""

    taps: dict[str, Features]
    """Those that were asked for."""
    ab: Features | None
    """Normalized, of the crops of each side; None where nobody asked."""


def run_crops(
    nets: Networks, variables: Variables, lab: LabBatch, taps: Sequence[str], at_once: Sequence[int], ab: bool = False
) -> CropFeatures:
    """``networks.run_crops`` on a few crops at a time; ``at_once``: of each side."""

    def run(inputs: jax.Array, crop_to_image: jax.Array) -> tuple[dict[str, jax.Array], jax.Array | None]:
        found = run_instance(nets, variables, inputs, crop_to_image)
        return {name: found.taps[name] for name in taps}, found.ab if ab else None

    owners = split_by_side(lab.crop_to_image, [crops.ab for crops in lab.crops])
    found = [over_crops(run, of.inputs, own, few) for of, own, few in zip(lab.crops, owners, at_once, strict=True)]
    by_side = {name: tuple(of_side[name] for of_side, _ in found) for name in taps}
    return CropFeatures(by_side, tuple(of_side for _, of_side in found if of_side is not None) if ab else None)


def run_fused(
    nets: Networks, variables: Variables, lab: LabBatch, full_taps: Mapping[str, jax.Array] = NOTHING_KNOWN
) -> FusionOutput:
    """``networks.run_fused``, one crop at a time, or as many smaller ones as have its pixels: for CPUs.

    They take no longer than all at once, and half of the memory.
    """
    sides = [crops.inputs.shape[1] for crops in lab.crops]
    at_once = [(sides[0] // side) ** 2 for side in sides]
    taps = run_crops(nets, variables, lab, fused_taps(nets.instance.config), at_once).taps
    crops = (taps, lab.crop_to_image, lab.level_boxes, lab.crop_mask)
    return run_fusion(nets, variables, lab.full.inputs, *crops, full_taps)

"""One pass of each network over a batch, kept on the devices, from which all systems and controls are made.

Three programs: the full-image network on the photos; the instance network on the crops that there are; the fusion
network on what these two found, called again for a control with other crops, or none, in their places.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jaxcolor import color, resample
from jaxcolor.batch import Array, Batch
from jaxcolor.color import SaturationCurve
from jaxcolor.config import ModelConfig
from jaxcolor.hints import BatchHints
from jaxcolor.models.backbone import BackboneOutput
from jaxcolor.models.fusion import Features, FusionOutput, fused_taps, membership
from jaxcolor.models.networks import Variables, build, run_full, run_fusion, to_lab
from jaxcolor.models.outputs import ab_distribution
from jaxcolor.models.over_crops import run_crops
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices

Colors = dict[str, Float[jax.Array, "B S S 2"]]
"""System -> normalized ab."""

CROPS_AT_ONCE = 8
"""Crops of one call of the instance network, where a larger call is a faster one."""


class Decoding(NamedTuple):
    """How vivid colors are made: ``Checkpoint.saturation_curve``, or the class head at a temperature."""

    temperature: float
    curve: SaturationCurve | None


class FullPass(NamedTuple):
    """What the full-image network says of the photos."""

    inputs: Float[jax.Array, "B S S 4"]
    """As every network reads them."""
    colors: Colors
    """``full``, and ``full_vivid`` where there is one."""
    shared: dict[str, jax.Array]
    """Taps that the fusion network need not compute again (``Networks.shared``)."""


class CropPass(NamedTuple):
    """What the instance network says of the crops; zeros for padding, which it is not run on."""

    taps: dict[str, Features]
    """Those that are fused."""
    ab: Float[jax.Array, "M S S 2"] | None
    """Resized to the canvas; None: nobody asks for it."""


class Places(NamedTuple):
    """Where the crops go: parts of a ``Batch``."""

    crop_to_image: Int[Array, " M"]
    level_boxes: Int[Array, "M L 4"]
    crop_mask: Bool[Array, "K S S"]


def places(batch: Batch) -> Places:
    """Those of a batch."""
    return Places(batch.crop_to_image, batch.level_boxes, batch.crop_mask)


def _vivid(system: str, found: BackboneOutput | FusionOutput, decoding: Decoding) -> Colors:
    """One more decoding, not one more pass: as ``models.decoding`` at full strength."""
    if decoding.curve is not None:
        vivid = color.apply_saturation(decoding.curve, found.ab * color.AB_SCALE, 1.0) / color.AB_SCALE
        return {f"{system}_vivid": vivid}
    if "classes" not in found.outputs:
        return {}
    mean = ab_distribution.annealed_mean(found.outputs["classes"].logits, decoding.temperature)
    return {f"{system}_vivid": resample.resize(mean, *found.ab.shape[1:3])}


@functools.lru_cache(maxsize=8)
def compiled_full(
    model: ModelConfig, devices: Devices, shared: tuple[str, ...], decoding: Decoding
) -> Callable[..., tuple[FullPass]]:
    """The full-image network: (variables, batch, hints or None) -> (FullPass,).

    Kept, as the others, so that an evaluation every so many steps of a training run compiles once.
    """

    def full(variables: Variables, batch: Batch, hints: BatchHints | None) -> tuple[FullPass]:
        inputs = to_lab(batch, model, hints).full.inputs
        found = run_full(build(model), variables, inputs)
        colors = {"full": found.ab, **_vivid("full", found, decoding)}
        return (FullPass(inputs, colors, {name: found.taps[name] for name in shared}),)

    return devices.map(full, in_specs=(REPLICATED, SPLIT, SPLIT), out_specs=(SPLIT,))


@functools.lru_cache(maxsize=8)
def compiled_crops(model: ModelConfig, devices: Devices, taps: bool, ab: bool) -> Callable[..., tuple[CropPass]]:
    """The instance network: (variables, batch, hints or None) -> (CropPass,), with the taps that are fused, with ab."""
    at_once = 1 if devices.devices[0].platform == "cpu" else CROPS_AT_ONCE
    wanted = fused_taps(model) if taps else ()

    def crops(variables: Variables, batch: Batch, hints: BatchHints | None) -> tuple[CropPass]:
        lab = to_lab(batch, model, hints)
        found = run_crops(build(model), variables, lab, wanted, [at_once] * len(lab.crops), ab)
        colors = found.ab or ()
        canvas = [x if x.shape[1] == model.side else resample.resize(x, model.side, model.side) for x in colors]
        return (CropPass(found.taps, jnp.concatenate(canvas) if canvas else None),)

    return devices.map(crops, in_specs=(REPLICATED, SPLIT, SPLIT), out_specs=(SPLIT,))


@functools.lru_cache(maxsize=16)
def compiled_fusion(
    model: ModelConfig, devices: Devices, shared: tuple[str, ...], decoding: Decoding, hide: bool = False
) -> Callable[..., tuple[Colors]]:
    """The fusion network: (variables, FullPass, ``CropPass.taps``, Places) -> (``fused``, ``fused_vivid``).

    The full-image network's colors where a photo has no boxes: on a device whose photos have none, at no cost.
    ``hide``: crops are taken away from the network, but what is asked of photos that never had any stays. Weights sum
    to 1 (``FusionStrategy.weights``), so all of it is the photo's own: the network without a tap that is fused.
    """
    fusion = dataclasses.replace(model.fusion, layers="none") if hide else model.fusion
    model = dataclasses.replace(model, fusion=fusion)

    def fuse(variables: Variables, full: FullPass, taps: Mapping[str, Features], at: Places) -> tuple[Colors]:
        nets = build(model, shared=shared)
        has_boxes = membership(jnp.asarray(at.crop_to_image), len(full.inputs)).any(axis=1)

        def fused() -> Colors:
            found = run_fusion(nets, variables, full.inputs, taps, *at, full.shared)
            colors = {"fused": found.ab, **_vivid("fused", found, decoding)}
            return {
                system: jnp.where(has_boxes[:, None, None, None], ab, full.colors[system.replace("fused", "full")])
                for system, ab in colors.items()
            }

        def unfused() -> Colors:
            return {system.replace("full", "fused"): ab for system, ab in full.colors.items()}

        return (jax.lax.cond(has_boxes.any(), fused, unfused),)

    return devices.map(fuse, in_specs=(REPLICATED, SPLIT, SPLIT, SPLIT), out_specs=(SPLIT,))


class AllPasses(NamedTuple):
    """What the networks of a checkpoint say of a batch, on the devices."""

    full: FullPass
    crops: CropPass | None
    """None: the instance network was not run."""
    colors: dict[str, Any]
    """System -> ab, of the full-image network and, where there is one, of the fusion network."""


class Passes(NamedTuple):
    """The networks of a checkpoint, to be run one by one."""

    model: ModelConfig
    variables: Any
    """On the devices."""
    devices: Devices
    shared: tuple[str, ...]
    decoding: Decoding

    def __call__(self, batch: Any, hints: Any = None, *, crop_ab: bool = False) -> AllPasses:
        """All networks that there are on a batch, and hints, that are on the devices.

        Args:
          batch: photos and crops.
          hints: ``BatchHints``, if any.
          crop_ab: the instance network's own colors too; without a fusion network it is not run otherwise.
        """
        full, has_fusion = self.full(batch, hints), "fusion" in self.variables
        if not has_fusion and not crop_ab:
            return AllPasses(full, None, full.colors)
        crops = self.crops(batch, hints, taps=has_fusion, ab=crop_ab)
        fused = self.fused(full, crops, places(batch)) if has_fusion else {}
        return AllPasses(full, crops, full.colors | fused)

    def full(self, batch: Any, hints: Any = None) -> FullPass:
        """The full-image network on the photos."""
        function = compiled_full(self.model, self.devices, self.shared, self.decoding)
        found: FullPass = self._run(function, "full", batch, hints)
        return found

    def crops(self, batch: Any, hints: Any = None, *, taps: bool = False, ab: bool = False) -> CropPass:
        """The instance network on the crops: what fusion reads (``taps``), its own colors (``ab``)."""
        found: CropPass = self._run(compiled_crops(self.model, self.devices, taps, ab), "instance", batch, hints)
        return found

    def fused(self, full: FullPass, crops: CropPass, at: Places, *, hide: bool = False) -> dict[str, Any]:
        """The fusion network on photos and crops that were seen; ``hide``: on the photos alone."""
        function = compiled_fusion(self.model, self.devices, self.shared, self.decoding, hide)
        found: dict[str, Any] = self._run(function, "fusion", full, crops.taps, at)
        return found

    def _run(self, function: Callable[..., tuple[Any]], tree: str, *arguments: Any) -> Any:
        # A measurement: TF32 or bfloat16 products on accelerators would move colors by more than 8-bit rounding.
        with jax.default_matmul_precision("highest"):
            (found,) = function({tree: self.variables[tree]}, *arguments)
        return found

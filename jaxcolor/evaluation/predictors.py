"""Which systems there are, and the ab that each predicts for a batch: on the canvas, still on the devices."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxcolor.batch import Batch
from jaxcolor.color import SaturationCurve
from jaxcolor.config import ModelConfig, check_canvases
from jaxcolor.evaluation.controls import crop_donors, exchanged_places, other_crops, photo_of_crop
from jaxcolor.evaluation.passes import Colors, Decoding, Passes, places
from jaxcolor.hints import BatchHints
from jaxcolor.inference import sampling
from jaxcolor.inference.canvases import canvas_function
from jaxcolor.models.hint_simulation import hints_by_side, random_points
from jaxcolor.models.networks import (
    TREES,
    Variables,
    build,
    frozen,
    picture,
    to_lab,
)
from jaxcolor.models.outputs import ab_distribution
from jaxcolor.models.shared_taps import shared_taps
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices

SYSTEMS = ("gray", "full", "fused")
"""ab = 0; the full-image network alone; the dual-branch model (the full tree where a photo has no boxes)."""
VIVID = ("full_vivid", "fused_vivid")
"""The same two at full strength: by the weights' saturation curve, else by the class head, if there is one."""
CANVASES = ("full_canvases", "fused_canvases")
"""The same two, averaged with the full-image network on further canvases, where an evaluation has some."""
OWN_SYSTEMS = (SYSTEMS[0], *(row for rows in zip(SYSTEMS[1:], VIVID, CANVASES, strict=True) for row in rows))
"""All of these, in the order of reading."""
CONTROLS = ("no_boxes", "other_crops")
"""The dual-branch model with all crops taken away, and with another photo's crops in their place."""
INSTANCE = "instance"
"""The instance network alone, each crop's ab pasted where it was cut: measured of single objects, not of photos."""
TRUTH = "truth"

HINT_SEED = 0
"""Of the random points that show true color: a photo's depend on it and on the photo's number alone."""
SAMPLE_SEED = 0
"""Of the samples, likewise."""


class Checkpoint(NamedTuple):
    """Weights that take part in a comparison."""

    name: str
    """Of its one system; empty: the weights that are studied, whose systems are ``OWN_SYSTEMS`` and ``CONTROLS``."""
    model: ModelConfig
    variables: Variables
    """``full`` alone, ``full`` and ``instance``, or all three trees."""
    saturation_curve: SaturationCurve | None = None
    """By which vivid colors are made, at full strength; None: by the class head, where there is one."""

    @property
    def has_fusion(self) -> bool:
        """Whether the dual-branch model can run."""
        return all(tree in self.variables for tree in TREES)

    @property
    def has_instance(self) -> bool:
        """Whether the instance network can run."""
        return "instance" in self.variables

    @property
    def has_classes(self) -> bool:
        """Whether there is a distribution over colors."""
        return "classes" in self.model.outputs

    @property
    def shared(self) -> tuple[str, ...]:
        """Taps that one network hands to the other (``models.shared_taps``)."""
        return shared_taps(self.variables, self.model)

    @property
    def systems(self) -> tuple[str, ...]:
        """The systems that it brings, controls apart.

        Raises:
          UserError: no ``full`` tree.
        """
        if "full" not in self.variables:
            held = ", ".join(self.variables) or "none"
            whose = f"{self.name}: " if self.name else ""
            raise UserError(f"{whose}cannot evaluate without the tree 'full'; the weights hold {held}")
        if self.name:
            return (self.name,)
        there = {*(SYSTEMS[1:] if self.has_fusion else SYSTEMS[1:2])}
        vivid = self.has_classes or self.saturation_curve is not None
        there |= {f"{system}_vivid" for system in there} if vivid else set()
        return tuple(system for system in OWN_SYSTEMS if system in there)


def check_names(names: Sequence[str]) -> None:
    """Names that people give to systems.

    Raises:
      UserError: one that is empty, is given twice, or means something else.
    """
    taken = {*OWN_SYSTEMS, *CONTROLS, INSTANCE, TRUTH}
    for name in names:
        if not name or name in taken:
            why = "there is one already, or it means something else" if name else "it is empty"
            raise UserError(f"a system cannot be called {name!r}: {why}; take another name")
        taken.add(name)


@functools.lru_cache(maxsize=32)
def _compiled_points(model: ModelConfig, devices: Devices, count: int) -> Callable[..., Any]:
    """Random points of the photos and in their crops; the networks are another program, the same for any count."""

    def points(batch: Batch, numbers: jax.Array) -> tuple[BatchHints]:
        true_ab = picture(batch.full_rgb, model).ab
        hints = random_points(jax.random.key(HINT_SEED), true_ab, count, numbers=numbers)
        return (hints_by_side(hints, batch.level_boxes[:, 0], batch.crop_to_image, batch.crops),)

    return devices.map(points, in_specs=(SPLIT, SPLIT), out_specs=(SPLIT,))


class Sampled(NamedTuple):
    """Results drawn for a batch, and the palettes of its crops; on the devices."""

    ab: tuple[Float[jax.Array, "B S S 2"], ...]
    """The most probable combination of colors first."""
    palette_ab: Float[jax.Array, "M K 2"]
    probability: Float[jax.Array, "M K"]
    valid: Bool[jax.Array, "M K"]
    weights: Float[jax.Array, "M h w"]
    """How much each cell of the class head's grid counts for each crop's object."""
    true_ab: Float[jax.Array, "B h w 2"]
    """Of the photos, on that grid."""


@functools.lru_cache(maxsize=4)
def _compiled_sample(model: ModelConfig, devices: Devices, shared: tuple[str, ...], count: int) -> Callable[..., Any]:
    def sample(variables: Variables, batch: Batch, boxes: jax.Array, numbers: jax.Array) -> tuple[Sampled]:
        lab = to_lab(batch, model)
        key = jax.random.key(SAMPLE_SEED)
        found = sampling.sample(build(model, shared=shared), variables, lab, boxes, key, count, numbers=numbers)
        crops, stride = batch.crop_to_image.shape[0], lab.full.ab.shape[1] // found.objects.weights.shape[1]
        ab, probability, valid = (x[:crops] for x in found.palettes[1:])
        true_ab = lab.full.ab[:, ::stride, ::stride]
        return (Sampled(tuple(found.ab), ab, probability, valid, found.objects.weights[:crops], true_ab),)

    return devices.map(sample, in_specs=(REPLICATED, SPLIT, SPLIT, SPLIT), out_specs=(SPLIT,))


@functools.lru_cache(maxsize=4)
def _compiled_canvases(model: ModelConfig, devices: Devices) -> Callable[..., Any]:
    further = canvas_function(model)

    def mean(variables: Variables, canvases: Sequence[jax.Array], own: Colors) -> tuple[Colors]:
        total: Any = sum(further(variables, rgb).ab for rgb in canvases)
        return ({f"{system}_canvases": (ab + total) / (1 + len(canvases)) for system, ab in own.items()},)

    return devices.map(mean, in_specs=(REPLICATED, SPLIT, SPLIT), out_specs=(SPLIT,))


class Predicted(NamedTuple):
    """What the checkpoints make of a batch, on the devices."""

    colors: dict[str, Any]
    """The ab of every system and control but gray, which is 0 everywhere: (B, S, S, 2) each."""
    instance: Any
    """That of the nameless checkpoint's instance network for every crop, (M, S, S, 2); None: nobody asks for it."""


class Predictors:
    """The checkpoints of a comparison, on the devices; each network runs once over a batch (``passes``)."""

    def __init__(
        self,
        checkpoints: Sequence[Checkpoint],
        devices: Devices,
        controls: bool,
        vivid_temperature: float = ab_distribution.TEMPERATURE,
        canvases: Sequence[int] = (),
    ) -> None:
        """Puts the variables on the devices.

        Args:
          checkpoints: at most one without a name.
          devices: where to run.
          controls: predict ``CONTROLS`` too (where the nameless one has a fused system), and what its instance
            network says alone (where it has one).
          vivid_temperature: of ``VIVID``.
          canvases: sides of the further ones of ``CANVASES``, which are the nameless checkpoint's; none: without.

        Raises:
          UserError: no ``full`` tree; canvases of different sides; further ones that cannot be (``check_canvases``).
        """
        self._devices = devices
        self.vivid_temperature = vivid_temperature
        self._loaded: list[tuple[Checkpoint, Any]] = []
        self.systems = tuple(system for checkpoint in checkpoints for system in checkpoint.systems)
        for checkpoint in checkpoints:
            if checkpoint.model.side != checkpoints[0].model.side:
                raise UserError(
                    f"{checkpoint.name}: its canvas is {checkpoint.model.side} pixels wide, that of the others "
                    f"{checkpoints[0].model.side}; their numbers could not be compared"
                )
            kept = [tree for tree in TREES if checkpoint.has_fusion or tree in ("full", "instance")]
            variables = frozen(
                {t: checkpoint.variables[t] for t in kept if t in checkpoint.variables}, checkpoint.model
            )
            self._loaded.append((checkpoint, devices.replicate(variables)))
        studied = next((c for c in checkpoints if not c.name), None)
        self.canvases = () if studied is None else tuple(canvases)
        if studied is not None and self.canvases:
            check_canvases(self.canvases, studied.model.side)
            there = {*self.systems, *(f"{system}_canvases" for system in self.systems)}
            named = (system for system in self.systems if system not in OWN_SYSTEMS)
            self.systems = (*(system for system in OWN_SYSTEMS if system in there), *named)
        self.controls = CONTROLS if controls and studied is not None and studied.has_fusion else ()
        self.has_instance = controls and studied is not None and studied.has_instance
        """Whether there is ``Predicted.instance``."""
        self.has_hints = studied is not None
        """Whether ``hinted`` can be asked."""
        self.has_samples = studied is not None and studied.has_classes
        """Whether ``sampled`` can be asked."""

    def __call__(self, batch: Batch, canvases: Sequence[np.ndarray] = ()) -> Predicted:
        """What every system and control makes of a batch.

        ``canvases``: the photos on each further one, (B, s, s, 3); without them there are no ``CANVASES``.
        """
        own = self._devices.split(batch)
        predicted = Predicted({}, None)
        for checkpoint, variables in self._loaded:
            if checkpoint.name:
                found = self._passes(checkpoint, variables)(own).colors
                predicted.colors[checkpoint.name] = found["fused" if checkpoint.has_fusion else "full"]
            else:
                studied = self._predict_studied(batch, own, canvases)
                predicted = Predicted(predicted.colors | studied.colors, studied.instance)
        return predicted

    def _predict_studied(self, batch: Batch, own: Any, canvases: Sequence[np.ndarray]) -> Predicted:
        checkpoint, variables = self._studied()
        passes = self._passes(checkpoint, variables)
        full, crops, colors = passes(own, crop_ab=self.has_instance)
        instance = None if crops is None else crops.ab
        if canvases:
            colors = colors | self._further(checkpoint, variables, canvases, colors)
        if crops is None or not self.controls:
            return Predicted(colors, instance)
        no_boxes = passes.fused(full, crops, places(own), hide=True)["fused"]
        donors = crop_donors(batch, self._devices.local_count)
        exchanged = exchanged_places(batch, donors) if self._devices.count == 1 else None
        if exchanged is not None:
            at = self._devices.split(places(exchanged))
        else:
            at, crops = places(own), None  # these out of memory before there are others
            changed = other_crops(batch, donors, self._devices.local_count)
            crops = passes.crops(self._devices.split(changed), taps=True, ab=self.has_instance)
        others = passes.fused(full, crops, at)["fused"]
        return Predicted({**colors, "no_boxes": no_boxes, "other_crops": others}, instance)

    def _further(
        self, checkpoint: Checkpoint, variables: Any, canvases: Sequence[np.ndarray], own: dict[str, Any]
    ) -> dict[str, Any]:
        main = {system: ab for system, ab in own.items() if system in SYSTEMS}
        with jax.default_matmul_precision("highest"):
            function = _compiled_canvases(checkpoint.model, self._devices)
            (means,) = function(variables, self._devices.split(tuple(canvases)), main)
        found: dict[str, Any] = means
        return found

    def hinted(self, batch: Batch, numbers: Int[np.ndarray, " B"], count: int) -> dict[str, Any]:
        """The ab of the nameless checkpoint's ``full`` and ``fused`` where random points show their true color.

        Args:
          batch: photos and crops.
          numbers: of the photos in their data set.
          count: points of every photo.

        Returns:
          System -> (B, S, S, 2), on the devices.
        """
        checkpoint, variables = self._studied()
        own, photos = self._devices.split(batch), self._devices.split(numbers.astype(np.int32))
        with jax.default_matmul_precision("highest"):
            (hints,) = _compiled_points(checkpoint.model, self._devices, count)(own, photos)
        colors = self._passes(checkpoint, variables)(own, hints).colors
        return {system: ab for system, ab in colors.items() if system in SYSTEMS}

    def sampled(
        self, batch: Batch, boxes: Int[np.ndarray, "M 4"], numbers: Int[np.ndarray, " B"], count: int
    ) -> Sampled:
        """Results drawn by the nameless checkpoint, which must have a class head; other arguments as of ``hinted``.

        ``boxes``: x0, y0, width, height of each crop's box in canvas pixels.
        """
        checkpoint, variables = self._studied()
        function = _compiled_sample(checkpoint.model, self._devices, checkpoint.shared, count)
        with jax.default_matmul_precision("highest"):
            own = (self._devices.split(part) for part in (batch, boxes.astype(np.int32), numbers.astype(np.int32)))
            (found,) = function(variables, *own)
        sampled: Sampled = found
        return sampled

    def _studied(self) -> tuple[Checkpoint, Any]:
        return next((c, v) for c, v in self._loaded if not c.name)

    def _passes(self, checkpoint: Checkpoint, variables: Any) -> Passes:
        decoding = Decoding(self.vivid_temperature, checkpoint.saturation_curve)
        return Passes(checkpoint.model, variables, self._devices, checkpoint.shared, decoding)


def without_donors(batch: Batch, devices: Devices) -> np.ndarray:
    """Rows of the photos that have boxes but for which ``other_crops`` finds no other photo's crops, bool (B,)."""
    owner = photo_of_crop(batch, devices.local_count)
    donors = crop_donors(batch, devices.local_count)
    return np.isin(np.arange(len(batch.full_rgb)), owner[(owner >= 0) & (donors < 0)])

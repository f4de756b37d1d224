"""Colors of one photo after another state of its boxes and hints, where only what changed is computed.

A crop's features depend on the crop and on the hints in it alone, so they are kept by these: a box that moves costs the
instance network once, whatever the other boxes are, and then the fusion network. The full image's features go through
the fusion at every tap, and hints enter at the first layer, so there is nothing of them to keep beside the result
itself: color and distribution on the canvas, kept by the photo, its boxes and its hints. From these come other
strengths of color, palettes and a state to which one returns, without a call of the networks.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int32, UInt8
from PIL import Image

from jaxcolor import color
from jaxcolor.batch import PADDING
from jaxcolor.boxes import clean_boxes, crop_boxes, level_boxes
from jaxcolor.config import ModelConfig
from jaxcolor.hints import Hint, Hints, PlacedHints, hints_in_boxes, hints_on_canvas, network_hint_channels, place_hints
from jaxcolor.inference.alternatives import alternatives
from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.inference.palette import middle_weights, object_palettes
from jaxcolor.inference.predict import ObjectColors, canvas_boxes, grid_side, point_boxes, rounded_up, sample_hints
from jaxcolor.inference.upsample import join
from jaxcolor.models import networks
from jaxcolor.models.decoding import CLASS_HEAD, annealed_ab, mix_vivid
from jaxcolor.runtime.errors import UserError
from jaxcolor.web import limits
from jaxcolor.web.cache import ByteCache
from jaxcolor.web.uploads import Upload, Uploads

_CAPACITIES = (1, 4, 8)
"""Crops of one program of the fusion network: few, so that none is compiled while a person waits (``warm_up``)."""
_SAMPLE_LIGHTNESS = 60.0
"""L* at which a sample's hints are written as sRGB: where most hues have most room."""


class State(NamedTuple):
    """What a person wants of a photo."""

    boxes: tuple[tuple[float, float, float, float], ...] = ()
    """x0, y0, x1, y1 in pixels of the upright photo."""
    hints: tuple[Hint, ...] = ()

    @property
    def rows(self) -> Float[np.ndarray, "K 4"]:
        """The boxes as an array."""
        return np.array(self.boxes, np.float64).reshape(-1, 4)


class Distribution(NamedTuple):
    """How frequent colors are at each cell of the class head's grid, and the L there; on the device."""

    logits: Float[jax.Array, "1 h w 529"]
    luminance: Float[jax.Array, "1 h w"]


class Look(NamedTuple):
    """Normalized ab on the canvas."""

    ab: Float[np.ndarray, "S S 2"]
    annealed: Float[np.ndarray, "S S 2"] | None
    """Of the class head, where there is one."""


class _Placed(NamedTuple):
    """A state in its photo."""

    boxes: Int32[np.ndarray, "n 4"]
    """Those that are objects: usable, the first ``boxes_per_photo``."""
    hints: PlacedHints


class Engine:
    """One model, for one thread."""

    def __init__(self, colorizer: Colorizer) -> None:
        self.colorizer = colorizer
        self.config: ModelConfig = colorizer.config
        self.uploads = Uploads(self.config.side)
        nets = networks.build(self.config)
        self._full = jax.jit(functools.partial(_full, nets))
        self._instance = jax.jit(functools.partial(_instance, nets))
        self._fused = jax.jit(functools.partial(_fused, nets))
        self._crops: ByteCache[Any, Any] = ByteCache(limits.CROP_BYTES)
        self._looks: ByteCache[Any, Look] = ByteCache(limits.LOOK_BYTES)
        self._distributions: ByteCache[Any, Distribution] = ByteCache(limits.DISTRIBUTION_BYTES)
        self.crops_computed = 0
        """So many times the instance network ran."""
        self.looks_computed = 0
        """So many times the full-image or the fusion network ran."""

    def warm_up(self) -> Iterator[None]:
        """Compile, program by program, what the first photos need; in between others may be served."""
        side, variables = self.config.side, self.colorizer.variables
        canvas = np.zeros((side, side, 3), np.uint8)
        none = Hints(np.zeros((side, side, 2), np.float32), np.zeros((side, side, 1), bool))
        jax.block_until_ready(self._full(variables, canvas, none))
        yield
        if self.colorizer.uses_boxes:
            if self.colorizer.finds_boxes:
                self.colorizer.find_boxes([canvas])
                yield
            taps = jax.block_until_ready(self._instance(variables, canvas, none))
            yield
            whole = level_boxes(np.array([[0, 0, side, side]], np.int32), (side, side), side)
            for count in _CAPACITIES:
                owner, boxes = np.zeros(count, np.int32), np.repeat(whole, count, axis=0)
                jax.block_until_ready(self._fused(variables, canvas, none, (taps,) * count, owner, boxes))
                yield

    def found(self, upload: Upload) -> State:
        """A photo's objects as the weights' own head finds them; none where there is no head, or boxes are not used."""
        if not (self.colorizer.finds_boxes and self.colorizer.uses_boxes):
            return State()
        boxes, scores = self.colorizer.find_boxes([self.uploads.pixels(upload)])[0]
        best = clean_boxes(boxes, scores, upload.size).boxes[: self.colorizer.boxes_per_photo]
        return State(tuple(tuple(box) for box in best.tolist()))

    def look(self, upload: Upload, state: State) -> Look:
        """The colors of a photo on the canvas.

        Raises:
          UserError: hints that cannot be placed, too many boxes.
        """
        found = self._looks.get((upload.key, state))
        return self._compute(upload, state)[0] if found is None else found

    def picture(
        self,
        upload: Upload,
        state: State,
        rgb: UInt8[np.ndarray, "H W 3"],
        vivid: float | None = None,
        saturation: float | None = None,
    ) -> UInt8[np.ndarray, "H W 3"]:
        """A photo in color, at the size of ``rgb``: one of its previews, or its own pixels.

        Raises:
          UserError: see ``look``; ``vivid`` or a saturation out of range.
        """
        strength, factor = self.colorizer.strengths(vivid, saturation)
        look = self.look(upload, state)
        ab = mix_vivid(look.ab, look.annealed, self.colorizer.saturation_curve, strength)
        return join(rgb, ab, upsampling=self.colorizer.upsampling, saturation=factor)

    def palette(self, upload: Upload, state: State, at: int | tuple[float, float]) -> ObjectColors:
        """The plausible colors of an object, by its number among the state's boxes, or of a point (x, y) in pixels.

        Raises:
          UserError: see ``look``; no such object or point; weights without a class head.
        """
        if isinstance(at, int):
            if not 0 <= at < len(state.boxes):
                raise UserError(f"no object {at}: the photo has {len(state.boxes)} boxes, counted from 0")
            usable = clean_boxes(state.rows[at : at + 1], None, upload.size).boxes
            if not len(usable):
                raise UserError(f"the box of object {at} has no pixel in the photo")
            place = canvas_boxes(usable, upload.size, self.config)
        else:
            if not (0 <= at[0] < upload.size[0] and 0 <= at[1] < upload.size[1]):
                raise UserError(
                    f"point {at[0]:g}, {at[1]:g} lies outside the photo, {upload.size[0]} x {upload.size[1]}"
                )
            place = point_boxes(np.array([at]), upload.size, self.config)
        found = self._distribution(upload, state)
        weights = middle_weights(jnp.asarray(place), self.config.side, found.logits.shape[1])
        palette = jax.device_get(object_palettes(found.logits, weights, jnp.zeros(1, jnp.int32), found.luminance))
        there = palette.valid[0]
        rgb = color.quantize_rgb(palette.rgb[0, there])
        return ObjectColors(rgb, palette.probability[0, there], palette.ab[0, there])

    def samples(self, upload: Upload, state: State, count: int, seed: int) -> list[State]:
        """States that differ object by object, the most probable first; their hints end with those of ``state``.

        Raises:
          UserError: see ``look``; weights without a class head; a count or seed out of range.
        """
        if not 1 <= count <= limits.SAMPLES or not 0 <= seed < 1 << 32:
            raise UserError(
                f"{count} samples of seed {seed}: 1 to {limits.SAMPLES}, of a seed from 0 to {(1 << 32) - 1}"
            )
        found = self._distribution(upload, state)
        boxes = self._placed(upload, state).boxes
        filling = rounded_up(len(boxes)) - len(boxes)
        places = np.pad(canvas_boxes(boxes, upload.size, self.config), [(0, filling), (0, 0)])
        owner = np.pad(np.zeros(len(boxes), np.int32), (0, filling), constant_values=PADDING)
        key, side = jax.random.key(seed), self.config.side
        drawn = jax.device_get(_draw(key, found.logits, found.luminance, places, owner, side=side, count=count))
        objects = np.concatenate([[len(owner)], np.arange(len(boxes))])
        none = PlacedHints(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 2), np.float32))
        results = []
        for result in np.flatnonzero(drawn.valid[:, 0]):
            size, side = upload.size, grid_side(self.config)
            placed = sample_hints(drawn, int(result), objects, size, boxes, none, side)
            results.append(state._replace(hints=(*_written(placed), *state.hints)))
        return results

    def forget(self, key: str) -> None:
        """Forget a photo; what was computed of it goes when there is no room."""
        self.uploads.remove(key)

    def _distribution(self, upload: Upload, state: State) -> Distribution:
        if not self.colorizer.has_classes:
            raise UserError("these weights predict no distribution of colors, which palettes and samples need")
        found = self._distributions.get((upload.key, state))
        if found is None:
            found = self._compute(upload, state)[1]
            assert found is not None
        return found

    def _placed(self, upload: Upload, state: State) -> _Placed:
        if len(state.boxes) > limits.BOXES:
            raise UserError(f"{len(state.boxes)} boxes; at most {limits.BOXES} are taken")
        usable = clean_boxes(state.rows, None, upload.size).boxes[: self.colorizer.boxes_per_photo]
        return _Placed(usable, place_hints(state.hints, upload.size, state.rows, upload.name))

    def _compute(self, upload: Upload, state: State) -> tuple[Look, Distribution | None]:
        boxes, placed = self._placed(upload, state)
        hints = hints_on_canvas(placed, upload.size, self.config.side)
        variables = self.colorizer.variables
        self.looks_computed += 1
        if self.colorizer.uses_boxes and len(boxes):
            boxes = crop_boxes(boxes, upload.size, self.config.context)
            taps = self._taps(upload, boxes, placed)
            count = next(capacity for capacity in (*_CAPACITIES, len(boxes)) if capacity >= len(boxes))
            filling = count - len(boxes)
            owner = np.pad(np.zeros(len(boxes), np.int32), (0, filling), constant_values=PADDING)
            levels = level_boxes(boxes, upload.size, self.config.side)
            levels = np.concatenate([levels, np.repeat(levels[:1], filling, axis=0)])
            filled = (*taps, *taps[:1] * filling)  # the features of padding count for nothing, and must be finite
            found = self._fused(variables, upload.canvas, hints, filled, owner, levels)
        else:
            found = self._full(variables, upload.canvas, hints)
        ab, annealed = jax.device_get(found[:2])
        look = Look(ab, annealed)
        self._looks.put((upload.key, state), look, sum(a.nbytes for a in look if a is not None))
        distribution: Distribution | None = found[2]
        if distribution is not None:
            size = sum(a.nbytes for a in distribution)
            self._distributions.put((upload.key, state), distribution, size)
        return look, distribution

    def _taps(self, upload: Upload, boxes: Int32[np.ndarray, "n 4"], placed: PlacedHints) -> tuple[Any, ...]:
        """The features of a photo's crops.

        One by one, so that there is one program for any number: on a processor a batch of crops takes as long.
        """
        side = self.config.side
        hinted = hints_in_boxes(placed, boxes, side)
        keys = [
            (upload.key, *box, hashlib.blake2b(ab.tobytes() + mask.tobytes()).digest() if mask.any() else b"")
            for box, ab, mask in zip(boxes.tolist(), *hinted, strict=True)
        ]
        taps = [self._crops.get(key) for key in keys]
        if any(found is None for found in taps):
            photo = Image.fromarray(self.uploads.pixels(upload))
        for row, key in enumerate(keys):
            if taps[row] is None:
                crop = photo.crop(tuple(boxes[row].tolist())).resize((side, side), Image.Resampling.BILINEAR)
                hints = Hints(hinted.ab[row], hinted.mask[row])
                taps[row] = self._instance(self.colorizer.variables, np.asarray(crop), hints)
                self._crops.put(key, taps[row], sum(tap.nbytes for tap in jax.tree.leaves(taps[row])))
                self.crops_computed += 1
        return tuple(taps)


def _inputs(config: ModelConfig, rgb: jax.Array, hints: Hints) -> Float[jax.Array, "1 S S 4"]:
    """One picture and its hints as the networks see them."""
    luminance = networks.picture(rgb[None], config).luminance
    typed = Hints(jnp.asarray(hints.ab, luminance.dtype)[None], jnp.asarray(hints.mask)[None])
    return jnp.concatenate([luminance, network_hint_channels(typed, config.hint_mask)], axis=-1)


def _found(
    config: ModelConfig, inputs: jax.Array, ab: jax.Array, outputs: Mapping[str, Any]
) -> tuple[jax.Array, jax.Array | None, Distribution | None]:
    """Color, color of the class head and distribution of a call; None where there is no class head."""
    if CLASS_HEAD not in config.outputs:
        return ab[0], None, None
    logits = outputs[CLASS_HEAD].frequencies
    side = logits.shape[1]
    luminance = inputs[..., 0].reshape(1, side, inputs.shape[1] // side, side, -1).mean(axis=(2, 4))
    return ab[0], annealed_ab(outputs, (ab.shape[1], ab.shape[2]))[0], Distribution(logits, luminance)


def _full(nets: networks.Networks, variables: networks.Variables, canvas: jax.Array, hints: Hints) -> Any:
    inputs = _inputs(nets.full.config, canvas, hints)
    found = networks.run_full(nets, variables, inputs)
    return _found(nets.full.config, inputs, found.ab, found.outputs)


def _instance(nets: networks.Networks, variables: networks.Variables, crop: jax.Array, hints: Hints) -> Any:
    inputs = _inputs(nets.full.config, crop, hints)
    return networks.run_instance(nets, variables, inputs, jnp.zeros(1, jnp.int32)).taps


def _fused(
    nets: networks.Networks,
    variables: networks.Variables,
    canvas: jax.Array,
    hints: Hints,
    taps: Sequence[Any],
    crop_to_image: jax.Array,
    boxes: jax.Array,
) -> Any:
    inputs = _inputs(nets.full.config, canvas, hints)
    together = jax.tree.map(lambda *crops: jnp.concatenate(crops), *taps)
    found = networks.run_fusion(nets, variables, inputs, together, crop_to_image, boxes)
    return _found(nets.full.config, inputs, found.ab, found.outputs)


@functools.partial(jax.jit, static_argnames=("side", "count"))
def _draw(
    key: jax.Array,
    logits: jax.Array,
    luminance: jax.Array,
    boxes: jax.Array,
    owner: jax.Array,
    *,
    side: int,
    count: int,
) -> Any:
    return alternatives(key, logits, luminance, boxes, owner, side, count)


def _written(placed: PlacedHints) -> tuple[Hint, ...]:
    """Points as a person would write them, in sRGB; hue is kept, chroma as far as sRGB has it."""
    light = np.full((len(placed.ab), 1), _SAMPLE_LIGHTNESS, np.float32)
    lab = np.concatenate([light, placed.ab * np.float32(color.AB_SCALE)], axis=-1)
    rgb = color.quantize_rgb(color.lab_to_rgb(color.fit_gamut(lab)))
    return tuple(
        Hint(round(x, 2), round(y, 2), "#{:02x}{:02x}{:02x}".format(*c), round(r, 2))
        for (x, y), r, c in zip(placed.xy.tolist(), placed.radius.tolist(), rgb.tolist(), strict=True)
    )

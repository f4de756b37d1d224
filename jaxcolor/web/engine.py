"""Colors of one photo after another state of its boxes and hints, where only what changed is computed.

Of the features that is what ``inference.session`` does. Kept here is the result itself: color and distribution on the
canvas, by the photo, its boxes and its hints. From these come other strengths of color, palettes and a state to which
one returns, without a call of the networks.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from jaxcolor import color
from jaxcolor.batch import PADDING
from jaxcolor.boxes import clean_boxes
from jaxcolor.config import ModelConfig
from jaxcolor.hints import Hint, PlacedHints
from jaxcolor.inference.alternatives import alternatives
from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.inference.palette import middle_weights, object_palettes
from jaxcolor.inference.predict import ObjectColors, canvas_boxes, grid_side, point_boxes, rounded_up, sample_hints
from jaxcolor.inference.session import Distribution, Look, Objects, Session, Sessions
from jaxcolor.inference.upsample import join
from jaxcolor.models.decoding import mix_vivid
from jaxcolor.runtime.byte_cache import ByteCache
from jaxcolor.runtime.errors import UserError
from jaxcolor.web import limits
from jaxcolor.web.uploads import Upload, Uploads

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


class Engine:
    """One model, for one thread."""

    def __init__(self, colorizer: Colorizer) -> None:
        self.colorizer = colorizer
        self.config: ModelConfig = colorizer.config
        self.uploads = Uploads(self.config.side)
        self._sessions = Sessions(colorizer, limits.CROP_BYTES, limits.PHOTO_BYTES)
        self._looks: ByteCache[Any, Look] = ByteCache(limits.LOOK_BYTES)
        self._distributions: ByteCache[Any, Distribution] = ByteCache(limits.DISTRIBUTION_BYTES)
        self.warm_up = self._sessions.warm_up
        self.looks_computed = 0
        """So many times the decoder of the full-image or the fusion network ran."""

    @property
    def crops_computed(self) -> int:
        """So many times the instance network ran."""
        return self._sessions.crops_computed

    @property
    def photos_computed(self) -> int:
        """So many times the encoder of the full-image network ran."""
        return self._sessions.photos_computed

    def found(self, upload: Upload) -> State:
        """A photo's objects as the weights' own head finds them; none where there is no head, or boxes are not used."""
        if not (self.colorizer.finds_boxes and self.colorizer.uses_boxes):
            return State()
        boxes, scores = self._session(upload).find_boxes()
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
        boxes = self._objects(upload, state).boxes
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

    def _session(self, upload: Upload) -> Session:
        pixels = functools.partial(self.uploads.pixels, upload)
        return self._sessions.open(upload.key, upload.canvas, upload.size, pixels)

    def _objects(self, upload: Upload, state: State) -> Objects:
        if len(state.boxes) > limits.BOXES:
            raise UserError(f"{len(state.boxes)} boxes; at most {limits.BOXES} are taken")
        return self._session(upload).objects(state.rows, state.hints, upload.name)

    def _compute(self, upload: Upload, state: State) -> tuple[Look, Distribution | None]:
        look, distribution = self._session(upload).look(self._objects(upload, state))
        self.looks_computed += 1
        self._looks.put((upload.key, state), look, sum(a.nbytes for a in look if a is not None))
        if distribution is not None:
            size = sum(a.nbytes for a in distribution)
            self._distributions.put((upload.key, state), distribution, size)
        return look, distribution


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

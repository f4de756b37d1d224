"""One photo again and again while its boxes and hints change: only what changed is computed.

The networks run in steps. The full image's encoder depends on the photo and its hints: it is kept by these, and serves
the search for objects, the full-image network and, where their weights agree (``models.shared_taps``), the fusion
network. A crop's features depend on the crop and on the hints in it alone: a box that moves costs the instance network
once, whatever the other boxes are. Crops run one by one, so that there is one program for any number: on a processor a
batch of crops takes as long.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int32, UInt8
from PIL import Image

from jaxcolor.batch import PADDING
from jaxcolor.boxes import clean_boxes, level_boxes
from jaxcolor.config import ModelConfig
from jaxcolor.data.types import Boxes
from jaxcolor.hints import Hint, Hints, PlacedHints, hints_in_boxes, hints_on_canvas, network_hint_channels, place_hints
from jaxcolor.inference.colored import Colored
from jaxcolor.inference.photos import Prepared, windows
from jaxcolor.models import networks
from jaxcolor.models.decoding import CLASS_HEAD, annealed_ab, mix_vivid
from jaxcolor.models.fusion import fused_taps
from jaxcolor.models.ops.implementation import for_prediction
from jaxcolor.models.shared_taps import shared_taps
from jaxcolor.runtime.byte_cache import ByteCache
from jaxcolor.runtime.compile_options import prediction_options

if TYPE_CHECKING:
    from jaxcolor.inference.colorizer import Colorizer

CAPACITIES = (1, 2, 3, 4, 6, 8)
"""Crops of one program of the fusion network: few, so that none is compiled while a person waits (``warm_up``), and not
many more than there are."""
CROP_BYTES = 1 << 30
"""Of crops' features that are kept: eleven at full width in float32."""
PHOTO_BYTES = 160 << 20
"""Of photos' features that are kept: four, as many states of hints."""

Taps = dict[str, jax.Array]


class Distribution(NamedTuple):
    """How frequent colors are at each cell of the class head's grid, and the L there; on the device."""

    logits: Float[jax.Array, "1 h w 529"]
    luminance: Float[jax.Array, "1 h w"]


class Look(NamedTuple):
    """Normalized ab on the canvas."""

    ab: Float[np.ndarray, "S S 2"]
    annealed: Float[np.ndarray, "S S 2"] | None
    """Of the class head, where there is one."""


class Objects(NamedTuple):
    """Boxes and hints in their photo."""

    boxes: Int32[np.ndarray, "n 4"]
    """Those that are objects: usable, the first ``boxes_per_photo``."""
    hints: PlacedHints


class Sessions:
    """What the sessions of one colorizer share: its programs, and features within a bound; for one thread.

    Attributes:
      crops_computed: so many times the instance network ran.
      photos_computed: so many times the full image's encoder ran, the search for objects included.
    """

    def __init__(self, colorizer: Colorizer, crop_bytes: int = CROP_BYTES, photo_bytes: int = PHOTO_BYTES) -> None:
        """Nothing is computed yet; the limits are of what is kept."""
        self.colorizer = colorizer
        self.config: ModelConfig = colorizer.config
        self.crops: ByteCache[Any, Taps] = ByteCache(crop_bytes)
        self.photos: ByteCache[Any, Taps] = ByteCache(photo_bytes)
        self.crops_computed = self.photos_computed = 0
        nets = networks.build(self.config, shared=shared_taps(colorizer.variables, self.config))
        options = prediction_options(False)
        self.encoder, self.full, self.instance, self.fused = (
            jax.jit(for_prediction(functools.partial(step, nets)), compiler_options=options)
            for step in (_encoder, _full, _instance, _fused)
        )
        self.encoder_taps = [tap.name for tap in nets.full.taps if tap.part == "encoder"]

    def open(
        self,
        key: Hashable,
        canvas: UInt8[np.ndarray, "S S 3"],
        size: tuple[int, int],
        pixels: Callable[[], UInt8[np.ndarray, "H W 3"]],
    ) -> Session:
        """A photo.

        Args:
          key: under which its features are kept.
          canvas: the photo as the networks see it.
          size: its width and height in pixels.
          pixels: gives it at that size, when a crop is cut out.
        """
        return Session(self, key, canvas, size, pixels)

    def warm_up(self) -> Iterator[None]:
        """Compile, program by program, what the first photos need; in between others may be served."""
        side, variables = self.config.side, self.colorizer.variables
        canvas = np.zeros((side, side, 3), np.uint8)
        none = Hints(np.zeros((side, side, 2), np.float32), np.zeros((side, side, 1), bool))
        known = jax.block_until_ready(self.encoder(variables, canvas, none))
        jax.block_until_ready(self.full(variables, canvas, none, known))
        yield
        if self.colorizer.uses_boxes:
            if self.colorizer.finds_boxes:
                self.colorizer.find_boxes([canvas])
                yield
            taps = jax.block_until_ready(self.instance(variables, canvas, none))
            yield
            whole = level_boxes(np.array([[0, 0, side, side]], np.int32), (side, side), side)
            for count in CAPACITIES:
                owner, boxes = np.zeros(count, np.int32), np.repeat(whole, count, axis=0)
                jax.block_until_ready(self.fused(variables, canvas, none, known, (taps,) * count, owner, boxes))
                yield


class Session:
    """One photo of which boxes and hints change (``Colorizer.session``, ``Sessions.open``)."""

    def __init__(
        self,
        sessions: Sessions,
        key: Hashable,
        canvas: UInt8[np.ndarray, "S S 3"],
        size: tuple[int, int],
        pixels: Callable[[], UInt8[np.ndarray, "H W 3"]],
        photo: Prepared | None = None,
    ) -> None:
        """``photo``: for results at its own size; see ``Sessions.open``."""
        self._all, self._key, self._canvas, self._pixels, self._photo = sessions, key, canvas, pixels, photo
        self.size = size

    def __call__(
        self,
        boxes: Any = None,
        hints: Sequence[Hint] = (),
        *,
        vivid: float | None = None,
        saturation: float | None = None,
    ) -> Colored:
        """The photo in color, as ``Colorizer`` makes it of the same boxes (``"auto"``: those found) and hints.

        Raises:
          ValueError: boxes of another form.
          UserError: a hint that cannot be placed, ``vivid`` or a saturation out of range.
        """
        colorizer = self._all.colorizer
        assert self._photo is not None  # ``Colorizer.session`` gives it
        strength, factor = colorizer.strengths(vivid, saturation)
        if isinstance(boxes, str):
            boxes = self.find_boxes().boxes
        rows = np.asarray(() if boxes is None else boxes, np.float64)
        rows = rows if rows.size else np.zeros((0, 4))
        if rows.ndim != 2 or rows.shape[1] != 4:
            raise ValueError(f"boxes are (N, 4), not {rows.shape}")
        look, _ = self.look(self.objects(rows, hints))
        ab = mix_vivid(look.ab, look.annealed, colorizer.saturation_curve, strength)
        return colorizer.at_size(self._photo, ab, factor)

    def objects(self, rows: Float[np.ndarray, "N 4"], hints: Sequence[Hint], name: str = "photo") -> Objects:
        """Boxes (x0, y0, x1, y1 in pixels, the best first) and hints, cleaned and placed; ``name`` is for messages.

        Raises:
          UserError: a hint that cannot be placed.
        """
        usable = clean_boxes(rows, None, self.size).boxes[: self._all.colorizer.boxes_per_photo]
        return Objects(usable, place_hints(hints, self.size, rows, name))

    def find_boxes(self, threshold: float | None = None) -> Boxes:
        """The photo's objects; see ``Colorizer.find_boxes``. Its features are kept for coloring it."""
        found = self._all.colorizer.finder.on_canvas(self._canvas[None], [self.size], threshold)
        self._keep(b"", found.seen.taps)
        return found.boxes[0]

    def look(self, objects: Objects) -> tuple[Look, Distribution | None]:
        """The photo's colors on the canvas, and their distribution where there is a class head."""
        own, variables = self._all, self._all.colorizer.variables
        hints = hints_on_canvas(objects.hints, self.size, own.config.side)
        arguments = (variables, self._canvas, hints, self._encoded(hints))
        if own.colorizer.uses_boxes and len(objects.boxes):
            scores = np.ones(len(objects.boxes), np.float32)
            cut, _ = windows(objects.boxes, scores, self.size, own.config.context, own.colorizer.share_crops)
            taps = self._crops(cut, objects.hints)
            count = next(capacity for capacity in (*CAPACITIES, len(cut)) if capacity >= len(cut))
            filling = count - len(cut)
            owner = np.pad(np.zeros(len(cut), np.int32), (0, filling), constant_values=PADDING)
            levels = level_boxes(cut, self.size, own.config.side)
            levels = np.concatenate([levels, np.repeat(levels[:1], filling, axis=0)])
            filled = (*taps, *taps[:1] * filling)  # the features of padding count for nothing, and must be finite
            found = own.fused(*arguments, filled, owner, levels)
        else:
            found = own.full(*arguments)
        return Look(*jax.device_get(found[:2])), found[2]

    def _encoded(self, hints: Hints) -> Taps:
        """What the encoder makes of the photo with such hints."""
        known = self._all.photos.get((self._key, _digest(hints)))
        if known is None:
            known = self._all.encoder(self._all.colorizer.variables, self._canvas, hints)
            self._keep(_digest(hints), known)
        return known

    def _keep(self, hints: bytes, taps: Taps) -> None:
        encoder = {name: taps[name] for name in self._all.encoder_taps}
        self._all.photos.put((self._key, hints), encoder, sum(tap.nbytes for tap in encoder.values()))
        self._all.photos_computed += 1

    def _crops(self, boxes: Int32[np.ndarray, "n 4"], placed: PlacedHints) -> tuple[Taps, ...]:
        """The features of crops."""
        own, side = self._all, self._all.config.side
        hinted = [Hints(*each) for each in zip(*hints_in_boxes(placed, boxes, side), strict=True)]
        keys = [(self._key, *box, _digest(hints)) for box, hints in zip(boxes.tolist(), hinted, strict=True)]
        taps = [own.crops.get(key) for key in keys]
        photo = Image.fromarray(self._pixels()) if any(found is None for found in taps) else None
        for row, key in enumerate(keys):
            if taps[row] is None and photo is not None:
                crop = photo.crop(tuple(boxes[row].tolist())).resize((side, side), Image.Resampling.BILINEAR)
                found = own.instance(own.colorizer.variables, np.asarray(crop), hinted[row])
                own.crops.put(key, found, sum(tap.nbytes for tap in found.values()))
                own.crops_computed += 1
                taps[row] = found
        return tuple(found for found in taps if found is not None)


def _digest(hints: Hints) -> bytes:
    """Equal for hints that show the networks the same."""
    given = np.asarray(hints.mask)
    return hashlib.blake2b(np.asarray(hints.ab).tobytes() + given.tobytes()).digest() if given.any() else b""


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


def _encoder(nets: networks.Networks, variables: networks.Variables, canvas: jax.Array, hints: Hints) -> Taps:
    taps = networks.run_full(nets, variables, _inputs(nets.full.config, canvas, hints), heads=()).taps
    return {tap.name: taps[tap.name] for tap in nets.full.taps if tap.part == "encoder"}


def _full(nets: networks.Networks, variables: networks.Variables, canvas: jax.Array, hints: Hints, known: Taps) -> Any:
    inputs = _inputs(nets.full.config, canvas, hints)
    found = networks.run_full(nets, variables, inputs, known=known)
    return _found(nets.full.config, inputs, found.ab, found.outputs)


def _instance(nets: networks.Networks, variables: networks.Variables, crop: jax.Array, hints: Hints) -> Taps:
    inputs = _inputs(nets.full.config, crop, hints)
    taps = networks.run_instance(nets, variables, inputs, jnp.zeros(1, jnp.int32)).taps
    return {name: taps[name] for name in fused_taps(nets.full.config)}


def _fused(
    nets: networks.Networks,
    variables: networks.Variables,
    canvas: jax.Array,
    hints: Hints,
    known: Taps,
    taps: Sequence[Taps],
    crop_to_image: jax.Array,
    boxes: jax.Array,
) -> Any:
    inputs = _inputs(nets.full.config, canvas, hints)
    together = jax.tree.map(lambda *crops: jnp.concatenate(crops), *taps)
    found = networks.run_fusion(nets, variables, inputs, together, crop_to_image, boxes, full_taps=known)
    return _found(nets.full.config, inputs, found.ab, found.outputs)

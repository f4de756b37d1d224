"""What the networks say of prepared photos: colors on the canvas, palettes of objects, hints for other results.

Photos with crops and photos without go through the networks in one call of each kind. Programs are compiled once for
each rounded number of photos, crops and objects in a call (``rounded_up``), never for a photo's size. Crops of several
sides (``DataConfig.crop_sides``) are rounded side by side (``places_for``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding
from jaxtyping import Float, Float32, Int, Int32, UInt8

from jaxcolor import color
from jaxcolor.batch import PADDING, Batch
from jaxcolor.boxes import level_boxes
from jaxcolor.config import ModelConfig
from jaxcolor.data.collate import CropPlaces, collate
from jaxcolor.hints import (
    OBJECT_SHARE,
    RADIUS_SHARE,
    BatchHints,
    Hints,
    PlacedHints,
    hints_in_boxes,
    hints_on_canvas,
)
from jaxcolor.inference.alternatives import Alternatives, alternatives
from jaxcolor.inference.palette import Palette, middle_weights, object_palettes
from jaxcolor.inference.photos import Prepared
from jaxcolor.models import networks, over_crops
from jaxcolor.models.backbone import NOTHING_KNOWN
from jaxcolor.models.decoding import CLASS_HEAD, annealed_ab, has_classes
from jaxcolor.models.ops.implementation import for_prediction, select_implementation
from jaxcolor.models.shared_taps import shared_taps
from jaxcolor.registries import OUTPUTS
from jaxcolor.runtime.compile_options import prediction_options, shardings
from jaxcolor.runtime.errors import UserError

_POINT_CELLS = 3
"""Side of the square around a clicked point whose distribution is read, most of it from its middle, in cells of the
class head's grid."""


class Colors(NamedTuple):
    """Normalized ab on the canvas, of one photo or of a batch."""

    ab: Float[Any, "*B S S 2"]
    """Of the first output head."""
    annealed: Float[Any, "*B S S 2"] | None
    """Of the class head, where it was asked for."""


class ObjectColors(NamedTuple):
    """The plausible colors of one object, the most probable first."""

    rgb: UInt8[np.ndarray, "K 3"]
    """SRGB at the object's mean L*."""
    probability: Float32[np.ndarray, " K"]
    """Of all the colors that are nearest to each of these; sums to 1."""
    ab: Float32[np.ndarray, "K 2"]
    """Normalized ab."""


NO_COLORS = ObjectColors(np.zeros((0, 3), np.uint8), np.zeros(0, np.float32), np.zeros((0, 2), np.float32))


class _Distribution(NamedTuple):
    """How frequent colors are at each cell of the class head's grid, and the L there."""

    logits: Float[jax.Array, "B h w 529"]
    luminance: Float[jax.Array, "B h w"]


def color_function(config: ModelConfig, shared: tuple[str, ...] = ()) -> Callable[..., Colors]:
    """A function of the three trees, a batch and its hints, what is known of it, and of two flags that are static.

    ``full_taps``: the full-image network's of the same photos and hints, as far as they were computed before;
    ``shared`` says which the fusion network takes (``models.shared_taps``). ``fused``: the dual-branch model,
    otherwise the full-image network alone. ``annealed``: the class head's color too.
    """
    nets = networks.build(config, shared=shared)

    def colors(
        variables: networks.Variables,
        batch: Batch,
        hints: BatchHints | None = None,
        full_taps: Mapping[str, jax.Array] = NOTHING_KNOWN,
        *,
        fused: bool,
        annealed: bool = False,
    ) -> Colors:
        _, found = _run(nets, variables, batch, hints, fused, full_taps)
        return Colors(found.ab, annealed_ab(found.outputs, found.ab.shape[1:3]) if annealed else None)

    return colors


def _run(
    nets: networks.Networks,
    variables: networks.Variables,
    batch: Batch,
    hints: BatchHints | None,
    fused: bool,
    full_taps: Mapping[str, jax.Array] = NOTHING_KNOWN,
) -> tuple[networks.LabBatch, Any]:
    """The batch as the networks see it, and what the fusion or the full-image network makes of it."""
    lab = networks.to_lab(batch, nets.full.config, hints)
    if fused:
        run_fused = select_implementation(networks.run_fused, cpu=over_crops.run_fused)
        return lab, run_fused(nets, variables, lab, full_taps)
    return lab, networks.run_full(nets, variables, lab.full.inputs, known=full_taps)


def _distribution(
    nets: networks.Networks, variables: networks.Variables, batch: Batch, hints: BatchHints | None, fused: bool
) -> _Distribution:
    """Whose distribution palettes and samples read: the fusion trunk's where a photo has crops, else the full tree's.

    The instance network's own, pasted into the boxes, would be another choice; here is where it is made.
    """
    lab, found = _run(nets, variables, batch, hints, fused)
    logits = found.outputs[CLASS_HEAD].frequencies
    images, side = logits.shape[:2]
    luminance = lab.full.luminance.reshape(images, side, lab.full.luminance.shape[1] // side, side, -1)
    return _Distribution(logits, luminance.mean(axis=(2, 4)))


def _palette_function(config: ModelConfig) -> Callable[..., Palette]:
    nets = networks.build(config)

    def palettes(
        variables: networks.Variables,
        batch: Batch,
        hints: BatchHints | None,
        boxes: Int[jax.Array, "N 4"],
        box_to_image: Int[jax.Array, " N"],
        *,
        fused: bool,
    ) -> Palette:
        found = _distribution(nets, variables, batch, hints, fused)
        weights = middle_weights(boxes, config.side, found.logits.shape[1])
        return object_palettes(found.logits, weights, box_to_image, found.luminance)

    return palettes


def _alternatives_function(config: ModelConfig) -> Callable[..., Alternatives]:
    nets = networks.build(config)

    def draw(
        key: jax.Array,
        variables: networks.Variables,
        batch: Batch,
        hints: BatchHints | None,
        boxes: Int[jax.Array, "N 4"],
        box_to_image: Int[jax.Array, " N"],
        *,
        fused: bool,
        count: int,
    ) -> Alternatives:
        found = _distribution(nets, variables, batch, hints, fused)
        return alternatives(key, *found, boxes, box_to_image, config.side, count)

    return draw


def _put_once(variables: networks.Variables, sharding: SingleDeviceSharding) -> networks.Variables:
    """Variables on the device; an array that trees share is there once."""
    leaves, structure = jax.tree.flatten(variables)
    unique = {id(leaf): leaf for leaf in leaves}
    placed = jax.device_put(unique, shardings(unique, sharding))
    return cast(networks.Variables, jax.tree.unflatten(structure, [placed[id(leaf)] for leaf in leaves]))


class Seen(NamedTuple):
    """Photos that the full-image network was shown without hints, and what it made of them."""

    canvas: UInt8[np.ndarray, "B S S 3"]
    """What follows the photos fills up."""
    taps: dict[str, jax.Array]
    """Its features, on the device."""


class Predictor:
    """The networks on the default device, compiled when they are needed.

    Attributes:
      seen: photos in which objects were looked for, until the next ``colors``: of those that it colors without hints,
        the full-image network's features are not computed again.
    """

    def __init__(self, config: ModelConfig, variables: networks.Variables, cuda_graphs: bool) -> None:
        """Puts the variables on the device; ``cuda_graphs`` as in ``Colorizer``."""
        self.config = config
        self.uses_crops = all(tree in variables for tree in networks.TREES)
        kept = networks.frozen(variables, config)
        default = SingleDeviceSharding(jnp.zeros(()).device)  # named: jit heeds the layout of committed arrays alone
        self.variables = _put_once(kept, default)
        self.shared = shared_taps(kept, config)
        self.seen: Seen | None = None

        def compiled(function: Callable[..., Any], *static: str) -> Any:
            options = prediction_options(cuda_graphs)
            return jax.jit(for_prediction(function), static_argnames=static, compiler_options=options)

        self._colors = compiled(color_function(config, self.shared), "fused", "annealed")
        self._palettes = compiled(_palette_function(config), "fused")
        self._alternatives = compiled(_alternatives_function(config), "fused", "count")

    def colors(self, photos: Sequence[Prepared], hints: Sequence[PlacedHints], annealed: bool) -> list[Colors]:
        """The ab of each photo with such hints; ``annealed``: the class head's too."""
        found: list[Any] = [None] * len(photos)
        seen, self.seen = self.seen, None
        for fused, rows in _kinds(photos):
            batch, given = self._inputs([photos[i] for i in rows], [hints[i] for i in rows])
            inputs = (batch, given, self._taps(seen, batch, len(rows), fused) if given is None else {})
            colors = jax.device_get(self._colors(self.variables, *inputs, fused=fused, annealed=annealed))
            for place, i in enumerate(rows):  # what follows the photos only fills up
                found[i] = Colors(*(None if ab is None else ab[place] for ab in colors))
        return found

    def palettes(
        self, photos: Sequence[Prepared], points: Sequence[Float[np.ndarray, "_ 2"]]
    ) -> list[list[ObjectColors]]:
        """The colors of each photo's usable boxes, all of them, and then of its points (x, y in pixels)."""
        self._need_classes()
        places = [
            np.concatenate(
                [canvas_boxes(photo.boxes, photo.size, self.config), point_boxes(of_photo, photo.size, self.config)]
            )
            for photo, of_photo in zip(photos, points, strict=True)
        ]
        found: list[list[ObjectColors]] = [[] for _ in photos]
        for fused, rows in _kinds(photos):
            boxes, owner = _packed([places[i] for i in rows])
            if not (owner >= 0).any():
                continue
            inputs = self._inputs([photos[i] for i in rows], [photos[i].hints for i in rows])
            palette = jax.device_get(self._palettes(self.variables, *inputs, boxes, owner, fused=fused))
            for n in np.flatnonzero(owner >= 0):
                there = palette.valid[n]
                rgb = color.quantize_rgb(palette.rgb[n, there])
                found[rows[owner[n]]].append(ObjectColors(rgb, palette.probability[n, there], palette.ab[n, there]))
        return found

    def alternatives(self, photos: Sequence[Prepared], count: int, seed: int) -> list[list[PlacedHints]]:
        """For each photo the hints of up to ``count`` results, the most probable first; its own lie over them."""
        self._need_classes()
        key = jax.random.key(seed)
        found: list[list[PlacedHints]] = [[] for _ in photos]
        for fused, rows in _kinds(photos):
            kind = [photos[i] for i in rows]
            boxes, owner = _packed([canvas_boxes(photo.boxes[photo.used], photo.size, self.config) for photo in kind])
            inputs = self._inputs(kind, [photo.hints for photo in kind])
            drawn = self._alternatives(key, self.variables, *inputs, boxes, owner, fused=fused, count=count)
            drawn = jax.device_get(drawn)
            for place, i in enumerate(rows):
                objects = np.concatenate([[len(owner) + place], np.flatnonzero(owner == place)])
                found[i] = [
                    sample_hints(
                        drawn,
                        int(result),
                        objects,
                        photos[i].size,
                        photos[i].boxes[photos[i].used],
                        photos[i].hints,
                        grid_side(self.config),
                    )
                    for result in np.flatnonzero(drawn.valid[:, place])
                ]
        return found

    def _taps(self, seen: Seen | None, batch: Batch, count: int, fused: bool) -> dict[str, jax.Array]:
        """Features of the batch's first ``count`` photos, if all were seen: those that color is made of."""
        if seen is None:
            return {}
        places = {canvas.tobytes(): place for place, canvas in enumerate(seen.canvas)}
        rows = [places.get(canvas.tobytes(), -1) for canvas in batch.full_rgb[:count]]
        taps = {name: tap for name, tap in seen.taps.items() if not fused or name in self.shared}
        if min(rows) < 0 or not taps:
            return {}
        rows += rows[:1] * (len(batch.full_rgb) - count)
        return taps if rows == list(range(len(seen.canvas))) else _rows_of(taps, np.array(rows))

    def _need_classes(self) -> None:
        if not has_classes(self.config):
            raise UserError(
                "palettes and samples need a distribution of colors, which these weights do not predict; train with "
                "--config.model.outputs=\"('regression','classes')\""
            )

    def _inputs(self, photos: Sequence[Prepared], hints: Sequence[PlacedHints]) -> tuple[Batch, BatchHints | None]:
        """Filled up to rounded numbers, so that few shapes are compiled and little of the work is for nothing."""
        side, given = self.config.side, None
        examples = [photo.example for photo in photos]
        sides = [np.array([len(crop) for crop in e.crop_rgb], np.int64) for e in examples]
        places = places_for(np.concatenate(sides), side)
        filled = [*examples, *[None] * (rounded_up(len(photos)) - len(photos))]
        batch = collate(filled, device_count=1, capacity=places, side=side, with_full=True).batch
        if any(len(placed.xy) for placed in hints):
            full = [hints_on_canvas(placed, photo.size, side) for photo, placed in zip(photos, hints, strict=True)]
            stacked = Hints(*(np.stack(arrays) for arrays in zip(*full, strict=True)))
            crops = []
            for of_side, count in places:
                # In the order of ``collate``, which drops none and moves none: photo by photo.
                each = zip(photos, hints, sides, strict=True)
                own = [hints_in_boxes(of, photo.crop_boxes[at == of_side], of_side) for photo, of, at in each]
                crops.append(_filled_up(Hints(*(np.concatenate(arrays) for arrays in zip(*own, strict=True))), count))
            given = BatchHints(_filled_up(stacked, len(filled)), crops[0], tuple(crops[1:]))
        return batch, given


@jax.jit
def _rows_of(taps: dict[str, jax.Array], rows: Int[jax.Array, " n"]) -> dict[str, jax.Array]:
    return {name: tap[rows] for name, tap in taps.items()}


def grid_side(config: ModelConfig) -> int:
    """Of the class head's grid."""
    return config.side >> int(OUTPUTS.get(CLASS_HEAD).level)


def canvas_boxes(
    boxes: Int32[np.ndarray, "N 4"], size: tuple[int, int], config: ModelConfig
) -> Int32[np.ndarray, "N 4"]:
    """x0, y0, width, height of a photo's boxes in canvas pixels."""
    return level_boxes(boxes, size, config.side, levels=1)[:, 0]


def point_boxes(
    points: Float[np.ndarray, "N 2"], size: tuple[int, int], config: ModelConfig
) -> Int32[np.ndarray, "N 4"]:
    """The squares around points of a photo, in canvas pixels; smaller where the canvas ends, around the point still."""
    side = config.side
    pixel = np.minimum(np.floor(points / np.array(size) * side), side - 1)
    reach = _POINT_CELLS * (side // grid_side(config)) // 2
    reach = np.minimum(reach, np.minimum(pixel, side - 1 - pixel))
    return np.concatenate([pixel - reach, 2 * reach + 1], axis=1).astype(np.int32)


def sample_hints(
    drawn: Alternatives,
    result: int,
    objects: Int[np.ndarray, " n"],
    size: tuple[int, int],
    boxes: Int32[np.ndarray, "m 4"],
    given: PlacedHints,
    side: int,
) -> PlacedHints:
    """The hints of one result: the background, then the photo's objects, then what a person gave.

    Args:
      drawn: on the host.
      result: its number.
      objects: rows of ``drawn``: the photo's background and its m boxes.
      size: width and height of the photo in pixels.
      boxes: the photo's objects, in its pixels.
      given: by a person.
      side: of the grid on which they were drawn (``grid_side``).
    """
    bounds = np.concatenate([[[0, 0, *size]], boxes]).astype(np.float64)
    sides = bounds[1:, 2:] - bounds[1:, :2]
    radius = np.full(len(bounds), RADIUS_SHARE * max(size))
    radius[1:] = np.minimum(radius[1:], OBJECT_SHARE * sides.min(axis=1))
    cells, shown, ab = (np.asarray(a)[result, objects] for a in (drawn.cells, drawn.shown, drawn.ab))
    xy = (cells + 0.5) * (np.array(size) / side)
    # The cells of a small object reach out of its box.
    xy = np.clip(xy, bounds[:, None, :2], np.nextafter(bounds[:, None, 2:], 0))
    which = np.nonzero(shown)[0]
    return PlacedHints(
        np.concatenate([xy[shown], given.xy]),
        np.concatenate([radius[which], given.radius]),
        np.concatenate([ab[which], given.ab]),
    )


def _kinds(photos: Sequence[Prepared]) -> Iterator[tuple[bool, list[int]]]:
    """Whether they have crops, and which photos those are; kinds of which there are none are left out."""
    for with_crops in (True, False):
        rows = [i for i, photo in enumerate(photos) if (len(photo.example.scores) > 0) == with_crops]
        if rows:
            yield with_crops, rows


def _packed(boxes: Sequence[Int32[np.ndarray, "_ 4"]]) -> tuple[Int32[np.ndarray, "N 4"], Int32[np.ndarray, " N"]]:
    """The boxes of photos on one axis and the photo of each, filled up to a rounded number."""
    together = np.concatenate(boxes)
    empty = rounded_up(len(together)) - len(together)
    owner = np.repeat(np.arange(len(boxes), dtype=np.int32), [len(of_photo) for of_photo in boxes])
    return np.pad(together, [(0, empty), (0, 0)]), np.pad(owner, (0, empty), constant_values=PADDING)


def _filled_up(hints: Hints, length: int) -> Hints:
    """Pictures without a hint after those that there are."""
    return Hints(*(np.pad(a, [(0, length - len(a)), (0, 0), (0, 0), (0, 0)]) for a in hints))


def places_for(sides: Int[np.ndarray, " n"], canvas: int) -> tuple[CropPlaces, ...]:
    """Places for crops of such sides, the largest first; sides of which there are no crops are left out.

    Few combinations, so that few programs are compiled: the largest side has the numbers of ``rounded_up``, smaller
    ones powers of two, from those on that cost a quarter of a crop of the largest side. Up to 8 boxes at sides 64, 128
    and 256 make 84 combinations, and what only fills up costs no more than one and a quarter of the largest crops.

    Args:
      sides: of the crops.
      canvas: the side where there are no crops.
    """
    largest, *smaller = sorted(set(sides.tolist()), reverse=True) or [canvas]
    places = [CropPlaces(largest, rounded_up(int((sides == largest).sum())))]
    for side in smaller:
        least = max(1, (largest // side) ** 2 // 4)
        places.append(CropPlaces(side, max(least, 1 << (int((sides == side).sum()) - 1).bit_length())))
    return tuple(places)


def rounded_up(count: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, ..., less than a third of which is then filling; 0 stays 0."""
    if not count:
        return 0
    power = 1 << (count - 1).bit_length()
    return power * 3 // 4 if count <= power * 3 // 4 else power

"""Synthetic scenes whose objects can be colored only from their crops: the data set that comes with the code.

A photo has four times the canvas' side. An object's class is a surface pattern of period 4 photo pixels: Pillow's
bilinear reduction by 4 has a double zero at that period, so at canvas size the pattern vanishes, while a crop of the
object shows it. The class fixes the object's color. Everything else that shows in gray is drawn independently of
the class: mean lightness, outline, size, place. The background's coarse waves are readable at canvas size and fix the
background's color: that much can be learned from the full image alone.

Three things would betray the class on the canvas and are taken care of:

* Pillow averages gamma-coded RGB, so a pattern drawn in L* would come out lighter or darker depending on its hue. The
  pattern is drawn as plus and minus one gray step in RGB, and its mean is exactly the flat color.
* A pattern cut off at the outline leaves a rest there that depends on its direction. It is faded in over some pixels;
  what still remains (0.1 L*, by rounding) drowns in a gray grain of 0.25 L*.
* Colors clipped at the gamut would change in lightness by class. Chroma per class is such that nothing is clipped.

Mirroring turns the class ``rising`` into ``falling`` without changing its color: train on scenes without flips.

**Coarse patterns** (``scenes.patterns="coarse"``) have a period of 6 canvas pixels, so that the full image alone shows
the class.

**Two hues** (``scenes.hues=2``): the class fixes two opposite hues of chroma C = 28, and a fair coin for each object
decides which of them it has. Gray does not know the coin. The object is drawn in L*, its pattern and grain too, other
than above, and its color is put on that L*: two photos that differ only in coins have the same L* but for 8-bit
rounding. Toward the outline objects fade into gray, since a canvas pixel that averages two different colors in
gamma-coded RGB would tell them by its lightness; what is left of that, 0.3 L* at the most telling 1% of the pixels, is
as much as the grain. So whatever is computed from gray is right by chance at most, and its error is known. With the
object's two colors +c and -c, |c| = C, an answer p costs

    (|p - c|^2 + |p + c|^2) / 2 = |p|^2 + C^2 >= C^2

in the mean over coins. The best single answer is the mean of the two, p = 0: gray, wrong by 28 units of ab* in every
object. A sample, +c or -c with probability 1/2, costs 0 or 4 C^2, in the mean 2 C^2, twice the mean's error; but one of
the two samples that there are is right. In sRGB, averaged over lightness, hue and pattern, the mean's PSNR is 17.4 dB
and the wrong hue's 11.5 dB (over whole objects, outline included, 1 to 2 dB more); the right one's is limited
by what a network can do, and by rounding. A palette of the two colors with 50% each covers every object and is
calibrated. The training loss is nearly L1, under which all p between the two colors cost the same to about 1%: nothing
pulls a regression to the middle, but wherever it ends it has at least the squared error above.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int16, UInt8
from PIL import Image

from jaxcolor.color import lab_to_rgb, quantize_rgb
from jaxcolor.config import DataConfig, ScenesConfig
from jaxcolor.data.types import DataError, Photo

PHOTO_PER_CANVAS = 4
"""Photo pixels per canvas pixel; the patterns' period."""
CLASSES = ("rising", "falling", "horizontal", "vertical", "checker")
OUTLINES = ("rectangle", "ellipse", "triangle", "diamond", "rounded")
BACKGROUNDS = ("horizontal", "vertical", "diagonal", "eggs")

_OBJECT_HUE = np.radians([36.0, 108.0, 180.0, 252.0, 324.0])
_OBJECT_CHROMA = np.array([38.0, 45.0, 31.0, 33.0, 45.0])
"""The most, up to 45, that stays in gamut for every lightness below, pattern and grain included."""
_OBJECT_LIGHTNESS = (50.0, 65.0)
_PATTERN_STEP = 28
"""Of 255 in each of R, G, B: about 12 L*."""
_FADE_PIXELS, _FADE_SHARE = 8.0, 0.2
"""Where a pattern fades in: so far from the outline, or this share of the object's shorter side if that is less."""
_COARSE = 6
"""Coarse patterns' period in canvas pixels; that of fine ones is 1."""
_PAIR_HUE = np.radians([0.0, 36.0, 72.0, 108.0, 144.0])
"""The first of each class's two hues; the other is opposite."""
_PAIR_CHROMA = 28.0
"""In gamut for all ten hues, with every lightness, pattern and grain below."""
_PAIR_LIGHTNESS = (60.5, 64.5)
_PAIR_SWING, _PAIR_GRAIN = 11.0, 2.5
"""L* of pattern and grain where there are two hues."""
_GRAIN = 6
"""Largest step, of 255, of the surface's grain: about 0.25 L* on the canvas, several times what a pattern leaves."""
_BACKGROUND_HUE = np.radians([0.0, 72.0, 216.0, 288.0])
_BACKGROUND_CHROMA = 28.0
_BACKGROUND_LIGHTNESS = (45.0, 70.0)
_BACKGROUND_SWING = 8.0
_BACKGROUND_PERIOD = (0.156, 0.25)
"""Of the photo's side: 40 to 64 pixels of 256."""
_BOX_MARGIN = 2
"""Photo pixels between an object and its box, as detectors leave; shows every crop some background."""
_MOST_SCENES = 1 << 27
_SPLITS = {"train": 0, "held_out": 1}
_FRESH_STARTS, _TRIES_PER_OBJECT = 8, 40
_LIGHTNESS_STEPS = 256


class Scene(NamedTuple):
    """A photo and what it was made of."""

    photo: Photo
    classes: Int[np.ndarray, " N"]
    """Index into ``CLASSES`` of each object; what only the crop shows."""
    outlines: Int[np.ndarray, " N"]
    """Index into ``OUTLINES``."""
    hues: Int[np.ndarray, " N"]
    """Which of its class's hues each object has: 0, or 1 too where there are two."""
    background: int
    """Index into ``BACKGROUNDS``; what the canvas shows."""
    object_map: Int16[np.ndarray, "P P"]
    """Which object a photo pixel shows; -1 for background."""


class SceneSource:
    """Seeded scenes by number: scene i of a seed and split is always the same, whoever asks, in whatever order."""

    def __init__(self, config: ScenesConfig, photo_side: int, seed: int, split: str) -> None:
        """Checks that such scenes can be made.

        Args:
          config: how many objects of which size, overlapping or not, and how many scenes.
          photo_side: P in pixels: 4 x the canvas' side.
          seed: any number from 0.
          split: ``train`` or ``held_out``; the two never share a scene.

        Raises:
          DataError: settings that leave no room for the objects, or make no sense.
        """
        _check(config, photo_side, seed, split)
        self.config = config
        self.photo_side = photo_side
        self.seed = seed
        self.split = split

    def __len__(self) -> int:
        return self.config.length

    def __getitem__(self, index: int) -> Photo:
        """Photo of scene ``index``; its annotated boxes equal its detections, its masks are the objects' pixels."""
        return self.scene(index).photo

    def picture(self, index: int, least_side: int | None = None) -> Photo:
        """Photo of scene ``index`` without its boxes; no scene is worth reducing."""
        photo = self[index]
        return photo._replace(boxes=photo.boxes[:0], scores=photo.scores[:0], truth_boxes=None, truth_masks=None)

    def crop_count(self, index: int) -> int:
        """How many objects scene ``index`` has."""
        return len(self[index].boxes)

    def with_boxes(self) -> Sequence[int]:
        """All of them: every scene has objects."""
        return range(len(self))

    def describe(self) -> str:
        """One line for a person."""
        c = self.config
        overlap = "overlapping" if c.overlap else "apart"
        kind = f"{', coarse patterns' * (c.patterns == 'coarse')}{', two hues' * (c.hues == 2)}"
        return (
            f"{c.length} scenes ({self.split}, seed {self.seed}) of {self.photo_side} x {self.photo_side} pixels, "
            f"{c.min_objects} to {c.max_objects} objects each, {overlap}{kind}"
        )

    def scene(self, index: int, hues: Sequence[int] | None = None) -> Scene:
        """Scene ``index`` with its object classes and its map of objects.

        Args:
          index: of the scene.
          hues: 0 or 1 for each object, in place of the scene's own coins: the same gray photo, colored otherwise.

        Raises:
          IndexError: there is no such scene.
          ValueError: ``hues`` are not one for each object, or there are not so many.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        rng = np.random.default_rng([self.seed, _SPLITS[self.split], index])
        background = int(rng.integers(len(BACKGROUNDS)))
        rgb = _background(background, self.photo_side, rng)
        bounds = _place(self.config, self.photo_side, rng)
        count = len(bounds)
        classes, outlines = rng.integers(len(CLASSES), size=count), rng.integers(len(OUTLINES), size=count)
        # A generator of their own: everything else is the same whatever they are.
        coins = np.random.default_rng([self.seed, _SPLITS[self.split], index, 1]).integers(self.config.hues, size=count)
        if hues is not None:
            coins = _given_hues(hues, count, self.config.hues)
        object_map = np.full(rgb.shape[:2], -1, np.int16)
        for number, (x0, y0, x1, y1) in enumerate(bounds.tolist()):
            depth = _OUTLINE_DEPTH[outlines[number]](x1 - x0, y1 - y0)
            region = np.s_[y0:y1, x0:x1]
            surface = _surface(self.config, int(classes[number]), int(coins[number]), depth, rng)
            rgb[region] = np.where((depth > 0)[..., None], surface, rgb[region])
            object_map[region][depth > 0] = number
        boxes = (bounds + _BOX_MARGIN * np.array([-1, -1, 1, 1])).astype(np.float32)
        scores = rng.uniform(0.7, 1.0, count).astype(np.float32)
        masks = [object_map == number for number in range(count)]
        photo = Photo(f"scene_{self.split}_{index:07d}", Image.fromarray(rgb), boxes, scores, boxes, masks)
        return Scene(photo, classes, outlines, coins, background, object_map)


def scene_source(config: DataConfig, side: int) -> SceneSource:
    """The source ``scenes`` for a canvas of this side."""
    return SceneSource(config.scenes, PHOTO_PER_CANVAS * side, config.seed, config.split)


def _check(config: ScenesConfig, photo_side: int, seed: int, split: str) -> None:
    if split not in _SPLITS:
        raise DataError(f"data.split: {split!r} is none of {', '.join(_SPLITS)}")
    if seed < 0:
        raise DataError(f"data.seed: {seed} is negative")
    if config.length < 1:
        raise DataError(f"data.scenes.length: {config.length} scenes are none; at least 1")
    if config.length > _MOST_SCENES:
        raise DataError(
            f"data.scenes.length: {config.length} scenes, whose order takes too much memory; at most {_MOST_SCENES}"
        )
    if not 1 <= config.min_objects <= config.max_objects:
        raise DataError(
            f"data.scenes: min_objects {config.min_objects} and max_objects {config.max_objects} "
            "must be at least 1, in this order"
        )
    if not 0 < config.min_object_side <= config.max_object_side <= 1:
        raise DataError(
            f"data.scenes: min_object_side {config.min_object_side} and max_object_side {config.max_object_side} "
            "are shares of the photo's side: above 0, at most 1, in this order"
        )
    smallest = _side_range(config, photo_side)[0]
    cells = 1 if config.overlap else int(np.ceil(np.sqrt(config.max_objects)))
    if photo_side // cells < smallest + 2 * _BOX_MARGIN:
        raise DataError(
            f"data.scenes: {config.max_objects} objects of at least {smallest} pixels "
            f"{'do not fit into' if config.overlap else 'may not fit side by side into'} a photo of side {photo_side}; "
            "lower max_objects or min_object_side, or take a larger canvas"
        )


def _side_range(config: ScenesConfig, photo_side: int) -> tuple[int, int]:
    lowest = max(1, round(config.min_object_side * photo_side))
    return lowest, max(lowest, min(round(config.max_object_side * photo_side), photo_side - 2 * _BOX_MARGIN))


def _place(config: ScenesConfig, photo_side: int, rng: np.random.Generator) -> Int[np.ndarray, "N 4"]:
    """Bounds x0 y0 x1 y1 of the objects, in photo pixels."""
    count = int(rng.integers(config.min_objects, config.max_objects + 1))
    for _ in range(_FRESH_STARTS):
        bounds = _place_freely(config, photo_side, count, rng)
        if bounds is not None:
            return bounds
    return _place_on_grid(config, photo_side, count, rng)


def _place_freely(
    config: ScenesConfig, photo_side: int, count: int, rng: np.random.Generator
) -> Int[np.ndarray, "N 4"] | None:
    """Objects one by one wherever there is room; None if one finds none."""
    lowest, highest = _side_range(config, photo_side)
    bounds = np.zeros((0, 4), np.int64)
    for _ in range(count):
        size = rng.integers(lowest, highest + 1, size=2)
        starts = rng.integers(_BOX_MARGIN, photo_side - _BOX_MARGIN - size + 1, size=(_TRIES_PER_OBJECT, 2))
        tries = np.concatenate([starts, starts + size], axis=1)
        if config.overlap:
            # An object hidden altogether would have a box that shows another one. If all tries hide one: the first try.
            free = _shared(tries, bounds, gap=0) <= 0.5 * size.prod()
        else:
            free = _shared(tries, bounds, gap=2 * _BOX_MARGIN) == 0
            if not free.any():
                return None
        bounds = np.concatenate([bounds, tries[free.argmax()][None]])
    return bounds


def _shared(tries: Int[np.ndarray, "T 4"], bounds: Int[np.ndarray, "N 4"], gap: int) -> Int[np.ndarray, " T"]:
    """The largest area that each try has in common with an object placed before it, grown by ``gap``."""
    low = np.maximum(tries[:, None, :2], bounds[:, :2] - gap)
    high = np.minimum(tries[:, None, 2:], bounds[:, 2:] + gap)
    return np.maximum(high - low, 0).prod(axis=2).max(axis=1, initial=0)


def _place_on_grid(
    config: ScenesConfig, photo_side: int, count: int, rng: np.random.Generator
) -> Int[np.ndarray, "N 4"]:
    """For crowded scenes: each object somewhere in a cell of its own."""
    cells = int(np.ceil(np.sqrt(count)))
    cell = photo_side // cells
    lowest, highest = _side_range(config, photo_side)
    size = rng.integers(lowest, min(highest, cell - 2 * _BOX_MARGIN) + 1, size=(count, 2))
    corner = np.stack(np.divmod(rng.permutation(cells**2)[:count], cells), axis=1) * cell
    start = corner + rng.integers(_BOX_MARGIN, cell - _BOX_MARGIN - size + 1)
    return np.concatenate([start, start + size], axis=1)


def _background(kind: int, side: int, rng: np.random.Generator) -> UInt8[np.ndarray, "P P 3"]:
    """Waves whose form fixes their hue."""
    period = rng.uniform(*_BACKGROUND_PERIOD) * side
    phase_x, phase_y = rng.uniform(0, 2 * np.pi, size=2)
    ramp = np.arange(side) * (2 * np.pi / period)
    x, y = ramp[None, :] + phase_x, ramp[:, None] + phase_y
    waves = {
        "horizontal": lambda: np.sin(y) + 0 * x,
        "vertical": lambda: np.sin(x) + 0 * y,
        "diagonal": lambda: np.sin((x + y) / np.sqrt(2)),
        "eggs": lambda: np.sin(x) * np.sin(y),
    }[BACKGROUNDS[kind]]()
    lightness = rng.uniform(*_BACKGROUND_LIGHTNESS) + np.linspace(-1, 1, _LIGHTNESS_STEPS) * _BACKGROUND_SWING
    # One table of colors in place of a million conversions.
    table = _rgb8(lightness, _BACKGROUND_CHROMA, float(_BACKGROUND_HUE[kind]))
    return table[np.rint((waves + 1) / 2 * (_LIGHTNESS_STEPS - 1)).astype(np.int64)]


def _surface(
    config: ScenesConfig, kind: int, hue: int, depth: Float[np.ndarray, "h w"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """An object's color with its pattern; ``depth`` is the distance to the outline in pixels."""
    lightness = rng.uniform(*(_OBJECT_LIGHTNESS if config.hues == 1 else _PAIR_LIGHTNESS))
    height, width = depth.shape
    sign = _pattern(kind, height, width, PHOTO_PER_CANVAS * (_COARSE if config.patterns == "coarse" else 1), rng)
    share = np.clip(depth / min(_FADE_PIXELS, _FADE_SHARE * min(height, width)), 0, 1)
    share = share**2 * (3 - 2 * share)
    if config.hues == 2:
        return _two_hue_surface(lightness, float(_PAIR_HUE[kind]) + np.pi * hue, share, sign, rng)
    flat = _rgb8(lightness, float(_OBJECT_CHROMA[kind]), float(_OBJECT_HUE[kind]))
    step = np.rint(_PATTERN_STEP * share * sign).astype(np.int16)
    step += rng.integers(-_GRAIN, _GRAIN + 1, size=depth.shape, dtype=np.int16)
    return np.clip(flat.astype(np.int16) + step[..., None], 0, 255).astype(np.uint8)


def _two_hue_surface(
    lightness: float,
    hue: float,
    share: Float[np.ndarray, "h w"],
    sign: Float[np.ndarray, "h w"],
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "h w 3"]:
    """L* whatever the hue, and the hue on it; ``share`` fades both in."""
    steps = _PAIR_SWING * share * sign + rng.uniform(-_PAIR_GRAIN, _PAIR_GRAIN, share.shape)
    chroma = _PAIR_CHROMA * share
    lab = np.stack([lightness + steps, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    return np.asarray(quantize_rgb(lab_to_rgb(lab)))


def _given_hues(hues: Sequence[int], count: int, choices: int) -> Int[np.ndarray, " N"]:
    given = np.asarray(hues, np.int64)
    if given.shape != (count,) or not ((given >= 0) & (given < choices)).all():
        raise ValueError(f"hues {list(hues)}: a scene of {count} objects needs as many numbers from 0 to {choices - 1}")
    return given


def _pattern(kind: int, height: int, width: int, period: int, rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """Plus and minus one with this even period and mean 0 along every line of pixels that is not constant."""
    offset_x, offset_y = rng.integers(period, size=2)
    x, y = np.arange(width)[None, :] + offset_x, np.arange(height)[:, None] + offset_y
    half = period // 2
    cell = {
        "rising": lambda: (x + y) // half,
        "falling": lambda: (x - y) // half,
        "horizontal": lambda: y // half + 0 * x,
        "vertical": lambda: x // half + 0 * y,
        "checker": lambda: x // half + y // half,
    }[CLASSES[kind]]()
    return np.where(cell % 2 == 0, 1.0, -1.0)


def _rgb8(lightness: float | Float[np.ndarray, " n"], chroma: float, hue: float) -> UInt8[np.ndarray, "*n 3"]:
    lightness = np.asarray(lightness, np.float64)
    lab = np.stack(
        [lightness, np.full_like(lightness, chroma * np.cos(hue)), np.full_like(lightness, chroma * np.sin(hue))], -1
    )
    return np.asarray(quantize_rgb(lab_to_rgb(lab)))


def _centered(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances of pixel centers from the middle lines: shapes (1, width) and (height, 1)."""
    x = np.abs(np.arange(width) + 0.5 - width / 2)[None, :]
    return x, np.abs(np.arange(height) + 0.5 - height / 2)[:, None]


def _rectangle(width: int, height: int) -> Float[np.ndarray, "h w"]:
    x, y = _centered(width, height)
    return np.minimum(width / 2 - x, height / 2 - y)


def _ellipse(width: int, height: int) -> Float[np.ndarray, "h w"]:
    x, y = _centered(width, height)
    return (1 - np.hypot(x / (width / 2), y / (height / 2))) * min(width, height) / 2


def _triangle(width: int, height: int) -> Float[np.ndarray, "h w"]:
    x, _ = _centered(width, height)
    y = (np.arange(height) + 0.5)[:, None]
    leg = (y * width / (2 * height) - x) * height / np.hypot(height, width / 2)
    return np.minimum(leg, height - y)


def _diamond(width: int, height: int) -> Float[np.ndarray, "h w"]:
    x, y = _centered(width, height)
    return (1 - 2 * x / width - 2 * y / height) / np.hypot(2 / width, 2 / height)


def _rounded(width: int, height: int) -> Float[np.ndarray, "h w"]:
    x, y = _centered(width, height)
    radius = 0.3 * min(width, height)
    beyond_x, beyond_y = x - (width / 2 - radius), y - (height / 2 - radius)
    corner = np.hypot(np.maximum(beyond_x, 0), np.maximum(beyond_y, 0))
    return radius - corner - np.minimum(np.maximum(beyond_x, beyond_y), 0)


_OUTLINE_DEPTH: tuple[Callable[[int, int], np.ndarray], ...] = (_rectangle, _ellipse, _triangle, _diamond, _rounded)
"""Distance in pixels to the outline, positive inside; in the order of ``OUTLINES``."""

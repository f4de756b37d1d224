"""Photo in, photo out: colors, plausible colors of objects, and other results, for photos in any of their forms."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from jaxcolor.color import Bits, SaturationCurve
from jaxcolor.config import DataConfig, ModelConfig, check_crop_sides
from jaxcolor.data.types import Boxes
from jaxcolor.hints import Hint, PlacedHints, Real
from jaxcolor.inference.box_finder import BoxFinder
from jaxcolor.inference.canvases import Canvases, mean_colors
from jaxcolor.inference.colored import Colored
from jaxcolor.inference.photos import (
    DroppedBoxesWarning,
    OnCanvas,
    PhotoInput,
    Prepared,
    check_photos,
    check_points,
    dropped_message,
    prepare_all,
    read_photo,
)
from jaxcolor.inference.predict import NO_COLORS, ObjectColors, Predictor
from jaxcolor.inference.session import Session, Sessions
from jaxcolor.inference.upsample import Upsampling, check_saturation, check_upsampling, join
from jaxcolor.models import networks
from jaxcolor.models.decoding import check_vivid, has_classes, mix_vivid, parse_decode
from jaxcolor.runtime.errors import UserError
from jaxcolor.weights import packaged
from jaxcolor.weights.native import BoxHeadWeights
from jaxcolor.weights.reference import WeightsError

UNUSED_BOXES = "boxes are not used: these weights hold the full-image network only"


class UnusedBoxesWarning(UserWarning):
    """Boxes were given for nothing: there is no instance network."""


BOXES_PER_PHOTO = DataConfig.boxes_per_photo
"""Of given boxes, the best so many are used unless told otherwise."""
SAMPLES = 4
"""How many results ``Colorizer.sample`` makes unless told otherwise."""


class Palettes(NamedTuple):
    """The plausible colors of one photo's objects."""

    boxes: list[ObjectColors]
    """Of each box given, in the order given; without colors for one that is not usable."""
    points: list[ObjectColors]
    """Of each point given: what lies around it."""


class Colorizer:
    """Colors gray photos (color ones too: only their L* is read).

    Compiles once for each rounded number of photos and of crops in a call (``rounded_up``), never for a photo's size;
    photos with hints are another program than photos without.
    """

    def __init__(
        self,
        config: ModelConfig,
        variables: networks.Variables,
        boxes_per_photo: int | None = None,
        cuda_graphs: bool = False,
        *,
        upsampling: Upsampling = "luma_slope",
        saturation: Real = 1.0,
        vivid: Real = 0.0,
        saturation_curve: SaturationCurve | None = None,
        bits: Bits = 8,
        crop_sides: Sequence[int] = (),
        share_crops: bool = False,
        canvases: Sequence[int] = (),
        box_head: BoxHeadWeights | None = None,
    ) -> None:
        """Put the variables on the default device.

        Args:
          config: of the networks.
          variables: the three trees, or ``full`` alone: then boxes are not cut out.
          boxes_per_photo: the best boxes by score that are used; None: 8 of given ones, and of those that the weights
            find as many as their head says (``BoxHeadConfig.most_boxes``).
          cuda_graphs: launch the kernels of a call as CUDA graphs, those that do not depend on each other side by side
            (elsewhere than on GPUs no difference); docs/performance.md says what it brings.
          upsampling: of ab from the canvas to the photo's size, see ``upsample.join``.
          saturation: factor of the chroma, 0 is gray; each call can have its own.
          vivid: 0, safe: the first output head's color; up to 1: as strong as real colors (``models.decoding``). Each
            call can have its own.
          saturation_curve: for ``vivid``; without one, the class head serves.
          bits: of each channel of results. 16: uint16, and the L* of 16-bit gray is kept without rounding it to 8.
          crop_sides: at which crops are seen, each at the smallest that holds it (``DataConfig.crop_sides``):
            ``(64, 128, 256)`` takes half the time for tight crops of COCO's sizes, and saves little where crops show
            35% of each side at least, as the package's; empty: all at the canvas's side.
          share_crops: whether one crop may serve several boxes that lie close together (``boxes.shared_windows``).
          canvases: sides, ascending multiples of 8, of further square canvases on which the full-image network sees
            each photo too (``inference.canvases``): results are the mean over all canvases, fused ones of photos with
            crops. Palettes, the search for boxes and sessions keep to the networks' own canvas.
          box_head: finds objects on the features of the tree ``full``; without one, ``boxes="auto"`` cannot be had.

        Raises:
          WeightsError: there is no tree ``full``.
          UserError: there is no such upsampling, the bits are not 8 or 16, the saturation is negative or not finite,
            ``vivid`` is not from 0 to 1, or above 0 with neither a class head nor a curve, the crop sides do not fit
            the canvas, or there cannot be such further canvases.
        """
        check_upsampling(upsampling)
        if bits not in get_args(Bits):
            raise UserError(f"bits {bits!r}: must be 8 or 16")
        check_saturation(float(saturation))
        check_vivid(float(vivid), config, saturation_curve)
        if "full" not in variables:
            raise WeightsError(
                f"weights of {', '.join(variables) or 'nothing'} alone cannot color; tree full is missing"
            )
        check_crop_sides(tuple(crop_sides), config.side)
        self.config = config
        self.boxes_per_photo = BOXES_PER_PHOTO if boxes_per_photo is None else boxes_per_photo
        self.crop_sides = tuple(crop_sides)
        self.share_crops = share_crops
        self._canvases = Canvases(config, canvases, cuda_graphs)
        self.upsampling: Upsampling = upsampling
        self.saturation = float(saturation)
        self.vivid = float(vivid)
        self.saturation_curve = saturation_curve
        self.bits: Bits = bits
        if box_head is not None and boxes_per_photo is not None:
            box_head = box_head._replace(config=dataclasses.replace(box_head.config, most_boxes=boxes_per_photo))
        self._box_head = box_head
        self._predictor = Predictor(config, variables, cuda_graphs)
        self.uses_boxes = self._predictor.uses_crops
        """Whether boxes are cut out for the instance network; palettes and samples use them in any case."""

    @classmethod
    def from_pretrained(
        cls,
        weights: str | Path | None = None,
        boxes_per_photo: int | None = None,
        cuda_graphs: bool = False,
        *,
        upsampling: Upsampling = "luma_slope",
        saturation: Real = 1.0,
        vivid: Real | None = None,
        bits: Bits = 8,
        crop_sides: Sequence[int] = (),
        share_crops: bool = False,
        canvases: Sequence[int] | None = None,
    ) -> Colorizer:
        """A colorizer with weights of the package or of a file; further arguments as those of the class.

        Args:
          weights: a ``.safetensors`` file or a folder of a training run (``weights.locate``), or the name of weights
            inside the package (``weights.packaged``): ``"default"``, or ``"fast"`` for small machines; None:
            ``"default"``.
          boxes_per_photo: see the class.
          cuda_graphs: see the class.
          upsampling: see the class.
          saturation: see the class.
          vivid: None: as the file's field ``decode`` says.
          bits: see the class.
          crop_sides: see the class.
          share_crops: see the class.
          canvases: see the class; None: what is recommended for these weights (``weights.packaged.canvases``).

        Raises:
          OSError, WeightsError: the file cannot be read, is none of ours, or this installation has no such weights.
          UserError: see the class.
        """
        loaded = packaged.load(weights)
        return cls(
            loaded.config,
            loaded.variables,
            boxes_per_photo,
            cuda_graphs,
            upsampling=upsampling,
            saturation=saturation,
            vivid=parse_decode(loaded.decode) if vivid is None else vivid,
            saturation_curve=loaded.saturation_curve,
            bits=bits,
            crop_sides=crop_sides,
            share_crops=share_crops,
            canvases=packaged.canvases(weights) if canvases is None else canvases,
            box_head=loaded.box_head,
        )

    @property
    def variables(self) -> networks.Variables:
        """The trees, on the device."""
        return self._predictor.variables

    @property
    def canvases(self) -> tuple[int, ...]:
        """Sides of the further canvases."""
        return self._canvases.sides

    @property
    def has_classes(self) -> bool:
        """Whether palettes and samples can be had."""
        return has_classes(self.config)

    @property
    def finds_boxes(self) -> bool:
        """Whether the weights bring a head that finds objects (``find_boxes``, ``boxes="auto"``)."""
        return self._box_head is not None

    @functools.cached_property
    def finder(self) -> BoxFinder:
        """The weights' own head on the features of the tree ``full``, which are shared.

        Raises:
          WeightsError: they have no head.
        """
        return BoxFinder(self.config, self.variables, self._box_head, on_device=True, keep=True)

    def find_boxes(self, photos: Sequence[PhotoInput], threshold: float | None = None) -> list[Boxes]:
        """The objects of each photo, best first, in its pixels, by the head of the weights (``models.box_head``).

        They are looked for on the networks' own canvas alone, whatever ``canvases`` are.

        Args:
          photos: see ``many``; in one call of the full-image network.
          threshold: lowest score, 0 to 1, of all boxes that are wanted; None: the one that the head is made for, and at
            most as many boxes as it says (``BoxHeadConfig.most_boxes``, or ``boxes_per_photo``).

        Raises:
          ValueError: see ``many``.
          UserError: a file that cannot be read; weights without such a head.
        """
        check_photos(photos)
        if not len(photos):
            return []
        boxes, self._predictor.seen = self.finder.find([read_photo(photo) for photo in photos], threshold)
        return boxes

    def session(self, photo: PhotoInput) -> Session:
        """One photo to be colored again and again while its boxes and hints change: see ``inference.session``.

        A result costs what changed since earlier ones. Crops are seen at the canvas's side, whatever ``crop_sides`` is,
        and photos on that canvas alone, whatever ``canvases`` are.

        Raises:
          ValueError, UserError: see ``many``.
        """
        (prepared,) = self._prepare([photo], None, None, None)
        canvas = prepared.example.full_rgb
        assert canvas is not None  # ``prepare`` makes it
        return Session(self._sessions, object(), canvas, prepared.size, lambda: prepared.rgb, prepared)

    @functools.cached_property
    def _sessions(self) -> Sessions:
        return Sessions(self)

    def __call__(
        self,
        photo: PhotoInput,
        boxes: Any = None,
        scores: Any = None,
        hints: Sequence[Hint] | None = None,
        *,
        vivid: Real | None = None,
        saturation: Real | None = None,
    ) -> Colored:
        """One photo; see ``many``."""
        return self.many([photo], [boxes], [scores], [hints], vivid=vivid, saturation=saturation)[0]

    def many(
        self,
        photos: Sequence[PhotoInput],
        boxes: Sequence[Any] | None = None,
        scores: Sequence[Any] | None = None,
        hints: Sequence[Sequence[Hint] | None] | None = None,
        *,
        vivid: Real | None = None,
        saturation: Real | None = None,
    ) -> list[Colored]:
        """Color photos of any sizes, in one call of the networks for those with boxes and one for those without.

        One more call of the full-image network for all of them on each of ``canvases``.

        Args:
          photos: paths, PIL images, or NumPy or JAX arrays (H, W) or (H, W, 3) of uint8 or uint16: sRGB, upright.
          boxes: for each photo x0, y0, x1, y1 in its pixels, (N, 4), or None, or ``"auto"``: those of
            ``find_boxes``; ``"auto"`` alone is for all photos. Boxes are clipped to the photo; those that cannot be
            cropped (NaN, inverted, outside, of no size) are left out, with one warning a call; so are
            all of them where there is no instance network and no hint is for an object.
          scores: for each photo one score a box, or None: then the first boxes are the best.
          hints: for each photo colors that are given at points or for objects, or None. An object's number is its row
            in ``boxes``. They are shown to the full-image network, and to the instance network in the crops that they
            lie in; later ones lie over earlier ones.
          vivid: 0 to 1; None: the one given to the class.
          saturation: factor of the chroma; None: the one given to the class.

        Returns:
          Each photo at its own size, sRGB of ``bits``, (H, W, 3); its L* is kept to 0.5: where sRGB has no room for a
          color, it gets less chroma.

        Raises:
          ValueError: lists of different lengths, what is no photo, or boxes or scores of another form.
          UserError: a file that cannot be read, a hint that cannot be placed, ``vivid`` or a saturation out of range.
        """
        vivid, saturation = self.strengths(vivid, saturation)
        prepared = self._prepare(photos, boxes, scores, hints)
        self._warn_of_unused(prepared, hints)
        return self._join(prepared, [photo.hints for photo in prepared], vivid, saturation)

    def iterate(
        self,
        photos: Sequence[PhotoInput],
        boxes: Sequence[Any] | None = None,
        scores: Sequence[Any] | None = None,
        hints: Sequence[Sequence[Hint] | None] | None = None,
        *,
        vivid: Real | None = None,
        saturation: Real | None = None,
    ) -> Iterator[Colored]:
        """As ``many``, but each result as soon as it is done; the networks run before the first."""
        vivid, saturation = self.strengths(vivid, saturation)
        prepared = self._prepare(photos, boxes, scores, hints)
        self._warn_of_unused(prepared, hints)
        return self._each(prepared, [photo.hints for photo in prepared], vivid, saturation)

    def palette(
        self,
        photo: PhotoInput,
        boxes: Any = None,
        scores: Any = None,
        hints: Sequence[Hint] | None = None,
        *,
        points: Any = (),
    ) -> Palettes:
        """The plausible colors of one photo's objects; see ``palettes``."""
        return self.palettes([photo], [boxes], [scores], [hints], points=[points])[0]

    def palettes(
        self,
        photos: Sequence[PhotoInput],
        boxes: Sequence[Any] | None = None,
        scores: Sequence[Any] | None = None,
        hints: Sequence[Sequence[Hint] | None] | None = None,
        *,
        points: Sequence[Any] | None = None,
    ) -> list[Palettes]:
        """The plausible colors of each box and of clicked points, with their probabilities, in sRGB.

        A few well separated colors that cover as much as they can of the class head's distribution in the middle of the
        box, the rebalancing of its training undone: a color of probability 0.3 is meant to be that of three of ten
        pixels there. One call of the networks for photos with boxes and one for those without, on their own canvas
        alone, whatever ``canvases`` are.

        Args:
          photos: see ``many``.
          boxes: see ``many``; all of them get colors, also those beyond ``boxes_per_photo``.
          scores: see ``many``.
          hints: see ``many``; what is given already.
          points: for each photo x, y in its pixels, (N, 2); None: none.

        Raises:
          ValueError: see ``many``; or points of another form.
          UserError: see ``many``; a point outside its photo; weights without a class head.
        """
        prepared = self._prepare(photos, boxes, scores, hints)
        at: Sequence[Any] = [()] * len(prepared) if points is None else points
        if len(at) != len(prepared):
            raise ValueError(f"{len(prepared)} photos, {len(at)} sets of points: not the same")
        checked = [check_points(photo, of_photo) for photo, of_photo in zip(prepared, at, strict=True)]
        result = []
        for photo, found in zip(prepared, self._predictor.palettes(prepared, checked), strict=True):
            of_boxes = dict(zip(photo.rows.tolist(), found, strict=False))
            in_order = [of_boxes.get(row, NO_COLORS) for row in range(photo.given)]
            result.append(Palettes(in_order, found[len(photo.rows) :]))
        return result

    def sample(
        self,
        photo: PhotoInput,
        boxes: Any = None,
        count: int = SAMPLES,
        seed: int = 0,
        *,
        scores: Any = None,
        hints: Sequence[Hint] | None = None,
        vivid: Real | None = None,
        saturation: Real | None = None,
    ) -> list[Colored]:
        """Different results for one photo; see ``samples``."""
        return self.samples(
            [photo], [boxes], count, seed, scores=[scores], hints=[hints], vivid=vivid, saturation=saturation
        )[0]

    def samples(
        self,
        photos: Sequence[PhotoInput],
        boxes: Sequence[Any] | None = None,
        count: int = SAMPLES,
        seed: int = 0,
        *,
        scores: Sequence[Any] | None = None,
        hints: Sequence[Sequence[Hint] | None] | None = None,
        vivid: Real | None = None,
        saturation: Real | None = None,
    ) -> list[list[Colored]]:
        """Results that differ object by object and are coherent inside each, the most probable first.

        One color of its palette is drawn for each object and for the background (``palette.draw_object_colors``), shown
        to the networks as hints at a few points inside, and regressed. A photo goes through the networks once for its
        distribution, on the networks' own canvas alone, and once for each result, on all ``canvases``; all photos at a
        time.

        Args:
          photos: see ``many``.
          boxes: see ``many``; the ``boxes_per_photo`` best are the objects.
          count: how many results.
          seed: from 0; the same gives the same.
          scores: see ``many``.
          hints: see ``many``; they hold in all results.
          vivid: see ``many``.
          saturation: see ``many``.

        Returns:
          For each photo ``count`` results; fewer where its objects have fewer combinations of plausible colors.

        Raises:
          ValueError: see ``many``.
          UserError: see ``many``; ``count`` below 1, a seed below 0 or beyond 32 bits, weights without a class head.
        """
        vivid, saturation = self.strengths(vivid, saturation)
        if count < 1 or not 0 <= seed < 1 << 32:
            raise UserError(f"{count} samples of seed {seed}: at least 1, of a seed from 0 to {(1 << 32) - 1}")
        prepared = self._prepare(photos, boxes, scores, hints)
        drawn = self._predictor.alternatives(prepared, count, seed)
        results: list[list[Colored]] = [[] for _ in prepared]
        for number in range(max(map(len, drawn), default=0)):
            rows = [i for i, of_photo in enumerate(drawn) if number < len(of_photo)]
            given = [drawn[i][number] for i in rows]
            for i, one in zip(rows, self._join([prepared[i] for i in rows], given, vivid, saturation), strict=True):
                results[i].append(one)
        return results

    def on_canvas(
        self,
        photos: Sequence[PhotoInput],
        boxes: Sequence[Any] | None = None,
        scores: Sequence[Any] | None = None,
        hints: Sequence[Sequence[Hint] | None] | None = None,
        *,
        vivid: Real | None = None,
    ) -> list[OnCanvas]:
        """As ``many``, but ab stays on the canvas, where films are steadied; ``at_size`` is the rest."""
        prepared = self._prepare(photos, boxes, scores, hints)
        placed = [photo.hints for photo in prepared]
        return list(map(OnCanvas, prepared, self._canvas_ab(prepared, placed, self.strengths(vivid, None)[0])))

    def at_size(self, photo: Prepared, ab: Float[np.ndarray, "S S 2"], saturation: float | None = None) -> Colored:
        """A photo with normalized ab from the canvas."""
        _, saturation = self.strengths(None, saturation)
        rgb = join(
            photo.rgb, ab, upsampling=self.upsampling, saturation=saturation, wide_gray=photo.wide_gray, bits=self.bits
        )
        return rgb.view(Colored)

    def strengths(self, vivid: Real | None, saturation: Real | None) -> tuple[float, float]:
        """``vivid`` and ``saturation`` of a call: where one is None, that of the class.

        Raises:
          UserError: one is out of range, or these weights have no colors but safe ones.
        """
        vivid = self.vivid if vivid is None else float(vivid)
        saturation = self.saturation if saturation is None else float(saturation)
        check_vivid(vivid, self.config, self.saturation_curve)
        check_saturation(saturation)
        return vivid, saturation

    def _prepare(
        self,
        photos: Sequence[PhotoInput],
        boxes: Sequence[Any] | None,
        scores: Sequence[Any] | None,
        hints: Sequence[Sequence[Hint] | None] | None,
    ) -> list[Prepared]:
        prepared = prepare_all(
            photos,
            boxes,
            scores,
            hints,
            self.find_boxes,
            side=self.config.side,
            context=self.config.context,
            boxes_per_photo=self.boxes_per_photo,
            with_crops=self.uses_boxes,
            bits=self.bits,
            crop_sides=self.crop_sides,
            share_crops=self.share_crops,
        )
        message = dropped_message(prepared)
        if message:
            warnings.warn(message, DroppedBoxesWarning, stacklevel=3)
        return prepared

    def _warn_of_unused(self, photos: Sequence[Prepared], hints: Sequence[Sequence[Hint] | None] | None) -> None:
        """Boxes that neither crops nor hints are for."""
        if self.uses_boxes or not any(photo.given for photo in photos):
            return
        if not any(hint.object is not None for of_photo in hints or () for hint in of_photo or ()):
            warnings.warn(UNUSED_BOXES, UnusedBoxesWarning, stacklevel=3)

    def _join(
        self, photos: Sequence[Prepared], hints: Sequence[PlacedHints], vivid: float, saturation: float
    ) -> list[Colored]:
        """The photos in color, given hints."""
        return list(self._each(photos, hints, vivid, saturation))

    def _each(
        self, photos: Sequence[Prepared], hints: Sequence[PlacedHints], vivid: float, saturation: float
    ) -> Iterator[Colored]:
        """The photos in color, one after another."""
        for photo, ab in zip(photos, self._canvas_ab(photos, hints, vivid), strict=True):
            yield self.at_size(photo, ab, saturation)

    def _canvas_ab(
        self, photos: Sequence[Prepared], hints: Sequence[PlacedHints], vivid: float
    ) -> list[Float[np.ndarray, "S S 2"]]:
        annealed = vivid > 0 and self.saturation_curve is None
        further = self._canvases.colors(self.variables, photos, hints, annealed)
        found = mean_colors(self._predictor.colors(photos, hints, annealed=annealed), further)
        return [mix_vivid(colors.ab, colors.annealed, self.saturation_curve, vivid) for colors in found]

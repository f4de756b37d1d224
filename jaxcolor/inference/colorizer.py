"""Photo in, photo out: colors, plausible colors of objects, and other results, for photos in any of their forms."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8

from jaxcolor.color import SaturationCurve
from jaxcolor.config import ModelConfig, check_crop_sides
from jaxcolor.hints import Hint, PlacedHints, Real
from jaxcolor.inference.photos import DroppedBoxesWarning, PhotoInput, Prepared, check_photos, dropped_message, prepare
from jaxcolor.inference.predict import NO_COLORS, ObjectColors, Predictor
from jaxcolor.inference.upsample import Upsampling, check_saturation, check_upsampling, join
from jaxcolor.models import networks
from jaxcolor.models.decoding import check_vivid, has_classes, mix_vivid, parse_decode
from jaxcolor.runtime.errors import UserError
from jaxcolor.weights import packaged
from jaxcolor.weights.reference import WeightsError

UNUSED_BOXES = "boxes are not used: these weights hold the full-image network only"


class UnusedBoxesWarning(UserWarning):
    """Boxes were given for nothing: there is no instance network."""


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
        boxes_per_photo: int = 8,
        cuda_graphs: bool = False,
        *,
        upsampling: Upsampling = "luma_slope",
        saturation: Real = 1.0,
        vivid: Real = 0.0,
        saturation_curve: SaturationCurve | None = None,
        crop_sides: Sequence[int] = (),
    ) -> None:
        """Put the variables on the default device.

        Args:
          config: of the networks.
          variables: the three trees, or ``full`` alone: then boxes are not cut out.
          boxes_per_photo: the best boxes by score that are used.
          cuda_graphs: launch the kernels of a call as CUDA graphs, those that do not depend on each other side by side
            (elsewhere than on GPUs no difference); docs/performance.md says what it brings.
          upsampling: of ab from the canvas to the photo's size, see ``upsample.join``.
          saturation: factor of the chroma, 0 is gray; each call can have its own.
          vivid: 0, safe: the first output head's color; up to 1: as strong as real colors (``models.decoding``). Each
            call can have its own.
          saturation_curve: for ``vivid``; without one, the class head serves.
          crop_sides: at which crops are seen, each at the smallest that holds its box (``DataConfig.crop_sides``):
            ``(64, 128, 256)`` takes about half the time; empty: all at the canvas's side.

        Raises:
          WeightsError: there is no tree ``full``.
          UserError: there is no such upsampling, the saturation is negative or not finite, ``vivid`` is not from 0 to
            1, or above 0 with neither a class head nor a curve, or the crop sides do not fit the canvas.
        """
        check_upsampling(upsampling)
        check_saturation(float(saturation))
        check_vivid(float(vivid), config, saturation_curve)
        if "full" not in variables:
            raise WeightsError(
                f"weights of {', '.join(variables) or 'nothing'} alone cannot color; tree full is missing"
            )
        check_crop_sides(tuple(crop_sides), config.side)
        self.config = config
        self.boxes_per_photo = boxes_per_photo
        self.crop_sides = tuple(crop_sides)
        self.upsampling: Upsampling = upsampling
        self.saturation = float(saturation)
        self.vivid = float(vivid)
        self.saturation_curve = saturation_curve
        self._predictor = Predictor(config, variables, cuda_graphs)
        self.uses_boxes = self._predictor.uses_crops
        """Whether boxes are cut out for the instance network; palettes and samples use them in any case."""

    @classmethod
    def from_pretrained(
        cls,
        weights: str | Path | None = None,
        boxes_per_photo: int = 8,
        cuda_graphs: bool = False,
        *,
        upsampling: Upsampling = "luma_slope",
        saturation: Real = 1.0,
        vivid: Real | None = None,
        crop_sides: Sequence[int] = (),
    ) -> Colorizer:
        """A colorizer with weights of the package or of a file; further arguments as those of the class.

        Args:
          weights: a ``.safetensors`` file or a folder of a training run (``weights.locate``), or the name of weights
            inside the package (``weights.packaged``); None: ``"default"``.
          boxes_per_photo: see the class.
          cuda_graphs: see the class.
          upsampling: see the class.
          saturation: see the class.
          vivid: None: as the file's field ``decode`` says.
          crop_sides: see the class.

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
            crop_sides=crop_sides,
        )

    @property
    def variables(self) -> networks.Variables:
        """The trees, on the device."""
        return self._predictor.variables

    @property
    def has_classes(self) -> bool:
        """Whether palettes and samples can be had."""
        return has_classes(self.config)

    def __call__(
        self,
        photo: PhotoInput,
        boxes: Any = None,
        scores: Any = None,
        hints: Sequence[Hint] | None = None,
        *,
        vivid: Real | None = None,
        saturation: Real | None = None,
    ) -> UInt8[np.ndarray, "H W 3"]:
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
    ) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        """Color photos of any sizes, in one call of the networks for those with boxes and one for those without.

        Args:
          photos: paths, PIL images, or NumPy or JAX arrays (H, W) or (H, W, 3) of uint8 or uint16: sRGB, upright.
          boxes: for each photo x0, y0, x1, y1 in its pixels, (N, 4), or None. Boxes are clipped to the photo; those
            that cannot be cropped (NaN, inverted, outside, of no size) are left out, with one warning a call; so are
            all of them where there is no instance network and no hint is for an object.
          scores: for each photo one score a box, or None: then the first boxes are the best.
          hints: for each photo colors that are given at points or for objects, or None. An object's number is its row
            in ``boxes``. They are shown to the full-image network, and to the instance network in the crops that they
            lie in; later ones lie over earlier ones.
          vivid: 0 to 1; None: the one given to the class.
          saturation: factor of the chroma; None: the one given to the class.

        Returns:
          Each photo at its own size, its L* kept to 0.5: where sRGB has no room for a color, it gets less chroma.

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
    ) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
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

        A few well separated modes of the class head's distribution over the object, the rebalancing of its training
        undone: a color of probability 0.3 is meant to be right for three objects of ten. One call of the networks for
        photos with boxes and one for those without.

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
        checked = [_checked_points(photo, of_photo) for photo, of_photo in zip(prepared, at, strict=True)]
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
    ) -> list[UInt8[np.ndarray, "H W 3"]]:
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
    ) -> list[list[UInt8[np.ndarray, "_ _ 3"]]]:
        """Results that differ object by object and are coherent inside each, the most probable first.

        One color of its palette is drawn for each object and for the background (``palette.draw_object_colors``), shown
        to the networks as hints at a few points inside, and regressed. A photo goes through the networks once for its
        distribution and once for each result, all photos at a time.

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
        results: list[list[np.ndarray]] = [[] for _ in prepared]
        for number in range(max(map(len, drawn), default=0)):
            rows = [i for i, of_photo in enumerate(drawn) if number < len(of_photo)]
            given = [drawn[i][number] for i in rows]
            for i, one in zip(rows, self._join([prepared[i] for i in rows], given, vivid, saturation), strict=True):
                results[i].append(one)
        return results

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
        check_photos(photos)
        none = [None] * len(photos)
        boxes, scores, hints = (none if given is None else given for given in (boxes, scores, hints))
        if not len(photos) == len(boxes) == len(scores) == len(hints):
            counts = f"{len(photos)} photos, {len(boxes)} sets of boxes, {len(scores)} of scores, {len(hints)} of hints"
            raise ValueError(f"{counts}: not the same")
        prepared = [
            prepare(
                *each,
                where=f"photo {number}" if len(photos) > 1 else "photo",
                side=self.config.side,
                boxes_per_photo=self.boxes_per_photo,
                with_crops=self.uses_boxes,
                crop_sides=self.crop_sides,
            )
            for number, each in enumerate(zip(photos, boxes, scores, hints, strict=True))
        ]
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
    ) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        """The photos in color, given hints."""
        return list(self._each(photos, hints, vivid, saturation))

    def _each(
        self, photos: Sequence[Prepared], hints: Sequence[PlacedHints], vivid: float, saturation: float
    ) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        """The photos in color, one after another."""
        annealed = vivid > 0 and self.saturation_curve is None
        found = self._predictor.colors(photos, hints, annealed=annealed)
        for photo, colors in zip(photos, found, strict=True):
            yield join(
                photo.rgb,
                mix_vivid(colors.ab, colors.annealed, self.saturation_curve, vivid),
                upsampling=self.upsampling,
                saturation=saturation,
            )


def _checked_points(photo: Prepared, points: Any) -> Float64[np.ndarray, "N 2"]:
    at = np.asarray(points, np.float64) if np.size(points) else np.zeros((0, 2))
    if at.ndim != 2 or at.shape[1] != 2:
        raise ValueError(f"points are (N, 2), not {at.shape}")
    outside = np.flatnonzero(~((at >= 0) & (at < np.array(photo.size))).all(axis=1))
    if len(outside):
        x, y = at[outside[0]].tolist()
        width, height = photo.size
        raise UserError(f"point {outside[0]} at {x:g}, {y:g}: outside the photo, which is {width} x {height} pixels")
    return at

"""From predicted ab to numbers, batch by batch, on the devices: pictures, their metrics, those of objects, features.

Every program is compiled once: pictures lie on canvases of one size, objects come in groups of one size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from jaxcolor import color, resample
from jaxcolor.batch import PADDING, Batch
from jaxcolor.config import EvalConfig
from jaxcolor.data.eval_targets import EvalTargets
from jaxcolor.evaluation import metrics
from jaxcolor.evaluation.controls import crop_of_object, photo_of_crop
from jaxcolor.evaluation.metrics import Metric, inception, registry
from jaxcolor.evaluation.predictors import INSTANCE
from jaxcolor.models.fusion import membership
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices

Scores = dict[str, jax.Array]
"""Metric -> one value for each photo, or object."""

OBJECTS_PER_GROUP = 8
"""Objects that a device measures at once, each under every system."""


class Choice(NamedTuple):
    """What is measured; hashable, as the key of compiled programs."""

    measured: tuple[Metric, ...]
    """Of each picture, in the order of reading."""
    side: int
    """Of the canvas that the pictures lie on."""
    object_side: int
    """Side to which each object is resized."""
    left_out: tuple[str, ...] = ()
    """Metrics for which the pictures are too small."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all that is measured of a photo."""
        return tuple(metric.name for metric in self.measured)

    @property
    def of_objects(self) -> tuple[str, ...]:
        """Names of all that is measured of an object."""
        return tuple(metric.name for metric in self.measured if metric.of_objects)

    @property
    def of_truth(self) -> tuple[str, ...]:
        """Names of all that is measured of the true photo too."""
        return tuple(metric.name for metric in self.measured if metric.of_truth)


def _weights_file(config: EvalConfig, metric: Metric) -> Path | None:
    """The file that a config names for a metric's weights."""
    name = getattr(config, metric.needs) if metric.needs else ""
    return Path(name) if name else None


def choose(config: EvalConfig, canvas: int) -> Choice:
    """What a config asks for.

    Raises:
      UserError: a name that is no metric, one whose weights are not named, or one that such small pictures do not have.
    """
    asked, named = registry.chosen(config)
    side = config.native_side if config.size == "native" else canvas
    least = min(side, canvas)
    if least < metrics.SSIM_WINDOW:
        raise UserError(f"evaluation needs a canvas of at least {metrics.SSIM_WINDOW} pixels for SSIM, not {least}")
    measured = [metric for metric in asked if metric.function is not None]
    too_small = [metric for metric in measured if least < metric.least_side()]
    refused = [metric for metric in too_small if metric.name in named]
    if refused:
        raise UserError(
            f"config.eval.metrics: {', '.join(metric.name for metric in refused)} needs pictures of at least "
            f"{max(metric.least_side() for metric in refused)} pixels each way, not {least}"
        )
    kept = tuple(metric for metric in measured if metric not in too_small)
    return Choice(kept, side, canvas, tuple(metric.name for metric in too_small))


def _shown(truth: jax.Array, size: jax.Array, ab: jax.Array) -> UInt8[jax.Array, "B H W 3"]:
    """The 8-bit sRGB pictures that are measured: the truth's own L* with ab, resized bilinearly to the photo's size."""
    lab = color.rgb_to_lab(color.unit_rgb(truth, jnp.float32))
    luminance, _ = color.normalize_lab(lab)
    height, width = truth.shape[1:3]
    zero = jnp.zeros_like(size)
    boxes = jnp.concatenate([zero, size[:, ::-1]], axis=1)
    placed = resample.paste(ab.astype(jnp.float32), boxes, height, width)
    inside = resample.inside(boxes, height, width)[..., None]
    rgb = color.quantize_rgb(color.lab_to_rgb(color.denormalize_lab(luminance, placed)))
    return jnp.where(inside, rgb, 0)


def _objects(
    boxes: Int[jax.Array, "M 4"], photo: Int[jax.Array, " M"], photos: int, side: int
) -> Bool[jax.Array, "B H W"]:
    """The union of each photo's boxes."""
    inside = resample.inside(boxes, side, side)
    return (membership(photo, photos)[:, :, None, None] & inside[None]).any(axis=1)


def score(
    choice: Choice,
    networks: Any,
    prediction: UInt8[jax.Array, "B H W 3"],
    truth: UInt8[jax.Array, "B H W 3"],
    size: Int[jax.Array, "B 2"],
    objects: Bool[jax.Array, "B H W"],
) -> Scores:
    """All that ``choice`` names, float32 (B,); NaN where a photo has no such pixels (``*_objects`` without boxes).

    Args:
      choice: what to measure.
      networks: metric -> its parameters, of those that have any.
      prediction: 8-bit pictures in the upper left corner.
      truth: theirs.
      size: height and width of each photo.
      objects: pixels in the union of its boxes.
    """
    masks = {"photo": {}, "objects": {"mask": objects}, "background": {"mask": ~objects}}
    return {
        metric.name: _function(metric, networks)(prediction, truth, size=size, **masks[metric.region])
        for metric in choice.measured
    }


def _function(metric: Metric, networks: Any) -> Callable[..., jax.Array]:
    assert metric.function is not None  # ``choose`` keeps only those that have one
    return metric.function if metric.load is None else functools.partial(metric.function, networks[metric.name])


def _cut(
    pictures: Sequence[UInt8[jax.Array, "K H W 3"]], boxes: Int[jax.Array, "K 4"], side: int
) -> UInt8[jax.Array, "K N S S 3"]:
    """A box of each of N pictures, resized bilinearly to a square and rounded to 8 bit."""
    rgb = jnp.stack(pictures).astype(jnp.float32)
    cut = jax.vmap(lambda each: resample.crop(each, boxes, side, side), out_axes=1)(rgb)
    return jnp.round(cut).astype(jnp.uint8)


def _score_objects(
    choice: Choice, networks: Any, cut: UInt8[jax.Array, "K N S S 3"], truth: UInt8[jax.Array, "K 1 S S 3"]
) -> Scores:
    """Objects cut out of the pictures of N systems, against those of the true photos; (K, N).

    Systems are an axis of ``vmap``: what depends on the truth alone, such as its features in LPIPS, is computed once.
    """

    def measured(rgb: UInt8[jax.Array, "K S S 3"]) -> Scores:
        return {m.name: _function(m, networks)(rgb, truth[:, 0], size=None) for m in choice.measured if m.of_objects}

    return jax.vmap(measured, in_axes=1, out_axes=1)(cut)


def _instance_pictures(
    truth: UInt8[jax.Array, "K H W 3"],
    size: Int[jax.Array, "K 2"],
    full_ab: Float[jax.Array, "K S S 2"],
    crop_ab: Float[jax.Array, "K S S 2"],
    crop_windows: Int[jax.Array, "K 4"],
) -> UInt8[jax.Array, "K H W 3"]:
    """The photo of each object with its crop's ab pasted where it was cut on the canvas, the full network's around."""
    side = full_ab.shape[1]
    pasted = resample.paste(crop_ab.astype(jnp.float32), crop_windows, side, side)
    inside = resample.inside(crop_windows, side, side)[..., None]
    return _shown(truth, size, jnp.where(inside, pasted, full_ab.astype(jnp.float32)))


class _Programs(NamedTuple):
    """Compiled for the devices."""

    shown: Callable[..., Any]
    score: Callable[..., Any]
    cut_objects: Callable[..., Any]
    cut_with_instance: Callable[..., Any]
    score_objects: Callable[..., Any]
    of_truth: Callable[..., Any]
    features: Callable[..., Any]


@functools.lru_cache(maxsize=4)
def _compiled(choice: Choice, devices: Devices) -> _Programs:
    """Kept, so that an evaluation every so many steps of a training run compiles once."""

    def shown(truth, size, ab):  # type: ignore[no-untyped-def]
        return (_shown(truth, size, ab),)

    def score_pictures(networks, prediction, truth, size, boxes, photo):  # type: ignore[no-untyped-def]
        objects = _objects(boxes, photo, truth.shape[0], truth.shape[1])
        return (score(choice, networks, prediction, truth, size, objects),)

    # Cut out by a program of its own: in one with the metrics XLA would cut anew at each of their many reads.
    def cut_objects(predictions, truth, photo, boxes):  # type: ignore[no-untyped-def]
        row, side = jnp.maximum(photo, 0), choice.object_side
        return _cut([rgb[row] for rgb in predictions], boxes, side), _cut([truth[row]], boxes, side)

    def cut_with_instance(predictions, truth, photo, boxes, crop, full_ab, crop_ab, windows, size):  # type: ignore[no-untyped-def]
        row, place, side = jnp.maximum(photo, 0), jnp.maximum(crop, 0), choice.object_side
        rgb = _instance_pictures(truth[row], size[row], full_ab[row], crop_ab[place], windows[place])
        return _cut([*(rgb[row] for rgb in predictions), rgb], boxes, side), _cut([truth[row]], boxes, side)

    def score_objects(networks, cut, truth):  # type: ignore[no-untyped-def]
        return (_score_objects(choice, networks, cut, truth),)

    def of_truth(truth, size):  # type: ignore[no-untyped-def]
        measured = [metric for metric in choice.measured if metric.of_truth]
        found = {m.name: _function(m, {})(truth, truth, size=size) for m in measured}
        return (found, metrics.mean_chroma(truth, size=size))

    def features(network, rgb, size):  # type: ignore[no-untyped-def]
        return (inception.features(network, rgb, size=size),)

    def compiled(function: Callable[..., Any], arguments: int, networks: bool = False, results: int = 1) -> Any:
        specs = (SPLIT,) * arguments
        return devices.map(function, in_specs=(REPLICATED, *specs) if networks else specs, out_specs=(SPLIT,) * results)

    return _Programs(
        shown=compiled(shown, 3),
        score=compiled(score_pictures, 5, networks=True),
        cut_objects=compiled(cut_objects, 4, results=2),
        cut_with_instance=compiled(cut_with_instance, 9, results=2),
        score_objects=compiled(score_objects, 2, networks=True),
        of_truth=compiled(of_truth, 2, results=2),
        features=compiled(features, 2, networks=True),
    )


class ObjectGroup(NamedTuple):
    """As many objects as every device measures at once, on the devices; -1 marks places left over."""

    photo: Any
    """The photo of its device that each belongs to, int32."""
    boxes: Any
    """x0, y0, width, height in pixels of the comparison."""
    crop: Any
    """The crop of its device that shows it (``controls.crop_of_object``), -1 where there is none."""


class Truth(NamedTuple):
    """A batch's ground truth, on the devices."""

    rgb: Any
    size: Any
    boxes: Any
    """Of the crops' objects, in pixels of the comparison."""
    photo: Any
    """Which photo of its device each crop belongs to."""
    crop_windows: Any
    """What the crops show, on the model's canvas: x0, y0, width, height."""
    objects: tuple[ObjectGroup, ...]
    object_rows: Int[np.ndarray, " n"]
    """The row of the batch that each object belongs to, in the order in which their scores come."""
    object_places: Int[np.ndarray, " n"]
    """Where in the groups, laid end to end, each object stands."""


class Scorer:
    """Measures pictures against the ground truth."""

    def __init__(self, config: EvalConfig, canvas: int, devices: Devices) -> None:
        """Reads the weights of perceptual metrics.

        Args:
          config: what to measure.
          canvas: side of the model's canvas.
          devices: where to run.

        Raises:
          UserError: what cannot be measured; weights that are none.
          OSError: a file cannot be read.
        """
        self.choice = choose(config, canvas)
        self.native = config.size == "native"
        self.per_object = config.per_object
        self._devices = devices
        networks = {
            metric.name: metric.load(_weights_file(config, metric))
            for metric in self.choice.measured
            if metric.load is not None
        }
        self._networks = devices.replicate(networks)
        self.has_fid = bool(config.inception)
        self._inception = devices.replicate(inception.load(Path(config.inception))) if self.has_fid else None
        self._programs = _compiled(self.choice, devices)

    def place(self, batch: Batch, targets: EvalTargets) -> Truth:
        """The ground truth of a batch, brought to the devices."""
        devices = self._devices
        owner = photo_of_crop(batch, devices.local_count)
        groups, rows, places = self._groups(targets, owner)
        return Truth(
            devices.split(targets.rgb),
            devices.split(targets.size),
            devices.split(targets.crop_boxes),
            devices.split(np.asarray(batch.crop_to_image)),
            devices.split(np.ascontiguousarray(np.asarray(batch.level_boxes)[:, 0])),
            tuple(ObjectGroup(*(devices.split(part) for part in group)) for group in groups),
            rows,
            places,
        )

    def _groups(
        self, targets: EvalTargets, owner: Int[np.ndarray, " M"]
    ) -> tuple[list[ObjectGroup], np.ndarray, np.ndarray]:
        """Objects in groups of which every device has ``OBJECTS_PER_GROUP`` places, -1 in those left over."""
        count = self._devices.local_count
        photos, crops = len(targets.rgb) // count, len(owner) // count
        per_device: list[list[tuple[int, np.ndarray, int]]] = [[] for _ in range(count)]
        for row, boxes in enumerate(targets.measured if self.per_object else ()):
            shown_by = crop_of_object(boxes, targets.crop_boxes, owner == row)
            own = zip(boxes, np.where(shown_by >= 0, shown_by % max(crops, 1), -1).tolist(), strict=True)
            per_device[row // photos] += [(row % photos, box, crop) for box, crop in own]
        needed = max((-(-len(objects) // OBJECTS_PER_GROUP) for objects in per_device), default=0)
        # Every process runs as many programs as the others.
        needed = max(self._devices.gather(needed))
        groups, rows, places = [], [], []
        for number in range(needed):
            photo = np.full((count, OBJECTS_PER_GROUP), PADDING, np.int32)
            box = np.tile(np.array([0, 0, 1, 1], np.int32), (count, OBJECTS_PER_GROUP, 1))
            crop = np.full((count, OBJECTS_PER_GROUP), PADDING, np.int32)
            for device, objects in enumerate(per_device):
                part = objects[number * OBJECTS_PER_GROUP : (number + 1) * OBJECTS_PER_GROUP]
                for place, (of_device, one, its_crop) in enumerate(part):
                    photo[device, place], box[device, place], crop[device, place] = of_device, one, its_crop
                    rows.append(device * photos + of_device)
                    places.append((number * count + device) * OBJECTS_PER_GROUP + place)
            groups.append(ObjectGroup(photo.reshape(-1), box.reshape(-1, 4), crop.reshape(-1)))
        return groups, np.array(rows, np.int64), np.array(places, np.int64)

    def _host(self, tree: Any) -> Any:
        return self._devices.fetch(tree, SPLIT)

    def pictures(self, truth: Truth, ab: Any) -> Any:
        """Predicted ab (B, S, S, 2) as the pictures (B, H, W, 3) that are measured; both on the devices."""
        with jax.default_matmul_precision("highest"):
            (rgb,) = self._programs.shown(truth.rgb, truth.size, ab)
        return rgb

    def score(self, truth: Truth, rgb: Any) -> dict[str, np.ndarray]:
        """Metric -> (B,) on the host."""
        with jax.default_matmul_precision("highest"):
            (found,) = self._programs.score(self._networks, rgb, truth.rgb, truth.size, truth.boxes, truth.photo)
        host = self._host(found)
        return {name: host[name] for name in self.choice.metrics}

    def of_truth(self, truth: Truth) -> tuple[dict[str, np.ndarray], Float[np.ndarray, " B"]]:
        """What is measured of the true photos, metric -> (B,); and their mean chroma (``metrics.mean_chroma``)."""
        found, chroma = self._programs.of_truth(truth.rgb, truth.size)
        return dict(self._host(found)), self._host(chroma)

    def score_objects(
        self, truth: Truth, pictures: Mapping[str, Any], instance: tuple[Any, Any] | None = None
    ) -> dict[str, dict[str, np.ndarray]]:
        """System -> metric -> one value for each of ``object_rows``.

        Args:
          truth: of the batch.
          pictures: system -> pictures, as ``score`` takes them.
          instance: ab of the full-image network (B, S, S, 2) and of the instance network (M, S, S, 2), on the devices,
            to measure what the latter alone says: the ab of an object's crop is pasted where the crop was cut, with the
            full-image network's around it. NaN for objects that no crop shows.
        """
        systems = (*pictures, *([INSTANCE] if instance is not None else []))
        programs, found = self._programs, []
        with jax.default_matmul_precision("highest"):
            for group in truth.objects:
                own = (tuple(pictures.values()), truth.rgb, group.photo, group.boxes)
                if instance is None:
                    cut = programs.cut_objects(*own)
                else:
                    cut = programs.cut_with_instance(*own, group.crop, *instance, truth.crop_windows, truth.size)
                found.append(self._host(programs.score_objects(self._networks, *cut)[0]))
        places = truth.object_places
        none = {name: np.zeros((0, len(systems))) for name in self.choice.of_objects}
        joined = {name: np.concatenate([group[name] for group in found or [none]])[places] for name in none}
        scores = {system: {name: values[:, i] for name, values in joined.items()} for i, system in enumerate(systems)}
        if instance is not None and found:
            shown = np.concatenate([self._host(group.crop) for group in truth.objects])[places] >= 0
            scores[INSTANCE] = {name: np.where(shown, v, np.nan) for name, v in scores[INSTANCE].items()}
        return scores

    def features(self, truth: Truth, rgb: Any) -> Float[np.ndarray, "B 2048"]:
        """What FID compares."""
        with jax.default_matmul_precision("highest"):
            (found,) = self._programs.features(self._inception, rgb, truth.size)
        host: np.ndarray = self._host(found)
        return host

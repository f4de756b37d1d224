"""From colours to numbers, batch by batch, on the devices: pictures, their metrics, those of their objects, features.

Every program is compiled once: compared pictures lie on canvases of one size, objects come in groups of one size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
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
from jaxcolor.evaluation.controls import photo_of_crop
from jaxcolor.evaluation.metrics import inception, lpips
from jaxcolor.models.fusion import membership
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices

Scores = dict[str, jax.Array]
"""Metric -> one value a photo, or an object."""

BASIC = ("psnr", "ssim", "psnr_objects", "ssim_objects", "psnr_background", "ssim_background")
"""Always measured: of the whole picture, inside the union of the boxes that are in the batch, and outside it."""
COLORFULNESS = ("colorfulness_hs", "colorfulness_abs")
"""Measured of the truth, too."""
PER_OBJECT = ("psnr", "ssim")
"""Of each annotated object by itself, with the LPIPS that are measured."""
OBJECTS_A_GROUP = 16
"""Objects that a device measures at once."""

_MORE: dict[str, Callable[..., jax.Array]] = {
    "psnr_ab": metrics.psnr_ab,
    "ssim_uniform7": metrics.ssim_uniform7,
    "delta_e_2000": metrics.delta_e_2000,
    "colorfulness_hs": lambda prediction, truth, size: metrics.colorfulness_hs(prediction, size=size),
    "colorfulness_abs": lambda prediction, truth, size: metrics.colorfulness_abs(prediction, size=size),
}
_NETS: dict[str, lpips.Net] = {"lpips_alex": "alex", "lpips_squeeze": "squeeze", "lpips_vgg": "vgg"}


def _trunk_files(config: EvalConfig) -> dict[str, str]:
    """Metric -> the file of its network's weights, where one is named."""
    files = {"lpips_squeeze": config.lpips_squeeze, "lpips_vgg": config.lpips_vgg}
    return {name: path for name, path in files.items() if path}


class Choice(NamedTuple):
    """What is measured; hashable, for compiled programs to be kept by."""

    more: tuple[str, ...]
    """Beyond ``BASIC``."""
    side: int
    """Of the canvas that compared pictures lie on."""
    object_side: int
    """Side to which each object is resized."""
    left_out: tuple[str, ...] = ()
    """Metrics for which the pictures are too small."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """All that is measured of a photo."""
        return (*BASIC, *self.more)

    @property
    def of_objects(self) -> tuple[str, ...]:
        """All that is measured of an object."""
        return (*PER_OBJECT, *(name for name in self.more if name in _NETS))


def choose(config: EvalConfig, canvas: int) -> Choice:
    """What a config asks for.

    Raises:
      UserError: a name that is no metric, or one whose weights are not named.
    """
    asked = config.metrics
    if isinstance(asked, str):
        asked = tuple(name.strip() for name in asked.split(",") if name.strip())
    everything = asked == ("all",)
    files = _trunk_files(config)
    available = {name for name, net in _NETS.items() if name in files or lpips.is_available(net)}
    names = {*((*available, *_MORE) if everything else asked), *files} - set(BASIC)
    known = (*_NETS, *_MORE)
    for name in sorted(names - set(known)):
        raise UserError(f"config.eval.metrics: there is no metric {name!r}; there are {', '.join(known)}")
    for name in sorted((names & set(_NETS)) - available):
        raise UserError(
            f"config.eval.metrics: {name} needs the weights of its trunk, whose file config.eval.{name} names: "
            f"{lpips.how_to_get(_NETS[name])}"
        )
    side = config.native_side if config.size == "native" else canvas
    if min(side, canvas) < metrics.SSIM_WINDOW:
        raise UserError(
            f"evaluation needs a canvas of at least {metrics.SSIM_WINDOW} pixels for SSIM, not {min(side, canvas)}"
        )
    too_small = {name for name in names & set(_NETS) if min(side, canvas) < lpips.least_side(_NETS[name])}
    if too_small and not everything:
        least = max(lpips.least_side(_NETS[name]) for name in too_small)
        raise UserError(
            f"config.eval.metrics: {', '.join(sorted(too_small))} needs pictures of at least {least} pixels each way, "
            f"not {min(side, canvas)}"
        )
    names -= too_small
    return Choice(tuple(name for name in known if name in names), side, canvas, tuple(sorted(too_small)))


def _shown(truth: jax.Array, size: jax.Array, ab: jax.Array) -> UInt8[jax.Array, "B H W 3"]:
    """The 8-bit sRGB pictures that are compared: the truth's own L* with ab, resized bilinearly to the photo's size."""
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
      networks: of LPIPS, by metric.
      prediction: 8-bit pictures in the upper left corner.
      truth: theirs.
      size: height and width of each photo.
      objects: pixels in the union of its boxes.
    """
    whole = metrics.extent_mask(size, *truth.shape[1:3])
    similarity = metrics.ssim_map(prediction, truth)
    windows = metrics.extent_mask(metrics.whole_windows(size, metrics.SSIM_WINDOW), *similarity.shape[1:3])
    inner = metrics.inner(objects)
    found = {
        "psnr": metrics.psnr(prediction, truth, whole),
        "ssim": metrics.masked_mean(similarity, windows),
        "psnr_objects": metrics.psnr(prediction, truth, objects & whole),
        "ssim_objects": metrics.masked_mean(similarity, inner & windows),
        "psnr_background": metrics.psnr(prediction, truth, ~objects & whole),
        "ssim_background": metrics.masked_mean(similarity, ~inner & windows),
    }
    for name in choice.more:
        if name in _NETS:
            found[name] = lpips.lpips(networks[name], _NETS[name], prediction, truth, size=size)
        else:
            found[name] = _MORE[name](prediction, truth, size=size)
    return found


def _score_objects(
    choice: Choice, networks: Any, prediction: jax.Array, truth: jax.Array, photo: jax.Array, boxes: jax.Array
) -> Scores:
    """Each object cut out of both pictures, resized to a square and rounded to 8 bit; (K,)."""
    side = choice.object_side

    def cut(rgb: jax.Array) -> jax.Array:
        of_photo = rgb[jnp.maximum(photo, 0)].astype(jnp.float32)
        return jnp.round(resample.crop(of_photo, boxes, side, side)).astype(jnp.uint8)

    shown, true = cut(prediction), cut(truth)
    found = {"psnr": metrics.psnr(shown, true), "ssim": metrics.ssim(shown, true)}
    return found | {
        name: lpips.lpips(networks[name], _NETS[name], shown, true)
        for name in choice.of_objects
        if name not in PER_OBJECT
    }


class _Programs(NamedTuple):
    """Compiled for the devices."""

    shown: Callable[..., Any]
    score: Callable[..., Any]
    score_objects: Callable[..., Any]
    of_truth: Callable[..., Any]
    features: Callable[..., Any]


@functools.lru_cache(maxsize=4)
def _compiled(choice: Choice, devices: Devices) -> _Programs:
    """Kept, so that an evaluation every so many steps of a training run compiles once."""

    def score_pictures(networks, prediction, truth, size, boxes, photo):  # type: ignore[no-untyped-def]
        objects = _objects(boxes, photo, truth.shape[0], truth.shape[1])
        return (score(choice, networks, prediction, truth, size, objects),)

    def of_truth(truth, size):  # type: ignore[no-untyped-def]
        measured = [name for name in COLORFULNESS if name in choice.more]
        return ({name: _MORE[name](truth, truth, size=size) for name in measured},)

    return _Programs(
        devices.map(lambda *args: (_shown(*args),), in_specs=(SPLIT,) * 3, out_specs=(SPLIT,)),
        devices.map(score_pictures, in_specs=(REPLICATED, *(SPLIT,) * 5), out_specs=(SPLIT,)),
        devices.map(
            lambda *args: (_score_objects(choice, *args),), in_specs=(REPLICATED, *(SPLIT,) * 4), out_specs=(SPLIT,)
        ),
        devices.map(of_truth, in_specs=(SPLIT, SPLIT), out_specs=(SPLIT,)),
        devices.map(
            lambda network, rgb, size: (inception.features(network, rgb, size=size),),
            in_specs=(REPLICATED, SPLIT, SPLIT),
            out_specs=(SPLIT,),
        ),
    )


class Truth(NamedTuple):
    """A batch's truth, on the devices."""

    rgb: Any
    size: Any
    boxes: Any
    """Of the crops in the batch, on the grid of the comparison."""
    photo: Any
    """Which photo of its device each crop belongs to."""
    objects: tuple[tuple[Any, Any], ...]
    """Groups of annotated objects: the photo of its device that each belongs to, and its box."""
    object_rows: Int[np.ndarray, " n"]
    """The row of the batch that each object belongs to, in the order in which their scores come."""
    object_places: Int[np.ndarray, " n"]
    """Where in the groups, laid end to end, each object stands."""


class Scorer:
    """Measures pictures against the truth."""

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
        files = _trunk_files(config)
        networks = {name: lpips.load(net, files.get(name)) for name, net in _NETS.items() if name in self.choice.more}
        self._networks = devices.replicate(networks)
        self.has_fid = bool(config.inception)
        self._inception = devices.replicate(inception.load(Path(config.inception))) if self.has_fid else None
        self._programs = _compiled(self.choice, devices)

    def place(self, batch: Batch, compared: EvalTargets) -> Truth:
        """The truth of a batch, brought to the devices."""
        devices = self._devices
        owner = photo_of_crop(batch, devices.local_count)
        # From the canvas of the model to the grid of the comparison: the boxes that the model was given.
        size = compared.size[np.maximum(owner, 0)][:, ::-1]
        scale = np.concatenate([size, size], axis=1) / batch.full_rgb.shape[1]
        given = np.asarray(batch.level_boxes)[:, 0].astype(np.float64)
        start = np.floor(given[:, :2] * scale[:, :2])
        end = np.ceil((given[:, :2] + given[:, 2:]) * scale[:, :2])
        boxes = np.concatenate([start, end - start], axis=1).astype(np.int32) if len(given) else np.zeros((0, 4), "i4")
        groups, rows, places = self._groups(compared)
        rgb, on_canvas = devices.split(compared.rgb), devices.split(compared.size)
        return Truth(
            rgb,
            on_canvas,
            devices.split(boxes),
            devices.split(np.asarray(batch.crop_to_image)),
            tuple((devices.split(photo), devices.split(box)) for photo, box in groups),
            rows,
            places,
        )

    def _groups(self, compared: EvalTargets) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray, np.ndarray]:
        """Annotated objects in groups of which every device has ``OBJECTS_A_GROUP`` places, -1 in those left over."""
        count = self._devices.local_count
        photos = len(compared.rgb) // count
        found = [
            (row // photos, row % photos, box)
            for row, boxes in enumerate(compared.objects if self.per_object else ())
            for box in boxes
        ]
        per_device = [[(photo, box) for device, photo, box in found if device == d] for d in range(count)]
        needed = max((-(-len(objects) // OBJECTS_A_GROUP) for objects in per_device), default=0)
        # Every process runs as many programs as the others.
        needed = max(self._devices.gather(needed))
        groups, rows, places = [], [], []
        for number in range(needed):
            photo = np.full((count, OBJECTS_A_GROUP), PADDING, np.int32)
            box = np.tile(np.array([0, 0, 1, 1], np.int32), (count, OBJECTS_A_GROUP, 1))
            for device, objects in enumerate(per_device):
                part = objects[number * OBJECTS_A_GROUP : (number + 1) * OBJECTS_A_GROUP]
                for place, (of_device, one) in enumerate(part):
                    photo[device, place], box[device, place] = of_device, one
                    rows.append(device * photos + of_device)
                    places.append((number * count + device) * OBJECTS_A_GROUP + place)
            groups.append((photo.reshape(-1), box.reshape(-1, 4)))
        return groups, np.array(rows, np.int64), np.array(places, np.int64)

    def _host(self, tree: Any) -> Any:
        return self._devices.fetch(tree, SPLIT)

    def pictures(self, truth: Truth, ab: Any) -> Any:
        """Colours (B, S, S, 2) as the pictures (B, H, W, 3) that are compared; both on the devices."""
        with jax.default_matmul_precision("highest"):
            (rgb,) = self._programs.shown(truth.rgb, truth.size, ab)
        return rgb

    def score(self, truth: Truth, rgb: Any) -> dict[str, np.ndarray]:
        """Metric -> (B,) on the host."""
        with jax.default_matmul_precision("highest"):
            (found,) = self._programs.score(self._networks, rgb, truth.rgb, truth.size, truth.boxes, truth.photo)
        return {name: self._host(found)[name] for name in self.choice.metrics}

    def of_truth(self, truth: Truth) -> dict[str, np.ndarray]:
        """What is measured of the true photos: ``COLORFULNESS``."""
        (found,) = self._programs.of_truth(truth.rgb, truth.size)
        return dict(self._host(found))

    def score_objects(self, truth: Truth, rgb: Any) -> dict[str, np.ndarray]:
        """Metric -> one value for each of ``object_rows``."""
        if not truth.objects:
            return {name: np.zeros(0) for name in self.choice.of_objects}
        groups = []
        for photo, boxes in truth.objects:
            with jax.default_matmul_precision("highest"):
                (found,) = self._programs.score_objects(self._networks, rgb, truth.rgb, photo, boxes)
            groups.append(self._host(found))
        return {
            name: np.concatenate([group[name] for group in groups])[truth.object_places]
            for name in self.choice.of_objects
        }

    def features(self, truth: Truth, rgb: Any) -> Float[np.ndarray, "B 2048"]:
        """What FID compares."""
        with jax.default_matmul_precision("highest"):
            (found,) = self._programs.features(self._inception, rgb, truth.size)
        host: np.ndarray = self._host(found)
        return host

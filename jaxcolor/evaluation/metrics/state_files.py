"""State dicts of networks that others trained: one reader for the three kinds of files, one strict check.

The published files are PyTorch's; an ``.npz`` or ``.safetensors`` file with the same names can be read without PyTorch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from jaxcolor.runtime.regular_file import DAMAGED, open_regular
from jaxcolor.weights.reference import Shape, WeightsError, mismatches, read_pth

State = dict[str, np.ndarray]


def read_state(path: str | Path) -> State:
    """Names and arrays of a ``.npz``, ``.safetensors``, ``.pth`` or ``.pt`` file; no code in it is run.

    Raises:
      OSError: no such file, or it cannot be read.
      WeightsError: another ending, PyTorch is missing for ``.pth``, or the file is damaged; one line that names it.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path], State]] = {
        ".npz": _read_npz,
        ".safetensors": _read_safetensors,
        ".pth": read_pth,
        ".pt": read_pth,
    }
    with open_regular(path):  # its errors name the file; those of the libraries do not
        pass
    if path.suffix not in readers:
        raise WeightsError(f"{path}: weights are read from {', '.join(readers)} files")
    return readers[path.suffix](path)


def _read_npz(path: Path) -> State:
    try:
        # Opened here: of a damaged archive NumPy leaves the file open.
        with open_regular(path) as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except DAMAGED as error:
        raise WeightsError(f"{path}: damaged, cut short or not an .npz file of plain arrays ({error})") from error


def _read_safetensors(path: Path) -> State:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged, cut short or not a safetensors file ({error})") from error
    except AttributeError as error:  # its numbers are of a type that NumPy does not have
        raise WeightsError(f"{path}: weights must be float32 ({error})") from error


def check_state(state: Mapping[str, np.ndarray], expected: Mapping[str, Shape], ignored: str, where: str) -> State:
    """The expected arrays of a state dict, all of them float32 and finite.

    Args:
      state: name -> array.
      expected: name -> shape of all that is read.
      ignored: pattern of the names that the published file has and nothing reads.
      where: what it is and where from; begins the message.

    Raises:
      WeightsError: arrays missing, left over, of another shape or type, or not finite, all of them listed.
    """
    used = {name: array for name, array in state.items() if not re.fullmatch(ignored, name)}
    problems = mismatches(expected, {name: array.shape for name, array in used.items()})
    fitting = {name: array for name, array in used.items() if name in expected}
    problems += [
        f"! wrong type: {name} is {array.dtype}, expected float32"
        for name, array in fitting.items()
        if array.dtype != np.float32
    ]
    problems += [
        f"! not finite: {name} holds NaN or infinity"
        for name, array in fitting.items()
        if array.dtype == np.float32 and not np.isfinite(array).all()
    ]
    if problems:
        raise WeightsError("\n  ".join([where, *problems]))
    return fitting

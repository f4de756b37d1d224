"""The reference's PyTorch weights: reading ``.pth`` files, strict translation to our variables and back.

A ``.pth`` file is a pickle, and unpickling can run any code. ``read_pth`` therefore lets PyTorch rebuild tensors only
(``weights_only=True``); a file that asks for anything else is refused. PyTorch is an optional extra, imported where a
file is read; the translation needs NumPy alone.

The backbone of the reference is ``siggraph17``, so a file of its full branch and the file of the ``colorizers`` package
(richzhang/colorization) have the same keys and shapes, and nothing in their arrays says which is which. But where a
pixel has no color hint, the reference's mask is -0.5 and that of ``colorizers`` is 0. Weights read as the wrong form
color everything a little wrong, so the form must be known: from the file's name or checksum, or be given. The arrays
stay as they are in either form; ``ModelConfig.hint_mask`` says which mask the networks are fed.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from flax import traverse_util

from jaxcolor.config import ModelConfig
from jaxcolor.hints import HintMask
from jaxcolor.models import networks
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.regular_file import open_regular
from jaxcolor.weights import names

Shape = tuple[int, ...]
Form = Literal["auto", "reference", "siggraph17"]
"""What a ``.pth`` file of the full branch is; ``auto``: to be found out."""

SIGGRAPH_NAME = "siggraph17"
SIGGRAPH_CHECKSUM = "df00044c"
"""First digits of the SHA-256 of the package's file: PyTorch's hub names it siggraph17-df00044c.pth."""

_TORCH_MISSING = "reading .pth files needs PyTorch: pip install 'jaxcolor[torch]'"


class WeightsError(UserError):
    """Weights that cannot be used: a file that is not what it should be, or arrays that do not fit (all listed)."""


class Translated(NamedTuple):
    """One tree of variables, and the reference's arrays that no computation reads."""

    variables: dict[str, Any]
    unused: dict[str, np.ndarray]


class Reference(NamedTuple):
    """What the reference's files hold."""

    variables: dict[str, Any]
    """Tree -> {"params": …, "batch_stats": …}, NumPy arrays."""
    unused: dict[str, dict[str, np.ndarray]]
    """Tree -> reference key -> array that no computation reads."""
    hint_mask: HintMask = "reference"
    """The hint mask that the weights were trained with: what ``ModelConfig.hint_mask`` must be for them."""


@functools.lru_cache(maxsize=8)
def tree_shapes(config: ModelConfig) -> dict[str, dict[tuple[str, ...], Shape]]:
    """Tree -> path in it (from the collection on) -> shape, for the networks of a config. Not to be changed."""
    # float32, because tracing float64 warns unless jax_enable_x64 is set; shapes do not depend on it.
    shapes = networks.abstract(dataclasses.replace(config, compute_dtype="float32"))
    return {
        tree: {path: leaf.shape for path, leaf in traverse_util.flatten_dict(shapes[tree]).items()} for tree in shapes
    }


def mismatches(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> list[str]:
    """One line for every array that is missing (-), left over (+) or of another shape (!), in that order."""
    missing = [f"- missing: {name} {shape}" for name, shape in expected.items() if name not in found]
    extra = [f"+ left over: {name} {shape}" for name, shape in found.items() if name not in expected]
    misshaped = [
        f"! wrong shape: {name} is {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    return missing + extra + misshaped


def _reference_shapes(tree: str) -> dict[str, Shape]:
    """Reference key -> shape in the reference's layout, of every array that we compute with."""
    shapes = tree_shapes(ModelConfig())[tree]
    return {
        entry.reference: names.to_reference(np.broadcast_to(0, shapes[entry.collection, *entry.path])).shape
        for entry in names.ENTRIES[tree]
    }


def variables_from_state(tree: str, state: Mapping[str, np.ndarray], where: str = "") -> Translated:
    """A state dict of the reference as our tree ``full``, ``instance`` or ``fusion``.

    A leading ``module.`` (of ``nn.DataParallel``) is taken off every key. Arrays keep their type; they may be views.

    Args:
      tree: which of the trees.
      state: reference key -> array in the reference's layout (O I H W; transposed convolutions I O H W).
      where: named in errors, e.g. the file.

    Raises:
      WeightsError: keys missing, left over, of another shape, not of floating type or not finite, all of them listed.
    """
    stripped = {key.removeprefix("module."): value for key, value in state.items()}
    unused = {key: value for key, value in stripped.items() if names.UNUSED[tree].fullmatch(key)}
    used = {key: value for key, value in stripped.items() if key not in unused}
    expected = _reference_shapes(tree)
    problems = [
        f"+ left over: {key} (there is {key.removeprefix('module.')} too)"
        for key in state
        if key.startswith("module.") and key.removeprefix("module.") in state
    ]
    problems += mismatches(expected, {key: value.shape for key, value in used.items()})
    problems += [
        f"! wrong type: {key} is {value.dtype}, expected a floating type"
        for key, value in used.items()
        if key in expected and not np.issubdtype(value.dtype, np.floating)
    ]
    problems += [
        f"! not finite: {key} holds NaN or infinity"
        for key, value in used.items()
        if key in expected and np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all()
    ]
    if problems:
        title = f"{where or tree}: not the weights of the reference's {names.REFERENCE_NETWORKS[tree]}"
        raise WeightsError("\n  ".join([title, *problems]))
    arrays = {
        (entry.collection, *entry.path): names.from_reference(used[entry.reference]) for entry in names.ENTRIES[tree]
    }
    return Translated(traverse_util.unflatten_dict(arrays), unused)


def state_from_variables(
    tree: str,
    variables: Mapping[str, Any],
    unused: Mapping[str, np.ndarray] | None = None,
    *,
    module_prefix: bool = False,
) -> dict[str, np.ndarray]:
    """The inverse of ``variables_from_state``: a state dict of the reference, in its names and layouts.

    Args:
      tree: which of the trees.
      variables: that tree, {"params": …, "batch_stats": …}, of the reference's architecture.
      unused: the reference's arrays that no computation reads, as ``variables_from_state`` gave them.
      module_prefix: put ``module.`` before every key, as the authors' GF file has it.

    Raises:
      WeightsError: arrays missing, left over or of another shape, or ``unused`` names keys that are none of those
        the reference has and we do not compute, all of them listed.
    """
    flat = traverse_util.flatten_dict(dict(variables))
    expected = {"/".join(path): shape for path, shape in tree_shapes(ModelConfig())[tree].items()}
    problems = mismatches(expected, {"/".join(path): np.shape(value) for path, value in flat.items()})
    unused = unused or {}
    problems += [f"+ left over: {key}, kept as unused" for key in unused if not names.UNUSED[tree].fullmatch(key)]
    if problems:
        title = f"{tree}: not variables of the reference's {names.REFERENCE_NETWORKS[tree]}"
        raise WeightsError("\n  ".join([title, *problems]))
    state = {
        entry.reference: np.asarray(names.to_reference(np.asarray(flat[entry.collection, *entry.path])), order="C")
        for entry in names.ENTRIES[tree]
    }
    prefix = "module." if module_prefix else ""
    return {f"{prefix}{key}": value for key, value in {**state, **unused}.items()}


def load(source: str | Path, form: Form = "auto") -> Reference:
    """The reference's weights, or those of ``siggraph17``, as our variables.

    Args:
      source: a folder with the three ``latest_net_*.pth`` files (all trees), or one ``.pth`` file of the full branch
        (tree ``full`` only).
      form: what one file is, where neither its name nor its checksum says so.

    Raises:
      OSError: no such file or folder, or it cannot be read.
      WeightsError: the folder lacks a file, PyTorch is not installed, a file is not what it should be, or its
        form is not known.
    """
    source = Path(source)
    if not source.is_dir():
        _refuse_other_branches(source, form)
        full = variables_from_state("full", read_pth(source), str(source))
        return Reference({"full": full.variables}, {"full": full.unused}, _form(source, form))
    if form == "siggraph17":
        raise WeightsError(f"{source}: is a folder; siggraph17 is one .pth file")
    paths = {tree: source / name for tree, name in names.REFERENCE_FILES.items()}
    absent = [path.name for path in paths.values() if not path.is_file()]
    if absent:
        raise WeightsError(
            f"{source}: no {', '.join(absent)} in this folder, which must hold all of "
            f"{', '.join(names.REFERENCE_FILES.values())} (for the full branch alone, give its .pth file instead)"
        )
    translated = {tree: variables_from_state(tree, read_pth(path), str(path)) for tree, path in paths.items()}
    return Reference(
        {tree: t.variables for tree, t in translated.items()}, {tree: t.unused for tree, t in translated.items()}
    )


def _refuse_other_branches(path: Path, form: Form) -> None:
    """GComp and G have the same keys, so only the name can show that this is the wrong one."""
    branches = {names.REFERENCE_FILES[tree]: tree for tree in ("instance", "fusion")}
    if form == "auto" and path.name in branches:
        raise WeightsError(
            f"{path}: by its name this is the {branches[path.name]} branch; one file alone must be the full branch, "
            f"{names.REFERENCE_FILES['full']}. For all three give their folder. If it is a full branch all the same "
            "(the reference's siggraph_retrained is), say that its form is 'reference': --form of jaxcolor convert, "
            "--config.start_form in training"
        )


def _form(path: Path, form: Form) -> HintMask:
    """The form of one file: as given, or by its name or checksum."""
    found = form_of(path) if form == "auto" else form
    if found is None:
        raise WeightsError(
            f"{path}: the reference's full branch and siggraph17 of the colorizers package have the same keys but "
            "another hint mask, and this name is of neither; say that its form is 'reference' (mask -0.5 without a "
            "hint) or 'siggraph17' (mask 0, as Caffe's): --form of jaxcolor convert, --config.start_form in training"
        )
    return found


def form_of(path: Path) -> HintMask | None:
    """The form of a ``.pth`` file of the full branch; None if neither its name nor its checksum is a known one.

    Raises:
      OSError: the file cannot be read.
    """
    if path.name == names.REFERENCE_FILES["full"]:
        return "reference"
    if path.name.startswith(SIGGRAPH_NAME):
        return "siggraph17"
    with open_regular(path) as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    return "siggraph17" if checksum.startswith(SIGGRAPH_CHECKSUM) else None


def read_pth(path: str | Path) -> dict[str, np.ndarray]:
    """A state dict from a ``.pth`` file, in the zip format or the one before PyTorch 1.6, without running any code.

    float16 and bfloat16 are widened to float32, which loses nothing; integers (``num_batches_tracked``) stay.

    Raises:
      OSError: the file cannot be opened.
      WeightsError: PyTorch is not installed; the file is damaged, holds other objects than tensors, or is not a
        state dict of real numbers. One line that names the file.
    """
    with open_regular(path) as file:
        loaded = _load_tensors(file, path)
    if not isinstance(loaded, Mapping) or not loaded:
        kind = f"a {type(loaded).__name__}" if not isinstance(loaded, Mapping) else "nothing"
        raise WeightsError(f"{path}: holds {kind}, not a state dict (names and tensors)")
    return {key: _array(key, value, path) for key, value in loaded.items()}


def _load_tensors(file: BinaryIO, path: str | Path) -> Any:
    """Whatever of tensors, containers and plain values the file holds."""
    try:
        import torch
    except ImportError as error:
        raise WeightsError(f"{path}: {_TORCH_MISSING}") from error

    start = file.read(16)
    file.seek(0)
    # A zip archive, or a bare pickle. A web page saved as .pth or a git-lfs pointer deserves a plainer message than
    # the KeyError that the unpickler ends in.
    if not start.startswith((b"PK\x03\x04", b"\x80")):
        raise WeightsError(f"{path}: not a file that PyTorch saved (it begins with {start!r})")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols and storages: nothing a reader can act on
            return torch.load(file, map_location="cpu", weights_only=True)
    # Damaged files end in RuntimeError, EOFError, KeyError, IndexError, OSError (seeking before the start) and more.
    except Exception as error:
        foreign = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if foreign:
            raise WeightsError(
                f"{path}: holds a Python object ({foreign[1]}), not only tensors; it was not read, since loading it "
                "could run any code. Save the network's state_dict() alone"
            ) from error
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:160]
        raise WeightsError(
            f"{path}: damaged, cut short or not a file that PyTorch saved ({type(error).__name__}: {reason})"
        ) from error


def _array(key: Any, value: Any, path: str | Path) -> np.ndarray:
    """One entry of a state dict as an array."""
    import torch

    if not isinstance(key, str) or not isinstance(value, torch.Tensor):
        raise WeightsError(f"{path}: not a state dict: {key!r} holds a {type(value).__name__}, not a tensor")
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        raise WeightsError(f"{path}: {key} is not a plain dense tensor")
    if value.dtype in (torch.float16, torch.bfloat16):
        value = value.to(torch.float32)
    if value.dtype.is_complex or (value.dtype.is_floating_point and value.dtype != torch.float32):
        raise WeightsError(f"{path}: {key} is {str(value.dtype).removeprefix('torch.')}; weights must be float32")
    return value.detach().numpy()

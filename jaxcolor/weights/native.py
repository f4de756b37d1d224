"""Our own format of weights: one safetensors file that says which networks it is for.

Arrays are named by tree, collection and path (``full/params/conv1_1/kernel``); the reference's arrays that no
computation reads are stored beside them (``reference_unused/fusion/weight_layerout.…``), so that nothing is lost when
they are exported again. The file's metadata holds one JSON text under ``jaxcolor``: format and package version, the
``ModelConfig``, which trees there are, a note, how colors are decoded by default, a saturation curve or null, how
arrays are stored, and the ``BoxHeadConfig`` of the head that finds objects or null; its arrays are named
``box_head/params/…``. Arrays are float32, also for ``compute_dtype`` bfloat16, whose parameters are float32; for
``compute_dtype`` float64 they are float64. In ``int8`` and ``int6`` storage large kernels have few bits, and scales
beside them (``weights.storage``); ``load`` gives them as floats again. No other type is written or read. Arrays that
trees share are stored once, and are the same NumPy arrays when they are read (``weights.aliases``).

The ``ModelConfig`` may name code by dotted paths: a backbone, output heads, a fusion strategy of the user's. Reading a
file imports none of it: what the process has imported already is used, other files are refused.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

import jaxcolor
from jaxcolor.color import SaturationCurve
from jaxcolor.config import BoxHeadConfig, ConfigError, ModelConfig
from jaxcolor.config_io import from_dict, to_dict
from jaxcolor.models import box_head as box_heads
from jaxcolor.models import decoding
from jaxcolor.models.backbone import parameter_type
from jaxcolor.models.networks import TREES
from jaxcolor.registries import check_parts_imported
from jaxcolor.runtime.atomic import atomic_write
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.registry import NotImportedError
from jaxcolor.runtime.regular_file import open_regular
from jaxcolor.weights.aliases import alias_problems, find_aliases, read_aliases, with_aliases
from jaxcolor.weights.locate import find_weights
from jaxcolor.weights.reference import Shape, WeightsError, mismatches, tree_shapes
from jaxcolor.weights.storage import STORAGES, Least, Storage, bad_scales, pack, unpack, unpacked_types

FORMAT = 2
"""Version of the format; a file of another one is refused."""

METADATA_KEY = "jaxcolor"
# One key, because safetensors writes several in a random order: the same weights give the same bytes.

_UNUSED = "reference_unused"
_BOX_HEAD = "box_head"
_TYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
}
"""safetensors' names of the types that an array of a file can have."""


class BoxHeadWeights(NamedTuple):
    """The head that finds objects on the features of the tree ``full`` (``models.box_head``)."""

    config: BoxHeadConfig
    variables: dict[str, Any]
    """{"params": …}, NumPy or JAX arrays."""


class NativeWeights(NamedTuple):
    """The content of a file."""

    config: ModelConfig
    variables: dict[str, Any]
    """Tree -> {"params": …, "batch_stats": …}, NumPy arrays; only the trees that the file has. What trees share is the
    same array: not to be changed in place."""
    unused: dict[str, dict[str, np.ndarray]]
    """Tree -> reference key -> array that no computation reads."""
    note: str
    decode: str = decoding.SAFE
    """How colors are shown where nobody says otherwise: ``safe`` or ``vivid:0.5`` (``models.decoding``)."""
    saturation_curve: SaturationCurve | None = None
    """For ``vivid``; without one, the class head serves."""
    storage: Storage = "float"
    """How the file stores the arrays."""
    box_head: BoxHeadWeights | None = None

    @property
    def trees(self) -> tuple[str, ...]:
        """Which of ``full``, ``instance``, ``fusion`` the file has."""
        return tuple(self.variables)


def save(
    path: str | Path,
    config: ModelConfig,
    variables: Mapping[str, Any],
    unused: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    note: str = "",
    decode: str = decoding.SAFE,
    saturation_curve: SaturationCurve | None = None,
    storage: Storage = "float",
    box_head: BoxHeadWeights | None = None,
    least: Least | None = None,
) -> None:
    """Write a file, whole or not at all; an existing one is replaced.

    Arrays of equal bits at the same place of two trees' backbones are stored once.

    Args:
      path: the file; its folder must exist.
      config: of the networks that the variables are for.
      variables: one or more trees -> {"params": …, "batch_stats": …}, NumPy or JAX arrays.
      unused: tree -> reference key -> array that no computation reads (``weights.reference``).
      note: free text: where the weights are from.
      decode: the default of command and API: ``safe``, or ``vivid:0.5``.
      saturation_curve: from ``color.calibrate_saturation``, for ``vivid``, which needs it where there is no class head.
      storage: ``int8`` and ``int6`` round large kernels (``weights.storage``); for float32 weights.
      box_head: the head that finds objects, for the tree ``full``, which must then be there.
      least: how large these are; None: ``storage.LEAST``.

    Raises:
      ConfigError: ``config`` is not a config that could be read again.
      OSError: the file cannot be written.
      WeightsError: trees that there are not, or arrays missing, left over, of another shape or type, or not finite; a
        ``decode`` that there is not or that these weights cannot do, a curve that is none, or a head of other networks.
    """
    path = Path(path)
    from_dict(ModelConfig, to_dict(config), "model")
    where = f"{path}: not written"
    arrays = _named_arrays(where, variables)
    trees = [tree for tree in TREES if tree in variables]
    if box_head is not None:
        _read_head(where, config, trees, to_dict(box_head.config))
        flat = traverse_util.flatten_dict(dict(box_head.variables), sep="/")
        arrays |= {f"{_BOX_HEAD}/{name}": np.asarray(value) for name, value in flat.items()}
    kept = {
        f"{_UNUSED}/{tree}/{key}": np.asarray(value)
        for tree, of_tree in (unused or {}).items()
        for key, value in of_tree.items()
    }
    described = {name: (array.shape, _type_name(array)) for name, array in {**arrays, **kept}.items()}
    head_config = None if box_head is None else box_head.config
    _refuse(where, _problems(config, trees, described, head_config) or _not_finite(arrays))
    if storage != "float" and config.compute_dtype == "float64":
        raise WeightsError(f"{where}: storage {storage} is for float32 weights, and model.compute_dtype is float64")
    curve = None if saturation_curve is None else saturation_curve._asdict()
    _read_decoding(where, config, decode, curve)
    about = {
        "format": FORMAT,
        "version": jaxcolor.__version__,
        "config": to_dict(config),
        "trees": trees,
        "note": note,
        "decode": decode,
        "saturation_curve": curve,
        "storage": storage,
        "box_head": None if head_config is None else to_dict(head_config),
    }
    aliases = find_aliases(arrays)
    if aliases:
        about["aliases"] = aliases
    # In C order: safetensors 0.8.0 writes the memory of any other array as it is, silently scrambled (its issue 825),
    # and translated kernels are transposed views. (np.ascontiguousarray would make vectors of scalars.)
    stored = {**pack({name: a for name, a in arrays.items() if name not in aliases}, storage, least), **kept}
    contiguous = {name: np.asarray(array, order="C") for name, array in stored.items()}
    _write(path, contiguous, {METADATA_KEY: json.dumps(about, sort_keys=True)})


def load(path: str | Path, vouched: bool = False) -> NativeWeights:
    """Read a file, or that of a training run (``weights.locate``).

    Args:
      path: the file, or a run's folder.
      vouched: its bytes are known to be those of a file that was read without this; then shapes and numbers are not
        looked at, which spares tracing the networks: two thirds of the time.

    Raises:
      OSError: no such file, or it cannot be read.
      WeightsError: not a safetensors file, without our metadata or of another format, a config that cannot be
        used or that names code which this process has not imported, arrays or their scales missing, left over, of
        another shape or type (all listed), or not finite, or aliases of what is no array of the file.
    """
    path = find_weights(path)
    with open_regular(path):  # its errors name the file and what is wrong; those of safe_open do not
        pass
    try:
        with safe_open(path, framework="np") as file:
            about, aliases = _read_about(path, file.metadata() or {}, vouched)
            config, trees = about.config, list(about.trees)
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is not a mapping)
            described = {name: (tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
            title = f"{path}: does not hold the weights that its config describes"
            if about.storage != "float":
                stored = {name: d for name, d in described.items() if not name.startswith(f"{_UNUSED}/")}
                unpacked, problems = unpacked_types(stored)
                _refuse(title, problems)
                described = {**{name: d for name, d in described.items() if name not in stored}, **unpacked}
            _refuse(title, alias_problems(aliases, {name for name in described if not name.startswith(f"{_UNUSED}/")}))
            described = with_aliases(described, aliases)
            if not vouched:
                _refuse(title, _problems(config, trees, described, about.box_head and about.box_head.config))
            arrays = {name: file.get_tensor(name) for name in slices}
    except SafetensorError as error:
        if path.suffix in (".pth", ".pt"):
            advice = f"jaxcolor convert {path} WEIGHTS.safetensors makes a file of ours of the reference's"
            raise WeightsError(f"{path}: a file of PyTorch's by its name; {advice}") from error
        raise WeightsError(f"{path}: damaged, cut short or not a safetensors file ({error})") from error
    if about.storage != "float":
        _refuse(f"{path}: damaged weights", bad_scales(arrays))
        arrays = unpack(arrays)
    used = {name: array for name, array in arrays.items() if not name.startswith(f"{_UNUSED}/")}
    if not vouched:
        _refuse(f"{path}: damaged weights", _not_finite(used))
    named = with_aliases(used, aliases)
    variables = traverse_util.unflatten_dict({tuple(name.split("/")): array for name, array in named.items()})
    unused: dict[str, dict[str, np.ndarray]] = {tree: {} for tree in trees}
    for name, array in arrays.items():
        if name.startswith(f"{_UNUSED}/"):
            _, tree, key = name.split("/", 2)
            unused[tree][key] = array
    head = about.box_head and about.box_head._replace(variables=variables[_BOX_HEAD])
    return about._replace(variables={tree: variables[tree] for tree in trees}, unused=unused, box_head=head)


def _read_about(path: Path, metadata: Mapping[str, str], vouched: bool) -> tuple[NativeWeights, dict[str, str]]:
    """What the metadata says of a file, whose trees and arrays are empty yet; and its aliases."""
    if METADATA_KEY not in metadata:
        raise WeightsError(
            f"{path}: not a weights file of jaxcolor: there is no config in its metadata "
            "(`jaxcolor convert` makes one from the reference's .pth files)"
        )
    try:
        about = json.loads(metadata[METADATA_KEY])
        found = about["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path}: its metadata cannot be read ({type(error).__name__}: {error})") from error
    if found != FORMAT:
        raise WeightsError(
            f"{path}: format {found!r}, written by jaxcolor {about.get('version', 'of unknown version')}; "
            f"jaxcolor {jaxcolor.__version__} reads format {FORMAT}"
        )
    trees, note, values = about.get("trees"), about.get("note"), about.get("config")
    if not isinstance(trees, list) or not trees or trees != [tree for tree in TREES if tree in trees]:
        raise WeightsError(f"{path}: trees {trees!r} in its metadata; known: {', '.join(TREES)}, in this order")
    if not isinstance(note, str) or not isinstance(values, dict):
        raise WeightsError(f"{path}: note or config in its metadata is of a wrong type")
    try:
        config = from_dict(ModelConfig, values, "model")
        check_parts_imported(config)
        if not vouched:
            tree_shapes(config)  # fails for values that are of the right type but make no networks
    except NotImportedError as error:
        raise WeightsError(f"{path}: weights need {error}") from error
    except (ArithmeticError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: its config makes no networks here ({error}); it was written by jaxcolor {about.get('version')}, "
            f"this is {jaxcolor.__version__}"
        ) from error
    decode, curve = about.get("decode"), about.get("saturation_curve")
    kept = _read_decoding(f"{path}: its metadata", config, decode, curve)
    storage = about.get("storage", "float")
    if storage not in STORAGES:
        raise WeightsError(f"{path}: storage {storage!r} in its metadata; known: {', '.join(STORAGES)}")
    head = _read_head(f"{path}: its metadata", config, trees, about.get("box_head"))
    try:
        aliases = read_aliases(about.get("aliases", {}))
    except TypeError as error:
        raise WeightsError(f"{path}: its metadata: {error}") from error
    return NativeWeights(config, {tree: {} for tree in trees}, {}, note, decode, kept, storage, head), aliases


def _read_head(where: str, model: ModelConfig, trees: list[str], values: Any) -> BoxHeadWeights | None:
    """The head without its arrays, of a config that makes one."""
    if values is None:
        return None
    if not isinstance(values, dict) or "full" not in trees:
        raise WeightsError(f"{where}: box_head {values!r}; it is the config of a head, beside a tree full")
    try:
        config = from_dict(BoxHeadConfig, values, "box_head")
        box_heads.make_head(model, config)
    except ConfigError as error:
        raise WeightsError(f"{where}: {error}") from error
    return BoxHeadWeights(config, {})


def _read_decoding(where: str, config: ModelConfig, decode: Any, curve: Any) -> SaturationCurve | None:
    """The curve, of a ``decode`` that such weights can do."""
    try:
        if not isinstance(decode, str):
            raise UserError(f"decode {decode!r}: must be a text")
        found = decoding.curve_from_json(curve)
        decoding.check_vivid(decoding.parse_decode(decode), config, found)
    except UserError as error:
        raise WeightsError(f"{where}: {error}") from error
    return found


def _named_arrays(where: str, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Name in the file -> array, in the order of the trees."""
    unknown = [tree for tree in variables if tree not in TREES]
    if unknown or not variables:
        what = f"no such tree: {', '.join(unknown)}" if unknown else "no tree of variables"
        raise WeightsError(f"{where}: {what}; known: {', '.join(TREES)}")
    return {
        "/".join((tree, *key)): np.asarray(value)
        for tree in TREES
        if tree in variables
        for key, value in traverse_util.flatten_dict(dict(variables[tree])).items()
    }


def _type_name(array: np.ndarray) -> str:
    """Safetensors' name of an array's type, or NumPy's where a file cannot have it."""
    return next((name for name, kind in _TYPES.items() if array.dtype == kind), str(array.dtype))


def _problems(
    config: ModelConfig,
    trees: list[str],
    found: Mapping[str, tuple[Shape, str]],
    head: BoxHeadConfig | None = None,
) -> list[str]:
    """One line for everything that keeps arrays (name -> shape, type) from being those of the config's trees."""
    shapes = tree_shapes(config)
    expected = {"/".join((tree, *key)): shape for tree in trees for key, shape in shapes[tree].items()}
    if head is not None:
        flat = traverse_util.flatten_dict(box_heads.abstract(config, head), sep="/")
        expected |= {f"{_BOX_HEAD}/{name}": leaf.shape for name, leaf in flat.items()}
    kept = {name for name in found if any(name.startswith(f"{_UNUSED}/{tree}/") for tree in trees)}
    wanted_type = _type_name(np.empty(0, parameter_type(config)))
    return [
        *mismatches(expected, {name: shape for name, (shape, _) in found.items() if name not in kept}),
        *(
            f"! wrong type: {name} is {kind}, expected {wanted_type}"
            for name, (_, kind) in found.items()
            if name in expected and kind != wanted_type
        ),
        *(
            f"! wrong type: {name} is {found[name][1]}, expected one of {', '.join(_TYPES)}"
            for name in sorted(kept)
            if found[name][1] not in _TYPES
        ),
    ]


def _not_finite(arrays: Mapping[str, np.ndarray]) -> list[str]:
    # Not asked of unused arrays: nothing computes with them, and an export must not change them.
    return [f"! not finite: {name} holds NaN or infinity" for name, a in arrays.items() if not np.isfinite(a).all()]


def _refuse(title: str, problems: list[str]) -> None:
    if problems:
        raise WeightsError("\n  ".join([title, *problems]))


def _write(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    with atomic_write(path) as temporary:
        try:
            save_file(arrays, temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(errno.EIO, f"cannot be written ({error})", str(path)) from error

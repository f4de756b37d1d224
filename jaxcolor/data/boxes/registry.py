"""The box store at a path: by the name of its kind, or by what the path holds."""

from __future__ import annotations

import json
import os
from pathlib import Path

from jaxcolor.data.archive import inside_zip, read_bytes
from jaxcolor.data.boxes.base import BoxStore, MaskedStore
from jaxcolor.data.boxes.coco import read_detections, read_instances
from jaxcolor.data.boxes.packed import MANIFEST
from jaxcolor.data.types import DataError
from jaxcolor.registries import BOX_STORES

_FILES = ("coco_detections", "coco_instances")
"""Kinds that are one file; the others are folders."""


def open_store(path: Path, kind: str = "auto", images: Path | None = None, masks: bool = False) -> BoxStore:
    """The box store at a path.

    Args:
      path: a folder of ``.npz`` or ``.xml`` files, a packed store, or a JSON file of COCO's, which may be a member of
        a zip file: ``annotations_trainval2017.zip/annotations/instances_val2017.json``. For a dotted path whatever that
        takes.
      kind: a name in ``registries.BOX_STORES``, the dotted path of a callable (Path) -> BoxStore, or ``auto``:
        found out by ``find_kind``.
      images: for COCO detection results alone, a JSON file whose ``images`` name them, see ``coco.read_detections``.
      masks: for an instances file alone, whether the masks are wanted too: the store is then a ``MaskedStore``.

    Raises:
      DataError: it is not there, of no kind, cannot be read, or has no masks; or a dotted path makes no box store.
      UserError: a dotted path cannot be imported.
    """
    builtin = kind == "auto" or kind in BOX_STORES.names
    if builtin and not path.exists() and inside_zip(path) is None:
        raise DataError(f"{path}: no such folder or file of boxes")
    kind = find_kind(path) if kind == "auto" else kind
    if images is not None and kind != "coco_detections":
        raise DataError(f"{images}: a file of images is for COCO detection results; {path} is {kind}")
    if masks and builtin and kind != "coco_instances":
        raise DataError(f"{path}: boxes of kind {kind} come without masks; data.masks needs COCO's instances file")
    if builtin and (kind in _FILES) == path.is_dir():
        raise DataError(f"{path}: a {'folder' if path.is_dir() else 'file'}; boxes of kind {kind} are none")
    if kind == "coco_detections":
        return read_detections(path, images)
    if kind == "coco_instances":
        return read_instances(path, masks)
    store = BOX_STORES.get(kind)(path)
    wanted = MaskedStore if masks else BoxStore
    if not isinstance(store, wanted):
        raise DataError(f"{path}: {kind} made a {type(store).__name__}, which lacks attributes of {wanted.__name__}")
    return store


def find_kind(path: Path) -> str:
    """What a path holds: by the files of a folder, by the first sign of a JSON file.

    Raises:
      DataError: it is none of them; the message says what it could be.
    """
    return _kind_of_folder(path) if path.is_dir() else _kind_of_file(path)


def _kind_of_folder(path: Path) -> str:
    found: set[str] = set()
    with os.scandir(path) as entries:
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1]
            if suffix in (".npz", ".xml") and not entry.name.startswith("."):
                found.add(suffix)
            if len(found) == 2:
                raise DataError(f"{path}: has box files of two kinds, .npz and .xml; keep them in folders of their own")
    if found:
        return "npz" if ".npz" in found else "voc"
    if (path / MANIFEST).is_file():
        return "packed"
    raise DataError(f"{path}: no boxes here: neither .npz nor .xml files, and no packed store ({MANIFEST})")


def _kind_of_file(path: Path) -> str:
    data = read_bytes(path, 4096)
    first = data.decode(json.detect_encoding(data), "ignore").lstrip("\ufeff \t\r\n")[:1]
    if first == "[":
        return "coco_detections"
    if first == "{":
        return "coco_instances"
    raise DataError(
        f"{path}: not a file of boxes: COCO's JSON files begin with [ (detection results) or {{ (instances); "
        "box files come in folders, and a member of a zip file is named by a path that goes on below it"
    )

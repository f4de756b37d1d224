"""The source that a config names, and opening what it reads: a set of photos, and the boxes that go with it."""

from __future__ import annotations

import os
from pathlib import Path

from jaxcolor.config import DataConfig
from jaxcolor.data.boxes.base import BoxStore
from jaxcolor.data.boxes.npz import npz_store
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.sources.base import PhotoSet
from jaxcolor.data.sources.coco import coco_instances, coco_photos
from jaxcolor.data.sources.photo_source import FolderSet, PhotoSource
from jaxcolor.data.sources.tfds import TfdsSet
from jaxcolor.data.sources.zip_file import ZipSet
from jaxcolor.data.types import DataError, Source
from jaxcolor.registries import SOURCES


def make_source(config: DataConfig, side: int) -> Source:
    """The source that a config names.

    Args:
      config: ``source`` is a name in ``registries.SOURCES`` or the dotted path of a callable (config, side) -> Source.
      side: S of the canvas; scenes are made four times as big.

    Raises:
      DataError: what ``open_source`` and ``SceneSource`` raise, or what a dotted path names makes no source.
      UserError: a dotted path cannot be imported.
    """
    source = SOURCES.get(config.source)(config, side)
    if not isinstance(source, Source):
        raise DataError(f"data.source: {config.source} made a {type(source).__name__}, which lacks methods of Source")
    return source


def photo_source(config: DataConfig, side: int) -> PhotoSource:
    """The sources ``folder``, ``coco`` and ``tfds``, whose photos have sizes of their own."""
    return open_source(config)


def open_source(config: DataConfig) -> PhotoSource:
    """Opens the photos of a config and the boxes that go with them.

    Raises:
      DataError: no photos where the config says, a list that cannot be used, two photos of one stem, boxes that are not
        where the config says or cannot be opened, box choice ``ground_truth`` without annotated boxes, ``masks``
        without annotated masks, or what ``PhotoSource`` raises.
    """
    photos = open_photos(config)
    # With annotated boxes in their place, nobody needs the detections.
    may_lack = config.missing_boxes == "none" or config.box_choice == "ground_truth"
    return PhotoSource(config, photos, detections_of(config, photos, may_lack=may_lack), annotations_of(config, photos))


def open_photos(config: DataConfig) -> PhotoSet:
    """The set of photos at ``config.path``; none is opened.

    Args:
      config: ``source``, ``path`` and what else belongs to the source, see ``DataConfig``.

    Raises:
      DataError: ``path`` or ``list_path`` cannot be used, or the source has no photos in files.
    """
    listed = Path(config.list_path) if config.list_path else None
    all_there = config.bad_photos == "error"
    if config.source == "tfds":
        if listed is not None:
            raise DataError("data.list_path: is for folders and zip files; data.split takes a part of a TFDS data set")
        return TfdsSet(config.path, config.data_dir, config.split)
    if config.source == "coco":
        return coco_photos(_folder(config.path), config.split, listed, all_there=all_there)
    if config.source == "folder":
        path = Path(config.path)
        if config.path and path.suffix.lower() == ".zip" and path.is_file():
            return ZipSet(path, listed, all_there=all_there)
        return FolderSet(_folder(config.path, " or zip file"), listed, all_there=all_there)
    raise DataError(f"data.source: {config.source!r} has no photos in files")


def _folder(name: str, otherwise: str = "") -> Path:
    if not name:
        raise DataError(f"data.path is empty: it must name a folder{otherwise}")
    path = Path(name)
    if not path.is_dir():
        raise DataError(f"data.path: {path}: {'not a' if path.exists() else 'no such'} folder{otherwise}")
    return path


def detections_of(config: DataConfig, photos: PhotoSet, *, may_lack: bool) -> BoxStore | None:
    """The box store that a config names, or that lies beside the photos.

    Args:
      config: ``boxes_path``, ``boxes_format``, ``source``.
      photos: the set of that config.
      may_lack: whether photos without an entry are photos without boxes.

    Returns:
      None: the boxes lie with the photos, or there are none.

    Raises:
      DataError: it cannot be opened, or there are no boxes, without ``may_lack``.
    """
    store = _named_or_beside(config, photos)
    if store is None and not photos.carries_detections and not may_lack:
        raise DataError(
            f"{photos.where}: no boxes lie with these photos; name some with data.boxes_path, take the photos for "
            "photos without boxes (missing_boxes 'none'), or, where they are annotated, use the annotated "
            "boxes (data.box_choice 'ground_truth')"
        )
    return store


def _named_or_beside(config: DataConfig, photos: PhotoSet) -> BoxStore | None:
    if config.boxes_path:
        return _open_boxes(config.boxes_path, "data.boxes_path", config.boxes_format)
    if config.source == "tfds":
        return None
    path = Path(photos.where)
    if path.name in ("", ".."):  # "." has no name
        path = Path(os.path.abspath(path))
    beside = path.with_name((path.stem if isinstance(photos, ZipSet) else path.name) + "_bbox")
    if beside.exists():
        return open_store(beside, config.boxes_format)
    # For a folder of photos the folder of boxes is the rule, and what is missing is a file of it.
    return npz_store(beside) if config.source == "folder" else None


def annotations_of(config: DataConfig, photos: PhotoSet) -> BoxStore | None:
    """The store of annotated boxes that a config names, or that comes with the photos and is wanted.

    Returns:
      None: they lie with the photos, or are not wanted.

    Raises:
      DataError: it cannot be opened, or there are none and they are wanted; or it has no masks, and they are wanted.
    """
    if config.truth_boxes_path:
        return _open_boxes(config.truth_boxes_path, "data.truth_boxes_path", config.truth_boxes_format, config.masks)
    if config.masks and photos.carries_truth:
        raise DataError(
            f"data.masks: the records of {photos.where} hold boxes without masks; name COCO's instances file with "
            "data.truth_boxes_path"
        )
    if config.box_choice != "ground_truth" or photos.carries_truth:
        return None
    if config.source == "coco":
        return open_store(coco_instances(Path(config.path), config.split), masks=config.masks)
    raise DataError("data.box_choice 'ground_truth' needs data.truth_boxes_path, the annotated boxes")


def _open_boxes(name: str, field: str, kind: str, masks: bool = False) -> BoxStore:
    try:
        return open_store(Path(name), kind, masks=masks)
    except DataError as error:
        raise DataError(f"{field}: {error}") from error

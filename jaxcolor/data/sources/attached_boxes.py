"""Which box store has the boxes of a set of photos."""

from __future__ import annotations

import os
from pathlib import Path

from jaxcolor.config import DataConfig
from jaxcolor.data.boxes.base import BoxStore, npz_store
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.sources.base import PhotoSet
from jaxcolor.data.sources.coco import coco_instances
from jaxcolor.data.sources.zip_file import ZipSet
from jaxcolor.data.types import DataError


def detections_of(config: DataConfig, photos: PhotoSet, *, may_lack: bool) -> BoxStore | None:
    """The store that a config names, or that lies beside the photos.

    Args:
      config: ``boxes_path``, ``source``.
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
        return _open_boxes(config.boxes_path, "data.boxes_path")
    if config.source == "tfds":
        return None
    path = Path(photos.where)
    if path.name in ("", ".."):  # "." has no name
        path = Path(os.path.abspath(path))
    beside = path.with_name((path.stem if isinstance(photos, ZipSet) else path.name) + "_bbox")
    if beside.exists():
        return open_store(beside)
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
        return _open_boxes(config.truth_boxes_path, "data.truth_boxes_path", config.masks)
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


def _open_boxes(name: str, field: str, masks: bool = False) -> BoxStore:
    try:
        return open_store(Path(name), masks=masks)
    except DataError as error:
        raise DataError(f"{field}: {error}") from error

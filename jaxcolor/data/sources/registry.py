"""The set of photos that a config names."""

from __future__ import annotations

from pathlib import Path

from jaxcolor.config import DataConfig
from jaxcolor.data.sources.base import PhotoSet
from jaxcolor.data.sources.coco import coco_photos
from jaxcolor.data.sources.folder import FolderSet
from jaxcolor.data.sources.tfds import TfdsSet
from jaxcolor.data.sources.zip_file import ZipSet
from jaxcolor.data.types import DataError


def open_photos(config: DataConfig) -> PhotoSet:
    """The photos of ``config.path``; none is opened.

    Args:
      config: ``source``, ``path`` and what else belongs to the source, see ``DataConfig``.

    Raises:
      DataError: ``path`` or ``list_path`` cannot be used, or the source is none of photos.
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

"""COCO 2017 from its plain downloads, zipped or unpacked; COCO-Stuff has the same photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxcolor.data.sources.photo_source import FolderSet
from jaxcolor.data.sources.zip_file import ZipSet
from jaxcolor.data.types import DataError

SPLITS = ("train", "val")


def coco_photos(path: Path, split: str, listed: Path | None = None, *, all_there: bool = True) -> FolderSet | ZipSet:
    """The photos of a split of COCO 2017, or of COCO-Stuff, which annotates the same ones.

    They are in ``{split}2017/`` or ``{split}2017.zip``, as downloaded from cocodataset.org, in the folder ``path`` or
    in its subfolder ``images``. A folder is taken before a zip file.

    Args:
      path: the folder with the downloads.
      split: ``train`` or ``val``.
      listed: a list that names photos by their place in ``{split}2017``, see ``base.read_list``.
      all_there: see ``FolderSet``.

    Raises:
      DataError: another split, neither folder nor zip file is there, and what the sets raise.
    """
    _check_split(split)
    name = f"{split}2017"
    places = [path / name, path / "images" / name]
    for place in places:
        if place.is_dir():
            return FolderSet(place, listed, all_there=all_there)
        if place.with_name(f"{name}.zip").is_file():
            return ZipSet(place.with_name(f"{name}.zip"), listed, all_there=all_there, below=f"{name}/")
    both = [place for folder in places for place in (folder, folder.with_name(f"{name}.zip"))]
    raise DataError(f"data.path: {path}: no photos of COCO's split {split!r}: there is none of {_listing(both)}")


def coco_instances(path: Path, split: str) -> Path:
    """The instances file of a split; it may lie in a zip file, see ``archive.read_bytes``.

    It is ``annotations/instances_{split}2017.json``, in the folder or in its ``annotations_trainval2017.zip``.

    Raises:
      DataError: another split, or it is in neither place.
    """
    _check_split(split)
    member = Path("annotations") / f"instances_{split}2017.json"
    archive = path / "annotations_trainval2017.zip"
    if (path / member).is_file():
        return path / member
    if archive.is_file():
        return archive / member
    raise DataError(
        f"data.path: {path}: no annotated boxes of COCO's split {split!r}: there is none of "
        f"{_listing([path / member, archive])}; data.truth_boxes_path names them elsewhere"
    )


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise DataError(f"data.split: {split!r} is no split of COCO 2017; {' or '.join(map(repr, SPLITS))}")


def _listing(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))

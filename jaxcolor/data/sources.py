"""Where photos come from: a folder with its boxes, or scenes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from jaxcolor.boxes import DroppedBoxes, clean_boxes
from jaxcolor.config import DataConfig
from jaxcolor.data.box_files import BoxFile
from jaxcolor.data.box_stores.opening import open_store
from jaxcolor.data.box_stores.store import BoxStore, MissingBoxesError, check_complete, no_boxes, npz_store
from jaxcolor.data.photos import DataError, Photo, Source, UsableBoxes
from jaxcolor.data.preprocess import PHOTO_SUFFIXES, check_header, read_image, read_size
from jaxcolor.data.scenes import PHOTO_PER_CANVAS, SceneSource

_LABEL = re.compile(r"\s+[0-9]+$")
"""What may follow a name in a list."""


def make_source(config: DataConfig, side: int) -> Source:
    """The source that a config asks for.

    Args:
      config: see ``DataConfig``.
      side: S of the canvas; scenes are made four times as big.

    Raises:
      DataError: what ``FolderSource`` and ``SceneSource`` raise.
    """
    if config.source == "folder":
        return FolderSource(config)
    return SceneSource(config.scenes, PHOTO_PER_CANVAS * side, config.seed, config.split)


class FolderSource:
    """The photos of one folder, sorted by name, with the boxes that a box store has under their stems.

    With ``list_path`` those that the list names, in its order, of subfolders too.

    Boxes refer to the pixels of the photo as it is shown, that is after its EXIF orientation. Everything that can be
    found out cheaply is found out at the start: names, headers, boxes. So which photo has which number depends
    on the files alone. A photo whose body is damaged is found only when it is read: ``source[i]`` then raises
    ``DataError``, and the pipeline leaves it out where ``bad_photos`` is ``skip``.
    """

    def __init__(self, config: DataConfig) -> None:
        """Lists the photos, reads the boxes of each and counts usable ones (about half a millisecond a photo).

        Prints one line to standard error for each photo or box file that is skipped, and one if boxes were dropped.

        Raises:
          DataError: no folder, no photo in it, a list that cannot be read or names photos that are not there (all are
            counted), two photos of one stem, boxes that are not where the config says or
            cannot be opened, photos without a box file or entry (``missing_boxes`` ``error``; all are counted), an
            unreadable photo or box file (``bad_photos`` ``error``), or box choice ``ground_truth`` without
            ``truth_boxes_path``.
        """
        self.path = _folder(config.path, "data.path")
        self._uses_truth = config.box_choice == "ground_truth"
        if self._uses_truth and not config.truth_boxes_path:
            raise DataError("data.box_choice 'ground_truth' needs data.truth_boxes_path, the annotated boxes")
        self.boxes = _open_boxes(config.boxes_path, "data.boxes_path") if config.boxes_path else _beside(self.path)
        truth_path = config.truth_boxes_path
        self.truth = _open_boxes(truth_path, "data.truth_boxes_path") if truth_path else None
        # With annotated boxes in their place, nobody needs the detections.
        self._may_lack_boxes = config.missing_boxes == "none" or self._uses_truth
        self._may_lack_truth = config.missing_boxes == "none"
        self.photos: list[Path] = []
        self.usable_counts: list[int] = []
        """Boxes of each photo from which a choice can be made: annotated ones for ``ground_truth``."""
        self.dropped = DroppedBoxes()
        """Boxes of all photos that have no crop."""
        self.skipped: list[str] = []
        """What was wrong with the photos left out."""
        listed = Path(config.list_path) if config.list_path else None
        paths = _list_photos(self.path) if listed is None else read_list(listed, self.path)
        if listed is not None and config.bad_photos == "error":
            _check_there(listed, paths)
        stems = [path.stem for path in paths]
        if not self._may_lack_boxes:
            check_complete(self.boxes, stems)
        if self.truth is not None and not self._may_lack_truth:
            check_complete(self.truth, stems)
        self._scan(paths, config.bad_photos == "skip")

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Photo:
        """Photo ``index``, decoded, with its boxes as they are in the store.

        Raises:
          DataError: the photo or its boxes cannot be read.
          IndexError: there is no such photo.
        """
        if not 0 <= index < len(self.photos):
            raise IndexError(f"photo {index} of {len(self.photos)} in {self.path}")
        path = self.photos[index]
        detected, truth = self._read_boxes(path.stem)
        return Photo(
            path.stem, read_image(path), detected.boxes, detected.scores, None if truth is None else truth.boxes
        )

    def usable(self, index: int) -> tuple[tuple[int, int], UsableBoxes]:
        """Width and height of photo ``index`` in pixels, and the boxes a choice can be made of; it is not decoded.

        Raises:
          DataError: the photo's header or its boxes cannot be read.
        """
        path = self.photos[index]
        size, boxes = read_size(path), self._used_boxes(path.stem)
        clean = clean_boxes(boxes.boxes, boxes.scores, size)
        return size, UsableBoxes(clean.boxes, boxes.scores[clean.kept], clean.dropped)

    def picture(self, index: int, least_side: int | None = None) -> Photo:
        """Photo ``index`` without its boxes, decoded at a fraction of its size where its file allows."""
        path = self.photos[index]
        none = no_boxes()
        return Photo(path.stem, read_image(path, least_side), none.boxes, none.scores)

    def crop_count(self, index: int) -> int:
        """How many usable boxes photo ``index`` has."""
        return self.usable_counts[index]

    def with_boxes(self) -> Sequence[int]:
        """Numbers of the photos with at least one usable box."""
        return tuple(np.flatnonzero(self.usable_counts).tolist())

    def describe(self) -> str:
        """One line for a person."""
        kept = sum(self.usable_counts)
        kind = "annotated boxes" if self._uses_truth else "boxes"
        line = f"{self.path}: {len(self)} photos, {np.count_nonzero(self.usable_counts)} with {kind}; {kept} {kind}"
        if self.dropped.total:
            line += f", {self.dropped.total} dropped ({self.dropped})"
        used = self.truth if self._uses_truth and self.truth is not None else self.boxes
        line += f"; {used.note}" if used.note else ""
        return line + (f"; {len(self.skipped)} unreadable photos skipped" if self.skipped else "")

    def _scan(self, paths: Sequence[Path], skip_bad: bool) -> None:
        for path in paths:
            try:
                usable, dropped = self._count_boxes(path)
            except MissingBoxesError:
                raise  # a box file that went away since it was seen
            except DataError as error:
                if not skip_bad:
                    raise
                self.skipped.append(str(error))
                print(f"skipped: {error}", file=sys.stderr)
                continue
            self.photos.append(path)
            self.usable_counts.append(usable)
            self.dropped += dropped
        if not self.photos:
            raise DataError(f"{self.path}: none of its {len(paths)} photos can be used; the first: {self.skipped[0]}")
        if self.dropped.total:
            print(self.describe(), file=sys.stderr)

    def _count_boxes(self, path: Path) -> tuple[int, DroppedBoxes]:
        used = self._used_boxes(path.stem)
        if not len(used.boxes):
            check_header(path)
            return 0, DroppedBoxes()
        clean = clean_boxes(used.boxes, used.scores, read_size(path))
        return len(clean.boxes), clean.dropped

    def _used_boxes(self, stem: str) -> BoxFile:
        detected, truth = self._read_boxes(stem)
        return BoxFile(truth.boxes, np.ones_like(truth.scores)) if self._uses_truth and truth is not None else detected

    def _read_boxes(self, stem: str) -> tuple[BoxFile, BoxFile | None]:
        detected = _boxes_of(self.boxes, stem, self._may_lack_boxes)
        return detected, None if self.truth is None else _boxes_of(self.truth, stem, self._may_lack_truth)


def _boxes_of(store: BoxStore, stem: str, may_lack: bool) -> BoxFile:
    try:
        return store.read(stem)
    except MissingBoxesError:
        if may_lack:
            return no_boxes()
        raise


def _beside(photos: Path) -> BoxStore:
    """The boxes in the folder named after the photos' one; an empty store where there is no such folder."""
    photos = Path(os.path.abspath(photos))  # "." has no name
    path = photos.with_name(photos.name + "_bbox")
    return open_store(path) if path.exists() else npz_store(path)


def _open_boxes(name: str, field: str) -> BoxStore:
    try:
        return open_store(Path(name))
    except DataError as error:
        raise DataError(f"{field}: {error}") from error


def _folder(name: str, field: str) -> Path:
    if not name:
        raise DataError(f"{field} is empty: it must name a folder")
    path = Path(name)
    if not path.is_dir():
        raise DataError(f"{field}: {path}: {'not a folder' if path.exists() else 'no such folder'}")
    return path


def _list_photos(folder: Path) -> list[Path]:
    """Photos by name; no two may share a stem, because their boxes and results would."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES and not p.name.startswith("."))
    if not paths:
        raise DataError(
            f"{folder}: no photos in this folder ({', '.join(PHOTO_SUFFIXES)}; subfolders are not searched)"
        )
    _refuse_shared_stems(paths)
    return paths


def read_list(path: Path, folder: Path) -> list[Path]:
    """The photos that a list file names, in its order.

    Each line names a photo by its place below ``folder``, with ``/``; blanks and a whole number after the name are left
    unread, empty lines too. Whether the photos are there is not looked at.

    Raises:
      DataError: the file cannot be read, a line names no photo or one outside of ``folder``, two photos have one stem,
        or there is no line.
    """
    try:
        # utf-8-sig: lists made on Windows begin with a byte order mark. surrogateescape: file names need not be UTF-8.
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    except OSError as error:
        raise DataError(f"data.list_path: {path}: cannot read this list: {error.strerror or error}") from error
    named = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not named:
        raise DataError(f"data.list_path: {path}: names no photo")
    paths = [folder / _listed(f"data.list_path: {path}: line {number}", line) for number, line in named]
    _refuse_shared_stems(paths)
    return paths


def _listed(where: str, line: str) -> str:
    name = _LABEL.sub("", line)
    place = PurePosixPath(name)
    if place.suffix.lower() not in PHOTO_SUFFIXES:
        raise DataError(f"{where}: {line[:80]!r} names no photo ({', '.join(PHOTO_SUFFIXES)})")
    if place.is_absolute() or ".." in place.parts:
        raise DataError(f"{where}: {line[:80]!r} is not below data.path")
    return name


def _check_there(listed: Path, paths: Sequence[Path]) -> None:
    missing = [path for path in paths if not path.exists()]
    if missing:
        count = f"{len(missing)} of its {len(paths)} photos"
        raise DataError(f"data.list_path: {listed}: {count} are not there; the first: {missing[0]}")


def _refuse_shared_stems(paths: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in paths:
        if path.stem in seen:
            raise DataError(
                f"{seen[path.stem]} and {path}: two photos of one name; boxes and results would be mixed up"
            )
        seen[path.stem] = path

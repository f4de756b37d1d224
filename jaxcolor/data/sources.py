"""Where photos come from: a folder with its box files, or scenes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxcolor.boxes import DroppedBoxes, clean_boxes
from jaxcolor.config import DataConfig
from jaxcolor.data.box_files import BoxFile, read_boxes
from jaxcolor.data.photos import DataError, Photo, Source
from jaxcolor.data.preprocess import PHOTO_SUFFIXES, check_header, read_rgb, read_size
from jaxcolor.data.scenes import PHOTO_PER_CANVAS, SceneSource


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
    """The photos of one folder, sorted by name, with ``<stem>.npz`` box files from another.

    Boxes refer to the pixels of the photo as it is shown, that is after its EXIF orientation. Everything that can be
    found out cheaply is found out at the start: names, headers, box files. So which photo has which number depends
    on the files alone. A photo whose body is damaged is found only when it is read: ``source[i]`` then raises
    ``DataError``, and the pipeline leaves it out where ``bad_photos`` is ``skip``.
    """

    def __init__(self, config: DataConfig) -> None:
        """Lists the photos, reads every box file and counts usable boxes (about half a millisecond a photo).

        Prints one line to standard error for each photo or box file that is skipped, and one if boxes were dropped.

        Raises:
          DataError: no folder, no photo in it, two photos of one stem, a missing box file (``missing_boxes``
            ``error``), an unreadable photo or box file (``bad_photos`` ``error``), or box choice ``ground_truth``
            without ``truth_boxes_path``.
        """
        self.path = _folder(config.path, "data.path")
        self._uses_truth = config.box_choice == "ground_truth"
        if self._uses_truth and not config.truth_boxes_path:
            raise DataError("data.box_choice 'ground_truth' needs data.truth_boxes_path, the folder of annotated boxes")
        self.boxes_path = (
            Path(config.boxes_path) if config.boxes_path else self.path.with_name(self.path.name + "_bbox")
        )
        self.truth_path = _folder(config.truth_boxes_path, "data.truth_boxes_path") if config.truth_boxes_path else None
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
        self._scan(_list_photos(self.path), config.bad_photos == "skip")

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Photo:
        """Photo ``index``, decoded, with its boxes as they are in the files.

        Raises:
          DataError: the photo or one of its box files cannot be read.
          IndexError: there is no such photo.
        """
        if not 0 <= index < len(self.photos):
            raise IndexError(f"photo {index} of {len(self.photos)} in {self.path}")
        path = self.photos[index]
        detected, truth = self._read_boxes(path.stem)
        return Photo(path.stem, read_rgb(path), detected.boxes, detected.scores, None if truth is None else truth.boxes)

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
        return line + (f"; {len(self.skipped)} unreadable photos skipped" if self.skipped else "")

    def _scan(self, paths: Sequence[Path], skip_bad: bool) -> None:
        for path in paths:
            try:
                usable, dropped = self._count_boxes(path)
            except _MissingBoxesError:
                raise
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
        detected, truth = self._read_boxes(path.stem)
        used = BoxFile(truth.boxes, np.ones_like(truth.scores)) if self._uses_truth and truth is not None else detected
        if not len(used.boxes):
            check_header(path)
            return 0, DroppedBoxes()
        clean = clean_boxes(used.boxes, used.scores, read_size(path))
        return len(clean.boxes), clean.dropped

    def _read_boxes(self, stem: str) -> tuple[BoxFile, BoxFile | None]:
        detected = _boxes_of(self.boxes_path, stem, self._may_lack_boxes)
        return detected, None if self.truth_path is None else _boxes_of(self.truth_path, stem, self._may_lack_truth)


class _MissingBoxesError(DataError):
    """A box file is not there: ``missing_boxes`` decides on it, not ``bad_photos``."""


def _boxes_of(folder: Path, stem: str, may_lack: bool) -> BoxFile:
    path = folder / f"{stem}.npz"
    if path.exists():
        return read_boxes(path)
    if may_lack:
        return BoxFile(np.zeros((0, 4), np.float32), np.zeros((0,), np.float32))
    raise _MissingBoxesError(
        f"{path}: no such box file; data.missing_boxes 'none' takes its photo for one without boxes"
    )


def _folder(name: str, field: str) -> Path:
    if not name:
        raise DataError(f"{field} is empty: it must name a folder")
    path = Path(name)
    if not path.is_dir():
        raise DataError(f"{field}: {path}: {'not a folder' if path.exists() else 'no such folder'}")
    return path


def _list_photos(folder: Path) -> list[Path]:
    """Photos by name; no two may share a stem, because their box files and results would."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES and not p.name.startswith("."))
    if not paths:
        raise DataError(
            f"{folder}: no photos in this folder ({', '.join(PHOTO_SUFFIXES)}; subfolders are not searched)"
        )
    seen: dict[str, Path] = {}
    for path in paths:
        if path.stem in seen:
            raise DataError(
                f"{seen[path.stem]} and {path}: two photos of one name; boxes and results would be mixed up"
            )
        seen[path.stem] = path
    return paths

"""Where results of photos go, and where their boxes are looked for."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jaxcolor.data.formats import PHOTO_SUFFIXES
from jaxcolor.data.sources.base import unread_photos
from jaxcolor.runtime.errors import UserError, printable
from jaxcolor.runtime.text import counted

_SUFFIX = "_color"
"""Of results beside the photos, and of their folders."""
_RESULT = re.compile(rf"{_SUFFIX}(\.sample\d+|\.samples|\.side_by_side)?\.(png|jpg|webp|tif)$")


def plan(photos: Sequence[Path], output: Path | None, suffix: str = ".png") -> dict[Path, Path]:
    """Each photo and where its result, of that suffix, is written, in the order given.

    Without an output folder, the result of a photo is ``<stem>_color.png`` beside it, and those of a folder go into
    ``<folder>_color`` beside the folder. What looks like such a result, and whose photo is given too, is left out.
    Photos of one folder that differ in their ending alone keep it: ``a.jpg.png`` and ``a.tif.png``; a photo that is
    given twice counts once.

    Args:
      photos: photos and folders of photos.
      output: folder; None: beside the photos.
      suffix: of the results.

    Raises:
      UserError: no such photo or folder, no photo in it, photos of two folders that would share a result, or an output
        folder that holds one of the photos: a result could take the place of an original.
    """
    given = list({photo: (photo, path) for path in photos for photo in _expand(path)}.values())
    given = _without_results(given)
    named = Counter(photo.with_suffix("") for photo, _ in given)
    alike = [photo for photo, _ in given if named[photo.with_suffix("")] > 1]
    if alike:
        which = f"{counted(len(alike), 'photo')} share their names but for the ending, such as {alike[0]}"
        print(printable(f"{which}: the results keep it, as {alike[0].name}{suffix}"), file=sys.stderr)
    taken: dict[Path, Path] = {}
    folders: set[Path] = set()
    for photo, path in given:
        stem = photo.name if photo in alike else photo.stem
        if output is None and photo == path:
            result = photo.with_name(f"{stem}{_SUFFIX}{suffix}")
        else:
            result = (output or _beside(path, _SUFFIX)) / f"{stem}{suffix}"
            folders.add(result.parent)
        if result in taken:
            raise UserError(f"{taken[result]} and {photo} would both become {result}; rename one")
        taken[result] = photo
    results = {_folder_id(folder): folder for folder in folders}
    results.pop(None, None)
    for photo, _ in given:
        # Also the folder of the file that a link leads to: its original would be replaced.
        for place in {_folder_id(photo.parent), _folder_id(photo.resolve().parent)} & results.keys():
            whose = f"{results[place]}: holds the photo {photo}"
            raise UserError(f"{whose}, and originals are never replaced; give another folder")
        if photo in taken:
            raise UserError(f"{photo}: the result of {taken[photo]} would replace it; leave one out, or give -o")
    return {photo: result for result, photo in taken.items()}


def _without_results(given: Sequence[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Photos without the results of earlier runs beside them: ``old_color.png``, where ``old.jpg`` is given too."""
    known = {(photo.parent, name) for photo, _ in given for name in (photo.stem, photo.name)}
    kept = [each for each in given if not _is_result(each[0], known)]
    if len(kept) < len(given):
        left_out = len(given) - len(kept)
        are = "1 file that is a result" if left_out == 1 else f"{left_out} files that are results"
        print(f"left out: {are} beside {'its photo' if left_out == 1 else 'their photos'}", file=sys.stderr)
    return kept


def _is_result(photo: Path, known: set[tuple[Path, str]]) -> bool:
    return bool(_RESULT.search(photo.name)) and (photo.parent, _RESULT.sub("", photo.name)) in known


def result_folders(photos: Sequence[Path], output: Path | None) -> list[Path]:
    """The folders that are for results alone, those beside photos not among them."""
    if output is not None:
        return [output]
    return sorted({_beside(path, _SUFFIX) for path in photos if path.is_dir()})


def _beside(folder: Path, suffix: str) -> Path:
    """The folder beside a folder that has its name and a suffix."""
    if folder.name in ("", ".."):
        folder = Path(os.path.abspath(folder))
    return folder.parent / f"{folder.name}{suffix}"


def described(output: Path | None, results: Sequence[Path]) -> str:
    """Where results are, in few words."""
    if output is None and len(results) == 1:
        return str(results[0])
    folders = sorted({str(result.parent) for result in results})
    return str(output) if output is not None else ", ".join(folders[:3]) + (", …" if len(folders) > 3 else "")


def _folder_id(folder: Path) -> tuple[int, int] | None:
    """What is the same for all names of a folder; None: there is no such folder."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _expand(path: Path) -> list[Path]:
    """The photos of a folder, or the one photo that it is."""
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"{path}: no such photo or folder")
        return [path]
    files = [p for p in path.iterdir() if not p.name.startswith(".")]
    found = sorted(p for p in files if p.suffix.lower() in PHOTO_SUFFIXES)
    unread = unread_photos(p.name for p in files)
    if not found:
        raise UserError(f"{path}: no photos here ({', '.join(PHOTO_SUFFIXES)}{unread and f'; {unread}'})")
    if unread:
        print(printable(f"{path}: files left out: {unread}"), file=sys.stderr)
    inside = sorted(
        p.name for p in files if p.is_dir() and any(c.suffix.lower() in PHOTO_SUFFIXES for c in p.iterdir())
    )
    if inside:
        which = ", ".join(inside[:3]) + (", …" if len(inside) > 3 else "")
        one = len(inside) == 1
        line = f"{counted(len(inside), 'folder')} in it {'has' if one else 'have'} photos too: {which}"
        print(printable(f"{path}: {line}; not entered, give {'it' if one else 'them'} as well"), file=sys.stderr)
    return found


def sample_paths(result: Path, samples: int) -> list[Path]:
    """Where a photo's samples and their contact sheet go."""
    if not samples:
        return []
    names = [*(f"sample{number}{result.suffix}" for number in range(1, samples + 1)), "samples.png"]
    return [result.with_name(f"{result.stem}.{name}") for name in names]


def side_by_side_path(result: Path) -> Path:
    """Where the photo beside its result goes."""
    return result.with_name(f"{result.stem}.side_by_side{result.suffix}")


def boxes_beside(photo: Path) -> Path:
    """The folder in which a photo's boxes are where no others are given."""
    return _beside(Path(os.path.abspath(photo)).parent, "_bbox")  # not resolved: a link's boxes lie beside the link

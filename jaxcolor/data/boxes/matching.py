"""Names that fit no photo, and boxes that are not in pixels: refused before a photo is read, with the likely reason."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn
from urllib.parse import unquote

import numpy as np
from jaxtyping import Bool, Float32, Int64

from jaxcolor.data.boxes.base import BoxStore, photo_key
from jaxcolor.data.types import DataError

_LOOKED_AT = 1000
"""Names on the other side that are compared with the photos' to find out how they were written."""
_MOST_SHARE = 1.5
"""Of a coordinate that is a share of the photo's side: detectors' boxes may reach a little beyond the photo."""

_COCO_PREFIX = re.compile(r"^COCO_[a-z]+[0-9]{4}_")
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
_EXPORT_SUFFIX = re.compile(r"_(?:jpe?g|png|bmp|webp|tiff?)\.rf\.[0-9A-Za-z]+$", re.IGNORECASE)


def _same(name: str) -> str:
    return name


def _plain_number(name: str) -> str:
    return name.lstrip("0") or "0" if name.isdecimal() else name


def _without_prefix(name: str) -> str:
    return _COCO_PREFIX.sub("", name)


def _without_blanks(name: str) -> str:
    return name.replace(" ", "_")


_FORMS: tuple[tuple[str, Callable[[str], str], Callable[[str], str]], ...] = (
    ("its names have the photo's suffix too", photo_key, _same),
    ("its names are cut at the first dot", _same, lambda name: name.split(".")[0]),
    ("the names differ in COCO's prefix", _without_prefix, _without_prefix),
    ("the names differ in leading zeros", _plain_number, _plain_number),
    ("the names differ in capitals", str.casefold, str.casefold),
    ("its names are escaped as addresses are", unquote, _same),
    ("the names differ in blanks and underscores", _without_blanks, _without_blanks),
    ("its names begin with a code of Label Studio's", lambda name: _UPLOAD_PREFIX.sub("", name), _same),
    ("its names end in a code of Roboflow's", lambda name: _EXPORT_SUFFIX.sub("", name), _same),
    (
        "the names differ in COCO's prefix and leading zeros",
        lambda name: _plain_number(_without_prefix(name)),
        lambda name: _plain_number(_without_prefix(name)),
    ),
)
"""What is said, and how names here and the photos' keys become the same."""


def likely_form(entries: Sequence[str], photos: Sequence[str]) -> str:
    """How names that fit no photo seem to have been made of the photos'; empty where that cannot be seen.

    Args:
      entries: names of boxes or pictures, some of them.
      photos: the photos' keys, all of them.
    """
    enough = max(1, min(len(entries), len(photos)) // 2)
    for text, of_entry, of_photo in _FORMS:
        by_form = {of_photo(key): key for key in photos}
        fitting = [(entry, by_form[form]) for entry in entries if (form := of_entry(entry)) in by_form]
        if len(fitting) >= enough:
            return f"{text}: {fitting[0][0]} for {fitting[0][1]}"
    return _affix(entries, photos, enough, "its names have {} where the photos' have nothing") or _affix(
        photos, entries, enough, "its names lack {}, which the photos' have"
    )


def _affix(longer: Sequence[str], shorter: Sequence[str], enough: int, text: str) -> str:
    """Whether names are others with the same text before and behind."""
    known = set(shorter)
    for name in longer[:20]:
        ends = itertools.combinations(range(len(name) + 1), 2)
        for start, end in sorted(ends, key=lambda pair: pair[0] - pair[1]):  # the longest first
            if name[start:end] not in known:
                continue
            before, behind = name[:start], name[end:]
            count = sum(
                other.startswith(before) and other.endswith(behind) and other[start : len(other) - len(behind)] in known
                for other in longer[:_LOOKED_AT]
            )
            if count >= enough:
                added = " and ".join(repr(part) for part in (before, behind) if part)
                return f"{text.format(added)}: {name} beside {name[start:end]}"
            break
    return ""


def refuse_unmatched(
    where: object, what: str, entries: Iterable[str], count: int, photos: Sequence[str], advice: str
) -> NoReturn:
    """Raises the error about names of which none fits a photo.

    Args:
      where: the names are.
      what: they name: ``entry`` or ``entries``, as their number asks for.
      entries: the names, in an order of their own.
      count: how many there are.
      photos: the photos' keys.
      advice: what to do.

    Raises:
      DataError: always; with a name of each side, and the form that would fit if it can be seen.
    """
    some = list(itertools.islice(entries, _LOOKED_AT))
    form = likely_form(some, photos) or f"{some[0]} is there, and the photos are called as {photos[0]}"
    raise DataError(
        f"{where}: of {count:,} {what} not one fits one of {len(photos):,} photo{'s' * (len(photos) != 1)}: "
        f"{form}; {advice}"
    )


def refuse_store(store: BoxStore, photos: Sequence[str]) -> NoReturn:
    """``refuse_unmatched`` for the entries of a box store.

    Raises:
      DataError: always.
    """
    count = len(store)
    what = "entries" if count != 1 else "entry"
    advice = "name boxes of these photos, or none"
    ids = store.kind == "coco_detections" and all(map(str.isdecimal, store.keys()))
    if ids and not all(map(str.isdecimal, photos)):
        advice = "ids name their photos by `jaxcolor boxes pack --images FILE`, a file that lists both"
    refuse_unmatched(store.path, what, store.keys(), count, photos, advice)


def check_fits(store: BoxStore, photos: Sequence[str]) -> None:
    """Checks that a store has an entry for one of the photos at least, or has none at all.

    Raises:
      DataError: it has entries, and not one fits.
    """
    if photos and not any(key in store for key in photos) and len(store):
        refuse_store(store, photos)


def describe_unmatched(
    store: BoxStore,
    per_photo: Int64[np.ndarray, " P"],
    boxes: Float32[np.ndarray, "N 4"],
    others: Sequence[str],
) -> str:
    """What to say about photos and entries that do not belong to each other, and boxes that seem to be shares.

    Args:
      store: where the boxes are from.
      per_photo: how many boxes each photo that can be read has; -1 where there is no entry.
      boxes: these, one photo after another.
      others: keys of the other photos.

    Returns:
      Counts, each after a semicolon; empty if all are 0.
    """
    matched, entries = int((per_photo >= 0).sum()), len(store)
    counts = {
        "photos without an entry": len(per_photo) - matched if matched else 0,
        "entries of no photo here": entries - matched - sum(key in store for key in others) if entries else 0,
        "photos whose boxes look like shares of the photo in place of pixels": _count_shares(boxes, per_photo),
    }
    return "".join(f"; {what}: {count:,}" for what, count in counts.items() if count > 0)


def _look_like_shares(boxes: Float32[np.ndarray, "N 4"]) -> Bool[np.ndarray, " N"]:
    """Which boxes have corners that look like shares of a photo in place of pixels."""
    return (np.abs(boxes) <= _MOST_SHARE).all(axis=1)


def refuse_shares(where: object, boxes: Float32[np.ndarray, "N 4"]) -> None:
    """Checks that not all boxes look like shares of their photos in place of pixels.

    Args:
      where: they are from.
      boxes: of all photos.

    Raises:
      DataError: they do.
    """
    finite = boxes[np.isfinite(boxes).all(axis=1)]
    if len(finite) and _look_like_shares(finite).all():
        first = ", ".join(f"{value:.3g}" for value in finite[0].tolist())
        raise DataError(
            f"{where}: boxes are x0, y0, x1, y1 in pixels, and all {len(boxes):,} of these photos lie between 0 and "
            f"1, like shares of the photo ({first}); multiply them by its width and height"
        )


def _count_shares(boxes: Float32[np.ndarray, "N 4"], per_photo: Int64[np.ndarray, " P"]) -> int:
    """How many photos have boxes that all look like shares of the photo."""
    counts = np.maximum(per_photo, 0)
    shares = np.bincount(np.repeat(np.arange(len(counts)), counts), _look_like_shares(boxes), minlength=len(counts))
    return int(((counts > 0) & (shares == counts)).sum())

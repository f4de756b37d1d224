"""``jaxcolor study make``: a folder to hand out in which nothing shows whose a picture is, and its key."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxcolor.color import without_color
from jaxcolor.data.formats import PHOTO_SUFFIXES
from jaxcolor.data.transforms import read_image, read_size
from jaxcolor.runtime.atomic import atomic_dir
from jaxcolor.runtime.text import counted
from jaxcolor.study.key import GRAY, KEY_NAME, TRUTH, Key, write_key
from jaxcolor.study.page import page, read_wording
from jaxcolor.study.plan import CONDITIONS, Deck, DeckPhoto, Settings, StudyError, check_numbers, fitted

HANDED_OUT = "participants"
"""The folder, inside of the study's, that participants get."""

_SAME_TIME = 946684800
"""All pictures bear the time 2000-01-01: the order of making would tell whose they are."""

Progress = Callable[[], object]


class Matched(NamedTuple):
    """Photos that are there in all folders."""

    stems: tuple[str, ...]
    files: Mapping[str, Mapping[str, Path]]
    """Folder's name -> stem -> file."""
    sizes: Mapping[str, tuple[int, int]]
    """Stem -> width and height."""
    missing: Mapping[str, tuple[str, ...]]
    """Stem that is left out -> folders without it."""


class Made(NamedTuple):
    """What was made of the folders."""

    key: Key
    missing: Mapping[str, tuple[str, ...]]
    same: Mapping[tuple[str, str], int]
    """Pair of systems -> photos of which both give the same picture, where there are any."""


def match(folders: Mapping[str, Path]) -> Matched:
    """The photos of several folders, by the stems of their names.

    Args:
      folders: name -> folder.

    Raises:
      StudyError: a folder is none, two files of one have the same stem, no photo is in all, or the pictures of one
        photo differ in size (they are compared as they are: nothing is resized).
      DataError: a picture cannot be read.
    """
    files = {name: _photos(folder) for name, folder in folders.items()}
    everywhere = set.intersection(*(set(found) for found in files.values()))
    known = sorted(set().union(*files.values()))
    missing = {s: tuple(n for n, found in files.items() if s not in found) for s in known if s not in everywhere}
    if not everywhere:
        where = ", ".join(str(folder) for folder in folders.values())
        raise StudyError(f"{where}: no photo is in all of them (they are matched by their names without suffix)")
    sizes, differing = {}, []
    for stem in sorted(everywhere):
        found_sizes = {name: read_size(found[stem]) for name, found in files.items()}
        sizes[stem] = next(iter(found_sizes.values()))
        if len(set(found_sizes.values())) > 1:
            listed = ", ".join(f"{name} {w}x{h}" for name, (w, h) in found_sizes.items())
            differing.append(f"photo {stem}: its pictures differ in size: {listed}")
    if differing:
        others = f" (and {counted(len(differing) - 1, 'more photo')})" if len(differing) > 1 else ""
        raise StudyError(f"{differing[0]}{others}; bring them to one size first, the same way for every system")
    return Matched(tuple(sorted(everywhere)), files, sizes, missing)


def _photos(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise StudyError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in PHOTO_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise StudyError(f"{found[path.stem]} and {path}: two pictures of one photo")
        found[path.stem] = path
    if not found:
        raise StudyError(f"{folder}: no photos here ({', '.join(PHOTO_SUFFIXES)})")
    return found


def make_study(
    systems: Mapping[str, Path],
    output: Path,
    settings: Settings,
    *,
    gray: Path | None = None,
    truth: Path | None = None,
    wording: Path | None = None,
    seed: int | None = None,
    wishes: Collection[str] = (),
    progress: Progress = lambda: None,
) -> Made:
    """Write a study.

    ``output`` gets the key and a folder ``participants`` with the page and the pictures: decoded and written anew as
    PNG, so without metadata, named and ordered at random, all of one time.

    Args:
      systems: name -> folder of results; at least two, or one for the condition ``real``.
      output: folder to make.
      settings: how it is run.
      gray: folder of gray photos to show with each pair; None: none are shown.
      truth: folder of the originals, for the condition ``real`` and for catch trials.
      wording: JSON file of texts that differ from the page's own.
      seed: of names and orders; None: drawn from the system's randomness.
      wishes: numbers in ``settings`` that become smaller where there are too few photos, see ``plan.fitted``.
      progress: called after each photo.

    Raises:
      StudyError: folders, settings or wording that cannot be used; see ``match`` and ``check_numbers``.
      DataError: ``output`` exists, a picture cannot be read.
    """
    compared, groups = _groups(systems, settings, truth)
    texts = read_wording(wording, settings.condition)
    if seed is not None and seed < 0:
        raise StudyError(f"--seed {seed}: must be at least 0")
    seed = secrets.randbelow(2**32) if seed is None else seed
    matched = match({**systems, **({GRAY: gray} if gray else {}), **({TRUTH: truth} if truth else {})})

    settings = fitted(settings, len(matched.stems) * len(groups), wishes)

    rng = np.random.default_rng(seed)
    order = [matched.stems[i] for i in rng.permutation(len(matched.stems))]
    groups = [groups[i] for i in rng.permutation(len(groups))]
    owners_of = [*compared, *([GRAY] if gray or settings.catches else [])]
    if settings.catches and TRUTH not in owners_of:
        owners_of.append(TRUTH)
    pictures = [(stem, owner) for stem in order for owner in owners_of]
    codes = {pictures[i]: f"p{number:05d}" for number, i in enumerate(rng.permutation(len(pictures)), 1)}
    photos = []
    for number, stem in enumerate(order, 1):
        sides = rng.integers(2, size=len(groups))
        pairs = (
            (codes[stem, pair[side]], codes[stem, pair[1 - side]]) for pair, side in zip(groups, sides, strict=True)
        )
        photos.append(
            DeckPhoto(
                name=f"k{number:04d}",
                size=matched.sizes[stem],
                pairs=tuple(pairs),
                reference=codes[stem, GRAY] if gray else None,
                catch=(codes[stem, TRUTH], codes[stem, GRAY]) if settings.catches and truth else None,
            )
        )
    deck = Deck("", settings.pairs_per_person, settings.repeats, settings.catches, tuple(photos))
    check_numbers(deck)  # before any picture is written

    same: dict[tuple[str, str], int] = {}
    with atomic_dir(output, keep=False) as part:
        handed_out = part / HANDED_OUT
        (handed_out / "pictures").mkdir(parents=True)
        digest = hashlib.sha256(json.dumps([seed, compared, deck.to_dict(), texts]).encode())
        for stem in order:
            drawn = {owner: _picture(matched, stem, owner) for owner in owners_of}
            for owner, picture in drawn.items():
                path = handed_out / "pictures" / f"{codes[stem, owner]}.png"
                picture.save(path, "PNG")
                os.utime(path, (_SAME_TIME, _SAME_TIME))
                digest.update(picture.tobytes())
            for a, b in groups:
                if drawn[a].tobytes() == drawn[b].tobytes():
                    pair = (a, b) if compared.index(a) < compared.index(b) else (b, a)
                    same[pair] = same.get(pair, 0) + 1
            progress()
        key = Key(
            deck=Deck(digest.hexdigest()[:12], deck.pairs_per_person, deck.repeats, deck.catches, deck.photos),
            systems=tuple(compared),
            stems={photo.name: stem for photo, stem in zip(photos, order, strict=True)},
            owners={code: owner for (_, owner), code in sorted(codes.items(), key=lambda item: item[1])},
            settings=settings,
            wording=texts,
            seed=seed,
        )
        (handed_out / "index.html").write_text(page(key.deck, texts, settings), encoding="utf-8")
        write_key(part / KEY_NAME, key)
    return Made(key, matched.missing, same)


def _groups(
    systems: Mapping[str, Path], settings: Settings, truth: Path | None
) -> tuple[list[str], list[tuple[str, str]]]:
    """What is compared, and the pairs of it."""
    taken = [name for name in (TRUTH, GRAY) if name in systems]
    if taken:
        raise StudyError(f"--systems {taken[0]}=…: the name is taken (--{taken[0]}); name the system otherwise")
    if settings.condition not in CONDITIONS:
        raise StudyError(f"--condition {settings.condition}: must be one of {', '.join(CONDITIONS)}")
    if truth is None and (settings.condition == "real" or settings.catches):
        reason = "--condition real" if settings.condition == "real" else f"--catches {settings.catches}"
        raise StudyError(f"{reason}: needs the originals (--truth DIR)")
    if settings.least_ms < 0:
        raise StudyError(f"--least-ms {settings.least_ms}: must be at least 0")
    if not (math.isfinite(settings.most_zoom) and settings.most_zoom > 0):
        raise StudyError(f"--most-zoom {settings.most_zoom}: must be above 0")
    if settings.condition == "real":
        return [*systems, TRUTH], [(system, TRUTH) for system in systems]
    if len(systems) < 2:
        raise StudyError("--systems: give at least two, NAME=DIR NAME=DIR")
    return list(systems), list(itertools.combinations(systems, 2))


def _picture(matched: Matched, stem: str, owner: str) -> Image.Image:
    if owner == GRAY:  # also where --gray holds photos in color: participants must see none
        source = matched.files.get(GRAY) or matched.files[TRUTH]
        return Image.fromarray(without_color(np.asarray(read_image(source[stem])))).convert("RGB")
    return read_image(matched.files[owner][stem])


def named_folders(arguments: Sequence[str]) -> dict[str, Path]:
    """Folders given as ``NAME=DIR``.

    Raises:
      StudyError: an argument of another form, or a name twice.
    """
    folders: dict[str, Path] = {}
    for argument in arguments:
        name, equals, folder = argument.partition("=")
        if not (name.strip() and equals and folder):
            raise StudyError(f"--systems {argument}: must be NAME=DIR")
        if name in folders:
            raise StudyError(f"--systems {argument}: {name} is there twice")
        folders[name] = Path(folder)
    return folders

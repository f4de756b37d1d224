"""A folder of frames colored as a film: in order, steadied, its state kept so that a film that is stopped goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from jaxcolor.config import FilmConfig, check_canvases, check_crop_sides
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.transforms import read_size, stored_size
from jaxcolor.data.types import Boxes, DataError
from jaxcolor.hints import PhotoHints, match_hints, read_hints
from jaxcolor.inference import film
from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.inference.film_steering import Steering, follow
from jaxcolor.inference.jobs import (
    Dropped,
    Failures,
    Job,
    check_hints,
    read_pixels,
    said_warnings,
    steered,
    with_boxes,
    write_result,
)
from jaxcolor.inference.made_with import is_made_with, made_with
from jaxcolor.inference.photos import AUTO, read_photo
from jaxcolor.inference.pictures import Saving
from jaxcolor.inference.result_paths import described, plan, side_by_side_path
from jaxcolor.inference.upsample import reduced
from jaxcolor.runtime.atomic import atomic_write
from jaxcolor.runtime.errors import UserError, printable
from jaxcolor.runtime.places import local_path
from jaxcolor.runtime.regular_file import DAMAGED, open_regular
from jaxcolor.weights import packaged

STATE = ".jaxcolor-film.npz"
"""In the folder of results while a film is not finished."""
_UNREADABLE = (OSError, *DAMAGED)
"""What reading a state may raise where there is none, or not a whole one: the film begins anew."""
_BATCH_PIXELS = 1 << 26
"""Of the frames that are held at once: 200 MB."""
_FILM_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".mxf", ".ogv", ".ts")


class _Film(NamedTuple):
    """What holds for all frames."""

    colorizer: Colorizer
    settings: FilmConfig
    size: tuple[int, int]
    """Width and height of the frames."""
    batch: int
    """So many frames are colored at a time."""
    named: frozenset[Path]
    """The frames of the hints file."""
    saving: Saving
    beside: bool


class _Progress(NamedTuple):
    """How far a film is."""

    done: int
    """So many frames, from the first."""
    state: film.FilmState
    steering: Steering
    replacing: bool
    """Whether results of before are replaced."""


def colorize_film(
    folder: Path,
    weights: str | Path | None,
    output: Path | None,
    *,
    boxes: Path | Literal["auto", "none"] | None,
    boxes_per_photo: int | None,
    batch_size: int,
    replace: bool,
    hints: Path | None = None,
    vivid: float | None = None,
    saturation: float = 1.0,
    saving: Saving = Saving(),  # noqa: B008 (it cannot be changed)
    beside: bool = False,
    crop_sides: Sequence[int] = (),
    canvases: Sequence[int] | None = None,
    settings: FilmConfig = FilmConfig(),  # noqa: B008
) -> None:
    """Color the frames of a film into a folder, in the order of the numbers in their names.

    Frames are colored in batches and steadied one after another (``inference.film``). Until the next scene a frame
    without boxes or hints of its own has those of the last frame before that has some; hints for objects go to the box
    that overlaps most. A film that was stopped goes on after its last whole batch, and gives the same frames.

    Args:
      folder: of the frames, all of one size, two at least.
      weights: see ``files.colorize_files``, as all that follows.
      output: folder, made if it is not there; None: ``<folder>_color`` beside the frames.
      boxes: a box store; frames without an entry are no error. None: boxes beside the frames; ``none``: no boxes. Boxes
        are not found here (``auto`` is refused): from frame to frame they would come and go, and the color with them.
      boxes_per_photo: see ``Colorizer``.
      batch_size: frames in one call of the networks.
      replace: color frames again whose results exist; otherwise no file that exists is replaced.
      hints: a hints file of frames; one strength ``vivid`` at most.
      vivid: see ``Colorizer``.
      saturation: factor of the chroma.
      saving: format and quality of the results.
      beside: the frame without colors and the result in one picture besides.
      crop_sides: see ``Colorizer``.
      canvases: see ``Colorizer.from_pretrained``.
      settings: how frames are steadied.

    Raises:
      UserError: no folder of frames, frames of different sizes, results of other weights or settings among them, a
        frame that cannot be read: the film stops before its batch.
    """
    if boxes == AUTO:
        raise UserError("--film: boxes are not found in films; give boxes, or none")
    if (boxes_per_photo is not None and boxes_per_photo < 1) or batch_size < 1:
        raise UserError(f"--boxes-per-photo {boxes_per_photo}, --batch {batch_size}: both must be at least 1")
    saving.check()
    paths = _frames(folder, output, saving)
    size = _common_size(list(paths))
    hinted = {} if hints is None else match_hints(read_hints(hints), list(paths), hints)
    strength = _strength(hinted, vivid, hints)
    canvases = packaged.canvases(weights) if canvases is None else tuple(canvases)
    check_canvases(canvases)
    check_crop_sides(tuple(crop_sides))
    made = made_with(
        weights,
        hints,
        boxes=os.path.abspath(boxes) if isinstance(boxes, Path) else boxes,
        boxes_per_photo=boxes_per_photo,
        vivid=strength,
        saturation=saturation,
        film=json.dumps(dataclasses.asdict(settings), sort_keys=True),
        **({"crop_sides": ",".join(map(str, crop_sides))} if crop_sides else {}),
        **({"canvases": ",".join(map(str, canvases))} if canvases else {}),
    )
    saving = saving._replace(settings=made)
    results = list(paths.values())
    place = results[0].parent
    there = [path.is_file() and (not beside or side_by_side_path(path).is_file()) for path in results]
    kept = None if replace else _load(place / STATE, list(paths), made)
    replace = replace or (kept is not None and kept.replacing)  # which an earlier run began
    if not replace:
        _check_made(results, there, made)
        if any(there):
            known = "skipped; --force colors them again" if all(there) else "kept"
            print(f"{sum(there)} of {len(there)} frames are in {place} already: {known}", file=sys.stderr)
        if all(there):
            (place / STATE).unlink(missing_ok=True)
            return
    colorizer = Colorizer.from_pretrained(
        weights,
        boxes_per_photo,
        vivid=strength,
        saturation=saturation,
        bits=saving.bits,
        crop_sides=crop_sides,
        canvases=canvases,
    )
    jobs = _jobs(paths, colorizer, boxes, hinted, packaged.described(weights))
    place.mkdir(parents=True, exist_ok=True)
    progress = _Progress(0, film.start(colorizer.config.side), Steering(), replace)
    if kept is not None and all(there[: kept.done]):
        progress = kept
    batch = max(1, min(batch_size, _BATCH_PIXELS // (size[0] * size[1])))
    whole = _Film(colorizer, settings, size, batch, frozenset(hinted), saving, beside)
    dropped = Dropped()
    with tqdm(total=len(jobs), initial=progress.done, unit="frame", dynamic_ncols=True, disable=None) as bar:
        while progress.done < len(jobs):
            some = jobs[progress.done : progress.done + batch]
            progress = _color(whole, some, progress, dropped)
            _save(place / STATE, progress, jobs[progress.done - 1].photo, made)
            bar.update(len(some))
    (place / STATE).unlink(missing_ok=True)
    dropped.report()
    print(f"{len(jobs) - (0 if replace else sum(there))} frames colored into {described(output, results)}")


def _color(whole: _Film, jobs: Sequence[Job], before: _Progress, dropped: Dropped) -> _Progress:
    """Color some frames and write them; how far the film then is."""
    colorizer, batch, saving = whole.colorizer, whole.batch, whole.saving
    try:
        pictures = [read_pixels(job.photo, saving.bits) for job in jobs]
    except DataError as error:
        raise UserError(f"{error}; the film stops before it, and goes on when it can be read") from error
    for job, picture in zip(jobs, pictures, strict=True):
        _check_size(job.photo, (picture.shape[1], picture.shape[0]), whole.size)
    canvas = _filled([reduced(read_photo(picture), colorizer.config.side) for picture in pictures], batch)
    cuts = film.scene_cuts(before.state, canvas, whole.settings)
    steering, guided = before.steering, []
    for job, cut in zip(jobs, np.asarray(cuts).tolist(), strict=False):
        steering, job = follow(Steering() if cut else steering, job, job.photo in whole.named)
        guided.append(job)
        dropped.add(job, whole.size)
    with said_warnings():
        frames = colorizer.on_canvas(
            pictures,
            [job.boxes.boxes if job.boxes else None for job in guided],
            [job.boxes.scores if job.boxes else None for job in guided],
            [job.hints for job in guided],
        )
    ab = _filled([frame.ab for frame in frames], batch)
    state, steadied = film.steady(before.state, canvas, ab, cuts, np.arange(batch) < len(jobs), whole.settings)
    for job, picture, frame, colors in zip(guided, pictures, frames, np.asarray(steadied), strict=False):
        write_result(job, picture, colorizer.at_size(frame.photo, colors), before.replacing, saving, whole.beside)
    return _Progress(before.done + len(jobs), state, steering, before.replacing)


def _filled(arrays: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Stacked, and filled up with zeros: one shape is compiled."""
    stacked = np.stack(arrays)
    return np.pad(stacked, [(0, length - len(stacked))] + [(0, 0)] * (stacked.ndim - 1))


def _frames(folder: Path, output: Path | None, saving: Saving) -> dict[Path, Path]:
    """The frames in their order, and where their results go."""
    if not folder.is_dir():
        how = ""
        if folder.suffix.lower() in _FILM_SUFFIXES:
            how = f"; take it apart: mkdir frames && ffmpeg -i {folder} frames/%06d.png (docs/films.md)"
        raise UserError(f"--film {folder}: takes one folder of frames{how}")
    output = None if output is None else Path(local_path(output, "output"))
    paths = plan([folder], output, saving.suffix)
    if len(paths) < 2:
        raise UserError(f"--film {folder}: holds one frame; a film has at least two. Without --film it is colored")
    return dict(sorted(paths.items(), key=lambda item: _natural(item[0].name)))


def _natural(name: str) -> tuple[Any, ...]:
    """A key by which frame 2 comes before frame 10."""
    parts = re.split(r"([0-9]+)", name)
    return (*((text, int(number)) for text, number in zip(parts[::2], [*parts[1::2], "0"], strict=True)), name)


def _common_size(frames: Sequence[Path]) -> tuple[int, int]:
    """Width and height of all frames."""
    first = stored_size(frames[0])
    for frame in frames[1:]:
        _check_size(frame, stored_size(frame), first)
    return read_size(frames[0])


def _check_size(frame: Path, size: tuple[int, int], first: tuple[int, int]) -> None:
    if size != first:
        what = f"{size[0]} x {size[1]} pixels, and the first is {first[0]} x {first[1]}"
        raise UserError(f"{frame}: {what}; all frames of a film must have one size")


def _strength(hinted: Mapping[Path, PhotoHints], vivid: float | None, where: Path | None) -> float | None:
    """The one ``vivid`` of a film: of the command, or of the hints file."""
    said = {of_frame.vivid for of_frame in hinted.values() if of_frame.vivid is not None}
    if vivid is not None or not said:
        return vivid
    if len(said) > 1:
        raise UserError(f"{where}: vivid is {' and '.join(map(str, sorted(said)))}; a film has one: give --vivid")
    return said.pop()


def _check_made(results: Sequence[Path], there: Sequence[bool], made: str) -> None:
    """Refuse to add to a film that was colored otherwise: it would jump. The state tells as well as pictures do."""
    state = results[0].parent / STATE
    other = [path for path, is_there in zip(results, there, strict=True) if is_there and not is_made_with(path, made)]
    if any(there) and not other:
        with contextlib.suppress(*_UNREADABLE), open_regular(state) as file, np.load(file) as kept:
            other = [state] if str(kept["made"]) != made else []
    if other:
        how = "--force colors the film again, or name another folder with -o"
        raise UserError(f"{printable(str(other[0]))}: of other weights, boxes, hints or settings; {how}")


def _jobs(
    paths: Mapping[Path, Path],
    colorizer: Colorizer,
    boxes: Path | Literal["auto", "none"] | None,
    hinted: Mapping[Path, PhotoHints],
    weights: str,
) -> list[Job]:
    """The frames with their own boxes and hints; boxes only where they are used."""
    jobs = [Job(frame, result, None) for frame, result in paths.items()]
    of_objects = any(hint.object is not None for given in hinted.values() for hint in given.hints)
    if boxes != "none" and (colorizer.uses_boxes or of_objects):
        failures = Failures()
        store = open_store(boxes) if isinstance(boxes, Path) else None
        jobs = list(with_boxes(paths, store, "none", failures))
        if failures.count:
            raise UserError(f"boxes of {failures.count} of {len(paths)} frames cannot be read; they are named above")
    elif isinstance(boxes, Path):
        print(f"{weights} holds the full-image network only: boxes are not used", file=sys.stderr)
    jobs = [steered(job, hinted.get(job.photo, PhotoHints()), None)._replace(vivid=None) for job in jobs]
    latest: Boxes | None = None
    for job in jobs:
        latest = job.boxes or latest
        check_hints(job._replace(boxes=latest))
    return jobs


def _save(path: Path, progress: _Progress, last: Path, made: str) -> None:
    """Keep how far a film is, and by which frame it is known."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in progress.state._asdict().items()}
    arrays |= {"frame": last.name, "made": made, "replacing": progress.replacing}
    with atomic_write(path) as part, part.open("wb") as file:
        np.savez(file, **arrays, steering=progress.steering.to_json())


def _load(path: Path, frames: Sequence[Path], made: str) -> _Progress | None:
    """How far a film of these settings is; None: it begins anew."""
    try:
        with open_regular(path) as file, np.load(file) as kept:
            state = film.FilmState(*(kept[name] for name in film.FilmState._fields))
            frame, of, replacing = str(kept["frame"]), str(kept["made"]), bool(kept["replacing"])
            steering = Steering.from_json(str(kept["steering"]))
    except _UNREADABLE:
        return None
    numbers = [number for number, each in enumerate(frames) if each.name == frame]
    return _Progress(numbers[0] + 1, state, steering, replacing) if numbers and of == made else None

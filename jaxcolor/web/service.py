"""From what the page asks to what it gets: requests wait in one line for the one thread that has the networks."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from PIL import Image

from jaxcolor.data.types import Encoded
from jaxcolor.hints import Hint, parse_photo_hints
from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.inference.pictures import MEDIA_TYPES, PictureFormat, Saving, encode, read_metadata
from jaxcolor.inference.upsample import without_color
from jaxcolor.runtime.errors import UserError
from jaxcolor.web import limits
from jaxcolor.web.engine import Engine, State
from jaxcolor.web.uploads import Upload

T = TypeVar("T")

_FIELDS = ("boxes", "hints", "vivid", "saturation", "at", "count", "seed", "gray", "format")
_PREVIEW_QUALITY = 90


class BusyError(UserError):
    """Too many requests wait."""


class File(NamedTuple):
    """An answer that is a file."""

    data: bytes
    media_type: str
    name: str


class Wish(NamedTuple):
    """What the page says of a photo, checked as far as it can be without the photo."""

    state: State
    vivid: float | None
    saturation: float | None
    rest: dict[str, Any]
    """The other fields."""


class Service:
    """One model and the photos that it has been sent."""

    def __init__(self, colorizer: Colorizer, weights: str = "") -> None:
        """``weights``: their name, for the metadata of results."""
        self._weights = weights
        self.engine = Engine(colorizer)
        self.waiting = 0
        self._thread = ThreadPoolExecutor(1, "model")

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do it when it is its turn.

        Raises:
          BusyError: too many wait already.
        """
        if self.waiting >= limits.WAITING:
            raise BusyError(f"{self.waiting} requests wait already; try again in a moment")
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        finally:
            self.waiting -= 1

    def warm_up(self) -> None:
        """Compile what the first photos need before they are asked for; what is asked for comes first."""
        programs = self.engine.warm_up()

        def compile_next() -> None:
            with contextlib.suppress(RuntimeError):  # it closes
                if next(programs, True) is None:
                    self._thread.submit(compile_next)

        self._thread.submit(compile_next)

    def close(self) -> None:
        """Finish what is being done, and nothing more."""
        self._thread.shutdown(cancel_futures=True)

    def about(self) -> dict[str, Any]:
        """What the page should know of the weights and limits."""
        colorizer = self.engine.colorizer
        return {
            "palettes": colorizer.has_classes,
            "uses_boxes": colorizer.uses_boxes,
            "boxes_per_photo": colorizer.boxes_per_photo,
            "vivid": colorizer.vivid if self._can_be_vivid else None,
            "most_bytes": limits.UPLOAD_BYTES,
            "most_samples": limits.SAMPLES,
        }

    @property
    def _can_be_vivid(self) -> bool:
        colorizer = self.engine.colorizer
        return colorizer.has_classes or colorizer.saturation_curve is not None

    def add(self, name: str, data: bytes) -> dict[str, Any]:
        """Take a photo: its key and size, and the boxes of its objects where the weights find them."""
        upload = self.engine.uploads.add(name, data)
        width, height = upload.size
        boxes = self.engine.found(upload).boxes
        return {"id": upload.key, "name": upload.name, "width": width, "height": height, "boxes": boxes}

    def color(self, name: str, data: bytes) -> File:
        """A photo in color at its own size, of which nothing is kept."""
        upload = self.engine.uploads.add(name, data)
        try:
            return self.download(upload.key, parse_wish(b"")._replace(state=self.engine.found(upload)))
        finally:
            self.engine.forget(upload.key)

    def show(self, key: str, wish: Wish) -> File:
        """A photo in color, as large as a screen; gray if the wish says so."""
        upload = self.engine.uploads.get(key)
        if wish.rest.get("gray"):
            rgb = without_color(upload.preview)
        else:
            rgb = self.engine.picture(upload, wish.state, upload.preview, wish.vivid, wish.saturation)
        return File(_preview(rgb), MEDIA_TYPES["jpeg"], "preview.jpg")

    def download(self, key: str, wish: Wish) -> File:
        """A photo in color at its own size, with its metadata."""
        upload = self.engine.uploads.get(key)
        kind = wish.rest.get("format", "png")
        if not isinstance(kind, str):
            raise UserError(f"format is {_short(kind)}; it must be a text")
        saving = Saving(cast(PictureFormat, kind), weights=self._weights)
        saving.check()
        if saving.bits != 8:
            raise UserError(
                f"format {kind}: the page computes pictures of 8 bits; use jaxcolor colorize --format {kind}"
            )
        rgb = self.engine.picture(upload, wish.state, self.engine.uploads.pixels(upload), wish.vivid, wish.saturation)
        stem = upload.name.rpartition(".")[0] or upload.name
        file = io.BytesIO()
        encode(file, rgb, saving, read_metadata(Encoded(upload.name, upload.data)))
        return File(file.getvalue(), MEDIA_TYPES[saving.format], f"{stem}.color{saving.suffix}")

    def palette(self, key: str, wish: Wish) -> dict[str, Any]:
        """The plausible colors of an object or of a point."""
        found = self.engine.palette(self.engine.uploads.get(key), wish.state, _place(wish.rest.get("at")))
        return {
            "colors": [
                {"rgb": _hex(rgb), "probability": round(share, 4)}
                for rgb, share in zip(found.rgb.tolist(), found.probability.tolist(), strict=True)
            ]
        }

    def samples(self, key: str, wish: Wish) -> dict[str, Any]:
        """Different results, small, with the hints that make them."""
        upload = self.engine.uploads.get(key)
        count, seed = (_whole(wish.rest, name, least) for name, least in (("count", 4), ("seed", 0)))
        found = self.engine.samples(upload, wish.state, count, seed)
        return {"samples": [self._sample(upload, state, wish) for state in found]}

    def _sample(self, upload: Upload, state: State, wish: Wish) -> dict[str, Any]:
        rgb = self.engine.picture(upload, state, upload.thumbnail, wish.vivid, wish.saturation)
        picture = base64.b64encode(_preview(rgb)).decode()
        return {"hints": [_hint_json(hint) for hint in state.hints], "picture": f"data:image/jpeg;base64,{picture}"}


def parse_wish(body: bytes) -> Wish:
    """What the page says of a photo.

    Raises:
      UserError: it is no JSON, or has a field that there is not or of a wrong kind; one line.
    """
    try:
        content = json.loads(body or b"{}", parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(f"no JSON: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict):
        raise UserError("must be a JSON object")
    for name in content:
        if name not in _FIELDS:
            raise UserError(f"no such field {_short(name)}; known: {', '.join(_FIELDS)}")
    said = {"hints": []} | {name: content[name] for name in ("boxes", "hints") if name in content}
    given = parse_photo_hints("photo", said)
    boxes = () if given.boxes is None else tuple(tuple(box) for box in given.boxes.tolist())
    hints = tuple(hint if isinstance(hint.rgb, str) else _with_text(hint) for hint in given.hints)
    strengths = {}
    for name in ("vivid", "saturation"):
        value = content.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 100):
            raise UserError(f"{name} is {_short(value)}; it must be a number")
        strengths[name] = None if value is None else float(value)
    rest = {name: content[name] for name in ("at", "count", "seed", "gray", "format") if name in content}
    return Wish(State(boxes, hints), strengths["vivid"], strengths["saturation"], rest)


def _with_text(hint: Hint) -> Hint:
    """A hint that can be a key."""
    return Hint(hint.x, hint.y, _hex(hint.rgb), hint.radius, hint.object)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _place(at: Any) -> int | tuple[float, float]:
    """The number of an object, or a point."""
    if isinstance(at, dict):
        if set(at) == {"object"} and isinstance(at["object"], int) and not isinstance(at["object"], bool):
            return at["object"]
        values = [at.get(name) for name in ("x", "y")]
        if set(at) == {"x", "y"} and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
            return float(at["x"]), float(at["y"])
    raise UserError(f'at is {_short(at)}; it must be {{"object": number}} or {{"x": pixels, "y": pixels}}')


def _whole(fields: dict[str, Any], name: str, default: int) -> int:
    value = fields.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{name} is {_short(value)}; it must be a whole number")
    return value


def _hint_json(hint: Hint) -> dict[str, Any]:
    """A hint as a hints file has it."""
    fields = {"x": hint.x, "y": hint.y, "object": hint.object, "rgb": hint.rgb, "radius": hint.radius}
    return {name: value for name, value in fields.items() if value is not None}


def _hex(rgb: Any) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _preview(rgb: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, format="JPEG", quality=_PREVIEW_QUALITY)
    return file.getvalue()

"""What ``report.html`` carries of the photos: everybody's scores as one JSON text, pictures of the chosen as others.

A browser parses the scores when it opens the page; the texts with pictures stay text until a photo is looked at.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from jaxcolor.evaluation.metrics.metric import Column, Direction
from jaxcolor.evaluation.report.failures import KINDS
from jaxcolor.evaluation.report.gallery import Pictured, Weights, main_system
from jaxcolor.evaluation.results import Results
from jaxcolor.evaluation.tables import TITLES, title

COVERED = ("in boxes", "of the photo", "Share of the picture in boxes.")

_LOSSLESS_SIDE = 128
"""Up to this side pictures are kept to the bit; above, as JPEG without chroma subsampling, which would blur color."""
_JPEG_QUALITY, _MAP_QUALITY = 90, 80
_MAP_SIDE = 128
"""Largest side of a weight map in the page; larger ones are averaged down."""


class Embedded(NamedTuple):
    """A photo's pictures as the page keeps them."""

    row: int
    """Its place in the results."""
    description: dict[str, Any]
    """What the page must know before it looks at them."""
    text: str
    """JSON: system -> data URI, and ``weights`` -> the sprite's. Base64 and names of systems: safe inside a script."""


_BETTER: dict[Direction, int] = {"higher": 1, "lower": -1, "neither": 0}


def page_data(results: Results, embedded: Iterable[Embedded]) -> dict[str, Any]:
    """The scores of all photos, column by column, and what is known of the embedded pictures; see ``as_script``."""
    systems = list(results.scores)
    measured, facets = results.metrics, results.facets
    columns = {m: c for m, c in results.metric_columns.items() if m in measured}
    columns |= {m: Column(m) for m in measured if m not in columns}
    description = {"covered": COVERED, **{name: (k.title, k.unit, k.description) for name, k in KINDS.items()}}
    return {
        "systems": [{"key": s, "title": title(s)} for s in systems],
        "titles": {**TITLES, **{s: title(s) for s in systems}},
        "main": main_system(systems) if systems else None,
        "metrics": [
            {"key": m, "title": c.title, "digits": c.digits, "better": _BETTER[c.direction]} for m, c in columns.items()
        ],
        "facets": [
            {"key": f, "title": t, "unit": u, "description": why, "failure": f in KINDS}
            for f, (t, u, why) in description.items()
            if f in facets
        ],
        "names": list(results.names),
        "boxes": results.boxes.tolist(),
        "values": {f: _column(facets[f]) for f in description if f in facets},
        "scores": {s: {m: _column(results.scores[s][m]) for m in columns} for s in systems},
        "pictures": {str(e.row): e.description for e in embedded},
    }


def _column(values: Float[np.ndarray, " P"]) -> list[float | str | None]:
    """Six digits; None where not defined. JSON knows no infinity: it becomes a word."""
    return [
        None if math.isnan(v) else float(f"{v:.6g}") if math.isfinite(v) else "inf" if v > 0 else "-inf"
        for v in values.tolist()
    ]


def as_script(value: Any) -> str:
    """JSON that can stand in a ``<script>`` element, whatever the names in it hold: ``<`` is written as an escape."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def embed(row: int, shown: Pictured) -> Embedded:
    """One photo's pictures and weight maps as text."""
    width, height = shown.extent
    pictures = {system: picture_uri(np.ascontiguousarray(rgb[:height, :width])) for system, rgb in shown.panels.items()}
    description: dict[str, Any] = {
        "extent": [width, height],
        "panels": list(pictures),
        "boxes": [[*b, None if math.isnan(s) else round(s, 3)] for b, s in _scored(shown)],
        "annotated": None if shown.annotated is None else shown.annotated.tolist(),
    }
    if shown.weights:
        description["taps"], description["tile"], sprite = _sprite(shown.weights)
        pictures["weights"] = sprite
    return Embedded(row, description, as_script(pictures))


def _scored(shown: Pictured) -> list[tuple[list[int], float]]:
    return list(zip(shown.boxes.tolist(), shown.scores.tolist(), strict=True))


def _uri(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def picture_uri(rgb: UInt8[np.ndarray, "h w 3"]) -> str:
    """A picture as a data URI: to the bit where it is small, else as JPEG without chroma subsampling."""
    image = Image.fromarray(rgb)
    if max(image.size) <= _LOSSLESS_SIDE:
        return _uri(image, "WEBP", lossless=True)
    return _uri(image, "JPEG", quality=_JPEG_QUALITY, subsampling=0)


def _sprite(weights: Mapping[str, Weights]) -> tuple[list[dict[str, Any]], int, str]:
    """All weight maps of a photo in one gray picture: a row of tiles for each tap, W_F first, then each W_I.

    Each map is stretched from its lowest to its highest value, which stand beside it.

    Returns:
      Of each tap its name, the side of its grid, the side of its tiles, the row where they begin, and the lowest and
      highest value of each map; the tiles' distance; the picture.
    """
    taps: list[dict[str, Any]] = []
    rows: list[np.ndarray] = []
    tile, y = min(_MAP_SIDE, max(w.full.shape[0] for w in weights.values())), 0
    for name, maps in weights.items():
        every = np.concatenate([maps.full[None], maps.instance]).astype(np.float32)
        grid = every.shape[1]
        side = min(grid, tile)
        low, high = every.min(axis=(1, 2)), every.max(axis=(1, 2))
        row = np.zeros((side, len(every) * tile), np.uint8)
        for i, values in enumerate(_stretched(every, low, high)):
            small = Image.fromarray(values).resize((side, side), Image.Resampling.BOX)
            row[:, i * tile : i * tile + side] = np.rint(np.asarray(small))
        ranges = [[round(float(a), 5), round(float(b), 5)] for a, b in zip(low, high, strict=True)]
        taps.append({"name": name, "grid": grid, "side": side, "y": y, "ranges": ranges})
        rows.append(row)
        y += side
    image = Image.fromarray(np.concatenate(rows))
    lossless = tile <= _LOSSLESS_SIDE // 2
    return taps, tile, _uri(image, "WEBP", lossless=lossless, **({} if lossless else {"quality": _MAP_QUALITY}))


def _stretched(maps: np.ndarray, low: np.ndarray, high: np.ndarray) -> Sequence[np.ndarray]:
    width = np.where(high > low, high - low, 1)
    return list(((maps - low[:, None, None]) / width[:, None, None] * 255).astype(np.float32))

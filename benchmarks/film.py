"""How much the colors of a made film flicker, each frame by itself and steadied, with the package's default weights.

Command: ``python benchmarks/film.py`` prints JSON; ``--save DIR`` keeps the gray frames, for ``jaxcolor colorize``.

The clip is made of the package's demo photographs: a still background, over which a part of another photograph moves by
three pixels a frame, then a second scene. Grain (a standard deviation of 2.5 of 255) and a light that changes by up to
2% from frame to frame are added, as old films have them. ``flicker`` is ``inference.film.flicker``, in units of ab*, at
the frames' size, over pixels whose L* before grain and light did not change; that of a color that never changes is what
grain and 8 bits make of it. ``error`` is the mean absolute difference of ab* from the truth, where something moves and
elsewhere.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from jaxcolor import color
from jaxcolor.config import FilmConfig
from jaxcolor.data.transforms import read_rgb
from jaxcolor.demo_photos import FOLDER
from jaxcolor.inference import film
from jaxcolor.inference.colorizer import Colorizer

SIDE, OBJECT = 288, 80
SCENES = (("coffee", "chelsea"), ("rocket", "astronaut"))


class Clip(NamedTuple):
    """A made film, T frames."""

    truth: UInt8[np.ndarray, "T H W 3"]
    gray: UInt8[np.ndarray, "T H W 3"]
    """With grain and a changing light."""
    moving: Bool[np.ndarray, "T H W"]
    """Where the object is."""


def make_clip(frames: int) -> Clip:
    """Two scenes of half the frames each."""
    rng = np.random.default_rng(0)
    truth, moving = np.zeros((frames, SIDE, SIDE, 3), np.uint8), np.zeros((frames, SIDE, SIDE), bool)
    for t in range(frames):
        background, thing = (_square(name) for name in SCENES[2 * t // frames])
        x = 10 + 3 * (t % (frames // 2))
        middle = (SIDE - OBJECT) // 2
        truth[t] = background
        truth[t, middle : middle + OBJECT, x : x + OBJECT] = thing[middle : middle + OBJECT, middle : middle + OBJECT]
        moving[t, middle : middle + OBJECT, x : x + OBJECT] = True
    gray = color.without_color(truth).astype(np.float64) * rng.uniform(0.98, 1.02, (frames, 1, 1))
    gray = np.clip(np.rint(gray + rng.normal(0, 2.5, gray.shape)), 0, 255).astype(np.uint8)
    return Clip(truth, np.repeat(gray[..., None], 3, axis=-1), moving)


def _square(name: str) -> UInt8[np.ndarray, "H W 3"]:
    rgb = read_rgb(FOLDER / f"{name}.jpg")
    side = min(rgb.shape[:2])
    return np.asarray(Image.fromarray(rgb[:side, :side]).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def measure(clip: Clip, vivid: float, lengths: list[int]) -> dict[str, Any]:
    """Flicker and error of each frame by itself, and steadied over so many frames."""
    colorizer = Colorizer.from_pretrained(vivid=vivid)
    shown = [frame for each in clip.gray for frame in colorizer.on_canvas([each])]
    canvas, ab = np.stack([frame.canvas for frame in shown]), np.stack([frame.ab for frame in shown])
    found = {"each frame by itself": ab}
    for length in lengths:
        settings, state = FilmConfig(frames=length), film.start(colorizer.config.side)
        cuts = film.scene_cuts(state, canvas, settings)
        _, steadied = film.steady(state, canvas, ab, cuts, np.ones(len(ab), bool), settings)
        found[f"steadied over {length} frames"] = np.asarray(steadied)
    found["a color that never changes"] = np.broadcast_to(ab.mean(axis=0), ab.shape)
    truth = color.rgb_to_lab(color.unit_rgb(clip.truth))
    rows: dict[str, Any] = {"scenes_begin_at": np.flatnonzero(cuts).tolist()}
    for name, colors in found.items():
        pictures = np.stack([colorizer.at_size(f.photo, each) for f, each in zip(shown, colors, strict=True)])
        lab = color.rgb_to_lab(color.unit_rgb(pictures))
        wrong = np.abs(lab[..., 1:] - truth[..., 1:])
        rows[name] = {
            "flicker": round(float(film.flicker(jnp.asarray(truth[..., 0]), jnp.asarray(lab[..., 1:]))), 3),
            "error_still": round(float(wrong[~clip.moving].mean()), 2),
            "error_moving": round(float(wrong[clip.moving].mean()), 2),
        }
    return rows


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--lengths", type=int, nargs="*", default=[4, 12, 24])
    parser.add_argument("--vivid", type=float, nargs="*", default=[0.0, 0.75])
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    clip = make_clip(options.frames)
    if options.save:
        options.save.mkdir(parents=True)
        for number, rgb in enumerate(clip.gray, start=1):
            Image.fromarray(rgb).save(options.save / f"{number:06d}.png")
    print(json.dumps({f"vivid {vivid:g}": measure(clip, vivid, options.lengths) for vivid in options.vivid}, indent=2))


if __name__ == "__main__":
    main()

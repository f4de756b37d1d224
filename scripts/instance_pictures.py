"""Where instances help and where they hurt, on photographs that scikit-image brings along: ``docs/instances.jpg``.

    python scripts/instance_pictures.py docs/instances.jpg

A row a photo, with the PSNR of each result at the photo's own size: gray; the whole photo alone; with eight own boxes;
without boxes, on canvases of 256 and 512; the truth; and which of the first two colored ones is closer to the truth,
green where instances help, red where they hurt, with the gain in each box in dB. Needs scikit-image (the extra
``dev``).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFilter
from skimage import data

from jaxcolor import Colorizer
from jaxcolor.color import without_color
from jaxcolor.evaluation.metrics.psnr import psnr

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
"""In the public domain, or CC0."""
COLUMNS = ("gray", "whole photo", "eight own boxes", "canvases 256 and 512", "truth", "boxes closer, farther")
WIDTH, TITLE = 240, 16
BLUR = 4
"""Pixels over which errors are averaged in the last column."""
FULL_COLOR = 400.0
"""Difference of squared errors that is shown in full color."""

Photo = UInt8[np.ndarray, "H W 3"]


def decibel(result: Photo, truth: Photo) -> float:
    """PSNR of one picture, or of a part of it."""
    return float(psnr(jnp.asarray(result[None]), jnp.asarray(truth[None]))[0])


def squared_error(result: Photo, truth: Photo) -> np.ndarray:
    """(H, W), the mean over channels."""
    return np.asarray(((result.astype(np.float32) - truth) ** 2).mean(axis=-1))


def closer(gray: Photo, whole: Photo, fused: Photo, truth: Photo, boxes: np.ndarray) -> Image.Image:
    """The last column: the gray photo tinted, with the gain in each box."""
    before, after = squared_error(whole, truth), squared_error(fused, truth)
    gain = np.clip((before - after) / FULL_COLOR, -1, 1)
    smooth = Image.fromarray(np.round(gain * 127 + 128).astype(np.uint8)).filter(ImageFilter.BoxBlur(BLUR))
    strength = (np.asarray(smooth, np.float32)[..., None] - 128) / 127
    tint = np.where(strength > 0, np.array([0, 170, 70]), np.array([220, 30, 40]))
    shown = gray * (1 - np.abs(strength)) + tint * np.abs(strength)
    picture = Image.fromarray(shown.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    size = max(picture.size) // 22
    for x0, y0, x1, y1 in boxes.round().astype(int).tolist():
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline="white", width=2)
        inside = np.s_[y0:y1, x0:x1]
        difference = decibel(fused[inside], truth[inside]) - decibel(whole[inside], truth[inside])
        draw.text((x0 + 4, y0 + 2), f"{difference:+.1f}", fill="white", font_size=size)
    return picture


def row(truth: Photo, alone: Colorizer, canvases: Colorizer) -> Image.Image:
    """A photo's six pictures side by side."""
    gray = np.repeat(without_color(truth)[..., None], 3, axis=-1)
    (boxes,) = alone.find_boxes([gray])
    best = boxes.boxes[: alone.boxes_per_photo]
    results = [np.asarray(r) for r in (alone(gray), alone(gray, best, boxes.scores[: len(best)]), canvases(gray))]
    pictures = [Image.fromarray(p) for p in (gray, *results, truth)]
    pictures.append(closer(gray, results[0], results[1], truth, best))
    height = round(WIDTH * truth.shape[0] / truth.shape[1])
    sheet = Image.new("RGB", (WIDTH * len(pictures), height + TITLE), "white")
    draw = ImageDraw.Draw(sheet)
    for number, picture in enumerate(pictures):
        name = COLUMNS[number]
        if number < 4:
            name += f", {decibel(np.asarray(picture), truth):.2f} dB"
        draw.text((number * WIDTH + 2, 1), name, fill="black", font_size=TITLE - 4)
        small = picture.resize((WIDTH - 3, height), Image.Resampling.LANCZOS)
        sheet.paste(small, (number * WIDTH, TITLE))
    return sheet


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", metavar="FILE", type=Path)
    options = parser.parse_args()
    alone = Colorizer.from_pretrained(boxes_per_photo=8, canvases=())
    canvases = Colorizer.from_pretrained(canvases=(512,))
    rows = [row(np.asarray(getattr(data, name)()), alone, canvases) for name in PHOTOS]
    sheet = Image.new("RGB", (rows[0].width, sum(r.height + 4 for r in rows)), "white")
    top = 0
    for one in rows:
        sheet.paste(one, (0, top))
        top += one.height + 4
    sheet.save(options.output, quality=80)


if __name__ == "__main__":
    main()

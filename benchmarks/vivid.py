"""What vivid colors cost: PSNR, LPIPS and colorfulness of a folder's photos, from safe to as strong as real colors.

Command: ``python benchmarks/vivid.py PHOTOS --boxes none`` prints JSON: mean and 95% interval (bootstrap over photos)
for each strength, at the side of the networks' canvas, aspect not kept, embedded profiles converted
(docs/color_choice.md). A photo's PSNR is capped at 53.4 dB, which colorless ones would pass.
``--boxes auto``: with the boxes that the weights find. Every strength of a photo is made of the same features.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from tqdm import tqdm

from jaxcolor import Colorizer
from jaxcolor.data.formats import PHOTO_SUFFIXES
from jaxcolor.data.transforms import read_image
from jaxcolor.evaluation.metrics import lpips
from jaxcolor.evaluation.metrics.colors import colorfulness_hs

DRAWS = 2000
LEAST_ERROR = 0.3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--weights", help="a .safetensors file or a name (default: the package's)")
    parser.add_argument("--boxes", choices=("none", "auto"), default="none")
    parser.add_argument("--count", type=int, help="the first so many photos (default: all)")
    parser.add_argument("--vivid", default="0,0.25,0.5,0.75,1", help="strengths (default: %(default)s)")
    options = parser.parse_args()
    strengths = [float(part) for part in options.vivid.split(",")]
    colorizer = Colorizer.from_pretrained(options.weights)
    side = colorizer.config.side
    parameters = lpips.load("alex")
    distance = jax.jit(functools.partial(lpips.lpips, parameters, "alex"))
    names = ["gray", *(f"vivid {strength:g}" for strength in strengths), "truth"]
    rows = []
    paths = sorted(path for path in options.photos.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)[: options.count]
    for path in tqdm(paths, unit="photo", disable=None):
        truth = np.asarray(read_image(path).resize((side, side), Image.Resampling.BILINEAR))
        session = colorizer.session(truth)
        boxes = session.find_boxes().boxes if options.boxes == "auto" else None
        colored = [session(boxes, saturation=0), *(session(boxes, vivid=strength) for strength in strengths), truth]
        pictures = np.stack([np.asarray(picture) for picture in colored])
        error = np.square(pictures.astype(np.float64) - truth).mean(axis=(1, 2, 3))
        psnr = 10 * np.log10(255**2 / np.maximum(error, LEAST_ERROR))
        far = np.asarray(
            distance(pictures.astype(np.float32), np.broadcast_to(truth.astype(np.float32), pictures.shape))
        )
        rows.append(np.stack([psnr, far, np.asarray(colorfulness_hs(jnp.asarray(pictures)))], axis=1))
    values = np.stack(rows)
    drawn = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))
    result: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}",
        "photos": len(values),
        "boxes": options.boxes,
    }
    for i, name in enumerate(names):
        means = values[drawn, i].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975], axis=0)
        mean = values[:, i].mean(axis=0)
        measured = {
            metric: [round(float(v), 4) for v in (mean[j], low[j], high[j])]
            for j, metric in enumerate(("psnr", "lpips", "colorfulness"))
        }
        result[name] = measured | {"psnr_over_gray": round(float((values[:, i, 0] - values[:, 0, 0]).mean()), 4)}
    result["truth"] = {"colorfulness": result["truth"]["colorfulness"]}  # type: ignore[index]
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""What weights that ``configs/two_hues.py`` made are worth: mean, samples, palettes and their calibration.

Command: ``python benchmarks/two_hues.py WEIGHTS.safetensors --photos 512 --picture two_hues.png`` prints JSON
(``jaxcolor.two_hues.measure``). Scenes that no training has seen.

``python benchmarks/two_hues.py default --photographs PHOTOS --photos 60`` measures palettes and samples of the objects
on photographs, a folder with boxes beside it, by the full-image network alone (``--fused``: with the instances). A
photo's objects are its boxes, read through the window around their middle; an object's true color is the one that most
of the window has. Control: each object with the palette of an object of another photo.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcolor import color, two_hues
from jaxcolor.batch import Batch
from jaxcolor.config import Config, DataConfig, ModelConfig
from jaxcolor.config_io import from_dict
from jaxcolor.data.eval_targets import EvalSize
from jaxcolor.data.loader import eval_batches
from jaxcolor.data.sources.registry import open_source
from jaxcolor.evaluation import diversity
from jaxcolor.evaluation.statistics import mean_over_objects
from jaxcolor.inference import sampling
from jaxcolor.inference.palette import draw_object_colors
from jaxcolor.models import networks
from jaxcolor.runtime.compile_options import prediction_options
from jaxcolor.weights import packaged

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SAMPLES = 4
AT_ONCE = 6
"""Photos of a batch: a palette of another photo is one of its batch."""
VIVID = 15
"""Chroma of an object that is not nearly gray."""


def sampled(
    model: ModelConfig, variables: Any, batch: Batch, boxes: jax.Array, numbers: jax.Array, others: jax.Array
) -> dict[str, Any]:
    """The prediction, samples by the objects' own palettes and by those of ``others``, and the palettes."""
    nets, lab = networks.build(model), networks.to_lab(batch, model)
    images, crops = batch.full_rgb.shape[0], batch.crop_to_image.shape[0]
    objects = sampling.batch_objects(lab, boxes)
    plain = sampling.colored(nets, variables, lab)
    palettes = sampling.batch_palettes(plain.frequencies, lab, objects)
    foreign = jax.tree.map(lambda x: x.at[:crops].set(x[others]), palettes)

    def samples(own: Any) -> jax.Array:
        key = jax.random.key(0)
        draws = draw_object_colors(key, own, objects.crop_to_image, images, SAMPLES, numbers)
        points = sampling.place_points(plain.frequencies, lab, objects, own)

        def result(drawn: tuple[jax.Array, jax.Array]) -> jax.Array:
            hinted = networks.with_hints(lab, sampling.object_hints(points, lab, *drawn), model)
            return rgb(sampling.colored(nets, variables, hinted).ab)

        return jax.lax.map(result, (draws.choice, draws.ab))

    def rgb(ab: jax.Array) -> jax.Array:
        return color.quantize_rgb(color.lab_to_rgb(color.denormalize_lab(lab.full.luminance, ab)))

    stride = lab.full.ab.shape[1] // objects.weights.shape[1]
    return {
        "plain": rgb(plain.ab)[None],
        "own": samples(palettes),
        "foreign": samples(foreign),
        "palettes": jax.tree.map(lambda x: x[:crops], palettes),
        "foreign_palettes": jax.tree.map(lambda x: x[:crops], foreign),
        "weights": objects.weights[:crops],
        "true_ab": lab.full.ab[:, ::stride, ::stride],
    }


def of_another_photo(owner: np.ndarray) -> np.ndarray:
    """For each crop one of the next photo that has crops; itself where there is none."""
    photos = np.unique(owner[owner >= 0]).tolist()
    found, taken = np.arange(len(owner)), dict.fromkeys(photos, 0)
    for crop in np.flatnonzero(owner >= 0):
        following = photos[(photos.index(owner[crop]) + 1) % len(photos)]
        choice = np.flatnonzero(owner == following)
        found[crop] = choice[taken[following] % len(choice)]
        taken[following] += 1
    return found


def photographs(weights: str, folder: Path, photos: int, fused: bool) -> dict[str, Any]:
    """Coverage and calibration of palettes, and the best of some samples inside of each object."""
    loaded = packaged.load(packaged.find(weights))
    model, variables = loaded.config, loaded.variables
    if not fused:
        variables = {"full": variables["full"]}
    data = DataConfig(path=str(folder), max_crops_per_image=8.0, missing_boxes="none")
    run = jax.jit(partial(sampled, model), compiler_options=prediction_options(False))
    source = open_source(data)
    loading = eval_batches(
        source,
        data,
        side=model.side,
        batch_size=AT_ONCE,
        context=model.context,
        photos=photos,
        compare_at=EvalSize(model.side, False),
    )
    rows: list[dict[str, np.ndarray]] = []
    with loading:
        for number, one in enumerate(loading):
            assert one.compared is not None
            owner, boxes = np.asarray(one.batch.crop_to_image), np.asarray(one.compared.crop_boxes, np.int32)
            numbers = np.arange(AT_ONCE, dtype=np.int32) + number * AT_ONCE
            found = jax.device_get(run(variables, one.batch, boxes, numbers, of_another_photo(owner)))
            kept = np.flatnonzero(owner >= 0)
            kept = kept[owner[of_another_photo(owner)[kept]] != owner[kept]]
            rows.append(
                _row(found, np.asarray(one.batch.full_rgb), owner, boxes, kept) | {"photo": numbers[owner[kept]]}
            )
    return _summary({name: np.concatenate([row[name] for row in rows]) for name in rows[0]})


def _row(
    found: dict[str, Any], truth: np.ndarray, owner: np.ndarray, boxes: np.ndarray, kept: np.ndarray
) -> dict[str, np.ndarray]:
    """What is measured of some crops' objects."""
    photo_ab, weights = found["true_ab"][owner[kept]], found["weights"][kept]
    modes = diversity.true_modes(photo_ab, weights)
    row = {"chroma": color.AB_SCALE * np.hypot(*modes.T)}
    for name, palettes in (("own", found["palettes"]), ("foreign", found["foreign_palettes"])):
        ab, valid = palettes.ab[kept], palettes.valid[kept]
        row[f"{name} covered"] = diversity.palette_coverage(ab, valid, modes)
        row[f"{name} colors"] = valid.sum(axis=1)
        row[f"{name} shares"] = diversity.color_shares(ab, valid, photo_ab, weights)
        row[f"{name} happened"] = diversity.happened(ab, valid, modes)
        row[f"{name} probability"] = np.clip(palettes.probability[kept].astype(np.float64), 0, 1)
    line = np.arange(truth.shape[1])
    start, end = boxes[kept, :2, None], boxes[kept, :2, None] + boxes[kept, 2:, None]
    inside = (line >= start) & (line < end)
    mask = inside[:, 1, :, None] & inside[:, 0, None]
    for name in ("plain", "own", "foreign"):
        row[name] = diversity.psnr(found[name][:, owner[kept]], truth[owner[kept]], mask).T
    return row


def _summary(all_: dict[str, np.ndarray]) -> dict[str, Any]:
    photo, vivid = all_["photo"], all_["chroma"] > VIVID

    def mean(values: np.ndarray, chosen: np.ndarray | None = None) -> list[float | None]:
        chosen = np.isfinite(values) if chosen is None else chosen & np.isfinite(values)
        found = mean_over_objects(values[chosen].astype(np.float64), photo[chosen])
        return [None if v is None else round(v, 4) for v in (found.value, *(found.interval or (None, None)))]

    best = {name: np.max(all_[name], axis=1) for name in ("plain", "own", "foreign")}
    pairs = {
        "plain": best["plain"],
        "first sample": all_["own"][:, 0],
        "best of 4": best["own"],
        "best of 4, palettes of other objects": best["foreign"],
        "best of 4 - plain": best["own"] - best["plain"],
        "other palettes - plain": best["foreign"] - best["plain"],
        "best of 4 - other palettes": best["own"] - best["foreign"],
        "share where best of 4 is better than plain": (best["own"] > best["plain"]).astype(float),
    }
    calibration = {
        f"{name}, {of}": round(
            diversity.reliability(all_[f"{name} probability"], all_[f"{name} {key}"]).expected_error, 4
        )
        for name in ("own", "foreign")
        for of, key in (("pixels", "shares"), ("objects", "happened"))
    }
    return {
        "photos": len(np.unique(photo)),
        "objects": len(photo),
        "vivid_objects": int(vivid.sum()),
        "colors": mean(all_["own colors"]),
        "coverage": {name: mean(all_[f"{name} covered"]) for name in ("own", "foreign")},
        "coverage_vivid": {name: mean(all_[f"{name} covered"], vivid) for name in ("own", "foreign")},
        "calibration_error": calibration,
        "psnr": {name: mean(values) for name, values in pairs.items()},
        "psnr_vivid": {name: mean(values, vivid) for name, values in pairs.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="a file; with --photographs a name of the package's too")
    parser.add_argument("--photos", type=int, default=512)
    parser.add_argument("--picture", type=Path, help="where to write gray, mean, samples and truth of some scenes")
    parser.add_argument("--photographs", type=Path, help="a folder of photos with their boxes beside it")
    parser.add_argument("--fused", action="store_true", help="of photographs, with the instance network")
    options = parser.parse_args()
    if options.photographs is not None:
        print(json.dumps(photographs(options.weights, options.photographs, options.photos, options.fused), indent=2))
        return
    sys.path.insert(0, str(CONFIGS))
    made = importlib.import_module("two_hues")

    config = from_dict(Config, made.get_config().to_dict())
    weights = packaged.load(packaged.find(Path(options.weights)))
    evaluated = dataclasses.replace(config.eval, photos=options.photos)
    measured = two_hues.measure(dataclasses.replace(config, model=weights.config, eval=evaluated), weights.variables)
    if options.picture is not None:
        two_hues.sheet(measured.rows).save(options.picture)
    print(json.dumps(measured.metrics, indent=2))


if __name__ == "__main__":
    main()

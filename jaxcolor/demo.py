"""The demo: ``make demo``, or ``python -m jaxcolor.demo --config configs/demo.py --workdir runs/demo``.

Trains the three stages on synthetic scenes, evaluates them on scenes that training never saw, colors some of those at
their own size the way ``jaxcolor colorize`` does, and writes ``report.html`` and ``metrics.json``. It also colors the
photographs of ``demo_photos`` with the package's default weights into ``photographs.png``; where there are none it says
so and goes on. With ``--two_hues configs/two_hues.py`` it also trains a network that offers a choice of color, and
leaves its weights as ``two_hues.safetensors``.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags
from markupsafe import Markup
from ml_collections import config_flags
from PIL import Image

import jaxcolor
from jaxcolor import Colorizer, color, demo_photos, two_hues
from jaxcolor.config import Config
from jaxcolor.config_io import from_dict
from jaxcolor.data.sources.registry import make_source
from jaxcolor.evaluation import run, table_formats
from jaxcolor.evaluation.predictors import Checkpoint
from jaxcolor.evaluation.result_folder import METRICS_FILE, REPORT_FILE, replaced_results
from jaxcolor.inference.files import colorize_files
from jaxcolor.runtime import program
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.owner import owned_folder
from jaxcolor.training import logs, train

COLORIZED = 8
"""Held-back scenes written out and colored at their own size."""

TWO_HUES_FILE, PHOTOGRAPHS_FILE = "two_hues.safetensors", "photographs.png"


class NoWeightsError(UserError):
    """There are no weights to color photographs with."""


def run_demo(config: Config, workdir: Path, choice: Config | None = None, photograph_weights: str = "default") -> None:
    """Train, evaluate, colorize, report; a demo that was stopped goes on.

    Args:
      config: of the three stages.
      workdir: of everything.
      choice: of the network for scenes with two hues; None: without.
      photograph_weights: see ``color_photographs``.
    """
    with owned_folder(workdir, "--workdir"):
        _run_demo(config, workdir, choice, photograph_weights)


def _run_demo(config: Config, workdir: Path, choice: Config | None, photograph_weights: str) -> None:
    trees = train.train(config, workdir, run.DuringTraining(config) if config.eval_every else None)
    results = run.measure(config, config.model, trees)
    with replaced_results(workdir) as part:
        metrics = run.write_results(results, part)
        seconds = json.loads((workdir / train.SUMMARY_FILE).read_text())["train_seconds"]
        metrics["train_seconds"] = round(sum(seconds.values()), 1)
        run.write_json(part / METRICS_FILE, metrics)

    photos = write_photos(config, workdir / "photos")
    colorize_files(
        [photos],
        workdir / train.WEIGHTS_FILE,
        workdir / "colorized",
        boxes=None,
        missing_boxes="error",
        boxes_per_photo=config.eval.data.boxes_per_photo,
        batch_size=4,
        replace=True,
    )
    curves: dict[str, list[tuple[int, float]]] = {}
    for scalars in logs.read_scalars(workdir):
        curves.setdefault(scalars["stage"], []).append((scalars["step"], scalars["loss"]))
    sections: dict[str, Markup] = {}
    started = time.monotonic()
    try:
        sections["Photographs"] = color_photographs(workdir, photograph_weights)
        photographs = f"{len(demo_photos.BOXES)} colored in {time.monotonic() - started:.0f} s"
    except NoWeightsError as error:
        photographs = str(error)
    device = jax.devices()[0]
    facts = {
        "training": ", ".join(f"{stage} {taken:.0f} s" for stage, taken in seconds.items()),
        "photographs": photographs,
        "machine": f"{platform.machine()} {platform.system()}, {jax.device_count()} x {device.device_kind}",
        "versions": f"jaxcolor {jaxcolor.__version__}, jax {jax.__version__}, Python {platform.python_version()}",
        "seeds": f"initialization {config.seed}, training scenes {config.data.seed}",
    }
    chosen = None if choice is None else train_two_hues(choice, workdir)
    if chosen is not None:
        sections["Two hues"] = two_hues.section(chosen)
    path = workdir / REPORT_FILE
    source = run.eval_source(config, config.model)
    studied = [Checkpoint("", config.model, trees)]
    run.write_page(
        config,
        studied,
        source=source,
        results=results,
        metrics=metrics,
        path=path,
        curves=curves,
        facts=facts,
        sections=sections,
    )
    print(table_formats.markdown(metrics))
    if chosen is not None:
        run.write_json(workdir / METRICS_FILE, metrics | {"two_hues": chosen.metrics})
        print("\ntwo hues: " + ", ".join(f"{name} {value:g}" for name, value in chosen.metrics.items()))
    print(f"\nreport: {path}\nmetrics: {workdir / METRICS_FILE}\ncolored scenes: {workdir / 'colorized'}")
    print(f"photographs: {workdir / PHOTOGRAPHS_FILE if 'Photographs' in sections else photographs}")


def color_photographs(workdir: Path, weights: str = "default") -> Markup:
    """Color the photographs of ``demo_photos``, leave ``photographs.png``.

    Args:
      workdir: of the picture.
      weights: see ``Colorizer.from_pretrained``.

    Returns:
      A part of the report.

    Raises:
      NoWeightsError: the weights cannot be loaded.
    """
    try:
        colorizer = Colorizer.from_pretrained(weights)
    except (OSError, UserError) as error:
        raise NoWeightsError(f"not colored: {error}") from error
    rows = demo_photos.colorize(colorizer)
    demo_photos.sheet(rows).save(workdir / PHOTOGRAPHS_FILE)
    return demo_photos.section(rows)


def train_two_hues(config: Config, workdir: Path) -> two_hues.Measured:
    """Train in ``<workdir>/two_hues``, leave ``two_hues.safetensors`` and ``two_hues.png``, measure."""
    trees = train.train(config, workdir / "two_hues")
    shutil.copyfile(workdir / "two_hues" / train.WEIGHTS_FILE, workdir / TWO_HUES_FILE)
    measured = two_hues.measure(config, trees)
    two_hues.sheet(measured.rows).save(workdir / "two_hues.png")
    return measured


def write_photos(config: Config, folder: Path) -> Path:
    """The first photos of the evaluation's source as gray PNG files, their boxes in ``<folder>_bbox``."""
    boxes_folder = folder.with_name(f"{folder.name}_bbox")
    folder.mkdir(parents=True, exist_ok=True)
    boxes_folder.mkdir(parents=True, exist_ok=True)
    source = make_source(config.eval.data, config.model.side)
    for index in range(min(COLORIZED, len(source))):
        photo = source[index]
        Image.fromarray(color.without_color(np.asarray(photo.image))).save(folder / f"{photo.name}.png")
        np.savez(boxes_folder / f"{photo.name}.npz", bbox=photo.boxes, scores=photo.scores)
    return folder


if __name__ == "__main__":
    CONFIG = config_flags.DEFINE_config_file("config", help_string="A config file of configs/.", lock_config=True)
    TWO_HUES = config_flags.DEFINE_config_file("two_hues", help_string="The config of two_hues.", lock_config=True)
    PHOTOGRAPH_WEIGHTS = flags.DEFINE_string(
        "photograph_weights", "default", "Weights that color the photographs: a file, or the name of the package's."
    )
    WORKDIR = flags.DEFINE_string("workdir", None, "Folder of everything that the demo makes; a demo in it goes on.")

    def work(config: Config) -> None:
        """The whole demo, with the values of the flags."""
        choice = None if TWO_HUES.value is None else from_dict(Config, TWO_HUES.value.to_dict())
        run_demo(config, Path(str(WORKDIR.value)), choice, PHOTOGRAPH_WEIGHTS.value)

    program.run("python -m jaxcolor.demo", work, CONFIG, required=[WORKDIR])

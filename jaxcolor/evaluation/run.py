"""From a config and variables to results, and from results to files."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from PIL import Image
from tqdm import tqdm

from jaxcolor.config import Config, ModelConfig, to_dict
from jaxcolor.data.photos import DataError, Source
from jaxcolor.data.pipeline import eval_batches
from jaxcolor.data.sources import make_source
from jaxcolor.evaluation.pictures import contact_sheet
from jaxcolor.evaluation.protocol import evaluate
from jaxcolor.evaluation.results import Results, flat_metrics, strict
from jaxcolor.models.dual_branch import Variables
from jaxcolor.parallel import Devices
from jaxcolor.weights.released import load


def eval_source(config: Config, model: ModelConfig) -> Source:
    """The source of ``config.eval``.

    Raises:
      DataError: it cannot be used.
    """
    try:
        return make_source(config.eval.data, model.side)
    except DataError as error:
        # Sources call their fields data.…; here they are those of config.eval.
        raise DataError(f"eval.{error}" if str(error).startswith("data.") else str(error)) from error


class DuringTraining:
    """Measures a training run's weights on the photos of ``config.eval``, again and again, without the controls."""

    def __init__(self, config: Config) -> None:
        """Looks at the photos: what is wrong with them shows before hours of training.

        Raises:
          DataError: the source cannot be used.
        """
        self._config = config
        self._source = eval_source(config, config.model)

    def __call__(self, variables: Variables) -> tuple[dict[str, float], Image.Image | None]:
        """The means that ``measure`` finds for these trees (``flat_metrics``), and the contact sheet."""
        results = measure(self._config, self._config.model, variables, controls=False, source=self._source)
        return flat_metrics(results), contact_sheet(results.pictures) if results.pictures else None


def measure(
    config: Config, model: ModelConfig, variables: Variables, controls: bool = True, source: Source | None = None
) -> Results:
    """Evaluate variables on the source of ``config.eval``, on all devices, with a progress bar on standard error.

    Args:
      config: ``eval`` says on what; ``mapping`` how devices are used. Its ``model`` is not read.
      model: the architecture of the variables.
      variables: ``full`` alone, or all three trees.
      controls: measure the controls too.
      source: that source, if it is open already.

    Raises:
      DataError: the source cannot be used.
      UserError: see ``protocol.evaluate``.
    """
    devices = Devices.all(config.mapping)
    during = source is not None
    source = source if source is not None else eval_source(config, model)
    photos = min(config.eval.photos or len(source), len(source))
    # Any batch size serves any number of devices: rounded up, and the last batch is filled.
    batch_size = -(-config.eval.batch_size // devices.count) * devices.count
    batches = eval_batches(
        source,
        config.eval.data,
        side=model.side,
        batch_size=batch_size,
        device_count=devices.count,
        photos=config.eval.photos,
        process_index=devices.process_index,
        process_count=devices.process_count,
    )
    # Every process shows its own share of the work; one bar is enough.
    share = -(-photos // devices.process_count)
    with (
        batches,
        tqdm(total=share, desc="evaluate", unit="photo", leave=not during, disable=not devices.is_first) as bar,
    ):
        results = evaluate(
            model,
            variables,
            batches,
            devices,
            controls=controls,
            shown_photos=config.eval.sheet_photos,
            progress=bar.update,
        )
    laid_out = {"batch_size": batch_size, "devices": devices.count, "source": source.describe()}
    return dataclasses.replace(
        results, protocol={**results.protocol, **laid_out, "data": to_dict(config.eval.data), "model": to_dict(model)}
    )


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Strict JSON: NaN and infinity become null."""
    path.write_text(json.dumps(strict(values), indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def write_results(results: Results, workdir: Path) -> dict[str, Any]:
    """Write ``metrics.json``, ``per_photo.csv`` and, if pictures were kept, ``contact_sheet.png``.

    Args:
      results: what was measured.
      workdir: made if it is not there; files of an earlier evaluation are replaced.

    Returns:
      What ``metrics.json`` holds (``Results.to_metrics``).
    """
    workdir.mkdir(parents=True, exist_ok=True)
    metrics = results.to_metrics()
    write_json(workdir / "metrics.json", metrics)
    (workdir / "per_photo.csv").write_text(results.to_csv(), encoding="utf-8")
    if results.pictures:
        contact_sheet(results.pictures).save(workdir / "contact_sheet.png")
    return metrics


def run_evaluation(
    config: Config, model: ModelConfig, variables: Variables, workdir: Path, controls: bool = True
) -> dict[str, Any]:
    """``measure`` and ``write_results`` in one: evaluate, write the files, return the metrics.

    Of several processes, the first one writes.
    """
    results = measure(config, model, variables, controls)
    return write_results(results, Path(workdir)) if jax.process_index() == 0 else results.to_metrics()


def evaluate_weights(config: Config, weights: Path, workdir: Path, controls: bool = True) -> dict[str, Any]:
    """``run_evaluation`` on a released file, whose own config decides the architecture.

    Where ``config.model`` differs from it, a line on standard error says in what.

    Raises:
      OSError: the file cannot be read, or the results cannot be written.
      UserError: the file or the source cannot be used.
    """
    released = load(weights)
    of_file, of_flags = to_dict(released.config), to_dict(config.model)
    differing = [name for name, value in of_file.items() if value != of_flags[name]]
    if differing:
        described = ", ".join(f"{name} {of_file[name]}, not {of_flags[name]}" for name in differing)
        print(f"model: as in {weights}, whatever the config says ({described})", file=sys.stderr)
    if released.config.compute_dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    return run_evaluation(config, released.config, released.variables, workdir, controls)

"""From a config and variables to results, and from results to files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from markupsafe import Markup
from PIL import Image

import jaxcolor
from jaxcolor.config import Config, DataConfig, EvalConfig, ModelConfig
from jaxcolor.config_io import to_dict
from jaxcolor.data.eval_targets import EvalSize
from jaxcolor.data.loader import eval_batches
from jaxcolor.data.sources.coco import coco_instances
from jaxcolor.data.sources.photo_source import PhotoSource
from jaxcolor.data.sources.registry import make_source
from jaxcolor.data.types import DataError, Source
from jaxcolor.evaluation.evaluator import Evaluator, evaluate
from jaxcolor.evaluation.metrics import fid
from jaxcolor.evaluation.predictions import Predictions
from jaxcolor.evaluation.predictors import Checkpoint, Predictors, check_names
from jaxcolor.evaluation.report.contact_sheet import contact_sheet
from jaxcolor.evaluation.report.gallery import choose, gallery
from jaxcolor.evaluation.report.page import Curves, write_report
from jaxcolor.evaluation.result_folder import (
    METRICS_FILE,
    PARQUET,
    PER_OBJECT,
    PER_PHOTO,
    REPORT_FILE,
    SHEET,
    TABLES_MD,
    TABLES_TEX,
    replaced_results,
)
from jaxcolor.evaluation.results import Results, flat_metrics, strict
from jaxcolor.evaluation.scorer import Scorer
from jaxcolor.evaluation.table_formats import latex, markdown
from jaxcolor.models.networks import Variables
from jaxcolor.registries import import_parts
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.main_guard import check_main_guard
from jaxcolor.runtime.owner import owned_folder
from jaxcolor.runtime.parallel import Devices
from jaxcolor.runtime.progress import progress
from jaxcolor.runtime.regular_file import open_regular
from jaxcolor.runtime.text import counted
from jaxcolor.weights import packaged


def eval_source(config: Config, model: ModelConfig) -> Source:
    """The source of ``config.eval``; with the annotations of COCO's downloads, if they are there and wanted.

    Raises:
      DataError: it cannot be used.
    """
    try:
        return make_source(_with_annotations(config.eval), model.side)
    except DataError as error:
        # Sources call their fields data.…; here they are those of config.eval.
        raise DataError(f"eval.{error}" if str(error).startswith("data.") else str(error)) from error


def _with_annotations(config: EvalConfig) -> DataConfig:
    """The data of an evaluation, which measures annotated objects also where detections are colored."""
    data = config.data
    if data.source != "coco" or data.truth_boxes_path or not config.per_object:
        return data
    try:
        annotations = coco_instances(Path(data.path), data.split)
    except DataError as error:
        if data.box_choice != "ground_truth":  # which cannot do without, and says so itself
            print(f"the boxes in use are measured by themselves, not annotated objects: {error}", file=sys.stderr)
        return data
    return dataclasses.replace(data, truth_boxes_path=str(annotations))


class DuringTraining:
    """Measures a training run's weights on the photos of ``config.eval``, again and again, without the controls."""

    def __init__(self, config: Config) -> None:
        """Looks at the photos: what is wrong with them shows before hours of training.

        Raises:
          DataError: the source cannot be used.
        """
        # Again and again: without what takes a pass for each number of points, each sample and each canvas.
        plain = dataclasses.replace(config.eval, hint_points="", samples=0, canvases=())
        self._config = dataclasses.replace(config, eval=plain)
        self._source = eval_source(config, config.model)

    def __call__(self, variables: Variables) -> tuple[dict[str, float], Image.Image | None]:
        """The means that ``measure`` finds for these trees (``flat_metrics``), and the contact sheet."""
        results = measure(self._config, self._config.model, variables, controls=False, source=self._source)
        return flat_metrics(results), contact_sheet(results.pictures) if results.pictures else None


def measure(
    config: Config, model: ModelConfig, variables: Variables, controls: bool = True, source: Source | None = None
) -> Results:
    """``compare`` for one set of variables.

    Args:
      config: ``eval`` says on what.
      model: the architecture of the variables.
      variables: ``full`` alone, or all three trees.
      controls: measure the controls too.
      source: that of ``config.eval``, if it is open already; the progress bar then vanishes at the end.

    Raises:
      DataError: the source cannot be used.
      UserError: see ``compare``.
    """
    return compare(config, [Checkpoint("", model, variables)], controls=controls, source=source)


def compare(
    config: Config,
    checkpoints: Sequence[Checkpoint],
    predictions: Sequence[Predictions] = (),
    *,
    controls: bool = True,
    source: Source | None = None,
) -> Results:
    """Evaluate systems on the source of ``config.eval``, on all devices, with a progress bar on standard error.

    Args:
      config: ``eval`` says on what; ``mapping`` how devices are used. Its ``model`` is read only where there is no
        checkpoint, and only for the side of the canvas.
      checkpoints: the weights that are studied, without a name, and others.
      predictions: result pictures of others.
      controls: measure the controls of the nameless checkpoint too.
      source: that source, if it is open already.

    Raises:
      DataError: the source cannot be used.
      UserError: names that clash, weights without ``full``, metrics that there are not or whose weights cannot be
        used, not one valid photo.
    """
    check_names([*(c.name for c in checkpoints if c.name), *(p.name for p in predictions)])
    model = checkpoints[0].model if checkpoints else config.model
    devices = Devices.all(config.mapping)
    predictors = Predictors(checkpoints, devices, controls, config.eval.vivid_temperature, config.eval.canvases)
    scorer = Scorer(config.eval, model.side, devices)
    during = source is not None
    source = source if source is not None else eval_source(config, model)
    photos = min(config.eval.photos or len(source), len(source))
    if isinstance(source, PhotoSource) and (names := source.names()) is not None:
        for prediction in predictions:
            prediction.check_fits(names[:photos])
    # Any batch size serves any number of devices: rounded up, and the last batch is filled.
    batch_size = -(-config.eval.batch_size // devices.count) * devices.count
    batches = eval_batches(
        source,
        config.eval.data,
        side=model.side,
        batch_size=batch_size,
        context=model.context,
        device_count=devices.count,
        photos=config.eval.photos,
        process_index=devices.process_index,
        process_count=devices.process_count,
        compare_at=EvalSize(scorer.choice.side, scorer.native, config.eval.canvases),
    )
    # Every process shows its own share of the work; one bar is enough.
    share = -(-photos // devices.process_count)
    with batches, progress(share, "evaluate", "photo", shown=devices.is_first, leave=not during) as note:
        known = fid_source(config.eval, model.side, source)
        kept = _kept_statistics(config.eval, known, devices)
        evaluator = Evaluator(
            predictors,
            scorer,
            devices,
            predictions,
            config.eval.data.threads,
            kept,
            config.eval.hint_counts,
            config.eval.samples,
        )
        results = evaluate(evaluator, batches, shown_photos=config.eval.sheet_photos, progress=note)
    if kept is None and evaluator.truth_statistics is not None and config.eval.fid_truth and devices.is_first:
        found = evaluator.truth_statistics
        fid.cached(Path(config.eval.fid_truth), known, lambda: found)
    laid_out = {
        "batch_size": batch_size,
        "devices": devices.count,
        "source": source.describe(),
        "box_choice": config.eval.data.box_choice,
        "boxes_per_photo": config.eval.data.boxes_per_photo,
        "published": config.eval.published,
        "predictions": {prediction.name: str(prediction.folder) for prediction in predictions},
        "data": to_dict(config.eval.data),
        "model": to_dict(model),
    }
    return dataclasses.replace(results, protocol={**results.protocol, **laid_out})


def fid_source(config: EvalConfig, canvas: int, source: Source) -> dict[str, Any]:
    """What the statistics of the truth depend on: the photos, their size, the network."""
    if not config.inception:
        return {}
    with open_regular(config.inception) as file:
        network = hashlib.file_digest(file, "sha256").hexdigest()
    identity: Any = source.describe()
    if isinstance(source, PhotoSource):  # the photos, whatever their boxes
        identity = {name: v for name, v in source.identity().items() if name in ("kind", "photos", "digest", "used")}
    size = [config.native_side, "native"] if config.size == "native" else [canvas, "canvas"]
    return {"photos": strict(identity), "count": config.photos, "size": size, "network": network}


def _kept_statistics(config: EvalConfig, known: Mapping[str, Any], devices: Devices) -> fid.Statistics | None:
    """The statistics of the truth from an earlier evaluation, if they were kept."""
    if not (config.inception and config.fid_truth):
        return None
    path = fid.cache_file(Path(config.fid_truth), known)
    # All processes do as the first one, whatever they see.
    if not devices.gather(path.exists())[0]:
        return None
    return fid.cached(path.parent, known, lambda: fid.load(path)[0])


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Strict JSON: NaN and infinity become null."""
    path.write_text(json.dumps(strict(values), indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def write_results(results: Results, folder: Path, parquet: bool = False) -> dict[str, Any]:
    """Write ``metrics.json``, ``tables.md``, ``tables.tex``, ``per_photo.csv`` and what else there is.

    That is ``per_object.csv`` if there are objects, ``contact_sheet.png`` if pictures were kept, and
    ``per_photo.parquet`` if asked for.

    Args:
      results: what was measured.
      folder: made if it is not there; that of ``replaced_results``, where there may be results already.
      parquet: write that file too.

    Returns:
      What ``metrics.json`` holds (``Results.to_metrics``).

    Raises:
      UserError: ``parquet`` without pyarrow.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metrics = results.to_metrics()
    write_json(folder / METRICS_FILE, metrics)
    (folder / TABLES_MD).write_text(markdown(metrics, intervals=True) + "\n", encoding="utf-8")
    (folder / TABLES_TEX).write_text(latex(metrics), encoding="utf-8")
    (folder / PER_PHOTO).write_text(results.to_csv(), encoding="utf-8")
    if parquet:
        results.write_parquet(folder / PARQUET)
    if results.objects.scores:
        (folder / PER_OBJECT).write_text(results.objects_to_csv(), encoding="utf-8")
    if results.pictures:
        contact_sheet(results.pictures).save(folder / SHEET)
    return metrics


def write_page(
    config: Config,
    checkpoints: Sequence[Checkpoint],
    predictions: Sequence[Predictions] = (),
    *,
    source: Source,
    results: Results,
    metrics: Mapping[str, Any],
    path: Path,
    controls: bool = True,
    curves: Curves | None = None,
    facts: Mapping[str, str] | None = None,
    sections: Mapping[str, Markup] | None = None,
) -> None:
    """The report of what ``compare`` found; of several processes all must call it, and the first one writes.

    Args:
      config: as for ``compare``, and the next two; ``eval.report_photos`` says of how many photos there are pictures.
      checkpoints: weights.
      predictions: result pictures of others.
      source: the one that was measured.
      results: what was found.
      metrics: ``results.to_metrics()``.
      path: of the page.
      controls: whether controls were measured.
      curves: of the training before (``report.write_report``).
      facts: what else a reader wants to know.
      sections: further parts of the page: heading -> HTML.

    Raises:
      UserError: photos that changed since.
      OSError: the page cannot be written.
    """
    rows = choose(results, config.eval.report_photos)
    shown = gallery(config, checkpoints, predictions, source=source, results=results, rows=rows, controls=controls)
    if jax.process_index() == 0:
        title = f"jaxcolor: {config.name or 'evaluation'}"
        write_report(
            path,
            title,
            results,
            to_dict(config),
            metrics=metrics,
            pictured=shown,
            curves=curves,
            facts=facts,
            sections=sections,
        )
    else:
        deque(shown, maxlen=0)


def read_checkpoint(name: str, weights: str | Path) -> Checkpoint:
    """Weights (``packaged.load``) as a checkpoint; float64 weights let JAX compute in float64.

    Raises:
      OSError: the file cannot be read.
      UserError: it is none of ours.
    """
    native = packaged.load(weights)
    if native.config.compute_dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    return Checkpoint(name, native.config, native.variables, native.saturation_curve)


def evaluate_files(
    config: Config,
    weights: str | Path | None,
    workdir: Path,
    *,
    checkpoints: Mapping[str, str | Path] | None = None,
    predictions: Mapping[str, str | Path] | None = None,
    controls: bool = True,
    parquet: bool = False,
) -> dict[str, Any]:
    """``compare``, ``write_results`` and ``write_page`` for files and folders; of several processes the first writes.

    The weights' own config decides the architecture; where ``config.model`` differs from it, a line on standard error
    says in what.

    Args:
      config: ``eval`` says on what.
      weights: those that are studied: a file, a folder of a run (``weights.locate``), or as a str the name of weights
        in the package (``default``); None: only other systems.
      workdir: of the results; those of an earlier evaluation are replaced, all of them.
      checkpoints: name -> weights of other systems, likewise.
      predictions: name -> folder of result pictures.
      controls: measure the controls too.
      parquet: write ``per_photo.parquet`` too.

    Returns:
      The metrics.

    Raises:
      FolderInUseError: another run is at work in ``workdir``.
      OSError: a file cannot be read, or the results cannot be written.
      UserError: a file, a folder, a name or the source cannot be used; nothing to measure.
    """
    check_main_guard()
    with owned_folder(workdir, "--workdir", Devices.all(config.mapping)):
        return _evaluate_files(config, weights, workdir, checkpoints or {}, predictions or {}, controls, parquet)


def _announce(config: Config, checkpoints: Sequence[Checkpoint], source: Source, workdir: Path) -> None:
    """The first line: device, precision, photos, and where the results go."""
    devices = Devices.all(config.mapping)
    photos = min(config.eval.photos or len(source), len(source))
    precisions = ", ".join(dict.fromkeys(checkpoint.model.compute_dtype for checkpoint in checkpoints))
    on = ", ".join(filter(None, [f"{devices.count} x {devices.kind}", precisions]))
    devices.say(f"evaluating on {on}: {counted(photos, 'photo')}; results go to {workdir}")


def _evaluate_files(
    config: Config,
    weights: str | Path | None,
    workdir: Path,
    checkpoints: Mapping[str, str | Path],
    predictions: Mapping[str, str | Path],
    controls: bool,
    parquet: bool,
) -> dict[str, Any]:
    import_parts(config.model)  # what the user's own config names, weights may name too
    weights = None if weights is None else packaged.find(weights)
    checkpoints = {name: packaged.find(path) for name, path in checkpoints.items()}
    files = {"": weights} if weights is not None else {}
    loaded = [read_checkpoint(name, path) for name, path in {**files, **checkpoints}.items()]
    folders = [Predictions(name, Path(folder)) for name, folder in predictions.items()]
    if not loaded and not folders:
        raise UserError("there is nothing to evaluate: give --weights, --checkpoint or --predictions")
    source = eval_source(config, loaded[0].model if loaded else config.model)
    _announce(config, loaded, source, workdir)
    if weights is not None:
        of_file, of_flags = to_dict(loaded[0].model), to_dict(config.model)
        differing = [name for name, value in of_file.items() if value != of_flags[name]]
        if differing:
            described = ", ".join(f"{name} {of_file[name]}, not {of_flags[name]}" for name in differing)
            print(f"model: as in {weights}, whatever the config says ({described})", file=sys.stderr)
    results = compare(config, loaded, folders, controls=controls, source=source)
    names = {"weights": str(weights)} if weights is not None else {}
    others = {name: str(path) for name, path in {**checkpoints, **predictions}.items()}
    facts = {
        **names,
        **others,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": f"jaxcolor {jaxcolor.__version__}, jax {jax.__version__}",
    }
    first = jax.process_index() == 0
    with replaced_results(workdir, write=first) as part:
        metrics = write_results(results, part, parquet) if first else results.to_metrics()
    write_page(
        config,
        loaded,
        folders,
        source=source,
        results=results,
        metrics=metrics,
        path=workdir / REPORT_FILE,
        controls=controls,
        facts=facts,
    )
    return metrics

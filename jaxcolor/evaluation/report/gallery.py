"""Pictures for the report: which photos are shown, and a second pass over these alone that keeps what was predicted.

The second pass reads the batches that hold the photos exactly as the first one did: same neighbors, same random
boxes, same crops dropped. So the pictures are those that were measured.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxcolor.batch import Batch
from jaxcolor.boxes import BoxChoice
from jaxcolor.config import Config, ModelConfig
from jaxcolor.data.eval_targets import EvalSize, used_boxes
from jaxcolor.data.loader import LoadedBatch, eval_batches
from jaxcolor.data.types import Photo, Source, usable_boxes
from jaxcolor.evaluation.controls import photo_of_crop
from jaxcolor.evaluation.evaluator import Evaluator
from jaxcolor.evaluation.predictions import Predictions
from jaxcolor.evaluation.predictors import TRUTH, Checkpoint, Predictors
from jaxcolor.evaluation.report.contact_sheet import fitted, fitted_size
from jaxcolor.evaluation.report.failures import KINDS
from jaxcolor.evaluation.results import Results
from jaxcolor.evaluation.scorer import Scorer
from jaxcolor.models.fusion import FusionWeights, fused_taps
from jaxcolor.models.networks import TREES, Variables, build, predict
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices


class Weights(NamedTuple):
    """Weight maps of one photo at one tap, on the tap's grid; at every pixel they sum to 1."""

    full: Float[np.ndarray, "h w"]
    """W_F."""
    instance: Float[np.ndarray, "N h w"]
    """W_I of each box."""


class Pictured(NamedTuple):
    """A photo with everything that the report shows of it."""

    name: str
    panels: dict[str, UInt8[np.ndarray, "S S 3"]]
    """System -> picture, and ``truth``; a system that has none of this photo is left out."""
    boxes: Int[np.ndarray, "N 4"]
    """Of the crops that the network was given: x0, y0, width, height on the panels."""
    scores: Float[np.ndarray, " N"]
    """Of the detections; 1 for annotated boxes."""
    annotated: Int[np.ndarray, "K 4"] | None
    """Annotated boxes, as ``boxes``; None where no photo has any."""
    weights: dict[str, Weights]
    """Weight maps by fused tap, in the network's order, over the whole photo whatever its aspect; empty for a photo
    without boxes or weights without fusion."""
    extent: tuple[int, int]
    """Width and height of the photo on its panels, whose upper left corner it fills: less than S where it was compared
    at its own size and is no square."""


def choose(
    results: Results,
    count: int,
    *,
    metric: str = "psnr",
    higher_is_better: bool = True,
) -> tuple[int, ...]:
    """The photos of which the report shows pictures.

    In turn, until there are ``count``: the best and the worst of the main system, those that fusion changes most for
    better and for worse, the worst failures of each kind, and photos at even distances, which flatter nobody.

    Args:
      results: of all photos.
      count: at most so many.
      metric: what best and worst go by.
      higher_is_better: of that metric.

    Returns:
      Their places in ``results.names``, ascending.
    """
    photos = len(results.names)
    main = main_system(list(results.scores))
    values = results.scores[main][metric] * (1 if higher_is_better else -1)
    orders = [np.argsort(-values, kind="stable"), np.argsort(values, kind="stable")]
    if main == "fused" and "full" in results.scores:
        gain = results.scores["fused"][metric] - results.scores["full"][metric]
        gain = np.where(np.isfinite(gain), gain * (1 if higher_is_better else -1), 0)
        orders += [order[sign * gain[order] > 0] for sign in (1, -1) for order in [np.argsort(-sign * gain)]]
    for kind in KINDS:
        score = results.facets.get(kind, np.zeros(photos))  # 0 and NaN are no failures
        worst = np.argsort(-np.nan_to_num(score), kind="stable")
        orders.append(worst[np.nan_to_num(score)[worst] > 0])
    measured = ~np.isnan(values)
    orders = [order[measured[order]] for order in orders]
    sample = np.linspace(0, photos - 1, min(photos, max(count, 1))).round().astype(int)
    # From the middle, so that a sample cut short is not the beginning of the set.
    orders.append(sample[np.argsort((np.arange(len(sample)) * 0.6180339887) % 1)])
    chosen: dict[int, None] = {}
    for rank in range(max(map(len, orders), default=0)):
        for order in orders:
            if rank < len(order) and len(chosen) < count:
                chosen[int(order[rank])] = None
    return tuple(sorted(chosen))


def main_system(systems: Sequence[str]) -> str:
    """The one that the report is about: ``fused``, else ``full``, else the last."""
    return next((s for s in ("fused", "full") if s in systems), systems[-1])


def gallery(
    config: Config,
    checkpoints: Sequence[Checkpoint],
    predictions: Sequence[Predictions] = (),
    *,
    source: Source,
    results: Results,
    rows: Sequence[int],
    controls: bool = True,
) -> Iterator[Pictured]:
    """Run the chosen photos once more and keep pictures and weight maps, batch by batch.

    Args:
      config: with which the photos were measured (``run.compare``), as are the next two.
      checkpoints: weights; the weight maps are those of the one without a name.
      predictions: result pictures of others.
      source: the one that was measured.
      results: what was found.
      rows: places in ``results.names`` (``choose``).
      controls: show the controls too.

    Yields:
      The photos, in the order of the source. Of several processes all must go through the whole iterator; each gets
      all photos.

    Raises:
      UserError: a photo is not where it was in the first pass.
    """
    wanted = {results.names[row]: row for row in rows}
    devices = Devices.all(config.mapping)
    model = checkpoints[0].model if checkpoints else config.model
    size = -(-config.eval.batch_size // devices.count) * devices.count
    # A photo that could not be read has a place in a batch and none in the results.
    last = (min(config.eval.photos or len(source), len(source)) - 1) // size
    late = results.skipped_photos
    batches = sorted({b for row in rows for b in range(row // size, min((row + late) // size, last) + 1)})
    if not batches:
        return
    # Pictures alone: nothing is measured again.
    plain = dataclasses.replace(config.eval, metrics="", lpips_squeeze="", lpips_vgg="", inception="", per_object=False)
    scorer = Scorer(plain, model.side, devices)
    predictors = Predictors(checkpoints, devices, controls, plain.vivid_temperature, plain.canvases)
    evaluator = Evaluator(predictors, scorer, devices, predictions, plain.data.threads)
    weights = _WeightMaps(next((c for c in checkpoints if not c.name and c.has_fusion), None), devices)
    loading = eval_batches(
        source,
        config.eval.data,
        side=model.side,
        batch_size=size,
        context=model.context,
        device_count=devices.count,
        photos=config.eval.photos,
        only=batches,
        process_index=devices.process_index,
        process_count=devices.process_count,
        compare_at=EvalSize(scorer.choice.side, scorer.native, plain.canvases),
    )
    with loading:
        for number, loaded in zip(batches, loading, strict=True):
            panels, fusion_weights, photos = _painted(evaluator, weights, loaded)
            for place, photo in enumerate(photos):
                if photo.name in wanted:
                    row = wanted.pop(photo.name)
                    there = {s for s, of in results.scores.items() if not np.isnan(of["psnr"][row])} | {TRUTH}
                    scores = _scores(source[number * size + place], photo, config.eval.data.box_choice, model.side)
                    own = {name: rgb[place] for name, rgb in panels.items() if name in there}
                    maps = {
                        t: Weights(np.asarray(b.full[place]), np.asarray(b.instance[photo.crops]))
                        for t, b in fusion_weights.items()
                    }
                    annotated = results.objects.annotated and len(results.objects.photo) > 0
                    yield _pictured(photo, own, scores, maps if photo.crops else {}, model.side, annotated)
    if wanted:
        raise UserError(f"photo {min(wanted)}: measured, but not found again; did the photos of eval.data change?")


class _Placed(NamedTuple):
    """A photo of a batch; JSON types, so that processes can send it to each other."""

    name: str
    size: list[int]
    """Height and width at which it is measured."""
    crops: list[int]
    """Its crops' places in the whole batch."""
    boxes: list[list[int]]
    """Of its crops' objects, in pixels of the comparison."""
    annotated: list[list[int]]
    """In pixels of the comparison."""


def _painted(
    evaluator: Evaluator, weights: _WeightMaps, loaded: LoadedBatch
) -> tuple[dict[str, np.ndarray], dict[str, FusionWeights], list[_Placed]]:
    """Pictures and weight maps of a batch of all processes, on the host, and what its photos are."""
    devices, batch, targets = evaluator.devices, loaded.batch, loaded.compared
    assert targets is not None
    truth = evaluator.scorer.place(batch, targets)
    pictures = evaluator.pictures(loaded, targets, truth, evaluator.predictors(batch, targets.canvases).colors)
    panels, fusion_weights = devices.fetch_whole(({**pictures, TRUTH: truth.rgb}, weights(batch)))
    owner = photo_of_crop(batch, devices.local_count)
    before = devices.process_index * len(owner)
    own = [np.flatnonzero(owner == place) for place in range(len(loaded.names))]
    placed = [
        _Placed(name, size, (before + crops).tolist(), targets.crop_boxes[crops].tolist(), objects.tolist())
        for name, size, crops, objects in zip(loaded.names, targets.size.tolist(), own, targets.objects, strict=True)
    ]
    shares = devices.gather(placed)
    # In the order of reading, which jit does not keep.
    fusion_weights = {tap: fusion_weights[tap] for tap in weights.taps if tap in fusion_weights}
    return (
        {name: panels[name] for name in (*pictures, TRUTH)},
        fusion_weights,
        [_Placed(*p) for share in shares for p in share],
    )


def _pictured(
    photo: _Placed,
    panels: dict[str, np.ndarray],
    scores: np.ndarray,
    weights: dict[str, Weights],
    side: int,
    annotated: bool,
) -> Pictured:
    height, width = photo.size

    def on_panel(boxes: list[list[int]]) -> Int[np.ndarray, "N 4"]:
        return np.rint(np.array(boxes, np.float64).reshape(-1, 4) * side / max(width, height)).astype(np.int32)

    return Pictured(
        photo.name,
        {name: fitted(rgb[:height, :width], side) for name, rgb in panels.items()},
        on_panel(photo.boxes),
        scores,
        on_panel(photo.annotated) if annotated else None,
        weights,
        fitted_size(height, width, side),
    )


def _scores(photo: Photo, placed: _Placed, choice: BoxChoice, side: int) -> Float[np.ndarray, " N"]:
    """Scores of the crops, which batches do not carry: those of the photo's boxes that lie on the same pixels."""
    usable = usable_boxes(photo, choice)
    places = used_boxes(usable.boxes, photo.size, side, (placed.size[1], placed.size[0])).tolist()
    scores, free = np.full(len(placed.boxes), np.nan, np.float32), list(range(len(places)))
    for i, box in enumerate(placed.boxes):
        match = next((f for f in free if places[f] == box), None)
        if match is not None:
            free.remove(match)
            scores[i] = usable.scores[match]
    return scores


class _WeightMaps:
    """The weight maps that a checkpoint predicts for a batch, on the devices; none without one."""

    def __init__(self, checkpoint: Checkpoint | None, devices: Devices) -> None:
        self._devices = devices
        self._checkpoint = checkpoint
        self.taps: tuple[str, ...] = ()
        if checkpoint is not None:
            self.taps = fused_taps(checkpoint.model)
            self._variables = devices.replicate({tree: checkpoint.variables[tree] for tree in TREES})

    def __call__(self, batch: Batch) -> dict[str, FusionWeights]:
        if self._checkpoint is None:
            return {}
        with jax.default_matmul_precision("highest"):
            function = _compiled(self._checkpoint.model, self._devices)
            (fusion_weights,) = function(self._variables, self._devices.split(batch))
        found: dict[str, FusionWeights] = fusion_weights
        return found


@functools.lru_cache(maxsize=4)
def _compiled(model: ModelConfig, devices: Devices) -> Callable[..., Any]:
    def fusion_weights(variables: Variables, batch: Batch) -> tuple[dict[str, FusionWeights]]:
        return (predict(build(model), variables, batch).fusion_weights,)

    return devices.map(fusion_weights, in_specs=(REPLICATED, SPLIT), out_specs=(SPLIT,))

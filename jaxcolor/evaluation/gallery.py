"""Pictures for the report: which photos are shown, and a second pass over these alone that keeps what was predicted.

The second pass reads the batches that hold the photos exactly as the first one did: same neighbours, same random
boxes, same crops dropped. So the pictures are those that were measured.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxcolor.batch import Batch
from jaxcolor.boxes import BoxChoice, level_boxes
from jaxcolor.config import Config, ModelConfig
from jaxcolor.data.photos import Photo, Source, usable_boxes
from jaxcolor.data.pipeline import Loaded, eval_batches
from jaxcolor.errors import UserError
from jaxcolor.evaluation.controls import photo_of_crop
from jaxcolor.evaluation.protocol import colorized, systems_of
from jaxcolor.evaluation.results import SYSTEMS, Results
from jaxcolor.models.backbone import TAPS, network_input
from jaxcolor.models.dual_branch import TREES, Networks, Variables, build, picture, predict, run_full
from jaxcolor.models.fusion import Blend
from jaxcolor.parallel import REPLICATED, SPLIT, Devices

Pictures = Mapping[str, UInt8[np.ndarray, "B S S 3"]]
"""System -> pictures of a batch."""


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
    """System -> picture, and ``truth``."""
    boxes: Int[np.ndarray, "N 4"]
    """Of the crops that the network was given: x0, y0, width, height on the canvas."""
    scores: Float[np.ndarray, " N"]
    """Of the detections; 1 for annotated boxes."""
    annotated: Int[np.ndarray, "K 4"] | None
    """Annotated boxes, as ``boxes``; None where nothing is annotated."""
    weights: dict[str, Weights]
    """Weight maps by fused tap, in the network's order; empty for a photo without boxes or weights without fusion."""


def choose(
    results: Results,
    count: int,
    failures: Mapping[str, Float[np.ndarray, " P"]] | None = None,
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
      failures: kind -> score of each photo (``failures.find``); 0 and NaN are no failures.
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
    for score in (failures or {}).values():
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
    model: ModelConfig,
    variables: Variables,
    source: Source,
    results: Results,
    rows: Sequence[int],
    devices: Devices,
    also: Callable[[Loaded], Pictures] | None = None,
) -> Iterator[Pictured]:
    """Run the chosen photos once more and keep pictures and weight maps, batch by batch.

    Args:
      config: the one that the photos were measured with; ``eval`` is read.
      model: the architecture of the variables.
      variables: ``full`` alone, or all three trees.
      source: the one that was measured.
      results: what was found.
      rows: places in ``results.names`` (``choose``).
      devices: where to run. Of several processes all must go through the whole iterator; each gets all photos.
      also: pictures of further systems for a batch of this process, made elsewhere.

    Yields:
      The photos, in the order of the source.

    Raises:
      UserError: a photo is not where it was in the first pass.
    """
    wanted = {results.names[row] for row in rows}
    size = -(-config.eval.batch_size // devices.count) * devices.count
    # A photo that could not be read has a place in a batch and none in the results.
    late = results.skipped_photos
    last = (min(config.eval.photos or len(source), len(source)) - 1) // size
    batches = sorted({b for row in rows for b in range(row // size, min((row + late) // size, last) + 1)})
    if not batches:
        return
    fused = len(systems_of(variables)) == 3
    held = devices.replicate({tree: variables[tree] for tree in (TREES if fused else ("full",))})
    function = _compiled(model, devices, fused)
    loading = eval_batches(
        source,
        config.eval.data,
        side=model.side,
        batch_size=size,
        device_count=devices.count,
        photos=config.eval.photos,
        only=batches,
        process_index=devices.process_index,
        process_count=devices.process_count,
    )
    with loading:
        for number, loaded in zip(batches, loading, strict=True):
            # A measurement, as in the first pass.
            with jax.default_matmul_precision("highest"):
                painted = function(held, devices.split(loaded.batch))
            more = devices.split(dict(also(loaded))) if also is not None else {}
            whole, panels, blends, more = devices.fetch((*painted, more), (SPLIT,) * 4)
            told = [None if a is None else np.asarray(a).tolist() for a in loaded.annotated]
            shares = devices.gather([list(loaded.names), told])
            names, annotated = ([value for share in shares for value in share[i]] for i in range(2))
            # In the order of reading, which jit does not keep.
            shown = {s: panels[s] for s in SYSTEMS if s in panels} | more | {"truth": whole.full_rgb}
            taps = [tap.name for tap in TAPS if tap.name in blends]
            owner = photo_of_crop(Batch(whole.full_rgb, whole.full_rgb[:0], *whole[2:]), devices.count)
            for place, name in enumerate(names):
                if name not in wanted:
                    continue
                wanted.remove(name)
                own = owner == place
                boxes = np.asarray(whole.level_boxes)[own]
                yield Pictured(
                    name,
                    {s: rgb[place] for s, rgb in shown.items()},
                    boxes[:, 0],
                    _scores(source[number * size + place], boxes, config.eval.data.box_choice, model.side),
                    None if annotated[place] is None else np.array(annotated[place], np.int32).reshape(-1, 4),
                    {t: Weights(blends[t].full[place], blends[t].instance[own]) for t in taps} if own.any() else {},
                )
    if wanted:
        raise UserError(f"photo {min(wanted)}: measured, but not found again; did the photos of eval.data change?")


def _scores(photo: Photo, boxes: np.ndarray, choice: BoxChoice, side: int) -> Float[np.ndarray, " N"]:
    """Scores of the boxes, which batches do not carry: those of the photo's boxes that lie on the same cells."""
    usable = usable_boxes(photo, choice)
    places = level_boxes(usable.boxes, photo.size, side)
    scores, free = np.full(len(boxes), np.nan, np.float32), list(range(len(places)))
    for i, box in enumerate(boxes):
        match = next((f for f in free if (places[f] == box).all()), None)
        if match is not None:
            free.remove(match)
            scores[i] = usable.scores[match]
    return scores


@functools.lru_cache(maxsize=4)
def _compiled(model: ModelConfig, devices: Devices, fused: bool) -> Callable[..., Any]:
    return devices.map(_paint(build(model), fused), takes=(REPLICATED, SPLIT), gives=(SPLIT, SPLIT, SPLIT))


def _paint(networks: Networks, fused: bool) -> Callable[..., tuple[Batch, dict[str, jax.Array], dict[str, Blend]]]:
    """The function of one device."""

    def paint(variables: Variables, batch: Batch) -> tuple[Batch, dict[str, jax.Array], dict[str, Blend]]:
        """The batch without its crops, the pictures of each system, and the weight maps of each tap."""
        shown = picture(batch.full_rgb, networks.full.config)
        colours, blends = {"gray": jnp.zeros_like(shown.ab)}, {}
        if fused:
            prediction = predict(networks, variables, batch)
            blends = prediction.blends
            colours |= {"full": prediction.full_ab, "fused": prediction.ab}
        else:
            colours["full"] = run_full(networks, variables, network_input(shown.luminance)).ab
        pictures = {name: colorized(shown.luminance, ab) for name, ab in colours.items()}
        # Crops of one pixel: they are not looked at again, and all of them weigh more than everything else together.
        return batch._replace(crop_rgb=batch.crop_rgb[:, :1, :1]), pictures, blends

    return paint

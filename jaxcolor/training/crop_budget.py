"""How many boxes will find no place on the devices, said before a stage that reads crops begins."""

from __future__ import annotations

import numpy as np

from jaxcolor.config import Config
from jaxcolor.data.collate import crops_per_device
from jaxcolor.data.sources.photo_source import PhotoSource
from jaxcolor.data.tools.box_statistics import MOST_DROPPED, cost, crops_distribution, propose_budget
from jaxcolor.data.types import Source
from jaxcolor.runtime.text import counted
from jaxcolor.training.stages import Stage, stage_config

_LEAST_SAID = 0.001


def budget_line(config: Config, stage: Stage, source: Source, device_count: int) -> str:
    """What ``data.max_crops_per_image`` leaves out, and what would hold nearly all.

    Expected over random batches, from the numbers of usable boxes; under ``threshold``, or in windows, fewer are used.

    Args:
      config: of the run.
      stage: of it.
      source: of the photos; only of photos are all boxes known beforehand.
      device_count: among which a batch is split.

    Returns:
      One line; empty where at most one crop in a thousand is left out, and for stages that have a place for each.
    """
    if stage.parts != "both" or not isinstance(source, PhotoSource):
        return ""
    settings, data = stage_config(config, stage), config.data
    used = source.usable_counts[source.usable_counts > 0]
    if data.box_choice in ("top_k", "random_k"):
        used = np.minimum(used, data.boxes_per_photo)
    photos = settings.batch_size // (device_count * settings.accumulate)
    capacity = crops_per_device(photos, data.max_crops_per_image)
    if data.batching == "balanced":  # every device has about the mean
        dropped, advice = max(0.0, 1 - capacity / (photos * float(used.mean()))), ""
    else:
        dropped = cost(crops_distribution(used, photos), capacity).dropped
        advice = f"; {propose_budget(used, photos):g} would leave out {MOST_DROPPED:.0%} at most, in more memory"
    if dropped < _LEAST_SAID:
        return ""
    most = " at most" if data.box_choice == "threshold" or settings.crop_area < 1 else ""
    boxes = int(used.sum())
    return (
        f"stage {stage.name}: about {dropped:.1%} of the boxes used, {dropped * boxes:,.0f} of {boxes:,} in an "
        f"epoch{most}, will find no place: data.max_crops_per_image {data.max_crops_per_image:g} gives "
        f"{counted(photos, 'photo')} {counted(capacity, 'crop')}{advice}"
    )

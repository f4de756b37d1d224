"""From epochs to steps: a recipe may say how often every photo is seen, training counts steps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from jaxcolor.config import Config
from jaxcolor.data.types import Source
from jaxcolor.training.stages import Stage, stage_config


def steps_of(epochs: float, photos: int, batch_size: int) -> int:
    """Steps in which ``photos`` photos are seen ``epochs`` times, the last step begun counted; at least 1."""
    # Rounded first, so that 0.1 epochs of 30 photos at 3 a step are 1 step and not 1.0000000000000002.
    return max(1, math.ceil(round(epochs * photos / batch_size, 6)))


def photos_of(stage: Stage, source: Source) -> int:
    """How many photos of the source a stage sees: those without boxes only where no crop is needed."""
    return len(source) if stage.parts == "full" else len(source.with_boxes())


def resolve_epochs(config: Config, stages: Sequence[Stage], source: Source) -> tuple[Config, list[str]]:
    """The config with steps in place of epochs, and a line that says so for every stage that gives epochs."""
    lines: list[str] = []
    for stage in stages:
        settings = stage_config(config, stage)
        if not settings.epochs:
            continue
        photos = photos_of(stage, source)
        steps = steps_of(settings.epochs, photos, settings.batch_size)
        lines.append(
            f"stage {stage.name}: {settings.epochs:g} epochs of {photos:,} photos, {settings.batch_size} a step: "
            f"{steps:,} steps"
        )
        settings = dataclasses.replace(settings, steps=steps, epochs=0.0)
        changed: Any = {stage.name: settings}
        config = dataclasses.replace(config, **changed)
    return config, lines

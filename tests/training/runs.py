"""Small runs of the three stages on scenes, and what to compare of them."""

import dataclasses
from pathlib import Path
from typing import Any

from jaxcolor.config import Config, DataConfig, StageConfig
from jaxcolor.training.logs import read_scalars
from tests.small import TWO

STEPS = {"full": 5, "instance": 4, "fusion": 3}


def stage(steps: int, **changes: Any) -> StageConfig:
    return StageConfig(**{"steps": steps, "batch_size": 16, "learning_rate": 1e-3} | changes)


CONFIG = Config(
    name="tiny",
    model=TWO,
    data=DataConfig(source="scenes", max_crops_per_image=2.0),
    full=stage(STEPS["full"]),
    instance=stage(STEPS["instance"], decay_start=0.5),
    fusion=stage(STEPS["fusion"], trained="fusion_and_output"),
    log_every=2,
    checkpoint_every=2,
)
ONLY_FULL = dataclasses.replace(CONFIG, stages=("full",))


SPEED = ("photos_per_second", "step_seconds", "waiting_seconds")


def numbers(workdir: Path, stages: tuple[str, ...] = tuple(STEPS)) -> list[dict[str, Any]]:
    """What was logged, but for the speed."""
    records = [r for r in read_scalars(workdir) if r["stage"] in stages]
    return [{k: v for k, v in r.items() if k not in SPEED} for r in records]

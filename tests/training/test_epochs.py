"""Epochs become steps, once, at the start."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from jaxcolor.config import Config, ConfigError, DataConfig, ScenesConfig, StageConfig
from jaxcolor.config_io import from_dict, to_dict
from jaxcolor.training import train
from jaxcolor.training.stages import STAGES, resolve_epochs, steps_of
from tests.small import TWO


class Photos:
    """A source of 100 photos, 30 of them with boxes."""

    def __len__(self) -> int:
        return 100

    def with_boxes(self) -> Sequence[int]:
        return range(30)

    def fails(self, *arguments: object) -> None:
        raise AssertionError("steps are counted without looking at a photo")

    __getitem__ = picture = crop_count = describe = fails


@pytest.mark.parametrize(
    ("epochs", "photos", "batch_size", "steps"),
    [
        (2.0, 100, 10, 20),
        (2.0, 101, 10, 21),
        (0.5, 100, 16, 4),
        (0.1, 30, 3, 1),
        (1.1, 100, 10, 11),
        (0.001, 10, 10, 1),
        (150.0, 118_287, 16, 1_108_941),
    ],
)
def test_steps(epochs: float, photos: int, batch_size: int, steps: int) -> None:
    assert steps_of(epochs, photos, batch_size) == steps


def test_only_stages_that_give_epochs_change() -> None:
    config = Config(
        full=StageConfig(steps=0, epochs=2.0, batch_size=10),
        instance=StageConfig(steps=0, epochs=2.0, batch_size=10),
        fusion=StageConfig(steps=7),
    )
    resolved, lines = resolve_epochs(config, list(STAGES.values()), Photos())
    assert (resolved.full.steps, resolved.instance.steps, resolved.fusion.steps) == (20, 6, 7)
    assert (resolved.full.epochs, resolved.instance.epochs) == (0, 0)
    assert lines == [
        "stage full: 2 epochs of 100 photos, batch size 10: 20 steps",
        "stage instance: 2 epochs of 30 photos, batch size 10: 6 steps",
    ]
    # What is not asked for is left alone: counting boxes may be slow.
    assert resolve_epochs(config, [STAGES["full"]], Photos())[0].instance == config.instance


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"steps": 10, "epochs": 2.0}, "config.full.steps: 10, which must be 0 where epochs are given (2)"),
        ({"epochs": 2.0}, "config.full.steps: 1000, which must be 0 where epochs are given (2); or set epochs to 0"),
        ({"steps": 0, "epochs": -1.0}, "config.full.epochs: -1.0, which must be at least 0"),
        ({"steps": 0, "epochs": float("inf")}, "config.full.epochs: inf, which must be at least 0"),
    ],
)
def test_what_is_refused(values: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_dict(Config, {"full": values})
    assert said in str(error.value)


def test_a_run_of_epochs_is_the_run_of_its_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(
        model=TWO,
        stages=("full",),
        data=DataConfig(source="scenes", scenes=ScenesConfig(length=12)),
        full=StageConfig(steps=0, epochs=1.0, batch_size=8),
    )
    train.train(config, tmp_path)
    said = capsys.readouterr().out
    assert "stage full: 1 epochs of 12 photos, batch size 8: 2 steps" in said
    assert "stage full: steps 0 to 2, batch size 8 on 8 x cpu\n  tree  modules" in said
    assert "total trained" in said
    written = json.loads((tmp_path / "config.json").read_text())
    in_steps = dataclasses.replace(config, full=StageConfig(steps=2, batch_size=8))
    assert written == to_dict(in_steps)
    train.train(in_steps, tmp_path)
    assert "stage full: steps 2 to 2" in capsys.readouterr().out

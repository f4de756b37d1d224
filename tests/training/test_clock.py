"""Stages that are bounded by time: the learning rate follows the clock, and what was taken is repeated exactly."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import pytest

from jaxcolor.config import ConfigError, StageConfig
from jaxcolor.runtime.parallel import Devices
from jaxcolor.training import clock as module
from jaxcolor.training import train
from jaxcolor.training.checkpoints import CheckpointError, saved_steps
from jaxcolor.training.clock import CLOCK_FILE, Clock
from jaxcolor.training.logs import read_scalars
from jaxcolor.weights import native
from tests.training.runs import CONFIG, ONLY_FULL, numbers, stage

MINUTE = dataclasses.replace(ONLY_FULL, full=stage(1000, minutes=1.0, schedule="cosine"))


class Time:
    """A clock that goes on by so many seconds whenever it is looked at."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now = seconds, 0.0

    def monotonic(self) -> float:
        self.now += self.seconds
        return self.now


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a minute, of which two steps took 20 seconds each time. Not to be changed."""
    workdir = tmp_path_factory.mktemp("run") / "finished"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", Time(20.0))
        train.train(dataclasses.replace(MINUTE, keep_checkpoints=9), workdir)
    return workdir


def test_the_rate_follows_the_clock(finished: Path) -> None:
    records = read_scalars(finished)
    assert [r["step"] for r in records] == [1, 2, 3, 4, 5, 6]
    rates = [r["learning_rate"] for r in records]
    assert rates == pytest.approx([1e-3, 1e-3, 7.5e-4, 7.5e-4, 2.5e-4, 2.5e-4], rel=1e-5)
    lines = (finished / "full" / CLOCK_FILE).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 2 * n, "seconds": 20.0 * n} for n in (1, 2, 3)]
    assert native.load(finished).note == "tiny, after stage full"
    assert native.load(finished / "full/4").note == "tiny, stage full, step 4"


@pytest.mark.parametrize("seconds", [1.0, 500.0])
def test_a_resumed_run_repeats_the_steps_that_were_taken(
    seconds: float, finished: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast the machine is now; then it is over, and nothing more is done."""
    monkeypatch.setattr(module, "time", Time(seconds))
    for step in (4, 6):
        shutil.rmtree(copied / "full" / str(step))
    for _ in range(2):
        train.train(MINUTE, copied)
        assert numbers(copied) == numbers(finished)
        assert (copied / "weights.safetensors").read_bytes() == (finished / "weights.safetensors").read_bytes()


def test_it_goes_on_where_the_record_ends(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "time", Time(5.0))
    for step in (4, 6):
        shutil.rmtree(copied / "full" / str(step))
    record = copied / "full" / CLOCK_FILE
    record.write_text("".join(record.read_text().splitlines(keepends=True)[:2]) + '{"step": 6, "sec')
    train.train(MINUTE, copied)
    looked = [json.loads(line) for line in record.read_text().splitlines()]
    assert looked[:3] == [{"step": 2, "seconds": 20.0}, {"step": 4, "seconds": 40.0}, {"step": 6, "seconds": 45.0}]
    assert looked[-1] == {"step": 12, "seconds": 60.0}
    assert saved_steps(copied / "full")[-1] == 12


def test_a_later_stage_takes_the_result_when_it_is_over(copied: Path) -> None:
    config = dataclasses.replace(MINUTE, stages=("instance",), instance=stage(0))
    train.train(config, copied)
    record = copied / "full" / CLOCK_FILE
    record.write_text("".join(record.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(CheckpointError, match="stage full stopped at step 6 of 1 minutes; finish it first"):
        train.train(config, copied)


def test_another_time_is_another_run(copied: Path) -> None:
    longer = dataclasses.replace(MINUTE, full=dataclasses.replace(MINUTE.full, minutes=2.0))
    with pytest.raises(CheckpointError, match=r"full\.minutes: 1\.0 -> 2\.0"):
        train.train(longer, copied)


def test_a_warm_up_is_of_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "time", Time(15.0))
    settings = StageConfig(minutes=1.0, warmup_steps=4, learning_rate=1.0, decay_start=0.5)
    clock = Clock(tmp_path, settings, 0, Devices.all("shard_map", jax.devices()[:1]))
    rates = []
    for step in range(1, 9):
        rates.append(clock.rate(step))
        if step % 2 == 0:
            clock.look(step)
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.5, 0.5])
    assert clock.last_step == 8


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"minutes: -1\.0, which must be at least 0"):
        StageConfig(minutes=-1.0)
    with pytest.raises(ConfigError, match=r"epochs: 2\.0, which must be 0 where minutes are given"):
        StageConfig(steps=0, epochs=2.0, minutes=1.0)
    assert CONFIG.full.minutes == 0

"""A tracker of the user's own, named by its dotted path: what it is given, and what happens when it fails."""

import dataclasses
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxcolor.config import Config, ConfigError
from jaxcolor.runtime.errors import UserError
from jaxcolor.training import train
from jaxcolor.training.logs import Logs, read_scalars
from jaxcolor.training.trackers import Tracked
from tests.training.runs import ONLY_FULL


class Fake:
    """Keeps what it is given."""

    made: list["Fake"]

    def __init__(self, run: Tracked) -> None:
        self.run = run
        self.calls: list[tuple[Any, ...]] = []
        self.made.append(self)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.calls.append(("scalars", step, dict(values)))

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        self.calls.append(("image", step, name, pixels.shape))

    def text(self, name: str, text: str) -> None:
        self.calls.append(("text", name))

    def flush(self) -> None:
        self.calls.append(("flush",))

    def close(self) -> None:
        self.calls.append(("close",))


class Broken(Fake):
    """Of a service that is not reached."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        super().scalars(values, step)
        raise ConnectionError("no route\nto host")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Fake]]:
    """The trackers of ``my_code`` that were made."""
    module = types.ModuleType("my_code")
    module.__dict__.update(Fake=Fake, Broken=Broken)
    monkeypatch.setitem(sys.modules, "my_code", module)
    monkeypatch.setattr(Fake, "made", [], raising=False)
    return Fake.made


def test_it_is_given_what_the_log_has(made: list[Fake], tmp_path: Path) -> None:
    config = dataclasses.replace(ONLY_FULL, trackers="my_code:Fake")
    train.train(config, tmp_path / "run")
    (tracker,) = made
    assert tracker.run[:3] == (tmp_path / "run", "full", 0)
    assert tracker.run.config["full"]["steps"] == 5
    given = [{"stage": "full", "step": call[1], **call[2]} for call in tracker.calls if call[0] == "scalars"]
    assert given == read_scalars(tmp_path / "run")
    assert ("text", "config") in tracker.calls
    assert tracker.calls[-2:] == [("flush",), ("close",)]
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_pictures_and_what_was_measured(made: list[Fake], tmp_path: Path) -> None:
    config = Config(trackers="tensorboard, my_code:Fake")
    with Logs(tmp_path, config, "full", 7) as logs:
        logs.write_metrics(8, {"psnr": 20.0, "lpips": float("nan")}, Image.new("RGB", (6, 4)))
    (tracker,) = made
    assert tracker.run.start_step == 7
    assert tracker.calls == [("scalars", 8, {"eval/psnr": 20.0}), ("image", 8, "photos", (4, 6, 3)), ("close",)]
    assert list((tmp_path / "tensorboard" / "full").iterdir())


def test_stages_share_one_chart_in_tensorboard(tmp_path: Path) -> None:
    """A run of TensorBoard each, and in all of them the same tags: what is drawn in one chart."""
    for stage in ("full", "instance"):
        with Logs(tmp_path, Config(), stage, 0) as logs:
            logs.write(1, {"loss": 1.0})
            logs.text("config", "said")
        (events,) = (tmp_path / "tensorboard" / stage).iterdir()
        written = events.read_bytes()
        assert b"\x0a\x04loss" in written  # a field of protobuf: the whole tag
        assert stage.encode() not in written


def test_one_that_fails_is_left_out_and_training_goes_on(
    made: list[Fake], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Logs(tmp_path, Config(trackers="my_code:Broken,my_code:Fake"), "full", 0) as logs:
        for step in (1, 2):
            logs.write(step, {"loss": 1.0})
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "tracker my_code:Broken: left out from now on, it failed: ConnectionError: no route to host"
    broken, fake = made
    assert [call[:2] for call in broken.calls] == [("scalars", 1)]
    assert [call[:2] for call in fake.calls[:2]] == [("scalars", 1), ("scalars", 2)]
    assert [record["step"] for record in read_scalars(tmp_path)] == [1, 2]


def test_names_that_there_are_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trackers: tracker 'tensorbord': no such name; did you mean tensorboard"):
        Config(trackers="tensorbord")
    config = dataclasses.replace(ONLY_FULL, trackers="no_such_code:Tracker")
    with pytest.raises(UserError, match="tracker 'no_such_code:Tracker': "):
        train.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert Config(trackers="").tracker_names == ()

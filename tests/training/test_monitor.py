"""What keeps an eye on a run: waiting, compilation, traces, transfers, measurements on the way."""

import contextlib
import dataclasses
import json
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcolor.config import ConfigError, EvalConfig
from jaxcolor.evaluation.run import DuringTraining
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training import train
from jaxcolor.training.checkpoints import Checkpoints, Keep
from jaxcolor.training.logs import SEEN, read_scalars
from jaxcolor.training.monitor import LoaderWait, Profile, RecompilationWarning, parse_profile_steps, warn_if_recompiled
from tests.training.runs import CONFIG, STEPS


class TestWaiting:
    def test_adds_up_and_starts_anew(self) -> None:
        waiting = LoaderWait(patience=0.0)
        for number in (1, 2):
            with waiting.for_batch(number):
                time.sleep(0.02)
        assert 0.04 <= waiting.take() < 1
        assert waiting.take() == 0

    def test_tells_when_it_takes_long_and_only_then(self, capsys: pytest.CaptureFixture[str]) -> None:
        waiting = LoaderWait(patience=0.1)
        with waiting.for_batch(6):
            pass
        with waiting.for_batch(7):
            time.sleep(0.35)
        time.sleep(0.2)
        lines = [line for line in capsys.readouterr().err.splitlines() if line]
        assert 2 <= len(lines) <= 3
        assert all(line.startswith("step 7: waiting for photos for 0 s; is the disk") for line in lines)


def test_a_second_compilation_is_an_error_here() -> None:
    devices = Devices.all("shard_map", jax.devices()[:2])
    step = devices.map(lambda a, x: (a + x.sum(),), (REPLICATED, SPLIT), (REPLICATED,))
    scale = devices.replicate(np.float32(2))
    for _ in range(2):
        step(scale, devices.split(np.ones(4, np.float32)))
    warn_if_recompiled(step, "here")
    step(scale, devices.split(np.ones(6, np.float32)))
    with pytest.raises(RecompilationWarning, match="here: the step was compiled 2 times"):
        warn_if_recompiled(step, "here")


class TestProfile:
    @pytest.mark.parametrize(("text", "steps"), [("", None), ("10,20", (10, 20)), (" 3 , 3 ", (3, 3))])
    def test_steps(self, text: str, steps: tuple[int, int] | None) -> None:
        assert parse_profile_steps(text) == steps

    @pytest.mark.parametrize("text", ["10", "20,10", "0,3", "a,b", "1,2,3", "-1,2", ","])
    def test_steps_that_are_none(self, text: str) -> None:
        with pytest.raises(
            ConfigError, match=r"config.profile_steps: .*; give the first and the last step, as in 10,20"
        ):
            parse_profile_steps(text)

    def test_traces_those_steps(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        traced = []
        with Profile((2, 3), tmp_path / "p") as profile:
            for number in range(1, 6):
                profile.before(number)
                traced.append(profile._tracing)
                profile.after(number, jnp.ones(3) * number)
        assert traced == [False, True, True, False, False]
        assert list((tmp_path / "p").rglob("*.xplane.pb"))
        assert "trace of steps (2, 3)" in capsys.readouterr().out

    def test_ends_with_the_run(self, tmp_path: Path) -> None:
        with contextlib.suppress(KeyError), Profile((1, 9), tmp_path) as profile:
            profile.before(1)
            raise KeyError
        with Profile((1, 1), tmp_path / "again") as profile:  # would fail if the other were still tracing
            profile.before(1)
            profile.after(1, jnp.ones(3))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that measures every second step; warnings are errors, and its steps run under a guard against transfers."""
    held_out = dataclasses.replace(CONFIG.data, split="held_out")
    config = dataclasses.replace(
        CONFIG,
        eval_every=2,
        keep_best="psnr",
        keep_checkpoints=1,
        checkpoint_every=100,
        profile_steps="2,2",
        eval=EvalConfig(data=held_out, photos=5, batch_size=8, sheet_photos=2),
    )
    workdir = tmp_path_factory.mktemp("measured")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train.train(config, workdir, DuringTraining(config))
    return workdir


class TestMeasuring:
    def test_lines_of_their_own(self, measured: Path) -> None:
        lines = [r for r in read_scalars(measured) if r.get("measured")]
        assert [(r["stage"], r["step"]) for r in lines] == [("full", 2), ("full", 4), ("fusion", 2)]
        for line in lines:
            last = "fused" if line["stage"] == "fusion" else "full"
            assert line["psnr"] == line[f"{last}_psnr"]
            assert 5 < line["psnr"] < 60
        assert "fused_psnr" not in lines[0]

    def test_pictures(self, measured: Path) -> None:
        assert sorted(p.name for p in (measured / SEEN).iterdir()) == [
            f"{stage}-{step:07d}-photos.png" for stage, step in (("full", 2), ("full", 4), ("fusion", 2))
        ]
        with Image.open(measured / SEEN / "full-0000002-photos.png") as picture:
            assert min(picture.size) > 300

    def test_the_best_checkpoint_is_kept(self, measured: Path) -> None:
        best = max((r for r in read_scalars(measured) if r.get("measured") and r["stage"] == "full"), key=_psnr)
        with Checkpoints(measured / "full", Keep(1, 0, "psnr")) as checkpoints:
            assert set(checkpoints.steps()) == {best["step"], STEPS["full"]}
            assert checkpoints.metrics(best["step"])["psnr"] == best["psnr"]

    def test_a_trace_of_each_stage(self, measured: Path) -> None:
        assert {path.parent.name for path in (measured / "profile").rglob("plugins")} == set(STEPS)

    def test_times(self, measured: Path) -> None:
        steps = [r for r in read_scalars(measured) if not r.get("measured")]
        assert len(steps) == sum(STEPS.values())
        for record in steps:
            assert 0 <= record["waiting_seconds"] <= record["step_seconds"]
            assert record["photos_per_second"] == pytest.approx(16 / record["step_seconds"])
            assert "mfu" not in record  # a processor's peak is not known
        assert json.loads((measured / "summary.json").read_text())["train_seconds"].keys() == STEPS.keys()


def _psnr(record: dict[str, Any]) -> float:
    return float(record["psnr"])

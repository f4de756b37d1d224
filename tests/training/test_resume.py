"""Resuming: with other devices, for longer, with other photos, and where ``Config.resume`` says so."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxcolor.config import Config
from jaxcolor.data.sources import scenes
from jaxcolor.runtime.parallel import Devices
from jaxcolor.training import compatibility, train, workdirs
from jaxcolor.training.checkpoints import CheckpointError, Checkpoints, saved_steps
from jaxcolor.training.compatibility import reconcile_steps, tree_digests
from jaxcolor.training.stages import STAGES
from jaxcolor.training.workdirs import WorkdirError
from tests.training.runs import CONFIG, ONLY_FULL, numbers, stage


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of stage full, 5 steps on 8 devices, that nothing disturbed. Not to be changed."""
    workdir = tmp_path_factory.mktemp("run") / "finished"
    train.train(ONLY_FULL, workdir)
    return workdir


WIDE = dataclasses.replace(ONLY_FULL, model=dataclasses.replace(ONLY_FULL.model, compute_dtype="float64"))


@pytest.fixture(scope="module")
def finished_wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``finished``, in float64."""
    workdir = tmp_path_factory.mktemp("run") / "finished"
    with jax.enable_x64(True):
        train.train(WIDE, workdir)
    return workdir


def steps(config: Config, count: int) -> Config:
    return dataclasses.replace(config, full=dataclasses.replace(config.full, steps=count))


def use(devices: int, mapping: str, monkeypatch: pytest.MonkeyPatch) -> None:
    some = Devices(mapping, tuple(jax.local_devices()[:devices]))
    monkeypatch.setattr(train.Devices, "all", lambda mapping: some)


SLOW_PMAP = pytest.param("pmap", marks=pytest.mark.slow)


@pytest.mark.parametrize("mapping", ["shard_map", SLOW_PMAP])
@pytest.mark.parametrize("devices", [pytest.param(4, marks=pytest.mark.slow), 1])
def test_the_next_step_on_fewer_devices(
    devices: int, mapping: str, finished_wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the very state that 8 devices left. In float64: so small a network makes thousands of what is rounded."""
    copied = Path(shutil.copytree(finished_wide, tmp_path / "copied"))
    shutil.rmtree(copied / "full" / "5")
    use(devices, mapping, monkeypatch)
    with jax.enable_x64(True):
        train.train(dataclasses.replace(WIDE, mapping=mapping), copied)
    ours, theirs = numbers(copied), numbers(finished_wide)
    assert ours[:4] == theirs[:4]
    assert [r["step"] for r in ours] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(ours[4]["loss"], theirs[4]["loss"], rtol=1e-9)
    np.testing.assert_allclose(ours[4]["grad_norm"], theirs[4]["grad_norm"], rtol=1e-6)
    assert ours[4]["valid_photos"] == theirs[4]["valid_photos"]


@pytest.mark.slow
@pytest.mark.parametrize("mapping", ["shard_map", "pmap"])
def test_on_fewer_and_fewer_devices(
    mapping: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8, 4 and 1, each time for longer, too: about the same losses as in one go on 8."""
    config = dataclasses.replace(ONLY_FULL, mapping=mapping)
    for devices, until in ((8, 2), (4, 4), (1, 5)):
        use(devices, mapping, monkeypatch)
        train.train(steps(config, until), tmp_path)
    ours, theirs = ([r["loss"] for r in numbers(workdir)] for workdir in (tmp_path, finished))
    assert ours[:2] == theirs[:2]
    np.testing.assert_allclose(ours[2], theirs[2], rtol=1e-5)
    # Adam's first steps go by the sign of gradients: where one is about 0, rounding decides, and the states part.
    np.testing.assert_allclose(ours, theirs, rtol=5e-3)


class TestSteps:
    def reconcile(self, then: Any, now: Any, step: int) -> list[str]:
        theirs, ours = ({"full": dataclasses.asdict(settings)} for settings in (then, now))
        reconciled, reasons = reconcile_steps(theirs, ours, STAGES["full"], step, {})
        assert (reconciled == ours) == (not reasons)
        return list(reasons)

    @pytest.mark.parametrize(
        ("then", "now", "step"),
        [
            (stage(5), stage(9), 5),
            (stage(9), stage(5), 5),
            (stage(10, decay_start=0.5), stage(20, decay_start=0.5), 6),  # the sixth is the first that has decayed
            (stage(10, decay_start=0.5), stage(20, decay_start=0.5), 0),
        ],
    )
    def test_may_change_where_the_steps_done_would_be_the_same(self, then: Any, now: Any, step: int) -> None:
        assert self.reconcile(then, now, step) == []

    def test_may_not_change_where_they_would_not(self) -> None:
        (reason,) = self.reconcile(stage(10, decay_start=0.5), stage(20, decay_start=0.5), 8)
        assert "its learning rate depends on how many there are" in reason
        assert "0.001 -> 0.001" not in reason
        assert "0.0008 -> 0.001 in step 7; to continue from its weights, start a new run with start_from" in reason
        (reason,) = self.reconcile(stage(10), stage(7), 8)
        assert reason == "full.steps: 8 steps are done already, so 7 are too few"

    def test_nor_under_stages_that_started_from_the_result(self, copied: Path) -> None:
        (copied / "instance" / "4").mkdir(parents=True)
        before = numbers(copied)
        with pytest.raises(CheckpointError, match="stage instance started from its result at step 5; delete"):
            train.train(steps(ONLY_FULL, 9), copied)
        assert numbers(copied) == before
        assert saved_steps(copied / "full") == [4, 5]

    def test_of_a_stage_whose_result_is_taken(self, copied: Path) -> None:
        config = steps(dataclasses.replace(CONFIG, stages=("instance",)), 9)
        with pytest.raises(CheckpointError, match="stage full stopped at step 5 of 9; finish it first"):
            train.train(config, copied)


def test_a_stage_that_started_from_another_result_is_refused(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody deleted stage full and trained it anew, otherwise: stage instance does not belong to it."""
    config = dataclasses.replace(CONFIG, stages=("instance",), instance=stage(1))
    train.train(config, copied)
    train.train(config, copied)
    shutil.rmtree(copied / "full")
    anew = dataclasses.replace(ONLY_FULL, full=stage(1))
    train.train(anew, copied)
    both = dataclasses.replace(anew, stages=("full", "instance"), instance=stage(1))
    with pytest.raises(CheckpointError, match=r"begun_from\.full: '[0-9a-f]{16}' -> '[0-9a-f]{16}'"):
        train.train(both, copied)


def test_digests_tell_numbers_types_and_places_apart() -> None:
    tree = {"params": {"a": np.arange(6, dtype=np.float32), "b": np.zeros(2, np.float32)}}
    others = [
        {"params": {"a": np.arange(6, dtype=np.float32) + 1, "b": np.zeros(2, np.float32)}},
        {"params": {"a": np.arange(6, dtype=np.int32), "b": np.zeros(2, np.float32)}},
        {"params": {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2, np.float32)}},
        {"params": {"c": np.arange(6, dtype=np.float32), "b": np.zeros(2, np.float32)}},
    ]
    found = [tree_digests({"x": each})["x"] for each in (tree, *others)]
    assert len(set(found)) == len(found)
    assert compatibility.tree_digests({"x": jax.tree.map(np.copy, tree)}) == {"x": found[0]}


def test_other_photos_are_refused_unless_accepted(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scenes.SceneSource, "identity", lambda self: {"digest": "other"}, raising=False)
    with pytest.raises(CheckpointError, match=r"photos: '1000000 scenes.*' -> \{'digest': 'other'\}"):
        train.train(steps(ONLY_FULL, 6), copied)
    # With it the settings of the data may change, which are part of what was accepted.
    accepted = dataclasses.replace(
        steps(ONLY_FULL, 6), other_data="accept", data=dataclasses.replace(CONFIG.data, seed=3)
    )
    train.train(accepted, copied)
    printed = capsys.readouterr().out
    assert "other data accepted: data.seed: 0 -> 3" in printed
    assert "other data accepted: photos: " in printed
    with Checkpoints(copied / "full") as checkpoints:
        record = checkpoints.record()
        assert record is not None
        assert record["data"] == {"digest": "other"}
        assert record["step"] == 6


class TestResume:
    @pytest.fixture
    def held(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """What of a run ``resume`` looks at."""
        workdir = tmp_path_factory.mktemp("held")
        for name in ("full/4", "full/5", "full/6.orbax-checkpoint-tmp", "instance"):
            (workdir / name).mkdir(parents=True)
        (workdir / "scalars.jsonl").write_text(
            '{"stage": "full", "step": 5}\n{"stage": "instance", "step": 1}\n{"stage": "instance", "ste'
        )
        return workdir

    def test_auto_accepts_everything(self, held: Path, tmp_path: Path) -> None:
        for folder in (held, tmp_path, tmp_path / "new"):
            workdirs.check(folder, "auto", ["full"])
        assert not (tmp_path / "new").exists()

    def test_never_names_what_it_found_and_what_to_do(self, held: Path, tmp_path: Path) -> None:
        with pytest.raises(WorkdirError) as error:
            workdirs.check(held, "never", ["full", "instance", "fusion"])
        assert str(error.value) == (
            f"--workdir {held}: a run is there (stage full: checkpoint of step 5, stage instance: scalars.jsonl to "
            "step 1), and config.resume is 'never'; name another folder, delete that one, or resume it: "
            "--config.resume=auto"
        )
        workdirs.check(held, "never", ["fusion"])  # which takes what stages full and instance left
        workdirs.check(tmp_path, "never", ["full"])
        workdirs.check(tmp_path / "new", "never", ["full"])

    def test_must_refuses_where_there_is_nothing(self, held: Path, tmp_path: Path) -> None:
        workdirs.check(held, "must", ["full", "instance"])
        for folder, stages, message in (
            (tmp_path / "new", ["full"], "no such folder, and config.resume is 'must'"),
            (tmp_path, ["full"], "no checkpoint of stage full, and config.resume is 'must'"),
            (held, ["instance"], "no checkpoint of stage instance, only stage instance: scalars.jsonl to step 1, and"),
        ):
            with pytest.raises(WorkdirError) as error:
                workdirs.check(folder, "must", stages)
            assert message in str(error.value)
            assert "is it the right folder, and mounted?" in str(error.value)

    def test_a_run_asks(self, copied: Path, tmp_path: Path) -> None:
        with pytest.raises(WorkdirError, match="a run is there"):
            train.train(dataclasses.replace(ONLY_FULL, resume="never"), copied)
        with pytest.raises(WorkdirError, match="no such folder"):
            train.train(dataclasses.replace(ONLY_FULL, resume="must"), tmp_path / "new")
        assert not (tmp_path / "new").exists()
        train.train(dataclasses.replace(ONLY_FULL, resume="must"), copied)


class TestWorkdir:
    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("precious")
        for workdir, what in ((tmp_path / "run", "it is a file"), (tmp_path / "run" / "new", "run is a file")):
            with pytest.raises(WorkdirError) as error:
                train.train(CONFIG, workdir)
            assert str(error.value).startswith(f"--workdir {workdir}: ")
            assert f"{what}; give a folder" in str(error.value)
            assert "\n" not in str(error.value)
        assert (tmp_path / "run").read_text() == "precious"

    def test_a_folder_that_cannot_be_written_to(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workdirs.os, "access", lambda path, mode: False)  # permissions mean nothing to root
        with pytest.raises(WorkdirError, match=f"--workdir {tmp_path}: cannot be written to"):
            workdirs.check(tmp_path, "auto", ["full"])
        with pytest.raises(WorkdirError, match=f"--workdir {tmp_path}/new: {tmp_path}, in which to make it, cannot be"):
            workdirs.check(tmp_path / "new", "auto", ["full"])

    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(path: Path, text: str) -> None:
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(workdirs, "write_text", full)
        with pytest.raises(WorkdirError, match=r"cannot be written to \(No space left on device\)"):
            workdirs.prepare(tmp_path / "new")

    def test_what_a_killed_run_left_is_removed(self, tmp_path: Path) -> None:
        (tmp_path / ".jaxcolor-01234567.tmp").touch()
        workdirs.prepare(tmp_path)
        assert list(tmp_path.iterdir()) == []

"""Whole runs of three small stages on scenes: stopped and resumed, in parts, and wrong ones."""

import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import traverse_util

from jaxcolor.config import ConfigError, FusionConfig
from jaxcolor.data.loader import train_batches
from jaxcolor.data.sources.registry import make_source
from jaxcolor.runtime import parallel
from jaxcolor.runtime.errors import StoppedError
from jaxcolor.runtime.parallel import Devices
from jaxcolor.training import monitor, train
from jaxcolor.training.checkpoints import CheckpointError, Checkpoints
from jaxcolor.training.logs import read_scalars
from jaxcolor.training.stages import STAGES, starting_tree
from jaxcolor.training.workdirs import WorkdirError
from jaxcolor.weights import native
from tests.small import TWO
from tests.training.runs import CONFIG, ONLY_FULL, STEPS, numbers, stage

MASKED = dataclasses.replace(TWO, fusion=dataclasses.replace(TWO.fusion, outside="masked"))


def flat(tree: Any) -> dict[str, np.ndarray]:
    return {"/".join(path): np.asarray(value) for path, value in traverse_util.flatten_dict(tree).items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed. Not to be changed."""
    workdir = tmp_path_factory.mktemp("run") / "finished"
    train.train(CONFIG, workdir)
    return workdir


Interrupt = Callable[[int, int], None]


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Interrupt:
    """From now on: somebody sends a signal while the n-th step of a stage that is still to be taken is taken."""
    original = monitor.PendingScalars.add

    def set_up(at: int, number: int) -> None:
        def add(pending: Any, *arguments: Any) -> None:
            pending.taken = getattr(pending, "taken", 0) + 1
            if pending.taken == at:
                os.kill(os.getpid(), number)
            original(pending, *arguments)

        monkeypatch.setattr(monitor.PendingScalars, "add", add)

    return set_up


class TestAWholeRun:
    def test_every_step_is_logged_once_and_in_order(self, finished: Path) -> None:
        records = numbers(finished)
        assert [(r["stage"], r["step"]) for r in records] == [
            (name, step) for name, steps in STEPS.items() for step in range(1, steps + 1)
        ]
        for record in records:
            assert np.isfinite(record["loss"])
            assert record["loss"] > 0
            assert record["grad_norm"] > 0
            assert 8 < record["valid_photos"] <= 16
            assert record["skipped_photos"] == 0
        assert all(r["photos_per_second"] > 0 for r in read_scalars(finished))

    def test_learning_rates(self, finished: Path) -> None:
        rates = {name: [r["learning_rate"] for r in numbers(finished, (name,))] for name in STEPS}
        assert rates["full"] == pytest.approx([1e-3] * 5)
        assert rates["instance"] == pytest.approx([1e-3, 1e-3, 1e-3, 5e-4])

    def test_crops_without_a_place_are_counted(self, finished: Path) -> None:
        """Two to four objects a scene, but room for two on average."""
        dropped = {name: [r["dropped_crops"] for r in numbers(finished, (name,))] for name in STEPS}
        assert set(dropped["full"]) == set(dropped["instance"]) == {0}
        assert all(count > 0 for count in dropped["fusion"])

    def test_its_files(self, finished: Path) -> None:
        assert json.loads((finished / "config.json").read_text())["name"] == "tiny"
        assert set(json.loads((finished / "summary.json").read_text())["train_seconds"]) == set(STEPS)
        for name, steps in STEPS.items():
            (events,) = (finished / "tensorboard" / name).iterdir()
            assert events.stat().st_size > 100
            with Checkpoints(finished / name) as checkpoints:
                assert checkpoints.latest() == steps
        assert sorted(p.name for p in (finished / "full").iterdir() if p.name.isdigit()) == ["4", "5"]  # the last two

    def test_the_weights_are_those_of_the_stages(self, finished: Path) -> None:
        weights = native.load(finished / train.WEIGHTS_FILE)
        assert weights.config == TWO
        assert weights.trees == tuple(STEPS)
        fresh = jax.device_get(train.networks.init(TWO, CONFIG.seed))
        for name in STEPS:
            start = flat(starting_tree(STAGES[name], {k: weights.variables[k] for k in STEPS if k != name}, fresh))
            end = flat(weights.variables[name])
            changed = {key for key in end if not np.array_equal(end[key], start[key])}
            if name == "fusion":
                trunk = {key for key in changed if key.split("/")[1] == "trunk"}
                assert {key.split("/")[2] for key in trunk} == {"conv10_2", "output"}
                assert any("fuse_" in key for key in changed)
            else:
                assert len(changed) > 0.9 * len(end)


def test_stopped_by_signals_and_resumed_it_is_the_same_run(
    finished: Path, tmp_path: Path, interrupt: Interrupt, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = tmp_path / "run"
    stops = [
        (3, signal.SIGTERM, "stopped in stage full after step 3", 0),
        (3, signal.SIGINT, "stopped in stage instance after step 3", 130),
        (1, signal.SIGTERM, "stopped in stage instance after step 4", 0),  # its last: fusion must not begin
        (2, signal.SIGINT, "stopped in stage fusion after step 2", 130),
    ]
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    for at, number, message, status in stops:
        interrupt(at, number)
        with pytest.raises(StoppedError, match=message) as stopped:
            train.train(CONFIG, workdir)
        assert stopped.value.status == status
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    # In the very last step there is nothing left to stop.
    interrupt(1, signal.SIGTERM)
    train.train(CONFIG, workdir)
    assert numbers(workdir) == numbers(finished)
    weights = (workdir / train.WEIGHTS_FILE).read_bytes()
    assert weights == (finished / train.WEIGHTS_FILE).read_bytes()


def test_killed_without_warning_it_resumes_from_the_last_checkpoint(finished: Path, copied: Path) -> None:
    shutil.rmtree(copied / "full" / "5")
    with (copied / "scalars.jsonl").open("a") as file:
        file.write('{"stage": "full", "ste')
    train.train(ONLY_FULL, copied)
    assert numbers(copied, ("full",)) == numbers(finished, ("full",))
    assert numbers(copied, ("fusion",)) == numbers(finished, ("fusion",))


def test_a_finished_run_is_left_alone(finished: Path, copied: Path) -> None:
    train.train(CONFIG, copied)
    for name in ("scalars.jsonl", "summary.json", train.WEIGHTS_FILE):
        assert (copied / name).read_bytes() == (finished / name).read_bytes()


def test_stages_one_by_one_are_the_same_run(finished: Path, tmp_path: Path) -> None:
    for name in STEPS:
        train.train(dataclasses.replace(CONFIG, stages=(name,)), tmp_path)
    assert numbers(tmp_path) == numbers(finished)
    assert (tmp_path / train.WEIGHTS_FILE).read_bytes() == (finished / train.WEIGHTS_FILE).read_bytes()


def test_pmap_gives_the_same_bits(finished: Path, tmp_path: Path) -> None:
    train.train(dataclasses.replace(ONLY_FULL, mapping="pmap"), tmp_path)
    assert numbers(tmp_path) == numbers(finished, ("full",))


def test_graphs_are_asked_for_and_the_run_is_the_same(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an option that only GPUs heed; what they compute with graphs is for ``benchmarks/graphs.py`` to tell."""
    asked: list[Any] = []

    def options(cuda_graphs: bool, devices: Any) -> dict[str, str]:
        asked.append((cuda_graphs, *devices))
        return {"xla_gpu_enable_command_buffer": ""}

    monkeypatch.setattr(parallel, "graph_options", options)
    train.train(dataclasses.replace(ONLY_FULL, cuda_graphs=True), tmp_path)
    assert asked == [(True, *jax.devices())]
    assert numbers(tmp_path) == numbers(finished, ("full",))


def test_graphs_are_for_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    config = dataclasses.replace(ONLY_FULL, cuda_graphs=True)
    with pytest.raises(WorkdirError, match="resume"):  # what comes next
        train.train(dataclasses.replace(config, resume="must"), tmp_path)
    monkeypatch.setattr(Devices, "process_count", 2)
    refused = r"^config.cuda_graphs: True is for one process, and here are 2; give False, or train on one host"
    with pytest.raises(ConfigError, match=refused):
        train.train(config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_under_other_settings_is_refused_with_every_difference(copied: Path) -> None:
    before = (copied / "config.json").read_text()
    other = dataclasses.replace(
        CONFIG,
        seed=1,
        model=MASKED,
        full=dataclasses.replace(CONFIG.full, steps=9, learning_rate=2e-3),
        log_every=1,
    )
    with pytest.raises(CheckpointError) as error:
        train.train(other, copied)
    first, *differences = str(error.value).splitlines()
    assert "made under other settings; use those, or another --workdir" in first
    assert [d.strip() for d in differences] == [
        "full.learning_rate: 0.001 -> 0.002",
        "full.steps: 5 -> 9",
        "model.fusion.outside: 'zero' -> 'masked'",
        "seed: 0 -> 1",
        "(full.steps: stage instance and fusion started from its result at step 5; "
        f"delete {copied / 'instance'}, {copied / 'fusion'} first, to train again from the longer one)",
    ]
    assert (copied / "config.json").read_text() == before  # a refused run leaves the record of the other alone


def test_how_it_is_run_may_change(copied: Path) -> None:
    """Devices' mapping, threads, logging and other stages do not decide a stage's numbers."""
    other = dataclasses.replace(
        ONLY_FULL,
        mapping="pmap",
        log_every=1,
        data=dataclasses.replace(CONFIG.data, threads=1),
        fusion=stage(77),
    )
    train.train(other, copied)


@pytest.mark.parametrize("stages", [("instance",), ("fusion",), ("full", "fusion")])
def test_a_stage_whose_forerunner_has_not_run_is_refused(stages: tuple[str, ...], tmp_path: Path) -> None:
    missing = "instance" if "full" in stages else "full"
    with pytest.raises(CheckpointError, match=f"stage {missing} has not run here; run it first, or give start_from"):
        train.train(dataclasses.replace(CONFIG, stages=stages), tmp_path)
    assert not (tmp_path / "full").exists()  # found out before anything is trained


def test_a_stage_whose_forerunner_was_stopped_is_refused(copied: Path) -> None:
    shutil.rmtree(copied / "full" / "5")
    with pytest.raises(CheckpointError, match="stage full stopped at step 4 of 5; finish it first"):
        train.train(dataclasses.replace(CONFIG, stages=("instance",)), copied)


class TestStartFrom:
    def test_weights_replace_the_stage_before(self, finished: Path, tmp_path: Path) -> None:
        trees = native.load(finished / train.WEIGHTS_FILE).variables
        native.save(tmp_path / "full.safetensors", TWO, {"full": trees["full"]})
        config = dataclasses.replace(CONFIG, stages=("instance",), start_from=str(tmp_path / "full.safetensors"))
        train.train(config, tmp_path / "run")
        assert numbers(tmp_path / "run") == numbers(finished, ("instance",))
        assert native.load(tmp_path / "run" / train.WEIGHTS_FILE).trees == ("full", "instance")
        copy = shutil.copyfile(tmp_path / "full.safetensors", tmp_path / "copy.safetensors")
        train.train(dataclasses.replace(config, start_from=str(copy)), tmp_path / "run")  # the same by its content
        other = tmp_path / "other.safetensors"
        native.save(other, TWO, {"full": jax.tree.map(lambda a: a + 1, trees["full"])})
        with pytest.raises(CheckpointError, match=r"begun_from"):
            train.train(dataclasses.replace(config, start_from=str(other)), tmp_path / "run")

    def test_stage_fusion_starts_from_weights_of_other_fusion_settings(
        self, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """From their full and instance trees alone: the same run as from a file without a fusion tree."""
        trees = native.load(finished / train.WEIGHTS_FILE).variables
        native.save(tmp_path / "two.safetensors", TWO, {name: trees[name] for name in ("full", "instance")})
        runs = {}
        for name, path in (("three", finished / train.WEIGHTS_FILE), ("two", tmp_path / "two.safetensors")):
            config = dataclasses.replace(CONFIG, stages=("fusion",), model=MASKED, start_from=str(path))
            runs[name] = train.train(config, tmp_path / name)
            said = "the fusion tree of weights.safetensors is not used, it is of another model: fusion.outside: 'zero'"
            assert (said in capsys.readouterr().out) == (name == "three")
        assert flat(runs["two"]).keys() == flat(runs["three"]).keys()
        for key, value in flat(runs["two"]).items():
            np.testing.assert_array_equal(flat(runs["three"])[key], value)
        weights = native.load(tmp_path / "three" / train.WEIGHTS_FILE)
        assert weights.config == MASKED
        assert numbers(tmp_path / "three") != numbers(finished, ("fusion",))

    def test_a_fusion_tree_of_the_same_settings_is_continued(self, finished: Path, tmp_path: Path) -> None:
        path = finished / train.WEIGHTS_FILE
        config = dataclasses.replace(CONFIG, stages=("fusion",), start_from=str(path), fusion=stage(0))
        assert (
            flat(train.train(config, tmp_path)["fusion"]).keys() == flat(native.load(path).variables["fusion"]).keys()
        )

    def test_weights_of_another_model_are_refused_before_anything_is_computed(
        self, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(train.networks, "init", lambda *arguments: pytest.fail("computed"))
        monkeypatch.setattr(train, "make_source", lambda *arguments: pytest.fail("read"))
        wider = dataclasses.replace(MASKED, width=0.125)
        config = dataclasses.replace(CONFIG, model=wider, start_from=str(finished / train.WEIGHTS_FILE))
        with pytest.raises(ConfigError) as error:
            train.train(config, tmp_path / "run")
        assert str(error.value).splitlines() == [
            f"start_from: {finished / train.WEIGHTS_FILE} holds trees of another model than config.model:",
            "  full: width: 0.0625 -> 0.125",
            "  instance: width: 0.0625 -> 0.125",
            "  fusion: fusion.outside: 'zero' -> 'masked'; width: 0.0625 -> 0.125",
        ]
        assert not (tmp_path / "run").exists()

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match=r"no_such\.safetensors"):
            train.train(dataclasses.replace(CONFIG, start_from=str(tmp_path / "no_such.safetensors")), tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run(finished: Path, tmp_path: Path) -> None:
    trees = native.load(finished / train.WEIGHTS_FILE).variables
    huge = jax.tree.map(lambda a: np.full_like(a, 1e30), trees["full"])
    native.save(tmp_path / "huge.safetensors", TWO, {"full": huge})
    config = dataclasses.replace(ONLY_FULL, start_from=str(tmp_path / "huge.safetensors"))
    with pytest.raises(monitor.TrainingError) as error:
        train.train(config, tmp_path / "run")
    folder = tmp_path / "run" / "nan_dump" / "full-1"
    dumped = json.loads((folder / "dump.json").read_text())
    assert "stage full, step 1: the loss is nan; lower its learning_rate, or look at the photos: " in str(error.value)
    assert f"{', '.join(dumped['names'])} (state and batch: {folder})" in str(error.value)
    # The batch is that of the step, not of a later one; the state is what there was when the loss was looked at.
    source = make_source(config.data, TWO.side)
    with train_batches(source, config.data, parts="full", side=TWO.side, batch_size=16, device_count=8) as batches:
        first = next(batches)
    assert dumped["names"] == list(first.names)
    assert dumped["scalars"]["loss"] == "nan"
    assert dumped["state_step"] == config.log_every
    with np.load(folder / "batch.npz") as batch, np.load(folder / "state.npz") as state:
        np.testing.assert_array_equal(batch["full_rgb"], first.batch.full_rgb)
        assert {k.removeprefix("variables/") for k in state if k.startswith("variables/")} == set(flat(trees["full"]))
        assert int(state["step"]) == config.log_every
        assert dumped["numbers_not_finite"] == {
            name: count for name in state if (count := int(np.sum(~np.isfinite(state[name]))))
        }
    assert (folder / "config.json").read_bytes() == (tmp_path / "run" / "config.json").read_bytes()
    with Checkpoints(tmp_path / "run" / "full") as checkpoints:
        assert checkpoints.latest() is None  # what is saved was looked at first
    assert not (tmp_path / "run" / train.WEIGHTS_FILE).exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"full": stage(5, batch_size=12)}, "full.batch_size: 12 photos cannot be split evenly over 8 devices"),
        (
            {"full": stage(5, accumulate=4)},
            "full.batch_size: 16 photos cannot be split evenly over 8 devices, each in 4 parts (accumulate)",
        ),
        ({"full": stage(5, flip=True)}, "full.flip: a mirrored scene shows other classes in the same colors"),
        (
            {"model": dataclasses.replace(TWO, fusion=FusionConfig(strategy="truth_mask"))},
            "model.fusion.strategy: 'truth_mask' weighs by annotated masks; set data.masks",
        ),
        ({"full": stage(5, trained="fusion")}, "full.trained: 'fusion' leaves nothing to train in this model"),
        ({"model": dataclasses.replace(TWO, compute_dtype="float64")}, "JAX_ENABLE_X64=1"),
        ({"log_every": 0}, "log_every: 0, which must be at least 1"),
        ({"checkpoint_every": 0}, "checkpoint_every: 0, which must be at least 1"),
        ({"keep_checkpoints": 0}, "keep_checkpoints: 0, which must be at least 1"),
        (
            {"keep_every": 3},
            "keep_every: 3, which must be a multiple of checkpoint_every, 2: only what is saved can be kept",
        ),
        ({"keep_best": "psnr"}, "keep_best: 'psnr', which must be empty unless eval_every measures that metric"),
        ({"eval_every": -1}, "eval_every: -1, which must be at least 0 (0: never)"),
        ({"patience": -1.0}, "patience: -1.0, which must be at least 0 (0: never)"),
        ({"profile_steps": "3"}, "config.profile_steps: '3'; give the first and the last step, as in 10,20"),
        ({"stages": ("fusion", "full")}, "config.stages"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        train.train(dataclasses.replace(CONFIG, **changes), tmp_path)
    assert message in str(error.value)


def test_an_unknown_layer_is_refused(tmp_path: Path) -> None:
    model = dataclasses.replace(TWO, fusion=FusionConfig(layers=("conv4",)))
    with pytest.raises(ConfigError, match=r"fusion\.layers: .*conv4"):
        train.train(dataclasses.replace(CONFIG, model=model), tmp_path)

"""Whole runs of three small stages on scenes: stopped, gone on with, in parts, and wrong ones."""

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

from jaxcolor.config import ConfigError, FusionConfig, OptimizerConfig
from jaxcolor.data.loader import train_batches
from jaxcolor.data.sources.registry import make_source
from jaxcolor.runtime import parallel
from jaxcolor.runtime.errors import StoppedError
from jaxcolor.runtime.parallel import Devices
from jaxcolor.training import loop, train
from jaxcolor.training.checkpoints import CheckpointError, Checkpoints
from jaxcolor.training.logs import read_scalars
from jaxcolor.training.stages import STAGES, starting_tree
from jaxcolor.training.step import eval_variables
from jaxcolor.training.workdirs import WorkdirError
from jaxcolor.weights import native
from tests.small import FEW
from tests.training.runs import CONFIG, ONLY_FULL, STEPS, numbers, stage

MASKED = dataclasses.replace(FEW, fusion=dataclasses.replace(FEW.fusion, outside="masked"))


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
    original = loop._Pending.add

    def set_up(at: int, number: int) -> None:
        def add(pending: Any, *arguments: Any) -> None:
            pending.taken = getattr(pending, "taken", 0) + 1
            if pending.taken == at:
                os.kill(os.getpid(), number)
            original(pending, *arguments)

        monkeypatch.setattr(loop._Pending, "add", add)

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

    def test_what_it_leaves_behind(self, finished: Path) -> None:
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
        assert weights.config == FEW
        assert weights.trees == tuple(STEPS)
        fresh = jax.device_get(train.dual_branch.init(FEW, CONFIG.seed))
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


def test_stopped_by_signals_and_gone_on_with_it_is_the_same_run(
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


def test_killed_without_warning_it_goes_on_from_the_last_checkpoint(finished: Path, copied: Path) -> None:
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


def test_graphs_are_for_one_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    config = dataclasses.replace(ONLY_FULL, cuda_graphs=True)
    with pytest.raises(ConfigError, match=r"^config.cuda_graphs: True is for one GPU, and here are 8; give False, or"):
        train.train(config, tmp_path)
    assert not list(tmp_path.iterdir())
    one = Devices.all(config.mapping, jax.devices()[:1])
    monkeypatch.setattr(train.Devices, "all", lambda mapping: one)
    with pytest.raises(WorkdirError, match="resume"):  # what comes next
        train.train(dataclasses.replace(config, resume="must"), tmp_path)


@pytest.mark.slow
def test_a_sharded_run_goes_on_on_fewer_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints know neither devices nor how the optimizer's state lay on them; averages are what comes out."""
    config = dataclasses.replace(
        ONLY_FULL,
        model=dataclasses.replace(FEW, norm="none"),
        optimizer=OptimizerConfig(ema_decay=0.5),
        full=stage(4, decay_start=0.5),
        shard_optimizer=True,
    )
    eight = flat(train.train(config, tmp_path)["full"])
    with Checkpoints(tmp_path / "full") as checkpoints:
        fresh = jax.device_get(train.dual_branch.init(config.model, config.seed))["full"]
        whole = dataclasses.replace(config, shard_optimizer=False)
        state = checkpoints.restore(train._first_state(whole, STAGES["full"], fresh), {})
    raw, average = flat(state.variables), flat(eval_variables(state))
    assert all(np.array_equal(average[key], value) for key, value in eight.items())
    assert sum(not np.array_equal(average[key], raw[key]) for key in raw) > 0.9 * len(raw)

    logged = numbers(tmp_path)
    shutil.rmtree(tmp_path / "full" / "4")
    devices = Devices.all(config.mapping, jax.devices()[:4])
    monkeypatch.setattr(train.Devices, "all", lambda mapping: devices)
    four = flat(train.train(config, tmp_path)["full"])
    assert [r["loss"] for r in numbers(tmp_path)] == pytest.approx([r["loss"] for r in logged], rel=1e-5)
    assert [r["learning_rate"] for r in numbers(tmp_path)] == pytest.approx([1e-3, 1e-3, 1e-3, 5e-4])
    for key, expected in eight.items():
        np.testing.assert_allclose(four[key], expected, rtol=1e-3, atol=1e-5, err_msg=key)


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
    assert "made under other settings; take those, or another --workdir" in first
    assert [d.strip() for d in differences] == [
        "full.learning_rate: 0.001 -> 0.002",
        "full.steps: 5 -> 9",
        "model.fusion.outside: 'zero' -> 'masked'",
        "seed: 0 -> 1",
        "(full.steps: stage instance and fusion began from its result at step 5; "
        f"delete {copied / 'instance'}, {copied / 'fusion'} first, to train anew from the longer one)",
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
    def test_released_weights_take_the_place_of_the_stage_before(self, finished: Path, tmp_path: Path) -> None:
        trees = native.load(finished / train.WEIGHTS_FILE).variables
        native.save(tmp_path / "full.safetensors", FEW, {"full": trees["full"]})
        config = dataclasses.replace(CONFIG, stages=("instance",), start_from=str(tmp_path / "full.safetensors"))
        train.train(config, tmp_path / "run")
        assert numbers(tmp_path / "run") == numbers(finished, ("instance",))
        assert native.load(tmp_path / "run" / train.WEIGHTS_FILE).trees == ("full", "instance")
        other = shutil.copyfile(tmp_path / "full.safetensors", tmp_path / "other.safetensors")
        with pytest.raises(CheckpointError, match=r"start_from: '.*full\.safetensors' -> '.*other\.safetensors'"):
            train.train(dataclasses.replace(config, start_from=str(other)), tmp_path / "run")

    def test_weights_of_another_model_are_refused(self, finished: Path, tmp_path: Path) -> None:
        config = dataclasses.replace(CONFIG, model=MASKED, start_from=str(finished / train.WEIGHTS_FILE))
        with pytest.raises(ConfigError) as error:
            train.train(config, tmp_path)
        assert "holds another model" in str(error.value)
        assert "fusion.outside: 'zero' -> 'masked'" in str(error.value)

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match=r"no_such\.safetensors"):
            train.train(dataclasses.replace(CONFIG, start_from=str(tmp_path / "no_such.safetensors")), tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run(finished: Path, tmp_path: Path) -> None:
    trees = native.load(finished / train.WEIGHTS_FILE).variables
    huge = jax.tree.map(lambda a: np.full_like(a, 1e30), trees["full"])
    native.save(tmp_path / "huge.safetensors", FEW, {"full": huge})
    config = dataclasses.replace(ONLY_FULL, start_from=str(tmp_path / "huge.safetensors"))
    with pytest.raises(loop.TrainingError) as error:
        train.train(config, tmp_path / "run")
    folder = tmp_path / "run" / "dumps" / "full-1"
    told = json.loads((folder / "dump.json").read_text())
    assert "stage full, step 1: the loss is nan; lower its learning_rate, or look at the photos: " in str(error.value)
    assert f"{', '.join(told['names'])} (state and batch: {folder})" in str(error.value)
    # The batch is that of the step, not of a later one; the state is what there was when the loss was looked at.
    source = make_source(config.data, FEW.side)
    with train_batches(source, config.data, parts="full", side=FEW.side, batch_size=16, device_count=8) as batches:
        first = next(batches)
    assert told["names"] == list(first.names)
    assert told["scalars"]["loss"] == "nan"
    assert told["state_step"] == config.log_every
    with np.load(folder / "batch.npz") as batch, np.load(folder / "state.npz") as state:
        np.testing.assert_array_equal(batch["full_rgb"], first.batch.full_rgb)
        assert {k.removeprefix("variables/") for k in state if k.startswith("variables/")} == set(flat(trees["full"]))
        assert int(state["step"]) == config.log_every
        assert told["numbers_not_finite"] == {
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
        ({"full": stage(5, flip=True)}, "full.flip: a mirrored scene shows other classes in the same colours"),
        (
            {"model": dataclasses.replace(FEW, fusion=FusionConfig(strategy="truth_mask"))},
            "model.fusion.strategy: 'truth_mask' weighs by annotated masks; set data.masks",
        ),
        ({"full": stage(5, trained="fusion")}, "full.trained: 'fusion' leaves nothing to train in this model"),
        ({"model": dataclasses.replace(FEW, compute_dtype="float64")}, "JAX_ENABLE_X64=1"),
        ({"log_every": 0}, "config.log_every: 0 is less than 1"),
        ({"checkpoint_every": 0}, "config.checkpoint_every: 0 is less than 1"),
        ({"keep_checkpoints": 0}, "config.keep_checkpoints: 0 is less than 1"),
        (
            {"keep_every": 3},
            "config.keep_every: 3 is no multiple of checkpoint_every, 2",
        ),
        ({"keep_best": "psnr"}, "config.keep_best: 'psnr' is measured nowhere; give eval_every too"),
        ({"eval_every": -1}, "config.eval_every: -1 is negative; 0 is never"),
        ({"patience": -1.0}, "config.patience: -1.0 is negative; 0 is never"),
        ({"profile_steps": "3"}, "config.profile_steps: '3'; give the first and the last step, as in 10,20"),
        ({"stages": ("fusion", "full")}, "config.stages"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        train.train(dataclasses.replace(CONFIG, **changes), tmp_path)
    assert message in str(error.value)


def test_an_unknown_layer_is_refused(tmp_path: Path) -> None:
    model = dataclasses.replace(FEW, fusion=FusionConfig(layers=("conv4",)))
    with pytest.raises(ConfigError, match=r"fusion\.layers: .*conv4"):
        train.train(dataclasses.replace(CONFIG, model=model), tmp_path)

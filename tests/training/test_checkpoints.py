"""Which checkpoints are kept, what they record, and which are refused; on states of a few numbers."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import jaxcolor
from jaxcolor.config import Config, StageConfig
from jaxcolor.data import types
from jaxcolor.training import provenance
from jaxcolor.training.checkpoints import CheckpointError, Checkpoints, Keep, saved_steps
from jaxcolor.training.compatibility import array_shapes, shape_differences
from jaxcolor.training.optimizer import make_optimizer
from jaxcolor.training.provenance import git_commit
from jaxcolor.training.step import TrainState, make_state

SETTINGS = {"stage": "full", "seed": 0, "data": {"path": "a"}}
WIDE = {"conv1_1": (3, 3, 4, 8), "conv1_2": (3, 3, 8, 8)}


def state(step: int, modules: dict[str, tuple[int, ...]] | None = None, value: float = 1.0) -> TrainState:
    params = {
        name: {"kernel": np.full(shape, value, np.float32), "bias": np.zeros(shape[-1], np.float32)}
        for name, shape in (modules or WIDE).items()
    }
    settings = StageConfig()
    made = make_state({"params": params}, make_optimizer(Config(), settings), settings)
    return dataclasses.replace(made, step=np.int32(step))


class Source(types.Source):
    """Stands in for one of photos."""

    def __init__(self, identity: Any = None) -> None:
        if identity is not None:
            self.identity = lambda: identity

    def describe(self) -> str:
        return "3 photos"


def origin(source: Any) -> dict[str, Any]:
    return provenance.provenance(Config(seed=7), source)


class TestKeep:
    def saved(self, folder: Path, keep: Keep, metrics: dict[int, dict[str, float] | None]) -> list[int]:
        with Checkpoints(folder, keep) as checkpoints:
            for step, measured in metrics.items():
                checkpoints.save(state(step), SETTINGS, measured)
        return saved_steps(folder)

    def test_the_newest(self, tmp_path: Path) -> None:
        assert self.saved(tmp_path, Keep(2), dict.fromkeys(range(1, 6))) == [4, 5]

    def test_and_every_nth_for_good(self, tmp_path: Path) -> None:
        assert self.saved(tmp_path, Keep(1, every=3), dict.fromkeys(range(1, 9))) == [3, 6, 8]

    @pytest.mark.parametrize(("best", "step"), [("psnr", 2), ("-psnr", 5)])
    def test_and_the_best(self, best: str, step: int, tmp_path: Path) -> None:
        values = {1: 20.0, 2: 25.0, 3: 23.0, 4: float("nan"), 5: 19.0, 6: 24.0}
        metrics: dict[int, dict[str, float] | None] = {n: {"psnr": value, "ssim": 0.5} for n, value in values.items()}
        metrics |= {7: None, 8: None}  # saved between evaluations
        assert self.saved(tmp_path, Keep(1, best=best), metrics) == [step, 8]
        # A resumed run knows which was best.
        assert self.saved(tmp_path, Keep(1, best=best), {9: {"psnr": 22.0}, 10: None}) == [step, 10]
        extreme = 30.0 if best == "psnr" else 1.0
        assert self.saved(tmp_path, Keep(1, best=best), {11: {"psnr": extreme}, 12: None}) == [11, 12]

    def test_a_metric_that_is_not_measured_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="keep_best: there is no metric 'pnsr'; measured: psnr, ssim"):
            self.saved(tmp_path, Keep(best="-pnsr"), {1: {"ssim": 1.0, "psnr": 2.0}})

    def test_a_step_already_saved_is_left_alone(self, tmp_path: Path) -> None:
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(state(1, value=1.0), SETTINGS)
            checkpoints.save(state(1, value=2.0), SETTINGS)
        with Checkpoints(tmp_path) as checkpoints:
            assert checkpoints.restore(state(0), SETTINGS).variables["params"]["conv1_1"]["kernel"].max() == 1.0

    @pytest.mark.parametrize(
        "part", ["record", "settings", "metrics", "variables", "_CHECKPOINT_METADATA", "commit_success.txt"]
    )
    def test_one_that_was_being_deleted_when_the_run_was_killed_does_no_harm(self, part: str, tmp_path: Path) -> None:
        self.saved(tmp_path, Keep(2), {1: {"psnr": 30.0}, 2: {"psnr": 20.0}})
        gone = tmp_path / "1" / part
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        with Checkpoints(tmp_path, Keep(2, best="psnr")) as checkpoints:
            assert int(checkpoints.restore(state(0), SETTINGS).step) == 2
        assert self.saved(tmp_path, Keep(2), {3: None, 4: None}) == [3, 4]


def test_a_state_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    before = jax.tree.map(lambda a: a + np.arange(a.size, dtype=a.dtype).reshape(a.shape), state(5))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(before, SETTINGS)
    with Checkpoints(tmp_path) as checkpoints:
        after = checkpoints.restore(state(0), SETTINGS)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(one, other)


class TestRecord:
    def test_what_is_recorded(self, tmp_path: Path) -> None:
        with Checkpoints(tmp_path, origin=origin(Source())) as checkpoints:
            assert checkpoints.record() is None
            checkpoints.save(state(3), SETTINGS, {"psnr": float("inf")})
        with Checkpoints(tmp_path) as checkpoints:
            record, settings, metrics = checkpoints.record(), checkpoints.settings(), checkpoints.metrics(3)
        assert settings == SETTINGS
        assert record is not None
        assert record["step"] == 3
        assert metrics == {"psnr": float("inf")}
        assert record["config"]["seed"] == 7
        assert record["seeds"] == {"initialization": 7, "data": 0}
        assert record["data"] == "3 photos"
        assert record["code"]["version"] == jaxcolor.__version__
        assert record["versions"]["jax"] == jax.__version__
        assert set(record["versions"]) == {"jax", "flax", "optax", "orbax-checkpoint"}

    def test_other_code_takes_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        now = origin(Source())
        before = now | {"code": {"version": "0.0.9", "commit": "0123456789abcdef"}, "versions": {"jax": "0.9.0"}}
        with Checkpoints(tmp_path, origin=before) as checkpoints:
            checkpoints.save(state(3), SETTINGS)
        with Checkpoints(tmp_path, origin=before) as checkpoints:
            checkpoints.restore(state(0), SETTINGS)
        assert capsys.readouterr().out == ""
        with Checkpoints(tmp_path, origin=now) as checkpoints:
            checkpoints.restore(state(0), SETTINGS)
        (line,) = capsys.readouterr().out.splitlines()
        assert "step 3 was made by jaxcolor 0.0.9 (0123456789), jax 0.9.0; this is jaxcolor" in line

    @pytest.mark.parametrize("item", ["record", "settings"])
    def test_a_checkpoint_without_a_record_is_refused(self, item: str, tmp_path: Path) -> None:
        with Checkpoints(tmp_path, origin=origin(Source())) as checkpoints:
            checkpoints.save(state(3), SETTINGS)
        shutil.rmtree(tmp_path / "3" / item)
        refused = pytest.raises(CheckpointError, match=f"{tmp_path}/3: its {item} is missing or damaged")
        with Checkpoints(tmp_path, Keep(best="psnr"), origin(Source())) as checkpoints, refused:
            checkpoints.restore(state(0), SETTINGS)


class TestOtherData:
    @pytest.mark.parametrize(
        ("then", "now", "line"),
        [
            ("aa", "bb", "photos: 'aa' -> 'bb'"),
            ({"kind": "zip", "digest": "aa"}, {"kind": "zip", "digest": "bb"}, "photos.digest: 'aa' -> 'bb'"),
            (None, {"kind": "zip"}, "photos: '3 photos' -> {'kind': 'zip'}"),
        ],
    )
    def test_is_refused_unless_accepted(
        self, then: Any, now: Any, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with Checkpoints(tmp_path, origin=origin(Source(then))) as checkpoints:
            checkpoints.save(state(3), SETTINGS)
        moved = SETTINGS | {"data": {"path": "b"}}
        with Checkpoints(tmp_path, origin=origin(Source(now))) as checkpoints:
            for settings, lines in ((SETTINGS, [line]), (moved, ["data.path: 'a' -> 'b'", line])):
                with pytest.raises(CheckpointError, match="made under other settings") as error:
                    checkpoints.restore(state(0), settings)
                hint = "(config.other_data 'accept' continues with other data)"
                assert [line.strip() for line in str(error.value).splitlines()[1:]] == [*lines, hint]
            assert capsys.readouterr().out == ""
            assert int(checkpoints.restore(state(0), moved, other_data=True).step) == 3
            printed = capsys.readouterr().out
            assert f"other data accepted: {line}" in printed
            assert "other data accepted: data.path: 'a' -> 'b'" in printed
            # Nothing else is accepted with it.
            with pytest.raises(CheckpointError, match="seed: 0 -> 1") as error:
                checkpoints.restore(state(0), moved | {"seed": 1}, other_data=True)
            assert "data.path" not in str(error.value)


class TestOtherArrays:
    def test_every_array_is_named_and_those_alike_share_a_line(self, tmp_path: Path) -> None:
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(state(3, WIDE | {"old_1": (1, 2), "old_2": (1, 2)}), SETTINGS)
        other = state(0, {"conv1_1": (3, 3, 4, 8), "conv1_2": (3, 3, 8, 16), "new": (5, 7)})
        with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError) as error:
            checkpoints.restore(other, SETTINGS)
        kinds = "(optimizer rule 0 mu, optimizer rule 0 nu, params)"
        assert [line.strip() for line in str(error.value).splitlines()] == [
            f"{tmp_path}: holds other arrays; use the code that made it, or another --workdir:",
            f"- missing: new {kinds}: bias float32[7], kernel float32[5,7]",
            f"+ left over: old_1, old_2 {kinds}: bias float32[2], kernel float32[1,2]",
            f"! other shape: conv1_2 {kinds}: bias float32[8] -> float32[16], "
            "kernel float32[3,3,8,8] -> float32[3,3,8,16]",
        ]

    def test_beside_settings(self, tmp_path: Path) -> None:
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(state(3), SETTINGS)
        with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError) as error:
            checkpoints.restore(state(0, {"conv1_1": (3, 3, 4, 8)}), SETTINGS | {"stage": "fusion"})
        first, *lines = str(error.value).splitlines()
        assert "made under other settings; use those" in first
        assert lines[0].strip() == "stage: 'full' -> 'fusion'"
        assert lines[1].strip().startswith("+ left over: conv1_2 (")

    def test_types_and_lone_arrays_count_too(self) -> None:
        one = {"params": {"a": {"kernel": np.zeros(3, np.float32)}}}
        other = {"params": {"a": {"kernel": np.zeros(3, np.float64)}}}
        assert shape_differences(array_shapes(one, {"count": np.int32(0)}), array_shapes(other, {})) == [
            "+ left over: (optimizer): count int32[]",
            "! other shape: a (params): kernel float32[3] -> float64[3]",
        ]


class TestGitCommit:
    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    def checkout(self, folder: Path, head: str) -> Path:
        (folder / ".git" / "refs" / "heads").mkdir(parents=True)
        (folder / ".git" / "HEAD").write_text(head + "\n")
        return folder

    def test_none(self, tmp_path: Path) -> None:
        assert git_commit(tmp_path) == ""
        assert git_commit(self.checkout(tmp_path, "ref: refs/heads/unborn")) == ""

    def test_detached(self, tmp_path: Path) -> None:
        assert git_commit(self.checkout(tmp_path, self.COMMIT)) == self.COMMIT

    def test_on_a_branch(self, tmp_path: Path) -> None:
        checkout = self.checkout(tmp_path, "ref: refs/heads/main")
        (checkout / ".git" / "packed-refs").write_text(f"# pack-refs with: peeled\n{self.COMMIT} refs/heads/main\n")
        assert git_commit(checkout) == self.COMMIT
        (checkout / ".git" / "refs" / "heads" / "main").write_text("newer\n")
        assert git_commit(checkout) == "newer"

    def test_in_a_worktree(self, tmp_path: Path) -> None:
        main = self.checkout(tmp_path / "main", "ref: refs/heads/main")
        (main / ".git" / "refs" / "heads" / "other").write_text(self.COMMIT + "\n")
        own = main / ".git" / "worktrees" / "other"
        own.mkdir(parents=True)
        (own / "HEAD").write_text("ref: refs/heads/other\n")
        (own / "commondir").write_text("../..\n")
        tree = tmp_path / "other"
        tree.mkdir()
        (tree / ".git").write_text(f"gitdir: {own}\n")
        assert git_commit(tree) == self.COMMIT

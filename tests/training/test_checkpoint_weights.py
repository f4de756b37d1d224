"""Every checkpoint serves: as weights, as a start, after damage; and the folders that lead to it."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxcolor.cli import main
from jaxcolor.training import train
from jaxcolor.training.checkpoints import CheckpointError, Checkpoints, Keep, saved_steps, set_damaged_aside
from jaxcolor.weights import native
from jaxcolor.weights.locate import find_weights
from jaxcolor.weights.pretrained import load_pretrained
from jaxcolor.weights.reference import WeightsError
from tests.small import TWO
from tests.training.runs import CONFIG, ONLY_FULL, STEPS, numbers
from tests.training.test_checkpoints import SETTINGS, state
from tests.training.test_loop import flat


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of stage full, which kept steps 2, 4 and 5. Not to be changed."""
    workdir = tmp_path_factory.mktemp("run") / "finished"
    train.train(dataclasses.replace(ONLY_FULL, keep_every=2), workdir)
    return workdir


def test_every_checkpoint_has_the_weights_of_its_step(finished: Path, tmp_path: Path) -> None:
    assert saved_steps(finished / "full") == [2, 4, 5]
    found = {step: native.load(finished / "full" / str(step)) for step in (2, 4, 5)}
    assert [found[step].note for step in (2, 5)] == ["tiny, stage full, step 2 of 5", "tiny, after stage full"]
    short = dataclasses.replace(ONLY_FULL, full=dataclasses.replace(ONLY_FULL.full, steps=2))
    trees = train.train(short, tmp_path)
    assert flat(found[2].variables).keys() == flat(trees).keys()
    for key, value in flat(trees).items():
        np.testing.assert_array_equal(flat(found[2].variables)[key], value)
    assert (finished / "weights.safetensors").read_bytes() == (finished / "full/5/weights.safetensors").read_bytes()


def test_a_run_that_is_cut_off_leaves_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs after the last checkpoint: as after a kill."""

    def killed(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train.workdirs, "add_seconds", killed)
    with pytest.raises(KeyboardInterrupt):
        train.train(ONLY_FULL, tmp_path)
    assert native.load(tmp_path).note == "tiny, after stage full"


class TestPlaces:
    def test_of_a_run(self, finished: Path) -> None:
        for given, found in (
            ("weights.safetensors", "weights.safetensors"),
            ("full/2", "full/2/weights.safetensors"),
            ("full", "full/5/weights.safetensors"),
            ("full/newest", "full/5/weights.safetensors"),
            ("", "weights.safetensors"),
        ):
            assert find_weights(finished / given) == finished / found
        assert find_weights(finished / "no_such.safetensors") == finished / "no_such.safetensors"
        with pytest.raises(WeightsError, match="no checkpoint was measured for keep_best"):
            find_weights(finished / "full/best")

    def test_a_run_without_weights_of_its_own(self, copied: Path) -> None:
        (copied / "weights.safetensors").unlink()
        shutil.copytree(copied / "full" / "2", copied / "instance" / "2")
        assert find_weights(copied) == copied / "instance/2/weights.safetensors"

    @pytest.mark.parametrize(("best", "step"), [("psnr", "2"), ("-psnr", "1"), ("", "4")])
    def test_the_best(self, best: str, step: str, tmp_path: Path) -> None:
        with Checkpoints(tmp_path / "full", Keep(4, best=best)) as checkpoints:
            for number, psnr in ((1, 19.0), (2, 25.0), (3, float("nan")), (4, None)):
                metrics = None if psnr is None else {"psnr": psnr}
                checkpoints.save(state(number), SETTINGS, metrics, lambda path: path.write_bytes(b"weights"))
        assert find_weights(tmp_path / "full").parent.name == step
        if best:
            assert find_weights(tmp_path / "full/best").parent.name == step
        assert find_weights(tmp_path / "full/newest").parent.name == "4"
        assert find_weights(tmp_path) == tmp_path / "weights.safetensors"

    def test_damage_is_passed_over_in_a_stage_and_refused_in_a_step(
        self, copied: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        damage(copied / "full/5/weights.safetensors")
        assert find_weights(copied / "full") == copied / "full/4/weights.safetensors"
        said = (
            f"passed over: {copied}/full/5: no whole checkpoint: weights.safetensors has changed since it was written"
        )
        assert said in capsys.readouterr().err
        with pytest.raises(WeightsError, match=r"full/5: no whole checkpoint: weights\.safetensors has changed"):
            native.load(copied / "full/5")
        for step in ("2", "4"):
            shutil.rmtree(copied / "full" / step)
        with pytest.raises(WeightsError, match="there is no whole checkpoint among 5"):
            native.load(copied / "full")

    def test_other_folders_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="is a folder without weights; give a"):
            native.load(tmp_path)


class TestUses:
    def test_start_from(self, finished: Path, tmp_path: Path) -> None:
        """With another batch size and rate: what resuming would refuse."""
        for given in ("full/2", "full", ""):
            config = dataclasses.replace(ONLY_FULL, start_from=str(finished / given))
            expected = native.load(find_weights(finished / given)).variables
            for key, value in flat(load_pretrained(config).variables).items():
                np.testing.assert_array_equal(flat(expected)[key], value)
        full = dataclasses.replace(ONLY_FULL.full, steps=1, batch_size=8, schedule="cosine")
        config = dataclasses.replace(ONLY_FULL, start_from=str(finished / "full/2"), full=full)
        train.train(config, tmp_path / "run")
        note = "tiny, after stage full; started from full/2 (tiny, stage full, step 2 of 5)"
        assert native.load(tmp_path / "run").note == note

    def test_commands(self, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["convert", str(finished / "full/2"), str(tmp_path / "two.safetensors")]) == 0
        assert native.load(tmp_path / "two.safetensors").note == "tiny, stage full, step 2 of 5"
        Image.new("RGB", (20, 12), (90, 90, 90)).save(tmp_path / "photo.png")
        where = ["-w", str(finished / "full/2"), "-o", str(tmp_path / "out")]
        assert main(["colorize", str(tmp_path / "photo.png"), *where]) == 0
        assert (tmp_path / "out" / "photo.png").exists()
        assert main(["colorize", str(tmp_path / "photo.png"), "-w", str(tmp_path), "-o", str(tmp_path / "out2")]) == 1
        assert "is a folder without weights" in capsys.readouterr().err


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def data_file(folder: Path) -> Path:
    """The biggest file of a folder."""
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


FILES = ["variables", "progress", "settings", "record", "metrics", "manifest.json", "weights.safetensors"]


class TestDamage:
    @pytest.mark.parametrize("item", FILES)
    def test_the_newest_whole_one_is_used(
        self, item: str, finished: Path, copied: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        place = copied / "full" / "5" / item
        damage(data_file(place) if place.is_dir() else place)
        train.train(dataclasses.replace(ONLY_FULL, keep_every=2), copied)
        said = capsys.readouterr().err
        assert f"{copied}/full/5 is damaged: {item}" in said
        assert "it is now damaged-5; training goes on from step 4" in said
        assert numbers(copied) == numbers(finished)
        assert (copied / "weights.safetensors").read_bytes() == (finished / "weights.safetensors").read_bytes()
        assert saved_steps(copied / "full") == [2, 4, 5]

    @pytest.mark.parametrize("item", FILES)
    def test_what_is_missing_is_damage_too(self, item: str, copied: Path) -> None:
        place = copied / "full" / "5" / item
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        (line,) = set_damaged_aside(copied / "full")
        assert f"{copied}/full/5 is damaged: {item}" in line
        assert "is missing" in line
        assert saved_steps(copied / "full") == [2, 4]

    def test_none_is_whole(self, copied: Path) -> None:
        for step in (2, 4, 5):
            damage(data_file(copied / "full" / str(step) / "variables"))
        with pytest.raises(CheckpointError, match=r"no checkpoint is whole; step 5: variables/.* has changed since"):
            train.train(ONLY_FULL, copied)
        assert saved_steps(copied / "full") == [2, 4, 5]

    def test_older_ones(self, copied: Path) -> None:
        """What a killed run was deleting goes; what was cut short is kept for a person to look at."""
        shutil.rmtree(copied / "full/2/record")
        (copied / "full/4/settings/metadata").write_text("{}")
        (line,) = set_damaged_aside(copied / "full")
        assert "full/4 is damaged: settings/metadata has 2 bytes, not" in line
        assert sorted(path.name for path in (copied / "full").iterdir()) == ["5", "damaged-4"]

    def test_a_result_that_a_later_stage_takes(self, copied: Path) -> None:
        damage(copied / "full/5/record/metadata")
        config = dataclasses.replace(CONFIG, stages=("instance",))
        with pytest.raises(CheckpointError, match=f"stage full stopped at step 4 of {STEPS['full']}; finish it first"):
            train.train(config, copied)

    def test_a_record_that_is_missing_is_an_error(self, copied: Path) -> None:
        shutil.rmtree(copied / "full/5/record")
        with Checkpoints(copied / "full") as checkpoints, pytest.raises(CheckpointError, match="its record is missing"):
            checkpoints.record()


def test_the_manifest_covers_every_file_but_what_orbax_changes(finished: Path) -> None:
    folder = finished / "full" / "5"
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there - listed.keys() == {"_CHECKPOINT_METADATA", "commit_success.txt", "manifest.json"}


def test_weights_that_are_not_finite_are_no_checkpoint(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        native.save(path, TWO, {"full": {"params": {"conv1_1": {"kernel": np.full(3, np.nan)}}}})

    with pytest.raises(WeightsError, match="not written"), Checkpoints(tmp_path / "full") as checkpoints:
        checkpoints.save(state(1), SETTINGS, write_weights=write)
    assert saved_steps(tmp_path / "full") == []


def test_the_log_of_a_redirected_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train.train(ONLY_FULL, tmp_path)
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == (
        f"training on 8 x cpu, float32: 1,000,000 photos; steps: full 5; results go to {tmp_path}"
    )
    lines = [line for line in out.splitlines() if line.startswith("full: ")]
    assert [line.split(", ")[0] for line in lines] == [
        "full: compiling …",
        *(f"full: step {step} of 5" for step in (2, 4, 5)),
    ]
    assert [line.endswith(" left") for line in lines] == [False, False, True, False]  # not known, known, over
    assert err == ""

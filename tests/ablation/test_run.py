"""An ablation from its start to its table, stopped and resumed."""

import dataclasses
import importlib.util
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxcolor.ablation import run as runner
from jaxcolor.ablation.comparison import Comparison, paired_difference
from jaxcolor.ablation.outcome import AblationError
from jaxcolor.ablation.plan import Ablation, Variant, plan
from jaxcolor.ablation.run import run_ablation, untrained
from jaxcolor.config import Config, ConfigError, DataConfig, EvalConfig, FusionConfig, StageConfig
from jaxcolor.config_io import from_dict
from jaxcolor.data.types import DataError
from jaxcolor.runtime.errors import StoppedError
from jaxcolor.weights import native
from tests.small import MODEL, variables

SCENES = DataConfig(source="scenes", box_choice="ground_truth", max_crops_per_image=4.0)
SMALL = dataclasses.replace(MODEL, fusion=FusionConfig(layers=("conv7_3", "conv10_up")))
BASE = Config(
    name="tiny",
    stages=("fusion",),
    model=SMALL,
    data=SCENES,
    full=StageConfig(steps=1, batch_size=8),
    instance=StageConfig(steps=1, batch_size=8),
    fusion=StageConfig(steps=2, batch_size=8, learning_rate=1e-2, trained="fusion"),
    checkpoint_every=1,
    eval=EvalConfig(
        data=dataclasses.replace(SCENES, split="held_out"), photos=5, batch_size=8, metrics="", per_object=False
    ),
)
VARIANTS = (
    Variant("learned"),
    Variant("two_boxes", {"eval.data.box_choice": "top_k", "eval.data.boxes_per_photo": 2}),
    Variant("truth_mask", {"model.fusion.strategy": "truth_mask", "data.masks": True, "eval.data.masks": True}),
)
SEEDS = 2


def ablation(folder: Path, **fields: Any) -> Ablation:
    """From weights that lie there, so that only fusion is trained."""
    start = folder / "weights.safetensors"
    if not start.exists():
        native.save(start, SMALL, {name: variables(SMALL)[name] for name in ("full", "instance")})
    base = dataclasses.replace(BASE, start_from=str(start), **fields)
    return Ablation("tiny", base=base, shared=(), variants=VARIANTS, baseline="learned", seeds=SEEDS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an ablation that was stopped by Ctrl-C in the middle and resumed."""
    folder = tmp_path_factory.mktemp("ablation")
    measured: list[int] = []
    measure = runner.measure

    def interrupted(*arguments: Any, **options: Any) -> Any:
        measured.append(1)
        if len(measured) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return measure(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "measure", interrupted)
        with pytest.raises(StoppedError, match="stopped before variant learned, seed 1; the same command") as stopped:
            run_ablation(ablation(folder), folder / "run")
        assert stopped.value.status == 130
        assert len(measured) == 3  # what was started is finished
        assert not (folder / "run" / "ablation.json").exists()
        run_ablation(ablation(folder), folder / "run")
    assert len(measured) == 5  # truth_mask trains nothing: it is measured once
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished / "run", tmp_path / "copied"))


def again(finished: Path, folder: Path, **fields: Any) -> Comparison:
    """Once more; nothing that is finished may be run."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("measure", "train"):
            patch.setattr(runner, name, None)
        return run_ablation(ablation(finished, **fields), folder)


def test_what_is_written(finished: Path) -> None:
    folder = finished / "run"
    table = json.loads((folder / "ablation.json").read_text())
    rows = {row["name"]: row for row in table["rows"]}
    assert {name: row["runs"] for name, row in rows.items()} == {"learned": 2, "two_boxes": 2, "truth_mask": 1}
    assert rows["two_boxes"]["weights_of"] == "learned"
    assert rows["truth_mask"]["cost"]["trained_parameters"] == 0
    assert rows["learned"]["cost"]["trained_parameters"] > 0
    assert rows["two_boxes"]["cost"]["crops_per_photo"] == 2
    assert rows["learned"]["cost"]["crops_per_photo"] > 2
    for name in ("ablation.md", "ablation.tex", "ablation.png"):
        assert (folder / name).stat().st_size > 0
    assert not (folder / "two_boxes" / "seed0" / "fusion").exists()
    assert (folder / "learned" / "seed1" / "weights.safetensors").exists()


def test_numbers_are_those_of_the_scores(finished: Path) -> None:
    folder = finished / "run"
    table = json.loads((folder / "ablation.json").read_text())
    rows = {row["name"]: row for row in table["rows"]}

    def scores(variant: str, metric: str) -> np.ndarray:
        seeds = sorted((folder / variant).iterdir())
        return np.stack([np.load(seed / "scores.npz")[f"fused/{metric}"] for seed in seeds])

    for metric in table["metrics"]:
        own, baseline = scores("two_boxes", metric), scores("learned", metric)
        assert own.shape == (2, 5)
        assert rows["two_boxes"]["means"][metric] == pytest.approx(np.nanmean(own))  # NaN: no window of SSIM fits
        found = rows["two_boxes"]["differences"][metric]
        assert found["value"] == pytest.approx(np.nanmean(own - baseline))
        assert tuple(found["interval"]) == paired_difference(own, baseline).interval
    psnr = scores("learned", "psnr")
    assert (psnr[0] != psnr[1]).any()  # the seeds are two trainings
    assert (scores("two_boxes", "psnr") != psnr).any()
    full = [np.load(folder / v / "seed0" / "scores.npz")["full/psnr"] for v in ("learned", "truth_mask")]
    np.testing.assert_array_equal(*full)  # all start from the same weights


def test_nothing_is_done_twice(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "run" / "ablation.json").read_text()
    again(finished, finished / "run", log_every=3)  # what changes no number may change
    assert (finished / "run" / "ablation.json").read_text() == before
    said = capsys.readouterr().out
    assert said.count("finished before") == 5
    assert "run 4 of 5: variant learned, seed 1: finished before" in said


def test_a_changed_config_is_refused_by_name(finished: Path) -> None:
    with pytest.raises(AblationError, match=r"learned/seed0: finished with another config \(fusion\.steps: 2 -> 3\)"):
        again(finished, finished / "run", fusion=dataclasses.replace(BASE.fusion, steps=3))


def test_another_start_is_refused(finished: Path, copied: Path, tmp_path: Path) -> None:
    """Under the same name: what is left to run would begin from other weights."""
    shutil.rmtree(copied / "truth_mask")
    other = {name: variables(SMALL, seed=5)[name] for name in ("full", "instance")}
    kept = (finished / "weights.safetensors").read_bytes()
    try:
        native.save(finished / "weights.safetensors", SMALL, other)
        with pytest.raises(AblationError, match=r"learned/seed0: finished with another config \(full: "):
            again(finished, copied)
    finally:
        (finished / "weights.safetensors").write_bytes(kept)


def test_what_cannot_be_measured_shows_before_training(tmp_path: Path) -> None:
    plan_of = ablation(tmp_path)
    variants = (*VARIANTS[:2], Variant("gone", {"eval.data.source": "folder", "eval.data.path": str(tmp_path / "no")}))
    with pytest.raises(DataError, match=r"variant gone, seed 0: .*no such folder"):
        run_ablation(dataclasses.replace(plan_of, variants=variants), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_start_without_instance_is_refused(tmp_path: Path) -> None:
    native.save(tmp_path / "weights.safetensors", SMALL, {"full": variables(SMALL)["full"]})
    with pytest.raises(ConfigError, match=r"base\.start_from: .* has no tree instance; shared=\('full', 'instance'\)"):
        run_ablation(ablation(tmp_path), tmp_path / "run")


class TestUntrained:
    def test_a_part_of_a_fusion_tree_that_is_there(self) -> None:
        fewer = dataclasses.replace(SMALL, fusion=FusionConfig(layers=("conv7_3",)))
        trees = untrained(dataclasses.replace(BASE, model=fewer), variables(SMALL))
        assert sorted(trees["fusion"]["params"]) == ["fuse_conv7_3", "trunk"]
        whole = variables(SMALL)["fusion"]["params"]
        head = trees["fusion"]["params"]["fuse_conv7_3"]["full_head"]["conv1"]["kernel"]
        np.testing.assert_array_equal(head, whole["fuse_conv7_3"]["full_head"]["conv1"]["kernel"])

    def test_more_than_is_there(self) -> None:
        more = dataclasses.replace(SMALL, fusion=FusionConfig(layers=("conv7_3", "conv8_up")))
        with pytest.raises(ConfigError, match=r"its fusion tree has not all .*: params/fuse_conv8_up/.* and \d+ more"):
            untrained(dataclasses.replace(BASE, model=more), variables(SMALL))


RECIPES = {path.stem: path for path in (Path(__file__).parents[2] / "configs" / "ablation").glob("*.py")}


def recipe(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"ablation_{name}", RECIPES[name])
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


class TestRecipes:
    def test_which_there_are(self) -> None:
        assert set(RECIPES) == {"backbone", "box_choice", "fused_layers", "weighting"}

    @pytest.mark.parametrize("name", RECIPES)
    def test_the_manual(self, name: str) -> None:
        manual = recipe(name).__doc__
        places = [manual.find(f"\n{word}: ") for word in ("Command", "Hardware", "Hours", "Numbers")]
        assert -1 not in places
        assert places == sorted(places)
        assert f"configs/ablation/{name}.py:scenes" in manual
        for field in re.findall(r"--config\.([a-z_.]+)", manual):
            value: Any = from_dict(Ablation, recipe(name).get_config().to_dict())
            for part in field.split("."):
                value = getattr(value, part)

    @pytest.mark.parametrize("variant", ["", "scenes"])
    @pytest.mark.parametrize("name", RECIPES)
    def test_plans(self, name: str, variant: str) -> None:
        found = from_dict(Ablation, recipe(name).get_config(variant).to_dict())
        variants = plan(found)
        assert len(variants) >= 2
        assert variants[0].name == found.baseline
        trainers = {v.weights_of for v in variants}
        assert len(trainers) == (1 if name == "box_choice" else len(variants))
        for v in variants:
            assert v.config.eval.data.source == ("scenes" if variant else "coco")
        with pytest.raises(ValueError, match=f"no such variant; there is configs/ablation/{name}.py:scenes"):
            recipe(name).get_config("huge")


@pytest.mark.slow
def test_shared_stages_are_trained_once(tmp_path: Path) -> None:
    own = Variant("own", {"stages": ("full", "instance", "fusion"), "full.steps": 2})
    variants = (Variant("learned"), Variant("none", {"model.fusion.layers": "none"}), own)
    found = run_ablation(Ablation("all", base=BASE, variants=variants, baseline="learned"), tmp_path)
    assert (tmp_path / "shared" / "full").is_dir()
    assert (tmp_path / "own" / "seed0" / "full").is_dir()
    assert not (tmp_path / "learned" / "seed0" / "full").exists()
    start = native.load(tmp_path / "shared" / "start.safetensors")
    assert start.trees == ("full", "instance")
    trained = {row.name: row.cost.trained_parameters for row in found.rows}
    assert trained["none"] == 0 < trained["learned"] < trained["own"]
    full = [np.load(tmp_path / v / "seed0" / "scores.npz")["full/psnr"] for v in ("learned", "none", "own")]
    np.testing.assert_array_equal(full[0], full[1])
    assert (full[0] != full[2]).any()

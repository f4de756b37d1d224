"""The reference's goldens, and the command that compares with them."""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxcolor.evaluation.metrics import lpips
from tests import quick
from tests.parity import __main__ as command
from tests.parity import checks
from tests.parity.checks import Row, absolute, relative, row
from tests.recipe import SEED, state_dict

ROOT = Path(__file__).resolve().parents[1]
GOLDENS = ROOT / "tests" / "goldens"
FILES = sorted(path.stem for path in GOLDENS.glob("*.npz"))
KINDS = {"color": 5, "boxes": 1, "forward": 1 + 4 + 26, "train_full": 5, "train_fusion": 4, "lpips": 3}
"""Beginning of a file's name -> how many quantities of it are compared."""


def kind_of(stem: str) -> str:
    return next(kind for kind in KINDS if stem.startswith(kind))


@functools.cache
def rows() -> list[Row]:
    """All rows, from a process of their own: there XLA compiles as it does in use, whatever conftest.py asks of it."""
    program = (
        "import json, sys; from pathlib import Path; from tests.parity.checks import check_folder;"
        "print(json.dumps(list(check_folder(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))))"
    )
    ours = {"XLA_FLAGS", quick.CACHE, *quick.ENVIRONMENT}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    with tempfile.TemporaryDirectory() as folder:
        squeeze = Path(folder) / "squeeze.npz"
        np.savez(squeeze, **state_dict("squeezenet1_1", lpips.trunk_shapes("squeeze")))
        command = [sys.executable, "-c", program, str(GOLDENS), str(SEED), str(squeeze)]
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return [Row(*fields) for fields in json.loads(run.stdout)]


def test_there_are_goldens_of_every_kind() -> None:
    assert {kind_of(stem) for stem in FILES} == set(KINDS)
    assert len(FILES) == 9


@pytest.mark.parametrize("stem", FILES)
def test_we_compute_what_the_reference_computed(stem: str) -> None:
    found = [r for r in rows() if r.name.split("/")[0] == stem]
    assert [command.format_row(r) for r in found if r.verdict != "ok"] == []
    assert len(found) == KINDS[kind_of(stem)]


def test_tolerances_are_those_promised() -> None:
    """Not what happens to pass."""
    tolerances = {r.name: r.tolerance for r in rows()}
    assert tolerances["color/rgb_back"] == 1e-4
    assert tolerances["boxes/rows that differ"] == 0
    assert tolerances["forward_three_boxes/fused_ab"] == 1e-5
    assert tolerances["forward_three_boxes/fused/weight_layer10_2"] == 2e-5
    assert [tolerances[f"lpips/lpips_{net} (relative)"] for net in ("alex", "squeeze", "vgg")] == [1e-4] * 3


class TestCommand:
    def run(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
        monkeypatch.setattr(sys, "argv", ["parity", str(folder), "--seed", str(SEED), *more])
        return command.main()

    @pytest.fixture
    def small(self, tmp_path: Path) -> Path:
        """The goldens that take no time."""
        for name in ("shapes.json", "color.npz", "boxes.npz"):
            shutil.copyfile(GOLDENS / name, tmp_path / name)
        return tmp_path

    def change(self, path: Path, key: str, index: tuple[int, ...], by: float) -> None:
        arrays = dict(np.load(path))
        arrays[key][index] += arrays[key].dtype.type(by)
        np.savez(path, **arrays)

    def test_all_is_well(
        self, small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(small, monkeypatch) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == "all ok"
        assert len(lines) == 1 + 6 + 1
        assert all(line.endswith("  ok") for line in lines[1:-1])

    @pytest.mark.parametrize(
        ("file", "key", "index", "by", "name"),
        [
            ("color.npz", "lab_norm", (1, 2, 3, 0), 2e-4, "color/lab_norm"),
            ("color.npz", "wild_rgb", (0, 0, 0, 1), 2e-4, "color/wild_rgb"),
            ("color.npz", "rgb_back", (0, 0, 0, 1), np.nan, "color/rgb_back"),
            ("color.npz", "ab_index", (0, 0, 0), 1, "color/ab_index"),
            ("color.npz", "bins_mean_ab", (0, 0, 0, 1), 2e-4, "color/bins_mean_ab"),
            ("boxes.npz", "table", (17, 9), 1, "boxes/rows that differ"),
        ],
    )
    def test_a_golden_that_differs_fails(
        self,
        small: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        file: str,
        key: str,
        index: tuple[int, ...],
        by: float,
        name: str,
    ) -> None:
        self.change(small / file, key, index, by)
        assert self.run(small, monkeypatch) == 1
        out = capsys.readouterr().out
        failed = [line.split("  ")[0] for line in out.splitlines() if line.endswith("FAIL")]
        assert name in failed
        assert out.splitlines()[-1] == f"{len(failed) - 1} FAIL"

    def test_files_without_a_check_are_named_and_are_no_failure(
        self, small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        np.savez(small / "later.npz", distance=np.zeros(3))
        assert self.run(small, monkeypatch) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("later")]
        assert line.split() == ["later", "not", "checked"]

    def test_squeezenet_is_not_checked_without_its_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copyfile(GOLDENS / "shapes.json", tmp_path / "shapes.json")
        nets = {f"lpips_{net}": np.zeros(1, np.float32) for net in lpips.NETS}
        pictures = {name: np.zeros((1, 32, 32, 3), np.float32) for name in ("image_a", "image_b")}
        np.savez(tmp_path / "lpips.npz", **pictures, **nets)
        # All networks find no difference between equal pictures: here only what is checked matters.
        monkeypatch.setattr(checks, "_lpips", lambda params, net, first, second: np.zeros(1))
        assert self.run(tmp_path, monkeypatch) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("lpips/")]
        assert [line[-1] for line in lines if "squeeze" not in line[0]] == ["ok", "ok"]
        assert ["lpips/lpips_squeeze", "(relative)", "not", "checked"] in lines

        squeeze = tmp_path / "squeeze.safetensors"
        save_file(state_dict("squeezenet1_1", lpips.trunk_shapes("squeeze")), squeeze)
        assert self.run(tmp_path, monkeypatch, "--lpips-squeeze", str(squeeze)) == 0
        assert "not checked" not in capsys.readouterr().out
        # Neither trunk may be off.
        monkeypatch.setattr(checks, "_lpips", lambda params, net, first, second: np.ones(1) * (net == "squeeze"))
        assert self.run(tmp_path, monkeypatch, "--lpips-squeeze", str(squeeze)) == 1
        squeeze.write_bytes(b"none")
        assert self.run(tmp_path, monkeypatch, "--lpips-squeeze", str(squeeze)) == 1
        assert "squeeze.safetensors: damaged" in capsys.readouterr().err

    @pytest.mark.parametrize("missing", ["shapes.json", "*.npz", "*"])
    def test_what_is_no_folder_of_goldens_is_told_in_one_line(
        self, small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
    ) -> None:
        for path in small.glob(missing):
            path.unlink()
        assert self.run(small, monkeypatch) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"parity: {small}: ")
        assert ("no .npz files here" if missing == "*.npz" else "shapes.json") in line

    def test_a_golden_of_another_form_is_told_in_one_line(
        self, small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arrays = dict(np.load(small / "color.npz"))
        np.savez(small / "color.npz", **{k: v for k, v in arrays.items() if k != "wild_rgb"})
        assert self.run(small, monkeypatch) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "wild_rgb" in line

    def test_it_is_run_as_a_module(self, small: Path) -> None:
        (small / "color.npz").unlink()
        line = [sys.executable, "-m", "tests.parity", str(small), "--seed", "7"]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "boxes/rows that differ" in done.stdout
        without_seed = subprocess.run(line[:-2], cwd=ROOT, capture_output=True, text=True, check=False)
        assert without_seed.returncode == 2


class TestErrors:
    def test_nan_is_within_no_tolerance(self) -> None:
        assert row("x", float("nan"), 1.0).verdict == "FAIL"
        assert row("x", 1.0, 1.0).verdict == "ok"
        assert row("x", 1.1, 1.0).verdict == "FAIL"
        assert row("x", absolute(np.array([1.0, np.nan]), np.zeros(2)), 10.0).verdict == "FAIL"

    def test_relative_to_zero_only_zero_will_do(self) -> None:
        assert relative(np.array([0.0, 2.0]), np.array([0.0, 4.0])) == 0.5
        assert relative(np.array([1e-30]), np.array([0.0])) == np.inf

    def test_shapes_must_be_the_same(self) -> None:
        for compare in (absolute, relative):
            with pytest.raises(ValueError, match="shape"):
                compare(np.zeros((2, 1)), np.zeros((2,)))

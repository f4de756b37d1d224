"""The program itself, in processes of its own."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jaxcolor.weights.native import save
from tests import quick
from tests.evaluation.batches import BASIC, MODEL

ROOT = Path(__file__).resolve().parents[2]


def run(*flags: str, devices: int = 1) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {quick.FLAGS}",
    }
    command = [sys.executable, "eval.py", *flags]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


DEMO = "--config=configs/demo.py"
BARE = ["--config.eval.metrics=", "--config.eval.report_photos=0"]


def test_it_prints_the_table_and_writes_the_files(tmp_path: Path, variables: dict[str, Any]) -> None:
    save(tmp_path / "w.safetensors", MODEL, variables)
    found = {}
    for devices in (1, 3):
        workdir = tmp_path / f"on{devices}"
        done = run(
            "--config=configs/demo.py",
            f"--weights={tmp_path / 'w.safetensors'}",
            f"--workdir={workdir}",
            "--config.eval.photos=5",
            "--config.eval.sheet_photos=2",
            "--config.eval.report_photos=2",
            # What the report costs to compile is spent once.
            *(["--config.eval.metrics=colorfulness_hs"] if devices == 1 else BARE),
            devices=devices,
        )
        assert done.returncode == 0, done.stderr
        assert "| fused, other crops" in done.stdout
        assert "| PSNR, whole picture | " in done.stdout
        assert "| instance network alone" in done.stdout
        # The file decides the architecture, and that is said.
        assert "width 0.0625, not 0.25" in done.stderr
        on = f"{devices} x cpu, float32: 5 photos; results go to {workdir}"
        assert done.stdout.splitlines()[0] == f"evaluating on {on}"
        metrics = json.loads((workdir / "metrics.json").read_text(), parse_constant=pytest.fail)
        found[devices] = metrics
        assert metrics["photos"] == 5
        assert metrics["protocol"]["devices"] == devices
        assert metrics["protocol"]["model"]["width"] == 0.0625
        with open(workdir / "per_photo.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 5 * (6 if devices == 1 else 5)  # of the truth, too, colorfulness is measured
        assert len({row["name"] for row in rows}) == 5
        assert ("ΔCF of photos" in (workdir / "tables.md").read_text()) == (devices == 1)
        page = (workdir / "report.html").read_text(encoding="utf-8")
        assert page.count('id="pictures-') == (2 if devices == 1 else 0)
        with Image.open(workdir / "contact_sheet.png") as sheet:
            assert 2 * 192 < sheet.height < 3 * 192
    for system in ("gray", "full", "fused"):
        for metric in BASIC:
            assert found[3][system][metric] == pytest.approx(found[1][system][metric], abs=0.01)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--weights=w", "--workdir=x"], "--config is missing"),
        ([DEMO, "--workdir=x"], "nothing to evaluate: give --weights, --checkpoint or --predictions"),
        ([DEMO, "--weights=w"], "--workdir is missing"),
        ([DEMO, "--weights=no/such/file", "--workdir=x"], "no/such/file: No such file or directory"),
        ([DEMO, "--weights=LICENSE", "--workdir=x"], "LICENSE: "),
        (["--config=no_such.py", "--weights=w", "--workdir=x"], "no_such.py"),
        ([DEMO, "--config.modle.width=1", "--weights=w", "--workdir=x"], "modle"),
        ([DEMO, "--config.model.width=wide", "--weights=w", "--workdir=x"], "config.model.width=wide"),
        ([DEMO, "--config.mapping=vmap", "--weights=w", "--workdir=x"], "config.mapping: 'vmap' is none of"),
        ([DEMO, "--weights=w", "--workdir=x", "more"], "unexpected arguments: more"),
    ],
)
def test_errors_are_one_line(flags: list[str], message: str) -> None:
    done = run(*flags)
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("eval.py: ")
    assert message in lines[0]
    assert done.stdout == ""


def test_weights_without_the_full_tree_cannot_be_evaluated(tmp_path: Path, variables: dict[str, Any]) -> None:
    save(tmp_path / "w.safetensors", MODEL, {"instance": variables["instance"]})
    done = run(DEMO, f"--weights={tmp_path / 'w.safetensors'}", f"--workdir={tmp_path / 'out'}")
    assert done.returncode == 1
    assert "the weights hold instance" in done.stderr
    assert "Traceback" not in done.stderr

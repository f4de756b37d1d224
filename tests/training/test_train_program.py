"""The program itself, in processes of its own: errors are reported without a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = "--config=configs/demo.py"


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "train.py", *flags]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([DEMO], "--workdir is missing"),
        (["--workdir=RUN"], "--config is missing"),
        ([DEMO, "--workdir=RUN", "--config.mapping=vmap"], "config.mapping: 'vmap' is none of shard_map, pmap"),
        (
            [DEMO, "--workdir=RUN", "--config.modle.width=1"],
            "--config.modle: no such field of the config; did you mean model?",
        ),
        ([DEMO, "--workdir=RUN", "--config.model.width=wide"], "config.model.width=wide"),
        ([DEMO, "--workdir=RUN", "--config.stages=('fusion','full')"], "['fusion', 'full'] is out of order"),
        (["--config=no_such.py", "--workdir=RUN"], "train.py: --config: no_such.py: no such file"),
        (
            ["--config=configs/reference.py:huge", "--workdir=RUN"],
            "Error whilst parsing config file: ValueError: configs/reference.py:huge: no such variant; there is",
        ),
        ([DEMO, "--workdir=RUN", "more"], "unexpected arguments: more"),
    ],
)
def test_errors_are_reported_in_one_line(flags: list[str], message: str, tmp_path: Path) -> None:
    done = run(*(flag.replace("RUN", str(tmp_path / "run")) for flag in flags))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("train.py: ")
    assert message in line
    assert done.stdout == ""
    assert not (tmp_path / "run").exists()

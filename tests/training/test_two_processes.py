"""Checkpoints of a run in several processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from jaxcolor.training.checkpoints import Checkpoints
from tests.training.test_checkpoints import SETTINGS, state

ROOT = Path(__file__).resolve().parents[2]


def test_one_process_then_two_then_one(tmp_path: Path) -> None:
    folder = tmp_path / "full"
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(state(3, value=7.0), SETTINGS)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "XLA_FLAGS": "",
        "JAX_COMPILATION_CACHE_DIR": "",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.training.two_processes"]
    both = []
    try:
        for number in range(2):
            with (tmp_path / f"{number}.txt").open("w") as output:
                arguments = [*command, str(number), str(port), str(folder)]
                both.append(subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=output, stderr=output))
        for number, process in enumerate(both):
            status = process.wait(120)
            told = (tmp_path / f"{number}.txt").read_text()
            assert status == 0, told[-3000:]
            assert f"process {number} is done" in told
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert not list(folder.rglob("*process_1*"))  # the first process writes, the other one does not
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.restore(state(0), SETTINGS).variables["params"]["conv1_1"]["kernel"].max() == 4.0

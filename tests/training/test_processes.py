"""Several processes on one machine, as they would be on several: the same losses, stops and results as one process."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxcolor.training.logs import read_scalars

ROOT = Path(__file__).parents[2]

RECIPE = """
from jaxcolor.config import *
from jaxcolor.config_io import to_config_dict

def get_config():
    def stage(steps, **fields):
        return StageConfig(steps=steps, batch_size=8, learning_rate=1e-3, **fields)
    # One scene in three is gray enough to be masked, and a photo has two to four objects: shares are uneven.
    data = DataConfig(source="scenes", max_crops_per_image=4.0, threads=1, scenes=ScenesConfig(length=40))
    return to_config_dict(Config(
        name="processes",
        model=ModelConfig(side=16, width=0.0625, compute_dtype="float64", fusion=FusionConfig(layers=("conv2_2",))),
        data=data, low_chroma=88.0, log_every=2, checkpoint_every=2,
        full=stage(4), instance=stage(2), fusion=stage(3, trained="fusion_and_output"),
        eval=EvalConfig(data=dataclasses.replace(data, split="held_out"), photos=13, batch_size=8, sheet_photos=2),
    ))
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return int(s.getsockname()[1])


def start(program: str, folder: Path, processes: int, devices: int, *arguments: str) -> list[subprocess.Popen]:
    """One program in several processes of so many devices."""
    (folder / "recipe.py").write_text(RECIPE.replace("import *", "import *\nimport dataclasses"))
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
        "JAX_COMPILATION_CACHE_DIR": "",
    }
    port = free_port()
    several = [f"--coordinator=localhost:{port}", f"--processes={processes}"] if processes > 1 else []
    return [
        subprocess.Popen(
            [sys.executable, ROOT / program, "--config", folder / "recipe.py", *arguments, *several]
            + ([f"--process={index}"] if several else []),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=folder,
        )
        for index in range(processes)
    ]


def finish(started: list[subprocess.Popen], status: int = 0) -> list[tuple[str, str]]:
    said = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [status] * len(started), said
    return said


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Path]:
    """The workdir of a run with so many processes of so many devices."""
    runs = {}
    for layout in [(1, 8), (2, 4), (1, 1)]:
        folder = tmp_path_factory.mktemp(f"{layout[0]}x{layout[1]}")
        said = finish(start("train.py", folder, *layout, "--workdir=w"))
        assert "weights: w/weights.safetensors" in said[0][0]
        # The first process speaks for all; threads of Gloo's print too, at times into each other's lines, three numbers
        # each, of one digit here.
        others = "".join(out for out, _ in said[1:])
        words = r"\[Gloo\] Rank|is connected to|peer ranks\.|Expected number of connected peer ranks is :|\s"
        left = re.sub(words, "", others)
        assert re.fullmatch(r"\d*", left), left
        assert len(left) == 3 * others.count("[Gloo]")
        runs[layout] = folder / "w"
    return runs


def column(workdir: Path, name: str) -> np.ndarray:
    return np.array([record[name] for record in read_scalars(workdir)])


@pytest.mark.slow
class TestTraining:
    def test_the_same_losses(self, trained):
        one = trained[1, 8]
        assert [(r["stage"], r["step"]) for r in read_scalars(one)] == [
            *[("full", i) for i in range(1, 5)],
            *[("instance", i) for i in (1, 2)],
            *[("fusion", i) for i in (1, 2, 3)],
        ]
        assert len(set(column(one, "valid_photos"))) > 3  # masks at work
        for layout in [(2, 4), (1, 1)]:
            other = trained[layout]
            np.testing.assert_array_equal(column(other, "valid_photos"), column(one, "valid_photos"))
            for name in ("loss", "grad_norm"):
                # In float64: so small a network multiplies what float32 rounds by a hundred thousand within a step.
                np.testing.assert_allclose(column(other, name), column(one, name), rtol=1e-6)

    def test_the_same_counts(self, trained):
        for name in ("dropped_crops", "skipped_photos", "gray_photos"):
            np.testing.assert_array_equal(column(trained[2, 4], name), column(trained[1, 8], name))


@pytest.mark.slow
def test_a_signal_to_one_stops_all_and_they_go_on(trained, tmp_path):
    # As many steps as it takes to hit the run in the middle; the numbers that follow are compared with the end.
    started = start("train.py", tmp_path, 2, 4, "--workdir=w", "--config.full.steps=4", "--config.log_every=1")
    for line in started[0].stdout:
        if line.startswith("stage full"):
            break
    time.sleep(1)
    started[1].send_signal(signal.SIGTERM)
    said = finish(started)
    assert all("the same command resumes from there" in err for _, err in said)
    finish(start("train.py", tmp_path, 2, 4, "--workdir=w"))
    for name in ("loss", "grad_norm", "valid_photos"):
        np.testing.assert_allclose(column(tmp_path / "w", name), column(trained[2, 4], name), rtol=1e-6)


@pytest.mark.slow
def test_evaluation_counts_every_photo_once(trained, tmp_path):
    metrics = {}
    for layout in [(1, 8), (2, 4)]:
        folder = tmp_path / f"{layout[0]}"
        folder.mkdir()
        weights = trained[1, 8] / "weights.safetensors"
        finish(start("eval.py", folder, *layout, f"--weights={weights}", "--workdir=e", "--nocontrols"))
        metrics[layout] = json.loads((folder / "e" / "metrics.json").read_text())
        lines = (folder / "e" / "per_photo.csv").read_text().splitlines()
        assert len(lines) == 1 + 13 * (3 + 1)  # a line for each photo and system, and its truth
        objects = (folder / "e" / "per_object.csv").read_text().splitlines()[1:]
        assert len(objects) == 3 * metrics[layout]["objects"] > 3 * 13
        assert (folder / "e" / "report.html").stat().st_size > 0
        metrics[layout]["lines"], metrics[layout]["rows"] = [line.split(",")[:3] for line in lines], lines[1:]
    assert metrics[1, 8]["lines"] == metrics[2, 4]["lines"]
    for layout, found in metrics.items():
        rows = [[float(cell or "nan") for cell in line.split(",")[3:]] for line in found.pop("rows")]
        metrics[layout] = np.array(rows)
    np.testing.assert_allclose(metrics[2, 4], metrics[1, 8], rtol=1e-4, atol=1e-4)


TOTALS = """
import sys
import jax, numpy as np
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from jaxcolor.runtime.parallel import Devices
devices, own = Devices.all("shard_map"), int(sys.argv[2])
count, sums = devices.total((np.int64(2**40 + own), np.array([[1.0, 1e-12], [own, 3.0]])))
assert count == 2**41 + 1 and sums.dtype == np.float64, (count, sums)
assert (sums == [[2.0, 2e-12], [1.0, 6.0]]).all() and (sums - 2)[0, 0] == 0, sums
one = devices.total((np.array([1 + 1e-12]),))[0]
assert one[0] == 2 + 2e-12, one
"""


@pytest.mark.slow
def test_sums_keep_all_their_digits():
    port = free_port()
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": "",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
        "PYTHONPATH": str(ROOT),
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TOTALS, f"localhost:{port}", str(index)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for index in range(2)
    ]
    finish(started)

"""kill -9 at any moment: real runs of train.py, killed again and again, end as one that nothing disturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jaxcolor.training.logs import read_scalars
from tests.training.runs import SPEED

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 300.0


class Runs:
    """Runs of one recipe on two devices, with a compile cache in common."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.flags = flags
        self.environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compile_cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }

    def start(self, workdir: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "train.py", "--config=tests/training/kill_config.py", f"--workdir={workdir}"]
        with (self.folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                [*command, *self.flags], cwd=ROOT, env=self.environment, stdout=output, stderr=output
            )

    def finish(self, workdir: Path) -> float:
        began = time.monotonic()
        status = self.start(workdir).wait(TIMEOUT)
        assert status == 0, (self.folder / "output.txt").read_text()[-4000:]
        return time.monotonic() - began


def numbers(workdir: Path) -> list[dict[str, Any]]:
    """What was logged, but for the speed."""
    return [{k: v for k, v in r.items() if k not in SPEED} for r in read_scalars(workdir)]


def saves(workdir: Path) -> set[tuple[str, int]]:
    """The saves under way or cut off, distinguished from earlier ones of the same step."""
    found = set()
    for path in workdir.glob("*/*.orbax-checkpoint-tmp*"):
        try:
            found.add((str(path), path.stat().st_ctime_ns))
        except FileNotFoundError:  # it was finished in between
            continue
    return found


def half_deleted(workdir: Path) -> list[Path]:
    """Old checkpoints of which only a part is left."""
    items = ("variables/manifest.ocdbt", "progress/manifest.ocdbt", "settings/metadata", "record/metadata")
    steps = [path for path in workdir.glob("*/*") if path.name.isdigit()]
    return [path for path in steps if not all((path / item).exists() for item in items)]


Moment = Callable[[subprocess.Popen[bytes], Path], None]


def any_time(rng: random.Random, seconds: float) -> Moment:
    """Anywhere in a run: while it starts, compiles, trains."""
    delay = rng.uniform(0, seconds)

    def wait(process: subprocess.Popen[bytes], workdir: Path) -> None:
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            return

    return wait


def in_a_save(rng: random.Random) -> Moment:
    """A little after a save began; not always the first."""
    number, delay = rng.randint(1, 3), rng.uniform(0, 0.06)

    def wait(process: subprocess.Popen[bytes], workdir: Path) -> None:
        seen = saves(workdir)
        begun = 0
        while process.poll() is None and begun < number:
            new = saves(workdir) - seen
            begun += len({path for path, _ in new})
            seen |= new
            time.sleep(0.001)
        time.sleep(delay)

    return wait


def after_a_step(rng: random.Random) -> Moment:
    """Somewhere in the quick part: steps, logs, checkpoints, weights, the change of stages."""
    delay = rng.uniform(0, 2.0)

    def wait(process: subprocess.Popen[bytes], workdir: Path) -> None:
        scalars = workdir / "scalars.jsonl"
        before = scalars.stat().st_mtime_ns if scalars.exists() else 0
        while process.poll() is None and (not scalars.exists() or scalars.stat().st_mtime_ns == before):
            time.sleep(0.002)
        time.sleep(delay)

    return wait


def kill_again_and_again(
    runs: Runs, kills: int, moments: Callable[[random.Random, float], Moment], *, twice: bool = True
) -> Counter[str]:
    """Kill runs ``kills`` times; each is started again until it ends, and must then equal one that was left alone.

    Args:
      runs: how to start them.
      kills: how often.
      moments: when, from a generator and the seconds that a run takes.
      twice: let a second run alone, for those seconds without compiling; the two must be the same.

    Returns:
      Where the kills hit, for a person.
    """
    rng = random.Random(2026)
    reference = runs.folder / "reference"
    runs.finish(reference)
    done = [runs.folder / "warm"] if twice else []
    seconds = runs.finish(done[0]) if twice else 0.0
    expected, weights = numbers(reference), (reference / "weights.safetensors").read_bytes()
    hits: Counter[str] = Counter()
    while hits.total() < kills:
        workdir = runs.folder / f"killed_{len(done)}"
        while hits.total() < kills:
            before = numbers(workdir)
            process = runs.start(workdir)
            try:
                moments(rng, seconds)(process, workdir)
            finally:
                process.kill()
            status = process.wait(TIMEOUT)
            if status == 0:
                break
            assert status == -signal.SIGKILL, (runs.folder / "output.txt").read_text()[-4000:]
            now = numbers(workdir)
            # Whatever is logged is what the undisturbed run logged there: no step twice, none left out.
            for stage in {record["stage"] for record in expected}:
                logged = [record for record in now if record["stage"] == stage]
                assert logged == [record for record in expected if record["stage"] == stage][: len(logged)]
            hits[where_hit(workdir, changed=now != before)] += 1
        runs.finish(workdir)
        done.append(workdir)
    for workdir in done:
        assert numbers(workdir) == expected
        assert (workdir / "weights.safetensors").read_bytes() == weights
        assert json.loads((workdir / "config.json").read_text()) == json.loads((reference / "config.json").read_text())
        assert set(json.loads((workdir / "summary.json").read_text())) == {"train_seconds"}
        assert not saves(workdir)
        assert not half_deleted(workdir)
        assert not list(workdir.glob(".jaxcolor-*"))
        kept = {path.relative_to(workdir) for path in workdir.glob("*/*") if path.name.isdigit()}
        assert kept == {path.relative_to(reference) for path in reference.glob("*/*") if path.name.isdigit()}
    return hits


def where_hit(workdir: Path, *, changed: bool) -> str:
    if saves(workdir):
        return "in a save"
    if half_deleted(workdir):
        return "while an old checkpoint was deleted"
    return "between saves" if changed else "before anything was logged"


@pytest.mark.slow
def test_two_kills(tmp_path: Path) -> None:
    hits = kill_again_and_again(
        Runs(tmp_path, "--config.stages=('full',)"), 2, lambda rng, seconds: in_a_save(rng), twice=False
    )
    assert hits.total() == 2


@pytest.mark.slow
def test_many_kills(tmp_path: Path) -> None:
    def moments(rng: random.Random, seconds: float) -> Moment:
        kind = rng.random()
        if kind < 0.6:
            return in_a_save(rng)
        return after_a_step(rng) if kind < 0.8 else any_time(rng, seconds)

    hits = kill_again_and_again(Runs(tmp_path), 24, moments)
    print(dict(hits))
    assert hits.total() == 24
    assert hits["in a save"] >= 4  # otherwise this tests less than it says

"""What `.ci/run` does where something cannot be installed; nothing is installed here."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CI_RUN = Path(__file__).resolve().parents[1] / ".ci" / "run"
OPTIONAL = {
    "PyTorch": "torch==",
    "torchvision or LiteRT": "requirements-ci.txt",
    "TensorFlow": "requirements-prepare.txt",
    "Sphinx": "requirements-docs.txt",
    "Chromium": "chromium-driver",
}


def ci_run(checkout: Path, failing: str, ci: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Runs a copy whose programs only note how they were called, and fail where ``failing`` is an argument's part."""
    programs = checkout / "bin"
    for path in (checkout / ".ci" / "run", programs / "x", checkout / ".venv" / "bin" / "x"):
        path.parent.mkdir(parents=True)
    shutil.copy(CI_RUN, checkout / ".ci" / "run")
    log = checkout / "log"
    note = f'call="${{0##*/}} $*"\necho "$call plain=${{JAXCOLOR_PLAIN_OPS:-}}" >>{log}'
    script = f'#!/bin/bash\n{note}\n[[ $call != *"{failing}"* ]]\n'
    for name in ("bin/make", "bin/apt-get", ".venv/bin/python"):
        (checkout / name).write_text(script)
        (checkout / name).chmod(0o755)
    for name in ("bash", "dirname", "env"):
        (programs / name).symlink_to(str(shutil.which(name)))
    environment = {"PATH": str(programs), "CI": ci}
    done = subprocess.run([checkout / ".ci" / "run"], env=environment, capture_output=True, text=True, timeout=60)
    return done, log.read_text().splitlines()


@pytest.mark.skipif(os.name != "posix" or shutil.which("bash") is None, reason="the script is for bash")
class TestCiRun:
    @pytest.mark.parametrize("name", OPTIONAL)
    def test_in_ci_nothing_may_be_missing(self, name: str, tmp_path: Path) -> None:
        done, calls = ci_run(tmp_path, OPTIONAL[name], "true")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == f"CI=true, and {name} cannot be installed"
        assert "make test plain=" not in calls

    def test_elsewhere_it_may_which_is_said(self, tmp_path: Path) -> None:
        for name, argument in OPTIONAL.items():
            done, calls = ci_run(tmp_path / argument, argument, "")
            assert done.returncode == 0, done.stderr
            assert f"no {name} here: the tests that need it will skip" in done.stdout.splitlines()
            assert len(done.stdout.splitlines()) == 1
            assert "make test plain=" in calls

    def test_lint_tests_and_the_goldens_with_plain_ops_must_pass(self, tmp_path: Path) -> None:
        done, calls = ci_run(tmp_path / "all", "nothing fails", "true")
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert calls[0] == "make install plain="
        goldens = "tests/test_parity.py -k test_we_compute_what_the_reference_computed"
        assert set(calls[-3:-1]) == {"make lint plain=", f"python -m pytest {goldens} plain=1"}
        assert calls[-1] == "make test plain="
        for step in ("make install", "make lint", "make test", "tests/test_parity.py"):
            done, calls = ci_run(tmp_path / re.sub(r"\W", "_", step), step, "")
            assert done.returncode != 0
            assert any(step in call for call in calls[-2:])
            assert ("make test plain=" in calls) == (step == "make test")


@pytest.mark.parametrize("name", ["requirements-prepare.txt", "requirements-docs.txt"])
def test_pins_of_all_files_agree(name: str) -> None:
    """What is installed last must not replace what the tests were meant to run with."""
    pins, base = pinned(name), pinned("requirements.txt")
    assert {
        package: versions for package, versions in pins.items() if not versions <= base.get(package, versions)
    } == {}


def pinned(name: str) -> dict[str, set[str]]:
    """Package -> its versions, of which each Python gets one."""
    found: dict[str, set[str]] = {}
    lines = (CI_RUN.parents[1] / name).read_text(encoding="utf-8")
    for package, version in re.findall(r"^([\w.-]+)==([^\s;]+)", lines, re.MULTILINE):
        found.setdefault(package, set()).add(version)
    assert len(found) > 50
    return found

"""One run at a time in a folder, and who it is."""

import os
import platform
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.owner import LOCK, FolderInUseError, owned_folder

HOLD = """
import sys, time
from pathlib import Path
from jaxcolor.runtime.owner import owned_folder
with owned_folder(Path(sys.argv[1]), "--workdir"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that owns the folder ``run``."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_run_is_told_who_is_there(other, tmp_path):
    with pytest.raises(FolderInUseError) as error, owned_folder(tmp_path / "run", "--workdir"):
        pytest.fail("two at once")
    said = str(error.value)
    assert said.startswith(f"--workdir {tmp_path}/run: another run is at work in it (host {platform.node()}, ")
    assert f"process {other.pid}, since 20" in said
    assert said.endswith("); wait for it, or name another folder")
    assert "\n" not in said


def test_a_run_that_was_killed_owns_nothing(other, tmp_path):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / "run" / LOCK).exists()
    with owned_folder(tmp_path / "run", "--workdir"):
        assert str(os.getpid()) in (tmp_path / "run" / LOCK).read_text()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_run_within_a_run_is_the_same_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with owned_folder(Path("run"), "--workdir"):
        with owned_folder(tmp_path / "run", "--output"), owned_folder(Path("run/part"), "--workdir"):
            pass
        assert (tmp_path / "run" / LOCK).exists()


def test_another_thread_is_another_run(tmp_path):
    found = []

    def run():
        try:
            with owned_folder(tmp_path, "--workdir"):
                found.append(None)
        except UserError as error:
            found.append(str(error))

    with owned_folder(tmp_path, "--workdir"):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert found[0].startswith(f"--workdir {tmp_path}: another run is at work in it (host ")
    assert list(tmp_path.iterdir()) == []


def test_what_was_made_for_nothing_goes_again(tmp_path):
    with pytest.raises(UserError, match="no photos"), owned_folder(tmp_path / "a" / "b", "--workdir"):
        raise UserError("no photos")
    assert list(tmp_path.iterdir()) == []
    with owned_folder(tmp_path / "a" / "b", "--workdir"):
        (tmp_path / "a" / "b" / "result").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["result"]


@pytest.mark.parametrize("name", ["file", "file/run"])
def test_a_file_in_the_way(name, tmp_path):
    (tmp_path / "file").write_text("precious")
    refused = pytest.raises(UserError, match=f"--output {tmp_path}/{name}: {tmp_path}/file is a file")
    with refused, owned_folder(tmp_path / name, "--output"):
        pytest.fail("not a folder")
    assert (tmp_path / "file").read_text() == "precious"

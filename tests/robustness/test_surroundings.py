"""Where programs run: without a home folder, without the devices asked for, with paths of other machines."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxcolor.cli import main
from jaxcolor.config import Config, DataConfig
from jaxcolor.data.sources.tfds import find_data_set
from jaxcolor.data.types import DataError
from jaxcolor.runtime import compile_cache
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.local_path import local_path, with_local_paths
from jaxcolor.weights import native
from jaxcolor.weights.reference import WeightsError


@pytest.fixture
def homeless(monkeypatch):
    """No HOME, and a user that the system does not know."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setitem(jax.config.values, "jax_compilation_cache_dir", None)


def test_without_a_home_nothing_is_kept(homeless):
    with compile_cache.compile_cache():
        assert jax.config.values["jax_compilation_cache_dir"] is None
    with pytest.raises(UserError, match=r"^~/runs: there is no home folder here"):
        local_path("~/runs")
    with pytest.raises(DataError, match=r"^data\.data_dir: there is no home folder here"):
        find_data_set("coco", "")


def test_paths_as_people_write_them(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/runs") == tmp_path / "runs"
    assert local_path("~$photo.jpg") == Path("~$photo.jpg")
    assert local_path("a:b/~/c") == Path("a:b/~/c")
    config = with_local_paths(Config(name="~", data=DataConfig(path="~/photos")))
    assert (config.name, config.data.path) == ("~", str(tmp_path / "photos"))
    with pytest.raises(UserError, match=r"^config\.data\.path: gs://bucket/photos: an address"):
        with_local_paths(Config(data=DataConfig(path="gs://bucket/photos")))


@pytest.mark.parametrize("address", ["gs://bucket/out", "s3://bucket/out", "https://example.org/out"])
def test_a_path_of_another_machine_is_refused(address, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["colorize", "photo.jpg", "-w", "w.safetensors", "-o", address])
    assert stop.value.code == 2
    assert (
        f"argument -o/--output: {address}: an address, where a path of this machine must be" in capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("program", ["train.py", "eval.py"])
def test_a_workdir_on_another_machine_is_refused(program, tmp_path):
    root = Path(__file__).parents[2]
    arguments = [str(root / program), "--config", str(root / "configs" / "smoke.py"), "--workdir", "gs://bucket/run"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"{program}: gs://bucket/run: an address")
    assert not list(tmp_path.iterdir())


def test_a_device_that_there_is_not(tmp_path):
    code = "import sys; from jaxcolor.cli import main; sys.exit(main())"
    arguments = ["colorize", "photo.jpg", "-w", "w.safetensors", "-o", "out"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "no_such"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("jaxcolor colorize: JAX_PLATFORMS=no_such: JAX has no such device")
    assert "Traceback" not in done.stderr


def test_files_of_another_kind_name_the_command_that_turns_them(tmp_path, capsys):
    (tmp_path / "w.pth").write_bytes(b"PK\x03\x04 not one of ours")
    with pytest.raises(WeightsError, match=r"w\.pth: a file of PyTorch's by its name; jaxcolor convert .*w\.pth"):
        native.load(tmp_path / "w.pth")
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "w.safetensors")
    with pytest.raises(SystemExit):
        main(["convert", str(tmp_path / "w.safetensors"), str(tmp_path / "out.safetensors")])
    assert "ends in .safetensors: --to-reference makes .pth files of it" in capsys.readouterr().err

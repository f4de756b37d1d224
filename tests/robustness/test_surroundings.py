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
from jaxcolor.data.sources.tfds import find_data_set
from jaxcolor.data.types import DataError
from jaxcolor.runtime import compile_cache
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.places import local_path
from jaxcolor.weights import native
from jaxcolor.weights.reference import WeightsError


@pytest.fixture
def homeless(monkeypatch):
    """No HOME, and a user that the system does not know."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)  # that of other tests
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_without_a_home_nothing_is_kept(homeless):
    with compile_cache.compile_cache():
        assert jax.config.values["jax_compilation_cache_dir"] is None
    with pytest.raises(UserError, match=r"^--workdir: ~/runs: there is no home folder here"):
        local_path("~/runs", "--workdir")
    with pytest.raises(DataError, match=r"^data\.data_dir: there is no home folder here"):
        find_data_set("coco", "")


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
    assert main(["convert", str(tmp_path / "w.safetensors"), str(tmp_path / "out.safetensors")]) == 1
    assert "w.safetensors: not a weights file of jaxcolor" in capsys.readouterr().err

"""The wheel: what a plain ``pip install`` has, default weights among it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from jaxcolor.config import ModelConfig
from jaxcolor.weights import native, packaged
from tests.small import variables

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ModelConfig(side=32, width=0.0625)

COLOR = """
import numpy as np
from jaxcolor import Colorizer
import jaxcolor
assert jaxcolor.__file__.startswith({place!r}), jaxcolor.__file__
print(Colorizer.from_pretrained()(np.full((8, 8), 100, np.uint8)).shape)
"""


@pytest.mark.slow
def test_weights_are_in_the_wheel_and_found(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "jaxcolor", source / "jaxcolor", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", source / "configs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    folder = source / "jaxcolor" / "weights" / "default"
    native.save(folder / "tiny.safetensors", CONFIG, {"full": variables(CONFIG)["full"]}, storage="int8")
    entry = packaged.register(folder, "default", "tiny.safetensors")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "-w", str(tmp_path), str(source)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("jaxcolor-*.whl")
    place = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    installed = place / "jaxcolor" / "weights" / "default"
    assert packaged.read_registry(installed)["default"] == entry
    assert (installed / "tiny.safetensors").read_bytes() == (folder / "tiny.safetensors").read_bytes()
    program = COLOR.format(place=str(place))
    environment = {**os.environ, "PYTHONPATH": str(place), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(8, 8, 3)\n"
    for path in (ROOT / "configs").rglob("*.py"):
        installed_config = place / "jaxcolor" / "configs" / path.relative_to(ROOT / "configs")
        assert installed_config.read_bytes() == path.read_bytes()
    command = [sys.executable, "-m", "jaxcolor", "train", "--config=smoke", "--config.name=elsewhere", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--config.name=elsewhere" in done.stdout
    assert "--config.model.side=32" in done.stdout

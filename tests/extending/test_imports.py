"""Who decides what is imported: the user, by a config or ``--import``, and never a file of weights."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from jaxcolor.cli import main
from jaxcolor.config import Config, FusionConfig, StageConfig
from jaxcolor.data.types import DataError
from jaxcolor.registries import BACKBONES, FUSION_STRATEGIES, OUTPUTS
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.registry import Registry
from jaxcolor.training import train
from jaxcolor.weights import native
from jaxcolor.weights.reference import WeightsError
from tests.small import MODEL, variables
from tests.training.test_train_program import DEMO, run

GATED = dataclasses.replace(MODEL, fusion=FusionConfig(strategy="gated", layers=("conv8_3",)))
MODULE = "extending_my_parts"


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that is there once the module of the user's has been imported, which is forgotten afterwards."""
    marker = tmp_path / "imported"
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / f"{MODULE}.py").write_text(
        f"from pathlib import Path\nfrom jaxcolor.models.gated import Gated\nPath({str(marker)!r}).touch()\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    yield marker
    sys.modules.pop(MODULE, None)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights whose fusion strategy is the user's."""
    path = tmp_path / "weights.safetensors"
    native.save(path, GATED, variables(GATED))
    rename(path, fusion={**dataclasses.asdict(GATED.fusion), "strategy": f"{MODULE}:Gated"})
    return path


def rename(path: Path, **fields: object) -> None:
    """Put other fields into the ``ModelConfig`` of a file's metadata."""
    with safe_open(path, framework="np") as file:
        about = json.loads(file.metadata()[native.METADATA_KEY])
    about["config"].update(fields)
    save_file(load_file(path), path, metadata={native.METADATA_KEY: json.dumps(about)})


PARTS: dict[str, dict[str, object]] = {
    "backbone": {"backbone": f"{MODULE}:Net"},
    "output": {"outputs": ["regression", f"{MODULE}:Head"]},
    "strategy": {"fusion": {"strategy": f"{MODULE}:Gated"}},
}


@pytest.mark.parametrize("fields", PARTS.values(), ids=PARTS)
def test_reading_weights_imports_nothing(fields: dict[str, object], tmp_path: Path, imported: Path) -> None:
    path = tmp_path / "weights.safetensors"
    native.save(path, MODEL, {"full": variables()["full"]})
    rename(path, **fields)
    advice = rf"import {MODULE} first \(jaxcolor colorize --import {MODULE}\)"
    with pytest.raises(WeightsError, match=rf"^{re.escape(str(path))}: weights need {MODULE}:\w+; {advice}$"):
        native.load(path)
    assert not imported.exists()
    assert MODULE not in sys.modules


@pytest.mark.parametrize("name", ["os:system", "json:no_such", f"{__name__}:GATED", "logging:Formatter.format"])
def test_what_is_imported_but_no_backbone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a module asked for attributes that it would make up, by importing others."""
    monkeypatch.setattr(json, "__getattr__", lambda attribute: pytest.fail(attribute), raising=False)
    path = tmp_path / "weights.safetensors"
    native.save(path, MODEL, {"full": variables()["full"]})
    rename(path, backbone=name)
    with pytest.raises(WeightsError, match=rf"need {name}, and the module \S+ of this process has no such backbone"):
        native.load(path)


def test_weights_that_name_what_is_imported(weights: Path, imported: Path) -> None:
    __import__(MODULE)
    assert native.load(weights).config.fusion.strategy == f"{MODULE}:Gated"


def test_the_commands_import_what_they_are_told(
    weights: Path, imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (20, 16), 120).save(tmp_path / "photo.png")
    colorize = ["colorize", str(tmp_path / "photo.png"), "-w", str(weights), "-o", str(tmp_path / "out")]
    convert = ["convert", "--to-reference", str(weights), str(tmp_path / "pth")]
    for command in (colorize, convert):
        assert main(command) == 1
        said = capsys.readouterr().err
        assert said.splitlines() == [
            f"jaxcolor {command[0]}: {weights}: weights need {MODULE}:Gated; import {MODULE} first "
            f"(jaxcolor colorize --import {MODULE})"
        ]
    assert not imported.exists()
    assert main([*colorize, "--import", "extending_nowhere"]) == 1
    assert "--import extending_nowhere: no module extending_nowhere; is its folder" in capsys.readouterr().err
    assert main([*colorize, "--import", MODULE]) == 0
    assert imported.exists()
    with Image.open(tmp_path / "out" / "photo.png") as result:
        assert result.size == (20, 16)
    assert main(convert) == 1
    assert f"model.fusion.strategy is '{MODULE}:Gated', the reference's is 'learned'" in capsys.readouterr().err


def test_a_runs_own_config_imports_what_it_names(weights: Path, imported: Path, tmp_path: Path) -> None:
    mine = dataclasses.replace(GATED, fusion=dataclasses.replace(GATED.fusion, strategy=f"{MODULE}:Gated"))
    config = Config(model=mine, stages=("fusion",), start_from=str(weights), fusion=StageConfig(steps=0))
    with pytest.raises(DataError, match=r"data\.path"):  # the weights are read, then photos are looked for
        train.train(config, tmp_path / "run")
    assert imported.exists()


@pytest.mark.parametrize(
    ("registry", "name", "said"),
    [
        (BACKBONES, "jaxcolor.models.gated:Gated", "is the class Gated, which is no subclass of {}.backbone.Backbone"),
        (
            FUSION_STRATEGIES,
            "jaxcolor.models.fusion:fused_taps",
            "is of type function, which is no subclass of {}",
        ),
        (OUTPUTS, "jaxcolor.models.outputs.classes:WEIGHTS", "is of type str, which is no subclass of {}.outputs"),
    ],
    ids=["backbone", "strategy", "output"],
)
def test_what_is_no_part(registry: Registry, name: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"{name!r}: {said.format('jaxcolor.models')}")):
        registry.get(name)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (
            "model.backbone=unett",
            "config.model.backbone: backbone 'unett': no such name; did you mean unet? built in are",
        ),
        (
            "model.fusion.strategy=gatd",
            "config.model.fusion.strategy: fusion strategy 'gatd': no such name; did you mean gated? built in are",
        ),
        (
            "model.outputs=('regresion',)",
            "config.model.outputs: output head 'regresion': no such name; did you mean regression? built in are",
        ),
        (
            "model.backbone=extending_nowhere.nets:Net",
            "backbone 'extending_nowhere.nets:Net': no module extending_nowhere; is its folder on PYTHONPATH?",
        ),
    ],
)
def test_wrong_names_stop_the_program(flag: str, message: str, tmp_path: Path) -> None:
    done = run(DEMO, f"--workdir={tmp_path / 'run'}", f"--config.{flag}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("train.py: ")
    assert message in line
    assert not (tmp_path / "run").exists()

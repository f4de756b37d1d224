"""``--help`` of the programs: all fields of a config, what they mean, and exit status 0."""

import dataclasses
import os
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxcolor import cli
from jaxcolor.config import Config, DataConfig, StageConfig
from jaxcolor.runtime.config_help import asks_for_help, field_docs, first_sentence, without_help

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)


def field_names(kind: type, prefix: str) -> Iterator[str]:
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from field_names(typing.cast(type, hint), f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}"


@pytest.mark.parametrize("program", ["train.py", "eval.py"])
def test_the_script_lists_every_field_with_its_default(program: str) -> None:
    done = run(ROOT, program, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python {program} --config CONFIG ")
    values = dict(re.findall(r"^  (--config\.[a-z_0-9.]+)=(.*)$", done.stdout, re.MULTILINE))
    assert set(values) == set(field_names(Config, "--config"))
    assert values["--config.model.side"] == "256"
    assert values["--config.fusion.learning_rate"] == "5e-05"
    assert values["--config.full.learning_rate"] == "0.0005"
    side = "Side S of the square canvas, the networks' input resolution, in pixels; a multiple of 8."
    assert f"\n      {side}\n" in done.stdout
    assert "(float32 | bfloat16 | float64)" in done.stdout
    assert done.stdout.count("Photos in a step, over all devices.") == 1  # once for the three stages
    assert "\n  smoke " in done.stdout
    assert ("\n  eval/coco_stuff " in done.stdout) == (program == "eval.py")
    assert "--coordinator" in done.stdout


def test_the_command_shows_the_values_of_the_config_that_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "jaxcolor", "train", "--config=smoke", "-h", "--config.full.steps=7")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: jaxcolor train --config CONFIG ")
    for line in ("--config.name=smoke", "--config.model.side=32", "--config.full.steps=7", "--config.fusion.steps=10"):
        assert f"\n  {line}\n" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("train", "--workdir=W", "--config=smok"),
            "jaxcolor train: --config: smok: no such file, and no such config; ",
        ),
        (("train", "--config=smoke"), "jaxcolor train: --workdir is missing; see jaxcolor train --help\n"),
        (("eval", "--config=coco_stuff", "--workdir=W"), "jaxcolor eval: there is nothing to evaluate: give --weights"),
    ],
)
def test_the_command_elsewhere(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "jaxcolor", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(said)
    assert not list(tmp_path.iterdir())


def test_the_tour(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for command in ("colorize", "web", "convert", "export", "boxes", "data", "study", "train", "eval"):
        assert f"\n    {command} " in said
    assert "jaxcolor train --config smoke" in said


@pytest.mark.parametrize(
    ("words", "asks"),
    [
        (["--help"], True),
        (["--config=a", "-h"], True),
        (["-?"], True),
        (["--", "--help"], False),
        (["help", "--helping", "--workdir=--help"], False),
    ],
)
def test_who_asks_for_help(words: list[str], asks: bool) -> None:
    assert asks_for_help(words) == asks
    assert (without_help(words) != words) == asks or "--" in words


def test_docs_are_those_in_the_source() -> None:
    docs = field_docs(StageConfig)
    assert docs["learning_rate"] == "The highest one."
    assert docs["flip"] == "Mirror half of the photos left to right in this stage."
    assert docs["minutes"].endswith("the learning rate follows the clock.")
    assert field_docs(DataConfig)["source"].endswith("-> Source.")  # of values all of them
    assert first_sentence("As in ``0.5 x``. More.\n    Even more.") == "As in 0.5 x."

"""Files and fields of the command line that do not exist: told with their place and the nearest name."""

import sys
from pathlib import Path
from typing import Any

import pytest
from absl import flags
from ml_collections import config_flags

from jaxcolor.ablation.plan import Ablation
from jaxcolor.config import Config, ConfigError
from jaxcolor.config_io import from_dict
from jaxcolor.runtime import program
from jaxcolor.runtime.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RUNS = sorted(path for path in CONFIGS.rglob("*.py") if path.parent.name != "own_boxes")
"""Those of a whole model; the head that finds boxes has none of its own."""


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--config.data.pathh=P", "--config.data.pathh: no such field of data; did you mean path?"),
        ("-config.modle.width=1", "--config.modle: no such field of the config; did you mean model?"),
        (
            "--config.model.fusion.outsid",
            "--config.model.fusion.outsid: no such field of model.fusion; did you mean outside?",
        ),
        (
            "--config.learning_rate=1",
            "--config.learning_rate: no such field of the config; "
            "did you mean full.learning_rate, instance.learning_rate, fusion.learning_rate?",
        ),
        (
            "--config.model.fusion.zzz=1",
            "--config.model.fusion.zzz: no such field of model.fusion; known: strategy, outside, layers, head_channels",
        ),
        ("--config.seed.more=1", "--config.seed.more: seed is a value, not a group of fields"),
        (
            "--config.model.fusion=1",
            "--config.model.fusion: a group of fields; name one: strategy, outside, layers, head_channels",
        ),
    ],
)
def test_what_does_not_exist(argument: str, said: str) -> None:
    assert program.unknown_field("config", argument) == said


@pytest.mark.parametrize(
    "argument",
    [
        "--config.data.path=a.b.c=d",
        "--config.full.flip",
        "--config.model.fusion.layers=encoder",
        "--config.eval.data.scenes.overlap=True",
        "--config=configs/demo.py",
        "--configs.nothing=1",
        "--workdir=config.modle",
        "config.modle",
    ],
)
def test_what_is_no_mistake(argument: str) -> None:
    assert program.unknown_field("config", argument) is None


@pytest.mark.parametrize(
    ("words", "resolved"),
    [
        (["--config=mine.py"], ["--config=mine.py"]),
        (["-config", "mine.py:small", "--more"], ["-config", "mine.py:small", "--more"]),
        (["--config=smoke"], [f"--config={CONFIGS / 'smoke.py'}"]),
        (
            ["--workdir=W", "--config", "reference:large"],
            ["--workdir=W", "--config", f"{CONFIGS / 'reference.py'}:large"],
        ),
        (["--config=/dev/null"], ["--config=/dev/null"]),  # as a pipe: no regular file, but one that can be read
        (["--config="], ["--config="]),
        (["--config"], ["--config"]),
        (["--config.seed=1"], ["--config.seed=1"]),
        (["--configs=none.py"], ["--configs=none.py"]),
        (["config=none.py"], ["config=none.py"]),
        (["--", "--config=none.py"], ["--", "--config=none.py"]),
    ],
)
def test_a_name_becomes_a_file(
    words: list[str], resolved: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").touch()
    assert program.with_config_file("config", ["train.py", *words]) == ["train.py", *resolved]


def test_a_file_that_is_not_there_is_said_with_the_flag() -> None:
    with pytest.raises(UserError, match=r"^--config: smoek: no such file, and no such config; did you mean smoke\?$"):
        program.with_config_file("config", ["train.py", "--config=smoek"])


def parsed(path: Path, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The config of a training run (of an ablation the base) that the command line gives."""
    command = ["program", f"--config={path}", *arguments]
    monkeypatch.setattr(sys, "argv", command)
    values = flags.FlagValues()
    holder: Any = config_flags.DEFINE_config_file("config", flag_values=values, lock_config=True)
    values(command)
    if path.parent.name == "ablation":
        return from_dict(Ablation, holder.value.to_dict()).base
    return from_dict(Config, holder.value.to_dict())


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # how ml_collections loads a file
@pytest.mark.parametrize("path", RUNS, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_fields_of_several_types_can_be_any_of_them_in_every_config(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the config has the other type: a tuple of layers replaced by a name, a name by a tuple."""
    base = "--config.base" if path.parent.name == "ablation" else "--config"
    for argument, expected in (
        ("encoder", "encoder"),
        ("none", "none"),
        ("conv1_2,conv9_up", "conv1_2,conv9_up"),
        ("('conv1_2','conv9_up')", ("conv1_2", "conv9_up")),
    ):
        config = parsed(path, f"{base}.model.fusion.layers={argument}", monkeypatch=monkeypatch)
        assert config.model.fusion.layers == expected
    assert parsed(path, f"{base}.eval.metrics=", monkeypatch=monkeypatch).eval.metrics == ""
    with pytest.raises(ConfigError, match=r"model\.fusion\.layers: 3 is not a list of names"):
        parsed(path, f"{base}.model.fusion.layers=3", monkeypatch=monkeypatch)

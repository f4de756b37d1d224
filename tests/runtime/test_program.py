"""Files and fields of the command line that do not exist: told with their place and the nearest name."""

from pathlib import Path

import pytest

from jaxcolor.runtime import program


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
    ("words", "said"),
    [
        (["--config=demo.py"], None),
        (["-config", "demo.py:small"], None),
        (["--config", "demo.p"], "--config: demo.p: no such file; did you mean demo.py?"),
        (["--config=more/dmo.py:small"], "--config: more/dmo.py: no such file; did you mean more/demo.py?"),
        (["--config=none/demo.py"], "--config: none/demo.py: no such file"),
        (["--config=more"], "--config: more: no such file"),
        (["--config", 300 * "x"], f"--config: {300 * 'x'}: no such file"),
        (["--config", 300 * "x" + "/y"], f"--config: {300 * 'x'}/y: no such file"),
        (["--config=/dev/null"], None),  # as a pipe: no regular file, but one that can be read
        (["--config="], None),
        (["--config"], None),
        (["--config.seed=1"], None),
        (["--configs=none.py"], None),
        (["config=none.py"], None),
    ],
)
def test_a_file_that_is_not_there(
    words: list[str], said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more").mkdir()
    for name in ("demo.py", "photos.py", "more/demo.py"):
        (tmp_path / name).touch()
    argument, after = [*words, ""][:2]
    assert program.missing_file("config", argument, after) == said

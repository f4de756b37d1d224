"""Places on other machines, and the home folder."""

import argparse
from pathlib import Path
from typing import Any

import pytest
from absl import flags

from jaxcolor import Colorizer
from jaxcolor.cli import main
from jaxcolor.config import Config, ConfigError, DataConfig
from jaxcolor.config_io import from_dict
from jaxcolor.data.sources.registry import open_source
from jaxcolor.inference.photos import read_photo
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.places import check_arguments, check_flags, local_path
from jaxcolor.training.train import train
from tests.training.runs import ONLY_FULL

ADDRESSES = ["gs://bucket/run", "s3://bucket/run", "https://host/w.safetensors", "file:///home/me/run", "hf://a/b"]
LOCAL = ["runs/demo", "/gs/run", "C:/run", "a:b/c", "gs", "imagenet2012", "coco/2017", "train[:10%]", "~backup", "x~"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder beside an empty home folder."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("kind", [str, Path])
def test_addresses_are_refused(address: str, kind: Any) -> None:
    with pytest.raises(UserError, match=r"^--workdir: \w+://\S+: not a place on this machine, .*; mount it") as error:
        local_path(kind(address), "--workdir")
    assert "\n" not in str(error.value)
    if not address.startswith("file"):
        assert f" {address}:" in str(error.value)


@pytest.mark.parametrize("place", [*LOCAL, "vgg16:/home/me/vgg16.npz", ""])
def test_other_places_stay_as_they_are(place: str) -> None:
    assert local_path(place, "x") == place


def test_the_home_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = str(here.with_name("home"))
    assert local_path("~/runs/a", "x") == f"{home}/runs/a"
    assert local_path(Path("~"), "x") == home
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # a user without a home folder
    with pytest.raises(UserError, match=r"x: ~/runs: there is no home folder here; give the whole path"):
        local_path("~/runs", "x")


def test_fields_of_a_config(here: Path) -> None:
    home = str(here.with_name("home"))
    made = from_dict(Config, {"data": {"path": "~/photos", "split": "train"}, "start_from": "vgg16:~/vgg16.npz"})
    assert (made.data.path, made.start_from) == (f"{home}/photos", f"vgg16:{home}/vgg16.npz")
    with pytest.raises(
        ConfigError, match=r"^config\.eval\.data\.index_path: gs://b/i\.npz: not a place on this machine"
    ):
        from_dict(Config, {"eval": {"data": {"index_path": "gs://b/i.npz"}}})


def test_flags_of_a_program(here: Path) -> None:
    home = str(here.with_name("home"))
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    flags.DEFINE_string("config", None, "", flag_values=values)
    flags.DEFINE_multi_string("predictions", [], "", flag_values=values)
    values(["eval.py", "--workdir=~/run", "--predictions=theirs=~/theirs", "--predictions=a=b", "--config=s3://x"])
    check_flags(values, "config")
    assert (values.workdir, values.predictions) == (f"{home}/run", [f"theirs={home}/theirs", "a=b"])
    values(["eval.py", "--predictions=theirs=s3://b/theirs"])
    with pytest.raises(UserError, match=r"^--predictions: s3://b/theirs: not a place on this machine"):
        check_flags(values, "config")
    values(["eval.py", "--workdir=gs://b/run"])
    with pytest.raises(UserError, match=r"^--workdir: gs://b/run: not a place on this machine"):
        check_flags(values, "config")


COMMANDS = {
    "colorize": ["a.png", "-w", "w.safetensors", "-o", "PLACE"],
    "colorize ": ["PLACE", "-w", "w.safetensors", "-o", "out"],
    "convert": ["a.pth", "PLACE/w.safetensors"],
    "boxes": ["pack", "boxes", "-o", "PLACE"],
    "boxes  ": ["detect", "photos", "-o", "PLACE", "--detector", "x"],
    "boxes ": ["show", "PLACE"],
    "boxes   ": ["detect", "photos", "-o", "store", "--detector", "PLACE/yolo.onnx"],
    "study": ["make", "--systems", "ours=a", "theirs=PLACE", "-o", "study"],
    "study ": ["analyse", "study", "PLACE", "-o", "out"],
    "data": ["pack", "photos", "-o", "PLACE"],
    "data ": ["prior", "photos", "-o", "PLACE/p.npz"],
}


@pytest.mark.parametrize("place", ["gs://bucket/x", "s3://bucket/x"])
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_refuse_before_anything_is_made(
    command: str, place: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command.strip(), *(word.replace("PLACE", place) for word in COMMANDS[command])]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"jaxcolor {command.strip()}: --")
    assert f": {place}" in said
    assert "not a place on this machine" in said
    assert said.count("\n") == 1
    assert not list(here.iterdir())


def test_arguments_below_the_home_folder(here: Path) -> None:
    home = here.with_name("home")
    options = argparse.Namespace(
        output=Path("~/out"), photos=[Path("~/a.png"), Path("b.png")], data_dir="~/d", note="~/n"
    )
    check_arguments(options)
    assert options == argparse.Namespace(
        output=home / "out", photos=[home / "a.png", Path("b.png")], data_dir=str(home / "d"), note="~/n"
    )


def test_from_python(here: Path) -> None:
    with pytest.raises(UserError, match=r"--workdir: gs://bucket/run: not a place"):
        train(ONLY_FULL, Path("gs://bucket/run"))
    (here / "a.png").touch()
    with pytest.raises(UserError, match=r"data\.index_path: gs://bucket/i\.npz: not a place"):
        open_source(DataConfig(path=str(here), index_path="gs://bucket/i.npz", missing_boxes="none"))
    (here / "a.png").unlink()
    with pytest.raises(UserError, match=r"weights: https://host/w: not a place"):
        Colorizer.from_pretrained("https://host/w")
    with pytest.raises(ValueError, match=r"photo: s3://bucket/a\.png: not a place"):
        read_photo("s3://bucket/a.png")
    with pytest.raises(ValueError, match=rf"{here.with_name('home')}/a\.png: cannot read this photo"):
        read_photo("~/a.png")
    assert not list(here.iterdir())

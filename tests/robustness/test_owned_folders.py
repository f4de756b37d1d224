"""A second run in a folder that another one is at work in: refused at its start, by every program."""

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from jaxcolor.ablation.plan import Ablation, Variant
from jaxcolor.ablation.run import run_ablation
from jaxcolor.cli import main
from jaxcolor.config import Config
from jaxcolor.demo import run_demo
from jaxcolor.evaluation.run import evaluate_files
from jaxcolor.runtime.owner import FolderInUseError, owned_folder
from jaxcolor.training import train

CONFIG = dataclasses.replace(Config(), data=dataclasses.replace(Config().data, source="scenes"))


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A folder that another run, here of another thread, owns until the end of the test."""
    owned, over = threading.Event(), threading.Event()

    def own() -> None:
        with owned_folder(tmp_path / "run", "--workdir"):
            owned.set()
            over.wait()

    thread = threading.Thread(target=own)
    thread.start()
    assert owned.wait(60)
    yield tmp_path / "run"
    over.set()
    thread.join()


@pytest.mark.parametrize("program", ["train", "eval", "ablation", "demo"])
def test_programs(program: str, held: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "make_source", lambda *arguments: pytest.fail("photos were read"))
    runs = {
        "train": lambda: train.train(CONFIG, held),
        "eval": lambda: evaluate_files(CONFIG, Path("no_such.safetensors"), held),
        "ablation": lambda: run_ablation(Ablation("two", CONFIG, variants=(Variant("a"),)), held),
        "demo": lambda: run_demo(CONFIG, held),
    }
    before = sorted(held.iterdir())
    with pytest.raises(FolderInUseError, match=f"--workdir {held}: another run is at work in it .host .*, process "):
        runs[program]()
    assert sorted(held.iterdir()) == before


def test_colorize(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save(held.parent / "photo.png")
    assert main(["colorize", str(held.parent / "photo.png"), "-w", "no_such.safetensors", "-o", str(held)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"jaxcolor colorize: --output {held}: another run is at work in it (host ")

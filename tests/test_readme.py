"""The README: every command and every piece of code in it is run here, those that train or install with `slow`."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from PIL import Image

import jaxcolor
from jaxcolor import cli, demo_photos
from jaxcolor.config import Config
from jaxcolor.config_io import from_dict
from jaxcolor.demo import write_photos
from jaxcolor.weights import names, native, packaged
from tests import quick, recipe, small
from tests.evaluation import batches
from tests.inference import choice

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SPANS = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", re.sub(r"(?ms)^```.*?^```$", "", README))]
PROGRAMS = ("jaxcolor", "python", "pip", "make", "git", "ls", ".")


def shell_commands(block: str) -> list[str]:
    """Commands of a block, without comments, each on one line."""
    lines = re.sub(r"\\\n\s*", "", block).splitlines()
    return [" ".join(line.partition("#")[0].split()) for line in lines if line.partition("#")[0].strip()]


NAMES = [f"jaxcolor {add.__name__.removeprefix('add_')}" for add in cli.COMMANDS]
"""Of commands, without what they need to run."""
COMMANDS = [command for language, block in BLOCKS if language == "sh" for command in shell_commands(block)]
COMMANDS += [span for span in SPANS if span.split()[0] in PROGRAMS and " " in span and span not in NAMES]

TESTED: set[str] = set()
Test = TypeVar("Test", bound=Callable[..., object])


def runs(*commands: str) -> Callable[[Test], Test]:
    """Marks the test that runs these commands of the README."""
    TESTED.update(commands)
    return lambda test: test


def test_every_command_has_a_test() -> None:
    """A command that is new, or written otherwise, gets one of the tests below."""
    assert set(COMMANDS) == TESTED
    assert {language for language, _ in BLOCKS} == {"sh", "python", "bibtex"}


def test_a_new_command_would_be_found() -> None:
    block = "make a  # b\n# nothing\npython c.py \\\n    --d=e\n\n"
    assert shell_commands(block) == ["make a", "python c.py --d=e"]


def test_what_is_named_is_there() -> None:
    files = {span for span in SPANS if re.fullmatch(r"configs/[\w/]+(\.py|/)", span)}
    assert len(files) > 8
    files |= set(re.findall(r"\]\((?!https?:)([^)#]+)", README))
    assert [name for name in sorted(files) if not (ROOT / name).exists()] == []


def test_nothing_outside_of_the_repository_is_named() -> None:
    pages = [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".md", ".rst", ".ipynb")]
    for path in [*ROOT.glob("*.md"), *pages]:
        assert "../shared" not in path.read_text(encoding="utf-8"), path


@runs("pip install './jaxcolor[web]'", "pip install -e '.[torch]'", "pip install -e '.[cuda]'")
def test_extras_are_there() -> None:
    named = set(re.findall(r"\[(\w+)\]'", " ".join(COMMANDS + SPANS)))
    assert named == {"web", "torch", "cuda", "tpu"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert named <= project["optional-dependencies"].keys()


COLORING = (
    "jaxcolor colorize old.jpg",
    "jaxcolor colorize old.jpg --vivid 0.75 --side-by-side --force",
    "jaxcolor colorize runs/demo/photos -w runs/demo/weights.safetensors -o colored",
    "jaxcolor colorize old_photos/ -w coco.safetensors -o colored",
    "jaxcolor convert coco.safetensors small.safetensors --storage int8",
    "jaxcolor colorize FRAMES_FOLDER --film",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the README's reader stands: photos, what the demo leaves, weights; the latter of small networks."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copy(demo_photos.FOLDER / "chelsea.jpg", folder / "old.jpg")
    for name in ("old_photos", "FRAMES_FOLDER"):
        (folder / name).mkdir()
    for number in range(2):
        Image.fromarray(choice.gray_photo(40, 60)).save(folder / "FRAMES_FOLDER" / f"{number}.png")
    Image.fromarray(choice.gray_photo(40, 60)).save(folder / "old_photos" / "1910.png")
    write_photos(demo_config(), folder / "runs" / "demo" / "photos")
    for path in ("runs/demo/weights.safetensors", "coco.safetensors"):
        native.save(folder / path, batches.MODEL, small.variables(batches.MODEL))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # A quarter of the computation; the default weights are looked at in inference/test_package_weights.py.
        patch.setattr(packaged, "DEFAULT", packaged.FAST)
        yield folder


def demo_config() -> Config:
    spec = importlib.util.spec_from_file_location("demo_config", ROOT / "configs" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return from_dict(Config, module.get_config().to_dict())


def pictures(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            found[path.name] = np.asarray(image.convert("RGB"))
    return found


@runs(*COLORING)
def test_coloring(folder: Path) -> None:
    for command in COLORING:
        program, *arguments = shlex.split(command)
        assert program == "jaxcolor"
        assert cli.main(arguments) == 0, command
    beside = pictures(folder)
    assert beside.keys() == {"old_color.png", "old_color.side_by_side.png"}
    with Image.open("old.jpg") as given:
        assert beside["old_color.png"].shape == (given.height, given.width, 3)
    assert np.ptp(beside["old_color.png"].astype(int), axis=-1).max() > 30
    assert pictures(folder / "colored").keys() == {"1910.png", *pictures(folder / "runs" / "demo" / "photos")}
    assert native.load("small.safetensors").trees == native.load("coco.safetensors").trees


@pytest.mark.parametrize("number", range(sum(language == "python" for language, _ in BLOCKS)))
def test_code(folder: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "DEFAULT", "default")  # whose head finds boxes
    block = [block for language, block in BLOCKS if language == "python"][number]
    (folder / "colored.png").unlink(missing_ok=True)
    found: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), found)
    result = found["result"] if "result" in found else pictures(folder)["colored.png"]
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.uint8
    assert np.ptp(result.astype(int), axis=-1).max() > 0


def python(command: str, *flags: str, cwd: Path = ROOT) -> str:
    """Runs a command that begins with ``python``, and returns what it prints."""
    program, *arguments = shlex.split(command)
    assert program == "python"
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": quick.FLAGS,
    }
    command_line = [sys.executable, *arguments, *flags]
    done = subprocess.run(command_line, capture_output=True, text=True, cwd=cwd, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@runs("jaxcolor train", "jaxcolor eval")
@pytest.mark.parametrize("command", ["train", "eval"])
def test_the_two_scripts_as_commands(command: str) -> None:
    """Their own tests run them; here they list what can be set."""
    assert "--config" in python(f"python -m jaxcolor {command}", "--help")


@runs("python -m jaxcolor.ablation", "python benchmarks/demo_seeds.py --seeds 0 1 2 --workdir runs/seeds")
def test_programs_that_take_long_are_there() -> None:
    """Their own tests run them; here their arguments are read."""
    assert importlib.util.find_spec("jaxcolor.ablation.__main__") is not None
    found = python("python benchmarks/demo_seeds.py --seeds 0 1 2 --workdir runs/seeds", "--help")
    assert "--seeds SEEDS [SEEDS ...]" in found
    assert "--workdir WORKDIR" in found


TRAIN = "python train.py --config configs/photos.py --workdir runs/photos --config.data.path=PHOTOS"
EVAL = (
    "python eval.py --config configs/photos.py --workdir runs/eval --weights runs/photos/weights.safetensors "
    "--config.eval.data.path=OTHER_PHOTOS"
)
SMALL = (
    "--config.model.side=32",
    "--config.model.width=0.0625",
    "--config.model.compute_dtype=float32",
    "--config.model.fusion.layers=('conv1_2','conv8_up')",
    *(f"--config.{stage}.{field}=2" for stage in ("full", "instance", "fusion") for field in ("steps", "batch_size")),
    "--config.eval.photos=4",
    "--config.eval.metrics=",
    "--config.eval.report_photos=0",
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder from which the programs start, and write into."""
    for name in ("configs", "train.py", "eval.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.slow
@runs(TRAIN, EVAL)
def test_training_and_evaluation(clone: Path) -> None:
    for name in ("PHOTOS", "OTHER_PHOTOS"):
        write_photos(demo_config(), clone / name)
    assert "weights: runs/photos/weights.safetensors" in python(TRAIN, *SMALL, cwd=clone)
    assert "| PSNR, whole picture | " in python(EVAL, *SMALL, cwd=clone)
    written = {path.name for path in (clone / "runs" / "eval").iterdir()}
    assert {"report.html", "metrics.json", "per_photo.csv", "tables.md", "tables.tex"} <= written


@pytest.mark.slow
@runs("make demo", "ls runs/demo", ". .venv/bin/activate")
def test_the_demo(clone: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "\nVENV ?= .venv\n" in makefile
    made = re.search(r"^demo: \$\(INSTALLED\).*\n\t\$\(BIN\)/(python .*)$", makefile, re.MULTILINE)
    assert made is not None
    python(made[1], *SMALL, cwd=clone)
    comment = re.search(r"^ls runs/demo +# (.*)$", README, re.MULTILINE)
    assert comment is not None
    named = set(re.sub(r"\(.*?\)", "", comment[1]).replace(",", " ").split())
    assert len(named) > 3
    assert [name for name in sorted(named) if not (clone / "runs" / "demo" / name).exists()] == []
    photos = json.loads((clone / "runs" / "demo" / "metrics.json").read_text())["photos"]
    assert photos == 4


@pytest.fixture
def large_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is removed, where pytest keeps those of three runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.slow
@runs("jaxcolor convert FOLDER_OF_PTH coco.safetensors", "jaxcolor convert --to-reference coco.safetensors FOLDER")
def test_the_authors_files(large_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="reading .pth files needs PyTorch")
    monkeypatch.chdir(large_folder)
    Path("FOLDER_OF_PTH").mkdir()
    shapes = recipe.shapes()
    for tree, file in names.REFERENCE_FILES.items():
        network = names.REFERENCE_NETWORKS[tree]
        state = recipe.state_dict(network, shapes[network])
        torch.save({name: torch.from_numpy(array) for name, array in state.items()}, f"FOLDER_OF_PTH/{file}")
    assert cli.main(["convert", "FOLDER_OF_PTH", "coco.safetensors"]) == 0
    assert cli.main(["convert", "--to-reference", "coco.safetensors", "FOLDER"]) == 0
    for file in names.REFERENCE_FILES.values():
        given = torch.load(f"FOLDER_OF_PTH/{file}", weights_only=True)
        written = torch.load(f"FOLDER/{file}", weights_only=True)
        back = {name.removeprefix("module."): array for name, array in written.items()}
        assert given.keys() <= back.keys()
        assert all(torch.equal(array, back[name]) for name, array in given.items())


@pytest.mark.slow
@runs("git clone THIS_REPOSITORY jaxcolor && pip install ./jaxcolor")
def test_installation(tmp_path: Path) -> None:
    """Beside what is installed already: nothing is downloaded."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a clone")
    subprocess.run(["git", "clone", "--quiet", "--depth=1", ROOT.as_uri(), "jaxcolor"], cwd=tmp_path, check=True)
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target=installed"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "./jaxcolor"], cwd=tmp_path, check=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed"), "JAX_PLATFORMS": "cpu"}
    show = "import jaxcolor; print(jaxcolor.__file__); jaxcolor.Colorizer.from_pretrained()"
    done = subprocess.run(
        [sys.executable, "-c", show], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "installed")
    command = [tmp_path / "installed" / "bin" / "jaxcolor", "--version"]
    shown = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert shown == f"jaxcolor {jaxcolor.__version__}\n"

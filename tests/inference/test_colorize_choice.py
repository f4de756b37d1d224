"""``jaxcolor colorize`` with hints, vivid colors and samples."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxcolor import Colorizer, Hint
from jaxcolor.cli import main
from jaxcolor.weights import native
from tests.inference.choice import CONFIG, gray_photo, trees

BOXES = [[4, 16, 28, 48], [36, 16, 60, 48]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "classes.safetensors"
    native.save(path, CONFIG, trees(), decode="vivid:0.5")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos; a has two boxes, b none."""
    folder, boxes = tmp_path / "photos", tmp_path / "photos_bbox"
    folder.mkdir()
    boxes.mkdir()
    for number, stem in enumerate("ab"):
        Image.fromarray(gray_photo(64, 64, number)).save(folder / f"{stem}.png")
        found = np.array(BOXES if stem == "a" else np.zeros((0, 4)), np.float32)
        np.savez(boxes / f"{stem}.npz", bbox=found, scores=np.ones(len(found), np.float32))
    return folder


def run(weights: Path, output: Path, *arguments: Any) -> int:
    return main(["colorize", *(str(a) for a in arguments), "-w", str(weights), "-o", str(output)])


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_hints_and_strengths(weights: Path, photos: Path, tmp_path: Path) -> None:
    hints = tmp_path / "hints.json"
    hints.write_text(json.dumps({"a": [{"x": 10, "y": 30, "rgb": "#ff0000"}, {"object": 1, "rgb": [0, 0, 255]}]}))
    given = gray_photo(64, 64)
    assert run(weights, tmp_path / "hinted", photos / "a.png", "--hints", hints, "--vivid=0", "--saturation=1.5") == 0
    colorizer = Colorizer.from_pretrained(weights)
    assert colorizer.vivid == 0.5
    wanted = [Hint(10, 30, "#ff0000"), Hint.on_object(1, (0, 0, 255))]
    expected = colorizer(given, BOXES, hints=wanted, vivid=0, saturation=1.5)
    assert np.abs(read(tmp_path / "hinted" / "a.png") - expected).max() <= 1
    # The default is what the weights say.
    assert run(weights, tmp_path / "plain", photos / "a.png") == 0
    plain = read(tmp_path / "plain" / "a.png")
    assert np.abs(plain - colorizer(given, BOXES, vivid=0.5)).max() <= 1
    assert np.abs(plain - colorizer(given, BOXES, vivid=0)).max() > 5


def test_samples_and_their_sheet(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without boxes the background is the one object, of two plausible colors."""
    out = tmp_path / "out"
    assert run(weights, out, photos / "b.png", "--samples=3", "--seed=1") == 0
    assert "b.png: 2 of 3 samples; it has no boxes, whose colors vary" in capsys.readouterr().err
    assert sorted(p.name for p in out.iterdir()) == ["b.png", "b.sample1.png", "b.sample2.png", "b.samples.png"]
    expected = Colorizer.from_pretrained(weights).sample(gray_photo(64, 64, 1), count=3, seed=1)
    for number, one in enumerate(expected, 1):
        assert np.abs(read(out / f"b.sample{number}.png") - one).max() <= 1
    with Image.open(out / "b.samples.png") as sheet:
        assert sheet.width > 3 * 320  # given, colored and two samples, three in a row
        assert sheet.height > 2 * 320
    (out / "b.samples.png").unlink()  # stopped before the photo was finished
    before = (out / "b.png").stat().st_mtime_ns
    assert run(weights, out, photos / "b.png", "--samples=3", "--seed=1") == 0
    assert (out / "b.samples.png").exists()
    assert (out / "b.png").stat().st_mtime_ns == before
    assert run(weights, out, photos / "b.png", "--samples=3", "--seed=1") == 0
    assert f"1 of 1 photo is in {out} already: skipped" in capsys.readouterr().err


def test_boxes_that_are_no_use_are_counted(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = np.array([[0.1, 0.2, 0.5, 0.6]], np.float32)
    np.savez(tmp_path / "photos_bbox" / "b.npz", bbox=shares, scores=np.ones(1, np.float32))
    assert run(weights, tmp_path / "out", photos / "b.png") == 0
    said = capsys.readouterr().err
    assert f"warning: {photos / 'b.png'}: 1 of its 1 boxes cannot be used (1 no size); they look like shares" in said
    assert "warning: 1 of 1 boxes cannot be used (1 no size)\n" in said


@pytest.mark.parametrize(
    ("hints", "arguments", "message"),
    [
        ({"a": [{"x": 64, "y": 0, "rgb": "#ff0000"}]}, [], "photos/a.png: hint 0: x 64 lies outside the photo"),
        ({"b": [{"object": 0, "rgb": "#ff0000"}]}, [], "photos/b.png: hint 0: no object 0 in this photo"),
        ({"c": []}, [], "hints.json: 1 of the 1 photos it names are not among the 2 to color; the first: 'c'"),
        ({"a": [{"x": 1, "y": 0, "rgb": "red"}]}, [], "hints.json: 'a': hint 0: rgb is 'red'"),
        ({}, ["--vivid=1.5"], "vivid 1.5: must be from 0 (safe) to 1"),
        ({}, ["--saturation=-1"], "saturation -1.0: must be finite and at least 0"),
        ({}, ["--samples=-1"], "--samples -1, --seed 0: must be at least 0"),
        ({}, ["--samples=2", "--seed=-1"], "--samples 2, --seed -1: must be at least 0"),
    ],
)
def test_what_is_wrong_is_reported_in_one_line(
    weights: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    hints: Any,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hints.json").write_text(json.dumps(hints))
    assert run(weights, Path("out"), "photos", "--hints=hints.json", *arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxcolor colorize: ")
    assert message in line
    assert not Path("out").exists()


def test_weights_without_a_class_head(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = {"params": dict(trees()["full"]["params"]), "batch_stats": dict(trees()["full"]["batch_stats"])}
    full["batch_stats"].pop("classes")
    path = tmp_path / "full.safetensors"
    native.save(path, type(CONFIG)(side=32, width=0.0625), {"full": full})
    assert run(path, tmp_path / "out", photos, "--samples=2") == 1
    assert "full.safetensors has no class head, from whose distribution samples" in capsys.readouterr().err
    assert run(path, tmp_path / "out", photos, "--vivid=1") == 1
    assert "vivid 1.0: these weights have neither a class head" in capsys.readouterr().err


def test_a_sample_never_overwrites_a_photo_of_that_name(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(gray_photo(20, 20)).save(photos / "a.sample1.png")
    assert run(weights, tmp_path / "out", photos, "--missing-boxes=none", "--samples=1") == 1
    assert "out/a.sample1.png: a sample would overwrite another photo's result" in capsys.readouterr().err

"""Films on disk: in order, steadied, resumed to the same frames, with boxes and hints that hold in their scene."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxcolor import color
from jaxcolor.cli import main
from jaxcolor.config import FilmConfig
from jaxcolor.data.types import Boxes
from jaxcolor.hints import Hint
from jaxcolor.inference import film, film_files
from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.inference.film_steering import Steering, follow, overlap
from jaxcolor.inference.jobs import Job
from jaxcolor.weights import native
from tests import small

COUNT, CUT = 7, 4
SIZE = (24, 20)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("w") / "small.safetensors"
    native.save(path, small.MODEL, {"full": small.variables()["full"]})
    return path


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Two scenes, with grain; names without leading zeros."""
    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    scenes = [small.photo(rng, SIZE[1], SIZE[0]) // 2, 127 + small.photo(rng, SIZE[1], SIZE[0]) // 2]
    for number in range(COUNT):
        grain = rng.integers(-2, 3, (SIZE[1], SIZE[0], 1))
        rgb = small.gray(np.clip(scenes[number >= CUT].astype(int) + grain, 0, 255).astype(np.uint8))
        Image.fromarray(rgb).save(folder / f"f{number + 7}.png")
    return folder


def pixels(folder: Path, suffix: str = ".png") -> list[np.ndarray]:
    return [np.asarray(Image.open(folder / f"f{number + 7}{suffix}")) for number in range(COUNT)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run(frames: Path, weights: Path, *options: object, batch: int = 3) -> int:
    return main(["colorize", str(frames), "-w", str(weights), "--film", "--batch", str(batch), *map(str, options)])


def test_frames_are_those_of_the_maths(frames: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(frames, weights) == 0
    out = frames.with_name("frames_color")
    assert capsys.readouterr().out == f"{COUNT} frames colored into {out}\n"
    assert sorted(contents(out)) == sorted(f"f{number + 7}.png" for number in range(COUNT))
    colorizer = Colorizer.from_pretrained(weights)
    shown = colorizer.on_canvas([frames / f"f{number + 7}.png" for number in range(COUNT)])
    canvas, ab = (np.stack(each) for each in zip(*((f.canvas, f.ab) for f in shown), strict=True))
    state, settings = film.start(small.SIDE), FilmConfig()
    cuts = film.scene_cuts(state, canvas, settings)
    assert np.flatnonzero(cuts).tolist() == [0, CUT]
    _, steadied = film.steady(state, canvas, ab, cuts, np.ones(COUNT, bool), settings)
    for written, frame, colors in zip(pixels(out), shown, np.asarray(steadied), strict=True):
        assert np.abs(written.astype(int) - colorizer.at_size(frame.photo, colors)).max() <= 1
    plain = colorizer.many([frame.photo.rgb for frame in shown])
    light = np.stack([color.lightness(rgb) for rgb in plain])

    def flicker(pictures: Any) -> float:
        lab = color.rgb_to_lab(color.unit_rgb(np.stack([np.asarray(p) for p in pictures])))
        return float(film.flicker(light, lab[..., 1:], unchanged=4.0))

    assert flicker(pixels(out)) < flicker(plain)


@pytest.mark.parametrize("when", ["between batches", "inside a batch", "before its state is kept"])
def test_a_stopped_film_goes_on_to_the_same_frames(
    when: str, frames: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(frames, weights, "-o", frames.with_name("whole")) == 0
    out, write, save = frames.with_name("out"), film_files.write_result, film_files._save
    count = {"between batches": 3, "inside a batch": 4, "before its state is kept": 6}[when]
    written, saved = [], []

    def stop(job: Job, *rest: Any) -> None:
        if len(written) == count:
            raise KeyboardInterrupt
        write(job, *rest)
        written.append(job.output)

    def keep(*rest: Any) -> None:
        if when == "before its state is kept" and saved:
            raise KeyboardInterrupt
        save(*rest)
        saved.append(rest)

    monkeypatch.setattr(film_files, "write_result", stop)
    monkeypatch.setattr(film_files, "_save", keep)
    assert run(frames, weights, "-o", out) == 130
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("f*")}
    assert len(before) == count
    assert (out / film_files.STATE).is_file()
    monkeypatch.undo()
    colored = []
    on_canvas = Colorizer.on_canvas
    monkeypatch.setattr(
        Colorizer,
        "on_canvas",
        lambda self, given, *rest, **more: (colored.extend(given), on_canvas(self, given, *rest))[1],
    )
    capsys.readouterr()
    assert run(frames, weights, "-o", out) == 0
    said = capsys.readouterr()
    assert f"{count} of {COUNT} frames are in {out} already: kept\n" in said.err
    assert said.out == f"{COUNT - count} frames colored into {out}\n"
    assert len(colored) == COUNT - 3  # those of the first batch are not computed again
    assert contents(out) == contents(frames.with_name("whole"))
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    assert run(frames, weights, "-o", out) == 0
    assert (
        capsys.readouterr().err
        == f"{COUNT} of {COUNT} frames are in {out} already: skipped; --force colors them again\n"
    )


def test_lost_frames_and_a_damaged_state_begin_anew(frames: Path, weights: Path) -> None:
    assert run(frames, weights) == 0
    out = frames.with_name("frames_color")
    whole = contents(out)
    for name in ("f8.png", "f13.png"):
        (out / name).unlink()
    (out / film_files.STATE).write_bytes(b"PK\x03\x04 no state")
    assert run(frames, weights) == 0
    assert contents(out) == whole


def test_other_settings_are_refused_and_forced(frames: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(frames, weights) == 0
    out = frames.with_name("frames_color")
    whole = contents(out)
    capsys.readouterr()
    (out / "f9.png").unlink()
    assert run(frames, weights, "--saturation", "0.5") == 1
    assert capsys.readouterr().err == (
        f"jaxcolor colorize: {out / 'f7.png'}: of other weights, boxes, hints or settings; --force colors the film "
        "again, or name another folder with -o\n"
    )
    assert run(frames, weights, "--saturation", "0.5", "--force") == 0
    assert contents(out).keys() == whole.keys()
    assert all(data != whole[name] for name, data in contents(out).items())
    assert run(frames, weights, "--force") == 0
    assert contents(out) == whole


def test_a_stopped_force_goes_on_replacing(frames: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(frames, weights, "--format", "jpeg", "--saturation", "0") == 0
    assert run(frames, weights, "--format", "jpeg", "-o", frames.with_name("whole")) == 0
    color_some, calls = film_files._color, []

    def stop(*given: Any) -> Any:
        if calls:
            raise KeyboardInterrupt
        calls.append(given)
        return color_some(*given)

    monkeypatch.setattr(film_files, "_color", stop)
    assert run(frames, weights, "--format", "jpeg", "--force") == 130
    monkeypatch.undo()
    assert run(frames, weights, "--format", "jpeg", "--saturation", "0") == 1
    assert run(frames, weights, "--format", "jpeg") == 0
    assert contents(frames.with_name("frames_color")) == contents(frames.with_name("whole"))


def test_a_frame_that_cannot_be_read_stops_the_film(
    frames: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = (frames / "f11.png").read_bytes()
    (frames / "f11.png").write_bytes(good[: len(good) * 2 // 3])
    assert run(frames, weights) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"{frames / 'f11.png'}: cannot read this photo: " in line
    assert line.endswith("; the film stops before it, and goes on when it can be read")
    (frames / "f11.png").write_bytes(good)
    assert run(frames, weights) == 0
    whole = contents(frames.with_name("frames_color"))
    assert run(frames, weights, "-o", frames.with_name("whole")) == 0
    assert contents(frames.with_name("whole")) == whole


def test_other_forms(frames: Path, weights: Path) -> None:
    assert run(frames, weights, "--format", "tiff16", "--side-by-side") == 0
    out = frames.with_name("frames_color")
    assert sorted(contents(out)) == sorted(
        f"f{number + 7}{suffix}" for number in range(COUNT) for suffix in (".tif", ".side_by_side.tif")
    )


class TestRefused:
    def said(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
        assert main(["colorize", "-w", "none.safetensors", "--film", *map(str, arguments)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line.removeprefix("jaxcolor colorize: ")

    def test_what_is_no_folder_of_frames(self, frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.said(capsys, frames, "--missing-boxes=error").startswith("--missing-boxes error: a film's frame")
        (frames / "film.mp4").write_bytes(b"")
        photo = frames / "f7.png"
        assert self.said(capsys, photo) == f"--film {photo}: takes one folder of frames"
        assert self.said(capsys, frames, frames) == "--film: takes one folder of frames, and no --samples"
        assert self.said(capsys, frames, "--samples", 2) == "--film: takes one folder of frames, and no --samples"
        assert self.said(capsys, frames / "film.mp4").endswith(
            f"take it apart: mkdir frames && ffmpeg -i {frames / 'film.mp4'} frames/%06d.png (docs/films.md)"
        )

    def test_one_frame(self, frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for path in sorted(frames.iterdir())[1:]:
            path.unlink()
        said = f"--film {frames}: holds one frame; a film has at least two. Without --film it is colored"
        assert self.said(capsys, frames) == said

    def test_frames_of_different_sizes(self, frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
        Image.new("L", (24, 21)).save(frames / "f12.png")
        said = (
            f"{frames / 'f12.png'}: 24 x 21 pixels, and the first is 24 x 20; all frames of a film must have one size"
        )
        assert self.said(capsys, frames) == said

    def test_hints_of_several_strengths(self, frames: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = frames.with_name("hints.json")
        path.write_text(json.dumps({"f7": {"vivid": 0.5}, "f9": {"vivid": 1}}))
        assert run(frames, weights, "--hints", path) == 1
        said = f"{path}: vivid is 0.5 and 1; a film has one: give --vivid"
        assert capsys.readouterr().err == f"jaxcolor colorize: {said}\n"


def test_hints_hold_until_the_scene_ends(frames: Path, weights: Path) -> None:
    path, out = frames.with_name("hints.json"), frames.with_name("hinted")
    path.write_text(json.dumps({"f8.png": [{"x": 12, "y": 10, "rgb": "#c02020"}], "f10.png": []}))
    assert run(frames, weights) == 0
    assert run(frames, weights, "--hints", path, "-o", out) == 0
    changed = [
        not np.array_equal(plain, hinted)
        for plain, hinted in zip(pixels(frames.with_name("frames_color")), pixels(out), strict=True)
    ]
    # f10's own list is empty, but what was averaged before is still in its colors; the next scene has nothing of it.
    assert changed == [False, True, True, True, False, False, False]


class TestSteering:
    BOX = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32)

    def job(self, boxes: Any = None, hints: tuple[Hint, ...] = ()) -> Job:
        found = (
            None
            if boxes is None
            else Boxes(np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes), np.float32))
        )
        return Job(Path("f"), Path("g"), found, hints)

    def test_boxes_hold_until_others_come(self) -> None:
        steering, first = follow(Steering(), self.job(self.BOX), False)
        steering, second = follow(steering, self.job(), False)
        assert second.boxes is first.boxes
        steering, third = follow(steering, self.job([]), False)
        assert third.boxes is not None
        assert len(third.boxes.boxes) == 0

    def test_hints_follow_their_object(self) -> None:
        hint, point = Hint.on_object(0, "#102030"), Hint(1, 2, "#102030")
        steering, _ = follow(Steering(), self.job(self.BOX, (hint, point)), True)
        steering, moved = follow(steering, self.job([[21, 0, 31, 10], [2, 0, 12, 10]]), False)
        assert moved.hints == (Hint.on_object(1, "#102030"), point)
        steering, same = follow(steering, self.job(), False)
        assert same.hints == moved.hints
        steering, gone = follow(steering, self.job([[21, 0, 31, 10]]), False)
        assert gone.hints == (point,)
        steering, still_gone = follow(steering, self.job(), False)
        assert still_gone.hints == (point,)
        assert Steering.from_json(steering.to_json()).to_json() == steering.to_json()
        steering, back = follow(Steering.from_json(steering.to_json()), self.job([[3, 0, 13, 10]]), False)
        assert back.hints == (Hint.on_object(0, "#102030"), point)
        _, ended = follow(steering, self.job(), True)
        assert ended.hints == ()

    def test_overlap(self) -> None:
        found = overlap(self.BOX[0], np.array([[0, 0, 10, 10.0], [5, 0, 15, 10], [10, 0, 20, 10], [0, 0, 0, 0]]))
        np.testing.assert_allclose(found, [1, 1 / 3, 0, 0])


def test_frames_are_in_the_order_of_their_numbers() -> None:
    names = ["f10.png", "f2.png", "f1.png", "f01.png", "g.png", "f2b.png"]
    assert sorted(names, key=film_files._natural) == ["f01.png", "f1.png", "f2.png", "f2b.png", "f10.png", "g.png"]

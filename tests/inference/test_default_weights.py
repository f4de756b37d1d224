"""Colors without flags: the package's weights, results beside the photos; the full-image network alone."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxcolor import Colorizer, Hint
from jaxcolor.cli import main
from jaxcolor.config import ModelConfig
from jaxcolor.inference import predict
from jaxcolor.inference.colorizer import UnusedBoxesWarning
from jaxcolor.inference.result_paths import plan
from jaxcolor.weights import native, packaged
from jaxcolor.weights.reference import WeightsError
from tests.small import gray, photo, variables

CONFIG = ModelConfig(side=32, width=0.0625, outputs=("regression", "classes"))
UNUSED = "default.safetensors holds the full-image network only: boxes are not used"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the package's folder: a tiny full-image network in 8 bits."""
    folder = tmp_path / "package"
    folder.mkdir()
    native.save(folder / "default.safetensors", CONFIG, {"full": variables(CONFIG)["full"]}, storage="int8")
    packaged.register(folder, "default", "default.safetensors")
    monkeypatch.setattr(packaged, "folder", lambda: folder)
    return folder


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three photos in ``photos``, of which two have boxes; the working directory is the one above."""
    folder, boxes = tmp_path / "photos", tmp_path / "photos_bbox"
    folder.mkdir()
    boxes.mkdir()
    for number, name in enumerate(("a.png", "b.jpg", "c.png")):
        Image.fromarray(gray_photo(number)).save(folder / name)
    for stem in "ab":
        np.savez(boxes / f"{stem}.npz", bbox=np.array([[2, 2, 30, 25]], np.float32), scores=np.ones(1, np.float32))
    monkeypatch.chdir(tmp_path)
    return folder


def gray_photo(number: int) -> np.ndarray:
    return gray(photo(np.random.default_rng(number), 30, 40))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def colorize(*arguments: Any) -> int:
    return main(["colorize", *map(str, arguments)])


def test_from_pretrained_without_a_file(package: Path) -> None:
    given = gray_photo(0)
    found = [
        Colorizer.from_pretrained(*weights)(given) for weights in ((), ("default",), (package / "default.safetensors",))
    ]
    assert np.ptp(found[0], axis=-1).max() > 5
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_an_installation_without_weights(package: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (package / packaged.REGISTRY).write_text("{}")
    with pytest.raises(WeightsError, match="the weights 'default' are not in this installation"):
        Colorizer.from_pretrained()
    assert colorize("photos/a.png") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxcolor colorize: the weights 'default' are not in this installation")
    assert "-w FILE" in line
    assert names(photos) == ["a.png", "b.jpg", "c.png"]


def test_fast_weights_by_name(package: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``fast`` is a name wherever weights are named, also where the installation has none; then one line says so."""
    with pytest.raises(WeightsError, match=r"the weights 'fast' are not in .*take others \(default\), or give"):
        Colorizer.from_pretrained("fast")
    assert colorize("photos/a.png", "--weights=fast") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxcolor colorize: the weights 'fast' are not in this installation")
    other = dataclasses.replace(CONFIG, width=0.03125)
    native.save(package / "fast.safetensors", other, {"full": variables(other)["full"]})
    packaged.register(package, "fast", "fast.safetensors")
    assert colorize("photos/a.png", "--weights=fast") == 0
    with Image.open(photos / "a_color.png") as image:
        np.testing.assert_array_equal(np.asarray(image), Colorizer.from_pretrained("fast")(gray_photo(0)))
        assert (np.asarray(image) != Colorizer.from_pretrained()(gray_photo(0))).any()


def test_one_photo(package: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (photos / "a.png").read_bytes()
    assert colorize("photos/a.png") == 0
    captured = capsys.readouterr()
    assert captured.out == "1 photo colored into photos/a_color.png\n"
    assert UNUSED in captured.err
    assert names(photos) == ["a.png", "a_color.png", "b.jpg", "c.png"]
    assert (photos / "a.png").read_bytes() == before
    with Image.open(photos / "a_color.png") as image:
        np.testing.assert_array_equal(np.asarray(image), Colorizer.from_pretrained()(gray_photo(0)))
    assert colorize("photos/a.png") == 0
    assert "1 of 1 photo is colored already: skipped; --force colors them again" in capsys.readouterr().err


def test_results_are_no_photos(package: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``colorize photos/*`` twice."""
    assert colorize(*sorted(photos.iterdir())) == 0
    (photos / "z_color.png").write_bytes((photos / "a.png").read_bytes())  # of no photo here: a photo
    capsys.readouterr()
    assert colorize(*sorted(photos.iterdir())) == 0
    captured = capsys.readouterr()
    assert "left out: 3 files that are results beside their photos" in captured.err
    assert "3 of 4 photos are colored already" in captured.err
    assert names(photos) == [
        "a.png", "a_color.png", "b.jpg", "b_color.png", "c.png", "c_color.png", "z_color.png", "z_color_color.png",
    ]  # fmt: skip


@pytest.mark.parametrize("given", ["photos", "photos/", "."])
def test_a_folder(package: Path, photos: Path, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if given == ".":
        monkeypatch.chdir(photos)
    before = names(photos)
    assert colorize(given) == 0
    assert names(photos) == before
    assert names(photos.with_name("photos_color")) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_no_original_is_replaced(
    package: Path, photos: Path, capsys: pytest.CaptureFixture[str], force: list[str]
) -> None:
    other = photos.with_name("photos_color")
    other.mkdir()
    (other / "a.png").write_bytes(b"an original")
    assert colorize("photos", "photos_color", *force) == 1
    assert "photos_color: holds the photo photos_color/a.png, and originals are never" in capsys.readouterr().err
    assert (other / "a.png").read_bytes() == b"an original"


def test_photos_that_differ_in_their_ending_alone_keep_it(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also a photo given twice counts once, and results of either kind are known again."""
    monkeypatch.chdir(photos.parent)
    given = [photos / "a.png", photos / "a.jpg", photos / "b.jpg", photos / "a.png"]
    given[1].write_bytes((photos / "b.jpg").read_bytes())
    results = [path.name for path in plan(given, None).values()]
    assert results == ["a.png_color.png", "a.jpg_color.png", "b_color.png"]
    (photos / results[0]).write_bytes(b"")
    (photos / "2019").mkdir()
    (photos / "2019" / "d.jpg").write_bytes(b"")
    assert [path.name for path in plan([photos], Path("out"), ".jpg").values()] == [
        "a.jpg.jpg",
        "a.png.jpg",
        "b.jpg",
        "c.jpg",
    ]
    said = capsys.readouterr().err
    assert f"2 photos share their names but for the ending, such as {photos / 'a.png'}: the results keep it" in said
    assert "left out: 1 file that is a result" in said
    assert "1 folder in it has photos too: 2019; not entered, give it as well" in said


class TestFullImageNetworkAlone:
    def test_all_photos_in_one_batch(
        self, package: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Also where one has no entry for boxes, which weights with instances refuse."""
        sizes = []
        colors = predict.Predictor.colors

        def counted(self: Any, prepared: Any, *rest: Any, **options: Any) -> Any:
            sizes.append(len(prepared))
            return colors(self, prepared, *rest, **options)

        monkeypatch.setattr(predict.Predictor, "colors", counted)
        assert colorize("photos", "-o", "out") == 0
        assert sizes == [3]
        captured = capsys.readouterr()
        assert [line for line in captured.err.splitlines() if "boxes" in line] == [UNUSED]
        assert captured.out == "3 photos colored into out\n"

    def test_nothing_is_said_of_boxes_that_are_not_there(
        self, package: Path, photos: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        photos.with_name("photos_bbox").rename("elsewhere")
        assert colorize("photos/a.png", "-o", "out") == 0
        assert "boxes" not in capsys.readouterr().err
        assert colorize("photos/b.jpg", "-o", "out", "--boxes", "elsewhere") == 0
        assert UNUSED in capsys.readouterr().err

    def test_hints_for_objects_and_samples_use_them(
        self, package: Path, photos: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("hints.json").write_text('{"a.png": [{"object": 0, "rgb": [200, 30, 30]}]}')
        assert colorize("photos/a.png", "-o", "out", "--hints", "hints.json") == 0
        assert colorize("photos/a.png", "-o", "plain") == 0
        assert capsys.readouterr().err.count(UNUSED) == 1
        assert Path("out/a.png").read_bytes() != Path("plain/a.png").read_bytes()
        assert colorize("photos/a.png", "-o", "samples", "--samples=2") == 0
        expected = Colorizer.from_pretrained().sample(gray_photo(0), [[2, 2, 30, 25]], count=2)
        for number, sample in enumerate(expected, 1):
            np.testing.assert_array_equal(np.asarray(Image.open(f"samples/a.sample{number}.png")), sample)

    def test_the_class_warns(self) -> None:
        colorizer = Colorizer(dataclasses.replace(CONFIG), {"full": variables(CONFIG)["full"]})
        given, boxes = gray_photo(0), [[2, 2, 30, 25]]
        plain = colorizer(given)
        with pytest.warns(UnusedBoxesWarning, match="boxes are not used: these weights hold the full-image network"):
            np.testing.assert_array_equal(colorizer(given, boxes), plain)
        colorizer(given, boxes, hints=[Hint.on_object(0, "#b03020")])  # the hint's place is the box
        assert len(colorizer.palette(given, boxes).boxes[0].rgb)

"""The mean over further canvases of the full-image network, through the Colorizer and the command."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxcolor import Colorizer, Hint, resample
from jaxcolor.cli import main
from jaxcolor.cli.parsing import canvas_sides
from jaxcolor.config import FusionConfig
from jaxcolor.runtime.errors import UserError
from jaxcolor.weights import native, packaged
from tests import small

CONFIG = dataclasses.replace(
    small.MODEL, outputs=("regression", "classes"), fusion=FusionConfig(strategy="box_mask", layers=("conv10_2",))
)
SIDES = (24, 48)
ALONE = {"full": small.variables(CONFIG)["full"]}
RNG = np.random.default_rng(0)
PHOTOS = [small.gray(small.photo(RNG, *size)) for size in ((40, 60), (16, 16), (70, 50), (30, 90))]
PHOTOS = [*PHOTOS, PHOTOS[0]]
"""Five, which are filled up to six; the last is the first again, without its boxes and hints."""
BOXES: list[Any] = [[[4, 4, 40, 36]], None, [[10, 10, 40, 60], [0, 0, 20, 20]], None, None]
HINTS = [[Hint(30, 20, "#c02020", 12)], None, None, [Hint(45, 15, "#2020c0", 10)], None]


def canvas_ab(colorizer: Colorizer, boxes: Any) -> np.ndarray:
    """Of half the class head's color, so that it counts as well as the regression's."""
    return np.stack([found.ab for found in colorizer.on_canvas(PHOTOS, boxes, hints=HINTS, vivid=0.5)])


def test_the_result_is_the_mean_over_canvases() -> None:
    """What networks of those canvases say for themselves of the same photos, boxes and hints, is the truth."""
    plain = Colorizer(CONFIG, small.variables(CONFIG))
    own = canvas_ab(plain, BOXES)
    further = []
    for side in SIDES:
        alone = canvas_ab(Colorizer(dataclasses.replace(CONFIG, side=side), ALONE), None)
        assert alone.shape == (5, side, side, 2)
        assert np.abs(alone[0] - alone[4]).max() > 0.01  # hints show
        further.append(np.asarray(resample.resize(alone, 16, 16)))
    together = Colorizer(CONFIG, small.variables(CONFIG), canvases=SIDES)
    found = canvas_ab(together, BOXES)
    np.testing.assert_allclose(found, (own + sum(further)) / 3, atol=2e-5)
    assert np.abs(found - own).max() > 0.01
    # Without further canvases nothing is computed from the result, not even its mean.
    photos = [canvas.photo for canvas in plain.on_canvas(PHOTOS, BOXES, hints=HINTS, vivid=0.5)]
    direct = plain._predictor.colors(photos, [photo.hints for photo in photos], annealed=True)
    assert plain.canvases == ()
    np.testing.assert_array_equal(own, [np.float32(0.5) * (one.ab + one.annealed) for one in direct])


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ((12,), r"^canvases: \(12,\), which must be multiples of 8, ascending$"),
        ((48, 24), "ascending"),
        ((16, 24), r"^canvases: \(16, 24\), which must be others than model.side, 16, which is there anyway$"),
        ((4096,), "at most 2048"),
    ],
)
def test_sides_that_cannot_be_are_refused(sides: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Colorizer(CONFIG, ALONE, canvases=sides)


def test_sides_on_the_command_line() -> None:
    assert canvas_sides("384, 512") == (384, 512)
    assert canvas_sides("none") == canvas_sides("") == ()
    with pytest.raises(argparse.ArgumentTypeError, match="whole numbers"):
        canvas_sides("large")


def test_what_the_registry_recommends_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "default.safetensors"
    native.save(file, CONFIG, ALONE)
    packaged.register(tmp_path, "default", file.name, (24,))
    assert packaged.register(tmp_path, "default", file.name).canvases == (24,)
    assert packaged.register(tmp_path, "other", file.name).canvases == ()
    monkeypatch.setattr(packaged, "folder", lambda: tmp_path)
    recommended = Colorizer.from_pretrained()
    assert recommended.canvases == (24,)
    assert Colorizer.from_pretrained(canvases=()).canvases == Colorizer.from_pretrained(file).canvases == ()
    gray, result = tmp_path / "gray.png", tmp_path / "out" / "gray.png"
    Image.fromarray(PHOTOS[0]).save(gray)
    command = ["colorize", str(gray), "-o", str(result.parent)]
    assert main(command) == 0
    as_recommended = np.asarray(Image.open(result))
    np.testing.assert_array_equal(as_recommended, recommended(PHOTOS[0]))
    for same in ([], ["--canvases", "24"]):
        assert main([*command, *same]) == 0
        assert "made with other" not in capsys.readouterr().err
    assert main([*command, "--canvases", "none"]) == 0
    assert "made with other weights, boxes or settings" in capsys.readouterr().err
    assert main([*command, "--canvases", "none", "--force"]) == 0
    assert (np.asarray(Image.open(result)) != as_recommended).any()
    for option, what in (("--canvases", "canvases: (12,)"), ("--crop-sides", "crop_sides: (12,)")):  # nothing to do
        assert main([*command, option, "12"]) == 1
        assert what in capsys.readouterr().err

"""Boxes seen at several sides through the Colorizer: colors, hints, and how many programs that takes."""

import argparse
import itertools
from typing import Any

import numpy as np
import pytest

from jaxcolor import Colorizer, Hint
from jaxcolor.boxes import CropContext
from jaxcolor.cli import main
from jaxcolor.cli.parsing import whole_numbers
from jaxcolor.data.collate import CropPlaces
from jaxcolor.inference.photos import Prepared, prepare
from jaxcolor.inference.predict import places_for
from jaxcolor.runtime.errors import UserError
from tests.inference.choice import CONFIG, gray_photo, trees

PHOTO = gray_photo(64, 96)
SIDES = (8, 16, 32)
BOXES = [[4, 4, 10, 12], [20, 4, 50, 34], [60, 8, 74, 24], [4, 40, 11, 48], [60, 40, 90, 62]]
SEEN_AT = (8, 32, 16, 8, 32)


@pytest.fixture(scope="module")
def colorizer() -> Colorizer:
    return Colorizer(CONFIG, trees(), crop_sides=SIDES)


def prepared(
    boxes: Any,
    sides: tuple[int, ...] = SIDES,
    hints: Any = (),
    context: CropContext = CropContext(),  # noqa: B008 (immutable)
) -> Prepared:
    settings: dict[str, Any] = {"side": 32, "boxes_per_photo": 8, "with_crops": True}
    return prepare(PHOTO, boxes, None, hints, where="photo", context=context, crop_sides=sides, **settings)


def ab_of(colorizer: Colorizer, boxes: Any, sides: tuple[int, ...] = SIDES) -> np.ndarray:
    photo = prepared(boxes, sides)
    return np.asarray(colorizer._predictor.colors([photo], [photo.hints], annealed=False)[0].ab)


def cells(box: list[int]) -> tuple[slice, slice]:
    """The pixels of the canvas that lie well inside a box."""
    x0, y0, x1, y1 = (int(v / size * 32) for v, size in zip(box, (96, 64, 96, 64), strict=True))
    return slice(y0, y1), slice(x0, x1)


def test_inside_its_box_an_object_is_what_it_is_alone(colorizer: Colorizer) -> None:
    """Inside boxes, which do not overlap, these networks show what the instance network makes of the crop."""
    assert [len(crop) for crop in prepared(BOXES).example.crop_rgb] == list(SEEN_AT)
    together, plain = ab_of(colorizer, BOXES), ab_of(colorizer, BOXES, ())
    for box, side in zip(BOXES, SEEN_AT, strict=True):
        inside = cells(box)
        assert plain[inside].size
        np.testing.assert_allclose(together[inside], ab_of(colorizer, [box])[inside], atol=1e-5)
        change = np.abs(together[inside] - plain[inside]).max()
        assert change < 1e-5 if side == 32 else change > 1e-4


def test_at_the_canvas_side_alone_nothing_changes(colorizer: Colorizer) -> None:
    np.testing.assert_array_equal(ab_of(colorizer, BOXES, (32,)), ab_of(colorizer, BOXES, ()))


def test_hints_reach_the_crop_of_their_object(colorizer: Colorizer) -> None:
    for number, side in enumerate(SEEN_AT):
        hinted = prepared(BOXES, hints=[Hint.on_object(number, rgb="#ff0000")])
        batch, given = colorizer._predictor._inputs([hinted], [hinted.hints])
        assert given is not None
        assert [crops.shape[1] for crops in batch.crops] == [32, 16, 8]
        masks = [hints.mask for hints in (given.crop, *given.smaller)]
        assert [mask.shape[:3] for mask in masks] == [crops.shape[:3] for crops in batch.crops]
        rank = [k for k, of in enumerate(SEEN_AT) if of == side].index(number)
        for mask in masks:
            shown = np.flatnonzero(mask.any(axis=(1, 2, 3))).tolist()
            assert shown == ([rank] if mask.shape[1] == side else [])


def test_a_crop_with_context_is_seen_at_the_side_that_holds_all_of_it(colorizer: Colorizer) -> None:
    """Boxes of 8 x 8 and 16 x 16 show 16 x 16 and 32 x 32; a hint lies where the crop shows its place."""
    boxes = [[20, 20, 28, 28], [60, 24, 76, 40]]
    assert [len(crop) for crop in prepared(boxes).example.crop_rgb] == [8, 16]
    hinted = prepared(boxes, hints=[Hint(17.5, 17.5, "#ff0000", 0.5)], context=CropContext(1.0))
    assert [len(crop) for crop in hinted.example.crop_rgb] == [16, 32]
    np.testing.assert_array_equal(hinted.example.crop_rgb[0], PHOTO[16:32, 16:32])
    _, given = colorizer._predictor._inputs([hinted], [hinted.hints])
    assert given is not None
    assert np.argwhere(given.smaller[0].mask[0, ..., 0]).tolist() == [[1, 1]]
    assert not given.crop.mask.any()


def test_few_programs_serve_all_numbers_of_boxes() -> None:
    largest, seen = 0.0, set()
    for counts in itertools.product(range(9), repeat=3):
        if not 1 <= sum(counts) <= 8:
            continue
        sides = np.repeat((64, 128, 256), counts)
        places = places_for(sides, 256)
        assert [of.side for of in places] == sorted(set(sides.tolist()), reverse=True)
        assert all(of.places >= (sides == of.side).sum() for of in places)
        unused = sum((of.places - (sides == of.side).sum()) * (of.side / places[0].side) ** 2 for of in places)
        seen.add(places)
        largest = max(largest, unused)
    assert len(seen) == 84
    assert largest == 1.25
    assert places_for(np.zeros(0, int), 256) == (CropPlaces(256, 0),)


def test_sides_that_do_not_fit_are_refused() -> None:
    for sides, message in (((16, 64), "at most model.side, 32"), ((12,), "multiples of 8"), ((16, 8), "ascending")):
        with pytest.raises(UserError, match=message):
            Colorizer(CONFIG, trees(), crop_sides=sides)


def test_sides_on_the_command_line() -> None:
    assert whole_numbers("64, 128,256") == (64, 128, 256)
    for wrong in ("", "64,", "-8", "8.5", "²"):
        with pytest.raises(argparse.ArgumentTypeError, match="whole numbers"):
            whole_numbers(wrong)


@pytest.mark.parametrize("option", ["--crop-sides", "--canvases"])
@pytest.mark.parametrize("command", [["web"], ["export", "-w", "w", "-o", "o"]])
def test_commands_that_cannot_have_them_say_why(
    command: list[str], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*command, option, "64,128"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"jaxcolor {command[0]}: {option}: not here: ")

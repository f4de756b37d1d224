"""Contact sheets."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from jaxcolor.runtime.contact_sheet import GAP, draw_boxes, fitting_text, tile_grid


def test_text_that_fits_stays_on_one_line():
    font = ImageFont.load_default(size=12)
    assert fitting_text("a photo\n  of a cat", 1000, font) == "a photo of a cat"


@pytest.mark.parametrize("width", [40, 100, 333])
def test_long_text_loses_its_middle(width):
    font = ImageFont.load_default(size=12)
    text = "begin" + 100 * "-" + "the end"
    short = fitting_text(text, width, font)
    left, right = short.split("…")
    assert font.getlength(short) <= width
    assert text.startswith(left)
    assert text.endswith(right)
    # One character more would not fit.
    assert font.getlength(text[: len(left) + 1] + "…" + text[len(text) - len(right) - 1 :]) > width


def test_boxes_are_drawn_within_their_corners_the_first_on_top():
    image = Image.new("RGB", (60, 40), (128, 128, 128))
    draw_boxes(image, np.array([[10, 10, 30, 30], [13.4, 10, 50, 30]]))
    pixels = np.asarray(image)
    assert pixels[20, 9:14].tolist() == [[128] * 3, [0] * 3, [255] * 3, [0] * 3, [0] * 3]
    assert pixels[20, 27:31].tolist() == [[0] * 3, [255] * 3, [0] * 3, [128] * 3]
    assert (pixels[:10] == 128).all()
    assert (pixels[30:] == 128).all()


def test_labels_and_boxes_without_size():
    image = Image.new("RGB", (60, 40), (128, 128, 128))
    draw_boxes(image, np.array([[5, 5, 5.2, 5.2], [59.9, 39.9, 60, 40]]), ["0.90", "0.80"])
    assert (np.asarray(image) != 128).any()
    with pytest.raises(ValueError, match="zip"):
        draw_boxes(image, np.zeros((2, 4)), ["one"])


def test_grid_places_pictures_row_after_row():
    colors = [(10 * number, 0, 0) for number in range(1, 6)]
    pictures = [Image.new("RGB", (30 - number, 20), color) for number, color in enumerate(colors)]
    for headings in ((), ("one", "two")):
        sheet = np.asarray(tile_grid(pictures, list("abcde"), columns=2, tile=(30, 20), headings=headings))
        assert sheet.shape[1] == 3 * GAP + 2 * 30
        places = [np.argwhere((sheet == color).all(axis=-1)) for color in colors]
        assert [len(place) for place in places] == [20 * (30 - number) for number in range(5)]
        corners = np.array([place.min(axis=0) for place in places])
        assert (corners[[0, 2, 4], 1] - np.array([0, 1, 2]) == GAP).all()
        assert corners[0, 0] == corners[1, 0] < corners[2, 0] == corners[3, 0] < corners[4, 0]


def test_grid_without_pictures():
    with pytest.raises(ValueError, match="at least one picture"):
        tile_grid([], [], columns=2, tile=(30, 20))

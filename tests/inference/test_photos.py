"""Forms in which photos are given."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcolor.boxes import CropContext
from jaxcolor.data.types import Boxes, DataError
from jaxcolor.inference.photos import check_photos, prepare, prepare_all, read_photo
from tests.small import photo

RGB = photo(np.random.default_rng(0), 6, 9)
GRAY = RGB[..., 0]
THREE_GRAY = np.repeat(GRAY[..., None], 3, axis=-1)
SETTINGS: dict[str, Any] = {"side": 16, "context": CropContext(), "boxes_per_photo": 8, "with_crops": True}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    Image.fromarray(RGB).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (RGB, RGB),
        (jnp.asarray(RGB), RGB),
        (RGB[::-1, ::2], RGB[::-1, ::2]),
        (GRAY, THREE_GRAY),
        (jnp.asarray(GRAY), THREE_GRAY),
        (RGB.astype(np.uint16) * 257, RGB),
        (RGB.astype(">u2") * 257 + 128, RGB),  # what 8 bits cannot say is rounded
        (GRAY.astype(np.uint16) * 257 - 128, THREE_GRAY),
        (jnp.asarray(GRAY, jnp.uint16) * 257, THREE_GRAY),
        (Image.fromarray(RGB), RGB),
        (Image.fromarray(GRAY), THREE_GRAY),
        (Image.fromarray(GRAY.astype(np.uint16) * 257), THREE_GRAY),
        (Image.merge("RGBA", [*Image.fromarray(RGB).split(), Image.new("L", (9, 6), 255)]), RGB),
    ],
)
def test_what_is_taken(given: Any, expected: np.ndarray) -> None:
    found = read_photo(given)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_files_and_pictures_are_upright(file: Path, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_photo(file), RGB)
    np.testing.assert_array_equal(read_photo(str(file)), RGB)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned 90 degrees clockwise
    Image.fromarray(np.rot90(RGB)).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        np.testing.assert_array_equal(read_photo(opened), RGB)
        assert opened.getexif()[0x0112] == 6  # the caller's is as it was


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (RGB.astype(np.float32), r"\(6, 9, 3\) float32"),
        (jnp.asarray(GRAY, jnp.float32), r"\(6, 9\) float32"),
        (RGB.astype(np.int32), r"\(6, 9, 3\) int32"),
        (RGB > 100, r"\(6, 9, 3\) bool"),
        (RGB[..., :2], r"\(6, 9, 2\) uint8"),
        (RGB[None], r"\(1, 6, 9, 3\) uint8"),
        (RGB[:0], r"\(0, 9, 3\) uint8"),
        (RGB.tolist(), "list"),
        (RGB.tobytes(), "bytes"),
        (None, "NoneType"),
    ],
)
def test_anything_else_says_what_is_taken(given: Any, named: str) -> None:
    taken = (
        r"a photo is a path, a PIL image, or a NumPy or JAX array, \(H, W\) or \(H, W, 3\), of uint8 or uint16; not "
    )
    with pytest.raises(ValueError, match=f"^{taken}{named}$"):
        read_photo(given)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("photos/a.png", "str"),
        (Path("photos/a.png"), r"\w*Path"),
        (Image.fromarray(RGB), "Image"),
        (RGB, r"\(6, 9, 3\) uint8"),
        (jnp.asarray(GRAY), r"\(6, 9\) uint8"),
        (b"photo", "bytes"),
        (None, "NoneType"),
        ({"a.png": RGB}, "dict"),
        (iter([RGB]), "list_iterator"),
    ],
)
def test_one_photo_is_not_several(given: Any, named: str) -> None:
    """Rows of an array would be colored as gray photos of three pixels in width."""
    with pytest.raises(ValueError, match=rf"^photos are a list or another sequence, or an array .*; not {named}$"):
        check_photos(given)


@pytest.mark.parametrize("given", [[], [RGB], (RGB, "a.png"), RGB[None], jnp.asarray(RGB)[None]])
def test_several_photos(given: Any) -> None:
    check_photos(given)


@pytest.mark.parametrize(
    ("boxes", "scores", "said"),
    [
        ([["a", 1, 2, 3]], None, r"photo 3: boxes are x0, y0, x1, y1, \(N, 4\), numbers; not list: could not convert"),
        ([[0, 0, 5, 5], [1, 2]], None, r"boxes are x0, y0, x1, y1, \(N, 4\), numbers; not list: .*inhomogeneous"),
        ({"a": 1}, None, r"boxes are x0, y0, x1, y1, \(N, 4\), numbers; not dict"),
        ([0, 0, 5, 5], None, r"boxes are \(N, 4\), not \(4,\)"),
        ([[0, 0, 5, 5]], "high", r"scores are \(N,\), numbers; not str"),
        ([[0, 0, 5, 5]], [0.5, 0.6], r"1 boxes but scores of shape \(2,\)"),
    ],
)
def test_boxes_and_scores_of_another_form(boxes: Any, scores: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        prepare(RGB, boxes, scores, None, where="photo 3", **SETTINGS)


@pytest.mark.parametrize("boxes", [None, [], (), np.zeros((0, 4)), jnp.zeros((0, 4)), [[0, 0, 5, 5]], jnp.ones((2, 4))])
def test_boxes_of_any_kind(boxes: Any) -> None:
    prepared = prepare(GRAY, boxes, None, None, where="photo", **SETTINGS)
    assert prepared.given == (0 if boxes is None else len(boxes))


def test_crops_show_the_context_of_their_boxes() -> None:
    prepared = prepare(RGB, [[3, 2, 5, 4]], None, None, where="photo", **SETTINGS | {"context": CropContext(1.0)})
    assert prepared.boxes.tolist() == [[3, 2, 5, 4]]
    assert prepared.crop_boxes.tolist() == [[2, 1, 6, 5]]
    shown = Image.fromarray(RGB[1:5, 2:6]).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(prepared.example.crop_rgb[0], shown)


def test_close_boxes_may_share_a_crop() -> None:
    boxes, scores = [[3, 2, 5, 4], [0, 0, 1, 1], [3, 2, 5, 4]], [0.1, 0.2, 0.3]
    settings = SETTINGS | {"context": CropContext(1.0), "where": "photo"}
    own = prepare(RGB, boxes, scores, None, **settings)
    shared = prepare(RGB, boxes, scores, None, **settings, share_crops=True)
    assert (len(own.crop_boxes), len(shared.crop_boxes)) == (3, 2)
    assert shared.used.tolist() == own.used.tolist() == [2, 1, 0]
    assert shared.example.scores.tolist() == pytest.approx([0.3, 0.2])
    assert len(shared.example.crop_rgb) == len(shared.example.level_boxes) == 2
    np.testing.assert_array_equal(shared.crop_boxes[1], own.crop_boxes[1])


def test_boxes_are_found_where_that_is_asked_for() -> None:
    asked = []

    def find(photos: Any) -> list[Boxes]:
        asked.extend(photos)
        boxes = np.array([[0, 0, 4, 4], [1, 1, 5, 5]], np.float32)
        return [Boxes(boxes, np.array([0.2, 0.9], np.float32))] * len(photos)

    photos: list[Any] = [RGB, GRAY, RGB]
    given = prepare_all(photos, [None, "auto", [[2, 2, 6, 6]]], None, None, find, **SETTINGS)
    assert len(asked) == 1
    np.testing.assert_array_equal(asked[0], THREE_GRAY)
    assert [one.boxes.tolist() for one in given] == [[], [[0, 0, 4, 4], [1, 1, 5, 5]], [[2, 2, 6, 6]]]
    assert given[1].used.tolist() == [1, 0]
    everywhere = prepare_all(photos, "auto", None, None, find, **SETTINGS)
    assert [len(one.boxes) for one in everywhere] == [2, 2, 2]
    with pytest.raises(ValueError, match="3 photos, 1 sets of boxes, 3 of scores"):
        prepare_all(photos, ["auto"], None, None, find, **SETTINGS)


def test_what_cannot_be_read(file: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: cannot read this photo"):
        read_photo(file.with_name("none.png"))
    with pytest.raises(DataError, match="this picture cannot be used: its pixels are floating-point numbers"):
        read_photo(Image.fromarray(GRAY.astype(np.float32)))

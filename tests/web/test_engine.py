"""What is computed again and what is not; results are those of ``Colorizer``."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from jaxcolor import Colorizer, Hint
from jaxcolor.data.types import DataError
from jaxcolor.runtime.byte_cache import ByteCache
from jaxcolor.runtime.errors import UserError
from jaxcolor.web import limits
from jaxcolor.web.engine import Engine, State
from jaxcolor.web.uploads import GoneError, Upload, clean_name
from tests import small
from tests.web.conftest import MODEL

BOXES = ((5.0, 4.0, 40.0, 50.0), (30.0, 10.0, 75.0, 58.0), (50.0, 5.0, 70.0, 30.0))
RED = Hint(60.0, 20.0, "#c02020", 6.0)
"""In the second and the third box."""


def encoded(rgb: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, format=kind)
    return file.getvalue()


@pytest.fixture
def engine(colorizer: Colorizer) -> Engine:
    return Engine(colorizer)


@pytest.fixture
def upload(engine: Engine, photo: np.ndarray) -> Upload:
    return engine.uploads.add("old.png", encoded(photo))


@pytest.mark.parametrize(
    "state",
    [State(), State(hints=(RED,)), State(BOXES[:1]), State(BOXES, (RED, Hint.on_object(0, "#2040c0")))],
    ids=["plain", "hint", "box", "boxes and hints"],
)
@pytest.mark.parametrize("vivid", [0.0, 0.7])
def test_colors_are_those_of_the_colorizer(
    engine: Engine, upload: Upload, photo: np.ndarray, state: State, vivid: float
) -> None:
    found = engine.picture(upload, state, engine.uploads.pixels(upload), vivid)
    expected = engine.colorizer(photo, list(state.boxes), hints=state.hints, vivid=vivid)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert np.abs(found.astype(int) - photo).max() > 5


def test_crops_with_context(photo: np.ndarray) -> None:
    model = dataclasses.replace(MODEL, crop_context=0.5)
    engine = Engine(Colorizer(model, small.variables(MODEL)))
    upload = engine.uploads.add("old.png", encoded(photo))
    for state in (State(BOXES[:2], (RED,)), State(BOXES[:1])):
        found = engine.picture(upload, state, engine.uploads.pixels(upload))
        expected = engine.colorizer(photo, list(state.boxes), hints=state.hints)
        assert np.abs(found.astype(int) - expected).max() <= 1


def test_weights_of_the_full_image_alone(full_only: Colorizer, photo: np.ndarray) -> None:
    engine = Engine(full_only)
    upload = engine.uploads.add("old.png", encoded(photo))
    state = State(BOXES, (Hint.on_object(1, "#c02020"),))
    found = engine.picture(upload, state, engine.uploads.pixels(upload))
    assert np.abs(found.astype(int) - full_only(photo, list(BOXES), hints=state.hints)).max() <= 1
    with pytest.raises(UserError, match="predict no distribution"):
        engine.palette(upload, state, 0)
    with pytest.raises(UserError, match="neither a class head"):
        engine.picture(upload, state, photo, 0.5)


def test_what_did_not_change_is_not_computed_again(engine: Engine, upload: Upload) -> None:
    def counts() -> tuple[int, int, int]:
        return engine.crops_computed, engine.photos_computed, engine.looks_computed

    engine.look(upload, State(BOXES))
    assert counts() == (3, 1, 1)
    engine.picture(upload, State(BOXES), upload.preview, 0.5)
    engine.palette(upload, State(BOXES), 1)
    engine.samples(upload, State(BOXES), 3, 0)
    assert counts() == (3, 1, 1)
    engine.look(upload, State(BOXES, (RED,)))
    assert counts() == (5, 2, 2)  # the hint lies in two of the crops
    engine.look(upload, State(((6.0, 4.0, 41.0, 50.0), *BOXES[1:]), (RED,)))
    assert counts() == (6, 2, 3)  # one box moved
    engine.look(upload, State(BOXES[:2], (RED,)))
    assert counts() == (6, 2, 4)
    engine.look(upload, State(BOXES))
    assert counts() == (6, 2, 4)  # undone


def test_a_session_of_the_colorizer(colorizer: Colorizer, photo: np.ndarray) -> None:
    session, own = colorizer.session(photo), colorizer._sessions
    before = own.crops_computed, own.photos_computed
    for boxes, hints, crops, photos in ((BOXES, (), 3, 1), (BOXES, (RED,), 5, 2), (None, (RED,), 5, 2)):
        found = session(boxes, hints, saturation=1.2)
        expected = colorizer(photo, boxes, hints=hints, saturation=1.2)
        assert np.abs(found.astype(int) - expected).max() <= 1
        assert (own.crops_computed - before[0], own.photos_computed - before[1]) == (crops, photos)
    with pytest.raises(ValueError, match="boxes are"):
        session([1, 2, 3])


def test_caches_are_bounded(engine: Engine, upload: Upload, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = (engine._looks, engine._distributions, engine._sessions.crops, engine._sessions.photos)
    for cache in kept:
        cache.most_bytes = 1
    for x in range(5):
        engine.look(upload, State(((float(x), 0.0, 40.0, 40.0),)))
    assert [len(cache) for cache in kept] == [1] * 4
    first = engine.picture(upload, State(BOXES), upload.preview)
    assert np.array_equal(first, engine.picture(upload, State(BOXES), upload.preview))


def test_palettes_are_those_of_the_colorizer(engine: Engine, upload: Upload, photo: np.ndarray) -> None:
    expected = engine.colorizer.palette(photo, list(BOXES), points=[(60, 20)])
    # Not box 0: a bin lies midway between two of its colors, to a millionth, and may go with either.
    for at, colors in ((1, expected.boxes[1]), (2, expected.boxes[2]), ((60.0, 20.0), expected.points[0])):
        found = engine.palette(upload, State(BOXES), at)
        np.testing.assert_allclose(found.probability, colors.probability, atol=1e-5)
        assert np.abs(found.rgb.astype(int) - colors.rgb).max() <= 1


@pytest.mark.parametrize(
    ("at", "message"),
    [(3, "no object 3: the photo has 3 boxes"), (-1, "no object -1"), ((80.0, 2.0), "lies outside the photo, 80 x 60")],
)
def test_places_that_there_are_not(engine: Engine, upload: Upload, at: int | tuple[float, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        engine.palette(upload, State(BOXES), at)


def test_samples_are_states_that_can_be_gone_on_from(engine: Engine, upload: Upload) -> None:
    given = State(BOXES[:2], (RED,))
    samples = engine.samples(upload, given, 3, 0)
    assert len(samples) == len(set(samples)) > 1
    assert all(sample.hints[-1] == RED and sample.boxes == given.boxes for sample in samples)
    assert samples == engine.samples(upload, given, 3, 0)
    pictures = [engine.picture(upload, sample, upload.thumbnail) for sample in samples]
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() > 3
    with pytest.raises(UserError, match="7 samples"):
        engine.samples(upload, given, limits.SAMPLES + 1, 0)


def test_a_photo_is_turned_and_shrunk(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PREVIEW_SIDE", 40)
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(file, format="JPEG", exif=exif)
    upload = engine.uploads.add("C:\\photos\\süß\x1b.jpg", file.getvalue())
    assert upload.size == (60, 80)
    assert upload.preview.shape == (40, 30, 3)
    assert upload.name == "süß.jpg"


def test_what_is_no_photo_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"^a\.jpg: cannot read this photo: cannot identify image file$"):
        engine.uploads.add("a.jpg", b"rubbish")
    monkeypatch.setattr(limits, "PIXELS", 1000)
    with pytest.raises(DataError, match=r"it is 80 x 60 pixels; at most 0\.001 million are taken"):
        engine.uploads.add("a.png", encoded(np.zeros((60, 80, 3), np.uint8)))


def test_photos_used_longest_ago_go_first(engine: Engine, photo: np.ndarray) -> None:
    first = engine.uploads.add("1.png", encoded(photo))
    size = engine.uploads._kept.bytes
    engine.uploads._kept.most_bytes = 3 * size
    others = [engine.uploads.add(f"{n}.png", encoded(photo)) for n in range(2, 5)]
    assert len(engine.uploads) == 3
    assert engine.uploads.get(others[0].key).name == "2.png"
    with pytest.raises(GoneError, match="send it again"):
        engine.uploads.get(first.key)
    engine.forget(others[0].key)
    with pytest.raises(GoneError):
        engine.uploads.get(others[0].key)


def test_the_cache_counts_bytes() -> None:
    cache: ByteCache[str, int] = ByteCache(10)
    for key, size in (("a", 4), ("b", 4), ("a", 5)):
        cache.put(key, size, size)
    assert cache.bytes == 9
    cache.get("b")
    cache.put("c", 3, 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c"), cache.bytes) == (None, 4, 3, 7)
    cache.put("large", 100, 100)
    assert (len(cache), cache.get("large")) == (1, 100)
    cache.remove("large")
    assert cache.bytes == 0


@pytest.mark.parametrize(
    ("name", "clean"),
    [("a/b.jpg", "b.jpg"), ("..", "photo"), ("", "photo"), ('a"\r\n.png', "a.png"), ("x" * 300, "x" * 100)],
)
def test_names_can_be_written_anywhere(name: str, clean: str) -> None:
    assert clean_name(name) == clean


def test_warming_up_compiles_what_a_photo_needs(colorizer: Colorizer, photo: np.ndarray) -> None:
    engine = Engine(colorizer)
    assert len(list(engine.warm_up())) == 8
    own = engine._sessions
    programs = (own.encoder, own.full, own.instance, own.fused)
    compiled = [program._cache_size() for program in programs]
    assert compiled == [1, 1, 1, 6]
    upload = engine.uploads.add("old.png", encoded(photo))
    for boxes in ((), BOXES[:1], BOXES[:2], BOXES, BOXES * 2):
        engine.look(upload, State(boxes, (RED,)))
    assert [program._cache_size() for program in programs] == compiled

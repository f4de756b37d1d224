"""The head of weights where photos are colored: API, commands, page."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image

from jaxcolor import Colorizer
from jaxcolor.cli import main
from jaxcolor.config import BoxHeadConfig, ConfigError, FusionConfig
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.inference.box_finder import BoxFinder
from jaxcolor.models import box_head
from jaxcolor.web.service import File, Service, Wish
from jaxcolor.weights import native
from jaxcolor.weights.native import BoxHeadWeights
from jaxcolor.weights.reference import WeightsError
from tests import small

MODEL = dataclasses.replace(small.FEW, side=64, fusion=FusionConfig(layers=("conv2_2", "conv8_up")))
HEAD = BoxHeadConfig(channels=8, groups=2)


class Given(NamedTuple):
    """Weights, and photos of which the head finds something in the first alone."""

    weights: Path
    full_only: Path
    """Without instances, with the head."""
    no_head: Path
    photos: list[np.ndarray]
    colorizer: Colorizer


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    trees: Any = small.variables(MODEL)
    params = jax.device_get(box_head.init(MODEL, HEAD, 0))
    params["params"]["heat"]["kernel"] = params["params"]["heat"]["kernel"] * 50
    photos = [small.gray(small.photo(np.random.default_rng(seed), 50 + seed, 70)) for seed in range(2)]
    found = BoxFinder(MODEL, trees, BoxHeadWeights(HEAD, params))(photos, 0.0)
    best = [boxes.scores[0] for boxes in found]
    photos = [photos[i] for i in np.argsort(best)[::-1]]
    head = BoxHeadWeights(dataclasses.replace(HEAD, threshold=float(np.mean(best))), params)
    folder = tmp_path_factory.mktemp("weights")
    names = [folder / f"{name}.safetensors" for name in ("all", "full", "no_head")]
    native.save(names[0], MODEL, trees, box_head=head)
    native.save(names[1], MODEL, {"full": trees["full"]}, box_head=head)
    native.save(names[2], MODEL, trees)
    return Given(*names, photos, Colorizer.from_pretrained(names[0]))


@pytest.fixture
def folder(given: Given, tmp_path: Path) -> Path:
    """The photos as files a.png and b.png."""
    (tmp_path / "photos").mkdir()
    for name, rgb in zip("ab", given.photos, strict=True):
        Image.fromarray(rgb).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path / "photos"


def pictures(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(folder / f"{name}.png").convert("RGB")) for name in "ab"]


def colorize(weights: Path, folder: Path, out: Path, *options: str) -> int:
    return main(["colorize", str(folder), "-w", str(weights), "-o", str(out), *options])


def test_boxes_are_found_and_used(given: Given) -> None:
    colorizer, photos = given.colorizer, given.photos
    assert colorizer.finds_boxes
    first, second = colorizer.find_boxes(photos)
    assert 0 < len(first.boxes) < 20
    assert len(second.boxes) == 0
    assert (first.boxes >= 0).all()
    assert (first.boxes <= [70, photos[0].shape[0]] * 2).all()
    automatic = colorizer.many(photos, "auto")
    by_hand = colorizer.many(photos, [first.boxes, None], [first.scores, None])
    for one, other in zip(automatic, by_hand, strict=True):
        np.testing.assert_array_equal(one, other)
    # The second photo went through the full-image network alone, the first did not.
    full = colorizer.many(photos)
    assert [bool((one != other).any()) for one, other in zip(automatic, full, strict=True)] == [True, False]
    mixed = colorizer.many(photos, [None, "auto"])
    np.testing.assert_array_equal(mixed[0], full[0])
    assert all(len(boxes.boxes) > len(first.boxes) for boxes in colorizer.find_boxes(photos[:1], 0.0))
    assert colorizer.find_boxes([]) == []


def test_what_cannot_be_found(given: Given) -> None:
    photo = given.photos[0]
    with pytest.raises(ValueError, match="scores belong to boxes that are given"):
        given.colorizer(photo, "auto", [1.0])
    with pytest.raises(ValueError, match="boxes are x0, y0, x1, y1"):
        given.colorizer(photo, "automatic")
    with pytest.raises(ValueError, match="photos are a list"):
        given.colorizer.find_boxes("photo.png")
    without = Colorizer.from_pretrained(given.no_head)
    assert not without.finds_boxes
    for ask in (lambda: without.find_boxes([photo]), lambda: without(photo, "auto")):
        with pytest.raises(WeightsError, match="these weights have no head that finds boxes"):
            ask()
    head = native.load(given.weights).box_head
    with pytest.raises(ConfigError, match="fewer than 64 pixels"):
        BoxFinder(dataclasses.replace(MODEL, side=32), {"full": {}}, head)


def test_how_many_is_for_the_head_or_the_caller_to_say(given: Given) -> None:
    weights = native.load(given.weights)
    head = weights.box_head
    head = head._replace(config=dataclasses.replace(head.config, threshold=0.0, most_boxes=3))
    for asked, expected in ((None, 3), (5, 5)):
        colorizer = Colorizer(weights.config, weights.variables, asked, box_head=head)
        found, candidates = (colorizer.find_boxes(given.photos[:1], least)[0] for least in (None, 0.0))
        assert len(candidates.boxes) > 5
        assert np.array_equal(found.boxes, candidates.boxes[:expected])


def test_colorize_finds_boxes_where_none_lie_beside(
    given: Given, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = len(given.colorizer.find_boxes(given.photos[:1])[0].boxes)
    boxes = "1 box" if count == 1 else f"{count} boxes"
    said = f"{boxes} found by the weights' own head in 1 of 2 photos; none in 1: full-image network alone"
    automatic, full = given.colorizer.many(given.photos, "auto"), given.colorizer.many(given.photos)
    assert colorize(given.weights, folder, tmp_path / "out") == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "found by" in line] == [said]
    for written, wanted in zip(pictures(tmp_path / "out"), automatic, strict=True):
        assert np.abs(written.astype(int) - wanted).max() <= 1

    assert colorize(given.weights, folder, tmp_path / "none", "--boxes=none") == 0
    assert "boxes" not in capsys.readouterr().err
    for written, wanted in zip(pictures(tmp_path / "none"), full, strict=True):
        assert np.abs(written.astype(int) - wanted).max() <= 1

    (tmp_path / "photos_bbox").mkdir()
    for name in "ab":
        np.savez(tmp_path / "photos_bbox" / f"{name}.npz", bbox=np.zeros((0, 4), np.float32), scores=np.zeros(0))
    assert colorize(given.weights, folder, tmp_path / "beside") == 0
    assert "own head" not in capsys.readouterr().err
    np.testing.assert_array_equal(pictures(tmp_path / "beside")[0], pictures(tmp_path / "none")[0])
    assert colorize(given.weights, folder, tmp_path / "auto", "--boxes=auto") == 0
    assert said in capsys.readouterr().err
    np.testing.assert_array_equal(pictures(tmp_path / "auto")[0], pictures(tmp_path / "out")[0])


def test_colorize_with_weights_that_cannot(
    given: Given, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert colorize(given.no_head, folder, tmp_path / "out", "--boxes=auto") == 1
    said = f"jaxcolor colorize: --boxes auto: {given.no_head} has no head that finds boxes (docs/own_boxes.md)"
    assert capsys.readouterr().err.startswith(said)
    assert colorize(given.full_only, folder, tmp_path / "full") == 0
    assert "boxes" not in capsys.readouterr().err
    assert colorize(given.full_only, folder, tmp_path / "again", "--boxes=auto") == 0
    assert "full.safetensors holds the full-image network only: boxes are not used" in capsys.readouterr().err


def test_the_detector(given: Given, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["boxes", "detect", str(folder), "-o", str(tmp_path / "store"), "--detector=own", "--weights"]
    assert main([*command, str(given.no_head)]) == 1
    assert "have no head that finds boxes" in capsys.readouterr().err
    assert main([*command, str(given.weights), "--threshold=0.0", "--max-boxes=5"]) == 0
    store = open_store(tmp_path / "store")
    for name, wanted in zip("ab", given.colorizer.find_boxes(given.photos, 0.0), strict=True):
        found = store.read(name)
        np.testing.assert_allclose(found.scores, wanted.scores[:5], rtol=0.05)
        np.testing.assert_allclose(found.boxes[0], wanted.boxes[0], atol=1)
    assert store.manifest.detector.startswith("head of all.safetensors (SHA-256 ")


def test_the_page_begins_with_the_boxes(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(given.colorizer)
    first = given.colorizer.find_boxes(given.photos[:1])[0]
    wanted = tuple(tuple(int(v) for v in box) for box in first.boxes[:8])
    wishes: list[Wish] = []
    monkeypatch.setattr(service, "download", lambda key, wish: wishes.append(wish) or File(b"", "", ""))
    for rgb, boxes in zip(given.photos, (wanted, ()), strict=True):
        file = io.BytesIO()
        Image.fromarray(rgb).save(file, "PNG")
        assert service.add("a.png", file.getvalue())["boxes"] == boxes
        service.color("a.png", file.getvalue())
        assert wishes[-1].state.boxes == boxes
    service.close()


def test_other_storage_keeps_the_head(given: Given, tmp_path: Path) -> None:
    assert main(["convert", str(given.weights), str(tmp_path / "small.safetensors"), "--storage", "int8"]) == 0
    found, before = native.load(tmp_path / "small.safetensors").box_head, native.load(given.weights).box_head
    assert found is not None
    assert before is not None
    assert found.config == before.config

"""Photos held in the devices' memory: what a step draws, and that a run resumes and does not depend on the mapping."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcolor.batch import Batch
from jaxcolor.boxes import CropContext, crop_boxes
from jaxcolor.config import Config, ConfigError, DataConfig, ScenesConfig, StageConfig
from jaxcolor.data.loader import Parts
from jaxcolor.data.sources.registry import make_source
from jaxcolor.data.transforms import example
from jaxcolor.data.types import DataError
from jaxcolor.training import train
from jaxcolor.training.compatibility import tree_digests
from jaxcolor.training.device_cache import Held, cache_side, check, draw, load
from tests.small import photo
from tests.training.runs import ONLY_FULL, stage

SIDE = 16
DRAW = jax.jit(draw, static_argnames=("count", "side", "stage", "parts", "context", "max_crops_per_image"))
WHOLE = StageConfig()
WINDOWS = StageConfig(flip=True, crop_area=0.4, crop_aspect=1.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(19):
        Image.fromarray(photo(rng, 24 + i, 40 - i)).save(path / f"{i:02d}.png")
    return path


@pytest.fixture(scope="module")
def data(folder: Path) -> DataConfig:
    return DataConfig(path=str(folder), missing_boxes="none", cache="device")


def held(data: DataConfig, devices: int = 1) -> np.ndarray:
    return np.asarray(load(make_source(data, SIDE), data, "full", SIDE, devices).photos)


class TestLoading:
    def test_photos_are_reduced_as_pillow_does(self, data: DataConfig, folder: Path) -> None:
        photos, side = held(data), cache_side(data, SIDE)
        assert photos.shape == (19, side, side, 3)
        with Image.open(folder / "07.png") as image:
            expected = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(photos[7], expected)

    def test_devices_get_equal_shares(self, data: DataConfig) -> None:
        assert len(held(data, devices=8)) == 16
        with pytest.raises(DataError, match="19 photos cannot be shared out among 20 devices"):
            held(data, devices=20)

    def test_photos_that_cannot_be_used(self, data: DataConfig, tmp_path: Path, capsys: Any) -> None:
        Image.new("RGB", (30, 30), (9, 9, 9)).save(tmp_path / "gray.png")
        Image.fromarray(photo(np.random.default_rng(0), 30, 30)).save(tmp_path / "good.png")
        (tmp_path / "torn.png").write_bytes((tmp_path / "good.png").read_bytes()[:90])
        here = dataclasses.replace(data, path=str(tmp_path), bad_photos="skip", gray_photos="skip")
        assert len(held(here)) == 1
        said = capsys.readouterr().err
        assert "photo gray: it is gray" in said
        assert "torn.png" in said
        with pytest.raises(DataError, match="gray"):
            held(dataclasses.replace(here, gray_photos="error"))


def drawn(photos: np.ndarray, step: int, settings: StageConfig, count: int = 4) -> np.ndarray:
    nothing = Held(photos, np.zeros((len(photos), 0, 4), np.float32))
    return np.asarray(
        DRAW(nothing, jax.random.key(0), jnp.int32(step), count=count, side=SIDE, stage=settings).full_rgb
    )


class TestDrawing:
    PHOTOS = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, SIDE, SIDE, 3), np.uint8)

    def test_each_pass_shows_every_photo_once_in_an_order_of_its_own(self) -> None:
        shown = np.concatenate([drawn(self.PHOTOS, step, WHOLE)[:, 0, 0, 0] for step in range(10)])
        passes = shown.reshape(4, 10)
        np.testing.assert_array_equal(np.sort(passes), np.tile(np.arange(10), (4, 1)))
        assert len({tuple(order) for order in passes}) == 4

    def test_more_photos_a_step_than_there_are(self) -> None:
        shown = drawn(self.PHOTOS, 0, WHOLE, count=25)[:, 0, 0, 0]
        np.testing.assert_array_equal(np.sort(shown[:20].reshape(2, 10)), np.tile(np.arange(10), (2, 1)))

    def test_without_windows_a_photo_is_itself(self) -> None:
        photos = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
        for one in drawn(photos, 5, WHOLE, count=3):
            assert any(np.array_equal(one, other) for other in photos)

    def test_windows_lie_in_the_photo_and_keep_the_share_of_its_area(self) -> None:
        """On two ramps a pixel says where it is from: corners give the window, mirrored or not."""
        ramp = np.linspace(0, 255, 64)
        photos = np.stack([*np.meshgrid(ramp, ramp), np.zeros((64, 64))], axis=-1).astype(np.uint8)[None]
        shown = drawn(photos, 0, WINDOWS, count=200).astype(float) / 255
        width = np.abs(shown[:, 0, -1, 0] - shown[:, 0, 0, 0]) * SIDE / (SIDE - 1)
        height = (shown[:, -1, 0, 1] - shown[:, 0, 0, 1]) * SIDE / (SIDE - 1)
        mirrored = shown[:, 0, -1, 0] < shown[:, 0, 0, 0]
        assert 0.35 < mirrored.mean() < 0.65
        area = width * height
        assert area.min() > 0.34  # what sticks out is cut off
        assert 0.55 < area.mean() < 0.8
        assert area.max() <= 1.05

    def test_it_is_a_function_of_key_and_step(self) -> None:
        photos = np.random.default_rng(0).integers(0, 256, (9, SIDE, SIDE, 3), np.uint8)
        np.testing.assert_array_equal(drawn(photos, 3, WINDOWS), drawn(photos, 3, WINDOWS))
        assert (drawn(photos, 3, WINDOWS) != drawn(photos, 4, WINDOWS)).any()


BOXES = np.array([[8, 4, 24, 20], [0, 0, 6, 30], [30, 40, 64, 64]], np.int32)
CONTEXT = CropContext(0.5, 0.25)


class TestCrops:
    """Against what the data loader makes of the same photos."""

    SIDE = 32
    PHOTOS = np.stack([photo(np.random.default_rng(i), 64, 64) for i in range(4)])
    SHARES = np.zeros((4, 3, 4), np.float32)
    SHARES[1:, 0] = BOXES[0] / 64
    SHARES[2:, 1] = BOXES[1] / 64
    SHARES[3:, 2] = BOXES[2] / 64

    def drawn(self, parts: Parts, settings: StageConfig = WHOLE, most: float = 3.0, count: int = 4) -> Batch:
        held = Held(self.PHOTOS, self.SHARES)
        made = DRAW(
            held,
            jax.random.key(0),
            jnp.int32(0),
            count=count,
            side=self.SIDE,
            stage=settings,
            parts=parts,
            context=CONTEXT,
            max_crops_per_image=most,
        )
        return Batch(*(np.asarray(x) for x in made))

    def number(self, full: np.ndarray) -> int:
        """Which photo this is."""
        small = [
            np.asarray(Image.fromarray(p).resize((self.SIDE, self.SIDE), Image.Resampling.BILINEAR))
            for p in self.PHOTOS
        ]
        return int(np.argmin([np.abs(full.astype(int) - s).mean() for s in small]))

    def test_crops_and_their_places_are_the_loaders(self) -> None:
        batch = self.drawn("both")
        seen = 0
        for place, full in enumerate(batch.full_rgb):
            number = self.number(full)
            cut = crop_boxes(BOXES[:number], (64, 64), CONTEXT)
            expected = example(Image.fromarray(self.PHOTOS[number]), cut, np.ones(number, np.float32), self.SIDE)
            assert expected.full_rgb is not None
            np.testing.assert_allclose(full.astype(int), expected.full_rgb.astype(int), atol=1)
            own = batch.crop_to_image == place
            assert own.sum() == number
            np.testing.assert_array_equal(batch.level_boxes[own], expected.level_boxes)
            for crop, other in zip(batch.crop_rgb[own], expected.crop_rgb, strict=True):
                np.testing.assert_allclose(crop.astype(int), other.astype(int), atol=1)
            seen += number
        assert seen == 6
        assert (batch.crop_rgb[batch.crop_to_image < 0] == 0).all()

    def test_where_there_are_too_many_every_photo_keeps_its_best(self) -> None:
        batch = self.drawn("both", most=1.0)
        assert sorted(np.bincount(batch.crop_to_image[batch.crop_to_image >= 0], minlength=4)) == [0, 1, 1, 2]

    def test_stage_instance_takes_one_box_of_each_photo(self) -> None:
        batch = self.drawn("instance", count=40)
        assert len(batch.full_rgb) == 0
        assert (batch.crop_to_image >= 0).sum() == 30  # a quarter has no boxes; the loader leaves such photos out
        assert len(np.unique(batch.level_boxes[batch.crop_to_image >= 0], axis=0)) == 3

    def test_windows_and_mirrors_move_crops_and_boxes_alike(self) -> None:
        """What a crop shows is what the full image shows at its place."""
        batch = self.drawn("both", StageConfig(flip=True, crop_area=0.4), count=24)
        boxes, owners = batch.level_boxes[:, 0], batch.crop_to_image
        assert (boxes[owners >= 0, 2:] >= 0.25 * self.SIDE - 1).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= self.SIDE).all()
        for crop, owner, (x, y, w, h) in zip(batch.crop_rgb, owners, boxes, strict=True):
            if owner >= 0:
                part = batch.full_rgb[owner, y : y + h, x : x + w]
                small = np.asarray(Image.fromarray(crop).resize((w, h), Image.Resampling.BOX))
                assert np.corrcoef(part.ravel(), small.ravel())[0, 1] > 0.85


@pytest.fixture(scope="module")
def config(data: DataConfig) -> Config:
    return dataclasses.replace(ONLY_FULL, data=data, full=stage(4, flip=True, crop_area=0.5))


@pytest.fixture(scope="module")
def finished(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train.train(config, tmp_path_factory.mktemp("cached") / "run")


def test_a_run_of_two_halves_is_the_same_run(config: Config, finished: Any, tmp_path: Path) -> None:
    short = dataclasses.replace(config, full=dataclasses.replace(config.full, steps=2))
    train.train(short, tmp_path)
    assert tree_digests(train.train(config, tmp_path)) == tree_digests(finished)


@pytest.mark.slow
def test_pmap_gives_the_same_bits(config: Config, finished: Any, tmp_path: Path) -> None:
    found = train.train(dataclasses.replace(config, mapping="pmap"), tmp_path)
    assert tree_digests(found) == tree_digests(finished)


def test_accumulation_is_refused(config: Config, tmp_path: Path) -> None:
    parts = dataclasses.replace(config, full=dataclasses.replace(config.full, accumulate=2))
    with pytest.raises(ConfigError, match=r"data\.cache: 'device' is for full\.accumulate 1, not 2"):
        train.train(parts, tmp_path)


def test_crops_of_several_sides_are_refused() -> None:
    data = DataConfig(cache="device", crop_sides=(8, 16))
    check(data, "full", WHOLE)  # has no crops
    for name in ("instance", "fusion"):
        with pytest.raises(ConfigError, match=r"'device' cuts all crops at one side; data\.crop_sides must be empty"):
            check(data, name, WHOLE)


@pytest.mark.slow
def test_stages_with_crops_run_from_memory_and_resume(tmp_path: Path) -> None:
    from tests.training.runs import CONFIG

    config = dataclasses.replace(
        CONFIG,
        data=dataclasses.replace(CONFIG.data, cache="device", cache_side=48, scenes=ScenesConfig(length=40)),
        model=dataclasses.replace(
            CONFIG.model, crop_context=0.5, fusion=dataclasses.replace(CONFIG.model.fusion, strategy="feathered")
        ),
        fusion=dataclasses.replace(CONFIG.fusion, trained="fusion_and_decoder"),
    )
    whole = train.train(config, tmp_path / "whole")
    short = dataclasses.replace(config, fusion=dataclasses.replace(config.fusion, steps=2))
    train.train(short, tmp_path / "halves")
    halves = train.train(config, tmp_path / "halves")
    assert tree_digests(whole) == tree_digests(halves)
    encoder, decoder = (whole["fusion"]["params"]["trunk"][name]["kernel"] for name in ("conv3_1", "conv8_2"))
    np.testing.assert_array_equal(encoder, whole["full"]["params"]["conv3_1"]["kernel"])
    assert (decoder != whole["full"]["params"]["conv8_2"]["kernel"]).any()

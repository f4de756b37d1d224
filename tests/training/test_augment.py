"""What augmentation does to photos, crops and L; that it is each photo's own, whatever the batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.batch import Batch
from jaxcolor.config import AugmentConfig, ConfigError, ModelConfig
from jaxcolor.models import networks
from jaxcolor.training import augment
from jaxcolor.training.augment import augment_luminance, augment_rgb, photo_keys

SIDE = 32
RNG = np.random.default_rng(0)
PHOTOS = RNG.integers(60, 190, (6, SIDE, SIDE, 3), np.uint8)
NUMBERS = np.arange(len(PHOTOS))
KEY = jax.random.key(3)
jitter = jax.jit(augment.jitter, static_argnums=2)
cutmix = jax.jit(augment.cutmix, static_argnums=2)
old_photo = jax.jit(augment.old_photo, static_argnums=3)
ALL_OLD = AugmentConfig(old_photos=1.0)


def keys(numbers: np.ndarray = NUMBERS) -> jax.Array:
    return photo_keys(KEY, jnp.asarray(numbers))


class TestJitter:
    def test_a_gray_photo_stays_gray(self) -> None:
        gray = np.repeat(PHOTOS[..., :1], 3, axis=-1)
        shown = np.asarray(jitter(gray, keys(), 0.3)).astype(int)
        assert np.ptp(shown, axis=-1).max() == 0
        assert (shown != gray).any()

    def test_exposure_lies_within_the_amount(self) -> None:
        means = PHOTOS.astype(float).mean(axis=(1, 2)) @ (0.299, 0.587, 0.114)
        shown = np.asarray(jitter(PHOTOS, keys(), 0.1)).astype(float).mean(axis=(1, 2)) @ (0.299, 0.587, 0.114)
        ratio = shown / means
        assert np.exp(-0.11) < ratio.min() < 0.99
        assert 1.01 < ratio.max() < np.exp(0.11)

    def test_it_is_the_photos_own(self) -> None:
        whole = np.asarray(jitter(PHOTOS, keys(), 0.3))
        np.testing.assert_array_equal(jitter(PHOTOS[4:5], keys(np.array([4])), 0.3)[0], whole[4])


class TestCutmix:
    def test_a_rectangle_is_the_neighbors(self) -> None:
        flat = (NUMBERS.astype(np.uint8) * 10)[:, None, None, None] * np.ones((1, SIDE, SIDE, 3), np.uint8)
        shown = np.asarray(cutmix(flat, keys(), 1.0))[..., 0]
        for number, photo in enumerate(shown):
            other = photo == flat[number - 1, 0, 0, 0]
            assert (other | (photo == flat[number, 0, 0, 0])).all()
            rows, columns = other.any(axis=1), other.any(axis=0)
            np.testing.assert_array_equal(other, rows[:, None] & columns[None])
            assert 0.1 < other.mean() < 0.6

    def test_a_share_of_the_photos(self) -> None:
        many = np.tile(PHOTOS, (50, 1, 1, 1))
        changed = (np.asarray(cutmix(many, keys(np.arange(300)), 0.25)) != many).any(axis=(1, 2, 3))
        assert 0.17 < changed.mean() < 0.33


class TestOldPhotos:
    def test_it_is_what_it_says(self) -> None:
        """On a step of L: less contrast, softer, grainy; each at its strongest alone."""
        edge = jnp.asarray(
            np.where(np.arange(SIDE) < SIDE // 2, -0.5, 0.5)[None, None, :, None] * np.ones((6, SIDE, 1, 1))
        )
        none = AugmentConfig(old_photos=1.0, faded_contrast=1.0, blur=0.0, grain=0.0)
        np.testing.assert_allclose(old_photo(edge, keys(), keys(), none), edge, atol=1e-6)
        faded = np.asarray(old_photo(edge, keys(), keys(), dataclasses.replace(none, faded_contrast=0.2)))
        contrast = np.ptp(faded, axis=(1, 2, 3))
        assert (contrast >= 0.2).all()
        assert (contrast < 1).all()
        assert contrast.min() < 0.6
        assert np.abs(faded).max() <= 0.5
        soft = np.asarray(old_photo(edge, keys(), keys(), dataclasses.replace(none, blur=3.0)))
        assert np.abs(np.diff(soft, axis=2)).max(axis=(1, 2, 3)).mean() < 0.6
        np.testing.assert_allclose(soft.mean(axis=(1, 2, 3)), 0, atol=1e-5)
        grainy = np.asarray(old_photo(0 * edge, keys(), keys(), dataclasses.replace(none, grain=10.0)))
        assert 0.02 < grainy.std() < 0.1
        assert grainy.std(axis=(1, 2, 3)).max() < 0.11

    def test_a_share_of_the_photos_is_touched(self) -> None:
        luminance = jnp.asarray(RNG.uniform(-0.4, 0.4, (300, 8, 8, 1)))
        config = dataclasses.replace(ALL_OLD, old_photos=0.25)
        many = keys(np.arange(300))
        touched = np.asarray(old_photo(luminance, many, many, config) != luminance).any(axis=(1, 2, 3))
        assert 0.17 < touched.mean() < 0.33


def batch(crop_to_image: tuple[int, ...]) -> Batch:
    boxes = np.tile(np.array([0, 0, 8, 8], np.int32), (len(crop_to_image), 4, 1))
    return Batch(PHOTOS, PHOTOS[list(crop_to_image)], np.array(crop_to_image, np.int32), boxes, np.ones(6, bool))


def test_crops_are_as_their_photo() -> None:
    owners = (4, 1, 1)
    given = batch(owners)
    config = AugmentConfig(color_jitter=0.3, old_photos=1.0, grain=0.0)
    own = (KEY, config, jnp.int32(0), jnp.array(owners))
    shown = jax.jit(lambda batch: augment_rgb(batch, *own, mix=False))(given)
    np.testing.assert_array_equal(shown.crop_rgb, shown.full_rgb[np.array(owners)])
    lab = jax.jit(lambda batch: networks.to_lab(batch, ModelConfig(side=SIDE)))(given)
    old = jax.jit(lambda lab: augment_luminance(lab, *own))(lab)
    np.testing.assert_array_equal(old.crop.inputs, old.full.inputs[np.array(owners)])
    assert (np.abs(old.full.luminance - lab.full.luminance).max(axis=(1, 2, 3)) > 0.01).all()
    np.testing.assert_array_equal(old.full.ab, lab.full.ab)
    np.testing.assert_array_equal(old.full.inputs[..., 1:], lab.full.inputs[..., 1:])


def test_off_by_default() -> None:
    given = batch((0,))
    shown = augment_rgb(given, KEY, AugmentConfig(), jnp.int32(0), jnp.array([0]), mix=True)
    np.testing.assert_array_equal(shown.full_rgb, given.full_rgb)
    np.testing.assert_array_equal(shown.crop_rgb, given.crop_rgb)
    lab = networks.to_lab(given, ModelConfig(side=SIDE))
    assert augment_luminance(lab, KEY, AugmentConfig(), jnp.int32(0), jnp.array([0])) is lab


@pytest.mark.parametrize(
    "changes", [{"cutmix": 1.5}, {"old_photos": -0.1}, {"color_jitter": float("nan")}, {"blur": 4.0}]
)
def test_numbers_out_of_range(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        AugmentConfig(**changes)

"""Palettes of objects and the combinations drawn from them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor import color
from jaxcolor.inference import palette
from jaxcolor.inference.palette import Palette

in_gamut_rgb = jax.jit(palette.in_gamut_rgb)
CENTERS = color.bin_centers() * 110


def bumps(*peaks: tuple[float, float, float]) -> np.ndarray:
    """Log probabilities of Gaussians of (mass, a*, b*)."""
    parts = [mass * np.exp(-((CENTERS - ab) ** 2).sum(axis=1) / 128) for mass, *ab in peaks]
    total = sum(parts) + 1e-12
    return np.log(total / total.sum()).astype(np.float32)


RED_OR_BLUE = bumps((0.7, 50, 30), (0.3, 10, -50))
GREEN = bumps((1, -40, 40))
GRAY = bumps((1, 0, 0))


def scene() -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Two photos: an object that is red or blue in each upper left quarter, a green one right of it in the second."""
    logits = np.broadcast_to(GRAY, (2, 8, 8, 529)).copy()
    logits[:, :4, :4] = RED_OR_BLUE
    logits[1, :4, 4:] = GREEN
    boxes = jnp.array([[0, 0, 4, 4], [4, 0, 4, 4], [0, 0, 4, 4], [0, 0, 8, 8]])
    crop_to_image = jnp.array([1, 1, 0, -1])
    luminance = np.zeros((2, 8, 8), np.float32)
    luminance[1, :4, :4], luminance[1, :4, 4:] = -0.1, 0.2
    return jnp.asarray(logits), palette.box_masks(boxes, 8), crop_to_image, jnp.asarray(luminance)


class TestPalettes:
    def test_the_modes_of_each_object_in_its_own_photo(self) -> None:
        found = palette.object_palettes(*scene(), count=3)
        np.testing.assert_array_equal(found.valid.sum(axis=1), [2, 1, 2, 0])
        np.testing.assert_allclose(found.probability[0], [0.7, 0.3, 0], atol=5e-3)
        np.testing.assert_allclose(found.probability.sum(axis=1), [1, 1, 1, 0], atol=1e-5)
        np.testing.assert_allclose(found.ab[0, :2] * 110, [[50, 30], [10, -50]], atol=2)
        np.testing.assert_allclose(found.ab[1, 0] * 110, [-40, 40], atol=2)
        np.testing.assert_allclose(found.ab[0], found.ab[2], atol=1e-5)

    def test_colors_have_the_objects_own_mean_lightness(self) -> None:
        found = palette.object_palettes(*scene(), count=2)
        lab = np.asarray(color.rgb_to_lab(found.rgb))
        np.testing.assert_allclose(lab[0, :, 0], 40, atol=0.3)
        np.testing.assert_allclose(lab[1, 0, 0], 70, atol=0.3)
        np.testing.assert_allclose(lab[0, :, 1:], found.ab[0] * 110, atol=0.5)

    def test_padding_and_empty_masks_have_no_color(self) -> None:
        logits, masks, crop_to_image, luminance = scene()
        found = palette.object_palettes(logits, masks.at[1].set(0), crop_to_image, luminance, count=2)
        for row in (1, 3):
            assert not found.valid[row].any()
            np.testing.assert_array_equal(found.probability[row], 0)
        assert all(np.isfinite(x).all() for x in found)

    def test_the_mixture_is_the_weighted_mean_of_the_pixels(self) -> None:
        rng = np.random.default_rng(0)
        logits, masks = rng.standard_normal((2, 3, 5, 529)), rng.uniform(0, 1, (3, 3, 5))
        index = np.array([1, 0, 1])
        probability = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        share = masks / masks.sum(axis=(1, 2), keepdims=True)
        arrays = [jnp.asarray(x, jnp.float32) for x in (logits, masks)]
        for pooling, values in (("mixture", probability), ("geometric", np.log(probability))):
            expected = (share[..., None] * values[index]).sum(axis=(1, 2))
            if pooling == "geometric":
                expected = np.exp(expected) / np.exp(expected).sum(axis=-1, keepdims=True)
            found = palette.pool_distributions(*arrays, jnp.asarray(index), pooling)
            np.testing.assert_allclose(found, expected, rtol=1e-4)

    def test_one_pixel_rules_a_color_out_of_the_product_alone(self) -> None:
        logits, masks, crop_to_image, luminance = scene()
        logits = logits.at[:, 0, 0].set(jnp.asarray(bumps((1, 10, -50))))
        mixture = palette.object_palettes(logits, masks, crop_to_image, luminance)
        product = palette.object_palettes(logits, masks, crop_to_image, luminance, pooling="geometric")
        assert mixture.probability[0, 0] == pytest.approx(0.7 * 15 / 16, abs=0.01)
        np.testing.assert_allclose(mixture.ab[0, 0] * 110, [50, 30], atol=2)
        np.testing.assert_allclose(product.ab[0, 0] * 110, [10, -50], atol=2)

    def test_bfloat16_logits(self) -> None:
        """The same modes; probabilities to the rounding of the logits."""
        logits, *rest = scene()
        full, half = (palette.object_palettes(x, *rest) for x in (logits, logits.astype(jnp.bfloat16)))
        np.testing.assert_array_equal(half.valid, full.valid)
        np.testing.assert_allclose(half.ab * 110, full.ab * 110, atol=0.5)
        np.testing.assert_allclose(half.probability, full.probability, atol=0.02)


class TestGamut:
    def test_lightness_and_hue_are_kept(self) -> None:
        rng = np.random.default_rng(0)
        luminance = jnp.asarray(rng.uniform(-0.48, 0.48, (500, 1)), jnp.float32)
        ab = jnp.asarray(rng.uniform(-1, 1, (500, 2)), jnp.float32)
        lab = np.asarray(color.rgb_to_lab(in_gamut_rgb(luminance, ab)))
        np.testing.assert_allclose(lab[:, :1], luminance * 100 + 50, atol=0.5)
        chroma, wanted = (np.hypot(x[:, 0], x[:, 1]) for x in (lab[:, 1:], np.asarray(ab) * 110))
        assert (chroma <= wanted + 0.5).all()
        across = np.abs(lab[:, 1] * ab[:, 1] - lab[:, 2] * ab[:, 0]) * 110 / wanted
        assert across.max() < 0.5

    def test_colors_in_gamut_stay_and_others_lie_on_its_edge(self) -> None:
        rgb = np.random.default_rng(0).uniform(0, 1, (500, 3)).astype(np.float32)
        luminance, ab = color.normalize_lab(color.rgb_to_lab(rgb))
        arrays = jnp.asarray(luminance), jnp.asarray(ab)
        np.testing.assert_allclose(in_gamut_rgb(*arrays), rgb, atol=1e-4)
        edge = in_gamut_rgb(jnp.zeros((1, 1)), jnp.array([[0.9, 0.9]]))
        assert (np.minimum(edge, 1 - edge) < 5e-3).any()

    def test_black_and_white_are_gray(self) -> None:
        rgb = in_gamut_rgb(jnp.array([[-0.5], [0.5]]), jnp.array([[0.5, 0.5], [-0.5, 0.3]]))
        np.testing.assert_allclose(rgb, [[0, 0, 0], [1, 1, 1]], atol=0.01)


def test_masks_of_boxes_and_background() -> None:
    masks = palette.box_masks(jnp.array([[1, 0, 2, 3], [0, 2, 4, 1], [0, 0, 4, 4]]), 4)
    expected = np.zeros((2, 4, 4))
    expected[0, 0:3, 1:3] = 1
    expected[1, 2:3, 0:4] = 1
    np.testing.assert_array_equal(masks[:2], expected)
    background = palette.background_masks(masks, jnp.array([1, 1, -1]), 2)
    np.testing.assert_array_equal(background[0], 1)
    np.testing.assert_array_equal(background[1], 1 - expected.max(axis=0))


class TestMiddleWeights:
    BOXES = np.array([[3, 5, 20, 9], [30, 30, 2, 2], [13, 0, 1, 1], [0, 0, 32, 32], [0, 0, 0, 0]])

    def test_equal_to_interpolating_at_every_pixel_of_the_box(self) -> None:
        """The pooled value of a field on the grid is the window's mean of the field, interpolated pixel by pixel."""
        side, cells = 32, 8
        weights = np.asarray(palette.middle_weights(jnp.asarray(self.BOXES), side, cells))
        field = np.random.default_rng(0).normal(size=(cells, cells))
        for (x, y, width, height), weight in zip(self.BOXES[:4].tolist(), weights, strict=False):
            total = value = 0.0
            for row, column in itertools.product(range(y, y + height), range(x, x + width)):
                away = ((column + 0.5 - x) / width - 0.5) ** 2 + ((row + 0.5 - y) / height - 0.5) ** 2
                share = np.exp(-away / (2 * palette.MIDDLE**2))
                r, c = min(row / 4, cells - 1), min(column / 4, cells - 1)
                low_r, low_c = min(int(r), cells - 2), min(int(c), cells - 2)
                by_row = field[low_r : low_r + 2].T @ [1 - (r - low_r), r - low_r]
                value += share * (by_row[low_c : low_c + 2] @ [1 - (c - low_c), c - low_c])
                total += share
            assert (weight * field).sum() / weight.sum() == pytest.approx(value / total, abs=1e-4)

    def test_padding_has_none_and_every_box_some(self) -> None:
        sums = np.asarray(palette.middle_weights(jnp.asarray(self.BOXES), 32, 8)).sum(axis=(1, 2))
        assert (sums[:4] > 1e-3).all()
        assert sums[4] == 0

    def test_a_triangle_in_its_box_hardly_shows_what_is_behind(self) -> None:
        """Half of a triangle's box is background."""
        side, (x, y, size) = 64, (21, 13, 30)
        rows, columns = np.mgrid[:side, :side]
        inside = (rows < y + size) & (np.abs(columns + 0.5 - x - size / 2) < (rows + 0.5 - y) / 2)
        shown = inside[::4, ::4]  # at the grid's own pixels
        weights = np.asarray(palette.middle_weights(jnp.array([[x, y, size, size]]), side, 16))[0]
        box = np.asarray(palette.box_masks(palette.grid_boxes(jnp.array([[x, y, size, size]]), 4), 16))[0]
        assert (box * shown).sum() / box.sum() < 0.6
        assert (weights * shown).sum() / weights.sum() > 0.95


def palettes(*probabilities: tuple[float, ...]) -> Palette:
    """Rows of probabilities; colors that name their object and place."""
    probability = np.asarray(probabilities, np.float32)
    names = np.stack(np.meshgrid(*map(np.arange, probability.shape), indexing="ij"), axis=-1).astype(np.float32)
    rgb = np.concatenate([names, np.zeros_like(names[..., :1])], axis=-1)
    return Palette(*(jnp.asarray(x) for x in (rgb, names, probability, probability > 0)))


class TestDraws:
    def test_distinct_the_most_probable_first_and_falling(self) -> None:
        """Two photos with objects between one another, and a padded object."""
        given = palettes((0.6, 0.4, 0), (0.5, 0.3, 0.2), (0.9, 0.1, 0), (1, 0, 0), (0, 0, 0))
        owner = jnp.array([0, 1, 0, 1, -1])
        draws = palette.draw_object_colors(jax.random.key(3), given, owner, 2, 3)
        np.testing.assert_array_equal(draws.choice[0], 0)
        assert draws.valid.all()
        for photo, objects in enumerate(([0, 2], [1, 3])):
            rows = np.asarray(draws.choice)[:, objects]
            assert len({tuple(row) for row in rows.tolist()}) == 3
            each = np.asarray(given.probability)[objects, rows]
            np.testing.assert_allclose(draws.probability[:, photo], each.prod(axis=1), rtol=1e-5)
            assert (np.diff(draws.probability[:, photo]) <= 0).all()
        np.testing.assert_array_equal(draws.rgb[..., 0], np.broadcast_to(np.arange(5), (3, 5)))
        np.testing.assert_array_equal(draws.rgb[..., 1], draws.choice)
        np.testing.assert_array_equal(draws.ab[..., 1], draws.choice)

    def test_all_combinations_if_there_are_no_more(self) -> None:
        """And then the most probable again, marked."""
        given = palettes((0.6, 0.4, 0), (0.5, 0.3, 0.2))
        draws = palette.draw_object_colors(jax.random.key(0), given, jnp.zeros(2, jnp.int32), 1, 8)
        np.testing.assert_array_equal(draws.valid[:, 0], [True] * 6 + [False] * 2)
        assert {tuple(row) for row in draws.choice[:6].tolist()} == set(itertools.product(range(2), range(3)))
        np.testing.assert_array_equal(draws.choice[6:], 0)
        assert draws.probability[:6].sum() == pytest.approx(1, rel=1e-5)

    def test_the_same_key_gives_the_same_whatever_follows_in_the_batch(self) -> None:
        rows = [(0.4, 0.3, 0.2, 0.1)] * 4
        alone, more = palettes(*rows), palettes(*rows, *rows)
        owner = jnp.array([0, 0, 0, 0])
        longer = jnp.array([0, 0, 0, 0, 1, 1, -1, -1])
        first = palette.draw_object_colors(jax.random.key(1), alone, owner, 1, 4)
        again = palette.draw_object_colors(jax.random.key(1), more, longer, 2, 4)
        np.testing.assert_array_equal(first.choice, again.choice[:, :4])
        other = palette.draw_object_colors(jax.random.key(2), alone, owner, 1, 4)
        assert (first.choice != other.choice).any()

    def test_the_others_are_drawn_in_proportion_to_their_probability(self) -> None:
        """The second of two results over many keys: p / (1 - p of the most probable)."""
        given = palettes((0.5, 0.3, 0.2), (0.6, 0.4, 0))
        keys = jax.random.split(jax.random.key(0), 4000)
        drawn = jax.vmap(lambda key: palette.draw_object_colors(key, given, jnp.zeros(2, jnp.int32), 1, 2).choice)(keys)
        np.testing.assert_array_equal(drawn[:, 0], 0)
        index = np.asarray(drawn[:, 1, 0] * 2 + drawn[:, 1, 1])
        frequency = np.bincount(index, minlength=6) / 4000
        expected = np.outer([0.5, 0.3, 0.2], [0.6, 0.4]).ravel()
        expected[0] = 0
        np.testing.assert_allclose(frequency, expected / 0.7, atol=0.03)

    def test_a_photo_without_objects_has_one_result(self) -> None:
        draws = palette.draw_object_colors(jax.random.key(0), palettes((0, 0)), jnp.array([-1]), 1, 2)
        np.testing.assert_array_equal(draws.valid[:, 0], [True, False])
        np.testing.assert_array_equal(draws.probability, 1)

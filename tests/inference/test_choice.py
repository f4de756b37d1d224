"""Choice of color through the Colorizer: hints, vivid, palettes, samples."""

import dataclasses
import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor import Colorizer, Hint, color
from jaxcolor.boxes import CropContext, level_boxes
from jaxcolor.color import SaturationCurve
from jaxcolor.hints import HintError, PlacedHints
from jaxcolor.inference.palette import MIDDLE
from jaxcolor.inference.photos import prepare
from jaxcolor.models import networks
from jaxcolor.models.outputs import ab_distribution
from jaxcolor.runtime.compile_options import prediction_options
from jaxcolor.runtime.errors import UserError
from tests.inference.choice import BLUE, CONFIG, GREEN, RED, bumps, gray_photo, trees

PHOTO = gray_photo(64, 64)
LEFT, RIGHT = [4, 16, 28, 48], [36, 16, 60, 48]
BOXES = [LEFT, RIGHT]


@pytest.fixture(scope="module")
def colorizer() -> Colorizer:
    return Colorizer(CONFIG, trees(), upsampling="bilinear")


@pytest.fixture(scope="module")
def safe_only() -> Colorizer:
    """No class head; the full tree alone, which reads hints."""
    config = dataclasses.replace(CONFIG, outputs=("regression",))
    full = jax.tree.map(np.copy, trees()["full"])
    kernel = full["params"]["conv1_1"]["kernel"]
    kernel[:, :, 1:] = np.random.default_rng(0).standard_normal(kernel[:, :, 1:].shape)
    full["batch_stats"].pop("classes")
    return Colorizer(config, {"full": full}, saturation_curve=SaturationCurve((0.0, 10.0), (0.0, 20.0)))


def prepared(given: np.ndarray = PHOTO, boxes: Any = BOXES, **options: Any) -> Any:
    options = {"hints": (), "where": "photo", "side": 32, "boxes_per_photo": 8, "with_crops": True, **options}
    options.setdefault("context", CropContext())
    return prepare(given, boxes, None, **options)


class TestHints:
    def test_a_hint_changes_the_crop_that_it_lies_in(self, colorizer: Colorizer) -> None:
        """The trunk reads no hints here, so only what the instance network makes of its crop can change."""
        plain = colorizer(PHOTO, BOXES).astype(int)
        changed = np.abs(colorizer(PHOTO, BOXES, hints=[Hint(10, 30, "#ff0000")]) - plain).max(axis=-1)
        inside = np.zeros(changed.shape, bool)
        inside[LEFT[1] - 2 : LEFT[3] + 2, LEFT[0] - 2 : LEFT[2] + 2] = True  # a canvas pixel is two of the photo
        assert changed[inside].max() > 3
        assert changed[~inside].max() <= 1
        by_number = np.abs(colorizer(PHOTO, BOXES, hints=[Hint.on_object(1, "#ff0000")]) - plain).max(axis=-1)
        assert by_number[inside].max() <= 1
        assert by_number[~inside].max() > 3

    def test_where_hints_lie_in_the_inputs(self, colorizer: Colorizer) -> None:
        hinted = prepared(hints=[Hint(10, 30, "#ff0000", 1), Hint(50, 20, "#0000ff", 1)])
        batch, given = colorizer._predictor._inputs([hinted, prepared()], [hinted.hints, prepared().hints])
        assert given is not None
        assert given.full.mask.shape == (2, 32, 32, 1)
        assert given.crop.mask.shape == (4, 32, 32, 1)
        assert given.full.mask[0, 15, 5, 0]
        assert given.full.mask[0, 10, 25, 0]
        assert not given.full.mask[1].any()
        a, b = given.crop.ab[0][given.crop.mask[0, ..., 0]], given.crop.ab[1][given.crop.mask[1, ..., 0]]
        assert (a[:, 0] > 0.5).all()  # red in the left crop
        assert (b[:, 1] < -0.5).all()  # blue in the right one
        assert not given.crop.mask[2:].any()
        np.testing.assert_array_equal(batch.crop_to_image, [0, 0, 1, 1])

    def test_it_changes_the_color_at_its_place(self, safe_only: Colorizer) -> None:
        plain, hinted = (safe_only(PHOTO, hints=h).astype(int) for h in (None, [Hint(40, 20, (255, 0, 0), 4)]))
        assert np.abs(hinted - plain)[16:24, 36:44].max() > 10

    def test_no_hint_is_the_same_program(self, colorizer: Colorizer) -> None:
        batch, given = colorizer._predictor._inputs([prepared()], [prepared().hints])
        assert given is None
        nets, variables = networks.build(CONFIG), colorizer._predictor.variables
        fused = jax.jit(lambda v, b: networks.predict(nets, v, b).fused_ab, compiler_options=prediction_options(False))
        expected = fused(variables, batch)
        found = colorizer._predictor.colors([prepared()], [prepared().hints], annealed=False)[0].ab
        np.testing.assert_array_equal(found, expected[0])
        np.testing.assert_array_equal(colorizer(PHOTO, BOXES, hints=[]), colorizer(PHOTO, BOXES))

    def test_hints_for_one_photo_of_many(self, colorizer: Colorizer) -> None:
        hints = [Hint(10, 30, "#ff0000")]
        found = colorizer.many([PHOTO, PHOTO], [BOXES, BOXES], hints=[None, hints])
        for one, of_photo in zip(found, (None, hints), strict=True):
            assert np.abs(one.astype(int) - colorizer(PHOTO, BOXES, hints=of_photo)).max() <= 1

    def test_compiled_once_for_all_hints_and_sizes(
        self, colorizer: Colorizer, caplog: pytest.LogCaptureFixture
    ) -> None:
        colorizer(PHOTO, BOXES, hints=[Hint(10, 30, "#ff0000")])
        with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
            hints = [Hint(3, 3, "#00ff00", 5), Hint.on_object(1, "#0000ff")]
            colorizer(gray_photo(50, 77, seed=3), BOXES, hints=hints)
        assert [r.getMessage() for r in caplog.records if "ompil" in r.getMessage()] == []

    def test_errors_name_the_photo_and_the_hint(self, colorizer: Colorizer) -> None:
        with pytest.raises(HintError, match=r"photo 1: hint 0: x 64 lies outside the photo"):
            colorizer.many([PHOTO, PHOTO], hints=[None, [Hint(64, 0, "#ff0000")]])
        with pytest.raises(HintError, match=r"photo: hint 0: no object 2 in this photo"):
            colorizer(PHOTO, BOXES, hints=[Hint.on_object(2, "#ff0000")])
        with pytest.raises(ValueError, match="2 photos, 2 sets of boxes, 2 of scores, 1 of hints"):
            colorizer.many([PHOTO, PHOTO], hints=[None])


class TestVivid:
    def test_it_goes_from_the_regression_to_the_annealed_mean(self, colorizer: Colorizer) -> None:
        given = prepared()
        found = colorizer._predictor.colors([given], [given.hints], annealed=True)[0]
        assert found.annealed is not None
        rarity = trees()["full"]["batch_stats"]["classes"]["class_weights"]
        logits = jnp.asarray(bumps((0.7, RED), (0.3, BLUE)) + np.log(rarity))
        np.testing.assert_allclose(found.annealed[5, 5], ab_distribution.annealed_mean(logits), atol=1e-5)
        flat = np.full((64, 64, 3), 120, np.uint8)
        safe, half, vivid = (lab_of(colorizer(flat, BOXES, vivid=v)) for v in (0, 0.5, 1))
        np.testing.assert_allclose(half, (safe + vivid) / 2, atol=2)
        np.testing.assert_array_equal(colorizer(flat, BOXES), colorizer(flat, BOXES, vivid=0))

    def test_without_a_class_head_chroma_follows_the_curve(self, safe_only: Colorizer) -> None:
        twice = safe_only(PHOTO, saturation=2)
        assert np.abs(safe_only(PHOTO, vivid=1).astype(int) - twice).max() <= 1
        assert np.abs(safe_only(PHOTO, vivid=0.5).astype(int) - safe_only(PHOTO, saturation=1.5)).max() <= 1

    def test_a_curve_goes_before_the_class_head(self, colorizer: Colorizer) -> None:
        """Of weights that have both, as those of the package."""
        curve = SaturationCurve((0.0, 10.0), (0.0, 20.0))
        both = Colorizer(CONFIG, trees(), upsampling="bilinear", saturation_curve=curve)
        twice = colorizer(PHOTO, saturation=2)
        assert np.abs(both(PHOTO, vivid=1).astype(int) - twice).max() <= 1

    @pytest.mark.parametrize("vivid", [-0.1, 1.1, float("nan")])
    def test_out_of_range(self, colorizer: Colorizer, vivid: float) -> None:
        with pytest.raises(UserError, match=r"vivid .*: must be from 0 \(safe\) to 1"):
            colorizer(PHOTO, vivid=vivid)

    def test_neither_head_nor_curve(self) -> None:
        config = dataclasses.replace(CONFIG, outputs=("regression",))
        with pytest.raises(UserError, match="neither a class head"):
            Colorizer(config, {"full": trees()["full"]}, vivid=0.5)


def lab_of(rgb: np.ndarray) -> np.ndarray:
    return color.rgb_to_lab(color.unit_rgb(rgb))[..., 1:]


class TestPalette:
    def test_the_distribution_of_the_fused_trunk_without_its_rebalancing(self, colorizer: Colorizer) -> None:
        found = colorizer.palette(PHOTO, BOXES, points=[(0, 0), (63.5, 30)])
        assert (len(found.boxes), len(found.points)) == (2, 2)
        lightness = color.lightness(PHOTO)
        for colors in (*found.boxes, *found.points):
            np.testing.assert_allclose(colors.probability, [0.7, 0.3], atol=0.01)
            np.testing.assert_allclose(colors.ab * 110, [RED, BLUE], atol=2)
            assert colors.rgb.dtype == np.uint8
        x0, y0, x1, y1 = LEFT
        inside = lightness[y0:y1, x0:x1]
        down, across = (np.exp(-((((np.arange(n) + 0.5) / n - 0.5) / MIDDLE) ** 2) / 2) for n in inside.shape)
        middle = down[:, None] * across
        mean = color.lightness(found.boxes[0].rgb).mean()
        assert mean == pytest.approx((middle * inside).sum() / middle.sum(), abs=3)

    def test_without_boxes_that_of_the_full_tree(self, colorizer: Colorizer) -> None:
        (colors,) = colorizer.palette(PHOTO, points=[(30, 30)]).points
        np.testing.assert_allclose(colors.probability, [0.9, 0.1], atol=0.01)
        np.testing.assert_allclose(colors.ab[0] * 110, GREEN, atol=2)

    def test_every_box_in_its_place(self) -> None:
        """Those that cannot be used, and those beyond the best that are cut out."""
        one_box = Colorizer(CONFIG, trees(), boxes_per_photo=1)
        with pytest.warns(UserWarning, match="1 of 3 boxes cannot be used"):
            found = one_box.palettes([PHOTO, PHOTO], [[[9, 9, 9, 9], *BOXES], None], points=[[], [(1, 1)]])
        assert [len(colors.rgb) for colors in found[0].boxes] == [0, 2, 2]
        assert [len(p.boxes) for p in found] == [3, 0]
        assert [len(p.points) for p in found] == [0, 1]

    def test_what_is_refused(self, colorizer: Colorizer, safe_only: Colorizer) -> None:
        with pytest.raises(UserError, match=r"point 1 at 64, 3: outside the photo, which is 64 x 64 pixels"):
            colorizer.palette(PHOTO, points=[(0, 0), (64, 3)])
        with pytest.raises(UserError, match="which these weights do not predict"):
            safe_only.palette(PHOTO, BOXES)
        with pytest.raises(UserError, match="which these weights do not predict"):
            safe_only.sample(PHOTO, BOXES)


class TestSamples:
    def hints(self, colorizer: Colorizer, photos: Any, count: int, seed: int = 0) -> list[list[PlacedHints]]:
        return colorizer._predictor.alternatives(photos, count, seed)

    def test_one_color_for_each_object_the_most_probable_first(self, colorizer: Colorizer) -> None:
        """Two objects and the background, two colors each: eight combinations."""
        (found,) = self.hints(colorizer, [prepared()], 8)
        assert len(found) == 8
        choices = []
        for placed in found:
            box = np.array([self.object_of(xy) for xy in placed.xy])
            assert set(box) == {0, 1, 2}
            chosen = []
            for number in range(3):
                ab = placed.ab[box == number] * 110
                assert 1 <= len(ab) <= 5
                np.testing.assert_allclose(ab, np.broadcast_to(ab[0], ab.shape), atol=1e-4)  # coherent
                chosen.append(int(np.abs(ab[0] - BLUE).max() < 3))
                assert chosen[-1] or np.abs(ab[0] - RED).max() < 3
            choices.append(tuple(chosen))
        assert choices[0] == (0, 0, 0)
        assert len(set(choices)) == 8
        assert [sum(c) for c in choices] == sorted(sum(c) for c in choices)  # by descending probability

    def object_of(self, xy: np.ndarray) -> int:
        """0: background; 1, 2: the boxes, on the class head's grid of 8 pixels of the photo."""
        cells = level_boxes(np.array(BOXES), (64, 64), 32)[:, 2] * 8
        for number, (x, y, width, height) in enumerate(cells.tolist(), 1):
            if x <= xy[0] < x + width and y <= xy[1] < y + height:
                return number
        return 0

    def test_the_results_differ_and_repeat(self, colorizer: Colorizer) -> None:
        found = colorizer.sample(PHOTO, BOXES, 4, seed=3)
        assert [one.shape for one in found] == [PHOTO.shape] * 4
        # The networks read hints in crops alone here, so results that differ in the background only are the same.
        assert len({one.tobytes() for one in found}) >= 2
        np.testing.assert_array_equal(found, colorizer.sample(PHOTO, BOXES, 4, seed=3))
        given = prepared()
        ways = [[p.ab.tobytes() for p in self.hints(colorizer, [given], 3, seed)[0]] for seed in range(6)]
        assert all(way[0] == ways[0][0] for way in ways)
        assert len({tuple(way) for way in ways}) > 1

    def test_the_first_is_what_those_hints_give(self, colorizer: Colorizer) -> None:
        given = prepared()
        first = self.hints(colorizer, [given], 2)[0][0]
        (expected,) = colorizer._join([given], [first], 0.0, 1.0)
        np.testing.assert_array_equal(colorizer.sample(PHOTO, BOXES, 2)[0], expected)

    def test_one_call_a_result_for_all_photos(self, colorizer: Colorizer, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []
        for name in ("_colors", "_alternatives"):
            function = getattr(colorizer._predictor, name)

            def counted(*arguments: Any, _name: str = name, _function: Any = function, **options: Any) -> Any:
                calls.append(_name)
                return _function(*arguments, **options)

            monkeypatch.setattr(colorizer._predictor, name, counted)
        found = colorizer.samples([PHOTO, gray_photo(40, 50, seed=2)], [BOXES, [[5, 5, 30, 30]]], 3)
        assert [len(of_photo) for of_photo in found] == [3, 3]
        assert calls == ["_alternatives", "_colors", "_colors", "_colors"]

    def test_no_more_than_there_are(self, colorizer: Colorizer) -> None:
        """Without boxes the background is all there is: green or red."""
        assert [len(s) for s in colorizer.samples([PHOTO, PHOTO], [None, BOXES], 3)] == [2, 3]
        assert colorizer.samples([]) == []

    def test_hints_of_a_person_lie_over_them(self, colorizer: Colorizer) -> None:
        given = prepared(hints=[Hint(10, 30, "#00ff00")])
        for placed in self.hints(colorizer, [given], 3)[0]:
            np.testing.assert_array_equal(placed.xy[-1], [10, 30])
            np.testing.assert_array_equal(placed.ab[-1], given.hints.ab[0])

    @pytest.mark.parametrize(("count", "seed"), [(0, 0), (2, -1), (2, 1 << 32)])
    def test_what_is_refused(self, colorizer: Colorizer, count: int, seed: int) -> None:
        with pytest.raises(UserError, match=f"{count} samples of seed {seed}: at least 1"):
            colorizer.sample(PHOTO, BOXES, count, seed)

import numpy as np
import pytest
from PIL import Image

from jaxcolor.boxes import level_boxes
from jaxcolor.color import rgb_to_lab, unit_rgb
from jaxcolor.config import ScenesConfig
from jaxcolor.data.sources.scenes import CLASSES, OUTLINES, SceneSource
from jaxcolor.data.types import DataError, Source, usable_boxes
from tests.data.plainly import resize

SIDE = 64


def source(seed=0, split="train", side=4 * SIDE, **fields):
    return SceneSource(ScenesConfig(**fields), side, seed, split)


def lightness(rgb):
    return np.asarray(rgb_to_lab(unit_rgb(rgb)))[..., 0]


def spectrum(gray):
    return np.log1p(np.abs(np.fft.rfft2(gray - gray.mean()))).ravel()


@pytest.fixture(scope="module")
def objects():
    """Gray features of every object of 700 scenes, from the canvas and from its crop, with its class."""
    scenes, rows = source(seed=5), {"canvas": [], "crop": [], "mean": [], "contrast": [], "kind": []}
    for index in range(700):
        scene = scenes.scene(index)
        rgb, boxes = scene.photo.rgb, usable_boxes(scene.photo, "all").boxes
        canvas = lightness(resize(rgb, SIDE)).astype(np.float32)
        cells = level_boxes(boxes, scene.photo.size, SIDE, 1)[:, 0].tolist()
        # Canvas pixels that look only at this object: Pillow's filter reads 8 x 8 photo pixels.
        padded = np.pad(scene.object_map, 2, constant_values=-1)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (8, 8))[::4, ::4]
        for number, ((x, y, width, height), (x0, y0, x1, y1)) in enumerate(zip(cells, boxes.tolist(), strict=True)):
            patch = Image.fromarray(canvas[y : y + height, x : x + width]).resize((16, 16), Image.Resampling.BILINEAR)
            patch = np.asarray(patch)
            inside = canvas[(windows == number).all(axis=(2, 3))]
            rows["canvas"].append([*patch.ravel(), *spectrum(patch), patch.mean(), patch.std()])
            rows["crop"].append(spectrum(lightness(resize(rgb[y0:y1, x0:x1], SIDE))))
            rows["mean"].append(inside.mean())
            rows["contrast"].append(inside.std())
            rows["kind"].append(scene.classes[number])
    return {name: np.array(values) for name, values in rows.items()}


def probe_accuracy(features, kinds):
    """Held-out accuracy of a ridge classifier on standardised features; the second half is held out."""
    half = len(kinds) // 2
    features = (features - features[:half].mean(0)) / (features[:half].std(0) + 1e-6)
    features = np.c_[features, np.ones(len(features))]
    train = features[:half]
    gram = train.T @ train + 0.03 * half * np.eye(train.shape[1])
    weights = np.linalg.solve(gram, train.T @ np.eye(len(CLASSES))[kinds[:half]])
    return ((features[half:] @ weights).argmax(1) == kinds[half:]).mean()


class TestWhatGrayTells:
    """700 scenes, about 2,100 objects; half train the probe, so chance is 20% with a standard error of 1.2%."""

    def test_canvas_hides_the_class_and_the_crop_shows_it(self, objects):
        held_out = len(objects["kind"]) - len(objects["kind"]) // 2
        chance = 1 / len(CLASSES)
        bound = chance + 4 * np.sqrt(chance * (1 - chance) / held_out)
        canvas, crop = (probe_accuracy(objects[name], objects["kind"]) for name in ("canvas", "crop"))
        print(f"canvas {canvas:.3f}, crop {crop:.3f}, bound {bound:.3f}, held out {held_out}")
        assert canvas < bound
        assert crop > 0.9

    def test_mean_lightness_does_not_betray_the_class(self, objects):
        groups = [objects["mean"][objects["kind"] == kind] for kind in range(len(CLASSES))]
        means, errors = np.array([[g.mean(), g.std() / np.sqrt(len(g))] for g in groups]).T
        assert (np.abs(means - objects["mean"].mean()) < 4 * errors).all()

    def test_contrast_does_not_betray_the_class(self, objects):
        per_class = np.array([objects["contrast"][objects["kind"] == kind].mean() for kind in range(len(CLASSES))])
        assert per_class.max() < 0.35  # L*, of the pattern's 12: grain only
        assert np.ptp(per_class) < 0.04

    def test_class_fixes_the_hue(self):
        seen = {}
        for index in range(40):
            scene = source().scene(index)
            lab = np.asarray(rgb_to_lab(unit_rgb(scene.photo.rgb)))
            for number, kind in enumerate(scene.classes.tolist()):
                seen.setdefault(kind, []).append(lab[scene.object_map == number][:, 1:].mean(0))
        centers = {kind: np.mean(values, axis=0) for kind, values in seen.items()}
        assert len(centers) == len(CLASSES)
        assert max(np.ptp(values, axis=0).max() for values in seen.values()) < 5
        pairs = [np.linalg.norm(a - b) for i, a in centers.items() for j, b in centers.items() if i < j]
        assert min(pairs) > 30


def two_hues(**fields):
    return source(hues=2, patterns="coarse", min_objects=2, max_objects=2, min_object_side=0.4, **fields)


class TestTwoHues:
    def test_a_fair_coin_for_each_object(self):
        heads = np.array([two_hues(max_object_side=0.45).scene(index).hues for index in range(400)])
        assert heads.shape == (400, 2)
        # Four standard errors of 400 tosses.
        assert (np.abs(heads.mean(axis=0) - 0.5) < 0.1).all()
        assert abs((heads[:, 0] == heads[:, 1]).mean() - 0.5) < 0.1

    def test_class_fixes_two_opposite_hues_of_one_chroma(self):
        seen = {}
        for index in range(60):
            scene = two_hues(max_object_side=0.45).scene(index)
            lab = np.asarray(rgb_to_lab(unit_rgb(scene.photo.rgb)))
            for number, pair in enumerate(zip(scene.classes.tolist(), scene.hues.tolist(), strict=True)):
                seen.setdefault(pair, []).append(np.median(lab[scene.object_map == number][:, 1:], axis=0))
        assert len(seen) == 2 * len(CLASSES)
        centers = {pair: np.mean(values, axis=0) for pair, values in seen.items()}
        assert max(np.ptp(values, axis=0).max() for values in seen.values()) < 1
        for (kind, hue), center in centers.items():
            assert np.linalg.norm(center) == pytest.approx(28, abs=0.5)
            np.testing.assert_allclose(centers[kind, 1 - hue], -center, atol=0.5)
        apart = [np.linalg.norm(a - b) for one, a in centers.items() for other, b in centers.items() if one < other]
        assert min(apart) > 15

    def test_gray_does_not_know_the_coin(self):
        for index in range(10):
            scenes = two_hues(max_object_side=0.45)
            scene = scenes.scene(index)
            twin = scenes.scene(index, hues=(1 - scene.hues).tolist())
            inside = scene.object_map >= 0
            assert (scene.photo.rgb != twin.photo.rgb)[inside].mean() > 0.8
            np.testing.assert_array_equal(scene.photo.rgb[~inside], twin.photo.rgb[~inside])
            photo = lightness(scene.photo.rgb) - lightness(twin.photo.rgb)
            canvas = lightness(resize(scene.photo.rgb, SIDE)) - lightness(resize(twin.photo.rgb, SIDE))
            assert np.abs(photo).max() < 0.45  # steps of 8 bits
            assert np.abs(canvas).max() < 0.8  # single pixels of outlines
            assert np.abs(canvas).mean() < 0.05

    def test_coarse_patterns_show_on_the_canvas(self):
        rows, kinds, coins = [], [], []
        for index in range(300):
            scene = two_hues(max_object_side=0.45).scene(index)
            canvas = lightness(resize(scene.photo.rgb, SIDE))
            for number, (x0, y0, x1, y1) in enumerate(scene.photo.boxes.tolist()):
                x, y = (round((low + high) / 8) - 8 for low, high in ((x0, x1), (y0, y1)))
                rows.append(spectrum(canvas[y : y + 16, x : x + 16]))
                kinds.append(scene.classes[number])
                coins.append(scene.hues[number])
        features = np.array(rows)
        assert probe_accuracy(features, np.array(kinds)) > 0.9
        assert probe_accuracy(features, np.array(coins)) < 0.5 + 4 * 0.5 / np.sqrt(len(kinds) / 2)

    def test_whatever_one_answers_costs_as_much_as_gray(self):
        scenes = two_hues(max_object_side=0.45)
        scene = scenes.scene(0)
        both = [rgb_to_lab(unit_rgb(scenes.scene(0, hues=[hue, hue]).photo.rgb))[..., 1:] for hue in (0, 1)]
        inside = scene.object_map >= 0

        def cost(answer):
            return np.mean([np.square(answer - ab)[inside].sum(axis=-1).mean() for ab in both])

        gray = cost(0 * both[0])
        assert cost(both[0]) == pytest.approx(2 * gray, rel=1e-3)
        for share in (0.3, 0.9):
            assert cost(share * both[0] + (1 - share) * both[1]) > gray

    def test_default_scenes_know_nothing_of_coins(self):
        assert not source().scene(0).hues.any()

    @pytest.mark.parametrize("hues", [[0], [0, 2], [0, 0, 0]])
    def test_hues_that_do_not_fit(self, hues):
        with pytest.raises(ValueError, match="a scene of 2 objects needs as many numbers from 0 to 1"):
            two_hues(max_object_side=0.45).scene(0, hues)


class TestScene:
    def test_is_a_source(self):
        scenes = source()
        assert isinstance(scenes, Source)
        assert scenes.with_boxes() == range(1_000_000)
        assert "1000000 scenes (train, seed 0) of 256 x 256 pixels, 2 to 4 objects" in scenes.describe()

    def test_same_number_same_scene(self):
        first, again = source().scene(123_456), source().scene(123_456)
        np.testing.assert_array_equal(first.photo.rgb, again.photo.rgb)
        np.testing.assert_array_equal(first.photo.boxes, again.photo.boxes)
        assert first.photo.name == "scene_train_0123456"

    def test_seeds_and_splits_share_nothing(self):
        makers = [source(), source(seed=1), source(split="held_out"), source(seed=1, split="held_out")]
        pictures = {maker[index].rgb.tobytes() for maker in makers for index in range(10)}
        assert len(pictures) == 40

    def test_boxes_hold_their_objects(self):
        for index in range(20):
            scene = source().scene(index)
            assert 2 <= len(scene.classes) <= 4
            assert scene.photo.truth_boxes is not None
            np.testing.assert_array_equal(scene.photo.truth_boxes, scene.photo.boxes)
            for number, (x0, y0, x1, y1) in enumerate(scene.photo.boxes.astype(int).tolist()):
                rows, columns = np.nonzero(scene.object_map == number)
                assert x0 < columns.min() <= x0 + 6  # the tip of a triangle can be thinner than a pixel
                assert columns.max() < x1 <= columns.max() + 7
                assert y0 < rows.min()
                assert rows.max() < y1
                assert 44 <= x1 - x0 - 4 <= 79
                assert 44 <= y1 - y0 - 4 <= 79

    def test_outline_is_independent_of_class(self):
        table = np.zeros((len(CLASSES), len(OUTLINES)))
        for index in range(300):
            scene = source(side=64).scene(index)
            np.add.at(table, (scene.classes, scene.outlines), 1)
        expected = table.sum() / table.size
        assert ((table - expected) ** 2 / expected).sum() < 55  # chi-squared, 24 degrees: p = 0.0003

    @pytest.mark.parametrize("count", [4, 9])
    def test_apart_unless_asked(self, count):
        for index in range(30):
            boxes = source(min_objects=count, max_objects=count, max_object_side=0.25)[index].boxes
            assert len(boxes) == count
            low = np.maximum(boxes[:, None, :2], boxes[:, :2])
            high = np.minimum(boxes[:, None, 2:], boxes[:, 2:])
            shared = np.maximum(high - low, 0).prod(-1)
            assert (shared[~np.eye(count, dtype=bool)] == 0).all()

    def test_overlapping(self):
        overlaps = 0
        for index in range(30):
            scene = source(min_objects=5, max_objects=5, overlap=True).scene(index)
            boxes = scene.photo.boxes
            high = np.minimum(boxes[:, None, 2:], boxes[:, 2:])
            shared = np.maximum(high - np.maximum(boxes[:, None, :2], boxes[:, :2]), 0).prod(-1)
            overlaps += int((shared[~np.eye(5, dtype=bool)] > 0).any())
            assert set(np.unique(scene.object_map)) == {-1, 0, 1, 2, 3, 4}
        assert overlaps > 15

    def test_size_of_objects(self):
        boxes = source(min_object_side=0.4, max_object_side=0.45, max_objects=2)[0].boxes
        sides = boxes[:, 2:] - boxes[:, :2] - 4
        assert sides.min() >= 102
        assert sides.max() <= 115

    @pytest.mark.parametrize("index", [-1, 5])
    def test_past_the_end(self, index):
        with pytest.raises(IndexError, match="of 5"):
            source(length=5)[index]

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"length": 0}, "scenes.length"),
            ({"min_objects": 0}, "min_objects 0"),
            ({"min_objects": 5}, "min_objects 5 and max_objects 4"),
            ({"min_object_side": 0.5}, "min_object_side 0.5"),
            ({"max_object_side": 1.5}, "max_object_side 1.5"),
            ({"max_objects": 30}, "30 objects of at least 44 pixels may not fit side by side"),
            ({"min_object_side": 1.0, "max_object_side": 1.0, "overlap": True}, "do not fit into a photo of side 256"),
            ({"seed": -1}, "data.seed: -1"),
            ({"split": "test"}, "'test' is none of train, held_out"),
        ],
    )
    def test_settings_that_cannot_be(self, fields, message):
        with pytest.raises(DataError, match=message):
            source(**fields)

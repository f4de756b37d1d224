"""The second pass: the pictures that were measured, of the photos that were asked for."""

import dataclasses
import io
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from jaxcolor.config import Config, DataConfig, EvalConfig, FusionConfig
from jaxcolor.data.loader import eval_batches
from jaxcolor.data.types import DataError, Photo
from jaxcolor.evaluation import run
from jaxcolor.evaluation.predictors import CONTROLS, SYSTEMS, Checkpoint
from jaxcolor.evaluation.report.failures import KINDS
from jaxcolor.evaluation.report.gallery import Pictured, choose, gallery
from jaxcolor.evaluation.results import Results
from jaxcolor.runtime.errors import UserError
from tests import small
from tests.evaluation.batches import MODEL, SIDE, photo

TAPS = ("conv2_2", "conv7_3", "conv10_up")
SHORT = dataclasses.replace(MODEL, fusion=FusionConfig(layers=TAPS))
CONFIG = Config(
    model=SHORT,
    eval=EvalConfig(
        # Two of each photo's boxes at random, and too little room for them: both must come out as they did before.
        data=DataConfig(
            box_choice="random_k", boxes_per_photo=2, max_crops_per_image=1.0, bad_photos="skip", threads=1
        ),
        batch_size=4,
        metrics="",
    ),
)


STUDIED = [Checkpoint("", SHORT, small.variables(SHORT))]


class MadeUp:
    """Photos in memory with 0 to 4 boxes; odd ones are annotated, number 2 cannot be read."""

    def __init__(self, count: int = 11, renamed: Sequence[int] = ()) -> None:
        self.count = count
        self.renamed = renamed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Photo:
        if index == 2:
            raise DataError("photo 2 is broken")
        image = Image.fromarray(photo(np.random.default_rng(index), 2 * SIDE))
        if index == 7:
            image = image.crop((0, 0, 64, 48))
        number = index % 5
        first = 5 * np.arange(number, dtype=np.float32)
        boxes = np.stack([first, first, first + 30, first + 40], axis=1)
        scores = (0.9 - first / 50).astype(np.float32)
        annotated = np.array([[8, 4, 40, 60]], np.float32) if index % 2 else None
        return Photo(f"other{index}" if index in self.renamed else f"photo{index}", image, boxes, scores, annotated)

    def picture(self, index: int, least_side: int | None = None) -> Photo:
        return self[index]

    def crop_count(self, index: int) -> int:
        return index % 5

    def with_boxes(self) -> tuple[int, ...]:
        return tuple(i for i in range(self.count) if i % 5)

    def describe(self) -> str:
        return "made-up photos"


def measured(config: Config = CONFIG) -> Results:
    with redirect_stderr(io.StringIO()):
        return run.compare(config, STUDIED, source=MadeUp())


@pytest.fixture(scope="module")
def results() -> Results:
    return measured()


def show(results: Results, rows: Sequence[int], config: Config = CONFIG, **arguments: Any) -> list[Pictured]:
    source = arguments.pop("source", MadeUp())
    checkpoints = arguments.pop("checkpoints", STUDIED)
    with redirect_stderr(io.StringIO()):
        return list(gallery(config, checkpoints, source=source, results=results, rows=rows, **arguments))


def check_pictures(results: Results, row: int, shown: Pictured) -> None:
    """Each panel has the PSNR that was measured."""
    width, height = shown.extent
    for system, scores in results.scores.items():
        if np.isnan(scores["psnr"][row]):
            assert system not in shown.panels
            continue
        truth, rgb = (shown.panels[name][:height, :width] for name in ("truth", system))
        assert peak_signal_noise_ratio(truth, rgb, data_range=255) == pytest.approx(scores["psnr"][row], abs=0.02)


def test_pictures_are_those_that_were_measured(results: Results) -> None:
    rows = [0, 3, 8, 9]
    assert results.skipped_photos == 1
    found = show(results, rows)
    assert [p.name for p in found] == [results.names[row] for row in rows] == ["photo0", "photo4", "photo9", "photo10"]
    for row, shown in zip(rows, found, strict=True):
        assert set(shown.panels) <= {*SYSTEMS, *CONTROLS, "truth"}
        assert list(shown.panels)[:3] == list(SYSTEMS)
        check_pictures(results, row, shown)
        assert len(shown.boxes) == results.boxes[row]
        source = MadeUp()[int(shown.name[5:])]
        # Boxes are given in photo pixels, here twice the canvas; each has kept its own score.
        expected = {(int(x0 / 2), int(y0 / 2)): s for (x0, y0, *_), s in zip(source.boxes, source.scores, strict=True)}
        assert [expected[x, y] for x, y in shown.boxes[:, :2].tolist()] == pytest.approx(shown.scores.tolist())
        assert shown.extent == (SIDE, SIDE)
        assert shown.annotated is not None
    assert found[2].annotated.tolist() == [[4, 2, 16, 28]]
    assert found[0].annotated.shape == (0, 4)


def test_photos_at_their_own_size_lie_in_the_corner_of_their_panels() -> None:
    config = dataclasses.replace(CONFIG, eval=dataclasses.replace(CONFIG.eval, size="native", native_side=SIDE))
    results = measured(config)
    (shown,) = show(results, [6], config, source=MadeUp(), controls=False)
    assert shown.name == "photo7"
    # 64 x 48 pixels, reduced to 32 x 24.
    assert shown.extent == (SIDE, 24)
    check = dataclasses.replace(results, scores={s: results.scores[s] for s in SYSTEMS})
    check_pictures(check, 6, shown)
    assert shown.annotated is not None
    assert shown.annotated.tolist() == [[4, 2, 16, 22]]
    assert (shown.boxes[:, 1] + shown.boxes[:, 3] <= 24).all()


def test_weight_maps_sum_to_one_and_lie_in_boxes(results: Results) -> None:
    none, some = show(results, [0, 3])
    assert none.weights == {}
    assert len(some.boxes)
    assert tuple(some.weights) == TAPS
    for (tap, maps), grid in zip(some.weights.items(), (SIDE // 2, SIDE // 8, SIDE), strict=True):
        assert maps.full.shape == (grid, grid), tap
        assert maps.instance.shape == (len(some.boxes), grid, grid)
        np.testing.assert_allclose(maps.full + maps.instance.sum(axis=0), 1, atol=1e-5)
    covered = np.zeros((SIDE, SIDE), bool)
    for x, y, width, height in some.boxes.tolist():
        covered[y : y + height, x : x + width] = True
    np.testing.assert_array_equal(some.weights["conv10_up"].instance.sum(axis=0) > 0, covered)


def test_weights_without_fusion_have_no_maps(results: Results) -> None:
    only_full = Checkpoint("", SHORT, {"full": small.variables(SHORT)["full"]})
    (shown,) = show(results, [3], checkpoints=[only_full])
    assert list(shown.panels) == ["gray", "full", "truth"]
    assert shown.weights == {}
    assert len(shown.boxes)


def test_the_failure_finder_sees_every_photo(results: Results) -> None:
    assert set(results.facets) == {"covered", *KINDS}
    boxes = results.boxes
    assert ((results.facets["covered"] > 0) == (boxes > 0)).all()
    assert (np.isnan(results.facets["overlapping"]) == (boxes < 2)).all()
    assert (np.isnan(results.facets["bleeding"]) == (boxes < 1)).all()
    annotated = np.array([int(name[5:]) % 2 == 1 for name in results.names])
    assert (results.facets["missed"][~annotated] == 0).all()
    # Photo 5 has no box at all: all that is annotated in it is missed.
    assert results.facets["missed"][results.names.index("photo5")] == 16 * 28 / SIDE**2
    for name, shown in zip(results.names, show(results, range(len(results.names))), strict=True):
        covered = np.zeros((SIDE, SIDE), bool)
        for x, y, width, height in shown.boxes.tolist():
            covered[y : y + height, x : x + width] = True
        assert results.facets["covered"][results.names.index(name)] == pytest.approx(covered.mean())


def test_photos_that_changed_since_are_an_error(results: Results) -> None:
    with pytest.raises(UserError, match="photo photo4: measured, but not found again"):
        show(results, [3], source=MadeUp(renamed=[4]))
    assert show(results, []) == []


def test_batches_read_alone_are_those_of_the_whole_pass() -> None:
    def read(**arguments: Any) -> list[Any]:
        with (
            redirect_stderr(io.StringIO()),
            eval_batches(MadeUp(), CONFIG.eval.data, side=SIDE, batch_size=2, **arguments) as batches,
        ):
            return list(batches)

    whole = read()
    for number, alone in zip((1, 5, 3), read(only=[1, 5, 3]), strict=True):
        assert alone.names == whole[number].names
        for part, expected in zip(alone.batch[:6], whole[number].batch[:6], strict=True):
            np.testing.assert_array_equal(part, expected)


def made(psnr: dict[str, Sequence[float]], **facets: np.ndarray) -> Results:
    photos = len(next(iter(psnr.values())))
    scores = {s: {m: np.array(v, float) for m in ("psnr", "ssim")} for s, v in psnr.items()}
    return Results(tuple(map(str, range(photos))), np.ones(photos, int), scores, 0, 0, {}, (), facets=facets)


def test_chosen_photos_are_the_extremes_of_every_kind() -> None:
    photos = np.arange(1000.0)
    fused, full = 20 + photos / 100, 20 + photos / 100
    full[300], full[301] = 0, 90
    score = np.zeros(1000)
    score[[600, 601]] = 5, np.nan
    results = made({"gray": np.zeros(1000), "full": full, "fused": fused}, bleeding=score)
    chosen = choose(results, 8)
    # Best, worst, helped, hurt, the one failure; the rest from the whole set.
    assert {999, 0, 300, 301, 600} <= set(chosen)
    assert len(chosen) == 8
    assert 601 not in chosen
    assert {0} <= set(choose(results, 1, metric="ssim", higher_is_better=False))
    assert choose(results, 2000) == tuple(range(1000))
    assert choose(results, 0) == ()
    sample = [row for row in choose(results, 60) if 10 < row < 990]
    assert len(sample) > 20
    assert np.diff(sample).max() < 300


def test_photos_without_a_score_are_neither_best_nor_worst() -> None:
    results = made({"full": [np.nan, 20.0, np.inf, 10.0, np.nan]})
    assert choose(results, 2) == (2, 3)
